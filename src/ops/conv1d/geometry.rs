//! Where the taps of a convolution lie.

/// Kernel size, dilation, stride and padding of a 1-D convolution:
/// `y[t] = Σ_k W[k] · x[t · stride + k · dilation − pad_left]`. Tap 0 is the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Taps.
    pub kernel: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Positions from one output to the next.
    pub stride: usize,
    /// Zeros before the sequence; negative leaves positions out.
    pub pad_left: isize,
    /// Zeros after the sequence; negative leaves positions out.
    pub pad_right: isize,
    /// Whether outputs are counted from the end: with a stride, the first positions of the padded sequence are left out that
    /// would leave a rest at its end, so that the last output is that of the last position.
    pub from_end: bool,
}

impl Geometry {
    /// A dense layer: one tap.
    pub const fn pointwise() -> Self {
        Self { kernel: 1, dilation: 1, stride: 1, pad_left: 0, pad_right: 0, from_end: false }
    }

    /// No output sees its future; as many outputs as inputs.
    pub const fn causal(kernel: usize, dilation: usize) -> Self {
        let reach = (kernel.saturating_sub(1) * dilation) as isize;
        Self { kernel, dilation, stride: 1, pad_left: reach, pad_right: 0, from_end: false }
    }

    /// As many outputs as inputs, the kernel centred; of an odd reach the larger half lies after (as PyTorch's `same`).
    pub const fn same(kernel: usize, dilation: usize) -> Self {
        let reach = (kernel.saturating_sub(1) * dilation) as isize;
        Self { kernel, dilation, stride: 1, pad_left: reach / 2, pad_right: reach - reach / 2, from_end: false }
    }

    /// No padding: the output is shorter by the kernel's reach.
    pub const fn valid(kernel: usize, dilation: usize) -> Self {
        Self { kernel, dilation, stride: 1, pad_left: 0, pad_right: 0, from_end: false }
    }

    /// The same with another stride.
    #[must_use]
    pub const fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same, its outputs counted from the end of the sequence.
    #[must_use]
    pub const fn counted_from_end(self) -> Self {
        Self { from_end: true, ..self }
    }

    /// The same for a sequence of `time` positions, its outputs counted from the start.
    #[must_use]
    pub const fn at(self, time: usize) -> Self {
        if !self.from_end || self.stride == 0 {
            return self;
        }
        // The rest of the padded sequence beyond the last output; nothing where it is too short for one.
        let padded = time as isize + self.pad_left + self.pad_right - self.reach() as isize - 1;
        let rest = if padded > 0 { padded % self.stride as isize } else { 0 };
        Self { pad_left: self.pad_left - rest, from_end: false, ..self }
    }

    /// The same without the first `positions` outputs (of an unstrided convolution).
    #[must_use]
    pub const fn cropped(self, positions: usize) -> Self {
        Self { pad_left: self.pad_left - positions as isize, ..self }
    }

    /// Positions from the first tap to the last.
    pub const fn reach(&self) -> usize {
        self.kernel.saturating_sub(1) * self.dilation
    }

    /// The length of the output; nothing where it would be empty or a number is 0.
    pub fn out_time(&self, time: usize) -> Option<usize> {
        if self.kernel == 0 || self.dilation == 0 || self.stride == 0 {
            return None;
        }
        let padded = time.checked_add_signed(self.pad_left)?.checked_add_signed(self.pad_right)?;
        Some(padded.checked_sub(self.reach())?.checked_sub(1)? / self.stride + 1)
    }

    /// The map of an input of `time` positions.
    pub(crate) fn forward(&self, time: usize) -> RowMap {
        let Self { pad_left, .. } = self.at(time);
        RowMap { multiply: self.stride as isize, step: self.dilation as isize, shift: -pad_left, divide: 1 }
    }

    pub(crate) fn backward(&self, time: usize) -> RowMap {
        let Self { pad_left, .. } = self.at(time);
        RowMap { multiply: 1, step: -(self.dilation as isize), shift: pad_left, divide: self.stride as isize }
    }
}

/// The source row of tap `k` at position `t`: `(t · multiply + k · step + shift) / divide`, where that is whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowMap {
    pub multiply: isize,
    pub step: isize,
    pub shift: isize,
    pub divide: isize,
}

impl RowMap {
    pub fn source(&self, time: usize, tap: usize, source_time: usize) -> Option<usize> {
        let at = time as isize * self.multiply + tap as isize * self.step + self.shift;
        if at < 0 || at % self.divide != 0 {
            return None;
        }
        let row = (at / self.divide) as usize;
        (row < source_time).then_some(row)
    }
}
