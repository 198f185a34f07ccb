//! Means and variances of channels over all rows, and what remains of them from step to step.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Op, Operand, ROW_TILE, Real, Shape, View, ViewMut,
    cpu_reference, expect_same, pad4, shape_error,
};
use crate::ops::norm_sums::{Slabs, is_there};

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    slab_rows: u32,
    channels4: u32,
    channels: u32,
    momentum: f32,
    x_offset4: u32,
    x_stride4: u32,
    moments_offset4: u32,
    moments_stride4: u32,
}

/// The shape of the moments of `channels`: a row with means, one with variances, and one with the count of rows.
pub(super) const fn shape(channels: usize) -> Shape {
    Shape::new(1, 3, channels)
}

/// The dispatches that compute the moments of `x`, over the rows that there are.
pub(super) fn dispatches(x: &Operand, lengths: Option<&Operand>, moments: &Operand) -> Vec<Dispatch> {
    let slabs = Slabs::of(x.planned);
    let (rows, channels4) = (x.shape.rows(), x.channels4() as usize);
    let count = rows.div_ceil(slabs.rows);
    let workgroups = count * channels4.div_ceil(slabs.columns);
    let ((x_offset4, x_stride4), (moments_offset4, moments_stride4)) = (x.place4(), moments.place4());
    let params = Params {
        workgroups: workgroups as u32,
        rows: rows as u32,
        time: x.shape.time as u32,
        slab_rows: slabs.rows as u32,
        channels4: channels4 as u32,
        channels: x.shape.channels as u32,
        momentum: 0.0,
        x_offset4,
        x_stride4,
        moments_offset4,
        moments_stride4,
    };
    let partial = slabs.planned > 1;
    let elements = slabs.planned * 3 * pad4(x.shape.channels);
    let to = if partial { Binding::Scratch { index: 0, elements } } else { moments.binding };
    let first = Dispatch::new("moments", "main")
        .define("PARTIAL", partial)
        .define("LENGTHS", lengths.is_some())
        .constant("COLUMNS", slabs.columns as u32)
        .write(to)
        .read(x.binding)
        .params(&params)
        .workgroups(workgroups);
    let first = match lengths {
        Some(lengths) => first.read(lengths.binding),
        None => first,
    };
    if !partial {
        return vec![first];
    }
    let merge = Dispatch::new("moments", "merge")
        .define("MERGE", true)
        .write(moments.binding)
        .read(to)
        .params(&Params { rows: count as u32, ..params })
        .workgroups(channels4.div_ceil(256));
    vec![first, merge]
}

/// Means, sums of squares about them, and count, of some rows.
struct Part<T> {
    means: Vec<T>,
    squares: Vec<T>,
    count: usize,
}

impl<T: Real> Part<T> {
    fn of(x: &View<'_, T>, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let (padded, count) = (x.shape.stride(), rows.clone().count());
        let scale = T::of(1.0 / count.max(1) as f64);
        let (mut means, mut squares) = (vec![T::ZERO; padded], vec![T::ZERO; padded]);
        for row in rows.clone() {
            means.iter_mut().zip(x.row(row)).for_each(|(sum, &x)| *sum += x);
        }
        means.iter_mut().for_each(|sum| *sum *= scale);
        for row in rows {
            for ((sum, &mean), &x) in squares.iter_mut().zip(&means).zip(x.row(row)) {
                *sum += (x - mean) * (x - mean);
            }
        }
        Self { means, squares, count }
    }

    /// With what comes after it (Chan, Golub and LeVeque 1979).
    fn with(mut self, other: Self) -> Self {
        if other.count == 0 {
            return self;
        }
        let all = self.count + other.count;
        let share = T::of(other.count as f64 / all as f64);
        let weight = T::of(self.count as f64 * other.count as f64 / all as f64);
        let values = self.means.iter_mut().zip(&mut self.squares).zip(other.means.iter().zip(&other.squares));
        for ((mean, squares), (&other_mean, &other_squares)) in values {
            let off = other_mean - *mean;
            *mean += off * share;
            *squares += other_squares + off * off * weight;
        }
        Self { count: all, ..self }
    }
}

/// The moments of `x`, over the rows that there are.
pub(super) fn cpu<T: Real>(x: &View<'_, T>, lengths: Option<&View<'_, T>>, moments: &mut ViewMut<'_, T>) {
    let (rows, time) = (x.shape.rows(), x.shape.time);
    let parts: Vec<Part<T>> = (0..rows.div_ceil(ROW_TILE))
        .into_par_iter()
        .map(|tile| {
            let rows = tile * ROW_TILE..rows.min((tile + 1) * ROW_TILE);
            Part::of(x, rows.filter(|&row| is_there(lengths, time, row)))
        })
        .collect();
    let padded = x.shape.stride();
    let nothing = Part { means: vec![T::ZERO; padded], squares: vec![T::ZERO; padded], count: 0 };
    let Part { means, squares, count } = parts.into_iter().fold(nothing, Part::with);
    let scale = T::of(1.0 / count.max(1) as f64);
    moments.row(0).copy_from_slice(&means);
    moments.row(1).iter_mut().zip(&squares).for_each(|(variance, &squares)| *variance = squares * scale);
    let channels = x.shape.channels;
    moments.row(2)[..channels].fill(T::of(count as f64));
    moments.row(2)[channels..].fill(T::ZERO);
}

/// `running = (1 − momentum) running + momentum (mean, unbiased variance)`, in place. Input: the moments of a batch. Updated: a row
/// with means and one with variances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UpdateRunning {
    pub momentum: f32,
}

impl Op for UpdateRunning {
    fn name(&self) -> &'static str {
        "update_running"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [moments] = inputs else { return Err(shape_error(self, "takes one input")) };
        expect_same(self, *moments, shape(moments.channels))?;
        Ok(vec![])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (moments, running) = (&plan.inputs[0], &plan.outputs[0]);
        let ((x_offset4, x_stride4), (moments_offset4, moments_stride4)) = (moments.place4(), running.place4());
        let params = Params {
            channels4: moments.channels4(),
            momentum: self.momentum,
            x_offset4,
            x_stride4,
            moments_offset4,
            moments_stride4,
            ..Params::zeroed()
        };
        Ok(vec![
            Dispatch::new("moments", "update")
                .define("UPDATE", true)
                .write(running.binding)
                .read(moments.binding)
                .params(&params)
                .workgroups((moments.channels4() as usize).div_ceil(256)),
        ])
    }
}

impl UpdateRunning {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (moments, running) = (&run.inputs[0], &mut run.outputs[0]);
        let count = moments.row(2).first().map_or(0.0, |count| count.to_f64());
        // Of no rows there is nothing to learn.
        if count == 0.0 {
            return Ok(());
        }
        let momentum = T::of(f64::from(self.momentum));
        let (means, variances) = (moments.row(0), moments.row(1));
        for (which, unbiased) in [T::ONE, T::of(count / (count - 1.0).max(1.0))].into_iter().enumerate() {
            let batch = moments.row(which).iter().zip(means.iter().zip(variances));
            for (running, (&value, (mean, variance))) in running.row(which).iter_mut().zip(batch) {
                // Of numbers too large for halves nothing is learnt that would pass.
                if mean.to_f64().is_finite() && variance.to_f64().is_finite() {
                    *running = *running * (T::ONE - momentum) + value * unbiased * momentum;
                }
            }
        }
        Ok(())
    }
}
