//! A folder of sound files, or clips made by the program, as training and validation data.

use std::path::{Path, PathBuf};

use super::{Clip, DataError, stream, trim_silence};
use crate::random::Random;

/// How a [`Corpus`] is prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusOptions {
    /// The sample rate of the result in hertz. If `None`, the rate that most clips have (the lowest of several).
    pub sample_rate: Option<u32>,
    /// Cut both ends of each clip where its root mean square stays below this ([`trim_silence`]).
    pub trim: Option<f32>,
    /// The share of the files that is held out for validation, between 0 and 1.
    pub valid_fraction: f64,
    /// Which files are held out.
    pub seed: u64,
}

impl Default for CorpusOptions {
    /// No resampling beyond making the rates agree, no trimming, 5 % for validation.
    fn default() -> Self {
        Self { sample_rate: None, trim: None, valid_fraction: 0.05, seed: 0 }
    }
}

/// Clips at one sample rate, in two parts. They are held in memory, at four bytes a sample.
#[derive(Debug)]
pub struct Corpus {
    /// Samples per second, of every clip.
    pub rate: u32,
    /// The clips to train on.
    pub train: Vec<Clip>,
    /// The clips held out.
    pub valid: Vec<Clip>,
    /// Files that could not be used, and why.
    pub skipped: Vec<(PathBuf, DataError)>,
}

impl Corpus {
    /// Reads every `.wav` and `.flac` file in `path`, which is a folder (searched to any depth, in sorted order, links
    /// followed but no folder entered twice) or a single file (taken whatever its name).
    ///
    /// A file that cannot be used is logged as a warning, recorded in [`Corpus::skipped`] and left out. The rest is
    /// resampled, trimmed and split as in [`Corpus::from_clips`].
    ///
    /// # Errors
    /// [`DataError::NothingUsable`] if no file is left, the file's own error if `path` is a file, [`DataError::Io`] if
    /// `path` cannot be read, and the errors of [`Corpus::from_clips`].
    #[cfg(feature = "audio")]
    pub fn open(path: impl AsRef<Path>, options: &CorpusOptions) -> Result<Self, DataError> {
        use rayon::prelude::*;

        let path = path.as_ref();
        options.check()?;
        let mut skipped = Vec::new();
        let is_file = path.is_file();
        let files = if is_file { vec![path.to_path_buf()] } else { sound_files(path, &mut skipped)? };
        let read: Vec<_> = files.par_iter().map(super::audio::read).collect();
        let mut named = Vec::new();
        for (file, clip) in files.iter().zip(read) {
            match clip {
                Ok(clip) => named.push((file.clone(), clip)),
                Err(error) if is_file => return Err(error),
                Err(error) => skip(&mut skipped, file, error),
            }
        }
        let Some((rate, train, valid)) = prepare(named, options, &mut skipped)? else {
            return Err(match first_error(skipped) {
                Some(error) if is_file => error,
                first => DataError::NothingUsable { path: path.into(), seen: files.len(), first: first.map(Box::new) },
            });
        };
        skipped.sort_by(|a, b| a.0.cmp(&b.0));
        let corpus = Self { rate, train, valid, skipped };
        log::info!(
            "{}: {} files, {} skipped, {:.1} s to train on and {:.1} s to validate with, at {rate} Hz",
            path.display(),
            files.len(),
            corpus.skipped.len(),
            corpus.train_seconds(),
            corpus.valid_seconds(),
        );
        Ok(corpus)
    }

