//! What can go wrong between a table and a window.

use std::path::PathBuf;

use super::Part;

/// An error of a series: what, in which file, line (counted from 1, the header included) and column, and what to do. For
/// a series made in memory the file is its name, and the lines are its rows counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The operating system refused to read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason given by the operating system.
        source: std::io::Error,
    },
    /// A gzip file ends too early.
    #[error(
        "{path} is cut off: its gzip data end too early, in line {line} of the table; copy or download it again",
        path = path.display()
    )]
    CutOff {
        /// The file.
        path: PathBuf,
        /// The last line of which something is there.
        line: usize,
    },
    /// A gzip file whose contents are not what was compressed.
    #[error("{path} is damaged at line {line}: {reason}; copy or download it again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The last line that could be read, or part of it.
        line: usize,
        /// What the decompressor or the reader says.
        reason: String,
    },
    /// The file is not text in UTF-8.
    #[error(
        "{path}, line {line}, column {column}: this is not UTF-8 text; convert the file, for example with iconv",
        path = path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first byte that is wrong.
        line: usize,
        /// The number of its column, counted from 1.
        column: usize,
    },
    /// There is no row.
    #[error("{path}, line {line}: there are no rows; a table needs at least one beside its header", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The line at which a row was expected.
        line: usize,
    },
    /// A row with more or fewer fields than the first line.
    #[error(
        "{path}, line {line}: {found} columns where line {first} has {expected} ({at}); correct or remove the line, or name \
         the delimiter if it is not {delimiter:?}",
        path = path.display(),
        at = ragged_at(*found, *expected, column)
    )]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The row's line.
        line: usize,
        /// How many fields it has.
        found: usize,
        /// The line that says how many there should be.
        first: usize,
        /// How many there should be.
        expected: usize,
        /// The first column that the row lacks, or its first field too many.
        column: String,
        /// The character taken to separate columns.
        delimiter: char,
    },
    /// Two columns of the same name.
    #[error("{path}, line {line}: two columns are called {name:?}; rename one in the header", path = path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The header's line.
        line: usize,
        /// The name.
        name: String,
    },
    /// A column that is not there.
    #[error(
        "{path}, line {line}: no column is called {name:?}; there are {columns}",
        path = path.display(),
        columns = columns.join(", ")
    )]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The line of the header, or the first one.
        line: usize,
        /// The name asked for.
        name: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A column that is there, but not among those of numbers.
    #[error(
        "{path}, line {line}: column {name:?} was left out of the numbers ({why}); forecast another one, or let it in",
        path = path.display()
    )]
    LeftOutColumn {
        /// The file.
        path: PathBuf,
        /// The line of the header, or the first one.
        line: usize,
        /// The column.
        name: String,
        /// Why it was left out.
        why: String,
    },
    /// A value is missing and nothing was said about missing values.
    #[error(
        "{path}, line {line}, column {column}: the value is missing; choose `drop` to leave out the rows in which a value \
         is missing (no window then reaches across them) or `ffill` to repeat the last value, or exclude the column",
        path = path.display()
    )]
    MissingValue {
        /// The file.
        path: PathBuf,
        /// The value's line.
        line: usize,
        /// The column's name.
        column: String,
    },
    /// A column has no value in any row.
    #[error(
        "{path}, lines {first} to {last}, column {column}: all values are missing; exclude the column, or forecast another one",
        path = path.display()
    )]
    AllMissing {
        /// The file.
        path: PathBuf,
        /// The line of the first row.
        first: usize,
        /// The line of the last row.
        last: usize,
        /// The column's name.
        column: String,
    },
    /// No row has a value in every column.
    #[error(
        "{path}, lines {first} to {last}: each row lacks a value in some column, most of them in column {column}; exclude \
         that column, or choose `ffill`",
        path = path.display()
    )]
    NoCompleteRow {
        /// The file.
        path: PathBuf,
        /// The line of the first row.
        first: usize,
        /// The line of the last row.
        last: usize,
        /// The column with the most missing values.
        column: String,
    },
    /// A column that has to hold numbers holds text.
    #[error(
        "{path}, line {line}, column {column}: {text:?} is not a number, so the column is taken as text; correct the value, \
         or choose another column",
        path = path.display()
    )]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// The line of the first value that is no number.
        line: usize,
        /// The column's name.
        column: String,
        /// The value.
        text: String,
    },
    /// A value is infinite, or too large for `f32`.
    #[error(
        "{path}, line {line}, column {column}: {value} is not a finite 32-bit number; correct it, or leave it empty for a \
         missing value",
        path = path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The value's line.
        line: usize,
        /// The column's name.
        column: String,
        /// The value.
        value: f64,
    },
    /// A text column has too many different values to make a column of each.
    #[error(
        "{path}, line {line}, column {column}: more than {most} different texts in a column to be one-hot; exclude the \
         column",
        path = path.display()
    )]
    TooManyCategories {
        /// The file.
        path: PathBuf,
        /// The line of the first text too many.
        line: usize,
        /// The column's name.
        column: String,
        /// How many are allowed.
        most: usize,
    },
    /// No column is left to learn from.
    #[error(
        "{path}, line {line}: no column of numbers is left; there are {columns}",
        path = path.display(),
        columns = columns.join(", ")
    )]
    NoNumericColumn {
        /// The file.
        path: PathBuf,
        /// The line of the first row.
        line: usize,
        /// All columns, each with the reason why it is none.
        columns: Vec<String>,
    },
    /// A part of the series is too short for a single window.
    #[error(
        "{path}, lines {first} to {last}, column {column}: a window takes {needed} rows without a gap (lookback {lookback}, \
         delay {delay} and the row to forecast), and the longest run of the {part} part has {longest}: shorten the lookback \
         or the delay, give that part more rows, or choose `ffill` if values are missing",
        path = path.display()
    )]
    TooFewRows {
        /// The file.
        path: PathBuf,
        /// The line of the part's first row.
        first: usize,
        /// The line of its last row.
        last: usize,
        /// The column to forecast.
        column: String,
        /// Which part.
        part: Part,
        /// Rows that a window takes.
        needed: usize,
        /// Rows that a window looks back.
        lookback: usize,
        /// Rows between the end of the window and the row to forecast.
        delay: usize,
        /// Rows of the longest run without a gap.
        longest: usize,
    },
    /// The split asks for more rows than there are, or leaves a part without rows.
    #[error(
        "{path}, lines {first} to {last}: {rows} rows cannot be split into {split}; each part needs at least one row, and \
         all together no more than there are",
        path = path.display()
    )]
    Split {
        /// The file.
        path: PathBuf,
        /// The line of the first row.
        first: usize,
        /// The line of the last row.
        last: usize,
        /// How many rows there are.
        rows: usize,
        /// The split asked for.
        split: String,
    },
    /// An option is outside its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Option {
        /// The option.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

fn ragged_at(found: usize, expected: usize, column: &str) -> String {
    match found < expected {
        true => format!("column {column} is the first that it lacks"),
        false => format!("its first field too many is {column:?}"),
    }
}
