//! What makes forecasts, and how it is kept.

use std::path::Path;

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::data::series::{ForecastError, Normalisation, ReadOptions, WindowBatch, WindowOptions, Windows};
use receptive::exec::Store;
use receptive::graph::State;
use receptive::nn::{ConvRnn, ConvRnnConfig};
use receptive::train::{Model, Predictor, load_model};
use serde::{Deserialize, Serialize};

use crate::args::ModelKind;

/// Makes forecasts.
pub trait Forecaster {
    /// A normalised forecast for each window of `input`, which is normalised, `[windows, steps, features]`.
    fn forecast(&mut self, input: &[f32], windows: usize) -> Result<Vec<f32>>;
}

/// Forecasts the last value of the target column that it sees.
pub struct Naive {
    /// The target's position among the columns.
    pub target: usize,
    pub features: usize,
}

impl Forecaster for Naive {
    fn forecast(&mut self, input: &[f32], windows: usize) -> Result<Vec<f32>> {
        let last = |window: &[f32]| window[window.len() - self.features + self.target];
        Ok(input.chunks_exact(input.len() / windows.max(1)).map(last).collect())
    }
}

/// A trained network.
pub struct Network(pub Predictor);

impl Forecaster for Network {
    fn forecast(&mut self, input: &[f32], windows: usize) -> Result<Vec<f32>> {
        Ok(self.0.forecast(input, windows)?)
    }
}

/// The file of a network's weights, beside the setup.
pub const WEIGHTS: &str = "model.safetensors";
/// The name of the kind of model in it.
pub const KIND: &str = "forecast";

/// What has to be known to use a forecaster on another table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub model: ModelKind,
    pub target: String,
    pub unit: Option<String>,
    /// The columns, in order.
    pub features: Vec<String>,
    pub normalisation: Normalisation,
    pub windows: WindowOptions,
    pub reading: ReadOptions,
}

impl Setup {
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("--model {}", path.display()))?;
        let hint = || format!("--model {}: this is not a forecaster.json that `train` wrote", path.display());
        serde_json::from_str(&text).with_context(hint)
    }

    /// The forecaster whose setup and weights lie in `folder`, for at most `batch` windows at once.
    pub fn forecaster(&self, folder: &Path, device: &Device, batch: usize) -> Result<Box<dyn Forecaster>> {
        if self.model == ModelKind::Naive {
            let target = self.features.iter().position(|name| *name == self.target);
            let target = target.with_context(|| format!("{} is not among the columns", self.target))?;
            return Ok(Box::new(Naive { target, features: self.features.len() }));
        }
        let file: Model<ConvRnnConfig> = load_model(folder.join(WEIGHTS), KIND)?;
        let network = ConvRnn::new(file.config.clone())?;
        let program = network.prediction(batch)?.program;
        let store = Store::new(device);
        store.write(State::Params, &file.flat(program.params())?)?;
        Ok(Box::new(Network(Predictor::new(&network, &store, batch)?)))
    }
}

/// Normalised forecasts of all windows of a part, in order, and how far off they are, in deviations.
pub fn evaluate(forecaster: &mut dyn Forecaster, windows: &Windows, batch: usize) -> Result<(Vec<f32>, ForecastError)> {
    let mut inputs = WindowBatch::new(batch, windows);
    let mut forecasts = Vec::with_capacity(windows.len());
    for index in 0..windows.batches(batch) {
        let count = windows.fill_in_order(index, &mut inputs);
        forecasts.extend_from_slice(&forecaster.forecast(&inputs.input, batch)?[..count]);
    }
    let pairs = forecasts.iter().enumerate();
    let error = ForecastError::of(pairs.map(|(at, forecast)| (f64::from(*forecast), windows.target(at).into())));
    Ok((forecasts, error))
}
