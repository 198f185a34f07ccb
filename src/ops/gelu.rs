//! The Gaussian error linear unit. It is apart from the other activations because its derivative does not follow from its value.

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
    expect_same, for_row_tiles, vector_kernel,
};
use crate::ops::activation::dispatch;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y = x · Φ(x)`, each element on its own, Φ being the distribution function of the standard normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gelu;

/// Appends the Gaussian error linear unit `x · Φ(x) = x/2 · (1 + erf(x/√2))` (Hendrycks and Gimpel 2016, arXiv:1606.08415), not its
/// approximation by tanh: what `torch.nn.GELU()` is.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn gelu(graph: &mut Graph, x: TensorId) -> Result<TensorId> {
    graph.push_one(Gelu, &[x])
}

vector_kernel! {
fn gelu_row<'a, T: Real>(x: &'a [T], y: &'a mut [T]) -> () {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * x.normal_cdf();
    }
}
}

vector_kernel! {
fn gelu_gradient_row<'a, T: Real>(x: &'a [T], dy: &'a [T], dx: &'a mut [T]) -> () {
    // 1 / √(2π)
    let (half, scale) = (T::of(0.5), T::of(0.398_942_280_401_432_7));
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        *dx = dy * (x.normal_cdf() + x * scale * (-half * x * x).exp());
    }
}
}

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(inputs.to_vec())
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let dx = gradient.push_one(GeluGrad, &[gradient.input(0), dy])?;
        gradient.give(0, dx);
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(None, &plan.inputs[0], None, &plan.outputs[0])])
    }
}

impl Gelu {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                gelu_row(x.row(first + row), &mut values[..padded]);
            }
        });
        Ok(())
    }
}

/// `dx = dy · (Φ(x) + x φ(x))`. Inputs: `x`, `dy`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct GeluGrad;

impl Op for GeluGrad {
    fn name(&self) -> &'static str {
        "gelu_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        expect_same(self, inputs[0], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(None, &plan.inputs[0], Some(&plan.inputs[1]), &plan.outputs[0])])
    }
}

impl GeluGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, dy, dx) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (rows, stride, padded) = (dx.shape.rows(), dx.stride, dx.shape.stride());
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                gelu_gradient_row(x.row(row), dy.row(row), &mut values[..padded]);
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    Case::new(Gelu, vec![CaseInput::scaled(random_shape(random), 3.0)])
}
