//! Temporal convolutional networks (Bai, Kolter and Koltun 2018, arXiv:1803.01271).

mod config;
mod convolution;
mod state_dict;
mod stream;

pub use config::{Norm, TcnActivation, TcnConfig, TcnInit};

pub(super) use state_dict::{entries, is_theirs};

use convolution::{Convolution, downsample};

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorId};
use crate::ops::{self, Activation, Geometry, Padding};

/// Levels of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Tcn {
    config: TcnConfig,
}

/// What a level is made of.
#[derive(Debug, Clone, Copy)]
struct Level {
    first: Convolution,
    second: Convolution,
    /// Where the channels of its input and output differ.
    downsample: Option<Convolution>,
}

/// What the levels may be given besides their input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcnOptions {
    /// Whether dropout is at work, and batch normalisation by the moments of the batch.
    pub training: bool,
    /// How many positions each sequence has, ids `[batch, 1]`. What lies beyond has no influence on those, nor on the moments of
    /// batch normalisation; what the levels give there means nothing.
    pub lengths: Option<TensorId>,
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
    /// names: of `x` `[batch, time, inputs]` they make `[batch, time, channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has other channels; [`Error::Graph`] if the names are taken.
    pub fn append(&self, graph: &mut Graph, prefix: &str, x: TensorId, options: &TcnOptions) -> Result<TensorId> {
        let levels = self.parameters(graph, prefix, x)?;
        let mut h = x;
        let mut sum = None;
        for (index, level) in levels.iter().enumerate() {
            let dilation = self.config.dilations[index];
            let (made, output) = self.level(graph, level, h, [dilation, dilation], 1, options)?;
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

    /// As [`append`](Self::append), but of the last position of each sequence alone: `[batch, 1, channels]`, 0 of an empty one.
    /// Where the network is causal, each dilation is a multiple of the one before, and there are no skips, no lengths, no batch
    /// normalisation and no padding but zeros, only what the last position depends on is computed: level `i` of dilation `2ⁱ` at
    /// every `2ⁱ`-th position, which is 3 convolutions over the whole sequence in place of 2 a level.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_last(&self, graph: &mut Graph, prefix: &str, x: TensorId, options: &TcnOptions) -> Result<TensorId> {
        let config = &self.config;
        let multiples = config.dilations.windows(2).all(|pair| pair[1].is_multiple_of(pair[0]));
        // Batch normalisation is over all positions, and what is repeated before a sequence need not be one that is kept.
        let all_needed = config.skips || config.norm == Norm::Batch || config.padding != Padding::Zeros;
        if !config.causal || all_needed || !multiples || options.lengths.is_some() {
            let sequence = self.append(graph, prefix, x, options)?;
            return ops::final_state(graph, sequence, None, options.lengths, false);
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
            h = self.level(graph, level, h, dilations, stride, options)?.1;
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
        options: &TcnOptions,
    ) -> Result<(TensorId, TensorId)> {
        let config = &self.config;
        let between = dilations[0] / dilations[1];
        let strides = [between, stride.div_ceil(between)];
        let mut h = x;
        for ((convolution, dilation), stride) in [level.first, level.second].iter().zip(dilations).zip(strides) {
            h = self.convolved(graph, h, convolution, [dilation, stride], options)?;
            if options.training {
                h = match config.spatial_dropout {
                    true => ops::spatial_dropout(graph, h, config.dropout)?,
                    false => ops::dropout(graph, h, config.dropout)?,
                };
            }
        }
        Ok((h, self.join(graph, level, h, x, stride)?))
    }

    /// The end of a level: the sum of what it made and what it was given, and the activation.
    fn join(&self, graph: &mut Graph, level: &Level, h: TensorId, x: TensorId, stride: usize) -> Result<TensorId> {
        let sum = match level.downsample {
            Some(Convolution { weight, bias, .. }) => {
                let geometry = Geometry::pointwise().with_stride(stride).counted_from_end();
                let residual = ops::conv1d(graph, x, weight, Some(bias), geometry, Activation::Identity)?;
                ops::residual(graph, h, residual, 1, self.fused())?
            }
            None => ops::residual(graph, h, x, stride, self.fused())?,
        };
        match self.config.activation {
            TcnActivation::Gelu => ops::gelu(graph, sum),
            TcnActivation::Relu | TcnActivation::Tanh | TcnActivation::Glu => Ok(sum),
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
            let first = self.convolution(graph, (&prefix, 1), inputs, channels, &mut pairs)?;
            let second = self.convolution(graph, (&prefix, 2), channels, channels, &mut pairs)?;
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
}
