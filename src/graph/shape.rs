//! Shapes: sequences are `[batch, time, channels]`, channels contiguous and padded to a multiple of 4.

use std::fmt;

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Real numbers: `f32` on the GPU, `f32` or `f64` on the CPU.
    Real,
    /// Class ids, `u32`, one a position. [`Shape::MASKED`] marks a position that does not count.
    Ids,
}

/// The size of a tensor, `[batch, time, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Independent sequences.
    pub batch: usize,
    /// Positions of each sequence.
    pub time: usize,
    /// Channels at each position (1 for ids).
    pub channels: usize,
    /// Reals or ids.
    pub kind: Kind,
}

impl Shape {
    /// The id of a position that losses leave out.
    pub const MASKED: u32 = u32::MAX;

    /// Real numbers, `[batch, time, channels]`.
    pub const fn new(batch: usize, time: usize, channels: usize) -> Self {
        Self { batch, time, channels, kind: Kind::Real }
    }

    /// Class ids, `[batch, time]`.
    pub const fn ids(batch: usize, time: usize) -> Self {
        Self { batch, time, channels: 1, kind: Kind::Ids }
    }

    /// One real number.
    pub const fn scalar() -> Self {
        Self::new(1, 1, 1)
    }

    /// A vector of `channels` reals.
    pub const fn vector(channels: usize) -> Self {
        Self::new(1, 1, channels)
    }

    /// Positions of all sequences.
    pub const fn rows(&self) -> usize {
        self.batch * self.time
    }

    /// Elements, padding left out.
    pub const fn len(&self) -> usize {
        self.rows() * self.channels
    }

    /// Whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements from one row to the next when the tensor stands alone: channels padded to 4, ids not padded.
    pub const fn stride(&self) -> usize {
        match self.kind {
            Kind::Real => pad4(self.channels),
            Kind::Ids => self.channels,
        }
    }

    /// Elements in memory when the tensor stands alone.
    pub const fn padded_len(&self) -> usize {
        self.rows() * self.stride()
    }

    /// The same with other channels.
    pub const fn with_channels(&self, channels: usize) -> Self {
        Self { channels, kind: Kind::Real, ..*self }
    }

    /// The same with another time.
    pub const fn with_time(&self, time: usize) -> Self {
        Self { time, ..*self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Real => write!(f, "[{}, {}, {}]", self.batch, self.time, self.channels),
            Kind::Ids => write!(f, "ids[{}, {}]", self.batch, self.time),
        }
    }
}

/// `n` rounded up to a multiple of 4.
pub const fn pad4(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// How much of a program's planned size one step uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Sequences in a batch.
    pub batch: usize,
    /// Positions of a sequence.
    pub time: usize,
}
