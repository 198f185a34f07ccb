//! The two executors of a [`Program`]. They know what an operator is and what a device is, never a particular operator.

mod cpu;
mod dispatches;
mod gpu;
mod record;
mod ring;
mod states;
mod stopwatch;
mod timing;

use std::sync::{Arc, PoisonError};

use crate::device::{Capabilities, Device};
use crate::error::{Error, Result};
use crate::graph::{Extent, Program, Shape, State, StepArgs, TensorId};

pub(crate) use cpu::CpuStates;
pub use cpu::{CpuExecutor, Element};
pub use dispatches::dispatches;
pub use gpu::GpuExecutor;
pub(crate) use states::GpuStates;
pub use timing::{OpTime, TIMING_VARIABLE, Timing, Timings};

/// The metrics of one step, in the order in which the program names them.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// The step.
    pub step: u64,
    /// The values.
    pub values: Vec<f32>,
}

/// Persistent memory that programs share: parameters, gradients, the optimizer's state. Clones share it too.
#[derive(Debug, Clone)]
pub struct Store {
    device: Device,
    memory: Memory,
    averaged: bool,
}

#[derive(Debug, Clone)]
enum Memory {
    Cpu(CpuStates<f32>),
    Gpu(Arc<GpuStates>),
}

impl Store {
    /// Empty memory on a device; programs add to it what they need, all zero.
    pub fn new(device: &Device) -> Self {
        let memory = match device {
            Device::Cpu => Memory::Cpu(CpuStates::default()),
            Device::Gpu(gpu) => Memory::Gpu(Arc::new(GpuStates::new(Arc::clone(gpu)))),
        };
        Self { device: device.clone(), memory, averaged: false }
    }

    /// The same memory, in which the averages of parameters ([`State::Average`]) stand for the parameters: what programs of this store
    /// compute they compute with the averages. For programs that train nothing.
    #[must_use]
    pub fn averaged(&self) -> Self {
        Self { averaged: true, ..self.clone() }
    }

    fn program_of_averages(&self, program: &Program) -> Result<Arc<Program>> {
        let there = match &self.memory {
            Memory::Cpu(states) => states.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&State::Average),
            Memory::Gpu(states) => states.get(State::Average).is_some(),
        };
        if !there {
            let advice = "train with `OptimizerConfig::average`, or use the store itself";
            return Err(Error::Graph(format!("the store has no averages of parameters: {advice}")));
        }
        program.of_averages().map(Arc::new)
    }

    /// What is meant by a state.
    fn meant(&self, state: State) -> State {
        if self.averaged && state == State::Params { State::Average } else { state }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Overwrites a vector, padding included.
    ///
    /// # Errors
    /// [`Error::Graph`] if it is there with another length; what the device gives.
    pub fn write(&self, state: State, values: &[f32]) -> Result<()> {
        let state = self.meant(state);
        match &self.memory {
            Memory::Cpu(states) => {
                let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
                let vector = states.entry(state).or_default();
                if !vector.is_empty() && vector.len() != values.len() {
                    return Err(wrong_length(state, vector.len(), values.len()));
                }
                *vector = values.to_vec();
                Ok(())
            }
            Memory::Gpu(states) => states.write(state, values),
        }
    }

    /// Reads a vector, padding included; waits for the device. Empty if no program has asked for it.
    ///
    /// # Errors
    /// What the device gives.
    pub fn read(&self, state: State) -> Result<Vec<f32>> {
        let state = self.meant(state);
        match &self.memory {
            Memory::Cpu(states) => {
                Ok(states.lock().unwrap_or_else(PoisonError::into_inner).get(&state).cloned().unwrap_or_default())
            }
            Memory::Gpu(states) => states.read(state),
        }
    }

    /// The GPU's buffer of a vector, for an application's own commands. Nothing on the CPU or if there is none yet.
    pub fn buffer(&self, state: State) -> Option<wgpu::Buffer> {
        match &self.memory {
            Memory::Cpu(_) => None,
            Memory::Gpu(states) => states.get(self.meant(state)).map(|vector| vector.buffer),
        }
    }
}

fn wrong_length(state: State, there: usize, given: usize) -> Error {
    Error::Graph(format!("{} has {there} elements, not {given}: another model?", state.name()))
}

/// Runs a program, on the GPU or on the CPU.
#[derive(Debug)]
pub enum Executor {
    /// On the CPU.
    Cpu(Box<CpuExecutor<f32>>),
    /// On a GPU.
    Gpu(Box<GpuExecutor>),
}

impl Executor {
    /// Plans a program on the store's device. All memory is allocated and all kernels are compiled here.
    ///
    /// # Errors
    /// Of a store [of averages](Store::averaged) [`Error::Graph`] if the program trains or there are none; [`Error::TooLarge`],
    /// [`Error::OutOfMemory`], [`Error::Shader`] and what else the device gives.
    pub fn new(program: &Arc<Program>, store: &Store) -> Result<Self> {
        let capabilities = store.device.as_gpu().map_or_else(Capabilities::floor, |gpu| gpu.capabilities().clone());
        Self::with_capabilities(program, store, &capabilities)
    }

