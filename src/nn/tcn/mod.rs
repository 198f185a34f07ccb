//! Temporal convolutional networks (Bai, Kolter and Koltun 2018, arXiv:1803.01271).

mod config;

pub use config::{Norm, TcnActivation, TcnConfig, TcnInit};

use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Shape, TensorId};
use crate::ops::{self, Activation, Geometry};

/// Levels of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Tcn {
    config: TcnConfig,
}

/// A convolution's weight as it is used, and its bias.
#[derive(Debug, Clone, Copy)]
struct Convolution {
    weight: TensorId,
    bias: TensorId,
}

/// What a level is made of.
#[derive(Debug, Clone, Copy)]
struct Level {
    first: Convolution,
    second: Convolution,
    /// Where the channels of its input and output differ.
    downsample: Option<Convolution>,
}

impl Tcn {
    /// Levels of this configuration.
    ///
    /// # Errors
    /// As [`TcnConfig::validate`].
    pub fn new(config: TcnConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &TcnConfig {
        &self.config
    }

    /// Appends the levels to a graph, with parameters named `{prefix}network.0.conv1.weight_v` and so on, the reference code's
    /// names: of `x` `[batch, time, inputs]` they make `[batch, time, channels]`. With `training` dropout is at work.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has other channels; [`Error::Graph`] if the names are taken.
    pub fn append(&self, graph: &mut Graph, prefix: &str, x: TensorId, training: bool) -> Result<TensorId> {
        let levels = self.parameters(graph, prefix, x)?;
        let mut h = x;
        let mut sum = None;
        for (index, level) in levels.iter().enumerate() {
            let dilation = self.config.dilations[index];
            let (made, output) = self.level(graph, level, h, [dilation, dilation], 1, training)?;
            h = output;
            if self.config.skips {
                sum = Some(match sum {
                    Some(sum) => ops::add(graph, sum, made)?,
                    None => made,
                });
            }
        }
        Ok(sum.unwrap_or(h))
    }

    /// As [`append`](Self::append), but of the last position alone: `[batch, 1, channels]`. Where the network is causal, each
    /// dilation is a multiple of the one before and there are no skips, only what the last position depends on is computed: level
    /// `i` of dilation `2ⁱ` at every `2ⁱ`-th position, which is 3 convolutions over the whole sequence in place of 2 a level.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_last(&self, graph: &mut Graph, prefix: &str, x: TensorId, training: bool) -> Result<TensorId> {
        let config = &self.config;
        let multiples = config.dilations.windows(2).all(|pair| pair[1].is_multiple_of(pair[0]));
        if !config.causal || config.skips || !multiples {
            let sequence = self.append(graph, prefix, x, training)?;
            return ops::final_state(graph, sequence, None, None, false);
        }
        let levels = self.parameters(graph, prefix, x)?;
        // Positions of the input from one that is kept to the next.
        let mut every = 1;
        let mut h = x;
        for (index, level) in levels.iter().enumerate() {
            let dilation = config.dilations[index];
            // Where the first dilation is more than 1, all positions but every such one are left out at once.
            let first = dilation / every;
            // The level after this one reads positions its dilation apart; what follows the last reads one.
            let next = config.dilations.get(index + 1).copied();
            let stride = next.map_or_else(|| graph.shape(h).time, |next| next / every);
            // Between the two convolutions, positions a dilation apart are enough.
            let dilations = [first, 1];
            h = self.level(graph, level, h, dilations, stride, training)?.1;
            every = next.unwrap_or(dilation);
        }
        Ok(h)
    }

