//! Language models: their settings and data.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use receptive::data::Sequences;
use receptive::data::text::language::{Corpus, Passages, Streams, Text, Unit};
use receptive::nn::{Body, Objective, SequenceConfig, SequenceInput, TcnConfig};
use serde::{Deserialize, Serialize};

use crate::args::{Source, TaskKind, TrainArgs};
use crate::settings::{Annealing, Optimizer, Settings};
use crate::tasks::Experiment;

/// How the loss of a language model is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Of a word: among how many equally likely ones it would be as hard to guess.
    Perplexity,
    /// Bits per character.
    Bits,
}

impl Measure {
    /// That of an experiment; nothing where the loss is told as it is.
    pub const fn of_task(task: TaskKind) -> Option<Self> {
        match task {
            TaskKind::LmWord | TaskKind::Lambada => Some(Self::Perplexity),
            TaskKind::LmChar => Some(Self::Bits),
            _ => None,
        }
    }

    /// Of a loss in nats.
    pub fn of(self, nats: f64) -> f64 {
        match self {
            Self::Perplexity => nats.exp(),
            Self::Bits => nats / std::f64::consts::LN_2,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::Bits => "bits per character",
        }
    }
}

/// The losses of an epoch as they are told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub measure: Measure,
    pub valid: f64,
    pub test: f64,
}

impl Measured {
    /// Of losses in nats; nothing where they are told as they are.
    pub fn of(settings: &Settings, valid: f64, test: f64) -> Option<Self> {
        let measure = settings.language.as_ref()?.measure;
        Some(Self { measure, valid: measure.of(valid), test: measure.of(test) })
    }

    pub fn line(&self) -> String {
        format!("  {}: validation {:.3}, test {:.3}", self.measure.name(), self.valid, self.test)
    }
}

/// What language models have beside the other settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Language {
    pub measure: Measure,
    /// Channels of an embedding, and of the last level, whose output it weighs.
    pub embedding: usize,
    pub embedding_dropout: f32,
    /// Half the width of its uniform starting values; nothing for normal ones of deviation 0.01.
    pub uniform: Option<f32>,
    /// Positions of a window that are told; those before are their context.
    pub told: usize,
    /// Streams of an evaluation, or passages.
    pub evaluation_batch: usize,
}

/// The settings of an experiment, but for those that `like` has. Where the paper says nothing, the scripts do.
pub fn settings(task: TaskKind, args: &TrainArgs, like: Settings) -> Settings {
    let paper = args.settings == Source::Paper;
    let word = Language {
        measure: Measure::Perplexity,
        embedding: 600,
        embedding_dropout: 0.25,
        uniform: None,
        told: 40,
        evaluation_batch: 10,
    };
    let word_settings = Settings {
        length: 80,
        batch: 16,
        kernel: 3,
        levels: 4,
        hidden: 600,
        dropout: if paper { 0.5 } else { 0.45 },
        clip: if paper { 0.4 } else { 0.35 },
        optimizer: Optimizer::Sgd,
        learning_rate: 4.0,
        annealing: Annealing::Plateau { after: 4, window: 5, factor: 0.5 },
        epochs: 100,
        examples: (0, 0),
        output_std: None,
        ..like
    };
    let (language, settings) = match task {
        TaskKind::LmChar => (
            Language {
                measure: Measure::Bits,
                embedding: 100,
                embedding_dropout: 0.1,
                uniform: Some(0.1),
                told: 320,
                evaluation_batch: 1,
            },
            Settings {
                length: 400,
                batch: 32,
                levels: 3,
                hidden: 450,
                dropout: 0.1,
                clip: 0.15,
                annealing: Annealing::Plateau { after: 4, window: 3, factor: 0.1 },
                ..word_settings
            },
        ),
        TaskKind::Lambada => (
            Language { embedding: 500, embedding_dropout: 0.1, told: 50, ..word },
            Settings {
                length: 100,
                batch: 20,
                kernel: 4,
                levels: 5,
                hidden: 500,
                dropout: if paper { 0.4 } else { 0.1 },
                clip: 0.4,
                annealing: Annealing::Plateau { after: 4, window: 5, factor: 0.1 },
                ..word_settings
            },
        ),
        _ => (word, word_settings),
    };
    let language = Language {
        embedding: args.embedding.unwrap_or(language.embedding),
        told: args.told.unwrap_or(language.told),
        ..language
    };
    Settings { language: Some(language), ..settings }
}

/// Reads the text.
pub fn open(task: TaskKind, args: &TrainArgs, settings: &Settings) -> Result<Experiment> {
    let language = settings.language.as_ref().context("no language model")?;
    let path =
        args.data.as_ref().context("--data is needed: a folder with train, valid and test .txt, or a text file")?;
    let unit = match task {
        TaskKind::LmChar if args.bytes => Unit::Bytes,
        TaskKind::LmChar => Unit::Characters,
        _ => Unit::Words,
    };
    let corpus = Corpus::read(path, unit)?;
    ensure!(
        language.told > 0 && language.told <= settings.length,
        "--told must be 1 to {}, the positions of a window (--length)",
        settings.length
    );
    let streams = |text: &Text, batch: usize| -> Result<Arc<dyn Sequences>> {
        let streams = Streams::new(&text.ids, batch, settings.length, language.told);
        let streams = streams.with_context(|| {
            format!("{}: {} tokens are too few for {batch} streams", path.display(), text.ids.len())
        })?;
        Ok(Arc::new(streams))
    };
    let held_out = |text: &Text| -> Result<Arc<dyn Sequences>> {
        if task != TaskKind::Lambada {
            return streams(text, language.evaluation_batch);
        }
        let passages = Passages::new(text, &corpus.vocabulary, language.evaluation_batch, settings.length);
        Ok(Arc::new(passages.with_context(|| format!("{}: no line of two words", path.display()))?))
    };
    let classes = corpus.vocabulary.len();
    let unit = if unit == Unit::Words { "nats a word" } else { "nats a character" };
    Ok(Experiment {
        train: streams(&corpus.train, settings.batch)?,
        valid: Some(held_out(&corpus.valid)?),
        test: held_out(&corpus.test)?,
        inputs: language.embedding,
        like: SequenceConfig {
            input: SequenceInput::Classes {
                classes,
                embedding: language.embedding,
                dropout: language.embedding_dropout,
                uniform: language.uniform,
                tied: true,
            },
            body: Body::Tcn(TcnConfig::new(language.embedding, &[1], 1)),
            outputs: classes,
            objective: Objective::Classes,
            output_std: None,
        },
        unit,
        guess: Some(("guessing", (classes as f64).ln())),
    })
}

/// The same model; where its output is tied, an embedding as wide as a recurrent body.
pub fn fitted(config: SequenceConfig) -> SequenceConfig {
    let width = match &config.body {
        Body::Recurrent(recurrent) => recurrent.hidden * recurrent.directions(),
        Body::Tcn(_) => return config,
    };
    let input = match config.input {
        SequenceInput::Classes { classes, dropout, uniform, tied: true, .. } => {
            SequenceInput::Classes { classes, embedding: width, dropout, uniform, tied: true }
        }
        other => other,
    };
    SequenceConfig { input, ..config }
}
