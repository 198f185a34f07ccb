//! Rows of text as columns of numbers.

use std::collections::BTreeSet;
use std::path::Path;

use super::read::{self, Rows, is_missing, number};
use super::{LeftOut, ReadOptions, Series, SeriesError, TextColumns};

/// Most columns made of a text column.
const MOST_CATEGORIES: usize = 64;

/// What a column of the file holds.
enum Kind {
    Numbers,
    Time,
    /// Line and contents of the first text.
    Text(usize, String),
}

/// A column of the series: a column of the file, and for a one-hot one the text that it stands for.
struct Source {
    name: String,
    column: usize,
    category: Option<String>,
}

pub(super) fn series(path: &Path, options: &ReadOptions) -> Result<Series, SeriesError> {
    let file = read::rows(path, options)?;
    let (path, first_line) = (path.to_path_buf(), file.first_line);
    if let Some(name) = options.exclude.iter().find(|name| !file.names.contains(name)) {
        return Err(SeriesError::UnknownColumn { path, line: first_line, name: name.clone(), columns: file.names });
    }
    for (column, name) in file.names.iter().enumerate() {
        if file.names[..column].contains(name) {
            return Err(SeriesError::DuplicateColumn { path, line: first_line, name: name.clone() });
        }
    }
    let mut left_out = Vec::new();
    let mut sources = Vec::new();
    let mut times = None;
    for (column, name) in file.names.iter().enumerate() {
        let mut leave_out = |why| left_out.push((name.clone(), why));
        if options.exclude.contains(name) {
            leave_out(LeftOut::Excluded);
            continue;
        }
        match (kind(&file, column), options.text) {
            (Kind::Numbers, _) => sources.push(Source { name: name.clone(), column, category: None }),
            (Kind::Time, _) => {
                times.get_or_insert(column);
                leave_out(LeftOut::Time);
            }
            (Kind::Text(line, text), TextColumns::Drop) => leave_out(LeftOut::Text { line, text }),
            (Kind::Text(..), TextColumns::OneHot) => {
                leave_out(LeftOut::OneHot);
                let categories = categories(&file, column).map_err(|line| SeriesError::TooManyCategories {
                    path: path.clone(),
                    line,
                    column: name.clone(),
                    most: MOST_CATEGORIES,
                })?;
                sources.extend(categories.into_iter().map(|text| Source {
                    name: format!("{name}={text}"),
                    column,
                    category: Some(text),
                }));
            }
        }
    }
    if sources.is_empty() {
        let why = |(name, why): &(String, LeftOut)| format!("{name} ({why})");
        let (line, columns) = (file.rows[0].0, left_out.iter().map(why).collect());
        return Err(SeriesError::NoNumericColumn { path, line, columns });
    }
    let mut values = Vec::with_capacity(file.rows.len() * sources.len());
    for (_, fields) in &file.rows {
        values.extend(sources.iter().map(|source| match (&fields[source.column], &source.category) {
            (field, _) if is_missing(field) => f64::NAN,
            (field, Some(category)) => f64::from(u8::from(field == category)),
            (field, None) => number(field).unwrap_or(f64::NAN),
        }));
    }
    let mut series = Series {
        source: path,
        first_line,
        names: sources.into_iter().map(|source| source.name).collect(),
        values,
        lines: file.rows.iter().map(|(line, _)| *line).collect(),
        times: times.map(|column| file.rows.iter().map(|(_, fields)| fields[column].to_owned()).collect()),
        segments: Vec::new(),
        left_out,
    };
    series.finish(options.missing)?;
    Ok(series)
}

fn kind(file: &Rows, column: usize) -> Kind {
    let present = || file.rows.iter().map(|(line, fields)| (*line, &fields[column])).filter(|(_, f)| !is_missing(f));
    match present().find(|(_, field)| number(field).is_none()) {
        None => Kind::Numbers,
        Some(_) if present().all(|(_, field)| number(field).is_none() && is_time(field)) => Kind::Time,
        Some((line, field)) => Kind::Text(line, field.to_owned()),
    }
}

/// Whether a field is a date or a time written in digits, such as `2016-07-01 00:00:00`, `01.07.2016` or `13:05:00`.
fn is_time(field: &str) -> bool {
    let groups = field.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).count();
    groups >= 2
        && field.starts_with(|c: char| c.is_ascii_digit())
        && field.chars().all(|c| c.is_ascii_digit() || "-/.:+ TZ".contains(c))
        && field.contains(['-', '/', '.', ':'])
}

/// The different texts of a column, sorted, or the line of the first one too many.
fn categories(file: &Rows, column: usize) -> Result<BTreeSet<String>, usize> {
    let mut categories = BTreeSet::new();
    for (line, fields) in &file.rows {
        let field = &fields[column];
        if !is_missing(field) && !categories.contains(field) {
            if categories.len() == MOST_CATEGORIES {
                return Err(*line);
            }
            categories.insert(field.to_owned());
        }
    }
    Ok(categories)
}
