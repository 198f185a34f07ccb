//! `conv_gru train`: a forecaster from a table, its error and a picture of its forecasts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::data::series::ForecastError;
use receptive::graph::State;
use receptive::nn::ConvRnn;
use receptive::optim::{Adam, Method, OptimizerConfig, RmsProp};
use receptive::train::{Event, ForecastTask, Limit, Task as _, Trainer, TrainerOptions, save_model};

use crate::args::{DataArgs, ModelKind, Optimizer, RunArgs, TrainArgs};
use crate::comparison::{Comparison, ModelResult};
use crate::data::Data;
use crate::forecast::{self, ForecastPlot, Point};
use crate::forecaster::{Forecaster, KIND, Setup, WEIGHTS, evaluate};
use crate::shared::plot;
use crate::shared::terminal::{grouped, say};
use crate::shared::timing::timed;

pub fn train(args: &TrainArgs) -> Result<()> {
    args.run.check()?;
    let data = Data::open(&args.data)?;
    make_folder(&args.run.out)?;
    let result = run(args.model, &args.data, &args.run, &data, &args.run.out)?;
    let settings = serde_json::to_string_pretty(args)? + "\n";
    write(&args.run.out.join("settings.json"), &settings)?;
    let comparison = of(&args.data, &args.run, &data, vec![result]);
    comparison.write(&args.run.out.join("result.json"))?;
    say(&format!("\n{}\n{}", comparison.title(), comparison.table().trim_end()));
    let names = ["forecaster.json", WEIGHTS, "settings.json", "result.json", "loss.png", "forecast.png"];
    let names = names.iter().filter(|name| args.run.out.join(name).exists());
    let written: Vec<String> = names.map(|name| args.run.out.join(name).display().to_string()).collect();
    say(&format!("wrote {}", written.join(", ")));
    Ok(())
}

/// Results with what they are results of.
pub fn of(args: &DataArgs, run: &RunArgs, data: &Data, results: Vec<ModelResult>) -> Comparison {
    let name = args.data.file_name().map_or_else(|| args.data.display().to_string(), |name| name.display().to_string());
    Comparison {
        data: name,
        target: args.target.clone(),
        unit: args.unit.clone(),
        windows: args.windows(),
        batch: run.batch,
        steps_per_epoch: run.steps_per_epoch.unwrap_or(data.parts.train.batches(run.batch) as u64),
        seed: run.seed,
        device: run.device.clone(),
        results,
    }
}

/// Trains a model, measures it, and leaves in `out` what it takes to use it and a picture of its forecasts.
pub fn run(model: ModelKind, args: &DataArgs, run: &RunArgs, data: &Data, out: &Path) -> Result<ModelResult> {
    let setup = Setup {
        model,
        target: args.target.clone(),
        unit: args.unit.clone(),
        features: data.series.names().to_vec(),
        normalisation: data.parts.normalisation.clone(),
        windows: args.windows(),
        reading: args.reading(),
    };
    let device = Device::select(&run.device)?;
    let windows = &data.parts.train;
    let trained = match model.network(windows.features(), windows.steps(), run) {
        Some(config) if run.relative => {
            let network = ConvRnn::new(config.relative_to(windows.target_column()))?.with_precision(run.precision);
            learn(network, model, run, data, &device, out)?
        }
        Some(config) => learn(ConvRnn::new(config)?.with_precision(run.precision), model, run, data, &device, out)?,
        None => Trained::default(),
    };
    setup.write(&out.join("forecaster.json"))?;
    let mut forecaster = setup.forecaster(out, &device, run.batch)?;
    let deviation = data.parts.test.deviation();
    let (_, valid) = evaluate(&mut *forecaster, &data.parts.valid, run.batch)?;
    let test = picture(&out.join("forecast.png"), model, &mut *forecaster, run, data)?;
    Ok(ModelResult {
        model: model.name().to_owned(),
        parameters: trained.parameters,
        valid: valid.scaled(deviation),
        test: test.scaled(deviation),
        seconds_per_epoch: trained.seconds_per_epoch,
        epochs: trained.epochs,
        best_epoch: trained.best_epoch,
    })
}

/// What a training says of itself; nothing for a model that isn't trained.
#[derive(Debug, Clone, Copy, Default)]
struct Trained {
    parameters: usize,
    seconds_per_epoch: Option<f64>,
    epochs: u64,
    best_epoch: Option<u64>,
}

