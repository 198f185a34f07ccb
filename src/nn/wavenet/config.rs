//! Hyperparameters of WaveNet and the published sizes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaveNetInput {
    /// The class of each sample, as a one-hot vector that is never made.
    Classes,
    /// The sample itself, one number in ±1.
    Scalar,
}

/// Hyperparameters of a WaveNet (van den Oord et al. 2016).
///
/// The default is [`small`](Self::small).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveNetConfig {
    /// Quantisation levels of a sample: classes of the output, and of the input unless it is scalar. Default 256.
    pub classes: usize,
    /// What the network reads. Default classes.
    pub input: WaveNetInput,
    /// Taps of the first convolution. Default 2.
    pub input_kernel: usize,
    /// Whether the first convolution has a bias. Default true.
    pub input_bias: bool,
    /// Taps of the dilated convolutions. Default 2.
    pub kernel: usize,
    /// The dilation of each layer. Default 1, 2, …, 256 twice.
    pub dilations: Vec<usize>,
    /// Channels of the residual path. Default 32.
    pub residual: usize,
    /// Channels of the gate's output. Default 32.
    pub gate: usize,
    /// Channels of the skip path. Default 64.
    pub skip: usize,
    /// Channels between the head's two convolutions. Default 64.
    pub head: usize,
    /// Whether the convolutions after the first have biases. Default true.
    pub biases: bool,
    /// Whether the last layer has residual weights, which nothing reads (as in tensorflow-wavenet). Default false.
    pub residual_in_last_layer: bool,
}

impl Default for WaveNetConfig {
    fn default() -> Self {
        Self::small()
    }
}

/// Dilations 1, 2, 4, … up to `largest`, `repeats` times.
fn doubling(largest: usize, repeats: usize) -> Vec<usize> {
    let block = std::iter::successors(Some(1), |d| Some(d * 2)).take_while(move |&d| d <= largest);
    block.collect::<Vec<_>>().repeat(repeats)
}

impl WaveNetConfig {
    /// The names of [`preset`](Self::preset).
    pub const PRESETS: [&str; 4] = ["tiny", "small", "paper", "published"];

    /// The configuration of a name.
    ///
    /// # Errors
    /// [`Error::Config`], listing the names there are.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "tiny" => Ok(Self::tiny()),
            "small" => Ok(Self::small()),
            "paper" => Ok(Self::paper()),
            "published" => Ok(Self::published()),
            _ => Err(Error::Config(format!(
                "there is no preset {name:?}: it must be one of {}",
                Self::PRESETS.join(", ")
            ))),
        }
    }

    /// For tests: 16 layers of 16 channels, a receptive field of 512 samples.
    pub fn tiny() -> Self {
        Self { residual: 16, gate: 16, skip: 32, head: 32, dilations: doubling(128, 2), ..Self::small() }
    }

    /// For a CPU: 18 layers of 32 channels, a receptive field of 1,024 samples (128 ms at 8 kHz).
    pub fn small() -> Self {
        Self {
            classes: 256,
            input: WaveNetInput::Classes,
            input_kernel: 2,
            input_bias: true,
            kernel: 2,
            dilations: doubling(256, 2),
            residual: 32,
            gate: 32,
            skip: 64,
            head: 64,
            biases: true,
            residual_in_last_layer: false,
        }
    }

    /// The paper's dilations, 1 to 512 three times; the paper does not state widths, these are those of nv-wavenet's
    /// medium size: 64 residual channels, 256 skip channels.
    pub fn paper() -> Self {
        Self { residual: 64, gate: 64, skip: 256, head: 256, dilations: doubling(512, 3), ..Self::small() }
    }

    /// The configuration of tensorflow-wavenet, 50 layers: 1,515,968 parameters, a receptive field of 5,117 samples.
    pub fn published() -> Self {
        Self {
            skip: 512,
            head: 512,
            dilations: doubling(512, 5),
            input_bias: false,
            residual_in_last_layer: true,
            ..Self::small()
        }
    }

    /// Samples that an output sees: the last of them is the newest.
    pub fn receptive_field(&self) -> usize {
        let layers: usize = self.dilations.iter().map(|d| (self.kernel - 1) * d).sum();
        layers + self.input_kernel
    }

    /// Whether every number is one that a network can be built of.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field.
    pub fn validate(&self) -> Result<()> {
        let fields = [
            ("input_kernel", self.input_kernel),
            ("kernel", self.kernel),
            ("residual", self.residual),
            ("gate", self.gate),
            ("skip", self.skip),
            ("head", self.head),
            ("the number of dilations", self.dilations.len()),
            ("the smallest dilation", self.dilations.iter().copied().min().unwrap_or(0)),
        ];
        if let Some((name, _)) = fields.iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config(format!("WaveNet: {name} must be at least 1")));
        }
        if !(2..=65_536).contains(&self.classes) {
            return Err(Error::Config(format!("WaveNet: classes must be 2 to 65536, not {}", self.classes)));
        }
        let largest = self.dilations.iter().copied().max().unwrap_or(0).max(self.kernel).max(self.input_kernel);
        let widest = [self.residual, self.gate, self.skip, self.head].into_iter().max().unwrap_or(0);
        // Kernels count in 32 bits.
        if largest > 1 << 24 || widest > 1 << 16 || self.dilations.len() > 4096 {
            return Err(Error::Config(format!(
                "WaveNet: kernels and dilations may reach 2^24, widths 65536 and layers 4096; got {largest}, {widest} \
                 and {}",
                self.dilations.len()
            )));
        }
        Ok(())
    }
}
