//! Recurrent layers one on top of the other: GRU, LSTM and Elman's network, as PyTorch's `torch.nn.GRU`, `LSTM` and `RNN` or as
//! Keras has them.

mod config;
mod state_dict;

pub use config::{Biases, RecurrentConfig};

pub(super) use state_dict::{entries, is_theirs};

use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Shape, TensorId};
use crate::nn::Carried;
use crate::ops::{self, Activation, Cell, Geometry, RecurrentInputs};

/// Recurrent layers of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct RecurrentNet {
    config: RecurrentConfig,
}

/// What the layers may be given besides their input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecurrentOptions {
    /// The states before the first step, `[batch, 1, states]` each: of the first layer, then of the next; of a bidirectional
    /// layer that of the forward direction first. Empty for zeros.
    pub initial: Vec<TensorId>,
    /// How many positions each sequence has, ids `[batch, 1]`.
    pub lengths: Option<TensorId>,
    /// Whether dropout is at work.
    pub training: bool,
}

/// What the layers give.
#[derive(Debug, Clone, PartialEq)]
pub struct RecurrentOutputs {
    /// The last layer's hidden states, `[batch, time, directions · hidden]`; zero beyond the end of a sequence.
    pub sequence: TensorId,
    /// The states after the last step, in the order of [`RecurrentOptions::initial`], as they are given there: a call that is
    /// given them goes on where this one ended.
    pub last: Vec<TensorId>,
}