    /// One level of convolutions with these dilations, of which the first gives every `dilations[0] / dilations[1]`-th position
    /// and the whole every `stride`-th one of `x`: what its second activation gives, and that with the residual.
    fn level(
        &self,
        graph: &mut Graph,
        level: &Level,
        x: TensorId,
        dilations: [usize; 2],
        stride: usize,
        training: bool,
    ) -> Result<(TensorId, TensorId)> {
        let config = &self.config;
        let geometry = |dilation: usize, stride: usize| match config.causal {
            true => Geometry::causal(config.kernel, dilation).with_stride(stride).counted_from_end(),
            false => Geometry::same(config.kernel, dilation),
        };
        let between = dilations[0] / dilations[1];
        let strides = [between, stride.div_ceil(between)];
        let mut h = x;
        for ((convolution, dilation), stride) in [level.first, level.second].into_iter().zip(dilations).zip(strides) {
            let Convolution { weight, bias } = convolution;
            h = ops::conv1d(graph, h, weight, Some(bias), geometry(dilation, stride), self.activation())?;
            if training {
                h = match config.spatial_dropout {
                    true => ops::spatial_dropout(graph, h, config.dropout)?,
                    false => ops::dropout(graph, h, config.dropout)?,
                };
            }
        }
        let output = match level.downsample {
            Some(Convolution { weight, bias }) => {
                let geometry = Geometry::pointwise().with_stride(stride).counted_from_end();
                let residual = ops::conv1d(graph, x, weight, Some(bias), geometry, Activation::Identity)?;
                ops::residual(graph, h, residual, 1, self.activation())?
            }
            None => ops::residual(graph, h, x, stride, self.activation())?,
        };
        Ok((h, output))
    }

    fn activation(&self) -> Activation {
        match self.config.activation {
            TcnActivation::Relu => Activation::Relu,
            TcnActivation::Tanh => Activation::Tanh,
        }
    }

    /// Declares all parameters and normalises all weights at once.
    fn parameters(&self, graph: &mut Graph, prefix: &str, x: TensorId) -> Result<Vec<Level>> {
        let config = &self.config;
        let given = graph.shape(x);
        if given.channels != config.inputs {
            let message = format!("the input {given} must have {} channels", config.inputs);
            return Err(Error::Shape { op: "tcn".into(), message });
        }
        let mut levels = Vec::with_capacity(config.channels.len());
        let mut pairs = Vec::new();
        let mut inputs = config.inputs;
        for (index, &channels) in config.channels.iter().enumerate() {
            let prefix = format!("{prefix}network.{index}.");
            let first = self.convolution(graph, &format!("{prefix}conv1."), inputs, channels, &mut pairs)?;
            let second = self.convolution(graph, &format!("{prefix}conv2."), channels, channels, &mut pairs)?;
            let downsample = match inputs == channels {
                true => None,
                false => Some(downsample(graph, &format!("{prefix}downsample."), inputs, channels)?),
            };
            levels.push(Level { first, second, downsample });
            inputs = channels;
        }
        if config.norm == Norm::Weight {
            let weights = ops::weight_norm(graph, &pairs)?;
            for (level, weights) in levels.iter_mut().zip(weights.chunks_exact(2)) {
                (level.first.weight, level.second.weight) = (weights[0], weights[1]);
            }
        }
        Ok(levels)
    }

    /// Declares a convolution; its weight is the direction alone where weights are normalised.
    fn convolution(
        &self,
        graph: &mut Graph,
        prefix: &str,
        inputs: usize,
        channels: usize,
        pairs: &mut Vec<(TensorId, TensorId)>,
    ) -> Result<Convolution> {
        let shape = Shape::new(self.config.kernel, inputs, channels);
        let uniform = Init::Uniform { bound: 1.0 / ((self.config.kernel * inputs) as f32).sqrt() };
        let init = match self.config.init {
            TcnInit::PyTorch => uniform,
            TcnInit::Normal { std } => Init::Normal { std },
        };
        let weight = match self.config.norm {
            Norm::Weight => {
                let v = graph.param(&format!("{prefix}weight_v"), shape, init, true)?;
                let g =
                    graph.param(&format!("{prefix}weight_g"), Shape::vector(channels), Init::LengthsOfLast, false)?;
                pairs.push((v, g));
                v
            }
            Norm::None => graph.param(&format!("{prefix}weight"), shape, init, true)?,
        };
        let bias = graph.param(&format!("{prefix}bias"), Shape::vector(channels), uniform, false)?;
        Ok(Convolution { weight, bias })
    }
}

fn downsample(graph: &mut Graph, prefix: &str, inputs: usize, channels: usize) -> Result<Convolution> {
    let weight =
        graph.param(&format!("{prefix}weight"), Shape::new(1, inputs, channels), Init::Normal { std: 0.01 }, true)?;
    let uniform = Init::Uniform { bound: 1.0 / (inputs as f32).sqrt() };
    let bias = graph.param(&format!("{prefix}bias"), Shape::vector(channels), uniform, false)?;
    Ok(Convolution { weight, bias })
}
