//! `metrics.jsonl`: what a training run measured, an object a line.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A line: the loss of a step (counted from 1), or a validation after it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Line {
    pub step: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grad_norm: Option<f32>,
    /// With `--precision f16`, the factor of the loss, and the steps left out so far because gradients overflowed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss_scale: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub skipped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_loss: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub samples_per_second: Option<f64>,
    /// Time of training, over all runs.
    pub seconds: f64,
}

/// The file and all its lines.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: BufWriter<File>,
    pub lines: Vec<Line>,
    /// Seconds of the runs before this one.
    before: f64,
}

impl MetricsFile {
    /// A new file, or with `resumed_at` the old one without what came after that step, which will be made again.
    pub fn open(path: &Path, resumed_at: Option<u64>) -> Result<Self> {
        let mut lines = Vec::new();
        if let Some(step) = resumed_at {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()));
            lines.retain(|line| line.step <= step);
        }
        // The old file goes only when the new one has all that is kept of it.
        let temporary = path.with_extension("jsonl.tmp");
        let file = File::create(&temporary).with_context(|| path.display().to_string())?;
        let before = lines.last().map_or(0.0, |line| line.seconds);
        let mut metrics = Self { path: path.into(), file: BufWriter::new(file), lines: vec![], before };
        for line in lines {
            metrics.write(line)?;
        }
        metrics.flush()?;
        std::fs::rename(&temporary, path).with_context(|| path.display().to_string())?;
        Ok(metrics)
    }

    /// Appends a line; `seconds` of it are those of this run.
    pub fn push(&mut self, line: Line) -> Result<()> {
        self.write(Line { seconds: self.before + line.seconds, ..line })
    }

    fn write(&mut self, line: Line) -> Result<()> {
        let text = serde_json::to_string(&line)?;
        writeln!(self.file, "{text}").with_context(|| self.path.display().to_string())?;
        self.lines.push(line);
        Ok(())
    }

    /// Makes sure that everything is on disk.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| self.path.display().to_string())
    }

    /// Training losses by step.
    pub fn training(&self) -> Vec<(u64, f32)> {
        self.lines.iter().filter_map(|line| Some((line.step, line.loss?))).collect()
    }

    /// Validation losses by step.
    pub fn validation(&self) -> Vec<(u64, f32)> {
        self.lines.iter().filter_map(|line| Some((line.step, line.valid_loss?))).collect()
    }

    /// Steps left out because gradients overflowed.
    pub fn skipped(&self) -> u64 {
        self.lines.iter().rev().find_map(|line| line.skipped).unwrap_or(0)
    }

    /// Time of training, over all runs.
    pub fn seconds(&self) -> f64 {
        self.lines.last().map_or(self.before, |line| line.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_file_forgets_what_will_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step, seconds| Line { step, loss: Some(1.0), seconds, ..Line::default() };
        let mut metrics = MetricsFile::open(&path, None).unwrap();
        for step in 1..=5 {
            metrics.push(line(step, step as f64)).unwrap();
        }
        metrics.flush().unwrap();
        drop(metrics);
        let mut metrics = MetricsFile::open(&path, Some(3)).unwrap();
        metrics.push(line(4, 0.5)).unwrap();
        metrics.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let seconds: Vec<f64> = text.lines().map(|l| serde_json::from_str::<Line>(l).unwrap().seconds).collect();
        assert_eq!(seconds, [1.0, 2.0, 3.0, 3.5]);
    }
}
