//! A file of text as rows of fields.

use std::io::Read as _;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use flate2::bufread::MultiGzDecoder;

use super::{ReadOptions, SeriesError};

/// The rows of a file.
pub(super) struct Rows {
    pub names: Vec<String>,
    /// The line of the header, or of the first row.
    pub first_line: usize,
    /// Fields and line of each row.
    pub rows: Vec<(usize, StringRecord)>,
}

/// Reads the file whole: a row of the wrong length is an error wherever it stands.
pub(super) fn rows(path: &Path, options: &ReadOptions) -> Result<Rows, SeriesError> {
    let text = text(path, options)?;
    let delimiter = options.delimiter.unwrap_or_else(|| likely_delimiter(&text));
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut all: Vec<(usize, StringRecord)> = Vec::new();
    // The reader's own count of lines leaves out empty ones before a row.
    let (mut line, mut counted) = (1, 0);
    let mut record = StringRecord::new();
    loop {
        let start = reader.position().byte() as usize;
        let more = reader.read_record(&mut record).map_err(|error| SeriesError::Damaged {
            path: path.into(),
            line,
            reason: error.to_string(),
        })?;
        if !more {
            break;
        }
        let bytes = text.as_bytes();
        let start = start + bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += bytes[counted..start].iter().filter(|&&byte| byte == b'\n').count();
        counted = start;
        if let Some((first, expected)) = all.first().filter(|(_, first)| first.len() != record.len()) {
            let (names, _) = names(expected, options);
            let lacking = names.get(record.len()).cloned();
            return Err(SeriesError::Ragged {
                path: path.into(),
                line,
                found: record.len(),
                first: *first,
                expected: expected.len(),
                column: lacking.unwrap_or_else(|| record[expected.len()].to_owned()),
                delimiter: char::from(delimiter),
            });
        }
        all.push((line, record.clone()));
    }
    let Some((first_line, first)) = all.first() else {
        return Err(SeriesError::Empty { path: path.into(), line: 1 });
    };
    let first_line = *first_line;
    let (names, is_header) = names(first, options);
    if is_header {
        all.remove(0);
    }
    if all.is_empty() {
        return Err(SeriesError::Empty { path: path.into(), line: first_line + 1 });
    }
    Ok(Rows { names, first_line, rows: all })
}

/// The names of the columns, and whether the first row holds them.
fn names(first: &StringRecord, options: &ReadOptions) -> (Vec<String>, bool) {
    let names_something = || first.iter().any(|field| !is_missing(field)) && first.iter().all(|f| number(f).is_none());
    let is_header = options.header.unwrap_or_else(names_something);
    let name = |(column, field): (usize, &str)| match is_header && !field.is_empty() {
        true => field.to_owned(),
        false => format!("c{}", column + 1),
    };
    (first.iter().enumerate().map(name).collect(), is_header)
}

/// A number, an infinite one included; not NaN, which stands for a missing value.
pub(super) fn number(field: &str) -> Option<f64> {
    field.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// Whether a field says that its value is missing.
pub(super) fn is_missing(field: &str) -> bool {
    field.is_empty() || ["NA", "N/A", "NaN", "null", "?"].iter().any(|missing| field.eq_ignore_ascii_case(missing))
}

fn text(path: &Path, options: &ReadOptions) -> Result<String, SeriesError> {
    let bytes = std::fs::read(path).map_err(|source| SeriesError::Io { path: path.into(), source })?;
    let mut bytes = if bytes.starts_with(&[0x1f, 0x8b]) { decompressed(path, &bytes)? } else { bytes };
    // The mark of some editors that the text is UTF-8.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let delimiter = options.delimiter.unwrap_or_else(|| likely_delimiter(&text));
        let own = text.rsplit('\n').next().unwrap_or_default();
        let column = own.bytes().filter(|&byte| byte == delimiter).count() + 1;
        SeriesError::NotUtf8 { path: path.into(), line: text.matches('\n').count() + 1, column }
    })
}

fn decompressed(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, SeriesError> {
    let mut text = Vec::new();
    match MultiGzDecoder::new(bytes).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => {
            let path = path.to_path_buf();
            let line = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
            Err(match error.kind() {
                std::io::ErrorKind::UnexpectedEof => SeriesError::CutOff { path, line },
                _ => SeriesError::Damaged { path, line, reason: error.to_string() },
            })
        }
    }
}

/// The delimiter of which the first line has the most, outside quotes.
fn likely_delimiter(text: &str) -> u8 {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let (mut quoted, mut spaces) = (false, 0);
    for byte in line.trim().bytes() {
        quoted ^= byte == b'"';
        spaces += usize::from(byte == b' ' && !quoted);
        if let Some((_, count)) = counts.iter_mut().find(|(own, _)| *own == byte && !quoted) {
            *count += 1;
        }
    }
    let most = counts.iter().rev().max_by_key(|(_, count)| *count).copied().unwrap_or_default();
    match most.1 {
        0 if spaces > 0 => b' ',
        0 => b',',
        _ => most.0,
    }
}
