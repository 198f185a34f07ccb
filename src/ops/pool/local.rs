//! Pooling of windows: `[batch, time, channels]` to `[batch, windows, channels]`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Window, Windows, beats, case_inputs, case_shape, check_inputs, length, lengths_or, winners};
use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Op, Operand, ROW_TILE, Real, Shape, TensorId,
    cpu_reference, expect_same, for_row_tiles, vector_kernel,
};
use crate::ops::Case;
use crate::ops::conv1d::add_to;
use crate::random::Random;

/// What is taken of the positions of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value.
    Max,
    /// The mean.
    Average,
}

/// `y[i] = max or mean of x[t], t in window i`.
///
/// Inputs: `x` `[batch, time, channels]` and, where `lengths`, ids `[batch, 1]`. Output: `[batch, windows, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Which positions the windows hold.
    pub windows: Windows,
    /// What is taken of them.
    pub pooling: Pooling,
    /// Whether there are lengths.
    pub lengths: bool,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    windows: u32,
    channels4: u32,
    size: u32,
    stride: u32,
    pad_left: u32,
    divisor: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Pool {
    /// The numbers of windows over tensors of `time` positions; `rows` and places are those of a dispatch.
    fn params(&self, time: usize, windows: usize, x: &Operand, y: &Operand) -> Params {
        let window = match self.windows {
            Windows::Moving(window) => window,
            Windows::Adaptive(_) => Window::new(1),
        };
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        Params {
            rows: y.shape.rows() as u32,
            time: time as u32,
            windows: windows as u32,
            channels4: y.channels4(),
            size: window.size as u32,
            stride: window.stride as u32,
            pad_left: window.pad_left as u32,
            divisor: self.windows.divisor().unwrap_or(0) as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
        }
    }

    fn dispatch(&self, entry: &'static str, define: &'static str) -> Dispatch {
        Dispatch::new("pool", entry)
            .define(define, true)
            .define("MAX", self.pooling == Pooling::Max)
            .define("ADAPTIVE", matches!(self.windows, Windows::Adaptive(_)))
            .define("LENGTHS", self.lengths)
    }

    /// What a mean over so many positions is multiplied by.
    fn factor<T: Real>(&self, positions: usize) -> T {
        if positions == 0 { T::ZERO } else { T::ONE / T::of(self.windows.divisor().unwrap_or(positions) as f64) }
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 1, self.lengths)?;
        Ok(vec![inputs[0].with_time(self.windows.count(self, inputs[0])?)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // For the mean, x tells only the shape.
        let inputs: Vec<TensorId> =
            [gradient.input(0), dy].into_iter().chain(gradient.inputs().get(1).copied()).collect();
        let dx = gradient.push_one(PoolGrad { pool: *self }, &inputs)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        Ok(vec![
            self.dispatch("main", "FORWARD")
                .read(lengths_or(plan.inputs.get(1), x))
                .read(x.binding)
                .write(y.binding)
                .params(&self.params(x.shape.time, y.shape.time, x, y))
                .workgroups((y.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl Pool {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, lengths, y) = (&run.inputs[0], run.inputs.get(1), &mut run.outputs[0]);
        let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
        let (time, windows) = (x.shape.time, y.shape.time);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / windows, (first + row) % windows);
                let positions = self.windows.positions(at, length(lengths, sequence, time));
                let values = &mut values[..padded];
                let factor = self.factor(positions.len());
                values.fill(T::ZERO);
                for (number, position) in positions.enumerate() {
                    let x = x.row(sequence * time + position);
                    match self.pooling {
                        Pooling::Average => add_to(values, x),
                        Pooling::Max if number == 0 => values.copy_from_slice(x),
                        Pooling::Max => {
                            let larger = |(value, &x): (&mut T, &T)| *value = if beats(x, *value) { x } else { *value };
                            values.iter_mut().zip(x).for_each(larger);
                        }
                    }
                }
                if self.pooling == Pooling::Average {
                    values.iter_mut().for_each(|value| *value *= factor);
                }
            }
        });
        Ok(())
    }
}

/// `dx[t] = Σ dy[i]` over the windows that `t` won, or `Σ dy[i] / positions of i` over those that hold it, in their order.
/// Inputs: `x`, `dy`, and where there are any the lengths. Who won is found anew, which is cheaper than to keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolGrad {
    pub pool: Pool,
}

