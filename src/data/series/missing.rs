//! What becomes of rows in which a value is missing.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SeriesError;
use super::table::Series;

/// What to do about missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Rows in which a value is missing are not used; no window reaches across them.
    Drop,
    /// The last value before is repeated. The rows before every column's first value are not used.
    Ffill,
}

impl Missing {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Ffill];

    /// The name that [`FromStr`] reads: `drop` or `ffill`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Ffill => "ffill",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Missing {
    type Err = SeriesError;

    fn from_str(name: &str) -> Result<Self, SeriesError> {
        let known = Self::ALL.into_iter().find(|missing| missing.name() == name);
        known.ok_or_else(|| SeriesError::Option {
            name: "missing",
            value: name.to_owned(),
            allowed: "`drop` or `ffill`",
        })
    }
}

/// Applies a policy to the values of a series, in which NaN stands for a missing one: fills them, and finds the runs of
/// rows that have a value in every column.
pub(super) fn resolve(series: &mut Series, policy: Option<Missing>) -> Result<(), SeriesError> {
    let (rows, columns) = (series.rows(), series.names.len());
    let is_missing = |series: &Series, row: usize, column: usize| series.values[row * columns + column].is_nan();
    let present = |series: &Series, column: usize| (0..rows).find(|&row| !is_missing(series, row, column));
    let mut start = 0;
    for column in 0..columns {
        let Some(first) = present(series, column) else {
            return Err(SeriesError::AllMissing {
                path: series.source.clone(),
                first: series.line(0),
                last: series.line(rows - 1),
                column: series.names[column].clone(),
            });
        };
        start = start.max(first);
    }
    let first = series.values.iter().position(|value| value.is_nan());
    match (first, policy) {
        (None, _) => series.segments = std::iter::once(0..rows).collect(),
        (Some(at), None) => {
            return Err(SeriesError::MissingValue {
                path: series.source.clone(),
                line: series.line(at / columns),
                column: series.names[at % columns].clone(),
            });
        }
        (Some(_), Some(Missing::Drop)) => {
            series.segments = complete_runs(&series.values, columns);
            if series.segments.is_empty() {
                let count = |&column: &usize| (0..rows).filter(|&row| is_missing(series, row, column)).count();
                let worst = (0..columns).rev().max_by_key(count).unwrap_or(0);
                return Err(SeriesError::NoCompleteRow {
                    path: series.source.clone(),
                    first: series.line(0),
                    last: series.line(rows - 1),
                    column: series.names[worst].clone(),
                });
            }
        }
        (Some(_), Some(Missing::Ffill)) => {
            for at in columns..series.values.len() {
                if series.values[at].is_nan() {
                    series.values[at] = series.values[at - columns];
                }
            }
            series.segments = std::iter::once(start..rows).collect();
        }
    }
    Ok(())
}

fn complete_runs(values: &[f64], columns: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (row, values) in values.chunks_exact(columns).enumerate() {
        if values.iter().any(|value| value.is_nan()) {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == row) {
            Some(run) => run.end += 1,
            None => runs.push(row..row + 1),
        }
    }
    runs
}
