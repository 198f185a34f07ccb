//! Training a WaveNet on chunks of audio.

use std::sync::Arc;

use serde_json::{Value, json};

use super::task::Task;
use crate::data::{Batch, Chunks, DataError, Prefetch, Schedule};
use crate::error::{Error, Result};
use crate::exec::{Executor, Metrics, Store};
use crate::graph::{Extent, Program};
use crate::hash::Hash;
use crate::nn::{WaveNet, WaveNetInput, WaveNetProgram};
use crate::optim::OptimizerConfig;

/// Batches made ahead: one is in use while the others are made.
const BUFFERS: usize = 3;

/// How a WaveNet is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaveNetTaskOptions {
    /// Chunks in a batch. Default 8.
    pub batch: usize,
    /// The optimizer. Default Adam.
    pub optimizer: OptimizerConfig,
    /// The most chunks that a validation takes: the first ones of the validation data. Default all.
    pub valid_chunks: Option<usize>,
}

impl Default for WaveNetTaskOptions {
    fn default() -> Self {
        Self { batch: 8, optimizer: OptimizerConfig::default(), valid_chunks: None }
    }
}

/// A WaveNet and its training and validation data.
#[derive(Debug)]
pub struct WaveNetTask {
    model: WaveNet,
    options: WaveNetTaskOptions,
    train: Arc<Chunks>,
    data_hash: String,
    program: WaveNetProgram,
    valid: Option<Validator>,
}

impl WaveNetTask {
    /// A task of a model and its data.
    ///
    /// # Errors
    /// [`Error::Config`] if the batch is 0, the chunks are made for another receptive field or have classes that the
    /// model does not have; [`Error::Graph`] as [`WaveNet::training`].
    pub fn new(model: WaveNet, train: Chunks, valid: Option<Chunks>, options: WaveNetTaskOptions) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::Config("batch must be at least 1, got 0".into()));
        }
        if options.valid_chunks == Some(0) {
            return Err(Error::Config("valid_chunks must be at least 1 (none for all), got 0".into()));
        }
        check(&model, "training", &train)?;
        let program = model.training(Extent { batch: options.batch, time: train.chunk() }, &options.optimizer)?;
        let valid = valid.map(|chunks| Validator::new(&model, chunks, &options)).transpose()?;
        let data_hash = hash(model.config().input, &train);
        Ok(Self { model, options, train: Arc::new(train), data_hash, program, valid })
    }

    /// The model.
    pub fn model(&self) -> &WaveNet {
        &self.model
    }

    /// The program of a training step, with its inputs.
    pub fn training(&self) -> &WaveNetProgram {
        &self.program
    }
}

fn check(model: &WaveNet, split: &str, chunks: &Chunks) -> Result<()> {
    let made_for = chunks.chunk() - chunks.hop() + 1;
    if made_for != model.receptive_field() {
        return Err(Error::Config(format!(
            "the {split} chunks are made for a receptive field of {made_for} samples, the model's is {}",
            model.receptive_field()
        )));
    }
    let highest = chunks.classes().iter().copied().max().map_or(0, usize::from);
    let classes = model.config().classes;
    if highest >= classes {
        return Err(Error::Config(format!(
            "the {split} data have the class {highest}, the model's classes are 0 to {}: quantise with as many classes \
             as the model has",
            classes - 1
        )));
    }
    Ok(())
}

/// Tells one set of training data from another.
fn hash(input: WaveNetInput, chunks: &Chunks) -> String {
    let mut hash = Hash::new();
    for class in chunks.classes() {
        hash.bytes(&class.to_le_bytes());
    }
    if input == WaveNetInput::Scalar {
        for sample in chunks.samples() {
            hash.bytes(&sample.to_le_bytes());
        }
    }
    hash.hex()
}

/// Writes a batch to the inputs of a program with a loss, or its first `rows` chunks where the program was resized.
fn feed(
    program: &WaveNetProgram,
    input: WaveNetInput,
    rows: usize,
    batch: &Batch,
    executor: &mut Executor,
) -> Result<()> {
    let inputs = batch.input.len() / batch.rows() * rows;
    match input {
        WaveNetInput::Classes => executor.write_ids(program.input, &batch.input[..inputs])?,
        WaveNetInput::Scalar => executor.write(program.input, &batch.scalar[..inputs])?,
    }
    let target = program.target.ok_or_else(|| Error::Graph("the program has no loss".into()))?;
    executor.write_ids(target, &batch.target[..batch.target.len() / batch.rows() * rows])
}

