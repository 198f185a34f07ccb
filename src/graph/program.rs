//! The program: a frozen graph, planned. Data, printable, the same for both executors.

use std::cmp::Reverse;
use std::fmt;

use crate::error::{Error, Result};
use crate::graph::carry::Carry;
use crate::graph::plan::{self, Allocation, Placement, Plan, Purpose, Step};
use crate::graph::{
    Extent, Graph, Kind, Node, ParamLayout, Precision, Role, Shape, State, Tensor, TensorId, input_shape,
};

/// A list of operators over planned memory.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) graph: u32,
    pub(crate) extent: Extent,
    pub(crate) precision: Precision,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) steps: Vec<Step>,
    pub(crate) params: ParamLayout,
    pub(crate) metrics: Vec<TensorId>,
    pub(crate) carries: Vec<Carry>,
    pub(crate) allocations: Vec<Allocation>,
    pub(crate) placements: Vec<Option<Placement>>,
    pub(crate) needed: Vec<bool>,
}

impl Graph {
    /// Freezes the graph. Operators that no output, metric, gradient or state depends on are left out.
    ///
    /// `outputs` stay readable after a step; `metrics` are scalars that come back on their own, some steps late.
    ///
    /// # Errors
    /// [`Error::Graph`] if a metric is not a scalar.
    pub fn finish(mut self, outputs: &[TensorId], metrics: &[TensorId]) -> Result<Program> {
        self.check_owned(outputs)?;
        self.check_owned(metrics)?;
        if let Some(&metric) = metrics.iter().find(|&&m| self.shape(m) != Shape::scalar()) {
            return Err(Error::Graph(format!("a metric must be a scalar, got {}", self.shape(metric))));
        }
        let mut copied = metrics.to_vec();
        let mut carries = std::mem::take(&mut self.carries);
        self.store_halves(&mut copied, &mut carries)?;
        let carried = carries.iter().map(|carry| carry.next);
        let kept: Vec<TensorId> = outputs.iter().chain(metrics).chain(&copied).copied().chain(carried).collect();
        self.pack(&kept)?;
        let Plan { steps, allocations, placements, needed } = plan::plan(&self, kept);
        Ok(Program {
            graph: self.id,
            extent: self.extent,
            precision: self.precision,
            tensors: self.tensors,
            steps,
            params: self.params,
            metrics: copied,
            carries,
            allocations,
            placements,
            needed,
        })
    }
}

impl Program {
    /// The largest extent.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// How devices store it.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The parameters of the model.
    pub fn params(&self) -> &ParamLayout {
        &self.params
    }

