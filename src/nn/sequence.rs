//! Models of sequences: a temporal convolutional network or recurrent layers, and a linear output of the last position or of
//! every one. The experiments of Bai, Kolter and Koltun (2018) are of this kind.

mod state_dict;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Extent, Graph, Init, Precision, Program, Shape, TensorId};
use crate::nn::word_table::read_by_rows;
use crate::nn::{Carried, RecurrentConfig, RecurrentNet, RecurrentOptions, Tcn, TcnConfig, TcnOptions};
use crate::ops::{self, Activation, Geometry, Reduction};
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
        /// Half the width of the table's uniform starting values; nothing for normal ones of deviation 0.01.
        #[serde(default)]
        uniform: Option<f32>,
        /// Whether the output's weights are the table (Press and Wolf 2017): the classes that are told are those that are read, and
        /// the body ends with as many channels as a row has. Logits are then never there as a whole.
        #[serde(default)]
        tied: bool,
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
    context: usize,
    lengths: bool,
}

/// A program with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct SequenceProgram {
    /// The program. Its metrics in training: the loss, the gradient's norm, and in [`Precision::F16`] the loss scale and the
    /// steps left out so far; in evaluation the loss.
    pub program: Arc<Program>,
    /// Numbers `[batch, time, channels]`, or ids `[batch, time]`.
    pub input: TensorId,
    /// Numbers `[batch, 1, outputs]`, or ids `[batch, 1]` or `[batch, time − context]`.
    pub target: TensorId,
    /// `[batch, 1 or time − context, outputs]`; nothing where the output's weights are the embedding's table.
    pub output: Option<TensorId>,
    /// How many positions each sequence has, ids `[batch, 1]`, where the model says so.
    pub lengths: Option<TensorId>,
}

/// How the body's result becomes outputs.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// They are there.
    Outputs(TensorId),
    /// By the table of the embedding, and a bias, within the loss.
    Tied { h: TensorId, table: TensorId, bias: TensorId },
}

/// What a program reads, and what becomes its outputs.
#[derive(Debug, Clone, Copy)]
struct Appended {
    input: TensorId,
    lengths: Option<TensorId>,
    head: Head,
}

/// A program whose steps go on where the one before ended, with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct StreamProgram {
    /// The program.
    pub program: Arc<Program>,
    /// Numbers `[streams, time, channels]`, or ids `[streams, time]`: the next positions of each stream.
    pub input: TensorId,
    /// `[streams, time, outputs]`: what the model tells at each of them.
    pub output: TensorId,
    /// What is carried from step to step; zero at the start of a stream.
    pub states: Vec<TensorId>,
}

/// The embedding's table.
const TABLE: &str = "encoder.weight";

