//! What an operator is: a shape rule, a gradient rule, a CPU reference and a GPU dispatch.

use std::fmt;
use std::sync::Arc;

use crate::device::{Access, Capabilities, Choice, KernelKey};
use crate::error::{Error, Result};
use crate::graph::{Aliasing, Cost, FullPrecision, Gradient, Kind, Packing, Real, Shape, TensorId};

/// An operator. Its configuration (kernel size, dilation, …) is its fields; tensors reach it in a fixed order.
pub trait Op: fmt::Debug + Send + Sync {
    /// The stem of its file and its shader, such as `conv1d`.
    fn name(&self) -> &'static str;

    /// The shapes of the outputs for the shapes of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`], naming the operator and the shapes that don't fit.
    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>>;

    /// Where it needs `f32` on a device, in a program of [`Precision::F16`](crate::graph::Precision::F16).
    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Nowhere
    }

    /// How the planner may have the operator for nothing; only for those that just rearrange channels.
    fn aliasing(&self) -> Option<Aliasing> {
        None
    }

    /// Which of its tensors should lie behind one another in one buffer, so that one dispatch reaches all of them.
    fn packing(&self) -> Option<Packing> {
        None
    }

    /// Whether a loss may depend on an output. Not on those that are there for the gradient rule alone, such as the gates of
    /// a recurrent layer.
    fn differentiable(&self, output: usize) -> bool {
        let _ = output;
        true
    }

    /// Appends the operators that compute the gradients of the inputs.
    ///
    /// # Errors
    /// [`Error::Graph`] where there is no gradient, and what appending an operator gives.
    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let _ = gradient;
        Err(Error::Graph(format!("{} has no gradient", self.name())))
    }

    /// The CPU reference in `f32`: also the product's CPU executor, so it is threaded and deterministic.
    fn cpu_f32(&self, run: &mut CpuRun<'_, f32>) -> Result<()>;

    /// The same in `f64`, the oracle for finite differences.
    fn cpu_f64(&self, run: &mut CpuRun<'_, f64>) -> Result<()>;

    /// The dispatches for these operands: a pure function of operands and capabilities. Kernels and bindings follow
    /// from the planned shapes alone, parameters and workgroups from the current ones.
    ///
    /// # Errors
    /// What choosing a kernel gives.
    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>>;

    /// What it costs at these shapes. As it is given here: no arithmetic that counts, and each tensor moves once.
    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs))
    }
}

/// Implements [`Op::cpu_f32`] and [`Op::cpu_f64`] by a generic method `cpu<T: Real>`.
macro_rules! cpu_reference {
    () => {
        fn cpu_f32(&self, run: &mut $crate::graph::CpuRun<'_, f32>) -> $crate::Result<()> {
            self.cpu(run)
        }
        fn cpu_f64(&self, run: &mut $crate::graph::CpuRun<'_, f64>) -> $crate::Result<()> {
            self.cpu(run)
        }
    };
}
pub(crate) use cpu_reference;

/// What changes from step to step; sent to the device once a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepArgs {
    /// The learning rate of this step.
    pub learning_rate: f32,
    /// The step's number, from 0: names the step's random numbers.
    pub step: u64,
    /// The run's seed.
    pub seed: u64,
}

impl StepArgs {
    /// Words of the buffer `Step` in `shaders/shared/step.wgsl`.
    pub(crate) const WORDS: usize = 8;

    pub(crate) fn words(&self) -> [u32; Self::WORDS] {
        let Self { learning_rate, step, seed } = *self;
        [learning_rate.to_bits(), step as u32, (step >> 32) as u32, seed as u32, (seed >> 32) as u32, 0, 0, 0]
    }
}

/// A tensor as the CPU reads it: `rows` rows, `stride` elements apart, of which `shape.stride()` belong to it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    /// Reals, from the first element; empty for ids.
    pub data: &'a [T],
    /// Ids, from the first element; empty for reals.
    pub ids: &'a [u32],
    /// The current shape.
    pub shape: Shape,
    /// Elements from one row to the next.
    pub stride: usize,
}

