//! `conv_gru train`: a forecaster from a table, its error and a picture of its forecasts.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::nn::{ConvRnn, ConvRnnConfig};

use crate::args::{DataArgs, ModelKind, RunArgs, TrainArgs};
use crate::comparison::{Comparison, ModelResult, RunResult};
use crate::data::Data;
use crate::forecast::{self, ForecastPlot, Point};
use crate::forecaster::{Forecaster, Setup, WEIGHTS, evaluate};
use crate::learn::{Learning, Trained};
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::record;
use crate::shared::terminal::{grouped, say};

pub fn train(args: &TrainArgs) -> Result<()> {
    args.run.check()?;
    let data = Data::open(&args.data)?;
    let out = &args.run.out;
    let fitted = args.run.fitted(&data.parts.train);
    let settings = record::settings(out, args, args.run.resume)?;
    // What is refused leaves an earlier run as it was.
    Device::select(&args.run.device)?;
    network(args.model, &fitted, &data)?;
    settings.write(&["result.json"])?;
    let stop = stop_on_interrupt()?;
    let Some(result) = run(args.model, &args.data, &fitted, &data, out, &stop)? else { return Ok(()) };
    let comparison = of(&args.data, &fitted, &data, vec![result]);
    comparison.write(&out.join("result.json"))?;
    say(&format!("\n{}\n{}", comparison.title(), comparison.table().trim_end()));
    let names = ["forecaster.json", WEIGHTS, "settings.json", "result.json", "loss.png", "forecast.png"];
    let names = names.iter().filter(|name| out.join(name).exists());
    let written: Vec<String> = names.map(|name| out.join(name).display().to_string()).collect();
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
        device: run.device.clone(),
        results,
    }
}

/// Trains a model with each seed, measures it, and leaves in `out` what it takes to use the one with the least error on the
/// validation part, and a picture of its forecasts. Nothing if it was stopped.
pub fn run(
    model: ModelKind,
    args: &DataArgs,
    run: &RunArgs,
    data: &Data,
    out: &Path,
    stop: &AtomicBool,
) -> Result<Option<ModelResult>> {
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
    let network = network(model, run, data)?;
    let deviation = data.parts.test.deviation();
    let measure = |folder: &Path, seed: u64, trained: Trained| {
        let mut forecaster = setup.forecaster(folder, &device, run.batch)?;
        let [valid, test] = [&data.parts.valid, &data.parts.test]
            .map(|part| evaluate(&mut *forecaster, part, run.batch).map(|(_, error)| error.scaled(deviation)));
        let Trained { seconds_per_epoch, epochs, best_epoch } = trained;
        anyhow::Ok(RunResult { seed, valid: valid?, test: test?, seconds_per_epoch, epochs, best_epoch })
    };
    let mut runs = Vec::new();
    match &network {
        None => {
            setup.write(&out.join("forecaster.json"))?;
            runs.push(measure(out, run.seed, Trained::default())?);
        }
        Some(network) => {
            let learning = Learning { network, model, run, data, device: &device, stop };
            let mut best: Option<f64> = None;
            for seed in run.seeds() {
                if stop.load(Ordering::SeqCst) {
                    return Ok(None);
                }
                let folder = out.join(format!("seed-{seed}"));
                make_folder(&folder)?;
                let Some(trained) = learning.learn(seed, &folder)? else { return Ok(None) };
                let result = measure(&folder, seed, trained)?;
                if best.is_none_or(|least| result.valid.mae < least) {
                    best = Some(result.valid.mae);
                    // Before the weights: those of another run must not be taken for ones of this.
                    setup.write(&out.join("forecaster.json"))?;
                    for name in [WEIGHTS, "loss.png"] {
                        fs::copy(folder.join(name), out.join(name))
                            .with_context(|| out.join(name).display().to_string())?;
                    }
                }
                runs.push(result);
            }
        }
    }
    let mut forecaster = setup.forecaster(out, &device, run.batch)?;
    picture(&out.join("forecast.png"), model, &mut *forecaster, run, data)?;
    let parameters = network.as_ref().map_or(Ok(0), ConvRnn::parameter_count)?;
    Ok(Some(ModelResult { model: model.name().to_owned(), parameters, runs }))
}

/// The network of a model that has one.
pub fn network(model: ModelKind, run: &RunArgs, data: &Data) -> Result<Option<ConvRnn>> {
    let windows = &data.parts.train;
    let relative = |config: ConvRnnConfig| match run.relative {
        true => config.relative_to(windows.target_column()),
        false => config,
    };
    let network =
        model.network(windows.features(), windows.steps(), run).map(relative).map(ConvRnn::new).transpose()?;
    Ok(network.map(|network| network.with_precision(run.precision)))
}

/// Draws a stretch of the test part.
fn picture(path: &Path, model: ModelKind, forecaster: &mut dyn Forecaster, run: &RunArgs, data: &Data) -> Result<()> {
    let windows = &data.parts.test;
    let (forecasts, _) = evaluate(forecaster, windows, run.batch)?;
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
    forecast::picture(path, &plot)
}

pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("--out {}: cannot make it", folder.display()))
}
