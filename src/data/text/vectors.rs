//! Word vectors of word2vec and GloVe.

use std::io::{BufRead, Read as _};
use std::path::Path;

use super::lines::Lines;
use super::{TextError, Vocabulary};
use crate::data::stream;
use crate::random::Random;

/// How vectors lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorFormat {
    /// word2vec's binary form: `COUNT DIMENSIONS`, and for each entry the word, a space, and little-endian `f32`.
    Word2vecBinary,
    /// word2vec's text form: a line `COUNT DIMENSIONS`, then `word number number …` a line.
    Word2vecText,
    /// GloVe's text form: `word number number …` a line.
    Glove,
}

/// A vector for each id of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    /// Numbers of a vector.
    pub dimensions: usize,
    /// `[ids, dimensions]`.
    pub values: Vec<f32>,
    /// Words of the vocabulary that the file has.
    pub found: usize,
}

/// Half the width of what words without a vector get: about the variance of word2vec's vectors (Kim 2014, section 3.1).
pub const UNKNOWN_BOUND: f32 = 0.25;

/// More numbers in a vector than this are a file that is not one of vectors.
const MAX_DIMENSIONS: usize = 1 << 16;
/// Bytes of a word, at most.
const MAX_WORD: u64 = 1 << 12;

impl WordVectors {
    /// Random vectors: uniform in ±0.25, a pure function of the seed and the id; zero for the padding and the unknown word.
    pub fn random(vocabulary: &Vocabulary, dimensions: usize, seed: u64) -> Self {
        let mut vectors = Self { dimensions, values: vec![0.0; vocabulary.len() * dimensions], found: 0 };
        let rows = vectors.values.chunks_exact_mut(dimensions.max(1)).enumerate();
        for (id, row) in rows.skip(Vocabulary::RESERVED) {
            let mut random = Random::new(seed, stream::VECTORS, id as u32);
            row.fill_with(|| (2.0 * random.uniform() - 1.0) * UNKNOWN_BOUND);
        }
        vectors
    }

    /// The vectors of a vocabulary's words from a file, gzip or not, and random ones as [`random`](Self::random) for words that
    /// it does not have. The file is read entry by entry; nothing is kept of other words. Of a word that comes twice the first
    /// vector counts. Without a format it is told from the beginning of the file.
    ///
    /// # Errors
    /// [`TextError::Vectors`] with the line or the entry: a file that is none of vectors or is cut short, a vector of other
    /// dimensions than the first one, or a number that is not finite; [`TextError::NotUtf8`], [`TextError::Io`].
    pub fn read(
        path: impl AsRef<Path>,
        format: Option<VectorFormat>,
        vocabulary: &Vocabulary,
        seed: u64,
    ) -> Result<Self, TextError> {
        let path = path.as_ref();
        let mut lines = Lines::open(path)?;
        let start = lines.reader.fill_buf().map_err(|source| TextError::Io { path: path.into(), source })?;
        let format = format.unwrap_or_else(|| likely_format(start));
        let file = Reader { lines };
        match format {
            VectorFormat::Word2vecBinary => file.binary(vocabulary, seed),
            VectorFormat::Word2vecText => file.text(true, vocabulary, seed),
            VectorFormat::Glove => file.text(false, vocabulary, seed),
        }
    }
}

/// Tells the format by a file's first bytes.
fn likely_format(start: &[u8]) -> VectorFormat {
    let mut lines = start.splitn(3, |&byte| byte == b'\n');
    let header = lines.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(header);
    match (header, lines.next()) {
        (None, _) => VectorFormat::Glove,
        // A first entry in text is as many numbers as the header says.
        (Some((_, dimensions)), Some(line)) => {
            let numbers = std::str::from_utf8(line).ok().map(|line| {
                line.split_ascii_whitespace().rev().take_while(|number| number.parse::<f32>().is_ok()).count()
            });
            match numbers.is_some_and(|numbers| numbers >= dimensions) {
                true => VectorFormat::Word2vecText,
                false => VectorFormat::Word2vecBinary,
            }
        }
        (Some(_), None) => VectorFormat::Word2vecBinary,
    }
}

/// `COUNT DIMENSIONS`.
fn header(line: &str) -> Option<(usize, usize)> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<usize>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(count)), Some(Ok(dimensions)), None) => Some((count, dimensions)),
        _ => None,
    }
}

/// A file of vectors that is being read.
struct Reader<'a> {
    lines: Lines<'a>,
}

/// What is known of the words so far.
struct Filled<'a> {
    vectors: WordVectors,
    vocabulary: &'a Vocabulary,
    seen: Vec<bool>,
}

impl<'a> Filled<'a> {
    fn new(vocabulary: &'a Vocabulary, dimensions: usize, seed: u64) -> Self {
        let vectors = WordVectors::random(vocabulary, dimensions, seed);
        Self { vectors, vocabulary, seen: vec![false; vocabulary.len()] }
    }

