//! Polyphonic music as piano rolls, in NumPy's npz.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use npyz::NpyFile;
use thiserror::Error;
use zip::ZipArchive;

use super::sequences::{SequenceBatch, Sequences};
use crate::hash::Hash;

/// Why piano rolls could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PianoRollError {
    /// The file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "{path}: {what}; expected is an npz with arrays NAME of uint8 [frames, keys] and NAME_offsets of int64 [tunes + 1] for \
         NAME in train, valid and test", path = path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Tunes as frames of keys that sound or don't. To tell at each frame is the next.
#[derive(Debug, Clone, PartialEq)]
pub struct PianoRolls {
    keys: usize,
    /// Of all tunes, one after the other: 0 or 1.
    frames: Vec<f32>,
    /// The first frame of each tune, and the end of the last.
    offsets: Vec<usize>,
    per_step: usize,
}

impl PianoRolls {
    /// Reads a part, such as `train`, of an npz file: an array of that name of uint8 `[frames, keys]`, all tunes one after the other,
    /// and `{part}_offsets` of int64 `[tunes + 1]`, where they begin and end.
    ///
    /// # Errors
    /// [`PianoRollError`], naming the file and what is wrong.
    pub fn read(path: impl AsRef<Path>, part: &str) -> Result<Self, PianoRollError> {
        let path = path.as_ref();
        let wrong = |what: String| PianoRollError::Format { path: path.to_owned(), what };
        let file = File::open(path).map_err(|source| PianoRollError::Read { path: path.to_owned(), source })?;
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| wrong(format!("not an npz file ({error})")))?;
        let (shape, frames) = array::<u8>(&mut archive, part).map_err(wrong)?;
        let (_, offsets) = array::<i64>(&mut archive, &format!("{part}_offsets")).map_err(wrong)?;
        let [count, keys] = shape[..] else {
            return Err(wrong(format!("{part} has {} dimensions", shape.len())));
        };
        if let Some(at) = frames.iter().position(|&key| key > 1) {
            let (frame, key) = (at / keys.max(1) as usize, at % keys.max(1) as usize);
            return Err(wrong(format!(
                "{part} has {} at frame {frame}, key {key}: only 0 and 1 are known",
                frames[at]
            )));
        }
        let offsets: Vec<usize> =
            offsets.into_iter().map(|offset| usize::try_from(offset).unwrap_or(usize::MAX)).collect();
        let ordered = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if offsets.first() != Some(&0) || offsets.last() != Some(&(count as usize)) || !ordered {
            return Err(wrong(format!("{part}_offsets must rise from 0 to the {count} frames")));
        }
        Ok(Self { keys: keys as usize, frames: frames.into_iter().map(f32::from).collect(), offsets, per_step: 1 })
    }

    /// The same, of which a step takes so many tunes, at least one; the shorter ones are padded, and the batch says how long each is.
    #[must_use]
    pub fn with_batch(self, tunes: usize) -> Self {
        Self { per_step: tunes.max(1), ..self }
    }

    /// Keys of a frame.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Frames of all tunes.
    pub fn frames(&self) -> usize {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Frames of a tune; 0 if there is no such tune.
    pub fn frames_of(&self, tune: usize) -> usize {
        self.offsets.get(tune..tune + 2).map_or(0, |ends| ends[1] - ends[0])
    }

    /// The tunes that there is a next frame to tell of.
    fn tellable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.offsets.len() - 1).filter(|&tune| self.frames_of(tune) > 1)
    }
}

/// An array of a file, and its shape.
fn array<T: npyz::Deserialize + Copy>(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
) -> Result<(Vec<u64>, Vec<T>), String> {
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|error| format!("array {name}: {error}"))?;
    let npy = NpyFile::new(entry).map_err(|error| format!("array {name}: {error}"))?;
    let shape = npy.shape().to_vec();
    let order = npy.order();
    let values = npy.into_vec().map_err(|error| format!("array {name}: {error}"))?;
    let rows = shape.first().map_or(0, |&rows| rows as usize);
    Ok(match order {
        npyz::Order::C => (shape, values),
        // Column by column.
        npyz::Order::Fortran => {
            (shape, (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows).copied()).collect())
        }
    })
}

impl Sequences for PianoRolls {
    fn len(&self) -> usize {
        self.tellable().count()
    }

    fn per_step(&self) -> usize {
        self.per_step
    }

    fn with_lengths(&self) -> bool {
        self.per_step > 1
    }

