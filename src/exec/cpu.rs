//! The CPU executor: plain Rust on all threads. Oracle of the tests, honest baseline, and what runs without a GPU.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::exec::timing::{Log, Timing, Timings};
use crate::exec::{Metrics, wrong_length};
use crate::graph::{
    Allocation, Carry, CpuRun, Extent, Kind, Op, Program, Purpose, Real, Shape, State, StepArgs, TensorId, View,
    ViewMut,
};

/// Persistent memory of programs on the CPU.
pub(crate) type CpuStates<T> = Arc<Mutex<HashMap<State, Vec<T>>>>;

/// A number that operators have a CPU reference for.
pub trait Element: Real {
    /// Runs the reference of `op`.
    ///
    /// # Errors
    /// What the operator gives.
    fn run(op: &dyn Op, run: &mut CpuRun<'_, Self>) -> Result<()>;
}

impl Element for f32 {
    fn run(op: &dyn Op, run: &mut CpuRun<'_, Self>) -> Result<()> {
        op.cpu_f32(run)
    }
}

impl Element for f64 {
    fn run(op: &dyn Op, run: &mut CpuRun<'_, Self>) -> Result<()> {
        op.cpu_f64(run)
    }
}

/// Runs a program on the CPU, in `f32`, or in `f64` as the oracle of finite differences.
#[derive(Debug)]
pub struct CpuExecutor<T> {
    program: Arc<Program>,
    /// By allocation; those of states are empty between steps.
    memory: Vec<Vec<T>>,
    ids: Vec<Vec<u32>>,
    states: CpuStates<T>,
    shapes: Vec<Shape>,
    poison: bool,
    metrics: VecDeque<Metrics>,
    log: Log,
}

/// Asks for all memory at once and gives it back: what can't be had is an error here, where a failing allocation would end
/// the process.
fn check_memory(program: &Program, element: usize) -> Result<()> {
    let elements = |sum: usize, part: usize| sum.checked_add(part.checked_mul(element)?);
    let bytes = program.allocations.iter().try_fold(0_usize, |sum, allocation| elements(sum, allocation.elements));
    match bytes.map(|bytes| Vec::<u8>::new().try_reserve_exact(bytes)) {
        Some(Ok(())) => Ok(()),
        _ => Err(Error::OutOfMemory {
            adapter: "CPU executor".to_owned(),
            what: "the program's tensors".to_owned(),
            bytes: bytes.map_or(0, |bytes| bytes as u64),
        }),
    }
}

impl<T: Element> CpuExecutor<T> {
    /// An executor with memory of its own, all zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is not that much memory; as [`Program::shapes`].
    pub fn new(program: Arc<Program>) -> Result<Self> {
        Self::with_states(program, CpuStates::default())
    }

    pub(crate) fn with_states(program: Arc<Program>, states: CpuStates<T>) -> Result<Self> {
        let shapes = program.shapes(program.extent())?;
        check_memory(&program, size_of::<T>())?;
        let mut memory = Vec::with_capacity(program.allocations.len());
        let mut ids = Vec::with_capacity(program.allocations.len());
        for allocation in &program.allocations {
            let (mut reals, mut integers) = (vec![], vec![]);
            match (allocation.purpose, allocation.kind) {
                (Purpose::State(state), _) => {
                    let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
                    let vector = states.entry(state).or_default();
                    if vector.is_empty() {
                        vector.resize(allocation.elements, T::ZERO);
                    } else if vector.len() != allocation.elements {
                        return Err(wrong_length(state, vector.len(), allocation.elements));
                    }
                }
                (_, Kind::Real) => reals.resize(allocation.elements, T::ZERO),
                (_, Kind::Ids) => integers.resize(allocation.elements, 0),
            }
            memory.push(reals);
            ids.push(integers);
        }
        Ok(Self { program, memory, ids, states, shapes, poison: false, metrics: VecDeque::new(), log: Log::default() })
    }

    /// Fills everything that operators are to write with NaN before each step, so that what they miss shows.
    pub fn set_poison(&mut self, poison: bool) {
        self.poison = poison;
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The current size of a tensor; empty if it is of another program.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        if self.program.owns(tensor) { self.shapes[tensor.index()] } else { Shape::new(0, 0, 0) }
    }

