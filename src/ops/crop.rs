//! Sequences without their first positions.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, View, ViewMut,
    cpu_reference, expect_kinds, for_row_tiles, shape_error,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y[t] = x[t + positions]`. Input: `[batch, time, channels]`. Output: `[batch, time − positions, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Positions that are left out, fewer than there are.
    pub positions: usize,
}

/// Appends `x` `[batch, time, channels]` without the first `positions` of each sequence.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if nothing is left, or `x` holds ids.
pub fn crop(graph: &mut Graph, x: TensorId, positions: usize) -> Result<TensorId> {
    graph.push_one(Crop { positions }, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels4: u32,
    short: u32,
    long: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

/// Copies from `x` to `y`, whose sequences end together; zero where there is no `x`.
fn dispatch(x: &Operand, y: &Operand, gradient: bool) -> Dispatch {
    let (x_offset4, x_stride4) = x.place4();
    let (y_offset4, y_stride4) = y.place4();
    let (rows, channels4) = (y.shape.rows(), y.channels4());
    let (short, long) = (x.shape.time.min(y.shape.time) as u32, x.shape.time.max(y.shape.time) as u32);
    let params = Params { rows: rows as u32, channels4, short, long, x_offset4, x_stride4, y_offset4, y_stride4 };
    Dispatch::new("crop", "main")
        .define("GRADIENT", gradient)
        .read(x.binding)
        .write(y.binding)
        .params(&params)
        .workgroups((rows * channels4 as usize).div_ceil(256))
}

fn copy_ends<T: Real>(x: &View<'_, T>, y: &mut ViewMut<'_, T>) {
    let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
    let (x_time, y_time) = (x.shape.time, y.shape.time);
    for_row_tiles(y.data, stride, rows, |first, chunk| {
        for (row, values) in chunk.chunks_mut(stride).enumerate() {
            let (sequence, at) = ((first + row) / y_time, (first + row) % y_time);
            match (at + x_time).checked_sub(y_time) {
                Some(at) => values[..padded].copy_from_slice(x.row(sequence * x_time + at)),
                None => values[..padded].fill(T::ZERO),
            }
        }
    });
}

impl Op for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        match inputs[0].time.checked_sub(self.positions).filter(|&left| left > 0) {
            Some(left) => Ok(vec![inputs[0].with_time(left)]),
            None => Err(shape_error(self, format!("{} positions leave nothing of {}", self.positions, inputs[0]))),
        }
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let dx = gradient.push_one(CropGrad { positions: self.positions }, &[dy])?;
        gradient.give(0, dx);
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(&plan.inputs[0], &plan.outputs[0], false)])
    }
}

impl Crop {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        copy_ends(&run.inputs[0], &mut run.outputs[0]);
        Ok(())
    }
}

/// `dx[t] = dy[t − positions]`, 0 before. Input: `dy`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CropGrad {
    positions: usize,
}

impl Op for CropGrad {
    fn name(&self) -> &'static str {
        "crop_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(vec![inputs[0].with_time(inputs[0].time + self.positions)])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(&plan.inputs[0], &plan.outputs[0], true)])
    }
}

impl CropGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        copy_ends(&run.inputs[0], &mut run.outputs[0]);
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let positions = random.below(shape.time as u32) as usize;
    Case::new(Crop { positions }, vec![CaseInput::real(shape)])
}
