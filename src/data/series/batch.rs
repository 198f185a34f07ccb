//! Windows side by side.

use super::Windows;

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
