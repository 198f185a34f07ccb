//! Stacks of convolutions, pooling, recurrent and dense layers that make a vector of a sequence: forecasting and
//! classification, such as the hybrids in which a convolution shortens what a recurrent layer reads.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Extent, Graph, Init, Precision, Program, Shape, TensorId};
use crate::nn::{Biases, RecurrentConfig, RecurrentNet, RecurrentOptions, Tcn, TcnConfig, TcnOptions};
use crate::ops::pool::Window;
use crate::ops::{self, Activation, Cell, Geometry, Reduction};
use crate::optim::{self, OptimizerConfig};

/// A layer of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A convolution without padding and a rectifier.
    Conv {
        /// Channels that it gives.
        channels: usize,
        /// Taps.
        kernel: usize,
    },
    /// The maximum of every `size` positions.
    MaxPool {
        /// Positions.
        size: usize,
    },
    /// The maximum over time.
    GlobalMaxPool,
    /// Recurrent layers; as the last layer over time they give their last state.
    Recurrent(RecurrentConfig),
    /// A temporal convolutional network; as the last layer over time it gives its last position.
    Tcn(TcnConfig),
    /// Dropout in training.
    Dropout {
        /// The probability of 0, in [0, 1).
        p: f32,
    },
    /// Dropout of whole channels in training, the same at all positions: what Keras' recurrent layers do with their input.
    SpatialDropout {
        /// The probability of 0, in [0, 1).
        p: f32,
    },
    /// A dense layer over all positions and channels, and a rectifier.
    Flatten {
        /// Units.
        units: usize,
    },
}

/// A stack of layers with a linear output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvRnnConfig {
    /// Channels of the input.
    pub inputs: usize,
    /// Positions of the input.
    pub time: usize,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// Numbers that it gives for each sequence.
    pub outputs: usize,
    /// Nothing for a model of values as they are; else it reads each window relative to the window's last position and gives the
    /// change of this input since then, which levels that drift do not disturb (NLinear: Zeng et al. 2023).
    #[serde(default)]
    pub relative_to: Option<usize>,
}

impl ConvRnnConfig {
    /// The hybrid of Chollet's weather example (Deep Learning with Python, 2018, 6.4): convolution of 32 channels and 5 taps,
    /// maximum of 3, another such convolution, GRU of 32 units with Keras' equations of then, dropout of 0.1 on its input and
    /// recurrent dropout of 0.5, one mask for all steps and gates. With 14 inputs it has 13,697 parameters.
    pub fn chollet(inputs: usize, time: usize) -> Self {
        let gru = RecurrentConfig {
            biases: Biases::Single,
            recurrent_dropout: 0.5,
            ..RecurrentConfig::new(Cell::Gru { reset_after: false, hard: true }, 32)
        };
        let mut config = Self::hybrid(inputs, time, gru);
        config.layers.insert(3, Layer::SpatialDropout { p: 0.1 });
        config
    }

    /// Convolution of 32 channels and 5 taps, maximum of 3, another such convolution, and recurrent layers.
    pub fn hybrid(inputs: usize, time: usize, recurrent: RecurrentConfig) -> Self {
        let conv = Layer::Conv { channels: 32, kernel: 5 };
        let layers = vec![conv.clone(), Layer::MaxPool { size: 3 }, conv, Layer::Recurrent(recurrent)];
        Self { inputs, time, layers, outputs: 1, relative_to: None }
    }

    /// Convolutions alone: three of 32 channels and 5 taps, with a maximum of 3 between them and one over time at the end.
    pub fn convolutions(inputs: usize, time: usize) -> Self {
        let (conv, pool) = (Layer::Conv { channels: 32, kernel: 5 }, Layer::MaxPool { size: 3 });
        let layers = vec![conv.clone(), pool.clone(), conv.clone(), pool, conv, Layer::GlobalMaxPool];
        Self { inputs, time, layers, outputs: 1, relative_to: None }
    }

    /// Recurrent layers alone.
    pub fn recurrent(inputs: usize, time: usize, recurrent: RecurrentConfig) -> Self {
        Self { inputs, time, layers: vec![Layer::Recurrent(recurrent)], outputs: 1, relative_to: None }
    }

    /// The same, relative to the last position of input `column`.
    #[must_use]
    pub fn relative_to(self, column: usize) -> Self {
        Self { relative_to: Some(column), ..self }
    }

    /// Makes windows `[windows, time, inputs]` what the model reads, and gives the values that its outputs are changes of.
    pub fn prepare(&self, windows: &mut [f32]) -> Vec<f32> {
        let mut levels = Vec::new();
        for window in windows.chunks_exact_mut((self.time * self.inputs).max(1)) {
            let Some(column) = self.relative_to else {
                levels.push(0.0);
                continue;
            };
            let last = window[window.len() - self.inputs..].to_vec();
            levels.push(last.get(column).copied().unwrap_or_default());
            for position in window.chunks_exact_mut(self.inputs) {
                position.iter_mut().zip(&last).for_each(|(value, last)| *value -= last);
            }
        }
        levels
    }

