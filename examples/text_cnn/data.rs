//! Labelled text as sentences of a vocabulary, and the vectors of its words.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use receptive::data::Sequences as _;
use receptive::data::text::{LabelledText, Sentences, TextOptions, Vocabulary, WordVectors};

use crate::args::{DataArgs, FitArgs};
use crate::shared::terminal::{grouped, say};

/// Everything to learn from.
pub struct Corpus {
    pub labels: Vec<String>,
    pub vocabulary: Vocabulary,
    pub sentences: Sentences,
    pub vectors: Option<Arc<WordVectors>>,
}

impl Corpus {
    /// Reads the data, and tells what they are.
    pub fn read(args: &DataArgs, fit: &FitArgs) -> Result<Self> {
        ensure!((0.0..1.0).contains(&fit.dev), "--dev {}: must be at least 0 and below 1", fit.dev);
        ensure!(
            fit.channels.pretrained() == fit.vectors.is_some(),
            "--vectors are needed for all channels but random ones, and only for them"
        );
        let text = LabelledText::read(&args.data, &options(args, None))?;
        let tokens: Vec<Vec<String>> =
            text.examples.iter().map(|example| args.cleaning.tokens(&example.text)).collect();
        let vocabulary = Vocabulary::build(tokens.iter().map(Vec::as_slice), args.min_count);
        ensure!(!vocabulary.is_empty(), "{}: no word is left; use a smaller --min-count", args.data.display());
        let sentences = sentences(&text, &tokens, &vocabulary, fit.batch)?;
        let counts = text.labels.iter().enumerate().map(|(class, label)| {
            let count = sentences.classes().iter().filter(|&&own| own as usize == class).count();
            format!("{} {label}", grouped(count))
        });
        say(&format!(
            "{} sentences ({}), {} words, longest {} and mean {:.1} tokens",
            grouped(sentences.len()),
            counts.collect::<Vec<_>>().join(", "),
            grouped(vocabulary.words().len()),
            sentences.longest(),
            sentences.mean_length()
        ));
        let vectors = match &fit.vectors {
            Some(path) => {
                let vectors = WordVectors::read(path, fit.vectors_format, &vocabulary, fit.seed)?;
                ensure!(
                    vectors.found > 0,
                    "--vectors {}: none of the {} words has a vector of {} numbers there; is it of another format or \
                     language?",
                    path.display(),
                    grouped(vocabulary.words().len()),
                    vectors.dimensions
                );
                let (found, words) = (grouped(vectors.found), grouped(vocabulary.words().len()));
                say(&format!("{found} of {words} words have a vector of {} numbers", vectors.dimensions));
                Some(Arc::new(vectors))
            }
            None => None,
        };
        Ok(Self { labels: text.labels, vocabulary, sentences, vectors })
    }

    /// Other sentences of the same classes.
    pub fn read_test(&self, path: &Path, args: &DataArgs, batch: usize) -> Result<Sentences> {
        let text = LabelledText::read(path, &options(args, Some(self.labels.clone())))?;
        let tokens: Vec<Vec<String>> =
            text.examples.iter().map(|example| args.cleaning.tokens(&example.text)).collect();
        sentences(&text, &tokens, &self.vocabulary, batch)
    }
}

fn options(args: &DataArgs, labels: Option<Vec<String>>) -> TextOptions {
    let (label_column, text_column) = (args.label_column.clone(), args.text_column.clone());
    TextOptions { format: args.format, label_column, text_column, labels }
}

fn sentences(text: &LabelledText, tokens: &[Vec<String>], vocabulary: &Vocabulary, batch: usize) -> Result<Sentences> {
    let ids = tokens.iter().map(|tokens| vocabulary.ids(tokens)).collect();
    let classes = text.examples.iter().map(|example| example.class).collect();
    // Batches are filled up with further sentences: more than there are would come twice.
    let batch = batch.min(tokens.len().max(1));
    Sentences::new(ids, classes, batch).context("a batch needs at least one sentence")
}
