//! The convolution family on the CPU: tiles of rows gathered along the taps, then one matrix product a tile.

use rayon::prelude::*;

use super::geometry::RowMap;
use crate::graph::{Matrix, ROW_TILE, Real, Shape, View, ViewMut, for_row_tiles, gemm};

/// Slabs that sums over time are split into, at most: fixed, so that the sums don't depend on the number of threads.
const SLABS: usize = 16;

/// What happens to a row of a product before it is stored: bias, activation, …
pub(crate) trait Epilogue<T>: Sync {
    fn apply(&self, row: usize, values: &mut [T]);
}

impl<T, F: Fn(usize, &mut [T]) + Sync> Epilogue<T> for F {
    #[inline(always)]
    fn apply(&self, row: usize, values: &mut [T]) {
        self(row, values);
    }
}

/// `target[m, :] = epilogue(Σ_k source[row(m, k), :] · weight[k])`, `weight` dense in K: `[taps · channels, n]` in rows
/// `weight_stride` apart.
pub(crate) fn convolve<T: Real>(
    source: &View<'_, T>,
    map: RowMap,
    taps: usize,
    weight: &[T],
    weight_stride: usize,
    target: &mut ViewMut<'_, T>,
    epilogue: &impl Epilogue<T>,
) {
    let (n, time, rows, stride) = (target.shape.channels, target.shape.time, target.shape.rows(), target.stride);
    let (padded_n, k) = (target.shape.stride(), taps * source.shape.channels);
    for_row_tiles(target.data, stride, rows, |first, chunk| {
        let count = chunk.len().div_ceil(stride);
        let gathered = Gathered::new(source, map, taps, time, first, count);
        gemm((count, n, k), chunk, stride, false, gathered.matrix(), Matrix::rows(weight, weight_stride));
        for (row, values) in chunk.chunks_mut(stride).enumerate() {
            let values = &mut values[..padded_n];
            values[n..].fill(T::ZERO);
            epilogue.apply(first + row, &mut values[..n]);
        }
    });
}

/// `weight[k, c, :] = Σ_m source[row(m, k), c] · dy[m, :]` and `bias[:] = Σ_m dy[m, :]`.
pub(crate) fn weight_gradient<T: Real>(
    source: &View<'_, T>,
    map: RowMap,
    taps: usize,
    dy: &View<'_, T>,
    weight: &mut ViewMut<'_, T>,
    bias: Option<&mut ViewMut<'_, T>>,
) {
    let (rows, n, k, time) = (dy.shape.rows(), dy.shape.channels, taps * source.shape.channels, dy.shape.time);
    let stride = weight.shape.stride();
    let slab_rows = rows.div_ceil(SLABS).next_multiple_of(ROW_TILE);
    let partials: Vec<Vec<T>> = (0..rows.div_ceil(slab_rows))
        .into_par_iter()
        .map(|slab| {
            // Rows of the weight, then one of the bias.
            let mut partial = vec![T::ZERO; (k + 1) * stride];
            let end = rows.min((slab + 1) * slab_rows);
            for first in (slab * slab_rows..end).step_by(ROW_TILE) {
                let count = ROW_TILE.min(end - first);
                let gathered = Gathered::new(source, map, taps, time, first, count);
                let (product, column_sums) = partial.split_at_mut(k * stride);
                let dy_tile = Matrix::rows(&dy.data[first * dy.stride..], dy.stride);
                gemm((k, n, count), product, stride, true, gathered.matrix().transposed(), dy_tile);
                for row in first..first + count {
                    add_to(&mut column_sums[..n], &dy.row(row)[..n]);
                }
            }
            partial
        })
        .collect();
    for row in 0..k {
        let sum = weight.row(row);
        sum.fill(T::ZERO);
        for partial in &partials {
            add_to(sum, &partial[row * stride..][..stride]);
        }
    }
    if let Some(bias) = bias {
        let sum = bias.row(0);
        sum.fill(T::ZERO);
        for partial in &partials {
            add_to(sum, &partial[k * stride..]);
        }
    }
}

/// The weights with input and output channels exchanged within each tap: `[taps, c_out, c_in]`, dense.
pub(crate) fn transpose_taps<T: Real>(weight: &View<'_, T>, taps: usize) -> Vec<T> {
    let Shape { channels, .. } = weight.shape;
    let inputs = weight.shape.rows() / taps;
    let mut transposed = vec![T::ZERO; taps * channels * inputs];
    for row in 0..weight.shape.rows() {
        let (tap, input) = (row / inputs, row % inputs);
        for (output, &value) in weight.row(row)[..channels].iter().enumerate() {
            transposed[(tap * channels + output) * inputs + input] = value;
        }
    }
    transposed
}

#[inline(always)]
pub(crate) fn add_to<T: Real>(sum: &mut [T], values: &[T]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The source rows of a tile, the taps side by side; the source itself where one tap reads it row by row.
pub(crate) enum Gathered<'a, T> {
    Source(&'a [T], usize),
    Copy(Vec<T>, usize),
}

impl<'a, T: Real> Gathered<'a, T> {
    pub fn new(source: &View<'a, T>, map: RowMap, taps: usize, time: usize, first: usize, count: usize) -> Self {
        let (channels, source_time) = (source.shape.channels, source.shape.time);
        let direct = taps == 1 && map.shift == 0 && map.multiply == 1 && map.divide == 1 && time == source_time;
        if direct {
            return Self::Source(&source.data[first * source.stride..], source.stride);
        }
        let width = taps * channels;
        let mut copy = vec![T::ZERO; count * width];
        for (row, values) in copy.chunks_exact_mut(width).enumerate() {
            let (sequence, at) = ((first + row) / time, (first + row) % time);
            for (tap, values) in values.chunks_exact_mut(channels).enumerate() {
                if let Some(from) = map.source(at, tap, source_time) {
                    values.copy_from_slice(&source.row(sequence * source_time + from)[..channels]);
                }
            }
        }
        Self::Copy(copy, width)
    }

    pub fn matrix(&self) -> Matrix<'_, T> {
        match self {
            Self::Source(data, stride) => Matrix::rows(data, *stride),
            Self::Copy(data, width) => Matrix::rows(data, *width),
        }
    }
}
