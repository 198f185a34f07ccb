//! Reverse-mode differentiation: gradient operators appended to the graph.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::graph::{Gradient, Graph, Precision, Role, Shape, SparseGradient, State, TensorId};
use crate::ops;

/// The gradients that [`Graph::backward`] made.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// All gradients of parameters as one vector, in the layout's order.
    pub flat: TensorId,
    /// Those of [sparse](Graph::sparse) parameters that the loss depends on, which are 0 there.
    pub sparse: Vec<SparseGradient>,
    /// The loss scale, a scalar, where the graph's precision is `f16`: all gradients are multiplied by it. The optimizer
    /// divides by it.
    pub scale: Option<TensorId>,
    of: HashMap<TensorId, TensorId>,
}

impl Gradients {
    /// The gradient of a tensor, if the loss depends on it and it is not sparse.
    pub fn of(&self, tensor: TensorId) -> Option<TensorId> {
        self.of.get(&tensor).copied()
    }
}

impl Graph {
    /// Appends the gradient of the scalar `loss` with respect to every parameter, multiplied by
    /// [`Gradients::scale`] where there is one.
    ///
    /// # Errors
    /// [`Error::Graph`] if the loss is not a scalar or depends on no parameter; else as [`backward_from`](Self::backward_from).
    pub fn backward(&mut self, loss: TensorId) -> Result<Gradients> {
        if self.shape(loss) != Shape::scalar() {
            return Err(Error::Graph(format!("the loss must be a scalar, got {}", self.shape(loss))));
        }
        if !self.tensor(loss).differentiable {
            return Err(Error::Graph("the loss depends on no parameter".into()));
        }
        let scale = match self.precision() {
            Precision::F32 => None,
            Precision::F16 => Some(ops::loss_scale(self)?),
        };
        let seed = match scale {
            Some(scale) => scale,
            None => ops::constant(self, Shape::scalar(), 1.0)?,
        };
        Ok(Gradients { scale, ..self.backward_from(&[(loss, seed)])? })
    }

    /// Appends the gradient of every parameter given the gradients of some tensors, as (tensor, gradient) pairs.
    ///
    /// # Errors
    /// [`Error::Graph`] if a gradient has not the shape of its tensor, an operator has no gradient, anything but one embedding reads
    /// a [sparse](Self::sparse) parameter, or the gradients were taken already: each parameter has one place for its gradient.
    pub fn backward_from(&mut self, seeds: &[(TensorId, TensorId)]) -> Result<Gradients> {
        if self.tensors.iter().any(|tensor| matches!(tensor.role, Role::Grad(_))) {
            let advice = "add the losses and differentiate their sum, or use another graph";
            return Err(Error::Graph(format!("the gradients were taken already: {advice}")));
        }
        let forward = self.nodes.len();
        let (mut gradients, mut sparse) = (HashMap::new(), Vec::new());
        for &(tensor, seed) in seeds {
            self.check_owned(&[tensor, seed])?;
            if self.shape(tensor) != self.shape(seed) {
                let (tensor, seed) = (self.shape(tensor), self.shape(seed));
                return Err(Error::Graph(format!("a gradient {seed} can't be that of a tensor {tensor}")));
            }
            accumulate(self, &mut gradients, tensor, seed)?;
        }
        for index in (0..forward).rev() {
            let node = self.nodes[index].clone();
            let reached = node.outputs.iter().any(|t| gradients.contains_key(t));
            if !reached || !node.outputs.iter().any(|&t| self.tensor(t).differentiable) {
                continue;
            }
            let mut context = Gradient::new(self, &node.inputs, &node.outputs, &gradients);
            node.op.gradient(&mut context)?;
            let (given, given_sparse) = context.given();
            for (input, part) in given {
                accumulate(self, &mut gradients, input, part)?;
            }
            sparse.extend(given_sparse);
        }
        self.check_sparse(&gradients, &sparse)?;
        self.place_gradients(&mut gradients)?;
        let flat = self.state(State::Grads, self.params.flat_len());
        Ok(Gradients { flat, sparse, scale: None, of: gradients })
    }

    /// Parts of a sparse gradient are not added up.
    fn check_sparse(&self, gradients: &HashMap<TensorId, TensorId>, sparse: &[SparseGradient]) -> Result<()> {
        for param in self.params.iter().filter(|param| param.sparse) {
            let parts = sparse.iter().filter(|part| part.param == param.tensor).count();
            if parts > 1 || gradients.contains_key(&param.tensor) {
                let advice = "let one embedding alone read it, or don't make it sparse";
                return Err(Error::Graph(format!(
                    "{} is sparse and its gradient has several parts: {advice}",
                    param.name
                )));
            }
        }
        Ok(())
    }

    /// Gives each trained parameter's gradient its place in the flat vector.
    fn place_gradients(&mut self, gradients: &mut HashMap<TensorId, TensorId>) -> Result<()> {
        let trained = self.params.iter().enumerate().filter(|(_, param)| param.trained && !param.sparse);
        let owners: Vec<(usize, TensorId, Shape)> = trained.map(|(index, p)| (index, p.tensor, p.shape)).collect();
        for (index, param, shape) in owners {
            let gradient = match gradients.get(&param) {
                // A gradient that others read too, or that is no operator's own output, is copied to its place.
                Some(&gradient) if self.is_sole_owner(gradient, param, gradients) => gradient,
                Some(&gradient) => ops::scale(self, gradient, 1.0)?,
                None => ops::constant(self, shape, 0.0)?,
            };
            self.tensors[gradient.index()].role = Role::Grad(index);
            gradients.insert(param, gradient);
        }
        Ok(())
    }

    fn is_sole_owner(&self, gradient: TensorId, param: TensorId, gradients: &HashMap<TensorId, TensorId>) -> bool {
        self.tensor(gradient).role == Role::Value
            && !self.nodes.iter().any(|node| node.inputs.contains(&gradient))
            && !gradients.iter().any(|(&t, &g)| g == gradient && t != param)
    }
}

/// Adds `part` to what is known of the gradient of a tensor.
fn accumulate(
    graph: &mut Graph,
    gradients: &mut HashMap<TensorId, TensorId>,
    tensor: TensorId,
    part: TensorId,
) -> Result<()> {
    let sum = match gradients.get(&tensor) {
        Some(&earlier) => ops::add(graph, earlier, part)?,
        None => part,
    };
    gradients.insert(tensor, sum);
    Ok(())
}
