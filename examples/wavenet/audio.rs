//! Recordings as training data.

use anyhow::{Context as _, Result};
use receptive::data::{Chunks, Corpus, CorpusOptions, MuLaw, Split, baseline, plucked_strings};
use receptive::nn::WaveNet;

use crate::args::TrainArgs;
use crate::shared::terminal::{grouped, say};

/// Length and rate of the built-in clip.
const BUILT_IN: (f64, u32) = (60.0, 8_000);

/// The recordings named on the command line, or the built-in clip.
pub fn corpus(args: &TrainArgs) -> Result<Corpus> {
    let options =
        CorpusOptions { sample_rate: args.sample_rate, trim: args.trim, seed: args.seed, ..Default::default() };
    let corpus = match &args.data {
        Some(folder) => Corpus::open(folder, &options)?,
        None => {
            let (seconds, rate) = BUILT_IN;
            let clip = plucked_strings(seconds, args.sample_rate.unwrap_or(rate), args.seed)?;
            Corpus::from_clips(vec![clip], &options)?
        }
    };
    let source = args.data.as_ref().map_or("a built-in clip of plucked strings".into(), |d| d.display().to_string());
    say(&format!(
        "data: {source}: {:.1} s to train on, {:.1} s to validate with, at {} Hz{}",
        corpus.train_seconds(),
        corpus.valid_seconds(),
        grouped(corpus.rate as usize),
        if corpus.skipped.is_empty() { String::new() } else { format!("; {} files skipped", corpus.skipped.len()) }
    ));
    Ok(corpus)
}

/// Training and validation data in the chunks of a model. A short validation split is one chunk as long as it can be.
pub fn chunks(corpus: &Corpus, model: &WaveNet, chunk: usize) -> Result<(Chunks, Option<Chunks>)> {
    let mu_law = MuLaw::new(model.config().classes)?;
    let field = model.receptive_field();
    let train = Chunks::new(Split::Train, &corpus.train, &mu_law, chunk, field).context("--chunk")?;
    let valid_samples: usize = corpus.valid.iter().map(|clip| clip.samples.len()).sum();
    let chunk = chunk.min(valid_samples.saturating_sub(1));
    if chunk <= field {
        say(&format!("validation: none, {valid_samples} samples are fewer than the receptive field of {field}"));
        return Ok((train, None));
    }
    let valid = Chunks::new(Split::Valid, &corpus.valid, &mu_law, chunk, field)?;
    Ok((train, Some(valid)))
}

/// The two losses that any model should be below, in nats a sample.
#[derive(Debug, Clone, Copy)]
pub struct Baselines {
    /// Entropy of the validation data's classes.
    pub histogram: f64,
    /// A model of each class given the one before, fitted on the training data.
    pub first_order: f64,
}

impl Baselines {
    pub fn of(train: &Chunks, valid: &Chunks, classes: usize) -> Result<Self> {
        Ok(Self {
            histogram: baseline::class_entropy(valid.classes(), classes)?,
            first_order: baseline::first_order(train.classes(), valid.classes(), classes)?,
        })
    }

    pub fn named(&self) -> [(&'static str, f64); 2] {
        [("class histogram", self.histogram), ("previous class", self.first_order)]
    }
}
