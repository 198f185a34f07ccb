//! A series in three parts, in time order.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Normalisation, Series, SeriesError, WindowOptions, Windows};

/// A part of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first part, to learn from.
    Train,
    /// The second, to choose by.
    Valid,
    /// The last, to measure by.
    Test,
    /// All of it.
    Whole,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Valid => "validation",
            Self::Test => "test",
            Self::Whole => "only",
        })
    }
}

/// How long the three parts are. What is left over at the end is not used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesSplit {
    /// As fractions of the rows: training, validation, test.
    Fractions([f64; 3]),
    /// In rows: training, validation, test.
    Rows([usize; 3]),
}

impl Default for SeriesSplit {
    /// A half, a quarter, a quarter.
    fn default() -> Self {
        Self::Fractions([0.5, 0.25, 0.25])
    }
}

impl fmt::Display for SeriesSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fractions([train, valid, test]) => write!(f, "{train},{valid},{test}"),
            Self::Rows([train, valid, test]) => write!(f, "{train},{valid},{test}"),
        }
    }
}

impl FromStr for SeriesSplit {
    type Err = SeriesError;

    /// Three numbers with commas between them: rows if all are whole, else fractions.
    fn from_str(text: &str) -> Result<Self, SeriesError> {
        fn three<T: FromStr>(text: &str) -> Option<[T; 3]> {
            let numbers: Option<Vec<T>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
            numbers?.try_into().ok()
        }
        let split = three(text).map(Self::Rows).or_else(|| three(text).map(Self::Fractions));
        split.filter(Self::is_possible).ok_or_else(|| SeriesError::Option {
            name: "split",
            value: text.to_owned(),
            allowed: Self::ALLOWED,
        })
    }
}

impl SeriesSplit {
    const ALLOWED: &str = "three numbers above 0, for training, validation and test: rows such as 8640,2880,2880, or \
                           fractions that sum to at most 1, such as 0.5,0.25,0.25";

    fn is_possible(&self) -> bool {
        match self {
            // A little more than 1 is a sum of rounded numbers.
            Self::Fractions(parts) => parts.iter().all(|part| *part > 0.0) && parts.iter().sum::<f64>() <= 1.0 + 1e-9,
            Self::Rows(parts) => parts.iter().all(|part| *part > 0),
        }
    }

    /// The rows of training, validation and test.
    ///
    /// # Errors
    /// [`SeriesError::Option`] if the numbers make no sense, [`SeriesError::Split`] if the series has too few rows.
    pub fn ranges(&self, series: &Series) -> Result<[Range<usize>; 3], SeriesError> {
        if !self.is_possible() {
            return Err(SeriesError::Option { name: "split", value: self.to_string(), allowed: Self::ALLOWED });
        }
        let rows = series.rows();
        let end = |parts: usize| match self {
            Self::Fractions(fractions) => {
                let sum: f64 = fractions[..parts].iter().sum();
                Some(((sum.min(1.0) * rows as f64).round() as usize).min(rows))
            }
            Self::Rows(counts) => counts[..parts].iter().try_fold(0usize, |sum, count| sum.checked_add(*count)),
        };
        match (end(1), end(2), end(3)) {
            (Some(train), Some(valid), Some(test)) if 0 < train && train < valid && valid < test && test <= rows => {
                Ok([0..train, train..valid, valid..test])
            }
            _ => Err(SeriesError::Split {
                path: series.source().into(),
                first: series.line(0),
                last: series.line(rows),
                rows,
                split: self.to_string(),
            }),
        }
    }
}

/// The windows of the three parts, normalised by the first. A window belongs to a part if all of its rows and the row to
/// forecast do.
#[derive(Debug, Clone)]
pub struct SeriesParts {
    /// Mean and deviation over the training part.
    pub normalisation: Normalisation,
    /// Windows to learn from.
    pub train: Windows,
    /// Windows to choose by.
    pub valid: Windows,
    /// Windows to measure by.
    pub test: Windows,
}

impl SeriesParts {
    /// Splits a series for forecasts of the column `target`.
    ///
    /// # Errors
    /// Those of [`SeriesSplit::ranges`] and [`Windows::new`].
    pub fn new(
        series: &Series,
        target: &str,
        split: &SeriesSplit,
        options: &WindowOptions,
    ) -> Result<Self, SeriesError> {
        let [train, valid, test] = split.ranges(series)?;
        let normalisation = Normalisation::of(series, train.clone());
        let first = Windows::new(series, target, &normalisation, (Part::Train, train), options)?;
        let valid = first.of_part(series, Part::Valid, valid)?;
        let test = first.of_part(series, Part::Test, test)?;
        Ok(Self { normalisation, train: first, valid, test })
    }
}
