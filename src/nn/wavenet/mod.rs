//! WaveNet (van den Oord et al. 2016, arXiv 1609.03499): an autoregressive model of raw audio.
//!
//! Skip connections are not summed layer by layer: the layers' gated outputs lie side by side, and one 1×1 convolution over
//! all of them is the sum. It reads and writes far fewer bytes. Where side by side they would be more than a WebGPU device
//! need bind at once, they lie in a few groups, and each group's convolution adds the sum of the groups before it.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use config::{WaveNetConfig, WaveNetInput};

use crate::error::{Error, Result};
use crate::graph::{Extent, Graph, Init, Precision, Program, Shape, TensorId};
use crate::ops::wavenet_layer::LayerWeights;
use crate::ops::{self, Activation, Geometry};
use crate::optim::{self, OptimizerConfig};

/// Bytes of gated outputs that lie side by side, at most: the largest storage binding that every WebGPU device has
/// (`maxStorageBufferBindingSize`, 128 MiB). The same on devices that bind more, so that a model of one size is one
/// program everywhere.
const MAX_GROUP_BYTES: usize = 128 << 20;

/// A WaveNet of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveNet {
    config: WaveNetConfig,
    precision: Precision,
}

/// A program with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct WaveNetProgram {
    /// The program. Its metrics, where it has a loss: the loss in nats a sample; in training the gradient's norm too; and
    /// in training with [`Precision::F16`] the loss scale and the steps left out so far.
    pub program: Arc<Program>,
    /// `[batch, time]` ids, or `[batch, time, 1]` samples for scalar input.
    pub input: TensorId,
    /// `[batch, time − receptive field + 1]` ids of the samples to predict, where there is a loss.
    pub target: Option<TensorId>,
    /// `[batch, time, classes]`, where there is no loss.
    pub logits: Option<TensorId>,
}

struct Weights {
    input: TensorId,
    input_bias: Option<TensorId>,
    layers: Vec<LayerWeights>,
    skip: TensorId,
    skip_bias: Option<TensorId>,
    head: [(TensorId, Option<TensorId>); 2],
}