    /// A dense layer of 32 units over everything.
    pub fn dense(inputs: usize, time: usize) -> Self {
        Self { inputs, time, layers: vec![Layer::Flatten { units: 32 }], outputs: 1, relative_to: None }
    }

    /// A temporal convolutional network of 32 channels and 3 taps, with as many levels as it takes to see all of the input.
    pub fn tcn(inputs: usize, time: usize) -> Self {
        let levels = |levels: usize| TcnConfig::new(inputs, &vec![32; levels], 3);
        let sees_all = |config: &TcnConfig| config.receptive_field() >= time;
        let tcn = (1..30).map(levels).find(sees_all).unwrap_or_else(|| levels(30));
        Self { inputs, time, layers: vec![Layer::Tcn(tcn)], outputs: 1, relative_to: None }
    }
}

/// A stack of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvRnn {
    config: ConvRnnConfig,
    precision: Precision,
}

/// A program with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct ConvRnnProgram {
    /// The program. Its metrics in training: the loss, the gradient's norm, and in [`Precision::F16`] the loss scale and the
    /// steps left out so far.
    pub program: Arc<Program>,
    /// `[batch, time, inputs]`.
    pub input: TensorId,
    /// `[batch, 1, outputs]`, in training.
    pub target: Option<TensorId>,
    /// `[batch, 1, outputs]`.
    pub output: TensorId,
}

impl ConvRnn {
    /// A stack of this configuration.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Shape`] if a number is 0 or out of its range, or a layer gets a sequence too short for it.
    pub fn new(config: ConvRnnConfig) -> Result<Self> {
        if config.inputs == 0 || config.outputs == 0 {
            return Err(Error::Config("inputs and outputs must be at least 1".into()));
        }
        if let Some(column) = config.relative_to.filter(|&column| column >= config.inputs) {
            return Err(Error::Config(format!("relative_to is input {column} of {}, counted from 0", config.inputs)));
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
    pub fn config(&self) -> &ConvRnnConfig {
        &self.config
    }

    /// Trainable numbers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn parameter_count(&self) -> Result<usize> {
        Ok(self.with_output(1, false)?.0.params().count())
    }

    /// A step of training with the mean absolute error as loss.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn training(&self, batch: usize, optimizer: &OptimizerConfig) -> Result<ConvRnnProgram> {
        let (mut graph, input, output) = self.with_output(batch, true)?;
        let target = graph.input_fixed("target", 1, self.config.outputs)?;
        let loss = ops::mae(&mut graph, output, target, Reduction::Mean)?;
        graph.set_name(loss, "loss");
        let gradients = graph.backward(loss)?;
        let updates = optim::append(&mut graph, &gradients, optimizer)?;
        let metrics: Vec<TensorId> =
            [loss, updates.grad_norm].into_iter().chain(gradients.scale).chain(updates.skipped).collect();
        let program = Arc::new(graph.finish(&[], &metrics)?);
        Ok(ConvRnnProgram { program, input, target: Some(target), output })
    }

