//! Matrix products of the CPU executor: tall matrices, whose rows lie wherever the taps of a convolution say, by small ones
//! ([`multiply`]), and the sums over rows that are the gradients of the small ones ([`OuterSums`]).
//!
//! One thread: callers split the work into tiles of fixed size, so that the sums don't depend on the number of threads.
//! A block of rows and a panel of two vectors of columns are summed in registers; the rows are read where they are.

mod lanes;
mod multiply;
mod outer;

use super::Real;
pub use lanes::Lanes;
pub(crate) use multiply::{Epilogue, Matrix, Panels, multiply};
pub(crate) use outer::OuterSums;

/// Rows of a block where there are 32 vector registers, and where there are fewer.
const BLOCK: usize = 8;
const SMALL_BLOCK: usize = 4;

/// The rows of a product's tall matrix: each is the rows of its taps, side by side, which may lie anywhere.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    data: &'a [T],
    channels: usize,
    count: usize,
    /// Where each row begins, tap by tap.
    starts: Vec<usize>,
    zeros: Vec<T>,
}

impl<'a, T: Real> Rows<'a, T> {
    /// The start of a row that is zero.
    pub const NONE: usize = usize::MAX;

    /// `count` rows of `starts.len() / count` taps of `channels` elements of `data` each.
    pub fn new(data: &'a [T], channels: usize, count: usize, starts: Vec<usize>) -> Self {
        Self { data, channels, count, starts, zeros: vec![T::ZERO; channels] }
    }

    /// `count` rows of one tap, `stride` apart.
    pub fn dense(data: &'a [T], channels: usize, count: usize, stride: usize) -> Self {
        Self::new(data, channels, count, (0..count).map(|row| row * stride).collect())
    }

    #[inline(always)]
    fn row(&self, tap: usize, row: usize) -> &[T] {
        match self.starts[tap * self.count + row] {
            Self::NONE => &self.zeros,
            start => &self.data[start..][..self.channels],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Adds the number of the row, which tells that each comes once.
    struct AddRow;

    impl<T: Real> Epilogue<T> for AddRow {
        #[inline(always)]
        fn apply(&self, row: usize, values: &mut [T]) {
            values.iter_mut().for_each(|value| *value += T::of(row as f64));
        }
    }

    fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
        let mut random = Random::new(seed, 0, 0);
        (0..count).map(|_| T::of(f64::from(random.normal()))).collect()
    }

    #[track_caller]
    fn close<T: Real>(actual: T, expected: f64, depth: usize, what: &str) {
        let tolerance = if size_of::<T>() == 4 { 1e-6 } else { 1e-14 } * depth as f64;
        assert!((actual.to_f64() - expected).abs() <= tolerance, "{what}: {actual:?} and {expected}");
    }

    /// Taps, channels, rows, columns: blocks and panels that are full and that are not, depths of one part and of several.
    const SIZES: [(usize, usize, usize, usize); 8] = [
        (1, 1, 1, 1),
        (2, 3, 7, 5),
        (1, 32, 64, 32),
        (3, 25, 130, 25),
        (2, 64, 17, 64),
        (7, 60, 9, 33),
        (2, 300, 70, 40),
        (1, 513, 8, 100),
    ];

    fn check<T: Real>() {
        for (taps, channels, count, columns) in SIZES {
            let what = format!("{taps} taps of {channels}, {count} rows, {columns} columns");
            let (source_stride, stride) = (channels + 3, columns + 2);
            let data: Vec<T> = numbers(2 * count * source_stride, 1);
            // Some rows are zero, the others lie in no order.
            let start = |index: usize| match index % 5 {
                3 => Rows::<T>::NONE,
                _ => index * 7 % (2 * count) * source_stride,
            };
            let rows = Rows::new(&data, channels, count, (0..taps * count).map(start).collect());
            let depth = taps * channels;

            let weights: Vec<T> = numbers(depth * stride, 2);
            let panels =
                Panels::new(taps, channels, columns, |tap| Matrix::rows(&weights[tap * channels * stride..], stride));
            let mut target = vec![T::of(f64::NAN); count * stride];
            multiply(&rows, &panels, &mut target, stride, 10, &AddRow);
            for (row, values) in target.chunks(stride).enumerate() {
                for (column, &value) in values[..columns].iter().enumerate() {
                    let products = (0..depth).map(|k| {
                        rows.row(k / channels, row)[k % channels].to_f64() * weights[k * stride + column].to_f64()
                    });
                    close(value, products.sum::<f64>() + (row + 10) as f64, depth + row + 10, &what);
                }
                assert!(values[columns..].iter().all(|v| v.to_f64().is_nan()), "{what}: beyond the columns");
            }

            let gradients: Vec<T> = numbers(count * stride, 3);
            let (first, half) = (channels / 2, count / 2);
            let mut sums = OuterSums::new(taps, first..channels, columns);
            for (begin, end) in [(0, half), (half, count)] {
                let starts = (0..taps).flat_map(|tap| (begin..end).map(move |row| start(tap * count + row)));
                let rows = Rows::new(&data, channels, end - begin, starts.collect());
                sums.add(&rows, &gradients[begin * stride..], stride, columns);
            }
            for (tap, channel) in (0..taps).flat_map(|tap| (first..channels).map(move |channel| (tap, channel))) {
                let mut target = vec![T::ONE; columns];
                sums.add_row_to(tap, channel, &mut target);
                for (column, &value) in target.iter().enumerate() {
                    let products = (0..count)
                        .map(|row| rows.row(tap, row)[channel].to_f64() * gradients[row * stride + column].to_f64());
                    close(value, 1.0 + products.sum::<f64>(), 4 * count, &what);
                }
            }
            for (column, &value) in sums.column_sums()[..columns].iter().enumerate() {
                let sum = (0..count).map(|row| gradients[row * stride + column].to_f64()).sum();
                close(value, sum, 4 * count, &what);
            }
        }
    }

    #[test]
    fn products_are_those_of_the_definition() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn transposed_weights_are_read_by_columns() {
        let weights: Vec<f32> = (0..6).map(|value| value as f32).collect();
        let data = [1.0, 10.0, 100.0];
        // [[0, 1, 2], [3, 4, 5]] transposed.
        let panels = Panels::new(1, 3, 2, |_| Matrix::rows(&weights, 3).transposed());
        let mut target = [0.0; 2];
        multiply(&Rows::dense(&data, 3, 1, 3), &panels, &mut target, 2, 0, &AddRow);
        assert_eq!(target, [210.0, 543.0]);
    }
}
