//! The gradients: sums over the places that won, sequences and filters in ascending order.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::features;
use crate::error::Result;
use crate::graph::{
    Binding, Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, Operand, Real, Shape, View, cpu_reference,
    expect_kinds, expect_same, pad4, vector_kernel,
};
use crate::ops::Geometry;
use crate::ops::transpose::Transpose;

/// `dW[k] = Σ over sequences of x[row(position, k)] · dy`, `db = Σ dy`; `row(t, k) = t · stride + k · dilation − pad_left`.
///
/// Inputs: `dy`, the positions, `x`. Outputs: shaped as the weight, and a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conv1dMaxGradWeight {
    pub geometry: Geometry,
    pub weight: Shape,
}

/// `dx[t] = Σ over filters of W[k] · dy`, where `t` is `row(position, k)`.
///
/// Inputs: `dy`, the positions, `W`, and `x` for its shape. Output: shaped as `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conv1dMaxGradInput {
    pub geometry: Geometry,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    batch: u32,
    time: u32,
    channels: u32,
    filters: u32,
    taps: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    dy_offset4: u32,
    dy_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    sum_offset4: u32,
    sum_stride4: u32,
    bias_offset4: u32,
}

fn check(op: &dyn Op, geometry: &Geometry, [dy, positions, weight, x]: [Shape; 4]) -> Result<()> {
    expect_same(op, dy, features(op, geometry, x, weight)?.with_time(1))?;
    expect_same(op, positions, dy)
}

/// The kernel over `source`: `x` or the weights.
fn dispatch(
    entry: &'static str,
    define: &'static str,
    geometry: &Geometry,
    plan: &GpuPlan<'_>,
    source: Binding,
    x: &Operand,
) -> (Dispatch, Params) {
    let (dy, positions, sum) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
    let map = geometry.forward(x.shape.time);
    let (dy_offset4, dy_stride4) = dy.place4();
    let (positions_offset4, positions_stride4) = positions.place4();
    let (x_offset4, x_stride4) = x.place4();
    let (sum_offset4, sum_stride4) = sum.place4();
    let params = Params {
        batch: x.shape.batch as u32,
        time: x.shape.time as u32,
        channels: x.shape.channels as u32,
        filters: dy.shape.channels as u32,
        taps: geometry.kernel as u32,
        multiply: map.multiply as i32,
        step: map.step as i32,
        shift: map.shift as i32,
        dy_offset4,
        dy_stride4,
        positions_offset4,
        positions_stride4,
        x_offset4,
        x_stride4,
        sum_offset4,
        sum_stride4,
        bias_offset4: 0,
    };
    let dispatch = Dispatch::new("conv1d_max_grad", entry).define(define, true);
    let dispatch = dispatch.read(dy.binding).read(positions.binding).read(source).write(sum.binding);
    (dispatch, params)
}

vector_kernel! {
/// `sum += values · factor`.
fn add_scaled<'a, T: Real>(sum: &'a mut [T], values: &'a [T], factor: T) -> () {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value * factor;
    }
}
}

/// The taps of a filter whose maximum is at `position`, and the positions of a sequence of `time` that they lie on.
fn sources<T: Real>(geometry: &Geometry, position: T, time: usize) -> impl Iterator<Item = (usize, usize)> {
    let map = geometry.forward(time);
    let taps = if position < T::ZERO { 0 } else { geometry.kernel };
    let place = position.to_f64() as usize;
    (0..taps).filter_map(move |tap| map.source(place, tap, time).map(|from| (tap, from)))
}

/// Filters of a task.
const FILTERS: usize = 8;
/// Rows of the weights that are transposed at a time.
const ROWS: usize = 64;

impl Op for Conv1dMaxGradWeight {
    fn name(&self) -> &'static str {
        "conv1d_max_grad_weight"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 3])?;
        check(self, &self.geometry, [inputs[0], inputs[1], self.weight, inputs[2]])?;
        Ok(vec![self.weight, Shape::vector(self.weight.channels)])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, bias) = (&plan.inputs[2], &plan.outputs[1]);
        let (dispatch, params) = dispatch("weight_main", "WEIGHT", &self.geometry, plan, x.binding, x);
        let threads = self.geometry.kernel * x.channels4() as usize * bias.channels4() as usize;
        let params = Params { bias_offset4: bias.place4().0, ..params };
        Ok(vec![dispatch.write(bias.binding).params(&params).workgroups(threads.div_ceil(64))])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].batch, self.weight)
    }
}

