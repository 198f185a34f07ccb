//! The training loop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::checkpoint::{self, Checkpoint, Run, Validation};
use super::file::check_writable;
use super::model::save_model;
use super::progress::{Event, Limit, Meter, Outcome, Reason, Scaling, TrainerOptions};
use super::task::Task;
use crate::data::Prefetch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::exec::{Executor, Metrics, Store, Timing, Timings};
use crate::graph::{Precision, State, StepArgs};
use crate::optim::LossScale;

/// Trains a [`Task`] on a device: feeds batches, runs steps, checks every loss, validates, and saves checkpoints.
///
/// Steps are submitted without waiting for the device; their metrics come back some steps late. Before a validation and
/// before a checkpoint everything is waited for and checked, so that a checkpoint is never made of, or replaced by,
/// numbers that are not finite. After an error go on with [`Trainer::resume`].
#[derive(Debug)]
pub struct Trainer<T: Task> {
    task: T,
    options: TrainerOptions,
    store: Store,
    /// What is validated and saved as the model.
    weights: Store,
    executor: Executor,
    batches: Option<Prefetch<T::Batch>>,
    /// Steps made.
    step: u64,
    loss: Option<f32>,
    validation: Option<Validation>,
    /// The last good checkpoint, and its step.
    saved: Option<(PathBuf, u64)>,
    /// The first loss that was not finite, and its step.
    failed: Option<(u64, Failure)>,
    timing: Timing,
    /// Whether this trainer has made a step.
    begun: bool,
}

/// What a step can't do without.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The loss is not finite.
    Loss(f32),
    /// The gradient is not, however little the loss is scaled.
    Gradient(f32),
}

impl<T: Task> Trainer<T> {
    /// A new training on a device, from starting weights that the seed names.
    ///
    /// # Errors
    /// [`Error::Config`] if an option is out of its range, [`Error::Io`] if the checkpoint's file can't be written, and
    /// as [`Executor::new`].
    pub fn new(task: T, device: &Device, options: TrainerOptions) -> Result<Self> {
        let trainer = Self::empty(task, device, options)?;
        let initial = trainer.task.initial(trainer.options.seed);
        trainer.store.write(State::Params, &initial)?;
        if trainer.task.optimizer().average.is_some() {
            trainer.store.write(State::Average, &initial)?;
        }
        Ok(trainer)
    }

    /// Goes on with a training from a checkpoint, on any device: on the same one bitwise as if it had never stopped.
    ///
    /// Model, optimizer, seed and data must be those of the checkpoint. Learning rate, schedule and clipping may differ,
    /// for these are what one changes after a loss that was not finite.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Io`] if the file can't be read; [`Error::Checkpoint`] if it is damaged, or of
    /// another run, in which case every setting that differs is named with both values.
    pub fn resume(task: T, device: &Device, options: TrainerOptions, path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::load(path.as_ref(), task.name())?;
        checkpoint.expect(&describe(&task, &options))?;
        let mut trainer = Self::empty(task, device, options)?;
        checkpoint.restore(trainer.executor.program(), &trainer.store)?;
        trainer.step = checkpoint.step();
        trainer.validation = checkpoint.validation();
        trainer.saved = Some((path.as_ref().to_owned(), trainer.step));
        Ok(trainer)
    }

    fn empty(task: T, device: &Device, options: TrainerOptions) -> Result<Self> {
        options.validate()?;
        if let Some(path) = &options.checkpoint {
            check_writable(path)?;
        }
        let store = Store::new(device);
        let executor = Executor::new(task.program(), &store)?;
        let weights = if task.optimizer().average.is_some() { store.averaged() } else { store.clone() };
        Ok(Self {
            task,
            options,
            store,
            weights,
            executor,
            batches: None,
            step: 0,
            loss: None,
            validation: None,
            saved: None,
            failed: None,
            timing: Timing::Off,
            begun: false,
        })
    }

