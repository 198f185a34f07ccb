//! Tall matrices by small ones.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Aligned, WIDTH, add_products, load, panel_width, store};
use super::{BLOCK, Rows, SMALL_BLOCK};
use crate::graph::Real;

/// Channels whose bounds are checked together.
const UNROLL: usize = 4;
/// Depth that is summed in one go: a panel of it fits in the first cache.
const DEPTH: usize = 256;

/// A matrix in a slice: element (row, column) at `row * row_stride + column * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows `stride` elements apart, columns contiguous.
    pub fn rows(data: &'a [T], stride: usize) -> Self {
        Self { data, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }
}

/// The small matrix of a product, `[taps · channels, columns]`, in panels of a few columns, each contiguous; the last is
/// filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels<T> {
    data: Aligned<T>,
    taps: usize,
    channels: usize,
    columns: usize,
    width: usize,
}

impl<T: Real> Panels<T> {
    /// Of a matrix `[channels, columns]` a tap.
    pub fn new<'a>(taps: usize, channels: usize, columns: usize, matrix: impl Fn(usize) -> Matrix<'a, T>) -> Self {
        let (width, depth) = (panel_width::<T>(), taps * channels);
        let mut panels = Aligned::zeros(columns.div_ceil(width) * depth * width);
        for (panel, values) in panels.as_mut_slice().chunks_exact_mut((depth * width).max(1)).enumerate() {
            let (first, last) = (panel * width, columns.min((panel + 1) * width));
            for (tap, values) in values.chunks_exact_mut((channels * width).max(1)).enumerate() {
                let Matrix { data, row_stride, column_stride } = matrix(tap);
                for (row, values) in values.chunks_exact_mut(width).enumerate() {
                    match column_stride {
                        1 => values[..last - first].copy_from_slice(&data[row * row_stride..][first..last]),
                        _ => {
                            let source = data[row * row_stride..].iter().skip(first * column_stride);
                            values[..last - first]
                                .iter_mut()
                                .zip(source.step_by(column_stride))
                                .for_each(|(v, &s)| *v = s);
                        }
                    }
                }
            }
        }
        Self { data: panels, taps, channels, columns, width }
    }
}

/// What happens to a row of a product before it is stored: bias, activation, …
pub(crate) trait Epilogue<T>: Sync {
    /// Of row `row` of the target; always inlined, so that it is compiled for the processor's vectors.
    fn apply(&self, row: usize, values: &mut [T]);
}

/// `target = epilogue(rows · panels)`, rows `stride` apart, of which the first is row `first` of the whole target.
pub(crate) fn multiply<T: Real, E: Epilogue<T>>(
    rows: &Rows<'_, T>,
    panels: &Panels<T>,
    target: &mut [T],
    stride: usize,
    first: usize,
    epilogue: &E,
) {
    Arch::new().dispatch(Multiply { rows, panels, target, stride, first, epilogue });
}

struct Multiply<'a, T, E> {
    rows: &'a Rows<'a, T>,
    panels: &'a Panels<T>,
    target: &'a mut [T],
    stride: usize,
    first: usize,
    epilogue: &'a E,
}

impl<T: Real, E: Epilogue<T>> WithSimd for Multiply<'_, T, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, panels, target, stride, first, epilogue } = self;
        match S::REGISTER_COUNT {
            0..32 => multiply_blocks::<S, T, SMALL_BLOCK>(simd, rows, panels, target, stride),
            _ => multiply_blocks::<S, T, BLOCK>(simd, rows, panels, target, stride),
        }
        for (row, values) in target.chunks_mut(stride).take(rows.count).enumerate() {
            epilogue.apply(first + row, &mut values[..panels.columns]);
        }
    }
}

#[inline(always)]
fn multiply_blocks<S: Simd, T: Real, const R: usize>(
    simd: S,
    rows: &Rows<'_, T>,
    panels: &Panels<T>,
    target: &mut [T],
    stride: usize,
) {
    let (taps, channels) = (panels.taps, panels.channels);
    let depth = taps * channels;
    // As many taps at once as the depth allows, or parts of one.
    let (taps_at_once, channels_at_once) = ((DEPTH / channels.max(1)).clamp(1, taps), channels.min(DEPTH));
    let mut add = false;
    for tap in (0..taps).step_by(taps_at_once) {
        let taps = tap..taps.min(tap + taps_at_once);
        for channel in (0..channels).step_by(channels_at_once) {
            let part = Part { taps: taps.clone(), channels: channel..channels.min(channel + channels_at_once), add };
            for (panel, data) in panels.data.as_slice().chunks_exact(depth * panels.width).enumerate() {
                let panel = Panel { vectors: T::vectors::<S>(data), column: panel * panels.width, of: panels };
                let blocks = rows.count / R * R;
                for row in (0..blocks).step_by(R) {
                    multiply_block::<S, T, R>(simd, rows, row, &part, &panel, &mut target[row * stride..], stride);
                }
                for row in blocks..rows.count {
                    multiply_block::<S, T, 1>(simd, rows, row, &part, &panel, &mut target[row * stride..], stride);
                }
            }
            add = true;
        }
    }
}

/// The part of a product's depth that is summed in one go.
struct Part {
    taps: Range<usize>,
    channels: Range<usize>,
    /// Whether the target holds the sum of the parts before.
    add: bool,
}

struct Panel<'a, V, T> {
    vectors: &'a [V],
    column: usize,
    of: &'a Panels<T>,
}

#[inline(always)]
fn multiply_block<S: Simd, T: Real, const R: usize>(
    simd: S,
    rows: &Rows<'_, T>,
    first: usize,
    part: &Part,
    panel: &Panel<'_, T::Vector<S>, T>,
    target: &mut [T],
    stride: usize,
) {
    let Panels { columns, width, channels, .. } = *panel.of;
    let count = width.min(columns - panel.column);
    let mut sums = [[T::splat(simd, T::ZERO); WIDTH]; R];
    if part.add {
        for (row, sums) in sums.iter_mut().enumerate() {
            *sums = load(simd, &target[row * stride + panel.column..][..count]);
        }
    }
    let part_channels = part.channels.len();
    for tap in part.taps.clone() {
        let weights = &panel.vectors[(tap * channels + part.channels.start) * WIDTH..].as_chunks::<WIDTH>().0;
        let mut sources: [&[T]; R] = [&[]; R];
        for (row, source) in sources.iter_mut().enumerate() {
            *source = &rows.row(tap, first + row)[part.channels.start..][..part_channels];
        }
        // A few channels at a time: their bounds are checked once.
        let (chunks, rest) = weights[..part_channels].as_chunks::<UNROLL>();
        for (chunk, weights) in chunks.iter().enumerate() {
            let mut values = [[T::ZERO; R]; UNROLL];
            for (row, source) in sources.iter().enumerate() {
                let source = &source.as_chunks::<UNROLL>().0[chunk];
                for (values, &value) in values.iter_mut().zip(source) {
                    values[row] = value;
                }
            }
            for (values, weights) in values.into_iter().zip(weights) {
                add_products(simd, values, weights, &mut sums);
            }
        }
        for (channel, weights) in rest.iter().enumerate() {
            let channel = chunks.len() * UNROLL + channel;
            let mut values = [T::ZERO; R];
            for (value, source) in values.iter_mut().zip(&sources) {
                *value = source[channel];
            }
            add_products(simd, values, weights, &mut sums);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        store(simd, sums, &mut target[row * stride + panel.column..][..count]);
    }
}
