//! Parts along the first dimension: a weight of many layers as several of fewer.

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, View, ViewMut,
    cpu_reference, expect_kinds, shape_error,
};
use crate::ops::concat::Move;
use crate::ops::{Case, CaseInput, constant::Constant, random_shape};
use crate::random::Random;

/// Cuts the first dimension. Input: `[Σ parts, time, channels]`. Outputs: `[parts[i], time, channels]`, copies.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The size of each part, in order.
    pub parts: Vec<usize>,
}

/// Appends the parts of `x` `[Σ parts, time, channels]` along its first dimension, `[parts[i], time, channels]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a part is empty or they don't add up to the first dimension of `x`.
pub fn split(graph: &mut Graph, x: TensorId, parts: &[usize]) -> Result<Vec<TensorId>> {
    graph.push(Split { parts: parts.to_vec() }, &[x])
}

/// The first row and the size of each part of a tensor.
fn places(whole: Shape, parts: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, Shape)> {
    parts.scan(0, move |first, batch| {
        let row = *first * whole.time;
        *first += batch;
        Some((row, Shape { batch, ..whole }))
    })
}

fn part_of(whole: &Operand, row: usize, shape: Shape) -> Operand {
    Operand { shape, planned: shape, offset: whole.offset + row * whole.stride, ..*whole }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        let x = inputs[0];
        let sum = self.parts.iter().try_fold(0_usize, |sum, &part| sum.checked_add(part).filter(|_| part > 0));
        if sum != Some(x.batch) {
            return Err(shape_error(self, format!("parts {:?} are not the first dimension of {x}", self.parts)));
        }
        Ok(self.parts.iter().map(|&batch| Shape { batch, ..x }).collect())
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for position in 0..self.parts.len() {
            let shape = gradient.shape(gradient.output(position));
            parts.push(match gradient.of_output(position) {
                Some(dy) => dy,
                None => gradient.push_one(Constant { shape, value: 0.0 }, &[])?,
            });
        }
        let dx = gradient.push_one(Join, &parts)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let x = &plan.inputs[0];
        let places = places(x.shape, self.parts.iter().copied());
        let movement = Move::rows(x.shape.channels);
        Ok(places.zip(plan.outputs).map(|((row, shape), y)| movement.dispatch(&part_of(x, row, shape), y)).collect())
    }
}

impl Split {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let x = run.inputs[0];
        for ((row, shape), y) in places(x.shape, self.parts.iter().copied()).zip(&mut run.outputs) {
            Move::rows(shape.channels).run(&View { data: &x.data[row * x.stride..], shape, ..x }, y);
        }
        Ok(())
    }
}

/// The gradient of [`Split`]: tensors one after the other along the first dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Join;

impl Op for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; inputs.len().max(1)])?;
        let first = inputs[0];
        if let Some(other) = inputs.iter().find(|x| (x.time, x.channels) != (first.time, first.channels)) {
            return Err(shape_error(self, format!("{first} and {other} must have the same time and channels")));
        }
        Ok(vec![Shape { batch: inputs.iter().map(|x| x.batch).sum(), ..first }])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let y = &plan.outputs[0];
        let places = places(y.shape, plan.inputs.iter().map(|x| x.shape.batch));
        let movement = Move::rows(y.shape.channels);
        Ok(places.zip(plan.inputs).map(|((row, shape), x)| movement.dispatch(x, &part_of(y, row, shape))).collect())
    }
}

impl Join {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let y = &mut run.outputs[0];
        let (whole, stride) = (y.shape, y.stride);
        for ((row, shape), x) in places(whole, run.inputs.iter().map(|x| x.shape.batch)).zip(&run.inputs) {
            let mut part = ViewMut { data: &mut y.data[row * stride..], shape, stride };
            Move::rows(shape.channels).run(x, &mut part);
        }
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let parts: Vec<usize> = (0..1 + random.below(4)).map(|_| 1 + random.below(3) as usize).collect();
    let shape = Shape { batch: parts.iter().sum(), ..random_shape(random) };
    Case::new(Split { parts }, vec![CaseInput::real(shape)])
}