impl<'a, T: Real> View<'a, T> {
    /// The channels of a row, padding included.
    pub fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.shape.stride()]
    }

    /// The first element of a scalar.
    pub fn scalar(&self) -> T {
        self.data[0]
    }
}

/// A tensor as the CPU writes it.
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    /// Reals, from the first element.
    pub data: &'a mut [T],
    /// The current shape.
    pub shape: Shape,
    /// Elements from one row to the next.
    pub stride: usize,
}

impl<T: Real> ViewMut<'_, T> {
    /// The channels of a row, padding included.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        &mut self.data[row * self.stride..][..self.shape.stride()]
    }
}

/// One execution of an operator on the CPU.
#[derive(Debug)]
pub struct CpuRun<'a, T> {
    /// The inputs, in the operator's order.
    pub inputs: Vec<View<'a, T>>,
    /// The outputs, in the operator's order; those that are updated in place hold their old values.
    pub outputs: Vec<ViewMut<'a, T>>,
    /// This step's numbers.
    pub step: StepArgs,
}

/// A tensor as a kernel addresses it.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// Its buffer.
    pub binding: Binding,
    /// The current shape.
    pub shape: Shape,
    /// The largest shape planned for.
    pub planned: Shape,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Elements from the start of the binding to the first of the tensor.
    pub offset: usize,
    /// The buffer that it lies in, by a number of the program's, and elements from the buffer's start to the first of the
    /// tensor: for [`Binding::Whole`].
    pub place: (usize, usize),
    /// Whether anybody reads it.
    pub needed: bool,
    /// Where it lies in the flat vector, if it is a parameter.
    pub param: Option<usize>,
    /// Whether it is stored as `f16`. Kernels are told without the operator's doing (`shaders/shared/storage.wgsl`).
    pub half: bool,
}

impl Operand {
    /// Where it lies, for kernels that read 4 channels at once: `(offset, stride)` in units of 4 elements.
    pub fn place4(&self) -> (u32, u32) {
        ((self.offset / 4) as u32, (self.stride / 4) as u32)
    }

    /// A tensor that lives as long as the operator, stored as `like` is.
    pub fn scratch(index: usize, planned: Shape, shape: Shape, like: &Self) -> Self {
        let elements = if like.half { planned.padded_len() / 2 } else { planned.padded_len() };
        let binding = Binding::Scratch { index, elements };
        Self {
            binding,
            shape,
            planned,
            stride: shape.stride(),
            offset: 0,
            place: (usize::MAX - index, 0),
            needed: true,
            param: None,
            half: like.half,
        }
    }

    /// Groups of 4 channels.
    pub fn channels4(&self) -> u32 {
        self.shape.channels.div_ceil(4) as u32
    }
}

/// One planning of an operator on the GPU.
#[derive(Debug)]
pub struct GpuPlan<'a> {
    /// The inputs, in the operator's order.
    pub inputs: &'a [Operand],
    /// The outputs, in the operator's order.
    pub outputs: &'a [Operand],
    /// What the device can do.
    pub capabilities: &'a Capabilities,
}

/// What a kernel's binding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A tensor's buffer: all of it for activations, the parameter's part for parameters and gradients.
    Tensor(TensorId),
    /// All of the buffer that a tensor lies in.
    Whole(TensorId),
    /// The parameters from the first to the last, which were declared one after the other.
    Span(TensorId, TensorId),
    /// Memory that lives as long as the operator.
    Scratch {
        /// Which of the operator's scratch buffers.
        index: usize,
        /// How many words of 4 bytes.
        elements: usize,
    },
    /// The numbers of the step: `Step` in `shaders/shared/step.wgsl`.
    Step,
    /// Constant data of the operator's own: an index in [`Dispatch::tables`].
    Table(usize),
}

