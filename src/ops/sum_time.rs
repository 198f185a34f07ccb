//! Sums over time, and their gradient.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
    for_row_tiles, shape_error, vectorised,
};
use crate::ops::conv1d::add_to;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y[b, 0, c] = Σ_t x[b, t, c]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumTime;

/// Appends the sum of `x` over time: `[batch, time, channels]` to `[batch, 1, channels]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn sum_time(graph: &mut Graph, x: TensorId) -> Result<TensorId> {
    graph.push_one(SumTime, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    batch: u32,
    time: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    slabs: u32,
    slab_time: u32,
}

/// Positions that one thread adds, at least.
const SLAB: usize = 64;
/// Slabs of one sequence, at most.
const MAX_SLABS: usize = 256;

impl Op for SumTime {
    fn name(&self) -> &'static str {
        "sum_time"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(vec![inputs[0].with_time(1)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let x = gradient.input(0);
        let dx = gradient.push_one(BroadcastTime, &[dy, x])?;
        gradient.give(0, dx)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let slab_time = x.planned.time.div_ceil(MAX_SLABS).max(SLAB);
        let slabs = x.shape.time.div_ceil(slab_time);
        let planned_slabs = x.planned.time.div_ceil(slab_time);
        let channels4 = x.shape.stride() / 4;
        let elements = x.planned.batch * planned_slabs * x.shape.stride();
        let scratch = Binding::Scratch { index: 0, elements };
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            batch: x.shape.batch as u32,
            time: x.shape.time as u32,
            channels4: channels4 as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            slabs: slabs as u32,
            slab_time: slab_time as u32,
        };
        let dispatch = |entry, pass| Dispatch::new("sum_time", entry).define(pass, true).params(&params);
        Ok(vec![
            dispatch("partial_main", "PARTIAL")
                .read(x.binding)
                .write(scratch)
                .workgroups((x.shape.batch * slabs * channels4).div_ceil(64)),
            dispatch("reduce_main", "REDUCE")
                .read(scratch)
                .write(y.binding)
                .workgroups((x.shape.batch * channels4).div_ceil(64)),
        ])
    }
}

impl SumTime {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (batch, stride, padded) = (y.shape.batch, y.stride, y.shape.stride());
        y.data.par_chunks_mut(stride).take(batch).enumerate().for_each(|(sequence, sum)| {
            let sum = &mut sum[..padded];
            sum.fill(T::ZERO);
            vectorised(|| {
                for time in 0..x.shape.time {
                    add_to(sum, x.row(sequence * x.shape.time + time));
                }
            });
        });
        Ok(())
    }
}

/// `y[b, t, c] = x[b, 0, c]`. Inputs: `x`, and a tensor with the shape of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BroadcastTime;

impl Op for BroadcastTime {
    fn name(&self) -> &'static str {
        "broadcast_time"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        if inputs[0] != inputs[1].with_time(1) {
            return Err(shape_error(self, format!("{} can't be spread over the time of {}", inputs[0], inputs[1])));
        }
        Ok(vec![inputs[1]])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let channels4 = y.shape.stride() / 4;
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            batch: y.shape.batch as u32,
            time: y.shape.time as u32,
            channels4: channels4 as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            ..Params::default()
        };
        Ok(vec![
            Dispatch::new("sum_time", "broadcast_main")
                .define("BROADCAST", true)
                .read(x.binding)
                .write(y.binding)
                .params(&params)
                .workgroups((y.shape.rows() * channels4).div_ceil(64)),
        ])
    }
}

impl BroadcastTime {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, time, stride, padded) = (y.shape.rows(), y.shape.time, y.stride, y.shape.stride());
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                values[..padded].copy_from_slice(x.row((first + row) / time));
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let long = random.below(4) == 0;
    Case::new(SumTime, vec![CaseInput::real(if long { shape.with_time(700) } else { shape })])
}
