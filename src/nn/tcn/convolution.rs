//! A convolution of a level with what belongs to it: padding, normalisation and activation.

use super::{Norm, Tcn, TcnActivation, TcnInit, TcnOptions};
use crate::error::Result;
use crate::graph::{Graph, Init, Shape, TensorId};
use crate::ops::{self, Activation, BatchNormInputs, Geometry, Padding};

/// A convolution's weight as it is used, its bias, and what normalises what it gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution {
    pub weight: TensorId,
    pub bias: TensorId,
    pub norm: Option<Affine>,
}

/// What normalised channels are multiplied by, and what is added to them; with batch normalisation the running moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine {
    weight: TensorId,
    bias: TensorId,
    running: Option<TensorId>,
}

/// PyTorch's of `LayerNorm` and `BatchNorm1d`.
const EPS: f32 = 1e-5;
/// PyTorch's of `BatchNorm1d`.
const MOMENTUM: f32 = 0.1;

impl Tcn {
    /// The activation as the end of another operator, where its derivative follows from its value.
    pub(super) fn fused(&self) -> Activation {
        match self.config.activation {
            TcnActivation::Relu => Activation::Relu,
            TcnActivation::Tanh => Activation::Tanh,
            TcnActivation::Gelu | TcnActivation::Glu => Activation::Identity,
        }
    }

    /// Appends a convolution of `x` with its padding, normalisation and activation.
    pub(super) fn convolved(
        &self,
        graph: &mut Graph,
        mut x: TensorId,
        convolution: &Convolution,
        [dilation, stride]: [usize; 2],
        options: &TcnOptions,
    ) -> Result<TensorId> {
        let config = &self.config;
        let reach = (config.kernel - 1) * dilation;
        // A causal network sees nothing beyond the end of a sequence before that end.
        let lengths = options.lengths.filter(|_| !config.causal);
        let geometry = match (config.padding, config.causal) {
            (Padding::Zeros, true) => Geometry::causal(config.kernel, dilation).with_stride(stride).counted_from_end(),
            (Padding::Zeros, false) => {
                x = lengths.map_or(Ok(x), |lengths| ops::mask(graph, x, lengths))?;
                Geometry::same(config.kernel, dilation)
            }
            (padding, causal) => {
                let left = if causal { reach } else { reach / 2 };
                x = ops::pad(graph, x, padding, [left, reach - left], lengths)?;
                Geometry::valid(config.kernel, dilation)
            }
        };
        self.normalised(graph, x, convolution, geometry, options)
    }

    /// Appends a convolution of what is padded already, with its normalisation and activation.
    pub(super) fn normalised(
        &self,
        graph: &mut Graph,
        x: TensorId,
        convolution: &Convolution,
        geometry: Geometry,
        options: &TcnOptions,
    ) -> Result<TensorId> {
        let Convolution { weight, bias, norm } = *convolution;
        let first = if norm.is_some() { Activation::Identity } else { self.fused() };
        let mut h = ops::conv1d(graph, x, weight, Some(bias), geometry, first)?;
        if let Some(Affine { weight, bias, running }) = norm {
            h = match running {
                None => ops::layer_norm(graph, h, weight, bias, EPS)?,
                Some(running) => {
                    let inputs = BatchNormInputs { weight, bias, running, lengths: options.lengths };
                    ops::batch_norm(graph, h, &inputs, EPS, MOMENTUM, options.training)?
                }
            };
            if self.fused() != Activation::Identity {
                h = ops::activate(graph, h, self.fused())?;
            }
        }
        match self.config.activation {
            TcnActivation::Relu | TcnActivation::Tanh => Ok(h),
            TcnActivation::Gelu => ops::gelu(graph, h),
            TcnActivation::Glu => ops::glu(graph, h),
        }
    }

    /// Declares a convolution, the `number`-th of a level; its weight is the direction alone where weights are normalised.
    pub(super) fn convolution(
        &self,
        graph: &mut Graph,
        (prefix, number): (&str, usize),
        inputs: usize,
        channels: usize,
        pairs: &mut Vec<(TensorId, TensorId)>,
    ) -> Result<Convolution> {
        let config = &self.config;
        let channels = if config.activation == TcnActivation::Glu { 2 * channels } else { channels };
        let name = |part: &str| format!("{prefix}conv{number}.{part}");
        let shape = Shape::new(config.kernel, inputs, channels);
        let uniform = Init::Uniform { bound: 1.0 / ((config.kernel * inputs) as f32).sqrt() };
        let init = match config.init {
            TcnInit::PyTorch => uniform,
            TcnInit::Normal { std } => Init::Normal { std },
        };
        let vector = Shape::vector(channels);
        let weight = match config.norm {
            Norm::Weight => {
                let v = graph.param(&name("weight_v"), shape, init, true)?;
                let g = graph.param(&name("weight_g"), vector, Init::LengthsOfLast, false)?;
                pairs.push((v, g));
                v
            }
            Norm::Layer | Norm::Batch | Norm::None => graph.param(&name("weight"), shape, init, true)?,
        };
        let bias = graph.param(&name("bias"), vector, uniform, false)?;
        let norm = match config.norm {
            Norm::Weight | Norm::None => None,
            Norm::Layer | Norm::Batch => {
                let name = |part: &str| format!("{prefix}norm{number}.{part}");
                let weight = graph.param(&name("weight"), vector, Init::Constant(1.0), false)?;
                let bias = graph.param(&name("bias"), vector, Init::Zeros, false)?;
                let running = (config.norm == Norm::Batch)
                    .then(|| graph.untrained(&name("running"), Shape::new(1, 2, channels), Init::Moments));
                Some(Affine { weight, bias, running: running.transpose()? })
            }
        };
        Ok(Convolution { weight, bias, norm })
    }
}

/// Declares the convolution of one tap by which a residual gets other channels.
pub(super) fn downsample(graph: &mut Graph, prefix: &str, inputs: usize, channels: usize) -> Result<Convolution> {
    let weight =
        graph.param(&format!("{prefix}weight"), Shape::new(1, inputs, channels), Init::Normal { std: 0.01 }, true)?;
    let uniform = Init::Uniform { bound: 1.0 / (inputs as f32).sqrt() };
    let bias = graph.param(&format!("{prefix}bias"), Shape::vector(channels), uniform, false)?;
    Ok(Convolution { weight, bias, norm: None })
}
