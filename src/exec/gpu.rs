//! The GPU executor: plans once, then a step is one command encoder and one submit.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::ring::Ring;
use super::wrong_length;
use crate::device::{Capabilities, Gpu, Kernel, KernelKey, PARAMETER_BYTES};
use crate::error::{Error, Result};
use crate::exec::Metrics;
use crate::graph::{
    Binding, Dispatch, Extent, GpuPlan, Kind, Operand, Placement, Program, Purpose, Role, Shape, State, StepArgs,
    TensorId,
};

/// A persistent vector.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub buffer: wgpu::Buffer,
    pub elements: usize,
}

/// Persistent memory of programs on a GPU.
#[derive(Debug)]
pub(crate) struct GpuStates {
    gpu: Arc<Gpu>,
    vectors: Mutex<HashMap<State, Vector>>,
}

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

impl GpuStates {
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self { gpu, vectors: Mutex::default() }
    }

    pub fn get(&self, state: State) -> Option<Vector> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).get(&state).cloned()
    }

    fn get_or_create(&self, state: State, elements: usize) -> Result<Vector> {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vector) = vectors.get(&state) {
            if vector.elements != elements {
                return Err(wrong_length(state, vector.elements, elements));
            }
            return Ok(vector.clone());
        }
        let vector = Vector { buffer: self.gpu.buffer(state.name(), elements as u64 * 4, STORAGE)?, elements };
        vectors.insert(state, vector.clone());
        Ok(vector)
    }

    pub fn write(&self, state: State, values: &[f32]) -> Result<()> {
        let vector = self.get_or_create(state, values.len())?;
        self.gpu.write(&vector.buffer, 0, bytemuck::cast_slice(values))
    }

    pub fn read(&self, state: State) -> Result<Vec<f32>> {
        match self.get(state) {
            Some(vector) => {
                let bytes = self.gpu.read(&vector.buffer, 0, vector.elements as u64 * 4)?;
                Ok(bytemuck::pod_collect_to_vec(&bytes))
            }
            None => Ok(vec![]),
        }
    }
}

#[derive(Debug)]
struct Planned {
    kernel: Arc<Kernel>,
    group: wgpu::BindGroup,
    grid: [u32; 2],
}

/// An input on its way: its dense rows are laid out here, and copied to the device by the next step.
#[derive(Debug)]
struct Pending {
    allocation: usize,
    /// Where it lies in the upload buffer.
    upload_offset: u64,
    words: Vec<u32>,
    /// Words to send; 0 when nothing changed.
    dirty: usize,
}

/// Runs a program on a GPU.
#[derive(Debug)]
pub struct GpuExecutor {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    buffers: Vec<wgpu::Buffer>,
    shapes: Vec<Shape>,
    planned: Vec<Planned>,
    step_buffer: wgpu::Buffer,
    params_buffer: wgpu::Buffer,
    /// All dispatches' parameters, 64 words each.
    params: Pending,
    inputs: BTreeMap<TensorId, Pending>,
    ring: Ring,
    poison: Option<wgpu::Buffer>,
}

const PARAMETER_WORDS: usize = PARAMETER_BYTES as usize / 4;
/// The step's numbers come first in the upload buffer.
const STEP_BYTES: u64 = StepArgs::WORDS as u64 * 4;

impl GpuExecutor {
    pub(crate) fn new(gpu: &Arc<Gpu>, program: &Arc<Program>, states: &GpuStates) -> Result<Self> {
        let shapes = program.shapes(program.extent())?;
        check_bindings(program, gpu.capabilities())?;
        let mut buffers = Vec::with_capacity(program.allocations.len());
        for allocation in &program.allocations {
            let bytes = allocation.elements as u64 * 4;
            buffers.push(match allocation.purpose {
                Purpose::State(state) => states.get_or_create(state, allocation.elements)?.buffer,
                _ => gpu.buffer(&allocation.label, bytes, STORAGE)?,
            });
        }
        let dispatches = dispatches_at(program, gpu.capabilities(), &shapes)?;
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
            if let (Role::Input { .. }, Some(placement)) = (tensor.role, program.placement(id)) {
                let elements = program.allocations[placement.allocation].elements;
                inputs.insert(id, place(placement.allocation, elements));
            }
        }
        let ring = Ring::new(gpu, upload_bytes, program.metrics.len())?;

