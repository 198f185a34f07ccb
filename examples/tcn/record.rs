//! What a training leaves behind: a line an epoch, and its result.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use receptive::train::Evaluation;
use serde::{Deserialize, Serialize};

use crate::args::{ModelKind, TaskKind};

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

/// Appends a line, or writes several anew.
pub fn write(path: &Path, epochs: &[Epoch], anew: bool) -> Result<()> {
    let file = OpenOptions::new().create(true).write(true).append(!anew).truncate(anew).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    let lines: Vec<String> = epochs.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    lines.iter().try_for_each(|line| writeln!(file, "{line}")).with_context(|| path.display().to_string())
}

/// Reads the lines up to a step.
pub fn read(path: &Path, steps: u64) -> Result<Vec<Epoch>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let epochs = text.lines().enumerate().map(|(at, line)| {
        serde_json::from_str::<Epoch>(line).with_context(|| format!("{}: line {}", path.display(), at + 1))
    });
    let epochs: Vec<Epoch> = epochs.collect::<Result<_>>()?;
    Ok(epochs.into_iter().filter(|epoch| epoch.steps <= steps).collect())
}

/// `result.json`: what trainings with several seeds reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub task: TaskKind,
    pub model: ModelKind,
    pub settings: String,
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
        let values: Vec<f64> = self.outcomes.iter().map(of).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (mean, (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt()))
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