    /// Trains until a limit is reached or `stop` is set, which ends the run after the step it is at. Then, whatever the
    /// reason, a checkpoint is saved if there is a file for it. `stop` is not reset.
    ///
    /// The limit of steps counts all steps of the training: after a resumption at 400 a limit of 1,000 means 600 more.
    /// If as many or more are made already, the run is finished at once and nothing is saved. When all steps are made,
    /// the validation loss is computed once more where validation is asked for.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit of 0 steps; [`Error::NonFiniteLoss`] with the first step whose loss is not finite,
    /// or [`Error::NonFiniteState`], in `f16` also where gradients are not finite however little the loss is scaled:
    /// neither overwrites the last good checkpoint; [`Error::Data`], [`Error::Io`] and what the device gives.
    pub fn run(&mut self, limit: Limit, stop: &AtomicBool, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        if limit.steps == Some(0) {
            return Err(Error::Config("a training needs at least 1 step, got 0".into()));
        }
        self.check()?;
        let start = Instant::now();
        let first = self.step;
        let mut clock = Clock { start, meter: Meter::new(start, first) };
        let reason = loop {
            if limit.steps.is_some_and(|steps| self.step >= steps) {
                break Reason::Finished;
            }
            if stop.load(Ordering::Relaxed) {
                break Reason::Stopped;
            }
            if limit.time.is_some_and(|time| start.elapsed() >= time) {
                break Reason::TimeUp;
            }
            self.submit()?;
            let arrived = self.executor.metrics()?;
            self.deliver(arrived, &mut clock, on_event)?;
            let due = |every: u64| every > 0 && self.step.is_multiple_of(every);
            let (validate, save) = (due(self.options.valid_every), due(self.options.checkpoint_every));
            if validate {
                self.validate_now(&mut clock, on_event)?;
            }
            if save {
                self.save_now(&mut clock, on_event)?;
            }
        };
        if self.step > first {
            self.drain(&mut clock, on_event)?;
            let validated = self.validation.is_some_and(|validation| validation.step == self.step);
            if reason == Reason::Finished && self.options.valid_every > 0 && !validated {
                self.validate_now(&mut clock, on_event)?;
            }
            self.save_now(&mut clock, on_event)?;
        }
        Ok(Outcome { step: self.step, reason, loss: self.loss, seconds: start.elapsed().as_secs_f64() })
    }

    /// Feeds the next batch and submits its step.
    fn submit(&mut self) -> Result<()> {
        let Self { task, options, executor, batches, step, .. } = self;
        let batches = match batches {
            Some(batches) => batches,
            None => batches.insert(task.batches(options.seed, *step)?),
        };
        let (number, batch) = batches.next().map_err(|error| Error::Data(error.to_string()))?;
        if number != *step {
            return Err(Error::Data(format!("the task made the batch of step {number} for step {step}")));
        }
        task.feed(batch, executor)?;
        let learning_rate = options.schedule.learning_rate(options.learning_rate, *step);
        executor.run(&StepArgs { learning_rate, step: *step, seed: options.seed })?;
        *step += 1;
        if !std::mem::replace(&mut self.begun, true) && self.timing != Timing::Off {
            // The first is forgotten.
            self.executor.timings()?;
        }
        Ok(())
    }

