//! What a training leaves behind: a line an epoch, and its result.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use receptive::train::Evaluation;
use serde::{Deserialize, Serialize};

use crate::args::{ModelKind, TaskKind};
use crate::language::Measured;
use crate::shared::record;

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    pub steps: u64,
    /// The mean loss of its steps.
    pub train_loss: f64,
    /// The loss on the part to choose by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_loss: Option<f64>,
    pub test_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accuracy: Option<f64>,
    /// Of a language model: the losses as perplexity or bits per character.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub measured: Option<Measured>,
    pub learning_rate: f32,
    /// Time of training so far, over all runs; evaluations don't count.
    pub seconds: f64,
}

impl Epoch {
    /// What learning rates follow.
    pub fn chosen_by(&self) -> f32 {
        self.valid_loss.unwrap_or(self.test_loss) as f32
    }
}

/// `epoch.json`: an epoch that was stopped in its midst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Steps made in all.
    pub step: u64,
    /// The sum of the losses of the epoch's steps so far.
    pub loss: f64,
    /// Time that they took.
    pub seconds: f64,
}

impl UnderWay {
    pub const FILE: &str = "epoch.json";

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE);
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n").with_context(|| path.display().to_string())
    }

    /// What was left at a step; nothing where no epoch was stopped there.
    pub fn read(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let left: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(if left.step == step { left } else { Self::default() })
    }
}

/// Reads the lines up to a step.
pub fn read(path: &Path, steps: u64) -> Result<Vec<Epoch>> {
    let epochs: Vec<Epoch> = record::read(path)?;
    Ok(epochs.into_iter().filter(|epoch| epoch.steps <= steps).collect())
}

/// `result.json`: what trainings with several seeds reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub task: TaskKind,
    pub model: ModelKind,
    pub settings: String,
    /// What differs from these settings, as it was told: `--length 10`.
    #[serde(default)]
    pub told: Vec<String>,
    pub parameters: usize,
    pub receptive_field: Option<usize>,
    pub device: String,
    pub outcomes: Vec<Outcome>,
}

/// What a training reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    pub epochs: u64,
    pub seconds: f64,
    /// The result on the test part: after the epoch that is best on the part to choose by, or the mean of the last three epochs
    /// where there is none, as the paper's authors do.
    pub loss: f64,
    pub accuracy: Option<f64>,
}

impl Outcome {
    pub fn of(seed: u64, epochs: &[Epoch]) -> Option<Self> {
        let last = epochs.last()?;
        let counted: Vec<&Epoch> = match last.valid_loss {
            Some(_) => epochs.iter().min_by(|a, b| a.chosen_by().total_cmp(&b.chosen_by())).into_iter().collect(),
            None => epochs.iter().rev().take(3).collect(),
        };
        let mean =
            |of: &dyn Fn(&Epoch) -> f64| counted.iter().map(|epoch| of(epoch)).sum::<f64>() / counted.len() as f64;
        let accuracy = last.accuracy.map(|_| mean(&|epoch| epoch.accuracy.unwrap_or(f64::NAN)));
        let loss = mean(&|epoch| epoch.test_loss);
        Some(Self { seed, epochs: last.epoch, seconds: last.seconds, loss, accuracy })
    }
}

impl RunResult {
    /// Mean and standard deviation over the seeds; the deviation is nothing for one seed.
    pub fn spread(&self, of: impl Fn(&Outcome) -> f64) -> (f64, Option<f64>) {
        record::spread(&self.outcomes.iter().map(of).collect::<Vec<_>>())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

/// Such as `0.0123 (97.5 %)`.
pub fn describe(evaluation: &Evaluation) -> String {
    match evaluation.accuracy {
        Some(accuracy) => format!("{:.4} ({:.2} %)", evaluation.loss, accuracy * 100.0),
        None => number(evaluation.loss),
    }
}

/// Small numbers by their digits that count.
pub fn number(value: f64) -> String {
    if value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.4}") }
}
