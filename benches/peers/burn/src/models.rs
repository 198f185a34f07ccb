//! The models that are trained, with burn's own layers. Sequences are `[batch, channels, time]`, as its convolutions take
//! them.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::MaxPool1dConfig;
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::module::conv1d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Distribution, Int, Tensor};

use crate::workload::Size;

/// A model whose training is timed.
pub trait Training: Module {
    type Batch: Clone;

    fn new(size: &Size, device: &Device) -> Self;

    /// One batch of random data.
    fn batch(size: &Size, device: &Device) -> Self::Batch;

    fn loss(&self, batch: Self::Batch) -> Tensor<1>;
}

fn classes<const D: usize>(shape: [usize; D], classes: usize, device: &Device) -> Tensor<D, Int> {
    Tensor::<D>::random(shape, Distribution::Uniform(0.0, classes as f64), device).int()
}

/// Zeros on the left, so that the output of a causal convolution is as long as its input.
fn pad_left(x: Tensor<3>, zeros: usize) -> Tensor<3> {
    x.pad((zeros, 0, 0, 0), PadMode::Constant(0.0))
}

fn cross_entropy(logits: Tensor<2>, target: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, target)
}

const CLASSES: usize = 256;

#[derive(Module, Debug)]
pub struct WaveNet {
    past: Embedding,
    current: Embedding,
    bias: Param<Tensor<3>>,
    dilated: Vec<Conv1d>,
    skips: Vec<Conv1d>,
    residuals: Vec<Conv1d>,
    head: Vec<Conv1d>,
}

impl Training for WaveNet {
    type Batch = (Tensor<2, Int>, Tensor<1, Int>);

    fn new(size: &Size, device: &Device) -> Self {
        let (residual, skip) = (size.residual, size.skip);
        let dilations: Vec<_> = (0..size.stacks).flat_map(|_| (0..size.layers_per_stack).map(|i| 1 << i)).collect();
        let point = |c_in, c_out| Conv1dConfig::new(c_in, c_out, 1).init(device);
        Self {
            past: EmbeddingConfig::new(CLASSES, residual).init(device),
            current: EmbeddingConfig::new(CLASSES, residual).init(device),
            bias: Initializer::Zeros.init([1, 1, residual], device),
            dilated: dilations
                .iter()
                .map(|&d| Conv1dConfig::new(residual, 2 * residual, 2).with_dilation(d).init(device))
                .collect(),
            skips: dilations.iter().map(|_| point(residual, skip)).collect(),
            residuals: dilations[1..].iter().map(|_| point(residual, residual)).collect(),
            head: vec![point(skip, skip), point(skip, CLASSES)],
        }
    }

    fn batch(size: &Size, device: &Device) -> Self::Batch {
        let sequence = classes([size.batch, size.time + 1], CLASSES, device);
        let target = sequence.clone().narrow(1, 1, size.time).reshape([size.batch * size.time]);
        (sequence.narrow(1, 0, size.time), target)
    }

    fn loss(&self, (x, target): Self::Batch) -> Tensor<1> {
        let [batch, time] = x.dims();
        let past = self.past.forward(x.clone().narrow(1, 0, time - 1));
        let past = past.pad((0, 0, 1, 0), PadMode::Constant(0.0));
        let mut h = (self.current.forward(x) + past + self.bias.val()).swap_dims(1, 2);
        let mut skip: Option<Tensor<3>> = None;
        for (i, dilated) in self.dilated.iter().enumerate() {
            let mut halves = dilated.forward(pad_left(h.clone(), dilated.dilation)).chunk(2, 1);
            let (b, a) = (halves.remove(1), halves.remove(0));
            let z = tanh(a) * sigmoid(b);
            let term = self.skips[i].forward(z.clone());
            skip = Some(match skip {
                Some(sum) => sum + term,
                None => term,
            });
            if let Some(residual) = self.residuals.get(i) {
                h = h + residual.forward(z);
            }
        }
        let h = self.head[0].forward(relu(skip.expect("a layer")));
        let logits = self.head[1].forward(relu(h));
        cross_entropy(logits.swap_dims(1, 2).reshape([batch * time, CLASSES]), target)
    }
}

/// A convolution whose weight is a direction and a gain for each output channel; burn has no such layer.
#[derive(Module, Debug)]
struct WeightNormConv {
    direction: Param<Tensor<3>>,
    gain: Param<Tensor<3>>,
    bias: Param<Tensor<1>>,
    dilation: usize,
}

impl WeightNormConv {
    fn new(c_in: usize, c_out: usize, kernel: usize, dilation: usize, device: &Device) -> Self {
        let bound = 1.0 / ((c_in * kernel) as f64).sqrt();
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        Self {
            direction: uniform.init([c_out, c_in, kernel], device),
            gain: Initializer::Constant { value: 0.5 }.init([c_out, 1, 1], device),
            bias: uniform.init([c_out], device),
            dilation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let direction = self.direction.val();
        let norm = direction.clone().square().sum_dim(2).sum_dim(1).sqrt();
        let weight = direction * (self.gain.val() / norm);
        let [_, _, kernel] = weight.dims();
        let x = pad_left(x, (kernel - 1) * self.dilation);
        conv1d(x, weight, Some(self.bias.val()), ConvOptions::new([1], [0], [self.dilation], 1))
    }
}

#[derive(Module, Debug)]
struct TcnLevel {
    first: WeightNormConv,
    second: WeightNormConv,
    shortcut: Option<Conv1d>,
    dropout: Dropout,
}

#[derive(Module, Debug)]
pub struct TcnClassify {
    levels: Vec<TcnLevel>,
    out: Linear,
}

impl Training for TcnClassify {
    type Batch = (Tensor<3>, Tensor<1, Int>);

