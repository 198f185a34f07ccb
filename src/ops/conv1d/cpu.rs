//! The convolution family on the CPU: products of tiles of rows, which are read where they are.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::RowMap;
use crate::graph::{Epilogue, Matrix, OuterSums, Panels, ROW_TILE, Real, Rows, View, ViewMut, for_row_tiles, multiply};
use crate::ops::Activation;

/// `target[m, :] = epilogue(Σ_k source[row(m, k), :] · weight[k])`.
pub(crate) fn convolve<T: Real>(
    source: &View<'_, T>,
    map: RowMap,
    weight: &Panels<T>,
    taps: usize,
    target: &mut ViewMut<'_, T>,
    epilogue: &impl Epilogue<T>,
) {
    let (n, time, rows, stride) = (target.shape.channels, target.shape.time, target.shape.rows(), target.stride);
    let padded = target.shape.stride();
    for_row_tiles(target.data, stride, rows, |first, chunk| {
        let rows = map.rows(source, 0..taps, time, first, chunk.len().div_ceil(stride));
        multiply(&rows, weight, chunk, stride, first, epilogue);
        if padded > n {
            chunk.chunks_mut(stride).for_each(|values| values[n..padded].fill(T::ZERO));
        }
    });
}

/// The weights `[taps, c_in, c_out]` of a convolution.
pub(crate) fn forward_panels<T: Real>(weight: &View<'_, T>, taps: usize) -> Panels<T> {
    let (inputs, outputs) = (weight.shape.rows() / taps, weight.shape.channels);
    Panels::new(taps, inputs, outputs, |tap| Matrix::rows(&weight.data[tap * inputs * weight.stride..], weight.stride))
}

/// The same with input and output channels exchanged within each tap: `[taps, c_out, c_in]`.
pub(crate) fn backward_panels<T: Real>(weight: &View<'_, T>, taps: usize) -> Panels<T> {
    let (inputs, outputs) = (weight.shape.rows() / taps, weight.shape.channels);
    Panels::new(taps, outputs, inputs, |tap| {
        Matrix::rows(&weight.data[tap * inputs * weight.stride..], weight.stride).transposed()
    })
}

/// Tasks that a gradient of weights is split into, about: fixed, so that the sums don't depend on the number of threads.
const TASKS: usize = 16;
/// Elements of a task's sums, about: they stay in the second cache.
const PIECE: usize = 16384;
/// Multiply-adds of a task, at least, where there are slabs.
const WORK: usize = 1 << 19;

/// `weight[k, c, :] = Σ_m source[row(m, k), c] · dy[m, :]` and `bias[:] = Σ_m dy[m, :]`.
pub(crate) fn weight_gradient<T: Real>(
    source: &View<'_, T>,
    map: RowMap,
    taps: usize,
    dy: &View<'_, T>,
    weight: &mut ViewMut<'_, T>,
    bias: Option<&mut ViewMut<'_, T>>,
) {
    let (rows, n, channels, time) = (dy.shape.rows(), dy.shape.channels, source.shape.channels, dy.shape.time);
    // A task takes all channels of some taps, or some channels of one.
    let part_taps = (PIECE / (channels * n)).clamp(1, taps);
    let part_channels = (PIECE / n).max(1).next_multiple_of(8).min(channels);
    let (tap_parts, channel_parts) = (taps.div_ceil(part_taps), channels.div_ceil(part_channels));
    let worthwhile = rows * taps * channels * n / WORK;
    let slabs = TASKS.div_ceil(tap_parts * channel_parts).min(worthwhile.max(1));
    let slab_rows = rows.div_ceil(slabs).next_multiple_of(64);
    let slabs = rows.div_ceil(slab_rows);
    let sums: Vec<OuterSums<T>> = (0..tap_parts * channel_parts * slabs)
        .into_par_iter()
        .map(|task| {
            let (part, slab) = (task / slabs, task % slabs);
            let (tap, channel) = (part / channel_parts * part_taps, part % channel_parts * part_channels);
            let part_taps = tap..taps.min(tap + part_taps);
            let mut sums = OuterSums::new(part_taps.len(), channel..channels.min(channel + part_channels), n);
            let end = rows.min((slab + 1) * slab_rows);
            for first in (slab * slab_rows..end).step_by(ROW_TILE) {
                let lhs = map.rows(source, part_taps.clone(), time, first, ROW_TILE.min(end - first));
                sums.add(&lhs, &dy.data[first * dy.stride..], dy.stride, n);
            }
            sums
        })
        .collect();
    let (stride, padded) = (weight.stride, weight.shape.stride());
    let end = weight.data.len().min(taps * channels * stride);
    let chunk_rows = (PIECE / 4 / stride).max(1);
    weight.data[..end].par_chunks_mut(chunk_rows * stride).enumerate().for_each(|(chunk, target)| {
        for (row, target) in target.chunks_mut(stride).enumerate() {
            let row = chunk * chunk_rows + row;
            let (tap, channel) = (row / channels, row % channels);
            let part = tap / part_taps * channel_parts + channel / part_channels;
            target[..padded].fill(T::ZERO);
            for sums in &sums[part * slabs..][..slabs] {
                sums.add_row_to(tap % part_taps, channel, &mut target[..n]);
            }
        }
    });
    if let Some(bias) = bias {
        let target = bias.row(0);
        target.fill(T::ZERO);
        for sums in &sums[..slabs] {
            add_to(&mut target[..n], sums.column_sums());
        }
    }
}

