//! Sums of outer products over rows: gradients of small matrices.

use std::array;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Aligned, WIDTH, add_products, load, panel_width, store};
use super::{BLOCK, Rows, SMALL_BLOCK};
use crate::graph::Real;

/// Rows that are taken at a time: with a panel of sums they fit in the first cache.
const ROWS: usize = 64;

/// Sums over rows `lhsᵀ · rhs`, for some of the channels of `lhs`, each tap's; in panels of a few columns.
#[derive(Debug)]
pub(crate) struct OuterSums<T> {
    sums: Aligned<T>,
    /// Sums of the columns of `rhs`, and zeros.
    column_sums: Vec<T>,
    taps: usize,
    channels: Range<usize>,
    width: usize,
}

impl<T: Real> OuterSums<T> {
    /// All zero, for `columns` columns of `rhs`.
    pub fn new(taps: usize, channels: Range<usize>, columns: usize) -> Self {
        let width = panel_width::<T>();
        let padded = columns.next_multiple_of(width);
        let sums = Aligned::zeros(taps * channels.len() * padded);
        Self { sums, column_sums: vec![T::ZERO; padded], taps, channels, width }
    }

    /// Adds the products of `lhs` with as many rows of `rhs`, `stride` apart and `columns` long.
    pub fn add(&mut self, lhs: &Rows<'_, T>, rhs: &[T], stride: usize, columns: usize) {
        Arch::new().dispatch(AddOuter { sums: self, lhs, rhs, stride, columns });
    }

    /// Adds the sums of a channel of a tap to `target`.
    pub fn add_row_to(&self, tap: usize, channel: usize, target: &mut [T]) {
        let count = self.channels.len();
        let row = tap * count + channel - self.channels.start;
        for (panel, target) in target.chunks_mut(self.width).enumerate() {
            let start = (panel * self.taps * count + row) * self.width;
            let sums = &self.sums.as_slice()[start..][..target.len()];
            target.iter_mut().zip(sums).for_each(|(target, &sum)| *target += sum);
        }
    }

    /// The sums of the columns of `rhs`, and zeros.
    pub fn column_sums(&self) -> &[T] {
        &self.column_sums
    }
}

struct AddOuter<'a, T> {
    sums: &'a mut OuterSums<T>,
    lhs: &'a Rows<'a, T>,
    rhs: &'a [T],
    stride: usize,
    columns: usize,
}

impl<T: Real> WithSimd for AddOuter<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT {
            0..32 => self.add::<S, SMALL_BLOCK>(simd),
            _ => self.add::<S, BLOCK>(simd),
        }
    }
}

/// Rows of a panel of `rhs`, where vectors begin at cache lines.
#[repr(align(64))]
struct Packed<V>([[V; WIDTH]; ROWS]);

impl<T: Real> AddOuter<'_, T> {
    #[inline(always)]
    fn add<S: Simd, const R: usize>(self, simd: S) {
        let Self { sums, lhs, rhs, stride, columns } = self;
        let OuterSums { ref channels, taps, width, .. } = *sums;
        let one = T::splat(simd, T::ONE);
        let mut packed = Packed([[T::splat(simd, T::ZERO); WIDTH]; ROWS]);
        let panel_size = taps * channels.len() * width;
        for first in (0..lhs.count).step_by(ROWS) {
            let count = ROWS.min(lhs.count - first);
            let panels = sums.sums.as_mut_slice().chunks_exact_mut(panel_size);
            let columns = (0..columns).step_by(width).map(|column| column..columns.min(column + width));
            for ((panel, columns), column_sums) in panels.zip(columns).zip(sums.column_sums.chunks_exact_mut(width)) {
                let mut totals = load(simd, column_sums);
                for (row, packed) in packed.0[..count].iter_mut().enumerate() {
                    *packed = load(simd, &rhs[(first + row) * stride..][columns.clone()]);
                    for (total, &value) in totals.iter_mut().zip(&*packed) {
                        *total = T::mul_add(simd, one, value, *total);
                    }
                }
                store(simd, totals, column_sums);
                let panel = T::vectors_mut::<S>(panel).as_chunks_mut::<WIDTH>().0;
                for (tap, sums) in panel.chunks_exact_mut(channels.len()).enumerate() {
                    let (blocks, rest) = sums.as_chunks_mut::<R>();
                    let mut channel = channels.start;
                    for block in blocks {
                        add_block(simd, lhs, tap, channel, first, &packed.0[..count], block);
                        channel += R;
                    }
                    for row in rest {
                        add_block(simd, lhs, tap, channel, first, &packed.0[..count], array::from_mut(row));
                        channel += 1;
                    }
                }
            }
        }
    }
}

/// Adds to the sums of `R` channels of a tap the rows from `first` on.
#[inline(always)]
fn add_block<S: Simd, T: Real, const R: usize>(
    simd: S,
    lhs: &Rows<'_, T>,
    tap: usize,
    channel: usize,
    first: usize,
    rhs: &[[T::Vector<S>; WIDTH]],
    target: &mut [[T::Vector<S>; WIDTH]; R],
) {
    let mut sums = *target;
    for (row, rhs) in rhs.iter().enumerate() {
        let mut values = [T::ZERO; R];
        values.iter_mut().zip(&lhs.row(tap, first + row)[channel..][..R]).for_each(|(value, &lhs)| *value = lhs);
        add_products(simd, values, rhs, &mut sums);
    }
    *target = sums;
}
