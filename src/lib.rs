#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! - [`Device`]: where to run. [`device`]: capabilities, kernels, buffers.
//! - [`graph`]: tensors, operators, automatic differentiation, programs. [`ops`]: the operators.
//! - [`exec`]: runs programs, on a GPU or on the CPU.
//! - [`nn`]: models. [`optim`]: optimizers and schedules. [`train`]: trainer, checkpoints, model files.
//! - [`generate`]: autoregressive generation. [`stream`]: models that run as their input comes.
//! - [`data`]: audio and tables to batches; independent of everything else but [`random`].

mod autodiff;
pub mod data;
pub mod device;
mod error;
pub mod exec;
pub mod generate;
pub mod graph;
mod hash;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod random;
pub mod stream;
pub mod train;

pub use autodiff::Gradients;
pub use device::Device;
pub use error::{Error, Result};
pub use stream::Stream;
pub use wgpu;
