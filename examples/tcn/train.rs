//! Trainings of one model with one or more seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use receptive::Device;
use receptive::graph::State;
use receptive::nn::Body;
use receptive::train::{Evaluator, Event, Limit, Reason, SequenceTask, Task as _, Trainer, TrainerOptions, save_model};

use crate::args::{TaskKind, TrainArgs};
use crate::language::{Measure, Measured};
use crate::record::{self, Epoch, Outcome, RunResult, UnderWay, describe, number};
use crate::settings::Settings;
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::terminal::{grouped, say};
use crate::shared::{self, plot};
use crate::tasks::Experiment;

/// Trains with all seeds that are asked for.
pub fn train(task: TaskKind, args: &TrainArgs) -> Result<()> {
    train_until(task, args, &*stop_on_interrupt()?)
}

/// The same, until it is stopped.
pub fn train_until(task: TaskKind, args: &TrainArgs, stop: &AtomicBool) -> Result<()> {
    let settings = Settings::new(task, args)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs/tcn").join(format!("{}-{}", task.name(), args.model.name())));
    let experiment = task.open(args, &settings)?;
    let model = settings.model(args, experiment.inputs, &experiment.like)?;
    let device = Device::select(&args.device)?;
    let receptive_field = match &model.config().body {
        Body::Tcn(config) => Some(config.receptive_field()),
        Body::Recurrent(_) => None,
    };
    let parameters = model.parameter_count()?;
    let sees = receptive_field.map_or(String::new(), |field| format!(", receptive field {}", grouped(field)));
    say(&format!("{} by {}: {} parameters{sees}, on {device}", task.name(), args.model.name(), grouped(parameters)));
    let mut outcomes = Vec::new();
    for seed in args.seed..args.seed + args.seeds {
        let folder = out.join(format!("seed-{seed}"));
        let told = serde_json::json!({ "task": task, "arguments": args, "settings": settings });
        let told = shared::record::settings(&folder, &told, args.resume)?;
        let optimizer = settings.optimizer();
        let (train, chosen) = (&experiment.train, experiment.valid.as_ref().unwrap_or(&experiment.test));
        let task = SequenceTask::new(model.clone(), Arc::clone(train), Arc::clone(chosen), optimizer)?;
        let run =
            Run { args, settings: &settings, told: &told, experiment: &experiment, seed, out: &out, folder: &folder };
        let epochs = run.train(task, &device, stop)?;
        if stop.load(Ordering::SeqCst) {
            say("stopped; the checkpoint is saved, --resume goes on");
            return Ok(());
        }
        outcomes.extend(Outcome::of(seed, &epochs));
    }
    let settings = serde_json::to_value(args.settings)?.as_str().unwrap_or_default().to_owned();
    let device = device.to_string();
    let result = RunResult {
        task,
        model: args.model,
        settings,
        told: args.told(),
        parameters,
        receptive_field,
        device,
        outcomes,
    };
    result.write(&out.join("result.json"))?;
    let (loss, deviation) = result.spread(|outcome| outcome.loss);
    let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {}", number(deviation)));
    say(&format!("test: {}{deviation} {}; wrote {}", number(loss), experiment.unit, out.display()));
    if let Some(measure) = Measure::of_task(task) {
        let (mean, _) = result.spread(|outcome| measure.of(outcome.loss));
        say(&format!("  {}: {mean:.3}", measure.name()));
    }
    Ok(())
}

/// One training.
struct Run<'a> {
    args: &'a TrainArgs,
    settings: &'a Settings,
    /// What is written to the folder once the training can begin.
    told: &'a shared::record::Settings,
    experiment: &'a Experiment,
    seed: u64,
    /// Where the result of all seeds goes, and what is left of this one.
    out: &'a Path,
    folder: &'a Path,
}