/// What a sum of products becomes: with bias, tensor and activation.
#[derive(Debug)]
pub(crate) struct Finish<'a, T> {
    pub bias: Option<&'a View<'a, T>>,
    pub add: Option<&'a View<'a, T>>,
    pub activation: Activation,
}

impl<T: Real> Epilogue<T> for Finish<'_, T> {
    #[inline(always)]
    fn apply(&self, row: usize, values: &mut [T]) {
        if let Some(bias) = self.bias {
            add_to(values, bias.row(0));
        }
        if let Some(add) = self.add {
            add_to(values, add.row(row));
        }
        self.activation.apply(values);
    }
}

#[inline(always)]
pub(crate) fn add_to<T: Real>(sum: &mut [T], values: &[T]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

impl RowMap {
    /// The source rows of `count` rows from `first` on of a target of `time` positions a sequence.
    pub fn rows<'a, T: Real>(
        self,
        source: &View<'a, T>,
        taps: Range<usize>,
        time: usize,
        first: usize,
        count: usize,
    ) -> Rows<'a, T> {
        let mut starts = Vec::with_capacity(taps.len() * count);
        taps.for_each(|tap| self.starts(source, tap, time, first, count, &mut starts));
        Rows::new(source.data, source.shape.channels, count, starts)
    }

    fn starts<T: Real>(
        self,
        source: &View<'_, T>,
        tap: usize,
        time: usize,
        first: usize,
        count: usize,
        starts: &mut Vec<usize>,
    ) {
        let (source_time, stride) = (source.shape.time, source.stride);
        let mut row = first;
        while row < first + count {
            let (sequence, at) = (row / time, row % time);
            let positions = at..time.min(at + first + count - row);
            row += positions.len();
            let sequence = sequence * source_time;
            if self.multiply == 1 && self.divide == 1 {
                // A run of rows with zeros on both sides.
                let shift = tap as isize * self.step + self.shift;
                let inside = |edge: usize| {
                    (edge as isize - shift).clamp(positions.start as isize, positions.end as isize) as usize
                };
                let run = inside(0)..inside(source_time);
                let start = |at: usize| (sequence + at.wrapping_add_signed(shift)) * stride;
                starts.extend((positions.start..run.start).map(|_| Rows::<T>::NONE));
                starts.extend(run.clone().map(start));
                starts.extend((run.end..positions.end).map(|_| Rows::<T>::NONE));
            } else {
                let start = |from: usize| (sequence + from) * stride;
                starts.extend(positions.map(|at| self.source(at, tap, source_time).map_or(Rows::<T>::NONE, start)));
            }
        }
    }
}
