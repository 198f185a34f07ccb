//! Pooling of whole sequences: `[batch, time, channels]` to `[batch, 1, channels]`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Pooling, beats, case_inputs, case_shape, check_inputs, check_positions, length, lengths_or};
use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Op, Operand, ROW_TILE, Real, Shape, TensorId, View,
    cpu_reference, expect_same, for_row_tiles, pad4,
};
use crate::ops::Case;
use crate::ops::conv1d::add_to;
use crate::random::Random;

/// `y = max over t of x[t]`, and the first `t` that has it.
///
/// Inputs: `x` `[batch, time, channels]` and, where `lengths`, ids `[batch, 1]`. Outputs: values and positions, both
/// `[batch, 1, channels]`; of a sequence without positions 0 and −1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalMaxPool {
    /// Whether there are lengths.
    pub lengths: bool,
}

/// `y = mean over t of x[t]`, 0 for a sequence without positions.
///
/// Inputs: `x` `[batch, time, channels]` and, where `lengths`, ids `[batch, 1]`. Output: `[batch, 1, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalAvgPool {
    /// Whether there are lengths.
    pub lengths: bool,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    slab_rows: u32,
    slabs: u32,
    channels: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
    first_sequence: u32,
}

/// Positions of a slab, at least.
const MIN_SLAB: usize = 256;
/// Slabs of a sequence, at most: a second pass takes what they give together.
const MAX_SLABS: usize = 256;

/// The dispatches of a pooling: slabs of time apart, and where there are several a second pass over them. The sequences are those
/// from `first` on that there are lengths of; `scratch` is an index that nobody else has.
pub(crate) fn dispatches(
    pooling: Pooling,
    x: &Operand,
    lengths: Option<&Operand>,
    first: usize,
    outputs: &[Operand],
    scratch: usize,
) -> Vec<Dispatch> {
    let (y, positions, first_sequence) = (&outputs[0], outputs.get(1), first as u32);
    let (batch, channels4) = (x.shape.batch, x.channels4() as usize);
    let columns = channels4.next_power_of_two().min(16);
    let tiles = channels4.div_ceil(columns);
    let slab_rows = x.planned.time.div_ceil(MAX_SLABS).max(MIN_SLAB);
    let planned_slabs = x.planned.time.div_ceil(slab_rows);
    let slabs = x.shape.time.div_ceil(slab_rows);
    let (x_offset4, x_stride4) = x.place4();
    let (y_offset4, y_stride4) = y.place4();
    let (positions_offset4, positions_stride4) = positions.map_or((0, 0), Operand::place4);
    let pass = |first: bool, last: bool, slab_rows: usize, slabs: usize| {
        let params = Params {
            workgroups: (batch * slabs * tiles) as u32,
            rows: batch as u32,
            time: x.shape.time as u32,
            slab_rows: slab_rows as u32,
            slabs: slabs as u32,
            channels: x.shape.channels as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            positions_offset4,
            positions_stride4,
            first_sequence,
        };
        Dispatch::new("global_pool", "main")
            .define("MAX", pooling == Pooling::Max)
            .define("LENGTHS", lengths.is_some())
            .define("FIRST", first)
            .define("LAST", last)
            .constant("COLUMNS", columns as u32)
            .read(lengths_or(lengths, x))
            .read(x.binding)
            .params(&params)
            .workgroups(batch * slabs * tiles)
    };
    let write = |dispatch: Dispatch| match positions {
        Some(positions) => dispatch.write(y.binding).write(positions.binding),
        None => dispatch.write(y.binding),
    };
    if planned_slabs == 1 {
        return vec![write(pass(true, true, slab_rows, slabs))];
    }
    // A maximum is its key and its position.
    let words = if pooling == Pooling::Max { 2 } else { 1 };
    let elements = x.planned.batch * planned_slabs * pad4(x.shape.channels) * words;
    let scratch = Binding::Scratch { index: scratch, elements };
    vec![pass(true, false, slab_rows, slabs).write(scratch), write(pass(false, true, slabs, 1).read(scratch))]
}

