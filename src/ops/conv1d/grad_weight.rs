//! The gradients of convolutions' weights and biases: matrix products over time, in two passes of fixed order.

use super::cpu::weight_gradient;
use super::geometry::Geometry;
use super::grad_weight_gpu::Sums;
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference,
    expect_kinds, shape_error,
};

/// `dW[k] = Σ_t x[t · stride + k · dilation − pad_left]ᵀ · dy[t]`, `db = Σ_t dy[t]`.
///
/// Inputs: `x`, `dy`. Outputs: shaped as the weight, and where `bias` a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conv1dGradWeight {
    pub geometry: Geometry,
    pub weight: Shape,
    pub bias: bool,
}

impl Op for Conv1dGradWeight {
    fn name(&self) -> &'static str {
        "conv1d_grad_weight"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (x, dy) = (inputs[0], inputs[1]);
        let fits = self.geometry.out_time(x.time) == Some(dy.time)
            && self.weight.channels == dy.channels
            && self.weight.rows() == self.geometry.kernel * x.channels;
        if !fits {
            return Err(shape_error(self, format!("input {x}, gradient {dy} and weight {} don't fit", self.weight)));
        }
        let mut outputs = vec![self.weight];
        if self.bias {
            outputs.push(Shape::vector(self.weight.channels));
        }
        Ok(outputs)
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let sums = [(self, &plan.inputs[..2], plan.outputs)];
        Sums::choose(&sums, plan.capabilities).map(|sums| sums.dispatches())
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[1].rows(), self.weight)
    }
}

impl Conv1dGradWeight {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (weight, bias) = run.outputs.split_at_mut(1);
        let (map, taps) = (self.geometry.forward(run.inputs[0].shape.time), self.geometry.kernel);
        weight_gradient(&run.inputs[0], map, taps, &run.inputs[1], &mut weight[0], bias.first_mut());
        Ok(())
    }
}

/// Appends the gradient of a convolution's weight alone, shaped as `weight`, given that of its output;
/// [`Graph::backward`] appends it where a model needs it.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn conv1d_grad_weight(
    graph: &mut Graph,
    x: TensorId,
    dy: TensorId,
    weight: Shape,
    geometry: Geometry,
) -> Result<TensorId> {
    graph.push_one(Conv1dGradWeight { geometry, weight, bias: false }, &[x, dy])
}

/// Two of them over the same rows, which on a GPU are two dispatches in all.
///
/// Inputs: `x` and `dy` of the first and of the second. Outputs: those of the first and of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conv1dGradWeightPair {
    pub first: Conv1dGradWeight,
    pub second: Conv1dGradWeight,
}

impl Op for Conv1dGradWeightPair {
    fn name(&self) -> &'static str {
        "conv1d_grad_weight_pair"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 4])?;
        if inputs[1].rows() != inputs[3].rows() || self.first.bias != self.second.bias {
            return Err(shape_error(self, format!("gradients {} and {} are no pair", inputs[1], inputs[3])));
        }
        Ok([self.first.shapes(&inputs[..2])?, self.second.shapes(&inputs[2..])?].concat())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (first, second) = plan.outputs.split_at(plan.outputs.len() / 2);
        let sums = [(&self.first, &plan.inputs[..2], first), (&self.second, &plan.inputs[2..], second)];
        Sums::choose(&sums, plan.capabilities).map(|sums| sums.dispatches())
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs))
            .with_product(inputs[1].rows(), self.first.weight)
            .with_product(inputs[3].rows(), self.second.weight)
    }
}

impl Conv1dGradWeightPair {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let half = run.outputs.len() / 2;
        let (first, second) = run.outputs.split_at_mut(half);
        for (op, inputs, outputs) in [(&self.first, &run.inputs[..2], first), (&self.second, &run.inputs[2..], second)]
        {
            let (weight, bias) = outputs.split_at_mut(1);
            let (map, taps) = (op.geometry.forward(inputs[0].shape.time), op.geometry.kernel);
            weight_gradient(&inputs[0], map, taps, &inputs[1], &mut weight[0], bias.first_mut());
        }
        Ok(())
    }
}
