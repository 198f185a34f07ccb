//! In which precision a program is stored on a device.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How devices store what a program computes with. Sums are `f32` always, and so are parameters, their gradients and the
/// optimizer's state. The CPU executor computes the same program in `f32` throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Everything as `f32`.
    #[default]
    F32,
    /// Mixed precision (Micikevicius et al. 2018): activations, their gradients and a copy of the weights as `f16`. The
    /// loss is scaled before it is differentiated, so that small gradients are not lost.
    F16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// The name: `f32` or `f16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Bytes of an element of an activation.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == text);
        found.ok_or_else(|| Error::Config(format!("precision must be f32 or f16, got {text:?}")))
    }
}

/// Where an operator of an `f16` program needs `f32` on a device. The graph converts what comes as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPrecision {
    /// Nowhere.
    Nowhere,
    /// In what it gives: sums over many positions.
    Outputs,
    /// Everywhere, where an input is `f32`; else nowhere. For what adds up and rearranges anything.
    AsInputs,
    /// Everywhere.
    Everywhere,
    /// In the inputs from this position on.
    InputsFrom(usize),
    /// In the inputs from one position on and the outputs from another.
    From {
        /// The first of the inputs.
        inputs: usize,
        /// The first of the outputs.
        outputs: usize,
    },
}
