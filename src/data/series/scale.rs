//! Mean and standard deviation, and errors measured in them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Series;

/// Mean and standard deviation of each column, over the rows of the training part alone: what comes later is not to be
/// known in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// The mean of each column, in its own unit.
    pub mean: Vec<f64>,
    /// The standard deviation of each column (the mean of squares, not the unbiased estimate); 1 for a column that is
    /// constant.
    pub deviation: Vec<f64>,
}

impl Normalisation {
    /// That of the usable rows among `rows`. Without any, the mean is 0 and the deviation 1.
    pub fn of(series: &Series, rows: Range<usize>) -> Self {
        let used = || {
            let inside = series.segments().iter().flat_map(|run| run.start.max(rows.start)..run.end.min(rows.end));
            inside.map(|row| series.row(row))
        };
        let count = used().count().max(1) as f64;
        let (mut mean, mut deviation) = (Vec::new(), Vec::new());
        for column in 0..series.names().len() {
            let own = || used().map(move |row| row[column]);
            let average = own().sum::<f64>() / count;
            let variance = own().map(|value| (value - average).powi(2)).sum::<f64>() / count;
            let first = own().next();
            // A constant column's mean may be off by a rounding, which would do as a deviation.
            let constant = own().all(|value| Some(value) == first);
            mean.push(if constant { first.unwrap_or(0.0) } else { average });
            deviation.push(if constant { 1.0 } else { variance.sqrt() });
        }
        Self { mean, deviation }
    }

    /// A value of a column, in deviations from its mean.
    pub fn apply(&self, column: usize, value: f64) -> f32 {
        ((value - self.mean[column]) / self.deviation[column]) as f32
    }

    /// The inverse: a value in the column's own unit.
    pub fn undo(&self, column: usize, value: f32) -> f64 {
        f64::from(value) * self.deviation[column] + self.mean[column]
    }
}

/// How far forecasts are from what came.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ForecastError {
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// How many forecasts there are.
    pub count: usize,
}

impl ForecastError {
    /// That of pairs of forecast and truth; 0 if there are none.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (mut absolute, mut squared, mut count) = (0.0, 0.0, 0usize);
        for (forecast, truth) in pairs {
            absolute += (forecast - truth).abs();
            squared += (forecast - truth).powi(2);
            count += 1;
        }
        let n = count.max(1) as f64;
        Self { mae: absolute / n, rmse: (squared / n).sqrt(), count }
    }

    /// The same in another unit: an error in deviations times the column's deviation is one in the column's unit.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { mae: self.mae * factor, rmse: self.rmse * factor, ..self }
    }
}