impl Run<'_> {
    /// Trains from the start or from where it was left; gives the epochs that are whole.
    fn train(&self, task: SequenceTask, device: &Device, stop: &AtomicBool) -> Result<Vec<Epoch>> {
        let Self { args, settings, told, experiment, seed, out, folder } = *self;
        let (checkpoint, metrics) = (folder.join("checkpoint.safetensors"), folder.join("metrics.jsonl"));
        let steps = task.steps_per_epoch();
        let options = TrainerOptions { learning_rate: settings.learning_rate, seed, ..TrainerOptions::default() };
        let (mut epochs, mut under_way) = (Vec::new(), UnderWay::default());
        let mut trainer = match args.resume && checkpoint.exists() {
            true => {
                let trainer = Trainer::resume(task, device, options, &checkpoint)?;
                epochs = record::read(&metrics, trainer.step())?;
                under_way = UnderWay::read(folder, trainer.step())?;
                trainer
            }
            false => Trainer::new(task, device, options)?,
        };
        told.write(&["checkpoint.safetensors", UnderWay::FILE])?;
        if !args.resume {
            shared::record::remove(&[out.join("result.json")])?;
        }
        shared::record::write(&metrics, &epochs, true)?;
        let begun = Instant::now();
        let mut tests = match experiment.valid {
            Some(_) => Some(Evaluator::new(trainer.task().model(), trainer.weights(), &*experiment.test)?),
            None => None,
        };
        let time_up = || args.minutes.is_some_and(|minutes| begun.elapsed().as_secs_f64() >= minutes * 60.0);
        while (epochs.len() as u64) < settings.epochs && !time_up() {
            let validations: Vec<f32> = epochs.iter().map(Epoch::chosen_by).collect();
            let learning_rate = settings.learning_rate * settings.annealing.share(&validations);
            trainer.set_learning_rate(learning_rate)?;
            let (start, epoch) = (Instant::now(), epochs.len() as u64 + 1);
            let outcome = trainer.run(Limit::steps(epoch * steps), stop, &mut |event| {
                if let Event::Step { step, loss, .. } = event {
                    under_way.loss += f64::from(*loss);
                    let done = step % steps + 1;
                    if done.is_multiple_of((steps / 10).max(1)) && start.elapsed().as_secs() >= 20 {
                        say(&format!("  epoch {epoch}: {} of {} steps, loss {}", done, steps, number((*loss).into())));
                    }
                }
            })?;
            under_way.seconds += start.elapsed().as_secs_f64();
            if outcome.reason == Reason::Stopped {
                under_way.step = trainer.step();
                trainer.save(&checkpoint)?;
                under_way.write(folder)?;
                break;
            }
            let UnderWay { loss, seconds, .. } = std::mem::take(&mut under_way);
            let seconds = epochs.last().map_or(0.0, |last| last.seconds) + seconds;
            let chosen = trainer.with_task(|task, store| task.evaluate(store))?;
            let test = match &mut tests {
                Some(evaluator) => evaluator.evaluate(&*experiment.test)?,
                None => chosen,
            };
            let line = Epoch {
                epoch,
                steps: epoch * steps,
                train_loss: loss / steps as f64,
                valid_loss: tests.is_some().then_some(chosen.loss),
                test_loss: test.loss,
                accuracy: test.accuracy,
                measured: Measured::of(settings, chosen.loss, test.loss),
                learning_rate,
                seconds,
            };
            let best = epochs.iter().all(|earlier| line.chosen_by() < earlier.chosen_by());
            epochs.push(line);
            shared::record::write(&metrics, &[line], false)?;
            trainer.save(&checkpoint)?;
            if best {
                let (task, flat) = (trainer.task(), trainer.weights().read(State::Params)?);
                let path = folder.join("model.safetensors");
                save_model(path, "sequence", task.model().config(), task.program().params(), &flat, &BTreeMap::new())?;
            }
            let valid = line.valid_loss.map_or(String::new(), |loss| format!(", validation {}", number(loss)));
            say(&format!(
                "epoch {epoch}: training {}{valid}, test {}{}, {:.0} s",
                number(line.train_loss),
                describe(&test),
                if best { " (best)" } else { "" },
                seconds
            ));
            if let Some(measured) = &line.measured {
                say(&measured.line());
            }
        }
        self.draw(&epochs)?;
        Ok(epochs)
    }

    /// The curves.
    fn draw(&self, epochs: &[Epoch]) -> Result<()> {
        let curve = |of: &dyn Fn(&Epoch) -> f64| -> Vec<(u64, f32)> {
            epochs.iter().map(|epoch| (epoch.steps, of(epoch) as f32)).collect()
        };
        plot::losses(
            &self.folder.join("loss.png"),
            &plot::LossPlot {
                title: &format!("{}, seed {}", self.folder.display(), self.seed),
                train: &curve(&|epoch| epoch.train_loss),
                each: "epoch",
                valid: &curve(&|epoch| epoch.valid_loss.unwrap_or(epoch.test_loss)),
                valid_name: if self.experiment.valid.is_some() { "validation" } else { "test" },
                baselines: self.experiment.guess.as_slice(),
                unit: self.experiment.unit,
            },
        )
    }
}
