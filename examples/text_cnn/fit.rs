//! One training, to the epoch after which the held-out sentences are told no better.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, ensure};
use receptive::Device;
use receptive::data::Sequences as _;
use receptive::data::text::Sentences;
use receptive::nn::{Channels, TextCnn, TextCnnConfig};
use receptive::optim::{Adadelta, Adagrad, Adam, Method, OptimizerConfig, Sgd};
use receptive::train::{Event, Limit, Reason, TextCnnTask, Trainer, TrainerOptions};

use crate::args::{FitArgs, Optimizer};
use crate::data::Corpus;
use crate::record::{self, Epoch};
use crate::shared;
use crate::shared::terminal::say;
use crate::shared::timing::timed;

/// Kim's decay of Adadelta's means; PyTorch's default is 0.9.
const RHO: f64 = 0.95;

/// A training to be.
pub struct Fit<'a> {
    pub args: &'a FitArgs,
    pub corpus: &'a Corpus,
    pub device: &'a Device,
    pub seed: u64,
    /// The sentences to learn from, those that choose the epoch among them.
    pub sentences: &'a Sentences,
    pub test: Option<&'a Sentences>,
    /// Where checkpoints and the lines of epochs go.
    pub files: Option<Files<'a>>,
    /// Goes before each line.
    pub name: String,
    /// Ends the training after the step it is at.
    pub stop: &'a AtomicBool,
}

/// The folder of a training.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub folder: &'a Path,
    /// What is written there once the training can begin.
    pub settings: &'a shared::record::Settings,
}

pub fn model(args: &FitArgs, corpus: &Corpus) -> Result<TextCnn> {
    let dimensions = corpus.vectors.as_ref().map_or(args.dimensions, |vectors| vectors.dimensions);
    let config = TextCnnConfig {
        dimensions,
        widths: args.widths.clone(),
        filters: args.filters,
        dropout: args.dropout,
        max_norm: (args.max_norm != 0.0).then_some(args.max_norm),
        ..TextCnnConfig::kim(corpus.vocabulary.len(), corpus.labels.len(), args.channels)
    };
    Ok(TextCnn::new(config)?.with_precision(args.precision))
}

fn optimizer(args: &FitArgs) -> (OptimizerConfig, f32) {
    let (method, learning_rate) = match args.optimizer {
        Optimizer::Adadelta => (Method::Adadelta(Adadelta { rho: RHO, ..Adadelta::default() }), 1.0),
        Optimizer::Adam => (Method::Adam(Adam::default()), 1e-3),
        Optimizer::Adagrad => (Method::Adagrad(Adagrad::default()), 1e-2),
        Optimizer::Sgd => (Method::Sgd(Sgd::default()), 1.0),
    };
    (OptimizerConfig { average: args.average, ..method.into() }, args.learning_rate.unwrap_or(learning_rate))
}

impl Fit<'_> {
    /// Trains; `on_best` is called after each epoch that is the best so far. Gives the epochs that are whole: one that is stopped
    /// is trained again, with the same numbers, when the training is gone on with.
    pub fn run(&self, mut on_best: impl FnMut(&mut Trainer<TextCnnTask>) -> Result<()>) -> Result<Vec<Epoch>> {
        let args = self.args;
        let (dev, train) = self.sentences.split(args.dev, self.seed);
        let (dev, train) = (self.sentences.subset(&dev), self.sentences.subset(&train));
        let (optimizer, learning_rate) = optimizer(args);
        let vectors = self.corpus.vectors.as_ref().map(Arc::clone);
        let task = TextCnnTask::new(model(args, self.corpus)?, train, dev.clone(), vectors, optimizer)?;
        let steps = task.steps_per_epoch();
        let options = TrainerOptions { learning_rate, seed: self.seed, ..TrainerOptions::default() };
        let at = |name: &str| self.files.map(|files| files.folder.join(name));
        let files = at("checkpoint.safetensors").zip(at("metrics.jsonl"));
        let mut epochs: Vec<Epoch> = Vec::new();
        let mut trainer = match &files {
            Some((checkpoint, metrics)) if args.resume && checkpoint.exists() => {
                let trainer = Trainer::resume(task, self.device, options, checkpoint)?;
                epochs = shared::record::read(metrics)?;
                epochs.retain(|epoch| epoch.steps <= trainer.step());
                ensure!(
                    epochs.last().is_some_and(|last| last.steps == trainer.step()),
                    "--resume: {} does not tell of the {} steps of {}; train anew in another folder",
                    metrics.display(),
                    trainer.step(),
                    checkpoint.display()
                );
                trainer
            }
            _ => Trainer::new(task, self.device, options)?,
        };
        if let (Some(Files { settings, .. }), Some((_, metrics))) = (self.files, &files) {
            settings.write(&["checkpoint.safetensors", "result.json", "loss.png"])?;
            shared::record::write(metrics, &epochs, true)?;
        }
        let ended = |epochs: &[Epoch]| {
            let best = record::best(epochs).map_or(0, |best| best.epoch);
            epochs.len() as u64 >= args.epochs || epochs.len() as u64 - best >= args.patience && !dev.is_empty()
        };
        while !ended(&epochs) {
            let (begun, mut sum, epoch) = (Instant::now(), 0.0, epochs.len() as u64 + 1);
            let outcome = timed(&mut trainer, |trainer| {
                trainer.run(Limit::steps(epoch * steps), self.stop, &mut |event| {
                    if let Event::Step { loss, .. } = event {
                        sum += f64::from(*loss);
                    }
                })
            })?;
            if outcome.reason == Reason::Stopped {
                break;
            }
            let seconds = epochs.last().map_or(0.0, |last| last.seconds) + begun.elapsed().as_secs_f64();
            let valid = match dev.is_empty() {
                true => None,
                false => Some(trainer.with_task(|task, store| task.evaluate_valid(store))?),
            };
            let test = self.test.map(|test| trainer.with_task(|task, store| task.evaluate(store, test))).transpose()?;
            epochs.push(Epoch {
                epoch,
                steps: epoch * steps,
                train_loss: sum / steps as f64,
                dev_loss: valid.map(|valid| valid.loss),
                dev_accuracy: valid.and_then(|valid| valid.accuracy),
                test_accuracy: test.and_then(|test| test.accuracy),
                seconds,
            });
            let line = epochs[epochs.len() - 1];
            let best = record::best(&epochs).is_some_and(|best| best.epoch == epoch);
            if best {
                on_best(&mut trainer)?;
            }
            if let Some((checkpoint, metrics)) = &files {
                shared::record::write(metrics, &[line], false)?;
                trainer.save(checkpoint)?;
            }
            let dev = line.dev_loss.map_or(String::new(), |loss| format!(", dev {loss:.4}"));
            say(&format!(
                "{}epoch {epoch}: training {:.4}{dev}{}{}{}, {seconds:.0} s",
                self.name,
                line.train_loss,
                record::percent("dev", line.dev_accuracy),
                record::percent("test", line.test_accuracy),
                if best { " (best)" } else { "" },
            ));
        }
        Ok(epochs)
    }
}

/// Such as `random vectors`.
pub fn describe(channels: Channels) -> &'static str {
    match channels {
        Channels::Random => "random vectors",
        Channels::Static => "static vectors",
        Channels::NonStatic => "non-static vectors",
        Channels::Multichannel => "static and non-static vectors",
    }
}
