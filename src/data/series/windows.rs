//! Stretches of a series, and for each the value to forecast.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ForecastError, Normalisation, Part, Series, SeriesError};

/// Which rows a window reads and which it is to forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOptions {
    /// Rows that a window looks back: the one at row `i` reads rows `i − lookback .. i`. A multiple of `step`.
    pub lookback: usize,
    /// It reads every so many rows of them: `i − lookback`, `i − lookback + step` … `i − step`.
    pub step: usize,
    /// It is to forecast row `i + delay`, which is `delay + step` rows after the last one read.
    pub delay: usize,
    /// Rows between two windows of a part.
    pub stride: usize,
}

impl WindowOptions {
    /// Rows that a window reads.
    pub fn steps(&self) -> usize {
        self.lookback / self.step.max(1)
    }

    /// Rows from the first one read to the one to forecast, both counted.
    fn span(&self) -> usize {
        self.lookback.saturating_add(self.delay).saturating_add(1)
    }

    fn check(&self) -> Result<(), SeriesError> {
        let wrong = |name, value: usize, allowed| Err(SeriesError::Option { name, value: value.to_string(), allowed });
        match *self {
            Self { lookback: 0, .. } => wrong("lookback", 0, "at least 1 row"),
            Self { step: 0, .. } => wrong("step", 0, "at least 1 row"),
            Self { stride: 0, .. } => wrong("stride", 0, "at least 1 row"),
            Self { lookback, step, .. } if !lookback.is_multiple_of(step) => {
                wrong("lookback", lookback, "a multiple of step, so that every window reads as many rows")
            }
            _ => Ok(()),
        }
    }
}

/// The windows of a part of a series, in time order. Those of several parts share one copy of the values.
#[derive(Debug, Clone)]
pub struct Windows {
    shared: Arc<Shared>,
    part: Part,
    /// The rows `i` of the windows of each run without a gap, and how many windows come before them.
    runs: Vec<(usize, Range<usize>)>,
    len: usize,
}

#[derive(Debug)]
struct Shared {
    /// Normalised, `[rows, columns]`.
    values: Vec<f32>,
    columns: usize,
    target: usize,
    deviation: f64,
    mean: f64,
    segments: Vec<Range<usize>>,
    options: WindowOptions,
}

impl Windows {
    /// The windows that lie, with the row to forecast, within the rows of `part` and have no gap.
    ///
    /// # Errors
    /// [`SeriesError::Option`] for options out of range or a normalisation of another number of columns, the errors of
    /// [`Series::column`] for the target, [`SeriesError::TooFewRows`] if there is no such window; [`SeriesError::Option`] too if
    /// there are more than a `u32` counts.
    pub fn new(
        series: &Series,
        target: &str,
        normalisation: &Normalisation,
        part: (Part, Range<usize>),
        options: &WindowOptions,
    ) -> Result<Self, SeriesError> {
        let shared = Shared::new(series, target, normalisation, options)?;
        Self::over(Arc::new(shared), series, part.0, part.1)
    }

    /// The windows of another part of the same series.
    pub(super) fn of_part(&self, series: &Series, part: Part, rows: Range<usize>) -> Result<Self, SeriesError> {
        Self::over(Arc::clone(&self.shared), series, part, rows)
    }

    fn over(shared: Arc<Shared>, series: &Series, part: Part, rows: Range<usize>) -> Result<Self, SeriesError> {
        let WindowOptions { lookback, delay, stride, .. } = shared.options;
        let needed = shared.options.span();
        let (mut runs, mut len, mut longest) = (Vec::new(), 0, 0);
        for segment in &shared.segments {
            let run = segment.start.max(rows.start)..segment.end.min(rows.end);
            longest = longest.max(run.len());
            if run.len() >= needed {
                runs.push((len, run.start + lookback..run.end - delay));
                len += (run.end - delay - run.start - lookback).div_ceil(stride);
            }
        }
        if len == 0 {
            return Err(SeriesError::TooFewRows {
                path: series.source().into(),
                first: series.line(rows.start),
                last: series.line(rows.end.saturating_sub(1)),
                column: series.names()[shared.target].clone(),
                part,
                needed,
                lookback,
                delay,
                longest,
            });
        }
        if u32::try_from(len).is_err() {
            let value = format!("{stride}, which gives {len} windows,");
            return Err(SeriesError::Option {
                name: "stride",
                value,
                allowed: "large enough for at most 2³² − 1 windows",
            });
        }
        Ok(Self { shared, part, runs, len })
    }

    /// How many windows there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Which part of the series this is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Which rows a window reads and forecasts.
    pub fn options(&self) -> &WindowOptions {
        &self.shared.options
    }

    /// Rows that a window reads: the length of its input.
    pub fn steps(&self) -> usize {
        self.shared.options.steps()
    }

