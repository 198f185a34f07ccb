//! From files to tokens.

use std::fs;
use std::path::{Path, PathBuf};

use super::{END_OF_LINE, Text, TextError, Tokens, Unit};
use crate::data::text::lines::{Lines, open};

/// The file of a part in a folder.
pub(super) fn find(folder: &Path, part: &'static str) -> Result<PathBuf, TextError> {
    let failed = |source| TextError::Io { path: folder.to_owned(), source };
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let stem = plain.strip_suffix(".txt");
        if stem.is_some_and(|stem| stem.rsplit('.').next() == Some(part)) {
            found.push(name);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Err(TextError::Missing { path: folder.to_owned(), part }),
        [name] => Ok(folder.join(name)),
        [first, second, ..] => {
            let (first, second) = (first.clone(), second.clone());
            Err(TextError::Several { path: folder.to_owned(), part, first, second })
        }
    }
}

/// The tokens of a file; new ones are added to the vocabulary.
pub(super) fn tokens(path: &Path, unit: Unit, vocabulary: &mut Tokens) -> Result<Text, TextError> {
    if unit == Unit::Bytes {
        return bytes(path, vocabulary);
    }
    let indented = unit == Unit::Characters && is_indented(path)?;
    let mut lines = Lines::open(path)?;
    let (mut text, mut one) = (Text::default(), [0; 4]);
    while let Some(of_line) = lines.read()? {
        match unit {
            Unit::Words => {
                let words = of_line.split_whitespace().chain([END_OF_LINE]);
                text.ids.extend(words.map(|word| vocabulary.add(word)));
            }
            _ => {
                let characters = of_line.chars().skip(usize::from(indented));
                text.ids.extend(characters.map(|character| vocabulary.add(character.encode_utf8(&mut one))));
            }
        }
        text.lines.push(text.ids.len());
    }
    Ok(text)
}

/// Tokens of bytes are named by the character of the same number.
fn bytes(path: &Path, vocabulary: &mut Tokens) -> Result<Text, TextError> {
    let (mut text, mut all, mut one) = (Text::default(), Vec::new(), [0; 4]);
    open(path)?.read_to_end(&mut all).map_err(|source| TextError::Io { path: path.to_owned(), source })?;
    for (at, &byte) in all.iter().enumerate() {
        text.ids.push(vocabulary.add(char::from(byte).encode_utf8(&mut one)));
        if byte == b'\n' || at + 1 == all.len() {
            text.lines.push(text.ids.len());
        }
    }
    Ok(text)
}

/// Whether all lines begin with a space.
fn is_indented(path: &Path) -> Result<bool, TextError> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.read()? {
        if !line.starts_with(' ') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// 90, 5 and 5 % of a text: of its lines for words, else of its tokens. Line ends follow the tokens.
pub(super) fn split(text: Text, unit: Unit) -> [Text; 3] {
    let cut = |percent: usize| match unit {
        Unit::Words => match text.lines.len() * percent / 100 {
            0 => 0,
            lines => text.lines[lines - 1],
        },
        _ => text.ids.len() * percent / 100,
    };
    let cuts = [0, cut(90), cut(95), text.ids.len()];
    [0, 1, 2].map(|part| {
        let (first, end) = (cuts[part], cuts[part + 1]);
        let ids = text.ids[first..end].to_vec();
        let inside = text.lines.iter().filter(|&&line| line > first && line <= end).map(|line| line - first);
        let mut lines: Vec<usize> = inside.collect();
        if lines.last().copied().unwrap_or(0) < ids.len() {
            lines.push(ids.len());
        }
        Text { ids, lines }
    })
}
