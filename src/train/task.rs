//! What a trainer trains.

use std::sync::Arc;

use serde_json::Value;

use crate::data::Prefetch;
use crate::error::Result;
use crate::exec::{Executor, Store};
use crate::graph::Program;
use crate::optim::OptimizerConfig;

/// A model's programs and its data.
pub trait Task {
    /// The examples of one step.
    type Batch: Send + 'static;

    /// The model's name in files, such as `wavenet`.
    fn name(&self) -> &'static str;

    /// The model's configuration, for checkpoints.
    fn config(&self) -> Value;

    /// The optimizer in [`program`](Self::program), for checkpoints.
    fn optimizer(&self) -> OptimizerConfig;

    /// What else must be the same for a run to go on exactly, such as the sizes of a batch and a hash of the data: an
    /// object.
    fn fingerprint(&self) -> Value;

    /// One training step. Its metrics: the loss, then the norm of the gradient, and in a program of
    /// [`Precision::F16`](crate::graph::Precision::F16) the loss scale and the steps left out so far.
    fn program(&self) -> &Arc<Program>;

    /// The flat vector of parameters that a training starts with: a pure function of the seed. What the program's declarations say,
    /// if a task has nothing to add.
    fn initial(&self, seed: u64) -> Vec<f32> {
        self.program().params().initial(seed)
    }

    /// The batches from a step (counted from 0) on: a pure function of the seed and the step.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if they can't be made.
    fn batches(&self, seed: u64, first_step: u64) -> Result<Prefetch<Self::Batch>>;

    /// Writes a batch to the inputs of the program.
    ///
    /// # Errors
    /// As [`Executor::write`].
    fn feed(&self, batch: &Self::Batch, executor: &mut Executor) -> Result<()>;

    /// Targets of one step, for the speed in samples a second.
    fn samples_per_step(&self) -> u64;

    /// The mean loss over the validation data with the parameters in `store`, which is the same at each call; nothing if
    /// there are no validation data.
    ///
    /// # Errors
    /// What running a program gives.
    fn validate(&mut self, store: &Store) -> Result<Option<f32>>;
}
