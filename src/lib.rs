//! Convolutional sequence models on any GPU: training and generation with hand-written WGSL on wgpu.

pub mod data;
pub mod device;
mod error;
pub mod exec;
pub mod generate;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod random;
pub mod train;

pub use device::Device;
pub use error::{Error, Result};
pub use wgpu;
