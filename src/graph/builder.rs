//! The graph: operators over named tensors, in the order in which they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::graph::carry::Carry;
use crate::graph::{Extent, Op, ParamLayout, Precision, Shape};

/// A tensor of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId {
    graph: u32,
    index: u32,
}

impl TensorId {
    /// The tensor at an index of a graph or of its program.
    pub(crate) fn new(graph: u32, index: usize) -> Self {
        Self { graph, index: index as u32 }
    }

    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) fn graph(self) -> u32 {
        self.graph
    }
}

/// How many positions a sequence of an input has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputTime {
    /// The extent's time and so many more, or fewer.
    Slack(isize),
    /// So many, whatever the extent's time.
    Fixed(usize),
}

/// Where a tensor's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An operator.
    Value,
    /// The caller, before each step.
    Input(InputTime),
    /// The flat vector of parameters; the index in the layout.
    Param(usize),
    /// The flat vector of gradients; the index of the parameter.
    Grad(usize),
    /// Persistent memory of its own, such as an optimizer's moments.
    State(State),
    /// A part of another tensor, with rows of its own: a parameter in an `f16` copy of all of them, or one of several tensors
    /// that lie behind one another.
    Within {
        /// The other tensor.
        of: TensorId,
        /// Elements from its start.
        offset: usize,
    },
}

/// Memory that outlives a step and is shared by the programs of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// All parameters.
    Params,
    /// All gradients.
    Grads,
    /// The optimizer's first moment, or momentum; for Adadelta the mean of the squared updates.
    FirstMoment,
    /// The optimizer's second moment: mean or sum of the squared gradients.
    SecondMoment,
    /// The mean of the gradients, where an optimizer needs it beside its momentum: centered RMSprop.
    GradientMean,
    /// Averages of the parameters over updates: [`OptimizerConfig::average`](crate::optim::OptimizerConfig::average).
    Average,
    /// The optimizer's count of updates: [`optim::counters_of`](crate::optim::counters_of).
    Counters,
    /// The loss scale of a training in `f16`: [`optim::LossScale`](crate::optim::LossScale).
    LossScale,
}

impl State {
    /// The name in checkpoints and printed programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::Grads => "grads",
            Self::FirstMoment => "first_moment",
            Self::SecondMoment => "second_moment",
            Self::GradientMean => "gradient_mean",
            Self::Average => "average",
            Self::Counters => "counters",
            Self::LossScale => "loss_scale",
        }
    }
}

/// What is known of a tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The name, or empty.
    pub name: String,
    /// The largest size.
    pub shape: Shape,
    /// Where its values come from.
    pub role: Role,
    /// Whether a parameter lies upstream.
    pub differentiable: bool,
    /// Whether devices store it as `f16`; told once the graph is finished.
    pub half: bool,
}

/// An operator with its tensors.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it does.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<TensorId>,
    /// What it writes.
    pub outputs: Vec<TensorId>,
}

/// A model, its gradients and its optimizer under construction. Shapes are checked as operators are added.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Tells its tensors from those of other graphs.
    pub(crate) id: u32,
    pub(crate) extent: Extent,
    pub(crate) precision: Precision,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) params: ParamLayout,
    pub(super) carries: Vec<Carry>,
    /// Streams of random numbers given out.
    streams: u32,
}

