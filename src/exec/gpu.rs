//! The GPU executor: plans once, then a step is one command encoder and one submit.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::dispatches::{check_bindings, dispatches_at, grid, is_slice_of_flat};
use super::ring::Ring;
use super::states::{GpuStates, STORAGE};
use super::stopwatch::Stopwatch;
use super::timing::{Log, Timing, Timings};
use crate::device::{Capabilities, Gpu, Kernel, KernelKey, PARAMETER_BYTES};
use crate::error::{Error, Result};
use crate::exec::Metrics;
use crate::graph::{Binding, Dispatch, Extent, Kind, Placement, Program, Purpose, Role, Shape, StepArgs, TensorId};

#[derive(Debug)]
pub(super) struct Planned {
    pub kernel: Arc<Kernel>,
    pub group: wgpu::BindGroup,
    pub grid: [u32; 2],
    /// The operator, among those that run.
    op: usize,
    /// The variant that was chosen for it, where there is a choice.
    variant: &'static str,
}

/// An input on its way: its dense rows are laid out here, and copied to the device by the next step.
#[derive(Debug)]
pub(super) struct Pending {
    pub allocation: usize,
    /// Where it lies in the upload buffer.
    pub upload_offset: u64,
    pub words: Vec<u32>,
    /// Words to send; 0 when nothing changed.
    pub dirty: usize,
}

/// Runs a program on a GPU.
#[derive(Debug)]
pub struct GpuExecutor {
    pub(super) gpu: Arc<Gpu>,
    /// What the kernels were chosen for.
    capabilities: Capabilities,
    pub(super) program: Arc<Program>,
    pub(super) buffers: Vec<wgpu::Buffer>,
    pub(super) shapes: Vec<Shape>,
    pub(super) planned: Vec<Planned>,
    pub(super) step_buffer: wgpu::Buffer,
    pub(super) params_buffer: wgpu::Buffer,
    /// All dispatches' parameters, 64 words each.
    pub(super) params: Pending,
    pub(super) inputs: BTreeMap<TensorId, Pending>,
    pub(super) ring: Ring,
    pub(super) poison: Option<wgpu::Buffer>,
    /// Bytes of the buffers that only bind groups hold.
    bound_bytes: u64,
}

const PARAMETER_WORDS: usize = PARAMETER_BYTES as usize / 4;
/// The step's numbers come first in the upload buffer.
pub(super) const STEP_BYTES: u64 = StepArgs::WORDS as u64 * 4;

