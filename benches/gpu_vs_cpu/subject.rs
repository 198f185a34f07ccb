//! A workload ready to run on a device.

use std::time::Duration;

use anyhow::Result;
use half::f16;
use receptive::Device;
use receptive::exec::{Executor, Metrics, Store, Timing};
use receptive::graph::{Shape, State, StepArgs, TensorId};
use receptive::wgpu;

use super::models::{BATCHES, Model, Values};

/// What a subject computed, to compare with a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    pub name: String,
    pub values: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Numbers, equal up to rounding.
    Reals(Vec<f32>),
    /// Gradients of a network, which rounding can change by more: see `check::Tolerance`.
    Gradients(Vec<f32>),
    /// Classes drawn by each stream, which rounding can change where two are all but equally likely.
    Draws(Vec<Vec<u32>>),
}

impl Observed {
    pub fn reals(name: impl Into<String>, values: Vec<f32>) -> Self {
        Self { name: name.into(), values: Outcome::Reals(values) }
    }

    /// What a program is checked by: of a training its gradients, else its outputs.
    pub fn result(name: String, values: Vec<f32>, gradient: bool) -> Self {
        Self { name, values: if gradient { Outcome::Gradients(values) } else { Outcome::Reals(values) } }
    }
}

/// A workload on a device.
pub trait Subject {
    /// Host work that puts batch `number` in place, where that is not the device's own; not timed.
    ///
    /// # Errors
    /// What the library gives.
    fn prepare(&mut self, number: u64) -> Result<()>;

    /// Runs step `number`, or submits it.
    ///
    /// # Errors
    /// What the library gives.
    fn step(&mut self, number: u64) -> Result<()>;

    /// Waits for all steps.
    ///
    /// # Errors
    /// What the library gives; a loss that is not finite.
    fn wait(&mut self) -> Result<()>;

    /// What it computes, from the start.
    ///
    /// # Errors
    /// What the library gives.
    fn observe(&mut self) -> Result<Vec<Observed>>;

    /// Whether a step is over when [`step`](Self::step) returns, so that what comes between steps can be left out.
    fn synchronous(&self) -> bool;

    /// Times that one step counts for: the time steps of one call of a generator.
    fn units(&self) -> u32 {
        1
    }

    /// Turns timestamps on or off; whether there are any.
    ///
    /// # Errors
    /// What the library gives.
    fn set_timestamps(&mut self, _on: bool) -> Result<bool> {
        Ok(false)
    }

    /// The device time of each step since the last call, while timestamps are on.
    ///
    /// # Errors
    /// What the library gives.
    fn device_times(&mut self) -> Result<Vec<Duration>> {
        Ok(vec![])
    }

    /// Dispatches of a step, on a GPU.
    fn dispatches(&self) -> Option<usize> {
        None
    }

    /// Device memory that it takes, in bytes.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

/// Steps of a training that are compared.
const TRAINING_STEPS: u64 = 2;

/// Batches of an input that lie on the device; each is copied to the input's buffer by the step that reads it.
#[derive(Debug)]
struct Resident {
    target: wgpu::Buffer,
    batches: Vec<wgpu::Buffer>,
}

/// A program with its data on a device.
///
/// The four batches are in place before a step is timed. A program that trains has one executor: on a GPU the batches lie
/// in buffers of their own and each step's encoder copies one of them, on the CPU they are written between the steps.
/// Any other program, whose inputs may be large, has an executor for each batch.
#[derive(Debug)]
pub struct ProgramSubject<'m> {
    model: &'m Model,
    stores: Vec<Store>,
    executors: Vec<Executor>,
    resident: Vec<Resident>,
    seen: Vec<Metrics>,
}

impl<'m> ProgramSubject<'m> {
    /// Plans the model's program on a device and brings the data there.
    ///
    /// # Errors
    /// What the library gives.
    pub fn new(model: &'m Model, device: &Device) -> Result<Self> {
        let trains = model.learning_rate.is_some();
        let mut subject = Self { model, stores: vec![], executors: vec![], resident: vec![], seen: vec![] };
        for _ in 0..if trains { 1 } else { BATCHES } {
            let store = Store::new(device);
            store.write(State::Params, &model.program.params().initial(0))?;
            subject.executors.push(Executor::new(&model.program, &store)?);
            subject.stores.push(store);
        }
        match &mut subject.executors[..] {
            [Executor::Gpu(gpu)] => {
                for input in &model.inputs {
                    let shape = model.program.shape(input.tensor);
                    let target = gpu.buffer(input.tensor)?.clone();
                    let buffers = input.batches.iter().map(|values| {
                        let bytes = padded(values, shape, target.size());
                        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
                        let buffer = gpu.gpu().buffer("batch", bytes.len() as u64, usage)?;
                        gpu.gpu().write(&buffer, 0, &bytes)?;
                        Ok(buffer)
                    });
                    let batches = buffers.collect::<Result<_>>()?;
                    subject.resident.push(Resident { target, batches });
                }
            }
            [_] => {}
            executors => {
                for (batch, executor) in executors.iter_mut().enumerate() {
                    write(model, executor, batch)?;
                }
            }
        }
        Ok(subject)
    }

