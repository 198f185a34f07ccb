//! The numbers that make a temporal convolutional network.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::Padding;

/// What makes the weights or the activations of a convolution comparable in size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Weight normalisation (Salimans and Kingma 2016), as the paper has it.
    #[default]
    Weight,
    /// Layer normalisation of what a convolution gives, over the channels of each position (Ba et al. 2016).
    Layer,
    /// Batch normalisation of what a convolution gives, over batch and time (Ioffe and Szegedy 2015). Before their end, the
    /// outputs of a causal network then depend in training on all of the batch.
    Batch,
    /// None.
    None,
}

/// The function between convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcnActivation {
    /// `max(x, 0)`, as the paper has it.
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Gaussian error linear unit, `x Φ(x)` (Hendrycks and Gimpel 2016).
    Gelu,
    /// Gated linear unit, `a σ(b)`, of convolutions with twice the channels (Dauphin et al. 2017); as there, the sum with the
    /// residual is left as it is.
    Glu,
}

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcnInit {
    /// As the reference code in effect does: convolutions as PyTorch starts them, uniform in ±1/√(taps · channels in), lengths
    /// `g` those of their directions; the 1×1 of a residual normal with standard deviation 0.01.
    #[default]
    PyTorch,
    /// As the paper says: all weights normal with standard deviation `std` (0.01 there), biases as PyTorch.
    Normal {
        /// The standard deviation.
        std: f32,
    },
}

/// A temporal convolutional network (Bai, Kolter and Koltun 2018): levels of two dilated convolutions with a residual around them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcnConfig {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of each level.
    pub channels: Vec<usize>,
    /// Taps of a convolution.
    pub kernel: usize,
    /// Positions from one tap to the next, of each level.
    pub dilations: Vec<usize>,
    /// Probability of 0 after each activation within a level, in [0, 1).
    pub dropout: f32,
    /// Whether dropout takes whole channels, as the paper has it, or single elements, as its reference code.
    pub spatial_dropout: bool,
    /// What is normalised.
    pub norm: Norm,
    /// The function after each convolution, and after the sum with the residual.
    pub activation: TcnActivation,
    /// Whether the output is the sum of what all levels make, as WaveNet's, instead of what the last one makes; all levels must
    /// have the same channels then.
    pub skips: bool,
    /// What stands before a sequence and, where a position sees both sides, after it.
    #[serde(default)]
    pub padding: Padding,
    /// Whether a position sees its past only; else kernels are centred.
    pub causal: bool,
    /// How weights start.
    pub init: TcnInit,
}

/// Levels that no sequence is long enough for: the last of them would see 2³⁰ positions back.
const MOST_LEVELS: usize = 30;

/// Positions that no device has room for; their products still fit.
const MOST: usize = 1 << 30;

impl TcnConfig {
    /// Levels of the given channels, dilated by 1, 2, 4 …, as the paper has them, without dropout.
    pub fn new(inputs: usize, channels: &[usize], kernel: usize) -> Self {
        Self {
            inputs,
            channels: channels.to_vec(),
            kernel,
            dilations: (0..channels.len()).map(|level| 1 << level.min(MOST_LEVELS)).collect(),
            dropout: 0.0,
            spatial_dropout: false,
            norm: Norm::default(),
            activation: TcnActivation::default(),
            skips: false,
            padding: Padding::default(),
            causal: true,
            init: TcnInit::default(),
        }
    }

    /// Positions that an output depends on, its own included: `1 + 2 (kernel − 1) Σ dilations`.
    pub fn receptive_field(&self) -> usize {
        1 + 2 * self.kernel.saturating_sub(1) * self.dilations.iter().sum::<usize>()
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Config`], naming what is out of its range.
    pub fn validate(&self) -> Result<()> {
        let levels = self.channels.len();
        if levels == 0 || levels > MOST_LEVELS {
            return Err(Error::Config(format!("channels must be those of 1 to {MOST_LEVELS} levels, got {levels}")));
        }
        if self.dilations.len() != levels {
            let dilations = self.dilations.len();
            return Err(Error::Config(format!("{dilations} dilations for {levels} levels: give one for each")));
        }
        let numbers = [("inputs", self.inputs), ("kernel", self.kernel)].into_iter();
        let of_levels = |name, values: &[usize]| values.iter().map(move |&value| (name, value)).collect::<Vec<_>>();
        let numbers =
            numbers.chain(of_levels("channels", &self.channels)).chain(of_levels("dilations", &self.dilations));
        for (name, value) in numbers {
            if value == 0 || value > MOST {
                return Err(Error::Config(format!("{name} must be from 1 to {MOST}, got {value}")));
            }
        }
        let reach = self.dilations.iter().try_fold(0_usize, |sum, &dilation| {
            sum.checked_add(dilation.checked_mul(2 * (self.kernel - 1))?).filter(|&sum| sum <= MOST)
        });
        if reach.is_none() {
            return Err(Error::Config(format!(
                "kernel {} and dilations {:?} see more than {MOST} positions back: use a smaller kernel or fewer levels",
                self.kernel, self.dilations
            )));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Config(format!("dropout must be at least 0 and less than 1, got {}", self.dropout)));
        }
        if self.skips && self.channels.iter().any(|&channels| channels != self.channels[0]) {
            return Err(Error::Config(format!(
                "skips add up what all levels make: their channels {:?} must be the same",
                self.channels
            )));
        }
        if self.causal && self.padding == Padding::Reflect {
            return Err(Error::Config(
                "padding: before a sequence, reflect stands for what comes later, which a causal network must not see; use \
                 zeros or replicate"
                    .into(),
            ));
        }
        if let TcnInit::Normal { std } = self.init
            && !(std > 0.0 && std.is_finite())
        {
            return Err(Error::Config(format!("init: std must be positive, got {std}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receptive_fields_are_the_published_ones() {
        let fields =
            [(7, 8, 3061), (6, 8, 2551), (8, 8, 3571), (3, 2, 13), (6, 4, 151), (3, 4, 61), (4, 5, 187), (2, 5, 63)];
        for (kernel, levels, field) in fields {
            assert_eq!(TcnConfig::new(1, &vec![5; levels], kernel).receptive_field(), field, "{kernel} {levels}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let good = TcnConfig::new(1, &[4, 4], 3);
        good.validate().unwrap();
        let wrong: [(TcnConfig, &str); 9] = [
            (TcnConfig { inputs: 0, ..good.clone() }, "inputs"),
            (TcnConfig { kernel: 0, ..good.clone() }, "kernel"),
            (TcnConfig { channels: vec![4, 0], ..good.clone() }, "channels"),
            (TcnConfig { channels: vec![], dilations: vec![], ..good.clone() }, "channels"),
            (TcnConfig { dilations: vec![1], ..good.clone() }, "dilations"),
            (TcnConfig { dilations: vec![1, MOST], ..good.clone() }, "kernel"),
            (TcnConfig { dropout: 1.0, ..good.clone() }, "dropout"),
            (TcnConfig { channels: vec![4, 5], skips: true, ..good.clone() }, "skips"),
            (TcnConfig { padding: Padding::Reflect, ..good.clone() }, "padding"),
        ];
        for (config, word) in wrong {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
