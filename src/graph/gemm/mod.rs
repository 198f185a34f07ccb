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