    /// Columns of the input.
    pub fn features(&self) -> usize {
        self.shared.columns
    }

    /// Which of the columns is to be forecast.
    pub fn target_column(&self) -> usize {
        self.shared.target
    }

    /// The standard deviation of the target column, in its own unit: an error in normalised units times this is one in
    /// the column's unit.
    pub fn deviation(&self) -> f64 {
        self.shared.deviation
    }

    /// A normalised value of the target column in the column's own unit.
    pub fn in_units(&self, value: f32) -> f64 {
        self.shared.in_units(value)
    }

    /// The row `i` of a window: it reads rows before it and is to forecast row `i + delay`. A window beyond the last
    /// is taken as the last.
    pub fn row(&self, window: usize) -> usize {
        let window = window.min(self.len - 1);
        let run = self.runs.partition_point(|(before, _)| *before <= window) - 1;
        let (before, rows) = &self.runs[run];
        rows.start + (window - before) * self.shared.options.stride
    }

    /// The row that a window is to forecast.
    pub fn target_row(&self, window: usize) -> usize {
        self.row(window) + self.shared.options.delay
    }

    /// The normalised value that a window is to forecast.
    pub fn target(&self, window: usize) -> f32 {
        self.shared.target_at(self.target_row(window))
    }

    /// The naive forecast, normalised: the last value of the target column that the window reads.
    pub fn naive(&self, window: usize) -> f32 {
        self.shared.target_at(self.row(window) - self.shared.options.step)
    }

    /// The error of the naive forecast over all windows, in deviations; [`ForecastError::scaled`] by
    /// [`Windows::deviation`] in the column's own unit.
    pub fn naive_error(&self) -> ForecastError {
        ForecastError::of((0..self.len).map(|window| (self.naive(window).into(), self.target(window).into())))
    }

    /// Writes a window's input, normalised, `[steps, features]`.
    pub(super) fn write(&self, window: usize, to: &mut [f32]) {
        self.shared.write(self.row(window), to);
    }
}

/// What windows of a series read, whether or not it holds the rows that they are to forecast.
#[derive(Debug, Clone)]
pub struct WindowInputs {
    shared: Arc<Shared>,
}

impl WindowInputs {
    /// Those of a whole series.
    ///
    /// # Errors
    /// [`SeriesError::Option`] for options out of range or a normalisation of another number of columns, the errors of
    /// [`Series::column`] for the target.
    pub fn new(
        series: &Series,
        target: &str,
        normalisation: &Normalisation,
        options: &WindowOptions,
    ) -> Result<Self, SeriesError> {
        Ok(Self { shared: Arc::new(Shared::new(series, target, normalisation, options)?) })
    }

    /// The normalised input `[steps, features]` of the window that ends before row `row`. Nothing if it would begin before
    /// the series, end after it, or reach across a gap.
    pub fn before(&self, row: usize) -> Option<Vec<f32>> {
        let WindowOptions { lookback, .. } = self.shared.options;
        let start = row.checked_sub(lookback)?;
        let whole = self.shared.segments.iter().any(|run| run.start <= start && row <= run.end);
        whole.then(|| {
            let mut input = vec![0.0; self.shared.options.steps() * self.shared.columns];
            self.shared.write(row, &mut input);
            input
        })
    }

    /// A normalised value of the target column in the column's own unit.
    pub fn in_units(&self, value: f32) -> f64 {
        self.shared.in_units(value)
    }
}

impl Shared {
    fn new(
        series: &Series,
        target: &str,
        normalisation: &Normalisation,
        options: &WindowOptions,
    ) -> Result<Self, SeriesError> {
        options.check()?;
        let target = series.column(target)?;
        let columns = series.names().len();
        if normalisation.mean.len() != columns || normalisation.deviation.len() != columns {
            let value = format!("that of {} columns", normalisation.mean.len());
            return Err(SeriesError::Option { name: "normalisation", value, allowed: "that of the series' columns" });
        }
        let row = |row| series.row(row).iter().enumerate().map(|(column, value)| normalisation.apply(column, *value));
        Ok(Self {
            values: (0..series.rows()).flat_map(row).collect(),
            columns,
            target,
            deviation: normalisation.deviation[target],
            mean: normalisation.mean[target],
            segments: series.segments().to_vec(),
            options: *options,
        })
    }

    fn in_units(&self, value: f32) -> f64 {
        f64::from(value) * self.deviation + self.mean
    }

    fn target_at(&self, row: usize) -> f32 {
        self.values[row * self.columns + self.target]
    }

    fn write(&self, row: usize, to: &mut [f32]) {
        let rows = (row - self.options.lookback..row).step_by(self.options.step);
        for (to, row) in to.chunks_exact_mut(self.columns).zip(rows) {
            to.copy_from_slice(&self.values[row * self.columns..(row + 1) * self.columns]);
        }
    }
}
