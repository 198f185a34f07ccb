//! Training models of sequences.

use std::sync::Arc;

use serde_json::{Value, json};

use super::task::Task;
use crate::data::{Order, Prefetch, SequenceBatch, Sequences};
use crate::error::{Error, Result};
use crate::exec::{Executor, Store};
use crate::graph::{Extent, Program, StepArgs};
use crate::nn::{Objective, SequenceConfig, SequenceInput, SequenceModel, SequenceProgram};
use crate::optim::OptimizerConfig;

/// Batches made ahead: one is in use while the others are made.
const BUFFERS: usize = 3;

/// How well a model does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The mean loss over all targets that count.
    pub loss: f64,
    /// The share of sequences whose class has the largest output, where a class of the whole is told and outputs are there.
    pub accuracy: Option<f64>,
}

/// A model and the data that it is trained and validated with.
#[derive(Debug)]
pub struct SequenceTask {
    model: SequenceModel,
    optimizer: OptimizerConfig,
    train: Arc<dyn Sequences>,
    valid: Arc<dyn Sequences>,
    fingerprint: Value,
    program: SequenceProgram,
    evaluator: Option<Evaluator>,
}

impl SequenceTask {
    /// A task of a model and its data.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no data; as [`SequenceModel::training`].
    pub fn new(
        model: SequenceModel,
        train: Arc<dyn Sequences>,
        valid: Arc<dyn Sequences>,
        optimizer: OptimizerConfig,
    ) -> Result<Self> {
        if train.is_empty() || valid.is_empty() {
            return Err(Error::Data("there are no sequences to train or to validate with".into()));
        }
        let (batch, time) = train.largest();
        let model = fitted(model, &*train);
        let program = model.training(Extent { batch, time }, &optimizer)?;
        let fingerprint = json!({
            "batch": train.per_step(),
            "precision": model.precision(),
            "training_data": train.fingerprint(),
        });
        Ok(Self { model, optimizer, train, valid, fingerprint, program, evaluator: None })
    }

    /// The model.
    pub fn model(&self) -> &SequenceModel {
        &self.model
    }

    /// Steps that it takes to see all data once.
    pub fn steps_per_epoch(&self) -> u64 {
        self.train.steps()
    }

    /// How well the model does on the validation data, with the parameters in `store`. Waits for the device.
    ///
    /// # Errors
    /// What running a program gives.
    pub fn evaluate(&mut self, store: &Store) -> Result<Evaluation> {
        let evaluator = match &mut self.evaluator {
            Some(evaluator) => evaluator,
            None => self.evaluator.insert(Evaluator::new(&self.model, store, &*self.valid)?),
        };
        evaluator.evaluate(&*self.valid)
    }
}

/// A model that is tried on data.
#[derive(Debug)]
pub struct Evaluator {
    program: SequenceProgram,
    executor: Executor,
    input: SequenceInput,
    objective: Objective,
    outputs: usize,
}

impl Evaluator {
    /// One for data no longer than these, with the parameters in `store`.
    ///
    /// # Errors
    /// As [`SequenceModel::evaluation`] and [`Executor::new`].
    pub fn new(model: &SequenceModel, store: &Store, like: &dyn Sequences) -> Result<Self> {
        let (batch, time) = like.largest();
        let mut config = model.config().clone();
        if like.only_last() && config.objective == Objective::Classes {
            config.objective = Objective::LastClass;
        }
        let SequenceConfig { input, objective, outputs, .. } = config;
        let model = fitted(SequenceModel::new(config)?.with_precision(model.precision()), like);
        let program = model.evaluation(Extent { batch, time })?;
        let executor = Executor::new(&program.program, store)?;
        Ok(Self { program, executor, input, objective, outputs })
    }

