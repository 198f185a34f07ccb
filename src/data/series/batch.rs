//! Windows side by side, and which ones at which step.

use super::{SeriesError, Windows};
use crate::data::stream;
use crate::random::Random;

/// Some windows. Allocated once and filled in place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WindowBatch {
    rows: usize,
    /// Normalised values, `[rows, steps, features]`.
    pub input: Vec<f32>,
    /// Normalised values to forecast, `[rows]`.
    pub target: Vec<f32>,
    /// `[rows]`: 1 for a row that counts, 0 for one that only fills the last batch of an evaluation.
    pub weight: Vec<f32>,
}

impl WindowBatch {
    /// Room for `rows` windows.
    pub fn new(rows: usize, windows: &Windows) -> Self {
        let mut batch = Self::default();
        batch.fit(rows, windows);
        batch
    }

    /// How many windows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn fit(&mut self, rows: usize, windows: &Windows) {
        self.rows = rows;
        self.input.resize(rows * windows.steps() * windows.features(), 0.0);
        self.target.resize(rows, 0.0);
        self.weight.resize(rows, 0.0);
    }
}

impl Windows {
    /// Fills a batch with these windows, a row for each. A window beyond the last is taken as the last.
    pub fn fill(&self, windows: &[usize], batch: &mut WindowBatch) {
        batch.fit(windows.len(), self);
        let size = self.steps() * self.features();
        for (row, (&window, input)) in windows.iter().zip(batch.input.chunks_exact_mut(size)).enumerate() {
            self.write(window, input);
            batch.target[row] = self.target(window);
        }
        batch.weight.fill(1.0);
    }

    /// Fills a batch with the next windows in time order: row `b` of batch `index` holds window `index · rows + b`.
    /// Returns how many rows count; further ones repeat the last window and have a weight of 0.
    pub fn fill_in_order(&self, index: usize, batch: &mut WindowBatch) -> usize {
        let rows = batch.rows;
        let first = index.saturating_mul(rows);
        let windows: Vec<usize> = (0..rows).map(|row| first.saturating_add(row)).collect();
        self.fill(&windows, batch);
        let count = self.len().saturating_sub(first).min(rows);
        batch.weight[count..].fill(0.0);
        count
    }

    /// How many batches of `rows` windows an evaluation takes.
    pub fn batches(&self, rows: usize) -> usize {
        self.len().div_ceil(rows.max(1))
    }
}

/// Which windows are trained on at which step: a pure function of (seed, step), so that the step number is all there is
/// to save and a resumed run sees the same batches.
///
/// Rows are counted through: row `b` of step `s` is number `s · batch + b`. Every window comes once in as many numbers as
/// there are windows, in a random order of its own each time; a batch may straddle two such rounds.
#[derive(Debug, Clone)]
pub struct WindowSchedule {
    seed: u64,
    batch: usize,
    windows: usize,
    /// The round drawn last, and its order.
    drawn: Option<(u64, Vec<u32>)>,
}

impl WindowSchedule {
    /// The schedule of `batch` windows a step.
    ///
    /// # Errors
    /// [`SeriesError::Option`] if `batch` is 0, or there are more windows than a `u32` counts.
    pub fn new(seed: u64, windows: &Windows, batch: usize) -> Result<Self, SeriesError> {
        if batch == 0 {
            return Err(SeriesError::Option { name: "batch", value: "0".into(), allowed: "at least 1 window" });
        }
        if u32::try_from(windows.len()).is_err() {
            let value = windows.len().to_string();
            return Err(SeriesError::Option {
                name: "windows", value, allowed: "at most 2³² − 1; raise the stride"
            });
        }
        Ok(Self { seed, batch, windows: windows.len(), drawn: None })
    }

    /// Steps that it takes to see as many windows as there are, rounded up.
    pub fn steps_per_round(&self) -> usize {
        self.windows.div_ceil(self.batch)
    }

    /// The windows of a step, one for each row. Takes `&mut self` only to keep the order of the current round.
    pub fn windows(&mut self, step: u64) -> Vec<usize> {
        let (batch, windows) = (self.batch as u128, self.windows as u128);
        let number = |row: usize| u128::from(step) * batch + row as u128;
        let mut window = |number| self.order((number / windows) as u64)[(number % windows) as usize] as usize;
        (0..batch as usize).map(|row| window(number(row))).collect()
    }

    /// Fills a batch with the windows of a step.
    pub fn fill(&mut self, windows: &Windows, step: u64, batch: &mut WindowBatch) {
        windows.fill(&self.windows(step), batch);
    }

    fn order(&mut self, round: u64) -> &[u32] {
        if self.drawn.as_ref().is_none_or(|drawn| drawn.0 != round) {
            self.drawn = None;
        }
        let (seed, windows) = (self.seed, self.windows);
        let draw = || (round, Random::new(seed, stream::WINDOWS, round as u32).permutation(windows));
        &self.drawn.get_or_insert_with(draw).1
    }
}
