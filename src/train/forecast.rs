//! Training a model to forecast from windows of a series.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Value, json};

use super::task::Task;
use crate::data::series::{WindowBatch, Windows};
use crate::data::{Order, Prefetch};
use crate::error::{Error, Result};
use crate::exec::{Executor, Store};
use crate::graph::{Extent, Program, StepArgs};
use crate::hash::Hash;
use crate::nn::{ConvRnn, ConvRnnConfig, ConvRnnProgram};
use crate::optim::OptimizerConfig;

/// Batches made ahead: one is in use while the others are made.
const BUFFERS: usize = 3;

/// A model that forecasts a normalised value from each window.
#[derive(Debug)]
pub struct Predictor {
    program: ConvRnnProgram,
    executor: Executor,
    batch: usize,
    config: ConvRnnConfig,
    prepared: Vec<f32>,
}

impl Predictor {
    /// A predictor of at most `batch` windows at once, with the parameters in `store`.
    ///
    /// # Errors
    /// As [`ConvRnn::prediction`] and [`Executor::new`].
    pub fn new(model: &ConvRnn, store: &Store, batch: usize) -> Result<Self> {
        let program = model.prediction(batch)?;
        let executor = Executor::new(&program.program, store)?;
        Ok(Self { program, executor, batch, config: model.config().clone(), prepared: vec![] })
    }

    /// The forecasts of `windows` windows of `input`, `[windows, time, inputs]`. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Graph`] if there are none, or more than it was made for; what running a program gives.
    pub fn forecast(&mut self, input: &[f32], windows: usize) -> Result<Vec<f32>> {
        if windows == 0 || windows > self.batch {
            return Err(Error::Graph(format!("a predictor of 1 to {} windows was given {windows}", self.batch)));
        }
        self.prepared.clear();
        self.prepared.extend_from_slice(input);
        let levels = self.config.prepare(&mut self.prepared);
        self.executor.resize(Extent { batch: windows, time: self.config.time })?;
        self.executor.write(self.program.input, &self.prepared)?;
        self.executor.run(&StepArgs::default())?;
        let mut forecasts = self.executor.read(self.program.output)?;
        for (forecasts, level) in forecasts.chunks_exact_mut(self.config.outputs).zip(levels) {
            forecasts.iter_mut().for_each(|forecast| *forecast += level);
        }
        Ok(forecasts)
    }
}

/// A model and the windows that it is trained and validated with.
#[derive(Debug)]
pub struct ForecastTask {
    model: ConvRnn,
    optimizer: OptimizerConfig,
    batch: usize,
    train: Arc<Windows>,
    /// Of the windows to train with, and of those to choose by.
    data_hashes: [String; 2],
    valid: Windows,
    program: ConvRnnProgram,
    predictor: Option<Predictor>,
}

impl ForecastTask {
    /// A task of `batch` windows a step, with the mean absolute error as loss.
    ///
    /// # Errors
    /// [`Error::Config`] if the batch is 0 or the model has another input or output than the windows; as
    /// [`ConvRnn::training`].
    pub fn new(
        model: ConvRnn,
        train: Windows,
        valid: Windows,
        batch: usize,
        optimizer: OptimizerConfig,
    ) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Config("batch must be at least 1, got 0".into()));
        }
        let config = model.config();
        for windows in [&train, &valid] {
            let (made, given) =
                ([config.time, config.inputs, config.outputs], [windows.steps(), windows.features(), 1]);
            if made != given {
                return Err(Error::Config(format!(
                    "a model of [time, inputs, outputs] {made:?} can't forecast from windows of {given:?}"
                )));
            }
        }
        let program = model.training(batch, &optimizer)?;
        let data_hashes = [hash(&train), hash(&valid)];
        Ok(Self { model, optimizer, batch, train: Arc::new(train), data_hashes, valid, program, predictor: None })
    }

    /// The model.
    pub fn model(&self) -> &ConvRnn {
        &self.model
    }

    /// Steps that it takes to see as many windows as there are.
    pub fn steps_per_epoch(&self) -> u64 {
        self.train.batches(self.batch) as u64
    }
}

impl Task for ForecastTask {
    type Batch = WindowBatch;

    fn name(&self) -> &'static str {
        "forecast"
    }

    fn config(&self) -> Value {
        json!(self.model.config())
    }

    fn optimizer(&self) -> OptimizerConfig {
        self.optimizer
    }

    fn fingerprint(&self) -> Value {
        json!({
            "batch": self.batch,
            "precision": self.model.precision(),
            "windows": self.train.len(),
            "training_data": self.data_hashes[0],
            "validation_data": self.data_hashes[1],
        })
    }

    fn program(&self) -> &Arc<Program> {
        &self.program.program
    }

    fn batches(&self, seed: u64, first_step: u64) -> Result<Prefetch<WindowBatch>> {
        let windows = Arc::clone(&self.train);
        let mut order = Order::new(seed, windows.len(), true);
        let rows = self.batch;
        let buffers = (0..BUFFERS).map(|_| WindowBatch::new(rows, &windows)).collect();
        let config = self.model.config().clone();
        let make = move |step: u64, batch: &mut WindowBatch| {
            windows.fill(&order.units(step, rows), batch);
            let levels = config.prepare(&mut batch.input);
            batch.target.iter_mut().zip(levels).for_each(|(target, level)| *target -= level);
            Ok::<(), Error>(())
        };
        Prefetch::new(first_step, buffers, make).map_err(|error| Error::Data(error.to_string()))
    }

    fn feed(&self, batch: &WindowBatch, executor: &mut Executor) -> Result<()> {
        let target = self.program.target.ok_or_else(|| Error::Graph("the program has no loss".into()))?;
        executor.write(self.program.input, &batch.input)?;
        executor.write(target, &batch.target)
    }

    fn samples_per_step(&self) -> u64 {
        self.batch as u64
    }

    fn validate(&mut self, store: &Store) -> Result<Option<f32>> {
        let predictor = match &mut self.predictor {
            Some(predictor) => predictor,
            None => self.predictor.insert(Predictor::new(&self.model, store, self.batch)?),
        };
        let mut batch = WindowBatch::new(self.batch, &self.valid);
        let mut sum = 0.0_f64;
        for index in 0..self.valid.batches(self.batch) {
            let count = self.valid.fill_in_order(index, &mut batch);
            let size = batch.input.len() / batch.rows();
            let forecasts = predictor.forecast(&batch.input[..count * size], count)?;
            sum += forecasts.iter().zip(&batch.target).map(|(&a, &b)| f64::from((a - b).abs())).sum::<f64>();
        }
        Ok(Some((sum / self.valid.len() as f64) as f32))
    }
}

/// Of all windows and what they are to forecast.
fn hash(windows: &Windows) -> String {
    let mut hash = Hash::new();
    let mut batch = WindowBatch::new(1, windows);
    for window in 0..windows.len() {
        windows.fill(&[window], &mut batch);
        hash.bytes(bytemuck::cast_slice(&batch.input)).bytes(bytemuck::cast_slice(&batch.target));
    }
    hash.hex()
}
