//! Trainings of one model with one or more seeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::graph::State;
use receptive::nn::Body;
use receptive::train::{Evaluator, Event, Limit, SequenceTask, Task as _, Trainer, TrainerOptions, save_model};

use crate::args::{TaskKind, TrainArgs};
use crate::record::{self, Epoch, Outcome, RunResult, describe, number};
use crate::settings::Settings;
use crate::shared::plot;
use crate::shared::terminal::{grouped, say};
use crate::tasks::Experiment;

pub fn train(task: TaskKind, args: &TrainArgs) -> Result<()> {
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
        fs::create_dir_all(&folder).with_context(|| format!("--out {}: cannot make it", folder.display()))?;
        let told = serde_json::json!({ "task": task, "arguments": args, "settings": settings });
        write(&folder.join("settings.json"), &(serde_json::to_string_pretty(&told)? + "\n"))?;
        let optimizer = settings.optimizer();
        let (train, chosen) = (&experiment.train, experiment.valid.as_ref().unwrap_or(&experiment.test));
        let task = SequenceTask::new(model.clone(), Arc::clone(train), Arc::clone(chosen), optimizer)?;
        let epochs = run(task, args, &settings, &experiment, &device, seed, &folder)?;
        outcomes.extend(Outcome::of(seed, &epochs));
    }
    let settings = serde_json::to_value(args.settings)?.as_str().unwrap_or_default().to_owned();
    let device = device.to_string();
    let result = RunResult { task, model: args.model, settings, parameters, receptive_field, device, outcomes };
    result.write(&out.join("result.json"))?;
    let (loss, deviation) = result.spread(|outcome| outcome.loss);
    let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {}", number(deviation)));
    say(&format!("test: {}{deviation} {}; wrote {}", number(loss), experiment.unit, out.display()));
    Ok(())
}

/// One training, from the start or from where it was left.
fn run(
    task: SequenceTask,
    args: &TrainArgs,
    settings: &Settings,
    experiment: &Experiment,
    device: &Device,
    seed: u64,
    folder: &Path,
) -> Result<Vec<Epoch>> {
    let (checkpoint, metrics) = (folder.join("checkpoint.safetensors"), folder.join("metrics.jsonl"));
    let steps = task.steps_per_epoch();
    let options = TrainerOptions { learning_rate: settings.learning_rate, seed, ..TrainerOptions::default() };
    let mut epochs = Vec::new();
    let mut trainer = match args.resume && checkpoint.exists() {
        true => {
            let trainer = Trainer::resume(task, device, options, &checkpoint)?;
            epochs = record::read(&metrics, trainer.step())?;
            trainer
        }
        false => Trainer::new(task, device, options)?,
    };
    record::write(&metrics, &epochs, true)?;
    let begun = Instant::now();
    let mut tests = match experiment.valid {
        Some(_) => Some(Evaluator::new(trainer.task().model(), trainer.store(), &*experiment.test)?),
        None => None,
    };
    let time_up = || args.minutes.is_some_and(|minutes| begun.elapsed().as_secs_f64() >= minutes * 60.0);
    while (epochs.len() as u64) < settings.epochs && !time_up() {
        let validations: Vec<f32> = epochs.iter().map(Epoch::chosen_by).collect();
        let learning_rate = settings.learning_rate * settings.annealing.share(&validations);
        trainer.set_learning_rate(learning_rate)?;
        let (start, mut sum, epoch) = (Instant::now(), 0.0, epochs.len() as u64 + 1);
        trainer.run(Limit::steps(epoch * steps), &AtomicBool::new(false), &mut |event| {
            if let Event::Step { step, loss, .. } = event {
                sum += f64::from(*loss);
                let done = step % steps + 1;
                if done.is_multiple_of((steps / 10).max(1)) && start.elapsed().as_secs() >= 20 {
                    say(&format!("  epoch {epoch}: {} of {} steps, loss {}", done, steps, number((*loss).into())));
                }
            }
        })?;
        let seconds = epochs.last().map_or(0.0, |last| last.seconds) + start.elapsed().as_secs_f64();
        let chosen = trainer.with_task(|task, store| task.evaluate(store))?;
        let test = match &mut tests {
            Some(evaluator) => evaluator.evaluate(&*experiment.test)?,
            None => chosen,
        };
        let line = Epoch {
            epoch,
            steps: epoch * steps,
            train_loss: sum / steps as f64,
            valid_loss: tests.is_some().then_some(chosen.loss),
            test_loss: test.loss,
            accuracy: test.accuracy,
            learning_rate,
            seconds,
        };
        let best = epochs.iter().all(|earlier| line.chosen_by() < earlier.chosen_by());
        epochs.push(line);
        record::write(&metrics, &[line], false)?;
        trainer.save(&checkpoint)?;
        if best {
            let (task, flat) = (trainer.task(), trainer.store().read(State::Params)?);
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
    }
    let curve = |of: &dyn Fn(&Epoch) -> f64| -> Vec<(u64, f32)> {
        epochs.iter().map(|epoch| (epoch.steps, of(epoch) as f32)).collect()
    };
    plot::losses(
        &folder.join("loss.png"),
        &plot::LossPlot {
            title: &format!("{}, seed {seed}", folder.display()),
            train: &curve(&|epoch| epoch.train_loss),
            valid: &curve(&|epoch| epoch.valid_loss.unwrap_or(epoch.test_loss)),
            baselines: experiment.guess.as_slice(),
            unit: experiment.unit,
        },
    )?;
    Ok(epochs)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
