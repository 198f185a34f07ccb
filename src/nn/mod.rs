//! Models, built of operators.

pub mod recurrent;
pub mod wavenet;

pub use recurrent::{Biases, RecurrentConfig, RecurrentNet, RecurrentOptions, RecurrentOutputs};
pub use wavenet::{WaveNet, WaveNetConfig, WaveNetInput, WaveNetProgram};
