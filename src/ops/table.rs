//! The table of operators, each with a maker of random cases: the property tests find them here.

use std::sync::Arc;

use crate::device::{Family, names};
use crate::graph::{Op, Shape};
use crate::ops;
use crate::random::Random;

/// A random use of an operator.
#[derive(Debug)]
pub struct Case {
    /// The operator.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<CaseInput>,
}

impl Case {
    pub(crate) fn new(op: impl Op + 'static, inputs: Vec<CaseInput>) -> Self {
        Self { op: Arc::new(op), inputs }
    }
}

/// An input of a [`Case`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CaseInput {
    /// Normal random numbers, not closer to 0 than a tenth of `scale`.
    Real {
        /// The size.
        shape: Shape,
        /// The standard deviation.
        scale: f32,
    },
    /// The same, but no gradient is taken. Its sequences are as many as those of the ids, or one.
    Constant {
        /// The size.
        shape: Shape,
    },
    /// Random class ids.
    Ids {
        /// The size.
        shape: Shape,
        /// Ids are below this.
        classes: usize,
        /// Whether about a fifth of them are masked.
        masked: bool,
    },
}

impl CaseInput {
    pub(crate) fn real(shape: Shape) -> Self {
        Self::scaled(shape, 1.0)
    }

    pub(crate) fn scaled(shape: Shape, scale: f32) -> Self {
        Self::Real { shape, scale }
    }

    /// The size.
    pub fn shape(&self) -> Shape {
        match *self {
            Self::Real { shape, .. } | Self::Constant { shape } | Self::Ids { shape, .. } => shape,
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The operator's name.
    pub name: &'static str,
    /// Makes a random case of it.
    pub case: fn(&mut Random) -> Case,
}

/// All operators that a model can be made of. Their gradients are operators too, reached through them.
pub const TABLE: &[Entry] = &[
    Entry { name: "activation", case: ops::activation::case },
    Entry { name: "batch_norm", case: ops::batch_norm::case },
    Entry { name: "concat", case: ops::concat::case },
    Entry { name: "constant", case: ops::constant::case },
    Entry { name: "conv1d", case: ops::conv1d::case },
    Entry { name: "conv1d_max", case: ops::conv1d_max::case },
    Entry { name: "crop", case: ops::crop::case },
    Entry { name: "dropout", case: ops::dropout::case },
    Entry { name: "dropout_mask", case: ops::dropout::mask_case },
    Entry { name: "elementwise_loss", case: ops::elementwise_loss::case },
    Entry { name: "embedding", case: ops::embedding::case },
    Entry { name: "final_state", case: ops::final_state::case },
    Entry { name: "gate", case: ops::gate::case },
    Entry { name: "gelu", case: ops::gelu::case },
    Entry { name: "global_avg_pool", case: ops::pool::average_case },
    Entry { name: "global_max_pool", case: ops::pool::max_case },
    Entry { name: "glu", case: ops::glu::case },
    Entry { name: "join_time", case: ops::join_time::case },
    Entry { name: "k_max_pool", case: ops::pool::k_max_case },
    Entry { name: "layer_norm", case: ops::layer_norm::case },
    Entry { name: "linear_cross_entropy", case: ops::linear_cross_entropy::case },
    Entry { name: "pad", case: ops::pad::case },
    Entry { name: "pool", case: ops::pool::case },
    Entry { name: "recurrent", case: ops::recurrent::case },
    Entry { name: "residual", case: ops::residual::case },
    Entry { name: "slice", case: ops::concat::slice_case },
    Entry { name: "softmax_cross_entropy", case: ops::softmax_cross_entropy::case },
    Entry { name: "split", case: ops::split::case },
    Entry { name: "sum", case: ops::sum::case },
    Entry { name: "sum_time", case: ops::sum_time::case },
    Entry { name: "wavenet_layer", case: ops::wavenet_layer::case },
    Entry { name: "weight_norm", case: ops::weight_norm::case },
];

/// The kernels that there are variants of.
pub const FAMILIES: &[Family] = &[
    Family { name: "conv1d", variants: || names(ops::conv1d::VARIANTS) },
    Family { name: "conv1d_grad_weight", variants: || names(ops::conv1d::GRAD_WEIGHT_VARIANTS) },
    Family { name: "embedding_grad", variants: || names(ops::embedding::WAYS) },
    Family { name: "recurrent", variants: || names(ops::recurrent::VARIANTS) },
    Family { name: "recurrent_grad", variants: || names(ops::recurrent::GRAD_VARIANTS) },
    Family { name: "wavenet_layer", variants: || names(ops::wavenet_layer::VARIANTS) },
];

/// A random size, with odd channel counts and single rows among them.
pub(crate) fn random_shape(random: &mut Random) -> Shape {
    let channels = [1, 2, 3, 4, 5, 7, 8, 16, 25, 33, 64];
    Shape::new(
        1 + random.below(3) as usize,
        1 + random.below(70) as usize,
        channels[random.below(channels.len() as u32) as usize],
    )
}
