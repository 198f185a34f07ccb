//! Text: sentences to be classified (labelled text from files, Kim's tokens, vocabularies, word vectors, and batches by length) and
//! corpora of language models ([`language`]).
//!
//! ```text
//! files ──LabelledText::read──▶ label, text ──Cleaning::tokens──▶ words ──Vocabulary::ids──▶ Sentences ──▶ batches
//!                                                                   │
//!                        word2vec, GloVe ──WordVectors::read──▶ a row for each word
//! ```

mod clean;
mod error;
mod labelled;
pub mod language;
mod lines;
mod sentences;
#[cfg(feature = "tables")]
mod table;
mod tokens;
mod vectors;
mod vocabulary;

pub use clean::Cleaning;
pub use error::TextError;
pub use labelled::{Example, LabelledText, TextFormat, TextOptions};
pub use sentences::{Sentences, by_length};
pub use tokens::Tokens;
pub use vectors::{VectorFormat, WordVectors};
pub use vocabulary::Vocabulary;
