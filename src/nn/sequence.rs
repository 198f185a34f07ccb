//! Models of sequences: a temporal convolutional network or recurrent layers, and a linear output of the last position or of
//! every one. The experiments of Bai, Kolter and Koltun (2018) are of this kind.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Extent, Graph, Init, Precision, Program, Shape, TensorId};
use crate::nn::{RecurrentConfig, RecurrentNet, RecurrentOptions, Tcn, TcnConfig};
use crate::ops::{self, Activation, Cell, Geometry, Reduction};
use crate::optim::{self, OptimizerConfig};

/// What a model reads at each position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceInput {
    /// Numbers.
    Values {
        /// How many.
        channels: usize,
    },
    /// A class, as a row of a table.
    Classes {
        /// Classes.
        classes: usize,
        /// Channels of a row.
        embedding: usize,
        /// Probability of 0 in what is looked up, in [0, 1).
        dropout: f32,
    },
}

/// What goes over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Dilated convolutions.
    Tcn(TcnConfig),
    /// Recurrent layers.
    Recurrent(RecurrentConfig),
}

/// What is told, and the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Numbers of the whole sequence; their mean squared error.
    LastValues,
    /// A class of the whole sequence; cross-entropy in nats.
    LastClass,
    /// Numbers from 0 to 1 at every position, each by itself; the binary cross-entropy of a position in nats.
    Frames,
    /// A class at every position; the mean cross-entropy in nats over those that count.
    Classes,
}

/// A model of sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceConfig {
    /// What it reads.
    pub input: SequenceInput,
    /// What goes over time.
    pub body: Body,
    /// Numbers or classes that it tells.
    pub outputs: usize,
    /// What is told of them.
    pub objective: Objective,
    /// The standard deviation of the output's normal starting weights; nothing for uniform ones in ±1/√channels, as PyTorch's.
    pub output_std: Option<f32>,
}

/// A model of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceModel {
    config: SequenceConfig,
    precision: Precision,
}

/// A program with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct SequenceProgram {
    /// The program. Its metrics in training: the loss, the gradient's norm, and in [`Precision::F16`] the loss scale and the
    /// steps left out so far; in evaluation the loss.
    pub program: Arc<Program>,
    /// Numbers `[batch, time, channels]`, or ids `[batch, time]`.
    pub input: TensorId,
    /// Numbers `[batch, 1, outputs]`, or ids `[batch, 1]` or `[batch, time]`.
    pub target: TensorId,
    /// `[batch, 1 or time, outputs]`.
    pub output: TensorId,
}

impl SequenceModel {
    /// A model of this configuration.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is out of its range, or the body reads other channels than the input has.
    pub fn new(config: SequenceConfig) -> Result<Self> {
        let channels = match config.input {
            SequenceInput::Values { channels } => channels,
            SequenceInput::Classes { embedding, .. } => embedding,
        };
        if channels == 0 || config.outputs == 0 {
            return Err(Error::Config("inputs and outputs must be at least 1".into()));
        }
        if let Body::Tcn(tcn) = &config.body
            && tcn.inputs != channels
        {
            return Err(Error::Config(format!("a network of {} inputs can't read {channels} channels", tcn.inputs)));
        }
        let model = Self { config, precision: Precision::default() };
        model.parameter_count()?;
        Ok(model)
    }

    /// The same, whose programs are stored in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// In which precision its programs are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The configuration.
    pub fn config(&self) -> &SequenceConfig {
        &self.config
    }