    /// The same preparation for clips that are in memory already: one rate, trimmed ends, and a split.
    ///
    /// Whole clips are held out, at random under `options.seed`, at least one and at least one kept; both parts keep
    /// the given order. A single clip is split in time: its end is held out. Clips that are empty, not finite, or
    /// silent throughout (when trimming) are skipped, under the name `clip N`.
    ///
    /// # Errors
    /// [`DataError::Option`] or [`DataError::SampleRate`] for options out of range, [`DataError::NothingToSplit`] if
    /// fewer than two samples are left. Without the cargo feature `audio` clips of another rate are
    /// [`DataError::Resample`].
    pub fn from_clips(clips: Vec<Clip>, options: &CorpusOptions) -> Result<Self, DataError> {
        options.check()?;
        let named = clips.into_iter().enumerate().map(|(i, clip)| (format!("clip {i}").into(), clip)).collect();
        let mut skipped = Vec::new();
        match prepare(named, options, &mut skipped)? {
            Some((rate, train, valid)) => Ok(Self { rate, train, valid, skipped }),
            None => Err(first_error(skipped).unwrap_or(DataError::NothingToSplit { clips: 0, samples: 0 })),
        }
    }

    /// The length of the training part in seconds.
    pub fn train_seconds(&self) -> f64 {
        self.train.iter().map(Clip::seconds).sum()
    }

    /// The length of the validation part in seconds.
    pub fn valid_seconds(&self) -> f64 {
        self.valid.iter().map(Clip::seconds).sum()
    }
}

impl CorpusOptions {
    fn check(&self) -> Result<(), DataError> {
        if !(self.valid_fraction > 0.0 && self.valid_fraction < 1.0) {
            let allowed = "between 0 and 1, both excluded";
            return Err(DataError::Option { name: "valid_fraction", value: self.valid_fraction, allowed });
        }
        if let Some(trim) = self.trim.filter(|trim| !(0.0..1.0).contains(trim)) {
            let allowed = "at least 0 and below 1 (full scale)";
            return Err(DataError::Option { name: "trim", value: f64::from(trim), allowed });
        }
        Ok(())
    }
}

/// The common rate and the two parts, or `None` if every clip was skipped.
#[allow(clippy::type_complexity, reason = "used twice, next door")]
fn prepare(
    named: Vec<(PathBuf, Clip)>,
    options: &CorpusOptions,
    skipped: &mut Vec<(PathBuf, DataError)>,
) -> Result<Option<(u32, Vec<Clip>, Vec<Clip>)>, DataError> {
    let rate = options.sample_rate.unwrap_or_else(|| most_common_rate(&named));
    let other = named.iter().filter(|(_, clip)| clip.rate != rate).count();
    if other > 0 {
        log::info!("resampling {other} of {} clips to {rate} Hz", named.len());
    }
    let mut clips = Vec::new();
    for (name, clip) in prepare_all(named, rate, options.trim) {
        match clip {
            Ok(clip) => clips.push(clip),
            // No fault of this clip's: the request itself cannot be met.
            Err(error @ (DataError::SampleRate { .. } | DataError::Resample { .. })) => return Err(error),
            Err(error) => skip(skipped, &name, error),
        }
    }
    if clips.is_empty() {
        return Ok(None);
    }
    let (train, valid) = split(clips, options)?;
    Ok(Some((rate, train, valid)))
}

fn skip(skipped: &mut Vec<(PathBuf, DataError)>, name: &Path, error: DataError) {
    log::warn!("skipped: {error}");
    skipped.push((name.to_path_buf(), error));
}

fn first_error(skipped: Vec<(PathBuf, DataError)>) -> Option<DataError> {
    skipped.into_iter().next().map(|(_, error)| error)
}

fn most_common_rate(named: &[(PathBuf, Clip)]) -> u32 {
    let mut counts = std::collections::BTreeMap::new();
    for (_, clip) in named {
        *counts.entry(clip.rate).or_insert(0usize) += 1;
    }
    let most = counts.values().copied().max();
    counts.into_iter().find(|&(_, count)| Some(count) == most).map_or(0, |(rate, _)| rate)
}

#[cfg(feature = "audio")]
fn prepare_all(named: Vec<(PathBuf, Clip)>, rate: u32, trim: Option<f32>) -> Vec<(PathBuf, Result<Clip, DataError>)> {
    use rayon::prelude::*;
    let prepare = |(name, clip): (PathBuf, Clip)| {
        let resampled = if clip.rate == rate { Ok(clip) } else { super::audio::resample(&clip, rate) };
        let clip = resampled.and_then(|clip| trimmed(&name, clip, trim));
        (name, clip)
    };
    named.into_par_iter().map(prepare).collect()
}

