//! Which optimizer, and its hyperparameters.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::State;

/// An optimizer. The default is Adam with PyTorch's defaults, without clipping.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// How gradients become updates.
    pub method: Method,
    /// The largest L2 norm of all gradients together: they are multiplied by `min(1, clip_norm / (norm + 1e-6))`
    /// (Pascanu et al. 2013, as in `torch.nn.utils.clip_grad_norm_`). No clipping by default.
    pub clip_norm: Option<f32>,
    /// Averages all parameters over the updates, with this decay in (0, 1): `a ← a + max(1 − decay, 1 / t)(w − a)` after the `t`-th
    /// update, the mean of all until they are `1 / (1 − decay)` and an exponential moving average from then on (Polyak and Juditsky
    /// 1992). A [`Trainer`](crate::train::Trainer) then validates and saves the model with the averages. One pass more over all
    /// parameters, frozen and sparse ones too. None by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
}

/// Without clipping and averages.
impl From<Method> for OptimizerConfig {
    fn from(method: Method) -> Self {
        Self { method, clip_norm: None, average: None }
    }
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
    /// RMSprop.
    #[serde(rename = "rmsprop")]
    RmsProp(RmsProp),
    /// Adagrad.
    Adagrad(Adagrad),
    /// Adadelta.
    Adadelta(Adadelta),
}

impl Method {
    /// What it keeps from step to step, in the order in which the update takes it.
    pub(super) fn states(&self) -> Vec<State> {
        match *self {
            Self::Adam(_) => vec![State::FirstMoment, State::SecondMoment],
            Self::Sgd(sgd) => (sgd.momentum > 0.0).then_some(State::FirstMoment).into_iter().collect(),
            Self::RmsProp(RmsProp { momentum, centered, .. }) => [State::SecondMoment]
                .into_iter()
                .chain((momentum > 0.0).then_some(State::FirstMoment))
                .chain(centered.then_some(State::GradientMean))
                .collect(),
            Self::Adagrad(_) => vec![State::SecondMoment],
            Self::Adadelta(_) => vec![State::SecondMoment, State::FirstMoment],
        }
    }

    /// Whether what has a gradient of 0 stays as it is, with all that is kept of it: only then may parameters be
    /// [sparse](crate::graph::Graph::sparse). So it is of stochastic gradient descent without momentum and of Adagrad, both without
    /// weight decay; the others have means that fade in every step.
    pub fn keeps_still(&self) -> bool {
        match self {
            Self::Sgd(sgd) => sgd.momentum == 0.0 && sgd.weight_decay == 0.0,
            Self::Adagrad(adagrad) => adagrad.weight_decay == 0.0,
            Self::Adam(_) | Self::RmsProp(_) | Self::Adadelta(_) => false,
        }
    }
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

/// RMSprop (Hinton 2012) as `torch.optim.RMSprop` has it, `g` the clipped gradient:
///
/// `g ← g + weight_decay · w`, `v ← alpha · v + (1 − alpha) g²`, `u ← g / (√v + eps)`, `m ← momentum · m + u`, `w ← w − lr · m`.
/// Centered (Graves 2013), `a ← alpha · a + (1 − alpha) g` and `√(v − a²)` stands for `√v`.
///
/// Keras' RMSprop is the same formula with `alpha` 0.9 (its `rho`) and `eps` 1e-7, and a learning rate of 1e-3 by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// Decay of the mean of the squared gradients, in [0, 1); 0.99 by default. An `f64` as in [`Adam`].
    pub alpha: f64,
    /// Added to the root of that mean, positive; 1e-8 by default.
    pub eps: f32,
    /// Share of the last update in the next, in [0, 1); 0 by default, which needs no memory.
    pub momentum: f32,
    /// Whether the mean of the gradients is taken off, so that their variance is what divides; not by default.
    pub centered: bool,
    /// Weight decay of the parameters that have it, added to their gradients; 0 by default.
    pub weight_decay: f32,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }
}

/// Adagrad (Duchi et al. 2011) as `torch.optim.Adagrad` has it, `g` the clipped gradient:
///
/// `g ← g + weight_decay · w`, `v ← v + g²`, `w ← w − lr / (1 + (t − 1) lr_decay) · g / (√v + eps)` at the `t`-th update, from 1, where
/// `v` begins with `initial_accumulator_value`, which is left out of the state that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adagrad {
    /// How fast the learning rate falls; 0 by default.
    pub lr_decay: f32,
    /// What the sums of squares begin with; 0 by default.
    pub initial_accumulator_value: f32,
    /// Added to the root of the sum of the squares, positive; 1e-10 by default.
    pub eps: f32,
    /// Weight decay of the parameters that have it, added to their gradients; 0 by default.
    pub weight_decay: f32,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { lr_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10, weight_decay: 0.0 }
    }
}