impl GpuExecutor {
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        capabilities: &Capabilities,
        program: &Arc<Program>,
        states: &GpuStates,
    ) -> Result<Self> {
        let shapes = program.shapes(program.extent())?;
        check_bindings(program, capabilities)?;
        let mut buffers = Vec::with_capacity(program.allocations.len());
        for allocation in &program.allocations {
            buffers.push(match allocation.purpose {
                Purpose::State(state) => states.get_or_create(state, allocation.elements)?.buffer,
                _ => gpu.buffer(&allocation.label, allocation.bytes(), STORAGE)?,
            });
        }
        let by_operator = dispatches_at(program, capabilities, &shapes)?;
        let ops: Vec<usize> = by_operator.iter().enumerate().flat_map(|(op, all)| vec![op; all.len()]).collect();
        let dispatches: Vec<Dispatch> = by_operator.into_iter().flatten().collect();
        let scratch = scratch_buffers(gpu, &dispatches)?;
        let tables = table_buffers(gpu, &dispatches)?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params_buffer = gpu.buffer("parameters", dispatches.len() as u64 * PARAMETER_BYTES, usage)?;
        let step_buffer = gpu.buffer("step", STEP_BYTES, STORAGE)?;

        let mut upload_bytes = PARAMETER_BYTES;
        let mut place = |allocation: usize, words: usize| {
            let pending = Pending { allocation, upload_offset: upload_bytes, words: vec![0; words], dirty: 0 };
            upload_bytes += (words as u64 * 4).next_multiple_of(PARAMETER_BYTES);
            pending
        };
        let params = place(usize::MAX, dispatches.len() * PARAMETER_WORDS);
        let mut inputs = BTreeMap::new();
        for (index, tensor) in program.tensors.iter().enumerate() {
            let id = TensorId::new(program.graph, index);
            if let (Role::Input(_), Some(placement)) = (tensor.role, program.placement(id)) {
                let words = program.allocations[placement.allocation].bytes() as usize / 4;
                inputs.insert(id, place(placement.allocation, words));
            }
        }
        let ring = Ring::new(gpu, upload_bytes, program.metrics.len())?;

        for dispatch in &dispatches {
            if let Some(variant) = &dispatch.variant {
                log::debug!("{variant}");
            }
        }
        let keys: HashSet<&KernelKey> = dispatches.iter().map(|d| &d.kernel).collect();
        gpu.compile_all(keys)?;
        let bound_bytes = scratch.iter().chain(tables.values()).map(wgpu::Buffer::size).sum();
        let mut executor = Self {
            gpu: Arc::clone(gpu),
            capabilities: capabilities.clone(),
            program: Arc::clone(program),
            buffers,
            shapes,
            planned: vec![],
            step_buffer,
            params_buffer,
            params,
            inputs,
            ring,
            poison: None,
            bound_bytes,
        };
        for (index, (dispatch, &op)) in dispatches.iter().zip(&ops).enumerate() {
            let (kernel, group) = executor.bind(index, dispatch, &scratch, &tables)?;
            let grid = grid(dispatch.workgroups, capabilities)?;
            let variant = dispatch.variant.as_ref().map_or("", |choice| choice.name);
            executor.planned.push(Planned { kernel, group, grid, op, variant });
        }
        executor.set_params(&dispatches);
        Ok(executor)
    }

    fn bind(
        &self,
        index: usize,
        dispatch: &Dispatch,
        scratch: &[wgpu::Buffer],
        tables: &HashMap<*const u32, wgpu::Buffer>,
    ) -> Result<(Arc<Kernel>, wgpu::BindGroup)> {
        let kernel = self.gpu.kernel(&dispatch.kernel)?;
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.params_buffer,
                offset: index as u64 * PARAMETER_BYTES,
                size: wgpu::BufferSize::new(PARAMETER_BYTES),
            }),
        }];
        for (position, &binding) in dispatch.bindings.iter().enumerate() {
            let (buffer, offset, bytes) = match binding {
                Binding::Scratch { index, .. } => (&scratch[index], 0, scratch[index].size()),
                Binding::Table(table) => {
                    let buffer = &tables[&dispatch.tables[table].as_ptr()];
                    (buffer, 0, buffer.size())
                }
                Binding::Step => (&self.step_buffer, 0, self.step_buffer.size()),
                Binding::Tensor(tensor) => self.range(tensor, tensor)?,
                Binding::Whole(tensor) => {
                    let buffer = &self.buffers[self.program.place(tensor)?.allocation];
                    (buffer, 0, buffer.size())
                }
                Binding::Span(first, last) => self.range(first, last)?,
            };
            let limit = self.capabilities.max_binding_bytes;
            if bytes > limit {
                let what = format!("a storage binding of {}", kernel.label);
                let hint = "use a smaller batch, shorter sequences (chunks) or fewer channels".into();
                return Err(Error::TooLarge { what, bytes, limit, hint });
            }
            entries.push(wgpu::BindGroupEntry {
                binding: position as u32 + 1,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: wgpu::BufferSize::new(bytes),
                }),
            });
        }
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(&kernel.label), layout: &kernel.layout, entries: &entries };
        let group = self.gpu.scoped(&kernel.label, || self.gpu.device().create_bind_group(&descriptor))?;
        Ok((kernel, group))
    }

    /// The bytes that a binding of the tensors from `first` to `last` covers.
    fn range(&self, first: TensorId, last: TensorId) -> Result<(&wgpu::Buffer, u64, u64)> {
        let (start, end) = (self.program.place(first)?, self.program.place(last)?);
        let buffer = &self.buffers[start.allocation];
        if is_slice_of_flat(&self.program, first) {
            let from = start.offset as u64 * 4;
            let to = (end.offset + self.program.shape(last).padded_len()) as u64 * 4;
            return Ok((buffer, from, (to - from).next_multiple_of(PARAMETER_BYTES)));
        }
        Ok((buffer, 0, buffer.size()))
    }

    fn set_params(&mut self, dispatches: &[Dispatch]) {
        for (words, dispatch) in self.params.words.chunks_exact_mut(PARAMETER_WORDS).zip(dispatches) {
            words[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        }
        self.params.dirty = self.params.words.len();
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Dispatches of a step.
    pub fn dispatches(&self) -> usize {
        self.planned.len()
    }

    /// The current size of a tensor; empty if it is of another program.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        if self.program.owns(tensor) { self.shapes[tensor.index()] } else { Shape::new(0, 0, 0) }
    }

    /// Sets the extent of the following steps; allocates and compiles nothing.
    ///
    /// # Errors
    /// As [`Program::shapes`].
    pub fn resize(&mut self, extent: Extent) -> Result<()> {
        let shapes = self.program.shapes(extent)?;
        if shapes == self.shapes {
            return Ok(());
        }
        let by_operator = dispatches_at(&self.program, &self.capabilities, &shapes)?;
        let dispatches: Vec<Dispatch> = by_operator.into_iter().flatten().collect();
        for (planned, dispatch) in self.planned.iter().zip(&dispatches) {
            if planned.kernel.label != dispatch.kernel.to_string() {
                return Err(Error::Graph(format!(
                    "{} became {} at another extent: kernels must follow from the planned shapes",
                    planned.kernel.label, dispatch.kernel
                )));
            }
        }
        for (index, dispatch) in dispatches.iter().enumerate() {
            self.planned[index].grid = grid(dispatch.workgroups, &self.capabilities)?;
        }
        self.shapes = shapes;
        self.ring.log.resize(&self.program, &self.shapes);
        self.set_params(&dispatches);
        Ok(())
    }

    /// Sets a real input for the next step, dense.
    ///
    /// # Errors
    /// [`Error::Graph`] if it is no input or the length is not that of its current shape.
    pub fn write(&mut self, tensor: TensorId, values: &[f32]) -> Result<()> {
        let shape = self.shape(tensor);
        let half = self.is_half(tensor);
        let words = self.pending(tensor, values.len(), Kind::Real)?;
        let rows = values.chunks_exact(shape.channels).enumerate();
        if half {
            let halves: &mut [f16] = bytemuck::cast_slice_mut(words);
            for (row, values) in rows {
                halves[row * shape.stride()..][..shape.channels].convert_from_f32_slice(values);
            }
        } else {
            for (row, values) in rows {
                words[row * shape.stride()..][..shape.channels].copy_from_slice(bytemuck::cast_slice(values));
            }
        }
        Ok(())
    }

    /// Sets an input of ids for the next step.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_ids(&mut self, tensor: TensorId, values: &[u32]) -> Result<()> {
        self.pending(tensor, values.len(), Kind::Ids)?[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn pending(&mut self, tensor: TensorId, len: usize, kind: Kind) -> Result<&mut [u32]> {
        let shape = self.shape(tensor);
        let half = self.is_half(tensor);
        let name = self.program.name(tensor);
        if shape.len() != len || shape.kind != kind {
            return Err(Error::Graph(format!("{name} is {shape}, {len} values of {kind:?} don't fit")));
        }
        let pending =
            self.inputs.get_mut(&tensor).ok_or_else(|| Error::Graph(format!("{name} is no input of the program")))?;
        pending.dirty = if half { shape.padded_len() / 2 } else { shape.padded_len() };
        Ok(&mut pending.words)
    }

    /// Whether a tensor is stored as `f16`.
    fn is_half(&self, tensor: TensorId) -> bool {
        self.program.owns(tensor) && self.program.tensors[tensor.index()].half
    }

    /// The buffer of an input or output, for an application's own commands. Rows are `Shape::stride` elements apart;
    /// elements are `f32`, or in a program of [`Precision::F16`](crate::graph::Precision::F16) `f16`, but for losses.
    ///
    /// # Errors
    /// [`Error::Graph`] if its memory is reused during a step.
    pub fn buffer(&self, tensor: TensorId) -> Result<&wgpu::Buffer> {
        let (buffer, placement) = self.kept(tensor)?;
        match self.program.allocations[placement.allocation].purpose {
            Purpose::State(state) => Err(Error::Graph(format!(
                "{} lies in {}: Store::buffer gives that",
                self.program.name(tensor),
                state.name()
            ))),
            _ => Ok(buffer),
        }
    }

    /// The buffer of what outlives a step, and the place in it.
    fn kept(&self, tensor: TensorId) -> Result<(&wgpu::Buffer, Placement)> {
        match self.program.placement(tensor) {
            Some(place) if !self.program.allocations[place.allocation].is_pool() => {
                Ok((&self.buffers[place.allocation], place))
            }
            _ => Err(Error::Graph(format!(
                "{} is not kept: name it as an output of the program",
                self.program.name(tensor)
            ))),
        }
    }

    /// The metrics that came back since the last call, oldest first. Does not wait.
    ///
    /// # Errors
    /// What the device gives.
    pub fn metrics(&mut self) -> Result<Vec<Metrics>> {
        self.ring.arrived(false)
    }

    /// Waits for all steps; gives the metrics that came back.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn wait(&mut self) -> Result<Vec<Metrics>> {
        self.ring.arrived(true)
    }

    /// Sets what is measured; see [`Executor::set_timing`](super::Executor::set_timing).
    ///
    /// # Errors
    /// [`Error::Config`] for [`Timing::Op`] on a device without timestamps; what the device gives.
    pub fn set_timing(&mut self, timing: Timing) -> Result<()> {
        let timestamps = self.gpu.capabilities().timestamps;
        if timing == Timing::Op && !timestamps {
            let name = self.gpu.name();
            return Err(Error::Config(format!("times by operator need timestamps, and {name} has none: time steps")));
        }
        let stopwatch = (timing != Timing::Off && timestamps).then(|| {
            let ops: Vec<usize> = self.planned.iter().map(|planned| planned.op).collect();
            Stopwatch::new(&self.gpu, timing, &ops)
        });
        let variant = |op| {
            let mut of_op = self.planned.iter().filter(|planned| planned.op == op).map(|planned| planned.variant);
            of_op.find(|variant| !variant.is_empty()).unwrap_or_default()
        };
        let log = Log::new(timing, &self.program, &self.shapes, variant);
        self.ring.set_stopwatch(stopwatch.transpose()?, log)
    }

    /// What was measured since the last call; waits for all steps.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn timings(&mut self) -> Result<Timings> {
        self.ring.land_all(true)?;
        Ok(self.ring.log.drain())
    }

    /// Bytes of device memory that the program takes; see [`Executor::memory_bytes`](super::Executor::memory_bytes).
    pub fn memory_bytes(&self) -> u64 {
        let own = [&self.step_buffer, &self.params_buffer];
        let buffers: u64 = self.buffers.iter().chain(own).map(wgpu::Buffer::size).sum();
        buffers + self.bound_bytes + self.ring.bytes()
    }

    /// Reads an output, metric, input or state, dense; waits for it.
    ///
    /// # Errors
    /// [`Error::Graph`] if its memory is reused during a step; what the device gives.
    pub fn read(&self, tensor: TensorId) -> Result<Vec<f32>> {
        let (buffer, place) = self.kept(tensor)?;
        let shape = self.shape(tensor);
        let elements = shape.rows().saturating_sub(1) * place.stride + shape.channels;
        let half = self.is_half(tensor);
        // Whole words: two elements of two bytes.
        let (from, to) = match half {
            true => (place.offset as u64 * 2, elements.next_multiple_of(2) as u64 * 2),
            false => (place.offset as u64 * 4, elements as u64 * 4),
        };
        let bytes = match self.inputs.get(&tensor).filter(|pending| pending.dirty > 0) {
            // What was written goes to the device with the next step.
            Some(pending) => bytemuck::cast_slice(&pending.words)[..to as usize].to_vec(),
            None => self.gpu.read(buffer, from, to)?,
        };
        let padded: Vec<f32> = match half {
            true => bytemuck::pod_collect_to_vec::<u8, f16>(&bytes).to_f32_vec(),
            false => bytemuck::pod_collect_to_vec(&bytes),
        };
        Ok(padded.chunks(place.stride).flat_map(|row| row[..shape.channels].iter().copied()).collect())
    }

    /// Fills everything that operators are to write with NaN before each step, so that what they miss shows.
    ///
    /// # Errors
    /// What allocating the pattern gives: as much memory as the largest buffer.
    pub fn set_poison(&mut self, poison: bool) -> Result<()> {
        self.poison = None;
        if poison {
            let largest = self.buffers.iter().map(wgpu::Buffer::size).max().unwrap_or(256);
            let pattern = self.gpu.buffer("poison", largest, STORAGE)?;
            self.gpu.write(&pattern, 0, &vec![0xff; largest as usize])?;
            self.poison = Some(pattern);
        }
        Ok(())
    }
}

