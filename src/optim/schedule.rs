//! Learning rates over the steps of a run.

use serde::{Deserialize, Serialize};

use super::config::check;
use crate::error::Result;

/// The learning rate of each step: a warmup, then a decay. The default is constant.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Steps over which the rate grows in equal parts; the last of them has the full rate. None by default.
    pub warmup: u64,
    /// What follows.
    pub decay: Decay,
}

/// How the learning rate falls after the warmup. Constant by default.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Decay {
    /// Not at all.
    #[default]
    Constant,
    /// Multiplied by `factor` after each `every` steps.
    Step {
        /// Steps of one rate.
        every: u64,
        /// From one rate to the next.
        factor: f64,
    },
    /// Multiplied by `factor` after each step.
    Exponential {
        /// From one step to the next.
        factor: f64,
    },
    /// Half a cosine (Loshchilov and Hutter 2017, without restarts) from the full rate to `floor`.
    Cosine {
        /// The step of the run, warmup included, from which on the rate is the lowest.
        total: u64,
        /// The lowest rate as a share of the full one.
        floor: f64,
    },
    /// A straight line from the full rate to `floor`.
    Linear {
        /// The step of the run, warmup included, from which on the rate is the lowest.
        total: u64,
        /// The lowest rate as a share of the full one.
        floor: f64,
    },
}

impl Schedule {
    /// The learning rate of a step, counted from 0, where `base` is the full rate. A pure function, so that a resumed
    /// run goes on as it would have.
    pub fn learning_rate(&self, base: f32, step: u64) -> f32 {
        if step < self.warmup {
            return (f64::from(base) * (step + 1) as f64 / self.warmup as f64) as f32;
        }
        let after = step - self.warmup;
        let progress = |total: u64| (after as f64 / total.saturating_sub(self.warmup).max(1) as f64).min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { every, factor } => factor.powf((after / every.max(1)) as f64),
            Decay::Exponential { factor } => factor.powf(after as f64),
            Decay::Cosine { total, floor } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress(total)).cos())
            }
            Decay::Linear { total, floor } => 1.0 - (1.0 - floor) * progress(total),
        };
        (f64::from(base) * share) as f32
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming what is out of its range.
    pub fn validate(&self) -> Result<()> {
        let positive = |factor: f64| check("factor", factor, "positive", factor > 0.0 && factor.is_finite());
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { every, factor } => {
                check("every", every, "at least 1", every > 0)?;
                positive(factor)
            }
            Decay::Exponential { factor } => positive(factor),
            Decay::Cosine { total, floor } | Decay::Linear { total, floor } => {
                check("total", total, "more steps than the warmup", total > self.warmup)?;
                check("floor", floor, "from 0 to 1", (0.0..=1.0).contains(&floor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(warmup: u64, decay: Decay, steps: &[u64]) -> Vec<f32> {
        let schedule = Schedule { warmup, decay };
        schedule.validate().unwrap();
        steps.iter().map(|&step| schedule.learning_rate(0.5, step)).collect()
    }

    #[test]
    fn warmup_grows_to_the_full_rate() {
        assert_eq!(rates(4, Decay::Constant, &[0, 1, 2, 3, 4, u64::MAX]), [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
        assert_eq!(rates(0, Decay::Constant, &[0, 9]), [0.5, 0.5]);
    }

    #[test]
    fn decays_begin_after_the_warmup() {
        let step = Decay::Step { every: 10, factor: 0.5 };
        assert_eq!(rates(2, step, &[1, 2, 11, 12, 22]), [0.5, 0.5, 0.5, 0.25, 0.125]);
        let exponential = Decay::Exponential { factor: 0.25 };
        assert_eq!(rates(2, exponential, &[1, 2, 3, 4]), [0.5, 0.5, 0.125, 0.03125]);
        assert_eq!(rates(0, exponential, &[u64::MAX]), [0.0]);
        let linear = Decay::Linear { total: 12, floor: 0.2 };
        assert_eq!(rates(2, linear, &[1, 2, 7, 12, 13, u64::MAX]), [0.5, 0.5, 0.3, 0.1, 0.1, 0.1]);
        let cosine = Decay::Cosine { total: 12, floor: 0.2 };
        assert_eq!(rates(2, cosine, &[1, 2, 7, 12, 13]), [0.5, 0.5, 0.3, 0.1, 0.1]);
        // A third of the way a cosine has lost a quarter.
        let cosine = Decay::Cosine { total: 9, floor: 0.0 };
        assert_eq!(rates(0, cosine, &[0, 3, 6, 9]), [0.5, 0.375, 0.125, 0.0]);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let wrong = [
            (Decay::Step { every: 0, factor: 0.5 }, "every"),
            (Decay::Step { every: 1, factor: 0.0 }, "factor"),
            (Decay::Exponential { factor: f64::NAN }, "factor"),
            (Decay::Cosine { total: 5, floor: 0.0 }, "total"),
            (Decay::Linear { total: 6, floor: 1.5 }, "floor"),
        ];
        for (decay, word) in wrong {
            let error = Schedule { warmup: 5, decay }.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn json_round_trip() {
        let text = r#"{"warmup": 100, "decay": {"cosine": {"total": 1000, "floor": 0.1}}}"#;
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(schedule, Schedule { warmup: 100, decay: Decay::Cosine { total: 1000, floor: 0.1 } });
        assert_eq!(serde_json::from_str::<Schedule>(&serde_json::to_string(&schedule).unwrap()).unwrap(), schedule);
        assert_eq!(serde_json::from_str::<Schedule>("{}").unwrap(), Schedule::default());
    }
}
