//! Training data: audio for autoregressive models (here), tables of numbers for forecasting ([`series`]), and sequences with what
//! is to be told of them ([`Sequences`]): made-up tasks, images, piano rolls, text ([`text`]).
//!
//! Audio goes from files to clips, from clips to a corpus, from a corpus to batches:
//!
//! ```text
//! .wav .flac ──audio::read──▶ Clip ──resample, trim──▶ Corpus { train, valid }
//!                                                        │ MuLaw::encode, joined end to end
//!                                                        ▼
//!                       Schedule (seed, step) ──▶ Chunks::fill ──▶ Batch { input, target }   (ahead of time: Prefetch)
//! ```
//!
//! The module knows nothing of models, graphs or devices. What a batch holds is a pure function of the corpus, the seed
//! and the step number, so a resumed run needs no other cursor than its step. Reading files and resampling need the
//! cargo feature `audio`; everything else, the built-in clip ([`plucked_strings`]) included, does without.

#[cfg(feature = "audio")]
pub mod audio;
pub mod baseline;
mod chunks;
mod clip;
mod corpus;
mod error;
#[cfg(feature = "tables")]
pub mod images;
mod mu_law;
#[cfg(feature = "music")]
pub mod piano_roll;
mod pluck;
mod prefetch;
mod sequences;
pub mod series;
pub mod synthetic;
pub mod text;

pub use chunks::{Batch, Chunks, Schedule, Split};
pub use clip::{Clip, trim_silence};
pub use corpus::{Corpus, CorpusOptions};
pub use error::DataError;
pub use mu_law::MuLaw;
pub use pluck::plucked_strings;
pub use prefetch::Prefetch;
pub use sequences::{Examples, Order, SequenceBatch, Sequences, Targets};

/// Streams of [`crate::random::Random`] drawn from in this module, one for each purpose.
mod stream {
    pub const SHUFFLE: u32 = 0x6461_0001;
    pub const OFFSET: u32 = 0x6461_0002;
    pub const SPLIT: u32 = 0x6461_0003;
    pub const MELODY: u32 = 0x6461_0004;
    pub const PLUCK: u32 = 0x6461_0005;
    pub const ORDER: u32 = 0x6461_0007;
    pub const ADDING: u32 = 0x6461_0008;
    pub const COPY: u32 = 0x6461_0009;
    pub const VECTORS: u32 = 0x6461_000b;
    pub const BATCHES: u32 = 0x6461_000c;
    pub const FOLDS: u32 = 0x6461_000d;
    #[cfg(feature = "tables")]
    pub const PIXELS: u32 = 0x6461_000a;
}
