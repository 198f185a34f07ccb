//! What an operator's gradient rule sees of the graph.

use std::collections::HashMap;

use crate::error::Result;
use crate::graph::{Graph, Op, Role, Shape, TensorId};

/// A gradient that tells of some rows of a parameter; that of the others is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseGradient {
    /// Whose.
    pub param: TensorId,
    /// Which row of the parameter each row of `values` is the gradient of, a vector: rising, each once, and −1 where there is none.
    pub rows: TensorId,
    /// The gradients of rows, `[1, rows, channels]`; 0 where there is none.
    pub values: TensorId,
}

/// The tensors of an operator and the gradients of its outputs. The rule appends operators and gives their results.
#[derive(Debug)]
pub struct Gradient<'g> {
    graph: &'g mut Graph,
    inputs: &'g [TensorId],
    outputs: &'g [TensorId],
    of: &'g HashMap<TensorId, TensorId>,
    given: Vec<(TensorId, TensorId)>,
    sparse: Vec<SparseGradient>,
}

impl<'g> Gradient<'g> {
    /// The context of an operator; `of` holds the gradients of tensors, outputs of the operator among them.
    pub(crate) fn new(
        graph: &'g mut Graph,
        inputs: &'g [TensorId],
        outputs: &'g [TensorId],
        of: &'g HashMap<TensorId, TensorId>,
    ) -> Self {
        Self { graph, inputs, outputs, of, given: vec![], sparse: vec![] }
    }

    /// What was given: (input, part of its gradient), and the sparse ones.
    pub(crate) fn given(self) -> (Vec<(TensorId, TensorId)>, Vec<SparseGradient>) {
        (self.given, self.sparse)
    }

    /// An input of the operator.
    pub fn input(&self, position: usize) -> TensorId {
        self.inputs[position]
    }

    /// All inputs of the operator.
    pub fn inputs(&self) -> &'g [TensorId] {
        self.inputs
    }

    /// An output of the operator.
    pub fn output(&self, position: usize) -> TensorId {
        self.outputs[position]
    }

    /// The size of a tensor.
    pub fn shape(&self, tensor: TensorId) -> Shape {
        self.graph.shape(tensor)
    }

    /// The gradient of an output; nothing if the loss does not depend on it.
    pub fn of_output(&self, position: usize) -> Option<TensorId> {
        self.of.get(&self.outputs[position]).copied()
    }

    /// Whether anybody wants the gradient of an input.
    pub fn wanted(&self, position: usize) -> bool {
        self.graph.tensor(self.inputs[position]).differentiable
    }

    /// Whether an input is a parameter of which a [sparse](Graph::sparse) gradient is wanted.
    pub fn wants_sparse(&self, position: usize) -> bool {
        match self.graph.tensor(self.inputs[position]).role {
            Role::Param(index) => self.graph.params.get(index).is_some_and(|param| param.sparse),
            _ => false,
        }
    }

    /// Appends an operator.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn push(&mut self, op: impl Op + 'static, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        self.graph.push(op, inputs)
    }

    /// Appends an operator with one output.
    ///
    /// # Errors
    /// As [`Graph::push_one`].
    pub fn push_one(&mut self, op: impl Op + 'static, inputs: &[TensorId]) -> Result<TensorId> {
        self.graph.push_one(op, inputs)
    }

    /// Gives a part of the gradient of an input; the parts are added up.
    pub fn give(&mut self, position: usize, gradient: TensorId) {
        self.given.push((self.inputs[position], gradient));
    }

    /// Gives the gradient of some rows of an input: see [`SparseGradient`].
    pub fn give_sparse(&mut self, position: usize, rows: TensorId, values: TensorId) {
        self.sparse.push(SparseGradient { param: self.inputs[position], rows, values });
    }
}