impl Op for PoolGrad {
    fn name(&self) -> &'static str {
        "pool_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 2, self.pool.lengths)?;
        let count = self.pool.windows.count(self, inputs[0])?;
        expect_same(self, inputs[1], inputs[0].with_time(count))?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, dy, dx) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        let lengths = lengths_or(plan.inputs.get(2), x);
        let (time, windows) = (x.shape.time, dy.shape.time);
        let sums = self.pool.dispatch("gradient_main", "GRADIENT").read(lengths).read(dy.binding).write(dx.binding);
        let sums =
            sums.params(&self.pool.params(time, windows, dy, dx)).workgroups((dx.shape.padded_len() / 4).div_ceil(256));
        if self.pool.pooling == Pooling::Average {
            return Ok(vec![sums]);
        }
        let scratch = Binding::Scratch { index: 0, elements: dy.planned.padded_len() };
        let rows = Params { rows: dy.shape.rows() as u32, ..self.pool.params(time, windows, x, dy) };
        let winners = self.pool.dispatch("winners_main", "WINNERS").read(lengths).read(x.binding).write(scratch);
        Ok(vec![winners.params(&rows).workgroups((dy.shape.padded_len() / 4).div_ceil(256)), sums.read(scratch)])
    }
}

impl PoolGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, dy, lengths, dx) = (&run.inputs[0], &run.inputs[1], run.inputs.get(2), &mut run.outputs[0]);
        let (time, count, padded) = (x.shape.time, dy.shape.time, x.shape.stride());
        let windows = self.pool.windows;
        let won = match self.pool.pooling {
            Pooling::Average => vec![],
            Pooling::Max => {
                let mut won = vec![0; dy.shape.rows() * padded];
                won.par_chunks_mut(ROW_TILE * padded).enumerate().for_each(|(tile, chunk)| {
                    let mut values = vec![T::ZERO; padded];
                    for (row, at) in chunk.chunks_mut(padded).enumerate() {
                        let (sequence, window) = ((tile * ROW_TILE + row) / count, (tile * ROW_TILE + row) % count);
                        let positions = windows.positions(window, length(lengths, sequence, time));
                        winners(x, sequence * time, positions, &mut values, at);
                    }
                });
                won
            }
        };
        let (rows, stride) = (dx.shape.rows(), dx.stride);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                let length = length(lengths, sequence, time);
                let values = &mut values[..padded];
                values.fill(T::ZERO);
                for window in windows.holding(at, length, count) {
                    let row = sequence * count + window;
                    if self.pool.pooling == Pooling::Max {
                        add_won(values, dy.row(row), &won[row * padded..], at as u32);
                    } else {
                        let factor = self.pool.factor::<T>(windows.positions(window, length).len());
                        values.iter_mut().zip(dy.row(row)).for_each(|(dx, &dy)| *dx += dy * factor);
                    }
                }
            }
        });
        Ok(())
    }
}

vector_kernel! {
    /// Adds the gradients of what a position won.
    fn add_won<'a, T: Real>(dx: &'a mut [T], dy: &'a [T], won: &'a [u32], position: u32) -> () {
        for ((dx, &dy), &won) in dx.iter_mut().zip(dy).zip(won) {
            *dx += if won == position { dy } else { T::ZERO };
        }
    }
}

pub(crate) fn case(random: &mut Random) -> Case {
    let shape = case_shape(random);
    let mut pick = |least: usize, most: usize| least + random.below((most - least + 1) as u32) as usize;
    let windows = if pick(0, 2) == 0 {
        Windows::Adaptive(pick(1, 50))
    } else {
        let size = pick(1, shape.time.min(6));
        Windows::Moving(Window {
            size,
            stride: pick(1, 7),
            pad_left: pick(0, size - 1),
            pad_right: pick(0, size - 1),
            count_padding: pick(0, 1) == 0,
        })
    };
    let pooling = if pick(0, 1) == 0 { Pooling::Max } else { Pooling::Average };
    let (lengths, inputs) = case_inputs(random, shape);
    Case::new(Pool { windows, pooling, lengths }, inputs)
}
