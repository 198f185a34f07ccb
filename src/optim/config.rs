//! Which optimizer, and its hyperparameters.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An optimizer. The default is Adam with PyTorch's defaults, without clipping.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// How gradients become updates.
    pub method: Method,
    /// The largest L2 norm of all gradients together: they are multiplied by `min(1, clip_norm / (norm + 1e-6))`
    /// (Pascanu et al. 2013, as in `torch.nn.utils.clip_grad_norm_`). No clipping by default.
    pub clip_norm: Option<f32>,
}

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Adam, or AdamW where it has weight decay.
    Adam(Adam),
    /// Stochastic gradient descent.
    Sgd(Sgd),
}

impl Default for Method {
    fn default() -> Self {
        Self::Adam(Adam::default())
    }
}

/// Adam (Kingma and Ba 2015) with decoupled weight decay (AdamW: Loshchilov and Hutter 2019), `g` the clipped gradient:
///
/// `w ← (1 − lr · weight_decay) w`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `w ← w − lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)` at the `t`-th update, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the mean of the gradients, in [0, 1); 0.9 by default. An `f64`, as `1 − β` would lose digits otherwise.
    pub beta1: f64,
    /// Decay of the mean of their squares, in [0, 1); 0.999 by default.
    pub beta2: f64,
    /// Added to the root of the mean of the squares, positive; 1e-8 by default.
    pub eps: f32,
    /// Decoupled weight decay of the parameters that have it; 0 by default.
    pub weight_decay: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Stochastic gradient descent as `torch.optim.SGD` has it, `g` the clipped gradient:
///
/// `g ← g + weight_decay · w`, `m ← momentum · m + g`, `w ← w − lr · m`,
/// or with Nesterov's momentum (Sutskever et al. 2013) `w ← w − lr · (g + momentum · m)`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Share of the last update in the next, in [0, 1); 0 by default, which needs no memory.
    pub momentum: f32,
    /// Nesterov's momentum; not by default.
    pub nesterov: bool,
    /// Weight decay of the parameters that have it, added to their gradients; 0 by default.
    pub weight_decay: f32,
}

impl OptimizerConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Config`], naming what is out of its range.
    pub fn validate(&self) -> Result<()> {
        let weight_decay = match self.method {
            Method::Adam(adam) => {
                below_one("beta1", adam.beta1)?;
                below_one("beta2", adam.beta2)?;
                // The smallest normal number: what is smaller may count as 0 on a GPU.
                check("eps", adam.eps, "positive", adam.eps >= f32::MIN_POSITIVE && adam.eps.is_finite())?;
                adam.weight_decay
            }
            Method::Sgd(sgd) => {
                below_one("momentum", f64::from(sgd.momentum))?;
                let nesterov = !sgd.nesterov || sgd.momentum > 0.0;
                check("momentum", sgd.momentum, "positive with Nesterov's momentum", nesterov)?;
                sgd.weight_decay
            }
        };
        check("weight_decay", weight_decay, "0 or positive", weight_decay >= 0.0 && weight_decay.is_finite())?;
        if let Some(norm) = self.clip_norm {
            check("clip_norm", norm, "positive (none for no clipping)", norm > 0.0 && norm.is_finite())?;
        }
        Ok(())
    }
}

fn below_one(name: &str, value: f64) -> Result<()> {
    check(name, value, "at least 0 and below 1", (0.0..1.0).contains(&value))
}

pub(super) fn check(name: &str, value: impl std::fmt::Display, range: &str, holds: bool) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config(format!("{name} must be {range}, got {value}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_may_leave_out_what_is_default() {
        let config: OptimizerConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, OptimizerConfig::default());
        let text = r#"{"method": {"sgd": {"momentum": 0.9}}, "clip_norm": 0.5}"#;
        let config: OptimizerConfig = serde_json::from_str(text).unwrap();
        let sgd = Sgd { momentum: 0.9, ..Sgd::default() };
        assert_eq!(config, OptimizerConfig { method: Method::Sgd(sgd), clip_norm: Some(0.5) });
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<OptimizerConfig>(&again).unwrap(), config);
        let misspelt = serde_json::from_str::<OptimizerConfig>(r#"{"method": {"adam": {"beta": 0.9}}}"#);
        assert!(misspelt.unwrap_err().to_string().contains("beta1"));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let adam = |change: fn(&mut Adam)| {
            let mut adam = Adam::default();
            change(&mut adam);
            OptimizerConfig { method: Method::Adam(adam), clip_norm: None }
        };
        let sgd = |momentum, nesterov, weight_decay| OptimizerConfig {
            method: Method::Sgd(Sgd { momentum, nesterov, weight_decay }),
            clip_norm: None,
        };
        let clip = |norm| OptimizerConfig { clip_norm: Some(norm), ..Default::default() };
        let wrong = [
            (adam(|a| a.beta1 = 1.0), "beta1"),
            (adam(|a| a.beta2 = f64::NAN), "beta2"),
            (adam(|a| a.eps = 0.0), "eps"),
            (adam(|a| a.weight_decay = -0.1), "weight_decay"),
            (sgd(1.0, false, 0.0), "momentum"),
            (sgd(0.0, true, 0.0), "Nesterov"),
            (sgd(0.0, false, f32::INFINITY), "weight_decay"),
            (clip(0.0), "clip_norm"),
            (clip(f32::NAN), "clip_norm"),
        ];
        for (config, word) in wrong {
            let error = config.validate().unwrap_err();
            assert!(matches!(&error, Error::Config(message) if message.contains(word)), "{error}");
        }
        for config in [adam(|a| a.beta1 = 0.0), sgd(0.9, true, 0.01), sgd(0.0, false, 0.0), clip(1.0)] {
            config.validate().unwrap();
        }
    }
}
