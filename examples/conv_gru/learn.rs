//! One training of a network with one seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use receptive::Device;
use receptive::graph::State;
use receptive::nn::ConvRnn;
use receptive::optim::{Adam, Method, OptimizerConfig, RmsProp};
use receptive::train::{Event, ForecastTask, Limit, Task as _, Trainer, TrainerOptions, save_model};
use serde::{Deserialize, Serialize};

use crate::args::{ModelKind, Optimizer, RunArgs};
use crate::data::Data;
use crate::forecaster::{KIND, WEIGHTS};
use crate::shared::terminal::{grouped, say};
use crate::shared::timing::timed;
use crate::shared::{plot, record};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Epoch {
    /// Counted from 1.
    epoch: u64,
    /// Steps of the whole training so far.
    steps: u64,
    /// The mean loss of its steps.
    train_mae: f64,
    /// In deviations; nothing for an epoch that was interrupted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    valid_mae: Option<f32>,
    /// Time of its training steps.
    seconds: f64,
}

/// What a training says of itself; nothing for a model that isn't trained.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trained {
    pub seconds_per_epoch: Option<f64>,
    pub epochs: u64,
    pub best_epoch: Option<u64>,
}

/// What is trained, and on what.
pub struct Learning<'a> {
    pub network: &'a ConvRnn,
    pub model: ModelKind,
    pub run: &'a RunArgs,
    pub data: &'a Data,
    pub device: &'a Device,
    /// Ends the training after the step it is at.
    pub stop: &'a AtomicBool,
}

