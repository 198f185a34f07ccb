//! Models, built of operators.

pub mod conv_rnn;
pub mod recurrent;
pub mod sequence;
pub mod tcn;
pub mod wavenet;

pub use conv_rnn::{ConvRnn, ConvRnnConfig, ConvRnnProgram, Layer};
pub use recurrent::{Biases, RecurrentConfig, RecurrentNet, RecurrentOptions, RecurrentOutputs};
pub use sequence::{Body, Objective, SequenceConfig, SequenceInput, SequenceModel, SequenceProgram};
pub use tcn::{Norm, Tcn, TcnActivation, TcnConfig, TcnInit};
pub use wavenet::{WaveNet, WaveNetConfig, WaveNetInput, WaveNetProgram};