    /// Checks metrics and tells of them, up to the first loss that is not finite.
    fn deliver(&mut self, arrived: Vec<Metrics>, clock: &mut Clock, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let smallest = LossScale { exponent: LossScale::SMALLEST, ..LossScale::default() }.scale();
        for Metrics { step, values } in arrived {
            let value = |position: usize| values.get(position).copied().unwrap_or(f32::NAN);
            let (loss, grad_norm) = (value(0), value(1));
            if !loss.is_finite() {
                self.failed.get_or_insert((step, Failure::Loss(loss)));
            }
            let scaled = self.executor.program().precision() == Precision::F16;
            let scaling = scaled.then(|| Scaling { scale: value(2), skipped: value(3) as u64 });
            if scaling.is_some_and(|scaling| scaling.scale <= smallest) && !grad_norm.is_finite() {
                self.failed.get_or_insert((step, Failure::Gradient(grad_norm)));
            }
            self.check()?;
            self.loss = Some(loss);
            let now = Instant::now();
            let rate = clock.meter.rate(now, step + 1);
            if self.options.log_every > 0 && (step + 1).is_multiple_of(self.options.log_every) {
                on_event(&Event::Step {
                    step,
                    loss,
                    grad_norm,
                    scaling,
                    learning_rate: self.options.schedule.learning_rate(self.options.learning_rate, step),
                    samples_per_second: rate * self.task.samples_per_step() as f64,
                    seconds: (now - clock.start).as_secs_f64(),
                });
            }
        }
        Ok(())
    }

    fn drain(&mut self, clock: &mut Clock, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let arrived = self.executor.wait()?;
        self.deliver(arrived, clock, on_event)?;
        self.check()
    }

    fn validate_now(&mut self, clock: &mut Clock, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        self.drain(clock, on_event)?;
        let begun = Instant::now();
        if let Some(loss) = self.compute_validation()? {
            on_event(&Event::Validated { step: self.step, loss, seconds: clock.start.elapsed().as_secs_f64() });
        }
        clock.meter.pause(begun.elapsed());
        Ok(())
    }

    fn compute_validation(&mut self) -> Result<Option<f32>> {
        let loss = self.task.validate(&self.weights)?;
        if let Some(loss) = loss {
            if !loss.is_finite() {
                // The weights are bad, which the loss of the next step would have shown.
                self.failed.get_or_insert((self.step, Failure::Loss(loss)));
                self.check()?;
            }
            self.validation = Some(Validation { step: self.step, loss });
        }
        Ok(loss)
    }

    /// Saves to the file of the options, if there is one and it does not hold this step already.
    fn save_now(&mut self, clock: &mut Clock, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let Some(path) = self.options.checkpoint.clone() else { return Ok(()) };
        let there = self.saved.as_ref().is_some_and(|(saved, step)| *saved == path && *step == self.step);
        if there {
            return Ok(());
        }
        self.drain(clock, on_event)?;
        let begun = Instant::now();
        self.write(&path)?;
        clock.meter.pause(begun.elapsed());
        on_event(&Event::Saved { step: self.step, path });
        Ok(())
    }

    fn write(&mut self, path: &Path) -> Result<()> {
        let vectors = checkpoint::read_vectors(self.executor.program(), &self.store)?;
        for (state, values) in &vectors {
            self.check_finite(*state, values)?;
        }
        let run = Run { step: self.step, validation: self.validation, ..describe(&self.task, &self.options) };
        checkpoint::save(path, &run, self.executor.program(), &vectors)?;
        self.saved = Some((path.to_owned(), self.step));
        Ok(())
    }

    /// Whether all losses so far were finite.
    fn check(&self) -> Result<()> {
        match self.failed {
            Some((step, Failure::Loss(loss))) => {
                Err(Error::NonFiniteLoss { step, loss, checkpoint: self.last_checkpoint() })
            }
            Some((step, Failure::Gradient(value))) => {
                let what = "the norm of the gradient at the smallest loss scale".to_owned();
                Err(Error::NonFiniteState { step, what, value, checkpoint: self.last_checkpoint() })
            }
            None => Ok(()),
        }
    }

    fn check_finite(&self, state: State, values: &[f32]) -> Result<()> {
        if values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        for param in self.executor.program().params().iter() {
            if let Some(value) = param.gather(values).into_iter().find(|value| !value.is_finite()) {
                let what = format!("{} of {}", state.name(), param.name);
                return Err(Error::NonFiniteState { step: self.step, what, value, checkpoint: self.last_checkpoint() });
            }
        }
        Ok(())
    }

