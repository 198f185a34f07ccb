//! The numbers that make recurrent layers.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::Cell;

/// Units or layers that no device has room for; their products still fit.
const MOST: usize = 1 << 20;

/// Which biases a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// None.
    None,
    /// One for the sums of the inputs, as Keras.
    Single,
    /// One for the sums of the inputs, one for those of the states, as PyTorch and cuDNN.
    #[default]
    Double,
}

/// Recurrent layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentConfig {
    /// The equations of a step.
    pub cell: Cell,
    /// Units of a layer.
    pub hidden: usize,
    /// Layers, each on the output of the one before.
    pub layers: usize,
    /// Whether a second walk goes from the end of each sequence to its start.
    pub bidirectional: bool,
    /// Which biases there are.
    pub biases: Biases,
    /// Probability with which an output of a layer is left out on its way to the next, in [0, 1).
    pub dropout: f32,
    /// Probability with which a unit's state is left out of the recurrent products of a whole sequence, in [0, 1): one mask a
    /// sequence (Gal and Ghahramani 2016).
    pub recurrent_dropout: f32,
    /// What the biases of an LSTM's forget gates start with (Jozefowicz et al. 2015: 1), those of the inputs if there are two, and
    /// the other is zero then; nothing for the same as the others.
    pub forget_bias: Option<f32>,
}

impl RecurrentConfig {
    /// One layer of `hidden` units, double biases, no dropout.
    pub fn new(cell: Cell, hidden: usize) -> Self {
        Self {
            cell,
            hidden,
            layers: 1,
            bidirectional: false,
            biases: Biases::default(),
            dropout: 0.0,
            recurrent_dropout: 0.0,
            forget_bias: None,
        }
    }

    /// Walks through time of a layer.
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Config`], naming what is out of its range.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("hidden", self.hidden), ("layers", self.layers)] {
            if value == 0 {
                return Err(Error::Config(format!("{name} must be at least 1, got 0")));
            }
            if value > MOST {
                return Err(Error::Config(format!("{name} must be at most {MOST}, got {value}")));
            }
        }
        for (name, p) in [("dropout", self.dropout), ("recurrent_dropout", self.recurrent_dropout)] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::Config(format!("{name} must be at least 0 and less than 1, got {p}")));
            }
        }
        if let Some(bias) = self.forget_bias {
            if !matches!(self.cell, Cell::Lstm { .. }) || self.biases == Biases::None {
                return Err(Error::Config("forget_bias is for an LSTM with biases: leave it out".into()));
            }
            if !bias.is_finite() {
                return Err(Error::Config(format!("forget_bias must be finite, got {bias}")));
            }
        }
        Ok(())
    }
}