    /// A tensor's largest size; empty if it is of another program.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        if self.owns(tensor) { self.tensors[tensor.index()].shape } else { Shape::new(0, 0, 0) }
    }

    pub(crate) fn owns(&self, tensor: TensorId) -> bool {
        tensor.graph() == self.graph && tensor.index() < self.tensors.len()
    }

    /// The persistent vectors that the program uses, with the elements of each.
    pub fn states(&self) -> impl Iterator<Item = (State, usize)> + '_ {
        self.allocations.iter().filter_map(|allocation| match allocation.purpose {
            Purpose::State(state) => Some((state, allocation.elements)),
            _ => None,
        })
    }

    /// The same program, which reads [`State::Average`] for its parameters.
    pub(crate) fn of_averages(&self) -> Result<Self> {
        if self.states().any(|(state, _)| state == State::Counters) {
            return Err(Error::Graph("a program that trains needs the parameters, not their averages".into()));
        }
        let mut program = self.clone();
        for allocation in &mut program.allocations {
            if allocation.purpose == Purpose::State(State::Params) {
                allocation.purpose = Purpose::State(State::Average);
            }
        }
        Ok(program)
    }

    /// Bytes of the memory for activations on a device, once the lifetimes were coloured.
    pub fn pool_bytes(&self) -> u64 {
        self.allocations.iter().filter(|a| a.is_pool()).map(Allocation::bytes).sum()
    }

    /// Bytes of the largest buffer that a kernel binds, scratch memory left out (that is at most 64 MiB).
    pub fn largest_binding_bytes(&self) -> u64 {
        self.allocations.iter().map(Allocation::bytes).max().unwrap_or(0)
    }

    /// The largest tensor: of several the first that has a name, else the first.
    pub(crate) fn largest_tensor(&self) -> Option<TensorId> {
        let bytes = |tensor: &Tensor| tensor.shape.padded_len() * if tensor.half { 2 } else { 4 };
        let key = |t: &TensorId| {
            (bytes(&self.tensors[t.index()]), !self.tensors[t.index()].name.is_empty(), Reverse(t.index()))
        };
        let all = (0..self.tensors.len()).map(|index| TensorId::new(self.graph, index));
        all.filter(|&t| self.placement(t).is_some()).max_by_key(key)
    }

    /// The operators that run, in their order: those that the planner has for nothing left out.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.steps.iter().filter(|step| !step.elided).map(|step| &step.node)
    }

    /// The name of the operator that writes a tensor.
    pub(crate) fn maker(&self, tensor: TensorId) -> Option<&'static str> {
        self.steps.iter().find(|step| step.node.outputs.contains(&tensor)).map(|step| step.node.op.name())
    }

    /// The name of a tensor: its own, or its number.
    pub fn name(&self, tensor: TensorId) -> String {
        match self.tensors.get(tensor.index()) {
            _ if !self.owns(tensor) => format!("%{} of another graph", tensor.index()),
            Some(Tensor { name, .. }) if !name.is_empty() => name.clone(),
            _ => format!("%{}", tensor.index()),
        }
    }

    /// Where a tensor that the program uses lies.
    pub(crate) fn place(&self, tensor: TensorId) -> Result<Placement> {
        self.placement(tensor).ok_or_else(|| Error::Graph(format!("{} has no memory", self.name(tensor))))
    }

    pub(crate) fn placement(&self, tensor: TensorId) -> Option<Placement> {
        if self.owns(tensor) { self.placements[tensor.index()] } else { None }
    }

    /// The shapes of all tensors at an extent.
    ///
    /// # Errors
    /// [`Error::Graph`] if the extent is larger than planned, [`Error::Shape`] if an operator can't have so short an
    /// input.
    pub fn shapes(&self, extent: Extent) -> Result<Vec<Shape>> {
        if extent.batch > self.extent.batch || extent.time > self.extent.time {
            return Err(Error::Graph(format!(
                "batch {} and time {} are more than was planned: batch {} and time {}",
                extent.batch, extent.time, self.extent.batch, self.extent.time
            )));
        }
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            shapes.push(match tensor.role {
                Role::Input(time) => {
                    input_shape(extent, time, tensor.shape.channels, tensor.shape.kind).ok_or_else(|| {
                        Error::Graph(format!(
                            "input {} is empty at batch {} and time {}",
                            tensor.name, extent.batch, extent.time
                        ))
                    })?
                }
                _ => tensor.shape,
            });
        }
        for step in &self.steps {
            let inputs: Vec<Shape> = step.node.inputs.iter().map(|t| shapes[t.index()]).collect();
            for (output, shape) in step.node.outputs.iter().zip(step.node.op.shapes(&inputs)?) {
                if matches!(self.tensors[output.index()].role, Role::Value) {
                    shapes[output.index()] = shape;
                }
            }
        }
        for carry in &self.carries {
            let (state, next) = (shapes[carry.state.index()], shapes[carry.next.index()]);
            if state != next {
                let (name, extent) =
                    (self.name(carry.state), format!("batch {} and time {}", extent.batch, extent.time));
                return Err(Error::Graph(format!("state {name} is {state} at {extent}, its next value {next}")));
            }
        }
        Ok(shapes)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "program: {}, batch {}, time {}, {} parameters, {} operators, {:.1} MB of activations",
            self.precision,
            self.extent.batch,
            self.extent.time,
            self.params.count(),
            self.running().count(),
            self.pool_bytes() as f64 * 1e-6
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            let describe = |tensors: &[TensorId], with_shape: bool| {
                let described: Vec<String> = tensors
                    .iter()
                    .map(|&t| {
                        let place = match (self.placement(t), with_shape) {
                            (Some(p), true) => {
                                format!(" {}@{}", self.shape(t), self.allocations[p.allocation].label)
                            }
                            _ => String::new(),
                        };
                        format!("{}{place}", self.name(t))
                    })
                    .collect();
                described.join(", ")
            };
            writeln!(
                f,
                "{index:4}  {}  =  {:?}({}){}",
                describe(&step.node.outputs, true),
                step.node.op,
                describe(&step.node.inputs, false),
                if step.elided { "  (in place)" } else { "" }
            )?;
        }
        for carry in &self.carries {
            writeln!(f, "      {}  <-  {}  after the step", self.name(carry.state), self.name(carry.next))?;
        }
        Ok(())
    }
}

impl Program {
    pub(crate) fn kind(&self, tensor: TensorId) -> Kind {
        self.shape(tensor).kind
    }
}