    fn last_checkpoint(&self) -> Option<PathBuf> {
        self.saved.as_ref().map(|(path, _)| path.clone())
    }

    /// Waits for all steps and checks their losses, without telling of them.
    fn settle(&mut self) -> Result<()> {
        let now = Instant::now();
        self.drain(&mut Clock { start: now, meter: Meter::new(now, 0) }, &mut |_| ())
    }

    /// Sets the full learning rate of the following steps.
    ///
    /// # Errors
    /// [`Error::Config`] if it is negative or not finite.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<()> {
        let options = TrainerOptions { learning_rate, ..self.options.clone() };
        options.validate()?;
        self.options = options;
        Ok(())
    }

    /// Computes the mean loss over the validation data, in nats; nothing if there are none.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and what the device gives.
    pub fn validate(&mut self) -> Result<Option<f32>> {
        self.settle()?;
        self.compute_validation()
    }

    /// Saves a checkpoint; see [`resume`](Self::resume). The file appears as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be written; [`Error::NonFiniteLoss`] or [`Error::NonFiniteState`] if it would be
    /// useless; what the device gives. What was there before is then still there.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.settle()?;
        self.write(path.as_ref())
    }

    /// Saves the model alone, to be read with [`load_model`](super::load_model); `extra` goes to the file's metadata.
    ///
    /// # Errors
    /// As [`save`](Self::save), and [`save_model`].
    pub fn save_model(&mut self, path: impl AsRef<Path>, extra: &BTreeMap<String, String>) -> Result<()> {
        self.settle()?;
        let flat = self.weights.read(State::Params)?;
        self.check_finite(State::Params, &flat)?;
        let layout = self.executor.program().params();
        save_model(path, self.task.name(), &self.task.config(), layout, &flat, extra)
    }

    /// Sets what is measured of the following training steps; see [`Executor::set_timing`]. The first step that this
    /// trainer makes is left out: software drivers compile kernels when they first run.
    ///
    /// # Errors
    /// As [`Executor::set_timing`].
    pub fn set_timing(&mut self, timing: Timing) -> Result<()> {
        self.executor.set_timing(timing)?;
        self.timing = timing;
        Ok(())
    }

    /// What was measured of the training steps since the last call; waits for all steps.
    ///
    /// # Errors
    /// What the device gives.
    pub fn timings(&mut self) -> Result<Timings> {
        self.executor.timings()
    }

    /// Steps made.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The latest validation, that of the checkpoint included.
    pub fn validation(&self) -> Option<Validation> {
        self.validation
    }

    /// Parameters and the optimizer's state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same, in which the parameters are those of the model that is validated and saved: where the optimizer
    /// [averages](crate::optim::OptimizerConfig::average) them, the averages. Whoever starts from other weights writes them to both.
    pub fn weights(&self) -> &Store {
        &self.weights
    }

    /// Lets the task do something with the [weights](Self::weights), all steps being done. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`], what `with` and what the device gives.
    pub fn with_task<O>(&mut self, with: impl FnOnce(&mut T, &Store) -> Result<O>) -> Result<O> {
        self.settle()?;
        with(&mut self.task, &self.weights)
    }

    /// What is trained.
    pub fn task(&self) -> &T {
        &self.task
    }

    /// What runs the steps.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }
}

/// The clock of a run.
struct Clock {
    start: Instant,
    meter: Meter,
}

fn describe<T: Task>(task: &T, options: &TrainerOptions) -> Run {
    let mut settings = task.fingerprint();
    if let Some(fields) = settings.as_object_mut() {
        // As a text: JSON readers elsewhere lose digits of large integers.
        fields.insert("seed".into(), json!(options.seed.to_string()));
    }
    Run {
        model: task.name().to_owned(),
        config: task.config(),
        optimizer: json!(task.optimizer()),
        settings,
        step: 0,
        validation: None,
    }
}