    /// Sets the extent of the following steps.
    ///
    /// # Errors
    /// As [`Program::shapes`].
    pub fn resize(&mut self, extent: Extent) -> Result<()> {
        self.shapes = self.program.shapes(extent)?;
        self.log.resize(&self.program, &self.shapes);
        Ok(())
    }

    /// Writes a real input or state, dense `[batch, time, channels]`.
    ///
    /// # Errors
    /// [`Error::Graph`] if the tensor is not planned or the length is not that of its current shape.
    pub fn write(&mut self, tensor: TensorId, values: &[T]) -> Result<()> {
        let shape = self.shape(tensor);
        let place = self.place(tensor, values.len(), Kind::Real)?;
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match self.program.allocations[place.allocation].purpose {
            Purpose::State(state) => states.entry(state).or_default(),
            _ => &mut self.memory[place.allocation],
        };
        for (row, values) in values.chunks_exact(shape.channels.max(1)).enumerate() {
            memory[place.offset + row * place.stride..][..shape.channels].copy_from_slice(values);
        }
        Ok(())
    }

    /// Writes an input of ids, `[batch, time]`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_ids(&mut self, tensor: TensorId, values: &[u32]) -> Result<()> {
        let place = self.place(tensor, values.len(), Kind::Ids)?;
        self.ids[place.allocation][..values.len()].copy_from_slice(values);
        Ok(())
    }

    /// Reads a tensor, dense: an output, metric, input or state.
    ///
    /// # Errors
    /// [`Error::Graph`] if its memory is reused during a step.
    pub fn read(&self, tensor: TensorId) -> Result<Vec<T>> {
        let shape = self.shape(tensor);
        let place = self.place(tensor, shape.len(), Kind::Real)?;
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match self.program.allocations[place.allocation].purpose {
            Purpose::State(state) => states.get(&state),
            Purpose::Pool => None,
            _ => self.memory.get(place.allocation),
        };
        let memory = memory.ok_or_else(|| {
            Error::Graph(format!("{} is not kept: name it as an output of the program", self.program.name(tensor)))
        })?;
        Ok((0..shape.rows())
            .flat_map(|row| memory[place.offset + row * place.stride..][..shape.channels].iter().copied())
            .collect())
    }

    fn place(&self, tensor: TensorId, len: usize, kind: Kind) -> Result<crate::graph::Placement> {
        let shape = self.shape(tensor);
        if shape.len() != len || shape.kind != kind {
            return Err(Error::Graph(format!(
                "{} is {shape}, {} values of {kind:?} don't fit",
                self.program.name(tensor),
                len
            )));
        }
        self.program
            .placement(tensor)
            .ok_or_else(|| Error::Graph(format!("{} is not part of the program", self.program.name(tensor))))
    }

    /// Runs one step.
    ///
    /// # Errors
    /// What an operator gives.
    pub fn run(&mut self, step: &StepArgs) -> Result<()> {
        let states = Arc::clone(&self.states);
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        self.exchange_states(&mut states);
        if self.poison {
            self.fill_with_nan();
        }
        let program = Arc::clone(&self.program);
        // On a thread of the pool, so that operators find the others without changing threads.
        let result = rayon::scope(|_| self.run_nodes(&program, step));
        self.exchange_states(&mut states);
        drop(states);
        result?;
        self.carry()?;
        let values = program.metrics.iter().map(|&metric| self.read(metric).map(|v| v[0].to_f64() as f32));
        let metrics = Metrics { step: step.step, values: values.collect::<Result<_>>()? };
        if !program.metrics.is_empty() {
            self.metrics.push_back(metrics);
        }
        Ok(())
    }

    /// Sets what is measured of the following steps; what was measured so far is forgotten.
    pub fn set_timing(&mut self, timing: Timing) {
        self.log = Log::new(timing, &self.program, &self.shapes, |_| "");
    }

    /// What was measured since the last call.
    pub fn timings(&mut self) -> Timings {
        self.log.drain()
    }

    /// Bytes of the program's tensors, of the states that it shares with other programs too.
    pub fn memory_bytes(&self) -> u64 {
        let bytes = |allocation: &Allocation| match allocation.kind {
            Kind::Real => allocation.elements * size_of::<T>(),
            Kind::Ids => allocation.elements * size_of::<u32>(),
        };
        self.program.allocations.iter().map(|allocation| bytes(allocation) as u64).sum()
    }

    /// The metrics of the steps since the last call, oldest first.
    pub fn metrics(&mut self) -> Vec<Metrics> {
        self.metrics.drain(..).collect()
    }