    /// As [`new`](Self::new), with kernels chosen for a GPU of these capabilities, which the store's device must have:
    /// its own [capped](Capabilities::capped), or with a variant [forced](Capabilities::forcing). The CPU has no choice.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_capabilities(program: &Arc<Program>, store: &Store, capabilities: &Capabilities) -> Result<Self> {
        let averaged = store.averaged.then(|| store.program_of_averages(program)).transpose()?;
        let program = averaged.as_ref().unwrap_or(program);
        Ok(match (&store.device, &store.memory) {
            (Device::Gpu(gpu), Memory::Gpu(states)) => {
                Self::Gpu(Box::new(GpuExecutor::new(gpu, capabilities, program, states)?))
            }
            (_, Memory::Cpu(states)) => {
                Self::Cpu(Box::new(CpuExecutor::with_states(Arc::clone(program), Arc::clone(states))?))
            }
            (Device::Cpu, Memory::Gpu(_)) => return Err(Error::Graph("a store of another device".into())),
        })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        match self {
            Self::Cpu(cpu) => cpu.program(),
            Self::Gpu(gpu) => gpu.program(),
        }
    }

    /// The current size of a tensor.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        match self {
            Self::Cpu(cpu) => cpu.shape(tensor),
            Self::Gpu(gpu) => gpu.shape(tensor),
        }
    }

    /// Sets the extent of the following steps; allocates and compiles nothing.
    ///
    /// # Errors
    /// As [`Program::shapes`].
    pub fn resize(&mut self, extent: Extent) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.resize(extent),
            Self::Gpu(gpu) => gpu.resize(extent),
        }
    }

    /// Sets a real input for the next step, dense `[batch, time, channels]`.
    ///
    /// # Errors
    /// [`Error::Graph`] if it is no input or the length is not that of its current shape.
    pub fn write(&mut self, tensor: TensorId, values: &[f32]) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.write(tensor, values),
            Self::Gpu(gpu) => gpu.write(tensor, values),
        }
    }

    /// Sets an input of ids for the next step, `[batch, time]`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_ids(&mut self, tensor: TensorId, values: &[u32]) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.write_ids(tensor, values),
            Self::Gpu(gpu) => gpu.write_ids(tensor, values),
        }
    }

    /// Runs one step. On a GPU: submits it; waits only if the device is several steps behind.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`] and what else the device gives.
    pub fn run(&mut self, step: &StepArgs) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.run(step),
            Self::Gpu(gpu) => gpu.run(step),
        }
    }

    /// The metrics that came back since the last call, oldest first. Does not wait.
    ///
    /// # Errors
    /// What the device gives.
    pub fn metrics(&mut self) -> Result<Vec<Metrics>> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.metrics()),
            Self::Gpu(gpu) => gpu.metrics(),
        }
    }

    /// Waits for all steps; the metrics that come back are then complete.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`] and what else the device gives.
    pub fn wait(&mut self) -> Result<Vec<Metrics>> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.metrics()),
            Self::Gpu(gpu) => gpu.wait(),
        }
    }

    /// Reads an output of the last step, dense; waits for it.
    ///
    /// # Errors
    /// [`Error::Graph`] if the tensor is not kept; what the device gives.
    pub fn read(&mut self, tensor: TensorId) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(cpu) => cpu.read(tensor),
            Self::Gpu(gpu) => gpu.read(tensor),
        }
    }

    /// Sets what is measured of the following steps; what was measured so far is forgotten. Waits for the steps under way,
    /// and allocates what the measuring needs; then a step allocates nothing, and waits no more than otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] for [`Timing::Op`] on a GPU without timestamps; what the device gives.
    pub fn set_timing(&mut self, timing: Timing) -> Result<()> {
        match self {
            Self::Cpu(cpu) => {
                cpu.set_timing(timing);
                Ok(())
            }
            Self::Gpu(gpu) => gpu.set_timing(timing),
        }
    }

    /// What was measured since the last call; waits for all steps.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`] and what else the device gives.
    pub fn timings(&mut self) -> Result<Timings> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.timings()),
            Self::Gpu(gpu) => gpu.timings(),
        }
    }

    /// Bytes of memory that the program takes on its device, the states that it shares with other programs and, on a
    /// GPU, the staging of inputs and metrics included.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Cpu(cpu) => cpu.memory_bytes(),
            Self::Gpu(gpu) => gpu.memory_bytes(),
        }
    }

    /// Fills everything that operators are to write with NaN before each step, so that what they miss shows.
    ///
    /// # Errors
    /// What the device gives.
    pub fn set_poison(&mut self, poison: bool) -> Result<()> {
        match self {
            Self::Cpu(cpu) => {
                cpu.set_poison(poison);
                Ok(())
            }
            Self::Gpu(gpu) => gpu.set_poison(poison),
        }
    }
}