    /// The outputs alone, without dropout.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn prediction(&self, batch: usize) -> Result<ConvRnnProgram> {
        let (graph, input, output) = self.with_output(batch, false)?;
        let program = Arc::new(graph.finish(&[output], &[])?);
        Ok(ConvRnnProgram { program, input, target: None, output })
    }

    fn with_output(&self, batch: usize, training: bool) -> Result<(Graph, TensorId, TensorId)> {
        let mut graph = Graph::new(Extent { batch, time: self.config.time })?.with_precision(self.precision);
        let input = graph.input("input", 0, self.config.inputs)?;
        let output = self.append(&mut graph, input, training)?;
        Ok((graph, input, output))
    }

    /// Appends the stack to a graph: of `x` `[batch, time, inputs]` it makes `[batch, 1, outputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a layer gets a sequence too short for it, [`Error::Config`] as [`RecurrentNet::new`] and [`Tcn::new`].
    pub fn append(&self, graph: &mut Graph, x: TensorId, training: bool) -> Result<TensorId> {
        let mut h = x;
        for (index, layer) in self.config.layers.iter().enumerate() {
            let prefix = format!("layers.{index}.");
            let is_last = index + 1 == self.config.layers.len();
            h = match layer {
                Layer::Conv { channels, kernel } => {
                    convolution(graph, &prefix, h, *channels, Geometry::valid(*kernel, 1))?
                }
                Layer::MaxPool { size } => ops::max_pool(graph, h, Window::new(*size), None)?,
                Layer::GlobalMaxPool => ops::global_max_pool(graph, h, None)?.values,
                Layer::Dropout { p } if training => ops::dropout(graph, h, *p)?,
                Layer::SpatialDropout { p } if training => ops::spatial_dropout(graph, h, *p)?,
                Layer::Dropout { .. } | Layer::SpatialDropout { .. } => h,
                Layer::Flatten { units } => {
                    let geometry = Geometry::valid(graph.shape(h).time, 1);
                    convolution(graph, &prefix, h, *units, geometry)?
                }
                Layer::Recurrent(config) => {
                    let options = RecurrentOptions { training, ..RecurrentOptions::default() };
                    let net = RecurrentNet::new(config.clone())?;
                    let outputs = net.append(graph, &prefix, h, &options)?;
                    match is_last {
                        // A reversed walk ends at the first position.
                        true => net.last_hidden(graph, &outputs.last)?,
                        false => outputs.sequence,
                    }
                }
                Layer::Tcn(config) => {
                    let tcn = Tcn::new(config.clone())?;
                    let options = TcnOptions { training, lengths: None };
                    match is_last {
                        true => tcn.append_last(graph, &prefix, h, &options)?,
                        false => tcn.append(graph, &prefix, h, &options)?,
                    }
                }
            };
        }
        // What still has time is read at its end.
        if graph.shape(h).time > 1 {
            h = ops::final_state(graph, h, None, None, false)?;
        }
        let inputs = graph.shape(h).channels;
        // A model of changes starts with none, which is the naive forecast.
        let init = match self.config.relative_to {
            Some(_) => Init::Zeros,
            None => Init::xavier(inputs, self.config.outputs),
        };
        let weight = graph.param("output.weight", Shape::new(1, inputs, self.config.outputs), init, true)?;
        let bias = graph.param("output.bias", Shape::vector(self.config.outputs), Init::Zeros, false)?;
        let output = ops::conv1d(graph, h, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?;
        graph.set_name(output, "output");
        Ok(output)
    }
}

/// A convolution with a rectifier.
fn convolution(graph: &mut Graph, prefix: &str, x: TensorId, channels: usize, geometry: Geometry) -> Result<TensorId> {
    let inputs = graph.shape(x).channels;
    let shape = Shape::new(geometry.kernel, inputs, channels);
    let weight = graph.param(&format!("{prefix}weight"), shape, Init::he(geometry.kernel * inputs), true)?;
    let bias = graph.param(&format!("{prefix}bias"), Shape::vector(channels), Init::Zeros, false)?;
    ops::conv1d(graph, x, weight, Some(bias), geometry, Activation::Relu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRU: Cell = Cell::Gru { reset_after: true, hard: false };

    #[test]
    fn published_sizes() {
        let count = |config| ConvRnn::new(config).unwrap().parameter_count().unwrap();
        assert_eq!(count(ConvRnnConfig::chollet(14, 240)), 13_697);
        assert_eq!(count(ConvRnnConfig::hybrid(14, 240, RecurrentConfig::new(GRU, 32))), 13_793);
        assert_eq!(count(ConvRnnConfig::recurrent(14, 240, RecurrentConfig::new(GRU, 32))), 4_641);
        // Weights with their lengths, biases, one downsampling.
        let levels = (3 * 7 + 11 * 3 * 32) * 32 + 12 * (32 + 32) + (7 + 1) * 32;
        assert_eq!(count(ConvRnnConfig::tcn(7, 240)), levels + 33);
        // Flatten, Dense(32), Dense(1).
        assert_eq!(count(ConvRnnConfig::dense(14, 240)), 240 * 14 * 32 + 32 + 33);
    }

    #[test]
    fn what_is_too_short_is_told() {
        let error = ConvRnn::new(ConvRnnConfig::convolutions(3, 20)).unwrap_err().to_string();
        assert!(error.contains("conv1d") || error.contains("pool"), "{error}");
    }

    #[test]
    fn relative_windows_end_at_zero() {
        let mut windows = [1.0, 10.0, 4.0, 30.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(ConvRnnConfig::dense(2, 2).prepare(&mut windows.clone()), [0.0, 0.0]);
        assert_eq!(ConvRnnConfig::dense(2, 2).relative_to(1).prepare(&mut windows), [30.0, 8.0]);
        assert_eq!(windows, [-3.0, -20.0, 0.0, 0.0, -2.0, -2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_tcn_sees_all_of_its_input() {
        let config = ConvRnnConfig::tcn(1, 240);
        let Layer::Tcn(tcn) = &config.layers[0] else { panic!() };
        assert_eq!((tcn.channels.len(), tcn.receptive_field()), (6, 253));
    }
}