impl Task for WaveNetTask {
    type Batch = Batch;

    fn name(&self) -> &'static str {
        "wavenet"
    }

    fn config(&self) -> Value {
        json!(self.model.config())
    }

    fn optimizer(&self) -> OptimizerConfig {
        self.options.optimizer
    }

    fn fingerprint(&self) -> Value {
        json!({
            "batch": self.options.batch,
            "chunk": self.train.chunk(),
            "precision": self.model.precision(),
            "training_samples": self.train.samples().len(),
            "training_data": self.data_hash,
        })
    }

    fn program(&self) -> &Arc<Program> {
        &self.program.program
    }

    fn batches(&self, seed: u64, first_step: u64) -> Result<Prefetch<Batch>> {
        let chunks = Arc::clone(&self.train);
        let mut schedule = Schedule::new(seed, &chunks, self.options.batch).map_err(data_error)?;
        let buffers = (0..BUFFERS).map(|_| Batch::new(self.options.batch, &chunks)).collect();
        let make = move |step: u64, batch: &mut Batch| {
            schedule.fill(&chunks, step, batch);
            Ok::<(), DataError>(())
        };
        Prefetch::new(first_step, buffers, make).map_err(data_error)
    }

    fn feed(&self, batch: &Batch, executor: &mut Executor) -> Result<()> {
        feed(&self.program, self.model.config().input, batch.rows(), batch, executor)
    }

    fn samples_per_step(&self) -> u64 {
        (self.options.batch * self.train.hop()) as u64
    }

    fn validate(&mut self, store: &Store) -> Result<Option<f32>> {
        self.valid.as_mut().map(|valid| valid.loss(store)).transpose()
    }
}

fn data_error(error: DataError) -> Error {
    Error::Data(error.to_string())
}

/// Computes the mean loss over the validation data; program, executor and batch are made once.
#[derive(Debug)]
struct Validator {
    chunks: Chunks,
    input: WaveNetInput,
    program: WaveNetProgram,
    batch: Batch,
    /// Chunks to take.
    limit: usize,
    executor: Option<Executor>,
}

impl Validator {
    fn new(model: &WaveNet, chunks: Chunks, options: &WaveNetTaskOptions) -> Result<Self> {
        check(model, "validation", &chunks)?;
        let limit = options.valid_chunks.unwrap_or(usize::MAX).min(chunks.len());
        let rows = options.batch.min(limit);
        let program = model.evaluation(Extent { batch: rows, time: chunks.chunk() })?;
        let batch = Batch::new(rows, &chunks);
        Ok(Self { chunks, input: model.config().input, program, batch, limit, executor: None })
    }

    /// Every target counts the same: the last batch may have fewer rows, and then counts less.
    fn loss(&mut self, store: &Store) -> Result<f32> {
        let executor = match &mut self.executor {
            Some(executor) => executor,
            None => self.executor.insert(Executor::new(&self.program.program, store)?),
        };
        let (planned, time) = (self.batch.rows(), self.chunks.chunk());
        let batches = self.limit.div_ceil(planned);
        let rows_of = |index: usize| planned.min(self.limit - index * planned);
        let mut sum = 0.0_f64;
        let mut add = |arrived: Vec<Metrics>| {
            for metrics in arrived {
                sum += f64::from(metrics.values[0]) * rows_of(metrics.step as usize) as f64;
            }
        };
        for index in 0..batches {
            let rows = rows_of(index);
            if rows < planned {
                executor.resize(Extent { batch: rows, time })?;
            }
            self.chunks.fill_in_order(index, &mut self.batch);
            feed(&self.program, self.input, rows, &self.batch, executor)?;
            executor.run(&crate::graph::StepArgs { step: index as u64, ..Default::default() })?;
            add(executor.metrics()?);
        }
        add(executor.wait()?);
        executor.resize(Extent { batch: planned, time })?;
        Ok((sum / self.limit as f64) as f32)
    }
}