        for dispatch in &dispatches {
            if let Some(variant) = &dispatch.variant {
                log::debug!("{variant}");
            }
        }
        let keys: HashSet<&KernelKey> = dispatches.iter().map(|d| &d.kernel).collect();
        keys.into_par_iter().try_for_each(|key| gpu.kernel(key).map(drop))?;
        let mut executor = Self {
            gpu: Arc::clone(gpu),
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
        };
        for (index, dispatch) in dispatches.iter().enumerate() {
            let planned = executor.bind(index, dispatch, &scratch, &tables)?;
            executor.planned.push(planned);
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
    ) -> Result<Planned> {
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
                Binding::Span(first, last) => self.range(first, last)?,
            };
            let limit = self.gpu.capabilities().max_binding_bytes;
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
        Ok(Planned { group, grid: grid(dispatch.workgroups, self.gpu.capabilities())?, kernel })
    }

    /// The bytes that a binding of the tensors from `first` to `last` covers.
    fn range(&self, first: TensorId, last: TensorId) -> Result<(&wgpu::Buffer, u64, u64)> {
        let missing = |t| Error::Graph(format!("{} has no memory", self.program.name(t)));
        let start = self.program.placement(first).ok_or_else(|| missing(first))?;
        let end = self.program.placement(last).ok_or_else(|| missing(last))?;
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
        let dispatches = dispatches_at(&self.program, self.gpu.capabilities(), &shapes)?;
        for (planned, dispatch) in self.planned.iter().zip(&dispatches) {
            if planned.kernel.label != dispatch.kernel.to_string() {
                return Err(Error::Graph(format!(
                    "{} became {} at another extent: kernels must follow from the planned shapes",
                    planned.kernel.label, dispatch.kernel
                )));
            }
        }
        for (index, dispatch) in dispatches.iter().enumerate() {
            self.planned[index].grid = grid(dispatch.workgroups, self.gpu.capabilities())?;
        }
        self.shapes = shapes;
        self.set_params(&dispatches);
        Ok(())
    }

    /// Sets a real input for the next step, dense.
    ///
    /// # Errors
    /// [`Error::Graph`] if it is no input or the length is not that of its current shape.
    pub fn write(&mut self, tensor: TensorId, values: &[f32]) -> Result<()> {
        let shape = self.shape(tensor);
        let words = self.pending(tensor, values.len(), Kind::Real)?;
        for (row, values) in values.chunks_exact(shape.channels).enumerate() {
            words[row * shape.stride()..][..shape.channels].copy_from_slice(bytemuck::cast_slice(values));
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
        let name = self.program.name(tensor);
        if shape.len() != len || shape.kind != kind {
            return Err(Error::Graph(format!("{name} is {shape}, {len} values of {kind:?} don't fit")));
        }
        let pending =
            self.inputs.get_mut(&tensor).ok_or_else(|| Error::Graph(format!("{name} is no input of the program")))?;
        pending.dirty = shape.padded_len();
        Ok(&mut pending.words)
    }

    /// The buffer of an input or output, for an application's own commands. Rows are `Shape::stride` elements apart.
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

    /// Submits one step; waits only if the device is several steps behind.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`], [`Error::Device`].
    pub fn run(&mut self, step: &StepArgs) -> Result<()> {
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        self.record(step, &mut encoder)?;
        let submission = self.gpu.scoped("step", || self.gpu.queue().submit([encoder.finish()]))?;
        self.submitted(step, submission);
        Ok(())
    }

    /// Records one step into an application's own encoder. The application submits it and tells
    /// [`submitted`](Self::submitted) before it records the next.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn record(&mut self, step: &StepArgs, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        let words = step.words();
        let (params, inputs) = (&self.params, &self.inputs);
        let (upload, readback) = self.ring.begin(|view| {
            view.slice(..STEP_BYTES as usize).copy_from_slice(bytemuck::cast_slice(&words));
            for pending in inputs.values().chain([params]).filter(|p| p.dirty > 0) {
                let start = pending.upload_offset as usize;
                let bytes = bytemuck::cast_slice(&pending.words[..pending.dirty]);
                view.slice(start..start + bytes.len()).copy_from_slice(bytes);
            }
        })?;
        encoder.copy_buffer_to_buffer(&upload, 0, &self.step_buffer, 0, STEP_BYTES);
        for pending in self.inputs.values_mut().chain([&mut self.params]).filter(|p| p.dirty > 0) {
            let target = self.buffers.get(pending.allocation).unwrap_or(&self.params_buffer);
            encoder.copy_buffer_to_buffer(&upload, pending.upload_offset, target, 0, pending.dirty as u64 * 4);
            pending.dirty = 0;
        }
        self.record_poison(encoder);
        {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes: None });
            for planned in &self.planned {
                pass.set_pipeline(&planned.kernel.pipeline);
                pass.set_bind_group(0, &planned.group, &[]);
                pass.dispatch_workgroups(planned.grid[0], planned.grid[1], 1);
            }
        }
        for (position, &metric) in self.program.metrics.iter().enumerate() {
            let place = self.program.placement(metric);
            let place = place.ok_or_else(|| Error::Graph(format!("{} has no memory", self.program.name(metric))))?;
            let (buffer, offset) = (&self.buffers[place.allocation], place.offset as u64 * 4);
            encoder.copy_buffer_to_buffer(buffer, offset, &readback, position as u64 * 4, 4);
        }
        Ok(())
    }

    /// Tells that the step recorded last was submitted.
    pub fn submitted(&mut self, step: &StepArgs, submission: wgpu::SubmissionIndex) {
        self.ring.submitted(step.step, submission);
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

    /// Reads an output, metric, input or state, dense; waits for it.
    ///
    /// # Errors
    /// [`Error::Graph`] if its memory is reused during a step; what the device gives.
    pub fn read(&self, tensor: TensorId) -> Result<Vec<f32>> {
        let (buffer, place) = self.kept(tensor)?;
        let shape = self.shape(tensor);
        let elements = shape.rows().saturating_sub(1) * place.stride + shape.channels;
        let bytes = self.gpu.read(buffer, place.offset as u64 * 4, elements as u64 * 4)?;
        let padded: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
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

    fn record_poison(&self, encoder: &mut wgpu::CommandEncoder) {
        let Some(poison) = &self.poison else { return };
        for (allocation, buffer) in self.program.allocations.iter().zip(&self.buffers) {
            if matches!(allocation.purpose, Purpose::Pool | Purpose::Output | Purpose::State(State::Grads)) {
                encoder.copy_buffer_to_buffer(poison, 0, buffer, 0, buffer.size());
            }
        }
    }
}

/// Whether a tensor is a part of a flat vector, bound on its own.
fn is_slice_of_flat(program: &Program, tensor: TensorId) -> bool {
    matches!(program.tensors[tensor.index()].role, Role::Param(_) | Role::Grad(_))
}

/// Workgroups laid out in two dimensions where one does not hold them: at least as many, and less than a line more, which
/// kernels tell by their index (`shaders/shared/grid.wgsl`).
fn grid(workgroups: u64, capabilities: &Capabilities) -> Result<[u32; 2]> {
    let limit = u64::from(capabilities.max_workgroups);
    let lines = workgroups.div_ceil(limit).max(1);
    // Kernels count workgroups in 32 bits.
    let most = (limit * limit).min(u64::from(u32::MAX));
    if workgroups.div_ceil(lines) * lines > most {
        return Err(Error::Graph(format!(
            "a dispatch of {workgroups} workgroups, where a device counts to {most}; use a smaller batch or shorter \
             sequences (chunks)"
        )));
    }
    Ok([workgroups.div_ceil(lines) as u32, if workgroups == 0 { 0 } else { lines as u32 }])
}

/// Whether a device can bind every buffer of a program; if not, the error names the tensor that needs the largest.
fn check_bindings(program: &Program, capabilities: &Capabilities) -> Result<()> {
    let (bytes, limit) = (program.largest_binding_bytes(), capabilities.max_binding_bytes);
    if bytes <= limit {
        return Ok(());
    }
    if let Some((state, _)) = program.states().find(|&(_, elements)| elements as u64 * 4 == bytes) {
        let what = format!("the vector of all {} as one storage binding", state.name());
        return Err(Error::TooLarge { what, bytes, limit, hint: "use fewer channels or layers".into() });
    }
    let Extent { batch, time } = program.extent();
    let tensor = program.largest_tensor();
    let what = tensor.map_or_else(
        || "a tensor".to_owned(),
        |tensor| {
            let maker = program.maker(tensor).map(|op| format!(" of {op}")).unwrap_or_default();
            format!("tensor {} {}{maker}", program.name(tensor), program.shape(tensor))
        },
    );
    // A tensor's rows are in proportion to the batch.
    let fitting = tensor.filter(|&t| program.shape(t).batch == batch).map_or(0, |_| batch as u64 * limit / bytes);
    let hint = match fitting {
        0 => format!("use a smaller batch than {batch}, shorter sequences (chunks) than {time} or fewer channels"),
        _ => format!("use a batch of {fitting} instead of {batch}, or shorter sequences (chunks) than {time}"),
    };
    Err(Error::TooLarge { what: format!("{what} as one storage binding"), bytes, limit, hint })
}

/// The dispatches of one step of a program at its planned extent: kernels, bindings, parameters and, in words, the
/// variants chosen. Needs no device.
///
/// # Errors
/// As [`Program::shapes`]; what choosing a kernel gives.
pub fn dispatches(program: &Program, capabilities: &Capabilities) -> Result<Vec<Dispatch>> {
    dispatches_at(program, capabilities, &program.shapes(program.extent())?)
}

fn dispatches_at(program: &Program, capabilities: &Capabilities, shapes: &[Shape]) -> Result<Vec<Dispatch>> {
    let mut all = Vec::new();
    let operand = |&tensor: &TensorId| {
        let place =
            program.placement(tensor).ok_or_else(|| Error::Graph(format!("{} has no memory", program.name(tensor))))?;
        let offset = if is_slice_of_flat(program, tensor) { 0 } else { place.offset };
        Ok(Operand {
            binding: Binding::Tensor(tensor),
            shape: shapes[tensor.index()],
            planned: program.shape(tensor),
            stride: place.stride,
            offset,
            needed: program.needed[tensor.index()],
            param: matches!(program.tensors[tensor.index()].role, Role::Param(_)).then_some(place.offset),
        })
    };
    for step in program.steps.iter().filter(|step| !step.elided) {
        let inputs: Vec<Operand> = step.node.inputs.iter().map(operand).collect::<Result<_>>()?;
        let outputs: Vec<Operand> = step.node.outputs.iter().map(operand).collect::<Result<_>>()?;
        let plan = GpuPlan { inputs: &inputs, outputs: &outputs, capabilities };
        all.extend(step.node.op.gpu(&plan)?);
    }
    Ok(all)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{WaveNet, WaveNetConfig};
    use crate::optim::OptimizerConfig;

    #[test]
    fn workgroups_that_one_dimension_does_not_hold_take_two() {
        let floor = Capabilities::floor();
        for (workgroups, expected) in [
            (0, [0, 0]),
            (1, [1, 1]),
            (65_535, [65_535, 1]),
            (65_536, [32_768, 2]),
            (131_070, [65_535, 2]),
            (131_071, [43_691, 3]),
        ] {
            assert_eq!(grid(workgroups, &floor).unwrap(), expected, "{workgroups}");
        }
        for limit in [1, 2, 3, 7, 100] {
            let few = Capabilities { max_workgroups: limit, ..floor.clone() };
            for workgroups in 1..=u64::from(limit * limit) {
                let [x, y] = grid(workgroups, &few).unwrap();
                assert!(x <= limit && y <= limit, "{workgroups} of {limit}: {x} x {y}");
                let made = u64::from(x) * u64::from(y);
                assert!((workgroups..workgroups + u64::from(x.max(y))).contains(&made), "{workgroups}: {x} x {y}");
            }
            let error = grid(u64::from(limit * limit) + 1, &few).unwrap_err().to_string();
            assert!(error.contains("smaller batch"), "{error}");
        }
        assert!(grid(u64::from(u32::MAX) + 1, &floor).is_err());
    }

    /// What the floor of WebGPU says to a training step of preset `paper`.
    fn verdict(batch: usize, time: usize) -> Result<()> {
        let model = WaveNet::new(WaveNetConfig::paper()).unwrap();
        let program = model.training(Extent { batch, time }, &OptimizerConfig::default()).unwrap().program;
        check_bindings(&program, &Capabilities::floor())
    }

    #[test]
    fn a_tensor_too_large_is_named_with_what_to_reduce() {
        let error = verdict(64, 20_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor skip [64, 16930, 256] of conv1d as one storage binding needs 1.0 GiB (1109524480 bytes), the limit \
             is 128.0 MiB (134217728 bytes); use a batch of 7 instead of 64, or shorter sequences (chunks) than 20000"
        );
        verdict(7, 20_000).unwrap();
        let error = verdict(1, 300_000).unwrap_err().to_string();
        assert!(error.contains("skip [1, 296930, 256]") && error.contains("chunks) than 300000"), "{error}");
    }
}
