//! `conv_gru predict`: forecasts for a table, beyond its end as well.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use receptive::Device;
use receptive::data::series::{Series, WindowInputs};

use crate::args::PredictArgs;
use crate::forecaster::Setup;
use crate::shared::terminal::{grouped, say};

/// Windows that are forecast at a time.
const BATCH: usize = 128;

pub fn predict(args: &PredictArgs) -> Result<()> {
    ensure!(!args.out.is_dir(), "--out {}: this is a folder; name a file, such as forecasts.csv", args.out.display());
    let setup = Setup::read(&args.model)?;
    let device = Device::auto()?;
    let mut forecaster = setup.forecaster(args.model.parent().unwrap_or(Path::new("")), &device, BATCH)?;
    let series = Series::read(&args.data, &setup.reading)?.select(&setup.features)?;
    let rows = series.rows();
    let inputs = WindowInputs::new(&series, &setup.target, &setup.normalisation, &setup.windows)?;
    let target = series.column(&setup.target)?;

    let first = args.last.map_or(0, |last| (rows + 1).saturating_sub(last));
    let ready: Vec<usize> = (first..=rows).filter(|&row| inputs.before(row).is_some()).collect();
    let mut text = "row,time,forecast,truth\n".to_owned();
    let mut last = None;
    for ready in ready.chunks(BATCH) {
        // The last batch is filled up, so that all are of one size.
        let padded = ready.iter().chain(std::iter::repeat(&ready[0])).take(BATCH);
        let input: Vec<f32> = padded.flat_map(|&row| inputs.before(row).unwrap_or_default()).collect();
        let forecasts = forecaster.forecast(&input, BATCH)?;
        for (row, forecast) in ready.iter().map(|row| row + setup.windows.delay).zip(forecasts) {
            let forecast = inputs.in_units(forecast);
            let truth = series.row(row).get(target).filter(|truth| !truth.is_nan());
            let truth = truth.map_or(String::new(), ToString::to_string);
            let time = series.time(row).unwrap_or_default().replace('"', "\"\"");
            let _ = writeln!(text, "{row},\"{time}\",{forecast},{truth}");
            last = Some((row, forecast));
        }
    }
    let (row, forecast) = last.with_context(|| {
        let (path, lookback) = (args.data.display(), setup.windows.lookback);
        format!("{path}: it has {rows} rows; a forecast needs {lookback} in a row without a gap, so give more of them")
    })?;
    std::fs::write(&args.out, text).with_context(|| format!("--out {}", args.out.display()))?;
    let unit = setup.unit.map_or(String::new(), |unit| format!(" {unit}"));
    let after = match (row + 1).saturating_sub(rows) {
        0 => format!("row {}", grouped(row)),
        after => format!("{} rows after the end of the table", grouped(after)),
    };
    say(&format!("{}, {after}: {forecast:.4}{unit}", setup.target));
    say(&format!("wrote {} forecasts to {}", grouped(ready.len()), args.out.display()));
    Ok(())
}
