//! The gated linear unit: `z = a · σ(b)`.

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
    for_row_tiles, shape_error, vector_kernel,
};
use crate::ops::gate::dispatch;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `z = a · σ(b)` with `[a | b] = x`, the halves of the channels.
///
/// Input: `x` `[batch, time, 2c]`. Output: `[batch, time, c]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Glu;

/// Appends a gated linear unit (Dauphin et al. 2017, arXiv:1612.08083) of `x` `[batch, time, 2c]`, as `torch.nn.functional.glu` over
/// the channels: `[batch, time, c]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the channels are odd or `x` holds ids.
pub fn glu(graph: &mut Graph, x: TensorId) -> Result<TensorId> {
    graph.push_one(Glu, &[x])
}

vector_kernel! {
fn glu_row<'a, T: Real>(x: &'a [T], z: &'a mut [T]) -> () {
    let (a, b) = x.split_at(z.len());
    for ((z, &a), &b) in z.iter_mut().zip(a).zip(b) {
        *z = a * b.sigmoid();
    }
}
}

vector_kernel! {
fn glu_gradient_row<'a, T: Real>(x: &'a [T], dz: &'a [T], dx: &'a mut [T]) -> () {
    let ((a, b), (da, db)) = (x.split_at(dz.len()), dx.split_at_mut(dz.len()));
    for ((((da, db), &a), &b), &dz) in da.iter_mut().zip(db).zip(a).zip(b).zip(dz) {
        let s = b.sigmoid();
        (*da, *db) = (dz * s, dz * a * s * (T::ONE - s));
    }
}
}

impl Op for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        let x = inputs[0];
        if !x.channels.is_multiple_of(2) {
            return Err(shape_error(self, format!("the channels of {x} are not two halves")));
        }
        Ok(vec![x.with_channels(x.channels / 2)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dz) = gradient.of_output(0) else { return Ok(()) };
        let dx = gradient.push_one(GluGrad, &[gradient.input(0), dz])?;
        gradient.give(0, dx);
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(&plan.inputs[0], None, None, &plan.outputs[0]).define("LINEAR", true)])
    }
}

impl Glu {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, z) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, channels, padded) = (z.shape.rows(), z.stride, z.shape.channels, z.shape.stride());
        for_row_tiles(z.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                glu_row(&x.row(first + row)[..2 * channels], &mut values[..channels]);
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

/// `[da | db]` of `[a | b]`. Inputs: `x`, `dz`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct GluGrad;

impl Op for GluGrad {
    fn name(&self) -> &'static str {
        "glu_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (x, dz) = (inputs[0], inputs[1]);
        if dz.with_channels(2 * dz.channels) != x {
            return Err(shape_error(self, format!("gradient {dz} does not fit {x}")));
        }
        Ok(vec![x])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let dispatch = dispatch(&plan.inputs[0], None, Some(&plan.inputs[1]), &plan.outputs[0]);
        Ok(vec![dispatch.define("LINEAR", true)])
    }
}

impl GluGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, dz, dx) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (rows, stride, padded, channels) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dz.shape.channels);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                let (x, dz) = (&x.row(row)[..2 * channels], &dz.row(row)[..channels]);
                glu_gradient_row(x, dz, &mut values[..2 * channels]);
                values[2 * channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    Case::new(Glu, vec![CaseInput::scaled(shape.with_channels(2 * shape.channels), 2.0)])
}