/// Trains a network for all epochs and saves the weights of the one with the least error on the validation part.
fn learn(
    network: ConvRnn,
    model: ModelKind,
    run: &RunArgs,
    data: &Data,
    device: &Device,
    out: &Path,
) -> Result<Trained> {
    let parameters = network.parameter_count()?;
    let method = match run.optimizer {
        Optimizer::Adam => Method::Adam(Adam { weight_decay: run.weight_decay, ..Adam::default() }),
        Optimizer::Rmsprop => {
            let weight_decay = run.weight_decay;
            Method::RmsProp(RmsProp { alpha: 0.9, eps: 1e-7, weight_decay, ..RmsProp::default() })
        }
    };
    let optimizer = OptimizerConfig { method, clip_norm: Some(1.0) };
    let task = ForecastTask::new(network, data.parts.train.clone(), data.parts.valid.clone(), run.batch, optimizer)?;
    let steps = run.steps_per_epoch.unwrap_or(task.steps_per_epoch());
    let options = TrainerOptions { learning_rate: run.learning_rate, seed: run.seed, ..TrainerOptions::default() };
    let mut trainer = Trainer::new(task, device, options)?;
    say(&format!(
        "{}: {} parameters, {} steps an epoch on {device}",
        model.name(),
        grouped(parameters),
        grouped(steps as usize)
    ));

    let (mut seconds, mut losses, mut errors) = (vec![], vec![], vec![]);
    // Its error, number and weights.
    let mut best: Option<(f32, u64, Vec<f32>)> = None;
    timed(&mut trainer, |trainer| {
        for epoch in 1..=run.epochs {
            let (begun, mut sum) = (Instant::now(), 0.0);
            trainer.run(Limit::steps(epoch * steps), &AtomicBool::new(false), &mut |event| {
                if let Event::Step { loss, .. } = event {
                    sum += f64::from(*loss);
                }
            })?;
            seconds.push(begun.elapsed().as_secs_f64());
            let error = trainer.validate()?.context("no windows to validate with")?;
            let loss = (sum / steps as f64) as f32;
            losses.push((epoch * steps, loss));
            errors.push((epoch * steps, error));
            let is_best = best.as_ref().is_none_or(|(least, ..)| error < *least);
            if is_best {
                best = Some((error, epoch, trainer.store().read(State::Params)?));
            }
            say(&format!(
                "epoch {epoch}: training {loss:.4}, validation {error:.4} deviations{}, {:.1} s",
                if is_best { " (best)" } else { "" },
                seconds[seconds.len() - 1]
            ));
        }
        anyhow::Ok(())
    })?;
    let (_, best_epoch, weights) = best.context("no epoch was trained")?;
    let (config, program) = (trainer.task().model().config(), trainer.task().program());
    save_model(out.join(WEIGHTS), KIND, config, program.params(), &weights, &BTreeMap::new())?;
    let naive = data.parts.valid.naive_error().mae;
    plot::losses(
        &out.join("loss.png"),
        &plot::LossPlot {
            title: &format!("{}: mean absolute error of {}", model.name(), data.column),
            train: &losses,
            valid: &errors,
            baselines: &[("naive", naive)],
            unit: "deviations",
        },
    )?;
    // The first epoch also compiles kernels, where that is not done when they are planned.
    let seconds_per_epoch = seconds.iter().copied().min_by(f64::total_cmp);
    Ok(Trained { parameters, seconds_per_epoch, epochs: run.epochs, best_epoch: Some(best_epoch) })
}

/// Draws a stretch of the test part; returns the error over all of it, in deviations.
fn picture(
    path: &Path,
    model: ModelKind,
    forecaster: &mut dyn Forecaster,
    run: &RunArgs,
    data: &Data,
) -> Result<ForecastError> {
    let windows = &data.parts.test;
    let (forecasts, error) = evaluate(forecaster, windows, run.batch)?;
    let point = |(at, forecast): (usize, &f32)| Point {
        row: windows.target_row(at),
        truth: windows.in_units(windows.target(at)),
        forecast: windows.in_units(*forecast),
        naive: windows.in_units(windows.naive(at)),
    };
    let points: Vec<Point> = forecasts.iter().enumerate().map(point).collect();
    let shown = &points[forecast::typical(&points, run.show)];
    let times: Option<Vec<&str>> = shown.iter().map(|point| data.series.time(point.row)).collect();
    let options = windows.options();
    let plot = ForecastPlot {
        title: &format!("{}, {} rows ahead", data.column, grouped(options.delay + options.step)),
        model: model.name(),
        column: &data.column,
        points: shown,
        times: times.as_deref(),
        naive: model != ModelKind::Naive,
    };
    forecast::picture(path, &plot)?;
    Ok(error)
}

pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("--out {}: cannot make it", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