/// One dispatch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: KernelKey,
    /// Storage buffers, from binding 1 on.
    pub bindings: Vec<Binding>,
    /// Constant data that bindings name, uploaded when the program is planned; as the bindings, it follows from the
    /// planned shapes alone.
    pub tables: Vec<Arc<[u32]>>,
    /// The uniform at binding 0, at most 64 words.
    pub params: Vec<u32>,
    /// Workgroups in all; laid out in two dimensions where one does not hold them (`shaders/shared/grid.wgsl`).
    pub workgroups: u64,
    /// The variant chosen, where there is a choice, and why not the ones before it.
    pub variant: Option<Choice<()>>,
}

impl Dispatch {
    /// A dispatch of `entry` in `shader`; bindings, parameters and size are added by the methods below.
    pub fn new(shader: &'static str, entry: &'static str) -> Self {
        Self {
            kernel: KernelKey { shader, entry, defines: vec![], constants: vec![], access: vec![] },
            bindings: vec![],
            tables: vec![],
            params: vec![],
            workgroups: 0,
            variant: None,
        }
    }

    /// A preprocessor name, where `on`.
    #[must_use]
    pub fn define(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.kernel.defines.push(name);
        }
        self
    }

    /// The value of an `override` constant.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.kernel.constants.push((name, value));
        self
    }

    /// The next binding, only read.
    #[must_use]
    pub fn read(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self.kernel.access.push(Access::Read);
        self
    }

    /// The next binding, read and written.
    #[must_use]
    pub fn write(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self.kernel.access.push(Access::ReadWrite);
        self
    }

    /// The next binding: constant data, only read.
    #[must_use]
    pub fn table(mut self, table: &Arc<[u32]>) -> Self {
        self.tables.push(Arc::clone(table));
        let index = self.tables.len() - 1;
        self.read(Binding::Table(index))
    }

    /// The uniform.
    #[must_use]
    pub fn params<P: bytemuck::Pod>(mut self, params: &P) -> Self {
        self.params = bytemuck::pod_collect_to_vec(bytemuck::bytes_of(params));
        self
    }

    /// The uniform, where it is a list of structures.
    #[must_use]
    pub fn params_of<P: bytemuck::Pod>(mut self, params: &[P]) -> Self {
        self.params = bytemuck::pod_collect_to_vec(bytemuck::cast_slice::<P, u8>(params));
        self
    }

    /// How many workgroups.
    #[must_use]
    pub fn workgroups(mut self, workgroups: usize) -> Self {
        self.workgroups = workgroups as u64;
        self
    }

    /// The choice that led to this kernel.
    #[must_use]
    pub fn variant<V>(mut self, choice: Choice<V>) -> Self {
        self.variant = Some(choice.without_value());
        self
    }
}

/// A shape error of `op`.
pub(crate) fn shape_error(op: &dyn Op, message: impl Into<String>) -> Error {
    Error::Shape { op: op.name().into(), message: message.into() }
}

/// Checks how many inputs there are and of which kind each is.
pub(crate) fn expect_kinds(op: &dyn Op, inputs: &[Shape], kinds: &[Kind]) -> Result<()> {
    if inputs.len() != kinds.len() {
        return Err(shape_error(op, format!("takes {} inputs, got {}", kinds.len(), inputs.len())));
    }
    for (position, (input, kind)) in inputs.iter().zip(kinds).enumerate() {
        if input.kind != *kind {
            return Err(shape_error(op, format!("input {position} must be {kind:?}, got {input}")));
        }
    }
    Ok(())
}

/// Checks that two shapes are the same.
pub(crate) fn expect_same(op: &dyn Op, a: Shape, b: Shape) -> Result<()> {
    if a == b { Ok(()) } else { Err(shape_error(op, format!("shapes must be the same: {a} and {b}"))) }
}