impl RecurrentNet {
    /// Layers of this configuration.
    ///
    /// # Errors
    /// As [`RecurrentConfig::validate`].
    pub fn new(config: RecurrentConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &RecurrentConfig {
        &self.config
    }

    /// Appends the layers to a graph, with parameters named `{prefix}weight_ih_l0` and so on, PyTorch's names. `x` is
    /// `[batch, time, input]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or what is given in `options` does not fit; [`Error::Config`] if there are states, but not as
    /// many as layers and directions; [`Error::Graph`] if the names are taken.
    pub fn append(
        &self,
        graph: &mut Graph,
        prefix: &str,
        x: TensorId,
        options: &RecurrentOptions,
    ) -> Result<RecurrentOutputs> {
        let config = &self.config;
        let directions = config.directions();
        let walks = config.layers * directions;
        if !options.initial.is_empty() && options.initial.len() != walks {
            return Err(Error::Config(format!(
                "{} initial states for {} layers in {directions} directions: give {walks} or none",
                options.initial.len(),
                config.layers
            )));
        }
        let mut sequence = x;
        let mut last = Vec::with_capacity(walks);
        for layer in 0..config.layers {
            if layer > 0 && options.training {
                sequence = ops::dropout(graph, sequence, config.dropout)?;
            }
            let inputs = graph.shape(sequence).channels;
            let mut outputs = Vec::with_capacity(directions);
            for direction in 0..directions {
                let suffix = if direction == 1 { "_reverse" } else { "" };
                let name = |part: &str| format!("{prefix}{part}_l{layer}{suffix}");
                let initial = options.initial.get(layer * directions + direction).copied();
                let states = self.walk(graph, &name, sequence, inputs, initial, direction == 1, options)?;
                last.push(ops::final_state(graph, states, initial, options.lengths, direction == 1)?);
                outputs.push(match config.cell {
                    Cell::Lstm { .. } => ops::slice(graph, states, 0, config.hidden)?,
                    _ => states,
                });
            }
            sequence = match outputs[..] {
                [output] => output,
                _ => ops::concat(graph, &outputs)?,
            };
        }
        Ok(RecurrentOutputs { sequence, last })
    }

    /// As [`append`](Self::append), but its states go on from each step to the next: a long sequence in blocks, trained by
    /// truncated back-propagation through time or run as its input comes. Initial states are zero; `lengths` are ids `[batch, 1]`.
    ///
    /// # Errors
    /// [`Error::Config`] for a bidirectional network, whose other direction comes from the future; as [`append`](Self::append).
    pub fn append_carried(
        &self,
        graph: &mut Graph,
        prefix: &str,
        x: TensorId,
        lengths: Option<TensorId>,
        training: bool,
    ) -> Result<Carried> {
        let config = &self.config;
        if config.bidirectional {
            return Err(Error::Config(
                "a bidirectional network can't go on: its other direction starts at the end".into(),
            ));
        }
        let channels = config.cell.states(config.hidden);
        let state = |layer| graph.input_fixed(&format!("{prefix}state_l{layer}"), 1, channels);
        let states = (0..config.layers).map(state).collect::<Result<Vec<_>>>()?;
        let options = RecurrentOptions { initial: states.clone(), lengths, training };
        let RecurrentOutputs { sequence, last } = self.append(graph, prefix, x, &options)?;
        states.iter().zip(last).try_for_each(|(&state, last)| graph.carry(state, last))?;
        Ok(Carried { sequence, states })
    }

    /// Appends the hidden states that the last layer ends with, of both directions side by side: of the `last` of
    /// [`append`](Self::append) it makes `[batch, 1, directions · hidden]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are no states of such layers.
    pub fn last_hidden(&self, graph: &mut Graph, last: &[TensorId]) -> Result<TensorId> {
        let of_layer = &last[last.len().saturating_sub(self.config.directions())..];
        let hidden = |graph: &mut Graph, &state: &TensorId| match self.config.cell {
            Cell::Lstm { .. } => ops::slice(graph, state, 0, self.config.hidden),
            _ => Ok(state),
        };
        let parts: Vec<TensorId> = of_layer.iter().map(|state| hidden(graph, state)).collect::<Result<_>>()?;
        match parts[..] {
            [part] => Ok(part),
            _ => ops::concat(graph, &parts),
        }
    }

    /// One layer in one direction.
    #[allow(clippy::too_many_arguments)]
    fn walk(
        &self,
        graph: &mut Graph,
        name: &dyn Fn(&str) -> String,
        x: TensorId,
        inputs: usize,
        initial: Option<TensorId>,
        reverse: bool,
        options: &RecurrentOptions,
    ) -> Result<TensorId> {
        let config = &self.config;
        let (hidden, width) = (config.hidden, config.cell.gates() * config.hidden);
        let weight = graph.param(&name("weight_ih"), Shape::new(1, inputs, width), config.init(inputs), true)?;
        let recurrent = graph.param(&name("weight_hh"), Shape::new(1, hidden, width), config.init(hidden), true)?;
        let bias = |graph: &mut Graph, part: &str, there: bool| {
            let init = config.bias_init(part == "bias_ih");
            there.then(|| graph.param(&name(part), Shape::vector(width), init, false)).transpose()
        };
        let bias_ih = bias(graph, "bias_ih", config.biases != Biases::None)?;
        let bias_hh = bias(graph, "bias_hh", config.biases == Biases::Double)?;
        let given = ops::conv1d(graph, x, weight, bias_ih, Geometry::pointwise(), Activation::Identity)?;
        let mask = match options.training && config.recurrent_dropout > 0.0 {
            true => Some(ops::dropout_mask(graph, x, hidden, config.recurrent_dropout)?),
            false => None,
        };
        let inputs = RecurrentInputs { bias: bias_hh, initial, mask, lengths: options.lengths, reverse };
        ops::recurrent(graph, config.cell, given, recurrent, inputs)
    }
}

impl RecurrentConfig {
    /// As PyTorch starts all weights and biases, uniform in ±1/√hidden; with a single bias as Keras does, weights of the input by
    /// Glorot and biases zero, but the recurrent weights by Glorot too in place of an orthogonal matrix.
    fn init(&self, inputs: usize) -> Init {
        match self.biases {
            Biases::Single => Init::xavier(inputs, self.hidden),
            _ => Init::Uniform { bound: 1.0 / (self.hidden as f32).sqrt() },
        }
    }

    fn bias_init(&self, of_inputs: bool) -> Init {
        let bound = match self.biases {
            Biases::Single => 0.0,
            _ => 1.0 / (self.hidden as f32).sqrt(),
        };
        match self.forget_bias {
            Some(bias) => {
                let value = if of_inputs { bias } else { 0.0 };
                Init::UniformBut { bound, from: self.hidden, to: 2 * self.hidden, value }
            }
            None => Init::Uniform { bound },
        }
    }
}
