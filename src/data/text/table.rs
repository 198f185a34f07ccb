//! Labelled text from the columns of a table.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::labelled::{Labelled, ending};
use super::lines::lines;
use super::{TextError, TextOptions};

const LABELS: &[&str] = &["label"];
const TEXTS: &[&str] = &["text", "sentence"];

/// Reads a table. Quotes in TSV are letters as any other.
pub(super) fn read(path: &Path, options: &TextOptions) -> Result<Vec<Labelled>, TextError> {
    let tabs = ending(path) == "tsv";
    let text = lines(path)?.into_iter().map(|(_, line)| line + "\n").collect::<String>();
    let bytes = text.as_bytes();
    let mut reader = ReaderBuilder::new()
        .delimiter(if tabs { b'\t' } else { b',' })
        .quoting(!tabs)
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut all = Vec::new();
    let mut columns = None;
    let mut record = StringRecord::new();
    // The reader's own count of lines leaves out empty ones before a row.
    let (mut line, mut counted) = (1, 0);
    loop {
        let start = reader.position().byte() as usize;
        let failed = |reason: String| TextError::Line { path: path.into(), line, reason };
        if !reader.read_record(&mut record).map_err(|error| failed(error.to_string()))? {
            return Ok(all);
        }
        let start = start + bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += bytes[counted..start].iter().filter(|&&byte| byte == b'\n').count();
        counted = start;
        let failed = |reason: String| TextError::Line { path: path.into(), line, reason };
        let (label_at, text_at) = match columns {
            Some(columns) => columns,
            None => {
                let (found, header) = find(&record, options).map_err(failed)?;
                columns = Some(found);
                if header {
                    continue;
                }
                found
            }
        };
        let (Some(label), Some(text)) = (record.get(label_at), record.get(text_at)) else {
            let (needed, found) = (label_at.max(text_at) + 1, record.len());
            return Err(failed(format!(
                "{found} columns where at least {needed} are needed; correct or remove the line"
            )));
        };
        if label.trim().is_empty() {
            return Err(failed("there is no label; correct or remove the line".into()));
        }
        all.push(Labelled { label: label.trim().to_owned(), text: text.trim().to_owned(), path: path.into(), line });
    }
}

/// The columns of label and text, and whether the first row is a header.
fn find(first: &StringRecord, options: &TextOptions) -> Result<((usize, usize), bool), String> {
    let position = |name: &Option<String>, usual: &[&str]| {
        let named = |field: &str| match name {
            Some(name) => field.trim() == name,
            None => usual.iter().any(|usual| field.trim().eq_ignore_ascii_case(usual)),
        };
        first.iter().position(named)
    };
    let label = position(&options.label_column, LABELS);
    let text = position(&options.text_column, TEXTS);
    match (label, text) {
        (Some(label), Some(text)) => Ok(((label, text), true)),
        (None, None) if first.len() == 2 && options.label_column.is_none() && options.text_column.is_none() => {
            Ok(((0, 1), false))
        }
        (label, _) => {
            let (missing, usual) = match label {
                None => (options.label_column.as_deref(), LABELS),
                Some(_) => (options.text_column.as_deref(), TEXTS),
            };
            let missing = missing.map_or_else(|| usual.join(" or "), str::to_owned);
            let there: Vec<&str> = first.iter().collect();
            Err(format!(
                "there is no column {missing} in the header ({}); name the column that it is",
                there.join(", ")
            ))
        }
    }
}