/// Adadelta (Zeiler 2012) as `torch.optim.Adadelta` has it, `g` the clipped gradient:
///
/// `g ← g + weight_decay · w`, `v ← rho · v + (1 − rho) g²`, `u ← √(s + eps) / √(v + eps) · g`, `s ← rho · s + (1 − rho) u²`,
/// `w ← w − lr · u`. The paper's learning rate is 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adadelta {
    /// Decay of both means of squares, in [0, 1); 0.9 by default. An `f64` as in [`Adam`].
    pub rho: f64,
    /// Added to both before their roots are taken, positive; 1e-6 by default.
    pub eps: f32,
    /// Weight decay of the parameters that have it, added to their gradients; 0 by default.
    pub weight_decay: f32,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
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
                positive("eps", adam.eps)?;
                adam.weight_decay
            }
            Method::Sgd(sgd) => {
                below_one("momentum", f64::from(sgd.momentum))?;
                let nesterov = !sgd.nesterov || sgd.momentum > 0.0;
                check("momentum", sgd.momentum, "positive with Nesterov's momentum", nesterov)?;
                sgd.weight_decay
            }
            Method::RmsProp(rmsprop) => {
                below_one("alpha", rmsprop.alpha)?;
                positive("eps", rmsprop.eps)?;
                below_one("momentum", f64::from(rmsprop.momentum))?;
                rmsprop.weight_decay
            }
            Method::Adagrad(adagrad) => {
                not_negative("lr_decay", adagrad.lr_decay)?;
                not_negative("initial_accumulator_value", adagrad.initial_accumulator_value)?;
                positive("eps", adagrad.eps)?;
                adagrad.weight_decay
            }
            Method::Adadelta(adadelta) => {
                below_one("rho", adadelta.rho)?;
                positive("eps", adadelta.eps)?;
                adadelta.weight_decay
            }
        };
        not_negative("weight_decay", weight_decay)?;
        if let Some(norm) = self.clip_norm {
            check("clip_norm", norm, "positive (none for no clipping)", norm > 0.0 && norm.is_finite())?;
        }
        if let Some(decay) = self.average {
            check("average", decay, "above 0 and below 1 (none for no averages)", decay > 0.0 && decay < 1.0)?;
        }
        Ok(())
    }
}

/// Not below the smallest normal number: what is smaller may count as 0 on a GPU.
fn positive(name: &str, value: f32) -> Result<()> {
    check(name, value, "positive", value >= f32::MIN_POSITIVE && value.is_finite())
}

fn not_negative(name: &str, value: f32) -> Result<()> {
    check(name, value, "0 or positive", value >= 0.0 && value.is_finite())
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
        assert_eq!(config, OptimizerConfig { clip_norm: Some(0.5), ..Method::Sgd(sgd).into() });
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<OptimizerConfig>(&again).unwrap(), config);
        let text = r#"{"method": {"rmsprop": {"alpha": 0.9, "centered": true}}}"#;
        let config: OptimizerConfig = serde_json::from_str(text).unwrap();
        let rmsprop = RmsProp { alpha: 0.9, centered: true, ..RmsProp::default() };
        assert_eq!(config.method, Method::RmsProp(rmsprop));
        for method in [Method::Adagrad(Adagrad::default()), Method::Adadelta(Adadelta::default()), config.method] {
            let config = OptimizerConfig::from(method);
            let again = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<OptimizerConfig>(&again).unwrap(), config);
        }
        let misspelt = serde_json::from_str::<OptimizerConfig>(r#"{"method": {"adam": {"beta": 0.9}}}"#);
        assert!(misspelt.unwrap_err().to_string().contains("beta1"));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let adam = |change: fn(&mut Adam)| {
            let mut adam = Adam::default();
            change(&mut adam);
            OptimizerConfig::from(Method::Adam(adam))
        };
        let sgd = |momentum, nesterov, weight_decay| OptimizerConfig {
            ..Method::Sgd(Sgd { momentum, nesterov, weight_decay }).into()
        };
        let of = OptimizerConfig::from;
        let rmsprop = |change: fn(&mut RmsProp)| {
            let mut rmsprop = RmsProp::default();
            change(&mut rmsprop);
            of(Method::RmsProp(rmsprop))
        };
        let adagrad = |change: fn(&mut Adagrad)| {
            let mut adagrad = Adagrad::default();
            change(&mut adagrad);
            of(Method::Adagrad(adagrad))
        };
        let adadelta = |rho, eps| of(Method::Adadelta(Adadelta { rho, eps, weight_decay: 0.0 }));
        let clip = |norm| OptimizerConfig { clip_norm: Some(norm), ..Default::default() };
        let wrong = [
            (adam(|a| a.beta1 = 1.0), "beta1"),
            (adam(|a| a.beta2 = f64::NAN), "beta2"),
            (adam(|a| a.eps = 0.0), "eps"),
            (adam(|a| a.weight_decay = -0.1), "weight_decay"),
            (sgd(1.0, false, 0.0), "momentum"),
            (sgd(0.0, true, 0.0), "Nesterov"),
            (sgd(0.0, false, f32::INFINITY), "weight_decay"),
            (rmsprop(|r| r.alpha = 1.0), "alpha"),
            (rmsprop(|r| r.eps = -1.0), "eps"),
            (rmsprop(|r| r.momentum = 1.0), "momentum"),
            (rmsprop(|r| r.weight_decay = f32::NAN), "weight_decay"),
            (adagrad(|a| a.lr_decay = -0.1), "lr_decay"),
            (adagrad(|a| a.initial_accumulator_value = f32::INFINITY), "initial_accumulator_value"),
            (adagrad(|a| a.eps = 0.0), "eps"),
            (adagrad(|a| a.weight_decay = -1.0), "weight_decay"),
            (adadelta(-0.1, 1e-6), "rho"),
            (adadelta(0.9, 0.0), "eps"),
            (clip(0.0), "clip_norm"),
            (clip(f32::NAN), "clip_norm"),
        ];
        for (config, word) in wrong {
            let error = config.validate().unwrap_err();
            assert!(matches!(&error, Error::Config(message) if message.contains(word)), "{error}");
        }
        for config in [
            rmsprop(|_| ()),
            adagrad(|_| ()),
            adadelta(0.0, 1e-6),
            adam(|a| a.beta1 = 0.0),
            sgd(0.9, true, 0.01),
            sgd(0.0, false, 0.0),
            clip(1.0),
        ] {
            config.validate().unwrap();
        }
    }
}