/// One buffer for each scratch index, as large as the largest operator needs: operators run one after the other.
fn scratch_buffers(gpu: &Gpu, dispatches: &[Dispatch]) -> Result<Vec<wgpu::Buffer>> {
    let mut sizes: Vec<usize> = Vec::new();
    for binding in dispatches.iter().flat_map(|d| &d.bindings) {
        if let Binding::Scratch { index, elements } = *binding {
            if sizes.len() <= index {
                sizes.resize(index + 1, 0);
            }
            sizes[index] = sizes[index].max(elements);
        }
    }
    sizes.iter().map(|&elements| gpu.buffer("scratch", elements as u64 * 4, STORAGE)).collect()
}

/// The constant data of all dispatches on the device, by its address on the host: dispatches share what they can.
fn table_buffers(gpu: &Gpu, dispatches: &[Dispatch]) -> Result<HashMap<*const u32, wgpu::Buffer>> {
    let mut buffers = HashMap::new();
    for table in dispatches.iter().flat_map(|d| &d.tables) {
        if let Entry::Vacant(vacant) = buffers.entry(table.as_ptr()) {
            let buffer = gpu.buffer("table", table.len() as u64 * 4, STORAGE)?;
            gpu.write(&buffer, 0, bytemuck::cast_slice(table))?;
            vacant.insert(buffer);
        }
    }
    Ok(buffers)
}