impl Conv1dMaxGradWeight {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, positions, x) = (&run.inputs[0], &run.inputs[1], &run.inputs[2]);
        let (channels, filters, time) = (x.shape.channels, self.weight.channels, x.shape.time);
        let depth = self.geometry.kernel * channels;
        // Filter by filter, so that what is added up is contiguous.
        let mut sums = vec![T::ZERO; filters * depth];
        sums.par_chunks_mut(FILTERS * depth).enumerate().for_each(|(task, sums)| {
            for sequence in 0..x.shape.batch {
                let (dy, positions) = (dy.row(sequence), positions.row(sequence));
                for (number, sums) in sums.chunks_mut(depth).enumerate() {
                    let (dy, position) = (dy[task * FILTERS + number], positions[task * FILTERS + number]);
                    // Most are 0 behind a rectifier and dropout.
                    if dy == T::ZERO {
                        continue;
                    }
                    for (tap, from) in sources(&self.geometry, position, time) {
                        let x = &x.row(sequence * time + from)[..channels];
                        add_scaled(&mut sums[tap * channels..][..channels], x, dy);
                    }
                }
            }
        });
        let [weight, bias] = run.outputs.as_mut_slice() else { return Ok(()) };
        let (stride, padded) = (weight.stride, weight.shape.stride());
        let end = weight.data.len().min(depth * stride);
        weight.data[..end].par_chunks_mut(ROWS * stride).enumerate().for_each(|(chunk, rows)| {
            rows.chunks_mut(stride).for_each(|row| row[filters..padded].fill(T::ZERO));
            for (filter, sums) in sums.chunks(depth).enumerate() {
                let sums = &sums[chunk * ROWS..];
                rows.chunks_mut(stride).zip(sums).for_each(|(row, &sum)| row[filter] = sum);
            }
        });
        let bias = bias.row(0);
        bias.fill(T::ZERO);
        for sequence in 0..x.shape.batch {
            let of_filters = dy.row(sequence).iter().zip(positions.row(sequence));
            for (sum, (&dy, &position)) in bias[..filters].iter_mut().zip(of_filters) {
                *sum += if position < T::ZERO { T::ZERO } else { dy };
            }
        }
        Ok(())
    }
}

impl Op for Conv1dMaxGradInput {
    fn name(&self) -> &'static str {
        "conv1d_max_grad_input"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 4])?;
        check(self, &self.geometry, [inputs[0], inputs[1], inputs[2], inputs[3]])?;
        Ok(vec![inputs[3]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (weight, x) = (&plan.inputs[2], &plan.inputs[3]);
        let (taps, channels, filters) = (self.geometry.kernel, x.shape.channels, weight.shape.channels);
        let by_filters = Binding::Scratch { index: 0, elements: filters * taps * pad4(channels) };
        let transpose = Transpose {
            rows: taps * channels,
            columns: filters,
            y_stride: taps * pad4(channels),
            group: channels,
            group_stride: pad4(channels),
        };
        let (dispatch, params) = dispatch("input_main", "INPUT", &self.geometry, plan, by_filters, x);
        let threads = x.shape.rows() * (x.channels4() as usize).div_ceil(4);
        Ok(vec![transpose.dispatch(weight, by_filters), dispatch.params(&params).workgroups(threads.div_ceil(64))])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // Of x only the shape is read.
        Cost::moving(inputs[..3].iter().chain(outputs)).with_product(inputs[0].batch, inputs[2])
    }
}

impl Conv1dMaxGradInput {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, positions, weight, dx) = (&run.inputs[0], &run.inputs[1], &run.inputs[2], &mut run.outputs[0]);
        let (channels, filters, time) = (dx.shape.channels, weight.shape.channels, dx.shape.time);
        let depth = self.geometry.kernel * channels;
        let weight = by_filters(weight, depth);
        let (stride, padded) = (dx.stride, dx.shape.stride());
        let end = dx.data.len().min(dx.shape.rows() * stride);
        dx.data[..end].par_chunks_mut(time * stride).enumerate().for_each(|(sequence, rows)| {
            rows.chunks_mut(stride).for_each(|row| row[..padded].fill(T::ZERO));
            let of_filters = dy.row(sequence)[..filters].iter().zip(positions.row(sequence));
            for ((&dy, &position), weight) in of_filters.zip(weight.chunks(depth)) {
                if dy == T::ZERO {
                    continue;
                }
                for (tap, from) in sources(&self.geometry, position, time) {
                    add_scaled(&mut rows[from * stride..][..channels], &weight[tap * channels..][..channels], dy);
                }
            }
        });
        Ok(())
    }
}

/// The weights of each filter, one behind the other.
fn by_filters<T: Real>(weight: &View<'_, T>, depth: usize) -> Vec<T> {
    let filters = weight.shape.channels;
    let mut all = vec![T::ZERO; filters * depth];
    all.par_chunks_mut(FILTERS * depth).enumerate().for_each(|(task, all)| {
        for row in 0..depth {
            let values = &weight.row(row)[task * FILTERS..filters];
            all[row..].iter_mut().step_by(depth).zip(values).for_each(|(to, &value)| *to = value);
        }
    });
    all
}
