//! What can go wrong between a file and a batch.

use std::path::PathBuf;

use super::Split;

/// An error of the data module: what, in which file or setting, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to read or write.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb.
        action: &'static str,
        /// The reason given by the operating system.
        source: std::io::Error,
    },
    /// The file's first bytes are neither those of WAV nor those of FLAC.
    #[error(
        "{path} is not a WAV or FLAC file: it looks like {found}; convert it, or take it out of the folder",
        path = path.display()
    )]
    NotAudio {
        /// The file.
        path: PathBuf,
        /// What the first bytes look like.
        found: &'static str,
    },
    /// The file ends before the sound that its header announces.
    #[error(
        "{path} is cut off: its header announces {expected} {unit} of sound and {found} are there; \
         copy or download it again",
        path = path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length in the header.
        expected: u64,
        /// The length found.
        found: u64,
        /// What the lengths count.
        unit: &'static str,
    },
    /// The file breaks the rules of its format.
    #[error("{path} is a damaged {format} file: {reason}; convert or download it again", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `WAV` or `FLAC`.
        format: &'static str,
        /// Which rule is broken.
        reason: String,
    },
    /// The file is sound, but of a kind that is not read here.
    #[error("{path}: {reason} is not supported; convert it to 16-bit PCM WAV or to FLAC", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        reason: String,
    },
    /// The file or clip holds no sample.
    #[error("{path} holds no samples; take it out of the data", path = path.display())]
    Empty {
        /// The file, or the name of the clip.
        path: PathBuf,
    },
    /// A sample is NaN or infinite.
    #[error("sample {index} of {path} is not a finite number", path = path.display())]
    NotFinite {
        /// The file, or the name of the clip.
        path: PathBuf,
        /// Position of the sample in time.
        index: usize,
    },
    /// Nothing is left of the clip after trimming.
    #[error(
        "{path} stays below the silence threshold of {threshold} (root mean square) throughout; \
         lower the threshold to keep it",
        path = path.display()
    )]
    Silent {
        /// The file, or the name of the clip.
        path: PathBuf,
        /// The threshold, full scale being 1.
        threshold: f32,
    },
    /// A sample rate outside what is handled.
    #[error("a sample rate of {rate} Hz is outside {min}..={max} Hz")]
    SampleRate {
        /// The rate in hertz.
        rate: u32,
        /// The lowest rate handled.
        min: u32,
        /// The highest rate handled.
        max: u32,
    },
    /// The resampler failed.
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Resample {
        /// The clip's sample rate in hertz.
        from: u32,
        /// The sample rate asked for, in hertz.
        to: u32,
        /// The resampler's own message.
        reason: String,
    },
    /// A folder without a single usable file.
    #[error("no audio to train on in {path}: {reason}", path = path.display(), reason = nothing_usable(*seen, first))]
    NothingUsable {
        /// The folder.
        path: PathBuf,
        /// How many .wav and .flac files it holds, all of which were skipped.
        seen: usize,
        /// Why the first of them was skipped.
        first: Option<Box<DataError>>,
    },
    /// There are no clips, or they are too short to be split.
    #[error("{samples} samples in {clips} clips cannot be split into training and validation; give more audio")]
    NothingToSplit {
        /// How many clips there are.
        clips: usize,
        /// How many samples they hold together.
        samples: usize,
    },
    /// An option is outside its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Option {
        /// The option.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A chunk leaves nothing to predict once the receptive field is filled.
    #[error(
        "a chunk of {chunk} samples does not reach beyond the model's receptive field of {receptive_field} samples: \
         make the chunk longer (several times the receptive field is economical) or the model shallower"
    )]
    ChunkWithinReceptiveField {
        /// Samples in a chunk.
        chunk: usize,
        /// Samples in the receptive field.
        receptive_field: usize,
    },
    /// A split is shorter than one chunk.
    #[error(
        "the {split} split holds {samples} samples ({seconds:.2} s at {rate} Hz), but a chunk of {chunk} samples and \
         the sample after it need {needed}: use a shorter chunk or more audio",
        seconds = *samples as f64 / f64::from((*rate).max(1)),
        needed = chunk + 1
    )]
    SplitTooShort {
        /// Which split.
        split: Split,
        /// Its length in samples.
        samples: usize,
        /// Its sample rate in hertz.
        rate: u32,
        /// Samples in a chunk.
        chunk: usize,
    },
    /// A class id that the model does not have.
    #[error("class {class} at position {index} is outside 0..{classes}")]
    ClassOutOfRange {
        /// The id.
        class: u32,
        /// Where it stands.
        index: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A sequence is too short for a statistic.
    #[error("{what} needs at least {needed} samples and has {found}")]
    TooFewSamples {
        /// What was to be computed.
        what: &'static str,
        /// The least number of samples.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The batch for a step could not be made.
    #[error("cannot prepare the batch of step {step}: {source}")]
    Prefetch {
        /// The step.
        step: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The thread that prepares batches panicked.
    #[error("the thread that prepares batches panicked: {message}; this is a bug, please report it")]
    PrefetchPanicked {
        /// The panic's message.
        message: String,
    },
    /// The thread that prepares batches has ended, after an error already reported, or could not be started.
    #[error("no more batches: the thread that prepares them has ended")]
    PrefetchEnded,
}

fn nothing_usable(seen: usize, first: &Option<Box<DataError>>) -> String {
    match first {
        Some(first) => format!("all {seen} .wav and .flac files in it were skipped; the first because {first}"),
        None => "it holds no .wav or .flac file; name a folder that does (folders inside it are searched too)".into(),
    }
}
