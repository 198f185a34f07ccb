//! Labelled text from files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::TextError;
use super::lines::lines;

/// How labels and text lie in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// A folder with a file for each class, of a text a line. A class is called as its file without the ending, or where all
    /// files differ in nothing else, as the ending: `rt-polarity.pos` is `pos`.
    ClassFiles,
    /// A file of lines `LABEL text`.
    LabelledLines,
    /// A table with a column of labels and one of text: TSV if the file ends so, else CSV. Needs the cargo feature `tables`.
    Table,
}

/// How labelled text is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextOptions {
    /// The format; if there is none, a folder is one of class files, a file that ends in `.csv` or `.tsv` (and then perhaps
    /// `.gz`) a table, and every other one has labelled lines.
    pub format: Option<TextFormat>,
    /// The table's column of labels, `label` if none is named. A table of two columns without such names has no header and
    /// its labels first.
    pub label_column: Option<String>,
    /// The table's column of text, `text` or `sentence` if none is named.
    pub text_column: Option<String>,
    /// The labels of a model, in its order. Without them there must be two at least.
    pub labels: Option<Vec<String>>,
}

/// A text and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The number of its label.
    pub class: u32,
    /// The text; may be empty where the label stands beside it.
    pub text: String,
}

/// Text of several classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledText {
    /// What the classes are called: in the order given, else in alphabetical order.
    pub labels: Vec<String>,
    /// In the order of the files.
    pub examples: Vec<Example>,
}

/// A text, its label, and where they stand.
pub(super) struct Labelled {
    pub label: String,
    pub text: String,
    pub path: PathBuf,
    pub line: usize,
}

impl LabelledText {
    /// Reads a file or folder. Lines of nothing but white space are left out. Files may be compressed by gzip where there is the
    /// cargo feature `tables`.
    ///
    /// # Errors
    /// [`TextError`], naming file and line: what can't be read, is no UTF-8, has no text, no label or an unknown one, or but one
    /// class.
    pub fn read(path: impl AsRef<Path>, options: &TextOptions) -> Result<Self, TextError> {
        let path = path.as_ref();
        let labelled = match options.format.unwrap_or_else(|| likely_format(path)) {
            TextFormat::ClassFiles => class_files(path)?,
            TextFormat::LabelledLines => labelled_lines(path)?,
            #[cfg(feature = "tables")]
            TextFormat::Table => super::table::read(path, options)?,
            #[cfg(not(feature = "tables"))]
            TextFormat::Table => {
                let reason = "tables are read with the cargo feature \"tables\"; build with it".to_owned();
                return Err(TextError::Line { path: path.into(), line: 1, reason });
            }
        };
        let Some(first) = labelled.first() else { return Err(TextError::Empty { path: path.into() }) };
        let labels: Vec<String> = match &options.labels {
            Some(labels) => labels.clone(),
            None => {
                let labels: BTreeSet<&str> = labelled.iter().map(|labelled| labelled.label.as_str()).collect();
                if labels.len() == 1 {
                    return Err(TextError::OneClass { path: path.into(), label: first.label.clone() });
                }
                labels.into_iter().map(str::to_owned).collect()
            }
        };
        let example = |labelled: Labelled| match labels.iter().position(|label| *label == labelled.label) {
            Some(class) => Ok(Example { class: class as u32, text: labelled.text }),
            None => {
                let Labelled { label, path, line, .. } = labelled;
                Err(TextError::UnknownLabel { path, line, label, known: labels.clone() })
            }
        };
        let examples = labelled.into_iter().map(example).collect::<Result<_, _>>()?;
        Ok(Self { labels, examples })
    }
}

fn likely_format(path: &Path) -> TextFormat {
    if path.is_dir() {
        return TextFormat::ClassFiles;
    }
    match ending(path).as_str() {
        "csv" | "tsv" => TextFormat::Table,
        _ => TextFormat::LabelledLines,
    }
}

/// The ending of a file's name in lower case, that of its contents where it is compressed.
pub(super) fn ending(path: &Path) -> String {
    let ending = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending(path).as_str() {
        "gz" => ending(&path.with_extension("")),
        other => other.to_owned(),
    }
}

fn class_files(folder: &Path) -> Result<Vec<Labelled>, TextError> {
    let failed = |source| TextError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    let stem = |path: &PathBuf| {
        let path = if path.extension().is_some_and(|ending| ending == "gz") { &path.with_extension("") } else { path };
        path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    };
    let stems: BTreeSet<String> = files.iter().map(stem).collect();
    // Classes that differ in their endings alone.
    let by_ending = stems.len() == 1 && files.len() > 1;
    let (mut all, mut of_label) = (Vec::new(), BTreeMap::new());
    for path in files {
        let label = if by_ending { ending(&path) } else { stem(&path) };
        if let Some(first) = of_label.insert(label.clone(), path.clone()) {
            return Err(TextError::OneClassTwice { label, first, second: path });
        }
        let before = all.len();
        let written = lines(&path)?.into_iter().filter(|(_, text)| !text.trim().is_empty());
        all.extend(written.map(|(line, text)| Labelled { label: label.clone(), text, path: path.clone(), line }));
        if all.len() == before {
            return Err(TextError::Empty { path });
        }
    }
    Ok(all)
}

fn labelled_lines(path: &Path) -> Result<Vec<Labelled>, TextError> {
    let written = lines(path)?.into_iter().filter(|(_, text)| !text.trim().is_empty());
    let labelled = written.map(|(line, text)| {
        let (label, text) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        Labelled { label: label.to_owned(), text: text.trim().to_owned(), path: path.into(), line }
    });
    Ok(labelled.collect())
}