impl Learning<'_> {
    /// Trains for all epochs, from the start or from where a run was left, and keeps in `folder` the weights of the epoch with the
    /// least error on the validation part. Nothing if it was stopped: then all is saved to go on.
    pub fn learn(&self, seed: u64, folder: &Path) -> Result<Option<Trained>> {
        let checkpoint = folder.join("checkpoint.safetensors");
        let mut trainer = self.trainer(seed, &checkpoint)?;
        let epochs = timed(&mut trainer, |trainer| self.epochs(trainer, folder, &checkpoint))?;
        if (epochs.len() as u64) < self.run.epochs {
            say(&format!(
                "stopped at step {}; {} is saved, --resume goes on",
                grouped(trainer.step() as usize),
                checkpoint.display()
            ));
            return Ok(None);
        }
        let losses: Vec<(u64, f32)> = epochs.iter().map(|epoch| (epoch.steps, epoch.train_mae as f32)).collect();
        let errors: Vec<(u64, f32)> = epochs.iter().filter_map(|e| Some((e.steps, e.valid_mae?))).collect();
        plot::losses(
            &folder.join("loss.png"),
            &plot::LossPlot {
                title: &format!("{}: mean absolute error of {}", self.model.name(), self.data.column),
                train: &losses,
                each: "epoch",
                valid: &errors,
                valid_name: "validation",
                baselines: &[("naive", self.data.parts.valid.naive_error().mae)],
                unit: "deviations",
            },
        )?;
        // The first epoch also compiles kernels, where that is not done when they are planned.
        let seconds_per_epoch = epochs.iter().map(|epoch| epoch.seconds).min_by(f64::total_cmp);
        // Of equals the first, whose weights were kept.
        let error = |epoch: &&Epoch| epoch.valid_mae.unwrap_or(f32::NAN);
        let best = epochs.iter().min_by(|a, b| error(a).total_cmp(&error(b)));
        let best_epoch = best.map(|best| best.epoch);
        Ok(Some(Trained { seconds_per_epoch, epochs: epochs.len() as u64, best_epoch }))
    }

    fn trainer(&self, seed: u64, checkpoint: &Path) -> Result<Trainer<ForecastTask>> {
        let Self { run, data, device, .. } = self;
        let weight_decay = run.weight_decay;
        let method = match run.optimizer {
            Optimizer::Adam => Method::Adam(Adam { weight_decay, ..Adam::default() }),
            Optimizer::Rmsprop => {
                Method::RmsProp(RmsProp { alpha: 0.9, eps: 1e-7, weight_decay, ..RmsProp::default() })
            }
        };
        let optimizer = OptimizerConfig { method, clip_norm: Some(1.0), average: run.average };
        let (train, valid) = (data.parts.train.clone(), data.parts.valid.clone());
        let task = ForecastTask::new(self.network.clone(), train, valid, run.batch, optimizer)?;
        let options = TrainerOptions { learning_rate: run.learning_rate, seed, ..TrainerOptions::default() };
        if run.resume && checkpoint.exists() {
            return Trainer::resume(task, device, options, checkpoint).context("--resume");
        }
        let trainer = Trainer::new(task, device, options)?;
        // Else a run that is stopped before its first checkpoint would go on with this one.
        record::remove(&[checkpoint.to_owned()])?;
        Ok(trainer)
    }

    /// Trains; gives the epochs that are whole.
    fn epochs(&self, trainer: &mut Trainer<ForecastTask>, folder: &Path, checkpoint: &Path) -> Result<Vec<Epoch>> {
        let run = self.run;
        let steps = run.steps_per_epoch.unwrap_or(trainer.task().steps_per_epoch());
        say(&format!(
            "{}: {} parameters, {} steps an epoch on {}",
            self.model.name(),
            grouped(self.network.parameter_count()?),
            grouped(steps as usize),
            self.device
        ));
        let metrics = folder.join("metrics.jsonl");
        let mut epochs: Vec<Epoch> = match trainer.step() {
            0 => Vec::new(),
            step => record::read(&metrics)?.into_iter().filter(|line: &Epoch| line.steps <= step).collect(),
        };
        record::write(&metrics, &epochs, true)?;
        let mut begun = epochs.last().copied().filter(|epoch| epoch.valid_mae.is_none());
        epochs.retain(|epoch| epoch.valid_mae.is_some());
        let as_now = epochs.iter().zip(1..).all(|(line, number)| line.steps == number * steps)
            && begun.is_none_or(|begun| begun.steps < (epochs.len() as u64 + 1) * steps);
        ensure!(as_now, "--resume: {} has epochs of another length than {steps} steps", metrics.display());
        while (epochs.len() as u64) < run.epochs {
            let epoch = epochs.len() as u64 + 1;
            let first = (epoch - 1) * steps;
            let (mut sum, seconds) = begun
                .take()
                .map_or((0.0, 0.0), |begun: Epoch| (begun.train_mae * (begun.steps - first) as f64, begun.seconds));
            let start = Instant::now();
            let outcome = trainer.run(Limit::steps(epoch * steps), self.stop, &mut |event| {
                if let Event::Step { loss, .. } = event {
                    sum += f64::from(*loss);
                }
            })?;
            let seconds = seconds + start.elapsed().as_secs_f64();
            let done = outcome.step - first;
            let train_mae = sum / done.max(1) as f64;
            let mut line = Epoch { epoch, steps: outcome.step, train_mae, valid_mae: None, seconds };
            if done < steps {
                if done > 0 {
                    record::write(&metrics, &[line], false)?;
                }
                trainer.save(checkpoint)?;
                break;
            }
            let error = trainer.validate()?.context("no windows to validate with")?;
            line.valid_mae = Some(error);
            let is_best = epochs.iter().all(|earlier| earlier.valid_mae.is_none_or(|least| error < least));
            epochs.push(line);
            record::write(&metrics, &[line], false)?;
            if is_best {
                let (task, flat) = (trainer.task(), trainer.weights().read(State::Params)?);
                let (config, layout) = (task.model().config(), task.program().params());
                save_model(folder.join(WEIGHTS), KIND, config, layout, &flat, &BTreeMap::new())?;
            }
            // Last, for what a checkpoint has is not made again.
            trainer.save(checkpoint)?;
            say(&format!(
                "epoch {epoch}: training {train_mae:.4}, validation {error:.4} deviations{}, {seconds:.1} s",
                if is_best { " (best)" } else { "" },
            ));
        }
        Ok(epochs)
    }
}
