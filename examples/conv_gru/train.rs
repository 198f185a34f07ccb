//! `conv_gru train`: a forecaster from a table, its error and a picture of its forecasts.

use std::path::Path;

use anyhow::{Context as _, Result};
use receptive::data::series::ForecastError;

use crate::args::{DataArgs, ModelKind, RunArgs, TrainArgs};
use crate::comparison::{Comparison, ModelResult};
use crate::data::Data;
use crate::forecast::{self, ForecastPlot, Point};
use crate::forecaster::{Forecaster, Setup, evaluate};
use crate::shared::terminal::{grouped, say};

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
    let names = ["forecaster.json", "settings.json", "result.json", "forecast.png"];
    let written: Vec<String> = names.iter().map(|name| args.run.out.join(name).display().to_string()).collect();
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
    let (mut forecaster, trained) = match model {
        ModelKind::Naive => (setup.forecaster()?, Trained::default()),
    };
    setup.write(&out.join("forecaster.json"))?;
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