    fn largest(&self) -> (usize, usize) {
        (self.per_step, self.tellable().map(|tune| self.frames_of(tune) - 1).max().unwrap_or(1))
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        let tunes: Vec<usize> = units.iter().filter_map(|&unit| self.tellable().nth(unit)).collect();
        let longest = tunes.iter().map(|&tune| self.frames_of(tune) - 1).max().unwrap_or_default();
        batch.restart(tunes.len(), longest);
        for (row, tune) in tunes.into_iter().enumerate() {
            let frames = &self.frames[self.offsets[tune] * self.keys..self.offsets[tune + 1] * self.keys];
            let filled = (row + 1) * longest * self.keys;
            batch.values.extend_from_slice(&frames[..frames.len() - self.keys]);
            batch.values.resize(filled, 0.0);
            batch.target_values.extend_from_slice(&frames[self.keys..]);
            batch.target_values.resize(filled, 0.0);
            let told = self.frames_of(tune) - 1;
            batch.count += told;
            if self.with_lengths() {
                batch.lengths.push(told as u32);
            }
        }
    }

    fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        for &offset in &self.offsets {
            hash.bytes(&(offset as u64).to_le_bytes());
        }
        hash.bytes(bytemuck::cast_slice(&self.frames)).hex()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use npyz::WriterBuilder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn add<W: Write + Seek, T: npyz::AutoSerialize>(
        zip: &mut ZipWriter<W>,
        name: &str,
        order: npyz::Order,
        shape: &[u64],
        values: Vec<T>,
    ) {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        let mut writer =
            npyz::WriteOptions::new().default_dtype().order(order).shape(shape).writer(zip).begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
    }

    fn npz(order: npyz::Order, frames: Vec<u8>, offsets: Vec<i64>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = ZipWriter::new(file.reopen().unwrap());
        add(&mut zip, "train", order, &[frames.len() as u64 / 2, 2], frames);
        add(&mut zip, "train_offsets", npyz::Order::C, &[offsets.len() as u64], offsets);
        zip.finish().unwrap();
        file
    }

    #[test]
    fn tunes_tell_their_next_frames() {
        let by_rows = npz(npyz::Order::C, vec![1, 0, 0, 1, 1, 1, 0, 0, 1, 0], vec![0, 3, 4, 5]);
        let by_columns = npz(npyz::Order::Fortran, vec![1, 0, 1, 0, 1, 0, 1, 1, 0, 0], vec![0, 3, 4, 5]);
        let rolls = PianoRolls::read(by_rows.path(), "train").unwrap();
        assert_eq!(PianoRolls::read(by_columns.path(), "train").unwrap(), rolls);
        assert_eq!((rolls.keys(), rolls.frames(), rolls.frames_of(0), rolls.frames_of(9)), (2, 5, 3, 0));
        // Of a single frame there is nothing to tell.
        assert_eq!((rolls.len(), rolls.largest()), (1, (1, 2)));
        let mut batch = SequenceBatch::default();
        rolls.fill(&[0], &mut batch);
        assert_eq!((batch.time, batch.count), (2, 2));
        assert_eq!(batch.values, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(batch.target_values, [0.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn shorter_tunes_are_padded() {
        let file = npz(npyz::Order::C, vec![1, 0, 0, 1, 1, 1, 0, 0, 1, 0], vec![0, 2, 5]);
        let rolls = PianoRolls::read(file.path(), "train").unwrap().with_batch(2);
        assert_eq!((rolls.per_step(), rolls.steps(), rolls.largest()), (2, 1, (2, 2)));
        let mut batch = SequenceBatch::default();
        rolls.fill(&[0, 1], &mut batch);
        assert_eq!((batch.rows, batch.time, batch.count), (2, 2, 3));
        assert_eq!(batch.lengths, [1, 2]);
        assert_eq!(batch.values, [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(batch.target_values, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let expect = |file: &Path, part: &str, word: &str| {
            let error = PianoRolls::read(file, part).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        expect(npz(npyz::Order::C, vec![1, 0, 2, 1], vec![0, 2]).path(), "train", "train has 2 at frame 1, key 0");
        expect(npz(npyz::Order::C, vec![1, 0, 0, 1], vec![0, 3]).path(), "train", "rise from 0 to the 2 frames");
        expect(npz(npyz::Order::C, vec![1, 0, 0, 1], vec![0, 2]).path(), "test", "array test");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no archive").unwrap();
        expect(file.path(), "train", "not an npz file");
        expect(Path::new("no-such.npz"), "train", "no-such.npz");
    }
}
