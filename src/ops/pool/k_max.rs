//! The k largest values over time, in their order.

use std::cmp::Ordering;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{case_inputs, case_shape, check_inputs, check_positions, length, lengths_or};
use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Op, Real, Shape, cpu_reference, expect_same, shape_error,
};
use crate::ops::Case;
use crate::random::Random;

/// `y = the k largest x[t] of each channel, in the order of t`, and their `t`.
///
/// Inputs: `x` `[batch, time, channels]` and, where `lengths`, ids `[batch, 1]`. Outputs: values and positions, both
/// `[batch, k, channels]`; where a sequence has fewer positions, 0 and −1 follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KMaxPool {
    /// How many values are taken.
    pub k: usize,
    /// Whether there are lengths.
    pub lengths: bool,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    /// Workgroups, or for the gradient rows.
    count: u32,
    time: u32,
    k: u32,
    channels: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
}

impl Op for KMaxPool {
    fn name(&self) -> &'static str {
        "k_max_pool"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 1, self.lengths)?;
        let x = inputs[0];
        check_positions(self, x)?;
        if self.k == 0 || self.k > x.time {
            return Err(shape_error(self, format!("k must be 1 to the time of {x}, got {}", self.k)));
        }
        Ok(vec![x.with_time(self.k); 2])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // x tells only the shape.
        let inputs = [gradient.input(0), dy, gradient.output(1)];
        let dx = gradient.push_one(KMaxPoolGrad { k: self.k }, &inputs)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y, positions) = (&plan.inputs[0], &plan.outputs[0], &plan.outputs[1]);
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let (positions_offset4, positions_stride4) = positions.place4();
        let workgroups = x.shape.batch * x.channels4() as usize;
        let params = Params {
            count: workgroups as u32,
            time: x.shape.time as u32,
            k: self.k as u32,
            channels: x.shape.channels as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            positions_offset4,
            positions_stride4,
        };
        Ok(vec![
            Dispatch::new("k_max_pool", "main")
                .define("LENGTHS", self.lengths)
                .read(lengths_or(plan.inputs.get(1), x))
                .read(x.binding)
                .write(y.binding)
                .write(positions.binding)
                .params(&params)
                .workgroups(workgroups),
        ])
    }
}

/// The larger first; what is not a number is the largest of all.
fn descending<T: Real>(a: T, b: T) -> Ordering {
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    b.partial_cmp(&a).unwrap_or_else(|| is_nan(b).cmp(&is_nan(a)))
}

impl KMaxPool {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, lengths) = (&run.inputs[0], run.inputs.get(1));
        let [y, positions] = run.outputs.as_mut_slice() else { return Ok(()) };
        let (y_stride, positions_stride, padded, channels) =
            (y.stride, positions.stride, x.shape.stride(), x.shape.channels);
        let time = x.shape.time;
        let (ys, places) =
            (y.data.par_chunks_mut(self.k * y_stride), positions.data.par_chunks_mut(self.k * positions_stride));
        ys.zip(places).take(x.shape.batch).enumerate().for_each(|(sequence, (y, positions))| {
            let length = length(lengths, sequence, time);
            let taken = self.k.min(length);
            let mut order = Vec::with_capacity(length);
            for channel in 0..padded {
                let value = |at: usize| x.row(sequence * time + at)[channel];
                order.clear();
                order.extend((0..length).map(|at| (value(at), at)));
                if taken < length {
                    order.select_nth_unstable_by(taken, |a, b| descending(a.0, b.0).then(a.1.cmp(&b.1)));
                    order.truncate(taken);
                    order.sort_unstable_by_key(|&(_, at)| at);
                }
                let padding = channel >= channels;
                for slot in 0..self.k {
                    let (value, at) = match order.get(slot) {
                        _ if padding => (T::ZERO, T::ZERO),
                        Some(&(value, at)) => (value, T::of(at as f64)),
                        None => (T::ZERO, -T::ONE),
                    };
                    y[slot * y_stride + channel] = value;
                    positions[slot * positions_stride + channel] = at;
                }
            }
        });
        Ok(())
    }
}

/// `dx[t] = dy[i]` where `t` is position `i`, else 0. Inputs: `x` for its shape, `dy`, the positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KMaxPoolGrad {
    k: usize,
}

impl Op for KMaxPoolGrad {
    fn name(&self) -> &'static str {
        "k_max_pool_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        check_inputs(self, inputs, 3, false)?;
        expect_same(self, inputs[1], inputs[0].with_time(self.k))?;
        expect_same(self, inputs[2], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(1)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dy, positions, dx) = (&plan.inputs[1], &plan.inputs[2], &plan.outputs[0]);
        let (x_offset4, x_stride4) = dy.place4();
        let (y_offset4, y_stride4) = dx.place4();
        let (positions_offset4, positions_stride4) = positions.place4();
        let workgroups = (dx.shape.padded_len() / 4).div_ceil(256);
        let params = Params {
            count: dx.shape.rows() as u32,
            time: dx.shape.time as u32,
            k: self.k as u32,
            channels: dx.shape.channels as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            positions_offset4,
            positions_stride4,
        };
        let dispatch = Dispatch::new("k_max_pool", "gradient_main").define("GRADIENT", true);
        Ok(vec![
            dispatch.read(dy.binding).read(positions.binding).write(dx.binding).params(&params).workgroups(workgroups),
        ])
    }
}

impl KMaxPoolGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, positions, dx) = (&run.inputs[1], &run.inputs[2], &mut run.outputs[0]);
        let (time, stride, padded) = (dx.shape.time, dx.stride, dx.shape.stride());
        let (batch, channels) = (dx.shape.batch, dx.shape.channels);
        dx.data.par_chunks_mut(time * stride).take(batch).enumerate().for_each(|(sequence, dx)| {
            dx.chunks_mut(stride).for_each(|row| row[..padded].fill(T::ZERO));
            for row in sequence * self.k..(sequence + 1) * self.k {
                for ((channel, &dy), &at) in dy.row(row)[..channels].iter().enumerate().zip(positions.row(row)) {
                    if at >= T::ZERO {
                        dx[at.to_f64() as usize * stride + channel] = dy;
                    }
                }
            }
        });
        Ok(())
    }
}

pub(crate) fn case(random: &mut Random) -> Case {
    let shape = case_shape(random);
    let shape = shape.with_time(shape.time * [1, 1, 17][random.below(3) as usize]);
    let k = 1 + random.below(shape.time as u32) as usize;
    let (lengths, inputs) = case_inputs(random, shape);
    Case::new(KMaxPool { k, lengths }, inputs)
}
