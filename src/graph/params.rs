//! Parameters: one flat vector for the whole model.
//!
//! One buffer makes the optimizer one dispatch, the gradient norm two, and a checkpoint one copy.

use crate::graph::{Shape, TensorId};
use crate::random::Random;

/// Elements that each parameter starts at a multiple of: 256 bytes, WebGPU's alignment of bindings.
pub const PARAM_ALIGN: usize = 64;

const STREAM_INIT: u32 = 0x1417;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All the same.
    Constant(f32),
    /// Uniform in ±`bound`.
    Uniform {
        /// Half the width.
        bound: f32,
    },
    /// Uniform in ±`bound` but for the channels from `from` to `to`, which are all `value`: the biases of an LSTM's forget gates.
    UniformBut {
        /// Half the width.
        bound: f32,
        /// The first channel that is not.
        from: usize,
        /// The first behind them that is again.
        to: usize,
        /// What they are.
        value: f32,
    },
    /// For each channel the length of the parameter declared just before, over all that makes this channel: what weight
    /// normalisation starts with.
    LengthsOfLast,
    /// Uniform in ±`bound` but for the first rows, which are zero: word vectors, of which the first is the padding's.
    UniformAfter {
        /// Rows that are zero.
        rows: usize,
        /// Half the width.
        bound: f32,
    },
    /// A row of zeros and a row of ones: means and variances of channels of which nothing is known yet.
    Moments,
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f32,
    },
}

impl Init {
    /// Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010): for tanh, gates and linear outputs.
    pub fn xavier(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { bound: (6.0 / (fan_in + fan_out) as f32).sqrt() }
    }

    /// Normal with variance 2 / fan_in (He et al. 2015): for what a ReLU reads.
    pub fn he(fan_in: usize) -> Self {
        Self::Normal { std: (2.0 / fan_in as f32).sqrt() }
    }
}

/// One named parameter and its place in the flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Unique in the model, such as `layers.3.dilated.weight`.
    pub name: String,
    /// Its size; convolution weights are `[taps, channels in, channels out]`.
    pub shape: Shape,
    /// First element in the flat vector.
    pub offset: usize,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies (weights: yes; biases: no).
    pub decay: bool,
    /// Whether optimizers update it; else it stays as it was written, or operators keep it, such as running moments.
    pub trained: bool,
    /// What the L2 norm of each channel's numbers is held to after every update: [`Graph::constrain`](crate::graph::Graph::constrain).
    pub max_norm: Option<f32>,
    /// Whether its gradient is made of the rows alone that a step reads: [`Graph::sparse`](crate::graph::Graph::sparse).
    pub sparse: bool,
    /// Its tensor.
    pub tensor: TensorId,
}

/// The parameters of a model in the order they were declared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParamLayout {
    params: Vec<Param>,
    len: usize,
}

impl ParamLayout {
    /// Gives a parameter its place and its index.
    pub(crate) fn push(&mut self, param: Param) -> usize {
        let offset = self.len;
        self.len = (offset + param.shape.padded_len()).next_multiple_of(PARAM_ALIGN);
        self.params.push(Param { offset, ..param });
        self.params.len() - 1
    }

    pub(crate) fn of_mut(&mut self, tensor: TensorId) -> Option<&mut Param> {
        self.params.iter_mut().find(|param| param.tensor == tensor)
    }

    /// All parameters.
    pub fn iter(&self) -> std::slice::Iter<'_, Param> {
        self.params.iter()
    }

    /// The parameter at a position.
    pub fn get(&self, index: usize) -> Option<&Param> {
        self.params.get(index)
    }

    /// The parameter of a name.
    pub fn find(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }

    /// Trainable numbers, padding left out.
    pub fn count(&self) -> usize {
        self.params.iter().filter(|p| p.trained).map(|p| p.shape.len()).sum()
    }

    /// Elements of the flat vector, padding included.
    pub fn flat_len(&self) -> usize {
        self.len.max(PARAM_ALIGN)
    }

    /// Whether two models keep the same parameters in the same places.
    pub fn same_places(&self, other: &Self) -> bool {
        self.params.len() == other.params.len()
            && self
                .params
                .iter()
                .zip(&other.params)
                .all(|(a, b)| a.name == b.name && a.shape == b.shape && a.offset == b.offset)
    }

    /// The starting values as a flat vector: a pure function of the seed and the declarations.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut flat = vec![0.0; self.flat_len()];
        for (index, param) in self.params.iter().enumerate() {
            let mut random = Random::new(seed, STREAM_INIT, index as u32);
            let lengths = match param.init {
                Init::LengthsOfLast => index.checked_sub(1).map(|last| self.params[last].lengths(&flat)),
                _ => None,
            };
            let values: Vec<f32> = (0..param.shape.len())
                .map(|index| match param.init {
                    Init::Zeros => 0.0,
                    Init::Moments => f32::from(u8::from(index / param.shape.channels == 1)),
                    Init::LengthsOfLast => lengths.as_ref().and_then(|l| l.get(index)).copied().unwrap_or_default(),
                    Init::Constant(value) => value,
                    Init::UniformBut { from, to, value, .. }
                        if (from..to).contains(&(index % param.shape.channels)) =>
                    {
                        value
                    }
                    Init::UniformAfter { rows, .. } if index / param.shape.channels < rows => 0.0,
                    Init::Uniform { bound } | Init::UniformBut { bound, .. } | Init::UniformAfter { bound, .. } => {
                        (2.0 * random.uniform() - 1.0) * bound
                    }
                    Init::Normal { std } => random.normal() * std,
                })
                .collect();
            param.scatter(&values, &mut flat);
        }
        flat
    }
}

impl Param {
    /// Writes dense values `[batch, time, channels]` to their padded places in a flat vector.
    pub fn scatter(&self, values: &[f32], flat: &mut [f32]) {
        let (channels, stride) = (self.shape.channels, self.shape.stride());
        for (row, dense) in values.chunks_exact(channels).enumerate() {
            let start = self.offset + row * stride;
            flat[start..start + channels].copy_from_slice(dense);
        }
    }

    /// The length of each channel's values.
    fn lengths(&self, flat: &[f32]) -> Vec<f32> {
        let mut squares = vec![0.0_f64; self.shape.channels];
        for row in self.gather(flat).chunks_exact(self.shape.channels) {
            squares.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
        }
        squares.into_iter().map(|square| square.sqrt() as f32).collect()
    }

    /// The dense values `[batch, time, channels]` out of a flat vector.
    pub fn gather(&self, flat: &[f32]) -> Vec<f32> {
        let (channels, stride) = (self.shape.channels, self.shape.stride());
        (0..self.shape.rows()).flat_map(|row| flat[self.offset + row * stride..][..channels].iter().copied()).collect()
    }
}
