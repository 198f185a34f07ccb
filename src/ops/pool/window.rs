//! Which positions a window of pooling holds.

use std::ops::Range;

use crate::error::Result;
use crate::graph::{Op, Shape, shape_error};

/// A window that moves over time: window `i` holds the positions from `i · stride − pad_left` on, `size` of them.
///
/// Padding adds no values: a maximum never comes from it (PyTorch's −∞), and an average leaves it out but for
/// [`count_padding`](Self::count_padding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Positions of a window; at least 1, at most 2³⁰.
    pub size: usize,
    /// Positions from one window to the next; at least 1, at most 2³⁰.
    pub stride: usize,
    /// Positions before the first; fewer than `size`.
    pub pad_left: usize,
    /// Positions after the last; fewer than `size`.
    pub pad_right: usize,
    /// Whether averages divide by `size` even where a window reaches beyond the sequence (PyTorch's `count_include_pad`).
    pub count_padding: bool,
}

/// So that kernels count positions in 32 bits.
const MOST: usize = 1 << 30;

impl Window {
    /// Windows of `size` side by side, without padding.
    pub const fn new(size: usize) -> Self {
        Self { size, stride: size, pad_left: 0, pad_right: 0, count_padding: false }
    }

    /// The same, so many positions from one to the next.
    #[must_use]
    pub const fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with `pad` positions more on both sides.
    #[must_use]
    pub const fn padded(self, pad: usize) -> Self {
        Self { pad_left: pad, pad_right: pad, ..self }
    }

    /// The same, averages divided by the size in any case.
    #[must_use]
    pub const fn counting_padding(self) -> Self {
        Self { count_padding: true, ..self }
    }
}

/// The windows of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// One that moves.
    Moving(Window),
    /// So many that cover the sequence, as even as they can be: window `i` of `n` holds the positions from `⌊i · length / n⌋` up to
    /// `⌈(i + 1) · length / n⌉` (`torch.nn.AdaptiveAvgPool1d`).
    Adaptive(usize),
}

impl Windows {
    /// How many there are over `x`.
    pub(super) fn count(&self, op: &dyn Op, x: Shape) -> Result<usize> {
        match *self {
            Self::Moving(Window { size, stride, pad_left, pad_right, .. }) => {
                let allowed = 1..=MOST;
                if !allowed.contains(&size) || !allowed.contains(&stride) || pad_left >= size || pad_right >= size {
                    let message = format!("size and stride must be 1 to 2^30, padding less than the size: {self:?}");
                    return Err(shape_error(op, message));
                }
                let room = (x.time + pad_left + pad_right).checked_sub(size);
                let room = room.ok_or_else(|| {
                    shape_error(
                        op,
                        format!("a window of {size} with padding {pad_left} and {pad_right} is longer than {x}"),
                    )
                })?;
                Ok(room / stride + 1)
            }
            Self::Adaptive(count) => {
                if count == 0 {
                    return Err(shape_error(op, format!("{x} can't be pooled to no position")));
                }
                // Kernels multiply both in 32 bits.
                match (count.checked_add(1)).and_then(|n| n.checked_mul(x.time + 1)) {
                    Some(product) if product <= u32::MAX as usize => Ok(count),
                    _ => Err(shape_error(
                        op,
                        format!("pooling {x} to {count} positions: their product must be below 2^32"),
                    )),
                }
            }
        }
    }

    /// The positions that window `at` holds, in a sequence of `length`.
    pub(super) fn positions(&self, at: usize, length: usize) -> Range<usize> {
        match *self {
            Self::Moving(Window { size, stride, pad_left, .. }) => {
                let clip = |end: usize| end.saturating_sub(pad_left).min(length);
                clip(at * stride)..clip(at * stride + size)
            }
            Self::Adaptive(count) => at * length / count..((at + 1) * length).div_ceil(count),
        }
    }

    /// The windows, of `count`, that hold position `at` of a sequence of `length`.
    pub(super) fn holding(&self, at: usize, length: usize, count: usize) -> Range<usize> {
        if at >= length {
            return 0..0;
        }
        match *self {
            Self::Moving(Window { size, stride, pad_left, .. }) => {
                let padded = at + pad_left;
                let first = if padded < size { 0 } else { (padded - size) / stride + 1 };
                first..count.min(padded / stride + 1)
            }
            Self::Adaptive(_) => at * count / length..count.min(((at + 1) * count).div_ceil(length)),
        }
    }

    /// What averages divide by, where that is not the number of positions held.
    pub(super) fn divisor(&self) -> Option<usize> {
        match self {
            Self::Moving(window) if window.count_padding => Some(window.size),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::local::{Pool, Pooling};
    use super::*;
    use crate::random::Random;

    fn count(windows: Windows, time: usize) -> Result<usize> {
        let op = Pool { windows, pooling: Pooling::Max, lengths: false };
        windows.count(&op, Shape::new(1, time, 1))
    }

    #[test]
    fn positions_and_windows_are_told_the_same_way_from_both_sides() {
        let mut random = Random::new(1, 0, 0);
        let mut pick = |least: usize, most: usize| least + random.below((most - least + 1) as u32) as usize;
        for number in 0..400 {
            let (time, size) = (pick(1, 30), pick(1, 6));
            let windows = match number % 3 {
                0 => Windows::Adaptive(pick(1, 40)),
                _ => Windows::Moving(Window {
                    size,
                    stride: pick(1, 8),
                    pad_left: pick(0, size - 1),
                    pad_right: pick(0, size - 1),
                    count_padding: false,
                }),
            };
            let Ok(count) = count(windows, time) else { continue };
            for length in 0..=time {
                for at in 0..time {
                    let held: Vec<usize> = (0..count).filter(|&i| windows.positions(i, length).contains(&at)).collect();
                    let told: Vec<usize> = windows.holding(at, length, count).collect();
                    assert_eq!(told, held, "{windows:?}, position {at} of {length}");
                }
                if let (Windows::Adaptive(_), 1..) = (windows, length) {
                    assert!((0..count).all(|i| !windows.positions(i, length).is_empty()));
                }
            }
        }
    }

    #[test]
    fn sizes_are_those_of_pytorch_and_nonsense_is_an_error() {
        let moving = |window| Windows::Moving(window);
        assert_eq!(count(moving(Window::new(2)), 7).unwrap(), 3);
        assert_eq!(count(moving(Window::new(3).with_stride(2).padded(1)), 7).unwrap(), 4);
        assert_eq!(count(moving(Window::new(7)), 7).unwrap(), 1);
        assert_eq!(count(Windows::Adaptive(9), 7).unwrap(), 9);
        let wrong = [
            Window::new(8),
            Window::new(0),
            Window::new(2).with_stride(0),
            Window::new(2).padded(2),
            Window { pad_right: usize::MAX, ..Window::new(2) },
            Window { size: usize::MAX, pad_left: usize::MAX - 1, ..Window::new(2) },
        ];
        for windows in wrong.map(moving).into_iter().chain([0, 1 << 31, usize::MAX].map(Windows::Adaptive)) {
            let error = count(windows, 7).unwrap_err().to_string();
            assert!(error.contains("max_pool") || error.contains("pool"), "{error}");
        }
    }
}
