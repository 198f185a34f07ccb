//! What a recurrent layer computes in a step.

use serde::{Deserialize, Serialize};

use crate::graph::pad4;

/// The equations of a step. `x` holds what the inputs add to each gate, in the order of the gates, `hidden` channels each; `h` is
/// the state before, `U` the weight and `b` the bias of the recurrent products. Gates are `σ`, the logistic function, or
/// where `hard` Keras' `hard_sigmoid`, `clip(0.2 x + 0.5, 0, 1)`.
///
/// The states of a step are `[hidden]`, those of an LSTM the hidden state and, from the next multiple of 4 channels on, the
/// cell's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Elman's network (1990): `h' = tanh(x + U h + b)`, or a rectifier in place of tanh.
    Elman {
        /// Whether it is a rectifier.
        relu: bool,
    },
    /// Gated recurrent unit, gates `r, z, n`: `r = σ(x_r + U_r h + b_r)`, `z = σ(x_z + U_z h + b_z)`,
    /// `h' = (1 − z) n + z h`.
    Gru {
        /// Whether the reset gate comes after the product, `n = tanh(x_n + r (U_n h + b_n))`, as in cuDNN and PyTorch, or
        /// before, `n = tanh(x_n + U_n (r h) + b_n)` (Cho et al. 2014).
        reset_after: bool,
        /// Whether gates are hard.
        hard: bool,
    },
    /// Long short-term memory (Hochreiter and Schmidhuber 1997, Gers et al. 2000), gates `i, f, g, o`, each
    /// `σ(x + U h + b)` but for `g = tanh(x_g + U_g h + b_g)`: `c' = f c + i g`, `h' = o tanh(c')`.
    Lstm {
        /// Whether gates are hard.
        hard: bool,
    },
}

impl Cell {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Elman { relu: false },
        Self::Elman { relu: true },
        Self::Gru { reset_after: true, hard: false },
        Self::Gru { reset_after: true, hard: true },
        Self::Gru { reset_after: false, hard: false },
        Self::Gru { reset_after: false, hard: true },
        Self::Lstm { hard: false },
        Self::Lstm { hard: true },
    ];

    /// Gates of a unit, the candidate counted in.
    pub const fn gates(self) -> usize {
        match self {
            Self::Elman { .. } => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// Channels of the states of `hidden` units.
    pub const fn states(self, hidden: usize) -> usize {
        match self {
            Self::Lstm { .. } => pad4(hidden) + hidden,
            _ => hidden,
        }
    }

    /// Whether gates are hard.
    pub const fn is_hard(self) -> bool {
        matches!(self, Self::Gru { hard: true, .. } | Self::Lstm { hard: true })
    }

    pub(super) const fn resets_before(self) -> bool {
        matches!(self, Self::Gru { reset_after: false, .. })
    }

    pub(super) const fn resets_after(self) -> bool {
        matches!(self, Self::Gru { reset_after: true, .. })
    }
}

/// Where things lie in a row. What is saved of a step are blocks of `hidden` channels, each from a multiple of 4 on:
///
/// | | blocks |
/// |---|---|
/// | Elman | `h'`, input |
/// | GRU | `r`, `z`, `n`, and `U_n h + b_n` or `r` times the input; where masked `h`, input |
/// | LSTM | `i`, `f`, `g`, `o`, `c`, input |
///
/// The input is what the weight multiplied: `h`, or `h` times the mask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub cell: Cell,
    pub hidden: usize,
    pub mask: bool,
}

impl Layout {
    pub fn new(cell: Cell, hidden: usize, mask: bool) -> Self {
        Self { cell, hidden, mask }
    }

    pub fn states(&self) -> usize {
        self.cell.states(self.hidden)
    }

    /// Where the states of an LSTM's cell begin.
    pub fn cell_state(&self) -> Option<usize> {
        matches!(self.cell, Cell::Lstm { .. }).then(|| self.block())
    }

    /// Channels from one block to the next.
    pub fn block(&self) -> usize {
        pad4(self.hidden)
    }

    pub fn saved_blocks(&self) -> usize {
        match self.cell {
            Cell::Elman { .. } => 2,
            Cell::Gru { .. } => 5 + usize::from(self.mask),
            Cell::Lstm { .. } => 6,
        }
    }

    pub fn saved(&self) -> usize {
        self.input_block() + self.hidden
    }

    /// Where the input begins.
    pub fn input_block(&self) -> usize {
        (self.saved_blocks() - 1) * self.block()
    }

    /// Where `r` times the input begins, in a layer that resets before the product.
    pub fn reset_block(&self) -> usize {
        3 * self.block()
    }

    /// Channels of the gates.
    pub fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Where, in the gradient of a step, that of the recurrent product begins: it differs from that of `x` only where the
    /// reset comes after.
    pub fn product_gradient(&self) -> usize {
        if self.cell.resets_after() { pad4(self.width()) } else { 0 }
    }

    /// Channels of that gradient: of `x`, then of the product.
    pub fn gradients(&self) -> usize {
        self.product_gradient() + self.width()
    }
}
