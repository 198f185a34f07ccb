//! The gradient of a convolution's input: the same family with the shift reversed and the weights transposed.

use super::cpu::{Finish, backward_panels, convolve};
use super::geometry::Geometry;
use super::gpu::{Epilogue, Product};
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, GpuPlan, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds, expect_same,
    shape_error,
};
use crate::ops::Activation;

/// `dx[t] = add[t] + Σ_k dy[(t + pad_left − k · dilation) / stride] · W[k]ᵀ`.
///
/// Inputs: `dy`, `W`, `x` (for its shape), and where `add` a tensor shaped as `x`. Output: shaped as `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conv1dGradInput {
    pub geometry: Geometry,
    pub add: bool,
}

/// Appends the gradient of a convolution's input alone, given that of its output; [`Graph::backward`] appends it where a
/// model needs it. Of `x` only the shape counts.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn conv1d_grad_input(
    graph: &mut Graph,
    dy: TensorId,
    weight: TensorId,
    x: TensorId,
    geometry: Geometry,
) -> Result<TensorId> {
    graph.push_one(Conv1dGradInput { geometry, add: false }, &[dy, weight, x])
}

impl Op for Conv1dGradInput {
    fn name(&self) -> &'static str {
        "conv1d_grad_input"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 3 + usize::from(self.add)])?;
        let (dy, weight, x) = (inputs[0], inputs[1], inputs[2]);
        let time = self.geometry.out_time(x.time);
        if time != Some(dy.time) || weight.channels != dy.channels || weight.rows() != self.geometry.kernel * x.channels
        {
            return Err(shape_error(self, format!("gradient {dy} does not fit weight {weight} and input {x}")));
        }
        if let Some(&add) = inputs.get(3) {
            expect_same(self, add, x)?;
        }
        Ok(vec![x])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let product = Product {
            source: &plan.inputs[0],
            weight: &plan.inputs[1],
            target: &plan.outputs[0],
            columns: plan.outputs[0].shape.channels,
            map: self.geometry.backward(plan.inputs[2].shape.time),
            taps: self.geometry.kernel,
            transposed: true,
            bias: None,
            add: plan.inputs.get(3),
            epilogue: Epilogue::Activation(Activation::Identity),
        };
        Ok(vec![product.dispatch(plan.capabilities)?])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // Of x only the shape is read.
        let moved = inputs[..2].iter().chain(inputs.get(3)).chain(outputs);
        Cost::moving(moved).with_product(inputs[0].rows(), inputs[1])
    }
}

impl Conv1dGradInput {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let taps = self.geometry.kernel;
        let weight = backward_panels(&run.inputs[1], taps);
        let finish = Finish { bias: None, add: run.inputs.get(3), activation: Activation::Identity };
        convolve(
            &run.inputs[0],
            self.geometry.backward(run.inputs[2].shape.time),
            &weight,
            taps,
            &mut run.outputs[0],
            &finish,
        );
        Ok(())
    }
}