    /// Where a word's vector goes, if it is wanted.
    fn row(&mut self, word: &str) -> Option<&mut [f32]> {
        let id = self.vocabulary.id(word)? as usize;
        if std::mem::replace(&mut self.seen[id], true) {
            return None;
        }
        self.vectors.found += 1;
        let dimensions = self.vectors.dimensions;
        Some(&mut self.vectors.values[id * dimensions..][..dimensions])
    }
}

impl Reader<'_> {
    fn wrong(&self, at: String, reason: impl Into<String>) -> TextError {
        TextError::Vectors { path: self.lines.path.into(), at, reason: reason.into() }
    }

    fn wrong_line(&self, reason: impl Into<String>) -> TextError {
        self.wrong(format!("line {}", self.lines.number.max(1)), reason)
    }

    /// The next line without its end; nothing at the end of the file.
    fn next_line(&mut self) -> Result<Option<String>, TextError> {
        Ok(self.lines.read()?.map(|line| line.trim_end_matches(['\n', '\r', ' ']).to_owned()))
    }

    fn header(&mut self) -> Result<(usize, usize), TextError> {
        let line = self.next_line()?.unwrap_or_default();
        match header(&line) {
            Some((count, dimensions)) if (1..=MAX_DIMENSIONS).contains(&dimensions) => Ok((count, dimensions)),
            _ => {
                Err(self.wrong_line("this is not how word2vec's files begin (COUNT DIMENSIONS); name the right format"))
            }
        }
    }

    fn text(mut self, with_header: bool, vocabulary: &Vocabulary, seed: u64) -> Result<WordVectors, TextError> {
        let header = if with_header { Some(self.header()?) } else { None };
        let mut filled = header.map(|(_, dimensions)| Filled::new(vocabulary, dimensions, seed));
        let mut entries = 0;
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                continue;
            }
            entries += 1;
            let fields = line.bytes().filter(|&byte| byte == b' ').count();
            let filled = match &mut filled {
                Some(filled) => filled,
                None if fields == 0 || fields > MAX_DIMENSIONS => {
                    return Err(self.wrong_line("this is not a line of a word and its vector; name the right format"));
                }
                None => filled.insert(Filled::new(vocabulary, fields, seed)),
            };
            let dimensions = filled.vectors.dimensions;
            // A few words of GloVe have spaces in them.
            let mut from_end = line.rsplitn(dimensions + 1, ' ');
            let numbers: Vec<&str> = from_end.by_ref().take(dimensions).collect();
            let Some(word) = from_end.next() else {
                let reason = format!("{fields} numbers where {dimensions} are expected; get the file again");
                return Err(self.wrong_line(reason));
            };
            let Some(row) = filled.row(word) else { continue };
            for (place, number) in row.iter_mut().zip(numbers.into_iter().rev()) {
                *place = match number.parse::<f32>() {
                    Ok(value) if value.is_finite() => value,
                    _ => return Err(self.wrong_line(format!("{number:?} is not a finite number; get the file again"))),
                };
            }
        }
        if let Some((count, _)) = header.filter(|(count, _)| *count != entries) {
            let reason = format!("the file ends after {entries} of {count} entries; get it again");
            return Err(self.wrong_line(reason));
        }
        match filled {
            Some(filled) => Ok(filled.vectors),
            None => Err(self.wrong_line("the file is empty")),
        }
    }

    fn binary(mut self, vocabulary: &Vocabulary, seed: u64) -> Result<WordVectors, TextError> {
        let (count, dimensions) = self.header()?;
        let mut filled = Filled::new(vocabulary, dimensions, seed);
        let mut numbers = vec![0; dimensions * 4];
        let mut bytes = Vec::new();
        for entry in 1..=count {
            let at = || format!("entry {entry} of {count}");
            let cut = "the file ends within it; get the file again";
            // Some writers end each vector with a line feed.
            bytes.clear();
            let read = self.lines.reader.by_ref().take(MAX_WORD).read_until(b' ', &mut bytes);
            read.map_err(|source| TextError::Io { path: self.lines.path.into(), source })?;
            if bytes.pop() != Some(b' ') {
                let reason =
                    if bytes.len() as u64 + 1 >= MAX_WORD { "this is no word; name the right format" } else { cut };
                return Err(self.wrong(at(), reason));
            }
            if let Err(source) = self.lines.reader.read_exact(&mut numbers) {
                return Err(match source.kind() {
                    std::io::ErrorKind::UnexpectedEof => self.wrong(at(), cut),
                    _ => TextError::Io { path: self.lines.path.into(), source },
                });
            }
            let word = bytes.strip_prefix(b"\n").unwrap_or(&bytes);
            // What is not UTF-8 is no word of the vocabulary.
            let Some(row) = std::str::from_utf8(word).ok().and_then(|word| filled.row(word)) else { continue };
            for (place, number) in row.iter_mut().zip(numbers.as_chunks::<4>().0) {
                *place = f32::from_le_bytes(*number);
            }
            if row.iter().any(|value| !value.is_finite()) {
                return Err(
                    self.wrong(at(), "a number in it is not finite; get the file again, or name the right format")
                );
            }
        }
        Ok(filled.vectors)
    }
}