    /// Trainable numbers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn parameter_count(&self) -> Result<usize> {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 })?;
        self.append(&mut graph, false)?;
        Ok(graph.params().count())
    }

    /// A step of training.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn training(&self, extent: Extent, optimizer: &OptimizerConfig) -> Result<SequenceProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let (input, output) = self.append(&mut graph, true)?;
        let (target, loss) = self.loss(&mut graph, output)?;
        let gradients = graph.backward(loss)?;
        let updates = optim::append(&mut graph, &gradients, optimizer)?;
        let metrics: Vec<TensorId> =
            [loss, updates.grad_norm].into_iter().chain(gradients.scale).chain(updates.skipped).collect();
        Ok(SequenceProgram { program: Arc::new(graph.finish(&[], &metrics)?), input, target, output })
    }

    /// The loss and the outputs, without dropout.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn evaluation(&self, extent: Extent) -> Result<SequenceProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let (input, output) = self.append(&mut graph, false)?;
        let (target, loss) = self.loss(&mut graph, output)?;
        Ok(SequenceProgram { program: Arc::new(graph.finish(&[output], &[loss])?), input, target, output })
    }

    fn loss(&self, graph: &mut Graph, output: TensorId) -> Result<(TensorId, TensorId)> {
        let (target, loss) = match self.config.objective {
            Objective::LastValues => {
                let target = graph.input_fixed("target", 1, self.config.outputs)?;
                (target, ops::mse(graph, output, target, Reduction::Mean)?)
            }
            Objective::LastClass => {
                let target = graph.input_ids_fixed("target", 1)?;
                (target, ops::softmax_cross_entropy(graph, output, target)?.loss)
            }
            Objective::Frames => {
                let target = graph.input("target", 0, self.config.outputs)?;
                (target, ops::binary_cross_entropy(graph, output, target, Reduction::MeanOfPositions)?)
            }
            Objective::Classes => {
                let target = graph.input_ids("target", 0)?;
                (target, ops::softmax_cross_entropy(graph, output, target)?.loss)
            }
        };
        graph.set_name(loss, "loss");
        Ok((target, loss))
    }

    /// Appends everything but the loss; gives input and output.
    fn append(&self, graph: &mut Graph, training: bool) -> Result<(TensorId, TensorId)> {
        let config = &self.config;
        let (input, x) = match config.input {
            SequenceInput::Values { channels } => {
                let input = graph.input("input", 0, channels)?;
                (input, input)
            }
            SequenceInput::Classes { classes, embedding, dropout } => {
                let input = graph.input_ids("input", 0)?;
                let shape = Shape::new(1, classes, embedding);
                let table = graph.param("encoder.weight", shape, Init::Normal { std: 0.01 }, true)?;
                let x = ops::embedding(graph, input, table, None, Geometry::pointwise())?;
                (input, if training { ops::dropout(graph, x, dropout)? } else { x })
            }
        };
        let last = matches!(config.objective, Objective::LastValues | Objective::LastClass);
        let h = match &config.body {
            Body::Tcn(tcn) => {
                let tcn = Tcn::new(tcn.clone())?;
                match last {
                    true => tcn.append_last(graph, "tcn.", x, training)?,
                    false => tcn.append(graph, "tcn.", x, training)?,
                }
            }
            Body::Recurrent(recurrent) => {
                let net = RecurrentNet::new(recurrent.clone())?;
                let options = RecurrentOptions { training, ..RecurrentOptions::default() };
                let outputs = net.append(graph, "rnn.", x, &options)?;
                match last {
                    true => last_state(graph, recurrent, &outputs.last)?,
                    false => outputs.sequence,
                }
            }
        };
        let channels = graph.shape(h).channels;
        let uniform = Init::Uniform { bound: 1.0 / (channels as f32).sqrt() };
        let init = config.output_std.map_or(uniform, |std| Init::Normal { std });
        let weight = graph.param("linear.weight", Shape::new(1, channels, config.outputs), init, true)?;
        let bias = graph.param("linear.bias", Shape::vector(config.outputs), uniform, false)?;
        let output = ops::conv1d(graph, h, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?;
        graph.set_name(output, "output");
        Ok((input, output))
    }
}

/// The hidden state that the last layer ends with, of both directions side by side.
fn last_state(graph: &mut Graph, config: &RecurrentConfig, last: &[TensorId]) -> Result<TensorId> {
    let hidden = |graph: &mut Graph, &state: &TensorId| match config.cell {
        Cell::Lstm { .. } => ops::slice(graph, state, 0, config.hidden),
        _ => Ok(state),
    };
    let of_layer = &last[last.len() - config.directions()..];
    let parts: Vec<TensorId> = of_layer.iter().map(|state| hidden(graph, state)).collect::<Result<_>>()?;
    match parts[..] {
        [part] => Ok(part),
        _ => ops::concat(graph, &parts),
    }
}