    fn read(&mut self, executor: usize, tensor: TensorId) -> Result<Vec<f32>> {
        Ok(self.executors[executor].read(tensor)?)
    }
}

/// Puts a batch into an executor's inputs.
fn write(model: &Model, executor: &mut Executor, batch: usize) -> Result<()> {
    for input in &model.inputs {
        match &input.batches[batch] {
            Values::Real(values) => executor.write(input.tensor, values)?,
            Values::Ids(values) => executor.write_ids(input.tensor, values)?,
        }
    }
    Ok(())
}

/// As a tensor of this shape lies in a buffer of `bytes`: in half of what `f32` needs it lies as `f16`.
fn padded(values: &Values, shape: Shape, bytes: u64) -> Vec<u8> {
    fn rows<T: bytemuck::Pod>(dense: &[T], shape: Shape) -> Vec<u8> {
        let mut padded = vec![T::zeroed(); shape.padded_len()];
        for (row, dense) in padded.chunks_exact_mut(shape.stride()).zip(dense.chunks_exact(shape.channels)) {
            row[..shape.channels].copy_from_slice(dense);
        }
        bytemuck::cast_slice(&padded).to_vec()
    }
    match values {
        Values::Ids(ids) => rows(ids, shape),
        Values::Real(reals) if bytes < shape.padded_len() as u64 * 4 => {
            rows(&reals.iter().map(|&real| f16::from_f32(real)).collect::<Vec<_>>(), shape)
        }
        Values::Real(reals) => rows(reals, shape),
    }
}

impl Subject for ProgramSubject<'_> {
    fn prepare(&mut self, number: u64) -> Result<()> {
        match &mut self.executors[..] {
            [executor @ Executor::Cpu(_)] => write(self.model, executor, number as usize % BATCHES),
            _ => Ok(()),
        }
    }

    fn step(&mut self, number: u64) -> Result<()> {
        let learning_rate = self.model.learning_rate.unwrap_or_default();
        let args = StepArgs { learning_rate, step: number, seed: 0 };
        let batch = number as usize % BATCHES;
        let executors = self.executors.len();
        match &mut self.executors[batch % executors] {
            Executor::Gpu(gpu) if !self.resident.is_empty() => {
                let device = gpu.gpu().clone();
                let descriptor = wgpu::CommandEncoderDescriptor { label: Some("step") };
                let mut encoder = device.device().create_command_encoder(&descriptor);
                for input in &self.resident {
                    let source = &input.batches[batch];
                    encoder.copy_buffer_to_buffer(source, 0, &input.target, 0, source.size());
                }
                gpu.record(&args, &mut encoder)?;
                let submission = device.scoped("step", || device.queue().submit([encoder.finish()]))?;
                gpu.submitted(&args, submission);
            }
            executor => executor.run(&args)?,
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        for executor in &mut self.executors {
            self.seen.extend(executor.wait()?);
        }
        for metrics in self.seen.drain(..) {
            let finite = metrics.values.iter().all(|value| value.is_finite());
            anyhow::ensure!(finite, "step {}: the loss is {:?}", metrics.step, metrics.values);
        }
        Ok(())
    }

    fn observe(&mut self) -> Result<Vec<Observed>> {
        let mut observed = vec![];
        let trains = self.model.learning_rate.is_some();
        for number in 0..if trains { TRAINING_STEPS } else { BATCHES as u64 } {
            self.prepare(number)?;
            self.step(number)?;
            let executor = number as usize % self.executors.len();
            for metrics in self.executors[executor].wait()? {
                observed.push(Observed::reals(format!("loss of step {number}"), metrics.values));
            }
            // Later steps of a training start from weights that differ by now, by as much as rounding does.
            for (name, tensor) in self.model.checked.iter().filter(|_| !trains || number == 0) {
                let values = self.read(executor, *tensor)?;
                observed.push(Observed::result(format!("{name} of step {number}"), values, trains));
            }
        }
        Ok(observed)
    }

    fn synchronous(&self) -> bool {
        matches!(self.executors[0], Executor::Cpu(_))
    }

    fn set_timestamps(&mut self, on: bool) -> Result<bool> {
        for executor in &mut self.executors {
            match executor {
                Executor::Gpu(gpu) if gpu.gpu().capabilities().timestamps => {
                    gpu.set_timing(if on { Timing::Step } else { Timing::Off })?;
                }
                _ => return Ok(false),
            }
        }
        Ok(on)
    }

    fn device_times(&mut self) -> Result<Vec<Duration>> {
        let mut steps = vec![];
        for executor in &mut self.executors {
            steps.extend(executor.timings()?.steps);
        }
        Ok(steps)
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.executors[0].memory_bytes())
    }

    fn dispatches(&self) -> Option<usize> {
        match &self.executors[0] {
            Executor::Cpu(_) => None,
            Executor::Gpu(gpu) => Some(gpu.dispatches()),
        }
    }
}