impl Graph {
    /// An empty graph for steps of at most this extent.
    ///
    /// # Errors
    /// [`Error::Graph`] if batch or time is 0, or there are 2³¹ positions or more.
    pub fn new(extent: Extent) -> Result<Self> {
        if extent.batch == 0 || extent.time == 0 {
            return Err(Error::Graph(format!(
                "a graph needs at least one sequence and one position, got batch {} and time {}",
                extent.batch, extent.time
            )));
        }
        // Kernels count positions in 32 bits.
        if extent.batch.checked_mul(extent.time).is_none_or(|rows| rows >= 1 << 31) {
            return Err(Error::Graph(format!(
                "batch {} of {} positions: together they must be below 2^31; use a smaller batch or a shorter sequence",
                extent.batch, extent.time
            )));
        }
        static GRAPHS: AtomicU32 = AtomicU32::new(0);
        let id = GRAPHS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            id,
            extent,
            precision: Precision::default(),
            tensors: vec![],
            nodes: vec![],
            params: ParamLayout::default(),
            carries: vec![],
            streams: 0,
        })
    }

    /// The same, to be stored in another precision. To be set before gradients are taken: in `f16` the loss is scaled.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How devices will store it.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The largest extent.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The parameters declared so far.
    pub fn params(&self) -> &ParamLayout {
        &self.params
    }

    /// A stream of random numbers that no other operator of the graph has. Graphs built in the same way give the same ones.
    pub fn random_stream(&mut self) -> u32 {
        self.streams += 1;
        STREAM_OPS + self.streams - 1
    }

    /// A tensor's size; empty if it is of another graph.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        if self.owns(tensor) { self.tensors[tensor.index()].shape } else { Shape::new(0, 0, 0) }
    }

    /// Whether a tensor is of this graph.
    pub(crate) fn owns(&self, tensor: TensorId) -> bool {
        tensor.graph == self.id && tensor.index() < self.tensors.len()
    }

    pub(crate) fn check_owned(&self, tensors: &[TensorId]) -> Result<()> {
        match tensors.iter().find(|&&tensor| !self.owns(tensor)) {
            Some(tensor) => Err(Error::Graph(format!("tensor %{} is of another graph", tensor.index))),
            None => Ok(()),
        }
    }

    pub(crate) fn tensor(&self, tensor: TensorId) -> &Tensor {
        &self.tensors[tensor.index()]
    }

    /// The persistent vector of `elements` numbers of a kind, as one tensor.
    pub(crate) fn state(&mut self, state: State, elements: usize) -> TensorId {
        self.new_tensor(state.name(), Shape::vector(elements), Role::State(state), false)
    }

    /// Names a tensor, for printing and for finding it in a program.
    pub fn set_name(&mut self, tensor: TensorId, name: impl Into<String>) {
        if self.owns(tensor) {
            self.tensors[tensor.index()].name = name.into();
        }
    }

    /// Appends an operator; gives its outputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inputs don't fit.
    pub fn push(&mut self, op: impl Op + 'static, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        self.push_shared(Arc::new(op), inputs)
    }

    /// Appends an operator that is shared already; otherwise as [`push`](Self::push).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_shared(&mut self, op: Arc<dyn Op>, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        self.check_owned(inputs)?;
        let shapes: Vec<Shape> = inputs.iter().map(|&t| self.shape(t)).collect();
        let output_shapes = op.shapes(&shapes)?;
        output_shapes.iter().try_for_each(|shape| check_size(op.name(), shape))?;
        let differentiable = inputs.iter().any(|&t| self.tensor(t).differentiable);
        let mut outputs = Vec::with_capacity(output_shapes.len());
        for (position, shape) in output_shapes.into_iter().enumerate() {
            let differentiable = differentiable && op.differentiable(position);
            outputs.push(self.new_tensor("", shape, Role::Value, differentiable));
        }
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Appends an operator with one output.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`Error::Graph`] if the operator has another number of outputs.
    pub fn push_one(&mut self, op: impl Op + 'static, inputs: &[TensorId]) -> Result<TensorId> {
        let name = op.name();
        match self.push(op, inputs)?.as_slice() {
            [output] => Ok(*output),
            outputs => Err(Error::Graph(format!("{name} has {} outputs, not one", outputs.len()))),
        }
    }

    /// Appends an operator that updates persistent tensors in place. Its outputs are those of its shape rule, which it
    /// gives, and after them what it updates.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn push_in_place(
        &mut self,
        op: impl Op + 'static,
        inputs: &[TensorId],
        updated: &[TensorId],
    ) -> Result<Vec<TensorId>> {
        let outputs = self.push(op, inputs)?;
        if let Some(node) = self.nodes.last_mut() {
            node.outputs.extend_from_slice(updated);
        }
        Ok(outputs)
    }

    pub(super) fn new_tensor(&mut self, name: &str, shape: Shape, role: Role, differentiable: bool) -> TensorId {
        self.tensors.push(Tensor { name: name.into(), shape, role, differentiable, half: false });
        TensorId::new(self.id, self.tensors.len() - 1)
    }
}

/// The first stream of operators: far from those of initial values, data and generation.
const STREAM_OPS: u32 = 0x6f70_0000;

/// More elements than this no device holds; kernels count in 32 bits.
const MAX_ELEMENTS: usize = u32::MAX as usize;

pub(super) fn check_size(what: &str, shape: &Shape) -> Result<()> {
    let elements =
        shape.batch.checked_mul(shape.time).and_then(|rows| rows.checked_mul(shape.channels.checked_add(3)?));
    match elements.filter(|&elements| elements <= MAX_ELEMENTS) {
        Some(_) => Ok(()),
        None => Err(Error::TooLarge {
            what: format!("{what} {shape}"),
            bytes: elements.unwrap_or(usize::MAX).saturating_mul(4) as u64,
            limit: MAX_ELEMENTS as u64 * 4,
            hint: "use a smaller batch, a shorter sequence or fewer channels".into(),
        }),
    }
}
