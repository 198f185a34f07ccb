//! What can go wrong between a file of text and a batch.

use std::path::PathBuf;

/// An error of text or word vectors: what, in which file and line (counted from 1), and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The operating system refused to read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason given by the operating system, or by the decompressor.
        source: std::io::Error,
    },
    /// The file is not text in UTF-8.
    #[error(
        "{path}, line {line}: byte {byte} is not UTF-8 text; convert the file, for example with iconv",
        path = path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first byte that is wrong.
        line: usize,
        /// Its number in the line, counted from 1.
        byte: usize,
    },
    /// There is no text.
    #[error("{path}: there is no text in it; give at least one sentence of each class", path = path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A folder lacks a part of a corpus.
    #[error(
        "{path}: no text for {part}; expected is {part}.txt, or a name that ends with .{part}.txt, as it is or compressed (.gz)",
        path = path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The part: `train`, `valid` or `test`.
        part: &'static str,
    },
    /// A folder has several files for a part of a corpus.
    #[error("{path}: {first} and {second} are both text for {part}; leave one", path = path.display())]
    Several {
        /// The folder.
        path: PathBuf,
        /// The part.
        part: &'static str,
        /// The names of two of them.
        first: String,
        /// The other.
        second: String,
    },
    /// Nothing is in a file of a corpus, or left for a part of it.
    #[error("{path}: no text for {part}; give more of it", path = path.display())]
    EmptyPart {
        /// The file.
        path: PathBuf,
        /// The part.
        part: &'static str,
    },
    /// Two files would be of one class.
    #[error(
        "{first} and {second} would both be of the class {label:?}; name files by their classes, and keep others elsewhere",
        first = first.display(), second = second.display()
    )]
    OneClassTwice {
        /// The class.
        label: String,
        /// A file of it.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// All text is of one class.
    #[error(
        "{path}: every sentence is of the class {label:?}, so that there is nothing to tell; give at least two classes",
        path = path.display()
    )]
    OneClass {
        /// The file or folder.
        path: PathBuf,
        /// The class.
        label: String,
    },
    /// A label that the model does not know.
    #[error(
        "{path}, line {line}: the label {label:?} is none of the model's ({known}); correct the line, or train with it",
        path = path.display(),
        known = known.join(", ")
    )]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The label.
        label: String,
        /// Those that the model knows.
        known: Vec<String>,
    },
    /// A line of a table that can't be read as one.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file of word vectors that is not one, or is cut short.
    #[error("{path}, {at}: {reason}", path = path.display())]
    Vectors {
        /// The file.
        path: PathBuf,
        /// Where: `line 3`, or in a binary file `entry 3 of 100`.
        at: String,
        /// What is wrong and what to do.
        reason: String,
    },
}