    fn new(size: &Size, device: &Device) -> Self {
        let levels = (0..size.levels).map(|i| {
            let c_in = if i == 0 { size.in_channels } else { size.hidden };
            let conv = |c_in| WeightNormConv::new(c_in, size.hidden, size.kernel, 1 << i, device);
            TcnLevel {
                first: conv(c_in),
                second: conv(size.hidden),
                shortcut: (c_in != size.hidden).then(|| Conv1dConfig::new(c_in, size.hidden, 1).init(device)),
                dropout: DropoutConfig::new(size.dropout).init(),
            }
        });
        Self { levels: levels.collect(), out: LinearConfig::new(size.hidden, size.classes).init(device) }
    }

    fn batch(size: &Size, device: &Device) -> Self::Batch {
        let x = Tensor::random([size.batch, size.in_channels, size.time], Distribution::Uniform(0.0, 1.0), device);
        (x, classes([size.batch], size.classes, device))
    }

    fn loss(&self, (x, target): Self::Batch) -> Tensor<1> {
        let mut h = x;
        for level in &self.levels {
            let y = level.dropout.forward(relu(level.first.forward(h.clone())));
            let y = level.dropout.forward(relu(level.second.forward(y)));
            let shortcut = match &level.shortcut {
                Some(conv) => conv.forward(h),
                None => h,
            };
            h = relu(y + shortcut);
        }
        let [_, _, time] = h.dims();
        cross_entropy(self.out.forward(h.narrow(2, time - 1, 1).squeeze_dim(2)), target)
    }
}

#[derive(Module, Debug)]
pub struct TextCnn {
    embedding: Embedding,
    convs: Vec<Conv1d>,
    dropout: Dropout,
    out: Linear,
}

impl Training for TextCnn {
    type Batch = (Tensor<2, Int>, Tensor<1, Int>);

    fn new(size: &Size, device: &Device) -> Self {
        let conv = |&width: &usize| Conv1dConfig::new(size.embed, size.filters, width).init(device);
        Self {
            embedding: EmbeddingConfig::new(size.vocab, size.embed).init(device),
            convs: size.widths.iter().map(conv).collect(),
            dropout: DropoutConfig::new(size.dropout).init(),
            out: LinearConfig::new(size.filters * size.widths.len(), size.classes).init(device),
        }
    }

    fn batch(size: &Size, device: &Device) -> Self::Batch {
        (classes([size.batch, size.length], size.vocab, device), classes([size.batch], size.classes, device))
    }

    fn loss(&self, (x, target): Self::Batch) -> Tensor<1> {
        let h = self.embedding.forward(x).swap_dims(1, 2);
        let features = self.convs.iter().map(|conv| relu(conv.forward(h.clone())).max_dim(2).squeeze_dim(2));
        let features: Tensor<2> = Tensor::cat(features.collect(), 1);
        cross_entropy(self.out.forward(self.dropout.forward(features)), target)
    }
}

#[derive(Module, Debug)]
pub struct GruRegression {
    gru: Gru,
    out: Linear,
}

impl GruRegression {
    fn with_inputs(inputs: usize, size: &Size, device: &Device) -> Self {
        Self {
            gru: GruConfig::new(inputs, size.hidden, true).init(device),
            out: LinearConfig::new(size.hidden, 1).init(device),
        }
    }
}

impl Training for GruRegression {
    type Batch = (Tensor<3>, Tensor<2>);

    fn new(size: &Size, device: &Device) -> Self {
        Self::with_inputs(size.in_features, size, device)
    }

    fn batch(size: &Size, device: &Device) -> Self::Batch {
        let normal = Distribution::Normal(0.0, 1.0);
        let x = Tensor::random([size.batch, size.time, size.in_features], normal, device);
        (x, Tensor::random([size.batch, 1], normal, device))
    }

    fn loss(&self, (x, target): Self::Batch) -> Tensor<1> {
        let states = self.gru.forward(x, None);
        let [_, time, _] = states.dims();
        let last = states.narrow(1, time - 1, 1).squeeze_dim(1);
        (self.out.forward(last) - target).abs().mean()
    }
}

#[derive(Module, Debug)]
pub struct ConvGru {
    first: Conv1d,
    second: Conv1d,
    pool: usize,
    gru: GruRegression,
}

impl Training for ConvGru {
    type Batch = (Tensor<3>, Tensor<2>);

    fn new(size: &Size, device: &Device) -> Self {
        Self {
            first: Conv1dConfig::new(size.in_features, size.filters, size.kernel).init(device),
            second: Conv1dConfig::new(size.filters, size.filters, size.kernel).init(device),
            pool: size.pool,
            gru: GruRegression::with_inputs(size.filters, size, device),
        }
    }

    fn batch(size: &Size, device: &Device) -> Self::Batch {
        GruRegression::batch(size, device)
    }

    fn loss(&self, (x, target): Self::Batch) -> Tensor<1> {
        let h = relu(self.first.forward(x.swap_dims(1, 2)));
        let h = MaxPool1dConfig::new(self.pool).init().forward(h);
        let h = relu(self.second.forward(h));
        self.gru.loss((h.swap_dims(1, 2), target))
    }
}
