//! Files as bytes, decompressed where they are compressed, and as lines of UTF-8.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::TextError;

/// Bytes that a reader holds: enough to see of what kind a file is.
const BUFFER: usize = 1 << 16;

/// The bytes of a file, those of a gzip file decompressed.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, TextError> {
    let failed = |source| TextError::Io { path: path.into(), source };
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(failed)?);
    let gzip = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    match gzip {
        #[cfg(feature = "tables")]
        true => Ok(Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(file)))),
        #[cfg(not(feature = "tables"))]
        true => Err(failed(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "compressed by gzip, which takes the feature `tables`; decompress it, or build with that feature",
        ))),
        false => Ok(Box::new(file)),
    }
}

/// The lines of a file, one after the other, with their ends.
pub(super) struct Lines<'a> {
    pub path: &'a Path,
    /// For what is not lines.
    pub reader: Box<dyn BufRead>,
    bytes: Vec<u8>,
    /// Lines read so far.
    pub number: usize,
}

impl<'a> Lines<'a> {
    pub fn open(path: &'a Path) -> Result<Self, TextError> {
        Ok(Self { path, reader: open(path)?, bytes: Vec::new(), number: 0 })
    }

    /// The next line, if there is one. What some editors mark a file by that is UTF-8 is left out.
    pub fn read(&mut self) -> Result<Option<&str>, TextError> {
        self.bytes.clear();
        let read = self.reader.read_until(b'\n', &mut self.bytes);
        if read.map_err(|source| TextError::Io { path: self.path.into(), source })? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = text(self.path, self.number, &self.bytes)?;
        Ok(Some(if self.number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line }))
    }
}

/// The lines of a file, each with its number counted from 1, without their ends.
pub(super) fn lines(path: &Path) -> Result<Vec<(usize, String)>, TextError> {
    let mut reader = Lines::open(path)?;
    let mut lines = Vec::new();
    while let Some(line) = reader.read()? {
        lines.push((lines.len() + 1, line.trim_end_matches(['\n', '\r']).to_owned()));
    }
    Ok(lines)
}

/// Bytes of a line as text.
pub(super) fn text<'a>(path: &Path, line: usize, bytes: &'a [u8]) -> Result<&'a str, TextError> {
    let wrong =
        |error: std::str::Utf8Error| TextError::NotUtf8 { path: path.into(), line, byte: error.valid_up_to() + 1 };
    std::str::from_utf8(bytes).map_err(wrong)
}