impl WaveNet {
    /// A network of this configuration.
    ///
    /// # Errors
    /// As [`WaveNetConfig::validate`].
    pub fn new(config: WaveNetConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, precision: Precision::default() })
    }

    /// The same network, whose programs are stored in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// In which precision its programs are stored. Parameters are `f32` in any.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The configuration.
    pub fn config(&self) -> &WaveNetConfig {
        &self.config
    }

    /// Samples that an output sees.
    pub fn receptive_field(&self) -> usize {
        self.config.receptive_field()
    }

    /// Trainable numbers.
    ///
    /// # Errors
    /// None that a valid configuration can cause.
    pub fn parameter_count(&self) -> Result<usize> {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 })?;
        self.declare(&mut graph)?;
        Ok(graph.params().count())
    }

    /// One training step: forward, loss over the samples whose whole receptive field lies in the input, backward, update.
    ///
    /// # Errors
    /// [`Error::Config`] if `extent.time` is not longer than the receptive field less one.
    pub fn training(&self, extent: Extent, optimizer: &OptimizerConfig) -> Result<WaveNetProgram> {
        let (mut graph, input, target, loss) = self.with_loss(extent)?;
        let gradients = graph.backward(loss)?;
        let updates = optim::append(&mut graph, &gradients, optimizer)?;
        let metrics: Vec<TensorId> =
            [loss, updates.grad_norm].into_iter().chain(gradients.scale).chain(updates.skipped).collect();
        let program = Arc::new(graph.finish(&[], &metrics)?);
        Ok(WaveNetProgram { program, input, target: Some(target), logits: None })
    }

    /// The loss alone, over the same samples as in training.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    pub fn evaluation(&self, extent: Extent) -> Result<WaveNetProgram> {
        let (graph, input, target, loss) = self.with_loss(extent)?;
        let program = Arc::new(graph.finish(&[], &[loss])?);
        Ok(WaveNetProgram { program, input, target: Some(target), logits: None })
    }

    /// The logits of every position; before the input lie zeros.
    ///
    /// # Errors
    /// [`Error::Graph`] if the extent is empty.
    pub fn logits(&self, extent: Extent) -> Result<WaveNetProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let (input, logits) = self.append(&mut graph, 0)?;
        let program = Arc::new(graph.finish(&[logits], &[])?);
        Ok(WaveNetProgram { program, input, target: None, logits: Some(logits) })
    }

    fn with_loss(&self, extent: Extent) -> Result<(Graph, TensorId, TensorId, TensorId)> {
        let crop = self.receptive_field() - 1;
        if extent.time <= crop {
            return Err(Error::Config(format!(
                "a chunk of {} samples leaves nothing to predict: the receptive field is {}",
                extent.time,
                self.receptive_field()
            )));
        }
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let (input, logits) = self.append(&mut graph, crop)?;
        let target = graph.input_ids("target", -(crop as isize))?;
        let loss = ops::softmax_cross_entropy(&mut graph, logits, target)?.loss;
        graph.set_name(loss, "loss");
        Ok((graph, input, target, loss))
    }

    /// Appends the network to a graph; gives its input and the logits from position `crop` on.
    ///
    /// # Errors
    /// [`Error::Shape`] if nothing is left of the time.
    pub fn append(&self, graph: &mut Graph, crop: usize) -> Result<(TensorId, TensorId)> {
        self.append_grouped(graph, crop, MAX_GROUP_BYTES)
    }

    /// As [`append`](Self::append), with groups of layers of at most `group_bytes`, or of one layer where that is more.
    fn append_grouped(&self, graph: &mut Graph, crop: usize, group_bytes: usize) -> Result<(TensorId, TensorId)> {
        let config = &self.config;
        let weights = self.declare(graph)?;
        let first = Geometry::causal(config.input_kernel, 1);
        let (input, mut h) = match config.input {
            WaveNetInput::Classes => {
                let input = graph.input_ids("input", 0)?;
                (input, ops::embedding(graph, input, weights.input, weights.input_bias, first)?)
            }
            WaveNetInput::Scalar => {
                let input = graph.input("input", 0, 1)?;
                let (weight, bias) = (weights.input, weights.input_bias);
                (input, ops::conv1d(graph, input, weight, bias, first, Activation::Identity)?)
            }
        };
        let groups = self.groups(graph.extent(), group_bytes / graph.precision().bytes());
        let group_weights = match groups.len() {
            1 => vec![weights.skip],
            _ => ops::split(graph, weights.skip, &groups)?,
        };
        let cropped = Geometry::pointwise().cropped(crop);
        let mut gated = Vec::with_capacity(groups[0]);
        let mut skip = None;
        let mut group = 0;
        let last = config.dilations.len() - 1;
        for (layer, (layer_weights, &dilation)) in weights.layers.iter().zip(&config.dilations).enumerate() {
            // Nothing reads the residual of the last layer.
            let layer_weights = match layer == last {
                true => LayerWeights { residual: None, residual_bias: None, ..*layer_weights },
                false => *layer_weights,
            };
            let (z, next) = ops::wavenet_layer(graph, h, &layer_weights, None, config.kernel, dilation)?;
            graph.set_name(z, format!("layers.{layer}.gated"));
            gated.push(z);
            h = next.unwrap_or(h);
            if gated.len() < groups[group] {
                continue;
            }
            // The sum of a group is made as soon as its layers are, so that backward the gradients of one group at a
            // time take memory. The last one finishes the sum.
            let (bias, activation) = match layer == last {
                true => (weights.skip_bias, Activation::Relu),
                false => (None, Activation::Identity),
            };
            let side_by_side = ops::concat(graph, &std::mem::take(&mut gated))?;
            let bias = bias.map(|bias| ops::sum_time(graph, bias)).transpose()?;
            let weight = group_weights[group];
            skip = Some(match skip {
                Some(sum) => ops::conv1d_add(graph, side_by_side, weight, bias, sum, cropped, activation)?,
                None => ops::conv1d(graph, side_by_side, weight, bias, cropped, activation)?,
            });
            group += 1;
        }
        let skip = skip.ok_or_else(|| Error::Graph("a WaveNet needs at least one layer".into()))?;
        graph.set_name(skip, "skip");
        let [(weight, bias), (last_weight, last_bias)] = weights.head;
        let hidden = ops::conv1d(graph, skip, weight, bias, Geometry::pointwise(), Activation::Relu)?;
        let logits = ops::conv1d(graph, hidden, last_weight, last_bias, Geometry::pointwise(), Activation::Identity)?;
        graph.set_name(logits, "logits");
        Ok((input, logits))
    }

    /// The numbers of layers whose gated outputs lie side by side, as even as can be.
    fn groups(&self, extent: Extent, group_elements: usize) -> Vec<usize> {
        let depth = self.config.dilations.len();
        // The planner pads the channels of a group to a multiple of 4.
        let channels = group_elements / extent.batch.saturating_mul(extent.time) / 4 * 4;
        let largest = (channels / self.config.gate).max(1);
        let count = depth.div_ceil(largest);
        (0..count).map(|group| (group + 1) * depth / count - group * depth / count).collect()
    }

    /// Declares the parameters. Biases start at 0; weights by what they feed:
    ///
    /// - the first convolution: normal with variance 1 / taps, so that its output has variance 1 (each tap of a one-hot
    ///   input picks one row); of a scalar input, Xavier;
    /// - gates, residuals, skips and logits: Xavier, the skips with the fan-in of all layers, since their sum is one
    ///   product;
    /// - the head's convolutions behind a ReLU, but for the logits: He.
    fn declare(&self, graph: &mut Graph) -> Result<Weights> {
        let config = &self.config;
        let (residual, gate, skip, head) = (config.residual, config.gate, config.skip, config.head);
        let bias = |graph: &mut Graph, name: String, channels: usize, present: bool| {
            present.then(|| graph.param(&name, Shape::vector(channels), Init::Zeros, false)).transpose()
        };
        let (input_channels, input_init) = match config.input {
            WaveNetInput::Classes => (config.classes, Init::Normal { std: 1.0 / (config.input_kernel as f32).sqrt() }),
            WaveNetInput::Scalar => (1, Init::xavier(config.input_kernel, residual)),
        };
        let shape = Shape::new(config.input_kernel, input_channels, residual);
        let input = graph.param("input.weight", shape, input_init, true)?;
        let input_bias = bias(graph, "input.bias".into(), residual, config.input_bias)?;

        let mut layers = Vec::with_capacity(config.dilations.len());
        for layer in 0..config.dilations.len() {
            let name = |part: &str| format!("layers.{layer}.{part}");
            let dilated = graph.param(
                &name("dilated.weight"),
                Shape::new(config.kernel, residual, 2 * gate),
                Init::xavier(config.kernel * residual, config.kernel * gate),
                true,
            )?;
            let dilated_bias = bias(graph, name("dilated.bias"), 2 * gate, config.biases)?;
            let has_residual = layer + 1 < config.dilations.len() || config.residual_in_last_layer;
            let residual_weight = has_residual
                .then(|| {
                    let shape = Shape::new(1, gate, residual);
                    graph.param(&name("residual.weight"), shape, Init::xavier(gate, residual), true)
                })
                .transpose()?;
            let residual_bias = bias(graph, name("residual.bias"), residual, config.biases && has_residual)?;
            layers.push(LayerWeights { dilated, dilated_bias, residual: residual_weight, residual_bias });
        }

        let depth = config.dilations.len();
        let skip_weight =
            graph.param("skip.weight", Shape::new(depth, gate, skip), Init::xavier(depth * gate, skip), true)?;
        let skip_bias = config
            .biases
            .then(|| graph.param("skip.bias", Shape::new(1, depth, skip), Init::Zeros, false))
            .transpose()?;
        let hidden = graph.param("head.0.weight", Shape::new(1, skip, head), Init::he(skip), true)?;
        let hidden_bias = bias(graph, "head.0.bias".into(), head, config.biases)?;
        let logits = graph.param(
            "head.1.weight",
            Shape::new(1, head, config.classes),
            Init::xavier(head, config.classes),
            true,
        )?;
        let logits_bias = bias(graph, "head.1.bias".into(), config.classes, config.biases)?;
        Ok(Weights {
            input,
            input_bias,
            layers,
            skip: skip_weight,
            skip_bias,
            head: [(hidden, hidden_bias), (logits, logits_bias)],
        })
    }
}