    fn exchange_states(&mut self, states: &mut HashMap<State, Vec<T>>) {
        for (allocation, memory) in self.program.allocations.iter().zip(&mut self.memory) {
            if let Purpose::State(state) = allocation.purpose {
                std::mem::swap(memory, states.entry(state).or_default());
            }
        }
    }

    fn fill_with_nan(&mut self) {
        for (allocation, memory) in self.program.allocations.iter().zip(&mut self.memory) {
            let poisoned = matches!(allocation.purpose, Purpose::Pool | Purpose::Output | Purpose::State(State::Grads));
            if poisoned {
                memory.fill(T::of(f64::NAN));
            }
        }
    }

    fn carry(&mut self) -> Result<()> {
        let program = Arc::clone(&self.program);
        for &Carry { state, next } in &program.carries {
            let (to, from) = (program.place(state)?, program.place(next)?);
            let elements = self.shapes[state.index()].padded_len();
            let mut memory = std::mem::take(&mut self.memory[to.allocation]);
            memory[..elements].copy_from_slice(&self.memory[from.allocation][..elements]);
            self.memory[to.allocation] = memory;
        }
        Ok(())
    }

    fn run_nodes(&mut self, program: &Program, step: &StepArgs) -> Result<()> {
        let begun = self.log.now();
        for (index, node) in program.running().enumerate() {
            let start = self.log.now();
            self.run_node(node, step)?;
            if let Some(start) = start {
                self.log.add_op(index, start.elapsed());
            }
        }
        if let Some(begun) = begun {
            self.log.count_ops();
            self.log.add_step(begun.elapsed());
        }
        Ok(())
    }

    fn run_node(&mut self, node: &crate::graph::Node, step: &StepArgs) -> Result<()> {
        let program = Arc::clone(&self.program);
        // What is written is taken out while the rest is read.
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (position, &tensor) in node.outputs.iter().enumerate() {
            outputs.push((program.place(tensor)?, position, tensor));
        }
        outputs.sort_by_key(|(place, ..)| (place.allocation, place.offset));
        let mut taken: Vec<(usize, Vec<T>)> = Vec::new();
        for (place, ..) in &outputs {
            if taken.last().is_none_or(|(allocation, _)| *allocation != place.allocation) {
                taken.push((place.allocation, std::mem::take(&mut self.memory[place.allocation])));
            }
        }
        let result = (|| {
            let inputs = node.inputs.iter().map(|&tensor| {
                let place = program.place(tensor)?;
                let shape = self.shapes[tensor.index()];
                let (data, ids): (&[T], &[u32]) = match program.kind(tensor) {
                    Kind::Real => (self.memory[place.allocation].get(place.offset..).unwrap_or_default(), &[]),
                    Kind::Ids => (&[], self.ids[place.allocation].get(..shape.len()).unwrap_or_default()),
                };
                Ok(View { data, ids, shape, stride: place.stride })
            });
            let inputs: Vec<View<'_, T>> = inputs.collect::<Result<_>>()?;
            let mut views: Vec<(usize, ViewMut<'_, T>)> = Vec::with_capacity(outputs.len());
            let mut remaining = outputs.as_slice();
            for (allocation, memory) in &mut taken {
                let mut rest = memory.as_mut_slice();
                let mut start = 0;
                while let Some(((place, position, tensor), others)) = remaining.split_first() {
                    if place.allocation != *allocation {
                        break;
                    }
                    // Up to the next output in the same memory, or to its end.
                    let end = others.first().filter(|(next, ..)| next.allocation == *allocation);
                    let end = end.map_or(start + rest.len(), |(next, ..)| next.offset);
                    let (head, tail) = std::mem::take(&mut rest).split_at_mut(end - start);
                    let shape = self.shapes[tensor.index()];
                    views.push((
                        *position,
                        ViewMut { data: &mut head[place.offset - start..], shape, stride: place.stride },
                    ));
                    (rest, start, remaining) = (tail, end, others);
                }
            }
            views.sort_by_key(|(position, _)| *position);
            let outputs = views.into_iter().map(|(_, view)| view).collect();
            T::run(&*node.op, &mut CpuRun { inputs, outputs, step: *step })
        })();
        for (allocation, memory) in taken {
            self.memory[allocation] = memory;
        }
        result
    }
}
