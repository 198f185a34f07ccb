//! Sums over time, and over the batch too.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, ROW_TILE, Real, Shape, TensorId,
    cpu_reference, expect_kinds, expect_same, for_row_tiles, pad4,
};
use crate::ops::conv1d::add_to;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y[b] = Σ_t x[b, t]`, or `y = Σ_b Σ_t x[b, t]` over the whole batch.
///
/// Input: `[batch, time, channels]`. Output: `[batch, 1, channels]`, or `[1, 1, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumTime {
    /// Whether the sequences of a batch are added up too.
    pub over_batch: bool,
}

/// Appends the sum of `x` `[batch, time, channels]` over time, `[batch, 1, channels]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn sum_time(graph: &mut Graph, x: TensorId) -> Result<TensorId> {
    graph.push_one(SumTime { over_batch: false }, &[x])
}

/// Appends the sum of all rows of `x` `[batch, time, channels]`, `[1, 1, channels]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn sum_rows(graph: &mut Graph, x: TensorId) -> Result<TensorId> {
    graph.push_one(SumTime { over_batch: true }, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    group_rows: u32,
    slab_rows: u32,
    slabs: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

/// Rows of a slab, at least.
const MIN_SLAB: usize = 256;
/// Slabs of a group, at most: a second pass adds them up.
const MAX_SLABS: usize = 256;

impl SumTime {
    /// Groups that are summed apart, and the rows of each.
    fn groups(&self, shape: Shape) -> (usize, usize) {
        if self.over_batch { (1, shape.rows()) } else { (shape.batch, shape.time) }
    }
}

impl Op for SumTime {
    fn name(&self) -> &'static str {
        "sum_time"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(vec![Shape::new(self.groups(inputs[0]).0, 1, inputs[0].channels)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // x tells only the shape.
        let dx = gradient.push_one(SumTimeGrad { sum: *self }, &[dy, gradient.input(0)])?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let channels4 = x.shape.channels.div_ceil(4);
        let columns = channels4.next_power_of_two().min(16);
        let tiles = channels4.div_ceil(columns);
        let (planned_groups, planned_rows) = self.groups(x.planned);
        let (groups, group_rows) = self.groups(x.shape);
        let slab_rows = planned_rows.div_ceil(MAX_SLABS).max(MIN_SLAB);
        type Place = (Binding, u32, u32);
        let pass = |from: Place, to: Place, group_rows: usize, slab_rows: usize, of_slabs: bool| {
            let slabs = group_rows.div_ceil(slab_rows);
            let params = Params {
                workgroups: (groups * slabs * tiles) as u32,
                rows: (groups * group_rows) as u32,
                group_rows: group_rows as u32,
                slab_rows: slab_rows as u32,
                slabs: slabs as u32,
                channels4: channels4 as u32,
                x_offset4: from.1,
                x_stride4: from.2,
                y_offset4: to.1,
                y_stride4: to.2,
            };
            Dispatch::new("sum_time", "main")
                .define("SLABS", of_slabs)
                .constant("COLUMNS", columns as u32)
                .read(from.0)
                .write(to.0)
                .params(&params)
                .workgroups(groups * slabs * tiles)
        };
        let place = |operand: &crate::graph::Operand| {
            let (offset4, stride4) = operand.place4();
            (operand.binding, offset4, stride4)
        };
        let planned_slabs = planned_rows.div_ceil(slab_rows);
        if planned_slabs == 1 {
            return Ok(vec![pass(place(x), place(y), group_rows, slab_rows, false)]);
        }
        let elements = planned_groups * planned_slabs * pad4(x.shape.channels);
        let sums = (Binding::Scratch { index: 0, elements }, 0, channels4 as u32);
        let slabs = group_rows.div_ceil(slab_rows);
        Ok(vec![pass(place(x), sums, group_rows, slab_rows, false), pass(sums, place(y), slabs, slabs, true)])
    }
}

impl SumTime {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (groups, group_rows) = self.groups(x.shape);
        let (padded, tiles) = (x.shape.stride(), group_rows.div_ceil(ROW_TILE));
        let sums: Vec<Vec<T>> = (0..groups * tiles)
            .into_par_iter()
            .map(|task| {
                let (group, first) = (task / tiles, task % tiles * ROW_TILE);
                let mut sum = vec![T::ZERO; padded];
                for row in first..group_rows.min(first + ROW_TILE) {
                    add_to(&mut sum, x.row(group * group_rows + row));
                }
                sum
            })
            .collect();
        for (group, tiles) in sums.chunks(tiles).enumerate() {
            let y = y.row(group);
            y.fill(T::ZERO);
            tiles.iter().for_each(|tile| add_to(y, tile));
        }
        Ok(())
    }
}

/// `dx[b, t] = dy[b]`. Inputs: `dy`, and `x` for its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SumTimeGrad {
    pub sum: SumTime,
}

impl Op for SumTimeGrad {
    fn name(&self) -> &'static str {
        "sum_time_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        expect_same(self, inputs[0], Shape::new(self.sum.groups(inputs[1]).0, 1, inputs[1].channels))?;
        Ok(vec![inputs[1]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dy, dx) = (&plan.inputs[0], &plan.outputs[0]);
        let (x_offset4, x_stride4) = dy.place4();
        let (y_offset4, y_stride4) = dx.place4();
        let params = Params {
            rows: dx.shape.rows() as u32,
            group_rows: self.sum.groups(dx.shape).1 as u32,
            channels4: dx.channels4(),
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            ..Params::zeroed()
        };
        Ok(vec![
            Dispatch::new("sum_time", "broadcast")
                .define("BROADCAST", true)
                .read(dy.binding)
                .write(dx.binding)
                .params(&params)
                .workgroups((dx.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl SumTimeGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, dx) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, padded) = (dx.shape.rows(), dx.stride, dx.shape.stride());
        let group_rows = self.sum.groups(dx.shape).1;
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                values[..padded].copy_from_slice(dy.row((first + row) / group_rows));
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let over_batch = random.below(2) == 0;
    let shape = random_shape(random);
    // Some are longer than a slab.
    let shape = shape.with_time(shape.time * [1, 1, 9][random.below(3) as usize]);
    Case::new(SumTime { over_batch }, vec![CaseInput::real(shape)])
}
