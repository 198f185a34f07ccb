//! Models, built of operators.

pub mod wavenet;

pub use wavenet::{WaveNet, WaveNetConfig, WaveNetInput, WaveNetProgram};