impl Op for GlobalMaxPool {
    fn name(&self) -> &'static str {
        "global_max_pool"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 1, self.lengths)?;
        check_positions(self, inputs[0])?;
        Ok(vec![inputs[0].with_time(1); 2])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // x tells only the shape.
        let inputs = [gradient.input(0), dy, gradient.output(1)];
        let dx = gradient.push_one(GlobalMaxPoolGrad, &inputs)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(dispatches(Pooling::Max, &plan.inputs[0], plan.inputs.get(1), 0, plan.outputs, 0))
    }
}

impl Op for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 1, self.lengths)?;
        Ok(vec![inputs[0].with_time(1)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // x tells only the shape.
        let inputs: Vec<TensorId> =
            [gradient.input(0), dy].into_iter().chain(gradient.inputs().get(1).copied()).collect();
        let dx = gradient.push_one(GlobalAvgPoolGrad { lengths: self.lengths }, &inputs)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(dispatches(Pooling::Average, &plan.inputs[0], plan.inputs.get(1), 0, plan.outputs, 0))
    }
}

/// What `task` makes of each tile of positions of each sequence, sequence by sequence.
fn by_tiles<T: Real, R: Send>(
    x: &View<'_, T>,
    lengths: Option<&View<'_, T>>,
    task: impl Fn(usize, std::ops::Range<usize>) -> R + Sync,
) -> Vec<Vec<R>> {
    let tiles = |sequence: usize| {
        let length = length(lengths, sequence, x.shape.time);
        let tile = |tile: usize| {
            let positions = tile * ROW_TILE..length.min((tile + 1) * ROW_TILE);
            task(sequence * x.shape.time, positions)
        };
        (0..length.div_ceil(ROW_TILE)).into_par_iter().map(tile).collect()
    };
    (0..x.shape.batch).into_par_iter().map(tiles).collect()
}

impl GlobalMaxPool {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, lengths) = (&run.inputs[0], run.inputs.get(1));
        let (padded, channels) = (x.shape.stride(), x.shape.channels);
        let sequences = by_tiles(x, lengths, |first, positions| {
            let (mut values, mut at) = (vec![T::ZERO; padded], vec![0; padded]);
            super::winners(x, first, positions, &mut values, &mut at);
            (values, at)
        });
        let [y, positions] = run.outputs.as_mut_slice() else { return Ok(()) };
        for (sequence, tiles) in sequences.iter().enumerate() {
            let (y, positions) = (y.row(sequence), positions.row(sequence));
            y.fill(T::ZERO);
            positions.fill(T::ZERO);
            positions[..channels].fill(-T::ONE);
            for (tile, (values, at)) in tiles.iter().enumerate() {
                for channel in 0..channels {
                    if tile == 0 || beats(values[channel], y[channel]) {
                        y[channel] = values[channel];
                        positions[channel] = T::of(f64::from(at[channel]));
                    }
                }
            }
        }
        Ok(())
    }
}

impl GlobalAvgPool {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, lengths, y) = (&run.inputs[0], run.inputs.get(1), &mut run.outputs[0]);
        let sequences = by_tiles(x, lengths, |first, positions| {
            let mut sum = vec![T::ZERO; x.shape.stride()];
            positions.for_each(|position| add_to(&mut sum, x.row(first + position)));
            sum
        });
        for (sequence, tiles) in sequences.iter().enumerate() {
            let y = y.row(sequence);
            y.fill(T::ZERO);
            tiles.iter().for_each(|sum| add_to(y, sum));
            let factor = factor(length(lengths, sequence, x.shape.time));
            y.iter_mut().for_each(|y| *y *= factor);
        }
        Ok(())
    }
}

