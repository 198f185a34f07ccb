//! A table of numbers in time order.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::SeriesError;
use super::missing::{self, Missing};

/// What to make of text columns other than dates.
#[cfg(feature = "tables")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextColumns {
    /// They are left out.
    #[default]
    Drop,
    /// A column called `NAME=TEXT` for each different text, in sorted order, which is 1 where the column holds it and 0
    /// elsewhere. At most 64 of them.
    OneHot,
}

/// How a table is read.
#[cfg(feature = "tables")]
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ReadOptions {
    /// The character between columns. If `None`, the one of `,`, `;` and tab that is most often in the first line, or a
    /// space if none is.
    pub delimiter: Option<u8>,
    /// Whether the first line names the columns. If `None`, it does unless one of its fields is a number. Columns without
    /// a name are called `c1`, `c2` …
    pub header: Option<bool>,
    /// What to do about missing values: empty, `NA`, `N/A`, `NaN`, `null` or `?`, in capitals or not. If `None`, they are
    /// an error.
    pub missing: Option<Missing>,
    /// What to make of text. A column is text if one of its values is neither missing nor a number; a column of dates or
    /// times is always left out, and kept aside as [`Series::time`].
    pub text: TextColumns,
    /// Columns to leave out, by name. Missing values in them do not count.
    pub exclude: Vec<String>,
}

/// A column of a file that is not in the series, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftOut {
    /// It was to be left out.
    Excluded,
    /// It holds dates or times.
    Time,
    /// It holds text, of which this is the first, in that line.
    Text {
        /// The line, counted from 1.
        line: usize,
        /// The text.
        text: String,
    },
    /// It holds text, in place of which there is a column for each.
    OneHot,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded => f.write_str("excluded"),
            Self::Time => f.write_str("times"),
            Self::Text { line, text } => write!(f, "text: line {line} holds {text:?}"),
            Self::OneHot => f.write_str("text, with a column for each"),
        }
    }
}

/// Named columns of numbers, row by row in time order.
///
/// Rows with missing values that were dropped still count as rows, so that row numbers stay those of the file; which rows
/// can be used is said by [`Series::segments`].
#[derive(Debug, Clone)]
pub struct Series {
    pub(super) source: PathBuf,
    /// The line of the header, or the first one.
    pub(super) first_line: usize,
    pub(super) names: Vec<String>,
    /// `[rows, columns]`.
    pub(super) values: Vec<f64>,
    pub(super) lines: Vec<usize>,
    pub(super) times: Option<Vec<String>>,
    pub(super) segments: Vec<Range<usize>>,
    pub(super) left_out: Vec<(String, LeftOut)>,
}

impl Series {
    /// Reads a table of text, compressed by gzip or not (its first bytes tell, not its name). Fields may be quoted; empty
    /// lines are skipped; a number has a decimal point.
    ///
    /// # Errors
    /// All of [`SeriesError`] but those of splits and windows.
    #[cfg(feature = "tables")]
    pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self, SeriesError> {
        super::columns::series(path.as_ref(), options)
    }

    /// A series of columns in memory, all of the same length; NaN stands for a missing value. `source` is the name used
    /// in errors.
    ///
    /// # Errors
    /// [`SeriesError::NoNumericColumn`], [`SeriesError::Empty`], [`SeriesError::Ragged`],
    /// [`SeriesError::DuplicateColumn`], [`SeriesError::NotFinite`], and those of missing values.
    pub fn from_columns(
        source: impl Into<PathBuf>,
        columns: Vec<(String, Vec<f64>)>,
        missing: Option<Missing>,
    ) -> Result<Self, SeriesError> {
        let source = source.into();
        let Some(rows) = columns.first().map(|(_, values)| values.len()) else {
            return Err(SeriesError::NoNumericColumn { path: source, line: 1, columns: vec!["none".into()] });
        };
        let shortest = columns.iter().map(|(_, values)| values.len()).min().unwrap_or(0);
        let longest = columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        if shortest != longest {
            let has = |(_, values): &&(String, Vec<f64>)| values.len() > shortest;
            let lacking = columns.iter().find(|column| !has(column)).map(|(name, _)| name.clone());
            return Err(SeriesError::Ragged {
                path: source,
                line: shortest + 1,
                found: columns.iter().filter(has).count(),
                first: 1,
                expected: columns.len(),
                column: lacking.unwrap_or_default(),
                delimiter: ',',
            });
        }
        let mut series = Self {
            source,
            first_line: 1,
            names: columns.iter().map(|(name, _)| name.clone()).collect(),
            values: (0..rows).flat_map(|row| columns.iter().map(move |(_, values)| values[row])).collect(),
            lines: (1..=rows).collect(),
            times: None,
            segments: Vec::new(),
            left_out: Vec::new(),
        };
        series.finish(missing)?;
        Ok(series)
    }