#[cfg(not(feature = "audio"))]
fn prepare_all(named: Vec<(PathBuf, Clip)>, rate: u32, trim: Option<f32>) -> Vec<(PathBuf, Result<Clip, DataError>)> {
    let prepare = |(name, clip): (PathBuf, Clip)| {
        let reason = "the crate was built without the feature `audio`".into();
        let clip = if clip.rate == rate {
            trimmed(&name, clip, trim)
        } else {
            Err(DataError::Resample { from: clip.rate, to: rate, reason })
        };
        (name, clip)
    };
    named.into_iter().map(prepare).collect()
}

fn trimmed(name: &Path, mut clip: Clip, trim: Option<f32>) -> Result<Clip, DataError> {
    if let Some(index) = clip.samples.iter().position(|sample| !sample.is_finite()) {
        return Err(DataError::NotFinite { path: name.into(), index });
    }
    if clip.samples.is_empty() {
        return Err(DataError::Empty { path: name.into() });
    }
    if let Some(threshold) = trim {
        clip.samples = trim_silence(&clip.samples, threshold).to_vec();
        if clip.samples.is_empty() {
            return Err(DataError::Silent { path: name.into(), threshold });
        }
    }
    Ok(clip)
}

/// Training and validation clips.
fn split(mut clips: Vec<Clip>, options: &CorpusOptions) -> Result<(Vec<Clip>, Vec<Clip>), DataError> {
    let held_out = |count: usize| ((count as f64 * options.valid_fraction).round() as usize).clamp(1, count - 1);
    if clips.len() > 1 {
        let mut is_valid = vec![false; clips.len()];
        let order = Random::new(options.seed, stream::SPLIT, 0).permutation(clips.len());
        order[..held_out(clips.len())].iter().for_each(|&index| is_valid[index as usize] = true);
        let mut is_valid = is_valid.into_iter();
        let (valid, train) = clips.into_iter().partition(|_| is_valid.next() == Some(true));
        return Ok((train, valid));
    }
    match clips.pop() {
        Some(mut clip) if clip.samples.len() > 1 => {
            let len = clip.samples.len();
            let valid = Clip { samples: clip.samples.split_off(len - held_out(len)), rate: clip.rate };
            Ok((vec![clip], vec![valid]))
        }
        clip => Err(DataError::NothingToSplit {
            clips: usize::from(clip.is_some()),
            samples: clip.map_or(0, |clip| clip.samples.len()),
        }),
    }
}

/// Every .wav and .flac file below a folder, sorted. Folders that cannot be read go to `skipped`.
#[cfg(feature = "audio")]
fn sound_files(root: &Path, skipped: &mut Vec<(PathBuf, DataError)>) -> Result<Vec<PathBuf>, DataError> {
    use std::collections::HashSet;

    let mut files = Vec::new();
    let mut visited = HashSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A link may lead back to a folder above: each is entered once, under its true name.
        let listing = std::fs::canonicalize(&folder)
            .and_then(|name| if visited.insert(name) { std::fs::read_dir(&folder).map(Some) } else { Ok(None) })
            .and_then(|entries| entries.map(Iterator::collect::<Result<Vec<_>, _>>).transpose());
        let entries = match listing {
            Ok(entries) => entries.unwrap_or_default(),
            Err(source) => {
                let error = DataError::Io { path: folder.clone(), action: "list", source };
                if folder == root {
                    return Err(error);
                }
                skip(skipped, &folder, error);
                continue;
            }
        };
        let mut inside = Vec::new();
        for path in entries.into_iter().map(|entry| entry.path()) {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() {
                inside.push(path);
            } else if ["wav", "flac"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
                files.push(path);
            }
        }
        // The first in order is taken off the stack first, so that which of two links is followed does not vary.
        inside.sort();
        folders.extend(inside.into_iter().rev());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