/// What a sum over so many positions is multiplied by.
fn factor<T: Real>(positions: usize) -> T {
    T::ONE / T::of(positions.max(1) as f64)
}

/// `dx[t] = dy` where `t` is the position of the maximum, else 0. Inputs: `x` for its shape, `dy`, the positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GlobalMaxPoolGrad;

/// `dx[t] = dy / positions` at each of them. Inputs: `x` for its shape, `dy`, and where there are any the lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GlobalAvgPoolGrad {
    lengths: bool,
}

/// The dispatch of a gradient: `third` is what it needs beside `dy`.
fn gradient_dispatch(define: &'static str, plan: &GpuPlan<'_>) -> Dispatch {
    let (x, dy, third, dx) = (&plan.inputs[0], &plan.inputs[1], plan.inputs.get(2), &plan.outputs[0]);
    let (x_offset4, x_stride4) = dy.place4();
    let (y_offset4, y_stride4) = dx.place4();
    let (positions_offset4, positions_stride4) = third.map_or((0, 0), Operand::place4);
    let params = Params {
        rows: dx.shape.rows() as u32,
        time: x.shape.time as u32,
        channels: x.shape.channels as u32,
        x_offset4,
        x_stride4,
        y_offset4,
        y_stride4,
        positions_offset4,
        positions_stride4,
        ..Params::zeroed()
    };
    Dispatch::new("global_pool", "gradient_main")
        .define("GRADIENT", true)
        .define(define, third.is_some())
        .read(third.unwrap_or(dy).binding)
        .read(dy.binding)
        .write(dx.binding)
        .params(&params)
        .workgroups((dx.shape.padded_len() / 4).div_ceil(256))
}

impl Op for GlobalMaxPoolGrad {
    fn name(&self) -> &'static str {
        "global_max_pool_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 3, false)?;
        expect_same(self, inputs[1], inputs[0].with_time(1))?;
        expect_same(self, inputs[2], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(1)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![gradient_dispatch("MAX", plan)])
    }
}

impl GlobalMaxPoolGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, positions, dx) = (&run.inputs[1], &run.inputs[2], &mut run.outputs[0]);
        let (rows, stride, padded, time) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dx.shape.time);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, T::of(((first + row) % time) as f64));
                let elements = values[..padded].iter_mut().zip(dy.row(sequence)).zip(positions.row(sequence));
                elements.for_each(|((dx, &dy), &position)| *dx = if position == at { dy } else { T::ZERO });
            }
        });
        Ok(())
    }
}

impl Op for GlobalAvgPoolGrad {
    fn name(&self) -> &'static str {
        "global_avg_pool_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 2, self.lengths)?;
        expect_same(self, inputs[1], inputs[0].with_time(1))?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(1)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![gradient_dispatch("LENGTHS", plan)])
    }
}

impl GlobalAvgPoolGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, lengths, dx) = (&run.inputs[1], run.inputs.get(2), &mut run.outputs[0]);
        let (rows, stride, padded, time) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dx.shape.time);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                let length = length(lengths, sequence, time);
                let factor = if at < length { factor(length) } else { T::ZERO };
                values[..padded].iter_mut().zip(dy.row(sequence)).for_each(|(dx, &dy)| *dx = dy * factor);
            }
        });
        Ok(())
    }
}

/// Some are longer than a slab.
fn global_shape(random: &mut Random) -> Shape {
    let shape = case_shape(random);
    shape.with_time(shape.time * [1, 1, 17][random.below(3) as usize])
}

pub(crate) fn max_case(random: &mut Random) -> Case {
    let shape = global_shape(random);
    let (lengths, inputs) = case_inputs(random, shape);
    Case::new(GlobalMaxPool { lengths }, inputs)
}

pub(crate) fn average_case(random: &mut Random) -> Case {
    let shape = global_shape(random);
    let (lengths, inputs) = case_inputs(random, shape);
    Case::new(GlobalAvgPool { lengths }, inputs)
}