    /// Checks what is there, NaN standing for missing values, and settles those.
    pub(super) fn finish(&mut self, policy: Option<Missing>) -> Result<(), SeriesError> {
        if self.lines.is_empty() {
            return Err(SeriesError::Empty { path: self.source.clone(), line: self.first_line });
        }
        for (column, name) in self.names.iter().enumerate() {
            if self.names[..column].contains(name) {
                let (path, line) = (self.source.clone(), self.first_line);
                return Err(SeriesError::DuplicateColumn { path, line, name: name.clone() });
            }
        }
        let beyond = |value: &f64| value.abs() > f64::from(f32::MAX);
        if let Some(at) = self.values.iter().position(beyond) {
            return Err(SeriesError::NotFinite {
                path: self.source.clone(),
                line: self.line(at / self.names.len()),
                column: self.names[at % self.names.len()].clone(),
                value: self.values[at],
            });
        }
        missing::resolve(self, policy)
    }

    /// The file, or the name given.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows there are, those with missing values included.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The runs of rows without a gap, in order. Everything else has a missing value.
    pub fn segments(&self) -> &[Range<usize>] {
        &self.segments
    }

    /// How many rows are in a segment.
    pub fn usable_rows(&self) -> usize {
        self.segments.iter().map(ExactSizeIterator::len).sum()
    }

    /// The values of a row, in the order of [`Series::names`]; NaN where a value is missing, nothing beyond the end.
    pub fn row(&self, row: usize) -> &[f64] {
        let columns = self.names.len();
        self.values.get(row * columns..(row + 1) * columns).unwrap_or_default()
    }

    /// The line of a row in the file, counted from 1, the header included; for a row beyond the end, the last line.
    pub fn line(&self, row: usize) -> usize {
        self.lines.get(row).or(self.lines.last()).copied().unwrap_or(self.first_line)
    }

    /// What the first column of dates or times says of a row, if there is such a column and row.
    pub fn time(&self, row: usize) -> Option<&str> {
        self.times.as_ref()?.get(row).map(String::as_str)
    }

    /// The columns of the file that are not in the series, and why.
    pub fn left_out(&self) -> &[(String, LeftOut)] {
        &self.left_out
    }

    /// The position of a column.
    ///
    /// # Errors
    /// [`SeriesError::NotANumber`] if it is in the file but holds text, else [`SeriesError::UnknownColumn`].
    pub fn column(&self, name: &str) -> Result<usize, SeriesError> {
        if let Some(column) = self.names.iter().position(|own| own == name) {
            return Ok(column);
        }
        let path = self.source.clone();
        match self.left_out.iter().find(|(own, _)| own == name) {
            Some((column, LeftOut::Text { line, text })) => {
                Err(SeriesError::NotANumber { path, line: *line, column: column.clone(), text: text.clone() })
            }
            Some((column, why)) => {
                let (line, name) = (self.first_line, column.clone());
                Err(SeriesError::LeftOutColumn { path, line, name, why: why.to_string() })
            }
            None => {
                let (line, columns) = (self.first_line, self.names.clone());
                Err(SeriesError::UnknownColumn { path, line, name: name.to_owned(), columns })
            }
        }
    }

    /// The same series with these columns in this order, such as those of a trained model. A one-hot column `NAME=TEXT`
    /// whose text this file does not hold is zero throughout, if the file has other columns `NAME=…`. Which rows can be
    /// used stays as it is.
    ///
    /// # Errors
    /// As [`Series::column`].
    pub fn select(&self, names: &[String]) -> Result<Self, SeriesError> {
        let one_hot = |name: &str| {
            let known = |(column, why): &(String, LeftOut)| {
                *why == LeftOut::OneHot && name.strip_prefix(column.as_str()).is_some_and(|rest| rest.starts_with('='))
            };
            self.left_out.iter().any(known)
        };
        let find = |name: &String| match self.column(name) {
            Err(_) if one_hot(name) => Ok(None),
            found => found.map(Some),
        };
        let columns = names.iter().map(find).collect::<Result<Vec<Option<usize>>, _>>()?;
        let row = |row| columns.iter().map(move |column| column.map_or(0.0, |column| self.row(row)[column]));
        let values = (0..self.rows()).flat_map(row).collect();
        Ok(Self { names: names.to_vec(), values, ..self.clone() })
    }
}
