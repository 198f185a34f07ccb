//! Models, built of operators.

mod carried;
pub mod conv_rnn;
pub mod recurrent;
pub mod sequence;
mod state_dict;
pub mod tcn;
pub mod text_cnn;
pub mod wavenet;
mod word_table;

pub use carried::Carried;
pub use conv_rnn::{ConvRnn, ConvRnnConfig, ConvRnnProgram, Layer};
pub use recurrent::{Biases, RecurrentConfig, RecurrentNet, RecurrentOptions, RecurrentOutputs};
pub use sequence::{Body, Objective, SequenceConfig, SequenceInput, SequenceModel, SequenceProgram, StreamProgram};
pub use tcn::{Norm, Tcn, TcnActivation, TcnConfig, TcnInit, TcnOptions};
pub use text_cnn::{Channels, TextCnn, TextCnnConfig, TextCnnInit, TextCnnProgram, TextCnnTensors};
pub use wavenet::{WaveNet, WaveNetConfig, WaveNetInput, WaveNetProgram};