    /// Tries the model. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Graph`] if a batch is larger than planned; what running a program gives.
    pub fn evaluate(&mut self, data: &dyn Sequences) -> Result<Evaluation> {
        let mut batch = SequenceBatch::default();
        let (mut loss, mut count, mut right) = (0.0_f64, 0_usize, 0_usize);
        for step in 0..data.steps() as usize {
            let first = step * data.per_step();
            let units: Vec<usize> = (first..(first + data.per_step()).min(data.len())).collect();
            data.fill(&units, &mut batch);
            feed(&self.program, self.input, self.objective, &batch, &mut self.executor)?;
            self.executor.run(&StepArgs::default())?;
            let metrics = self.executor.wait()?;
            let mean = metrics.last().and_then(|metrics| metrics.values.first()).copied().unwrap_or(f32::NAN);
            loss += f64::from(mean) * batch.count as f64;
            count += batch.count;
            if let Some(output) = self.program.output.filter(|_| self.objective == Objective::LastClass) {
                let outputs = self.executor.read(output)?;
                let told = outputs.chunks_exact(self.outputs).map(largest);
                right += told.zip(&batch.target_ids).filter(|(told, target)| *told == **target as usize).count();
            }
        }
        let told = self.objective == Objective::LastClass && self.program.output.is_some();
        let accuracy = told.then(|| right as f64 / count.max(1) as f64);
        Ok(Evaluation { loss: loss / count.max(1) as f64, accuracy })
    }
}

/// The model whose programs take batches of these data.
fn fitted(model: SequenceModel, data: &dyn Sequences) -> SequenceModel {
    let model = model.with_context(data.context());
    if data.with_lengths() { model.with_lengths() } else { model }
}

/// Writes a batch to the inputs of a program, at the batch's size.
fn feed(
    program: &SequenceProgram,
    input: SequenceInput,
    objective: Objective,
    batch: &SequenceBatch,
    executor: &mut Executor,
) -> Result<()> {
    executor.resize(Extent { batch: batch.rows, time: batch.time })?;
    match input {
        SequenceInput::Values { .. } => executor.write(program.input, &batch.values)?,
        SequenceInput::Classes { .. } => executor.write_ids(program.input, &batch.ids)?,
    }
    if let Some(lengths) = program.lengths {
        executor.write_ids(lengths, &batch.lengths)?;
    }
    match objective {
        Objective::LastValues | Objective::Frames => executor.write(program.target, &batch.target_values),
        Objective::LastClass | Objective::Classes => executor.write_ids(program.target, &batch.target_ids),
    }
}

/// The position of the largest; of equals the first.
pub(super) fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or_default()
}

impl Task for SequenceTask {
    type Batch = SequenceBatch;

    fn name(&self) -> &'static str {
        "sequence"
    }

    fn config(&self) -> Value {
        json!(self.model.config())
    }

    fn optimizer(&self) -> OptimizerConfig {
        self.optimizer
    }

    fn fingerprint(&self) -> Value {
        self.fingerprint.clone()
    }

    fn program(&self) -> &Arc<Program> {
        &self.program.program
    }

    fn batches(&self, seed: u64, first_step: u64) -> Result<Prefetch<SequenceBatch>> {
        let data = Arc::clone(&self.train);
        let mut order = Order::new(seed, data.len(), data.shuffled());
        let buffers = vec![SequenceBatch::default(); BUFFERS];
        let make = move |step: u64, batch: &mut SequenceBatch| {
            data.fill(&order.units(step, data.per_step()), batch);
            Ok::<(), Error>(())
        };
        Prefetch::new(first_step, buffers, make).map_err(|error| Error::Data(error.to_string()))
    }

    fn feed(&self, batch: &SequenceBatch, executor: &mut Executor) -> Result<()> {
        let config = self.model.config();
        feed(&self.program, config.input, config.objective, batch, executor)
    }

    fn samples_per_step(&self) -> u64 {
        self.train.per_step() as u64
    }

    fn validate(&mut self, store: &Store) -> Result<Option<f32>> {
        Ok(Some(self.evaluate(store)?.loss as f32))
    }
}
