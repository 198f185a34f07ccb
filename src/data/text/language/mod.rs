//! Text for language models: words, characters or bytes as classes, and windows of them.
//!
//! ```text
//! train.txt valid.txt test.txt ──Corpus::read──▶ Corpus { vocabulary, parts } ──┬─ Streams: what comes next, at every position
//! (or one file)                                                                └─ Passages: the last word of each line
//! ```

mod passages;
mod read;
mod streams;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::{TextError, Tokens};

pub use passages::Passages;
pub use streams::Streams;

/// What text is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// What lies between white space, and [`END_OF_LINE`] after each line.
    Words,
    /// Unicode characters, line ends among them. Where all lines of a file begin with a space, as those of the Penn Treebank do,
    /// it is left out.
    Characters,
    /// Bytes, whatever they mean.
    Bytes,
}

/// The word that ends each line.
pub const END_OF_LINE: &str = "<eos>";

/// The parts of a corpus.
pub const PARTS: [&str; 3] = ["train", "valid", "test"];

/// A part of a corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Where each line ends: tokens up to there, its end among them.
    pub lines: Vec<usize>,
}

/// A text in three parts, with the vocabulary of all of them, as Bai et al. (2018) and their predecessors have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// Tokens of all parts: those of the training first.
    pub vocabulary: Tokens,
    /// To train with.
    pub train: Text,
    /// To choose by.
    pub valid: Text,
    /// To tell how good a model is.
    pub test: Text,
}

impl Corpus {
    /// Reads a folder with a text for each part, `train.txt`, `valid.txt` and `test.txt` or names that end so after a dot
    /// (`ptb.train.txt`), as they are or compressed with gzip (`.gz`). Or one file, whose first 90 % are to train with and whose next 5
    /// % are to choose by: of its lines for words, else of its characters or bytes.
    ///
    /// # Errors
    /// [`TextError`], naming the file, and the line where there is one.
    pub fn read(path: impl AsRef<Path>, unit: Unit) -> Result<Self, TextError> {
        let path = path.as_ref();
        let mut vocabulary = Tokens::default();
        let [train, valid, test] = match path.is_dir() {
            true => {
                let mut texts: [Text; 3] = Default::default();
                for (part, text) in PARTS.into_iter().zip(&mut texts) {
                    let file = read::find(path, part)?;
                    *text = read::tokens(&file, unit, &mut vocabulary)?;
                    if text.ids.is_empty() {
                        return Err(TextError::EmptyPart { path: file, part });
                    }
                }
                texts
            }
            false => {
                let texts = read::split(read::tokens(path, unit, &mut vocabulary)?, unit);
                for (part, text) in PARTS.into_iter().zip(&texts) {
                    if text.ids.is_empty() {
                        return Err(TextError::EmptyPart { path: path.to_owned(), part });
                    }
                }
                texts
            }
        };
        Ok(Self { vocabulary, train, valid, test })
    }
}
