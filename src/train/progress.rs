//! What a training run is told and what it tells.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::optim::Schedule;

/// Settings of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerOptions {
    /// The full learning rate. Default 1e-3.
    pub learning_rate: f32,
    /// Its course over the steps. Default constant.
    pub schedule: Schedule,
    /// Names the starting weights, the order of the data and all other random numbers. Default 0.
    pub seed: u64,
    /// Steps from one validation to the next; 0 for none. Default 0.
    pub valid_every: u64,
    /// Steps from one checkpoint to the next; 0 for one at the end of each run only. Default 1,000.
    pub checkpoint_every: u64,
    /// The file for checkpoints, each taking the place of the one before; nothing for none. Default nothing.
    pub checkpoint: Option<PathBuf>,
    /// Steps from one [`Event::Step`] to the next; 0 for none. Every loss is checked in any case. Default 1.
    pub log_every: u64,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            schedule: Schedule::default(),
            seed: 0,
            valid_every: 0,
            checkpoint_every: 1000,
            checkpoint: None,
            log_every: 1,
        }
    }
}

impl TrainerOptions {
    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Config`], naming what is out of its range.
    pub fn validate(&self) -> Result<()> {
        if !(self.learning_rate.is_finite() && self.learning_rate >= 0.0) {
            return Err(Error::Config(format!("learning_rate must be 0 or positive, got {}", self.learning_rate)));
        }
        self.schedule.validate()
    }
}

/// When a run ends; what comes first counts. With neither it ends when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Steps of the whole training, those before a resumption included.
    pub steps: Option<u64>,
    /// Time of this run.
    pub time: Option<Duration>,
}

impl Limit {
    /// So many steps in all.
    pub fn steps(steps: u64) -> Self {
        Self { steps: Some(steps), time: None }
    }
}

/// What happens during a run, in the order of the steps.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A step's metrics came back, some steps late.
    Step {
        /// The step, counted from 0.
        step: u64,
        /// Its loss, in nats; finite.
        loss: f32,
        /// The L2 norm of its gradient before clipping; finite but where a training in `f16` left the step out.
        grad_norm: f32,
        /// In a training in `f16`: how the loss was scaled.
        scaling: Option<Scaling>,
        /// Its learning rate.
        learning_rate: f32,
        /// Targets a second over the last second or more; validations and checkpoints don't count.
        samples_per_second: f64,
        /// Time since the run began, in seconds.
        seconds: f64,
    },
    /// The validation loss was computed.
    Validated {
        /// Steps made.
        step: u64,
        /// The mean loss over the validation data, in nats.
        loss: f32,
        /// Time since the run began, in seconds.
        seconds: f64,
    },
    /// A checkpoint was saved.
    Saved {
        /// Steps made.
        step: u64,
        /// The file.
        path: PathBuf,
    },
}

/// How the loss of a training in `f16` is scaled; see [`LossScale`](crate::optim::LossScale).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// The factor of this step.
    pub scale: f32,
    /// Steps left out so far, this one included.
    pub skipped: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All steps are made.
    Finished,
    /// It was stopped.
    Stopped,
    /// The time is up.
    TimeUp,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Steps made in all.
    pub step: u64,
    /// Why it ended.
    pub reason: Reason,
    /// The loss of the last step; nothing if there was none since the trainer was made.
    pub loss: Option<f32>,
    /// The time that the run took, in seconds.
    pub seconds: f64,
}

/// Steps a second over a sliding window of at least a second.
#[derive(Debug)]
pub(super) struct Meter {
    /// Marks (when, steps), at least [`APART`](Self::APART) from each other; the first is the window's beginning.
    marks: VecDeque<(Instant, u64)>,
}

impl Meter {
    const APART: Duration = Duration::from_secs(1);

    pub fn new(now: Instant, steps: u64) -> Self {
        Self { marks: VecDeque::from([(now, steps)]) }
    }

    /// The rate once `steps` are made.
    pub fn rate(&mut self, now: Instant, steps: u64) -> f64 {
        let (since, before) = self.marks[0];
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let last = self.marks[self.marks.len() - 1].0;
        if now.saturating_duration_since(last) >= Self::APART {
            self.marks.push_back((now, steps));
            if self.marks.len() > 2 {
                self.marks.pop_front();
            }
        }
        if seconds > 0.0 { (steps - before) as f64 / seconds } else { 0.0 }
    }

    /// Leaves out time in which no step was made.
    pub fn pause(&mut self, time: Duration) {
        for (mark, _) in &mut self.marks {
            *mark += time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_and_pauses_do_not_count() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start, 100);
        assert_eq!(meter.rate(start, 100), 0.0);
        assert_eq!(meter.rate(at(500), 105), 10.0);
        assert_eq!(meter.rate(at(1000), 110), 10.0);
        // Twice as fast from here: the old rate is forgotten after two more marks.
        for ms in (1100..=3000).step_by(100) {
            meter.rate(at(ms), 110 + (ms - 1000) / 50);
        }
        assert_eq!(meter.rate(at(3500), 160), 20.0);
        meter.pause(Duration::from_secs(10));
        assert_eq!(meter.rate(at(14_000), 170), 20.0);
    }
}