impl SequenceModel {
    /// A model of this configuration.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is out of its range, the body reads other channels than the input has, or weights are tied
    /// that don't fit.
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
        if let SequenceInput::Classes { classes, embedding, tied: true, .. } = config.input {
            let width = match &config.body {
                Body::Tcn(tcn) => tcn.channels.last().copied().unwrap_or_default(),
                Body::Recurrent(recurrent) => recurrent.hidden * recurrent.directions(),
            };
            if !matches!(config.objective, Objective::LastClass | Objective::Classes) || config.outputs != classes {
                return Err(Error::Config(format!(
                    "tied weights tell the {classes} classes that are read, not {} outputs",
                    config.outputs
                )));
            }
            if width != embedding {
                return Err(Error::Config(format!(
                    "tied weights need a body that ends with the {embedding} channels of the embedding, not {width}"
                )));
            }
        }
        let model = Self { config, precision: Precision::default(), context: 0, lengths: false };
        model.parameter_count()?;
        Ok(model)
    }

    /// The same, whose programs are stored in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same; in its programs nothing is told at the first positions of each sequence, which only serve those after, where the
    /// objective is [`Objective::Classes`].
    #[must_use]
    pub fn with_context(self, context: usize) -> Self {
        Self { context, ..self }
    }

    /// The same, whose programs have an input with the lengths of the sequences: what lies beyond an end has no influence, the
    /// last position is that of each sequence. Ids of targets must be masked there.
    #[must_use]
    pub fn with_lengths(self) -> Self {
        Self { lengths: true, ..self }
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
        self.clone().with_context(0).append(&mut graph, false)?;
        Ok(graph.params().count())
    }

    /// A step of training.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn training(&self, extent: Extent, optimizer: &OptimizerConfig) -> Result<SequenceProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let Appended { input, lengths, head } = self.append(&mut graph, true)?;
        let (target, loss) = self.loss(&mut graph, head, lengths)?;
        // A frame weighs the same whatever the length of its sequence, as in the reference code.
        let of_step = match (self.config.objective, head) {
            (Objective::Frames, Head::Outputs(output)) => frames(&mut graph, output, target, lengths, Reduction::Sum)?,
            _ => loss,
        };
        if let SequenceInput::Classes { tied: false, .. } = self.config.input {
            read_by_rows(&mut graph, TABLE, &optimizer.method)?;
        }
        let gradients = graph.backward(of_step)?;
        let updates = optim::append(&mut graph, &gradients, optimizer)?;
        let metrics: Vec<TensorId> =
            [loss, updates.grad_norm].into_iter().chain(gradients.scale).chain(updates.skipped).collect();
        let program = Arc::new(graph.finish(&[], &metrics)?);
        Ok(SequenceProgram { program, input, target, output: head.output(), lengths })
    }

    /// The loss and the outputs, without dropout.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn evaluation(&self, extent: Extent) -> Result<SequenceProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let Appended { input, lengths, head } = self.append(&mut graph, false)?;
        let (target, loss) = self.loss(&mut graph, head, lengths)?;
        let output = head.output();
        let program = Arc::new(graph.finish(output.as_slice(), &[loss])?);
        Ok(SequenceProgram { program, input, target, output, lengths })
    }

    /// The outputs at every position of streams that are fed in blocks of any size up to the extent's time, one block a step:
    /// together the blocks give what the whole sequence gives, with memory for the block and the receptive field alone.
    ///
    /// # Errors
    /// [`Error::Config`] if the model sees its future (a network that is not causal, a bidirectional one) or its output's weights are
    /// the embedding's table, whose outputs are never there as a whole; what appending operators gives.
    pub fn streaming(&self, extent: Extent) -> Result<StreamProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let (input, x, table) = self.read(&mut graph, false)?;
        let Carried { sequence, states } = match &self.config.body {
            Body::Tcn(tcn) => Tcn::new(tcn.clone())?.append_carried(&mut graph, "tcn.", x)?,
            Body::Recurrent(recurrent) => {
                RecurrentNet::new(recurrent.clone())?.append_carried(&mut graph, "rnn.", x, None, false)?
            }
        };
        let Head::Outputs(output) = self.tell(&mut graph, sequence, table)? else {
            return Err(Error::Config("a model of tied weights has no outputs of its own to stream".into()));
        };
        let program = Arc::new(graph.finish(&[output], &[])?);
        Ok(StreamProgram { program, input, output, states })
    }

    fn loss(&self, graph: &mut Graph, head: Head, lengths: Option<TensorId>) -> Result<(TensorId, TensorId)> {
        let target = match self.config.objective {
            Objective::LastValues => graph.input_fixed("target", 1, self.config.outputs)?,
            Objective::LastClass => graph.input_ids_fixed("target", 1)?,
            Objective::Frames => graph.input("target", 0, self.config.outputs)?,
            Objective::Classes => graph.input_ids("target", -(self.context as isize))?,
        };
        let loss = match (head, self.config.objective) {
            (Head::Tied { h, table, bias }, _) => ops::linear_cross_entropy(graph, h, table, Some(bias), target)?.loss,
            (Head::Outputs(output), Objective::LastValues) => ops::mse(graph, output, target, Reduction::Mean)?,
            (Head::Outputs(output), Objective::Frames) => {
                frames(graph, output, target, lengths, Reduction::MeanOfPositions)?
            }
            (Head::Outputs(output), Objective::LastClass | Objective::Classes) => {
                ops::softmax_cross_entropy(graph, output, target)?.loss
            }
        };
        graph.set_name(loss, "loss");
        Ok((target, loss))
    }

    /// Appends everything but the loss.
    fn append(&self, graph: &mut Graph, training: bool) -> Result<Appended> {
        let config = &self.config;
        let lengths = self.lengths.then(|| graph.input_ids_fixed("lengths", 1)).transpose()?;
        let (input, x, table) = self.read(graph, training)?;
        let last = matches!(config.objective, Objective::LastValues | Objective::LastClass);
        let h = match &config.body {
            Body::Tcn(tcn) => {
                let tcn = Tcn::new(tcn.clone())?;
                let options = TcnOptions { training, lengths };
                match last {
                    true => tcn.append_last(graph, "tcn.", x, &options)?,
                    false => tcn.append(graph, "tcn.", x, &options)?,
                }
            }
            Body::Recurrent(recurrent) => {
                let net = RecurrentNet::new(recurrent.clone())?;
                let options = RecurrentOptions { training, lengths, ..RecurrentOptions::default() };
                let outputs = net.append(graph, "rnn.", x, &options)?;
                match last {
                    true => net.last_hidden(graph, &outputs.last)?,
                    false => outputs.sequence,
                }
            }
        };
        let h = match config.objective {
            Objective::Classes if self.context > 0 => ops::crop(graph, h, self.context)?,
            _ => h,
        };
        Ok(Appended { input, lengths, head: self.tell(graph, h, table)? })
    }

    /// The input, what the body is given of it, and the table that is the output's too.
    fn read(&self, graph: &mut Graph, training: bool) -> Result<(TensorId, TensorId, Option<TensorId>)> {
        match self.config.input {
            SequenceInput::Values { channels } => {
                let input = graph.input("input", 0, channels)?;
                Ok((input, input, None))
            }
            SequenceInput::Classes { classes, embedding, dropout, uniform, tied } => {
                let input = graph.input_ids("input", 0)?;
                let shape = Shape::new(1, classes, embedding);
                let init = uniform.map_or(Init::Normal { std: 0.01 }, |bound| Init::Uniform { bound });
                let table = graph.param(TABLE, shape, init, true)?;
                let x = ops::embedding(graph, input, table, None, Geometry::pointwise())?;
                let x = if training { ops::dropout(graph, x, dropout)? } else { x };
                Ok((input, x, tied.then_some(table)))
            }
        }
    }

    /// What becomes outputs of what the body made.
    fn tell(&self, graph: &mut Graph, h: TensorId, table: Option<TensorId>) -> Result<Head> {
        let config = &self.config;
        if let Some(table) = table {
            let bias = graph.param("linear.bias", Shape::vector(config.outputs), Init::Zeros, false)?;
            return Ok(Head::Tied { h, table, bias });
        }
        let channels = graph.shape(h).channels;
        let uniform = Init::Uniform { bound: 1.0 / (channels as f32).sqrt() };
        let init = config.output_std.map_or(uniform, |std| Init::Normal { std });
        let weight = graph.param("linear.weight", Shape::new(1, channels, config.outputs), init, true)?;
        let bias = graph.param("linear.bias", Shape::vector(config.outputs), uniform, false)?;
        let output = ops::conv1d(graph, h, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?;
        graph.set_name(output, "output");
        Ok(Head::Outputs(output))
    }
}

/// The binary cross-entropy of frames, of those within the lengths where there are some.
fn frames(
    graph: &mut Graph,
    output: TensorId,
    target: TensorId,
    lengths: Option<TensorId>,
    reduction: Reduction,
) -> Result<TensorId> {
    match lengths {
        Some(lengths) => ops::binary_cross_entropy_with_lengths(graph, output, target, lengths, reduction),
        None => ops::binary_cross_entropy(graph, output, target, reduction),
    }
}

impl Head {
    fn output(self) -> Option<TensorId> {
        match self {
            Self::Outputs(output) => Some(output),
            Self::Tied { .. } => None,
        }
    }
}
