//! What operators cost: arithmetic and traffic, by which times are judged.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::error::Result;
use crate::graph::{Extent, Program, Shape, TensorId};

/// Bytes of an element.
const ELEMENT: u64 = 4;

/// What an operator, or a program, costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations: the multiply-adds of convolutions and matrix products, times two, those with the zeros
    /// of a padding included. Elementwise work, lookups and the optimizer count as zero.
    pub flops: u64,
    /// Bytes that move if each tensor moves once, padding included.
    pub bytes: u64,
}

impl Cost {
    /// Moves each of `tensors` once.
    pub fn moving<'a>(tensors: impl IntoIterator<Item = &'a Shape>) -> Self {
        Self { flops: 0, bytes: tensors.into_iter().map(|shape| shape.padded_len() as u64 * ELEMENT).sum() }
    }

    /// The same, and the multiply-adds of a product of `rows` rows with `weight`, whose taps, if there are any, are so many
    /// rows more.
    #[must_use]
    pub fn with_product(self, rows: usize, weight: Shape) -> Self {
        Self { flops: self.flops + 2 * rows as u64 * weight.len() as u64, ..self }
    }

    /// So many times this.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { flops: self.flops * count, bytes: self.bytes * count }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

impl Program {
    /// What one step at an extent costs. Concatenations and slices that the planner has for nothing cost nothing.
    ///
    /// # Errors
    /// As [`shapes`](Self::shapes).
    pub fn cost(&self, extent: Extent) -> Result<Cost> {
        Ok(self.costs(&self.shapes(extent)?).sum())
    }

    /// What each operator that runs costs, given the shapes of all tensors.
    pub(crate) fn costs<'a>(&'a self, shapes: &'a [Shape]) -> impl Iterator<Item = Cost> + 'a {
        self.running().map(|node| {
            let of = |tensors: &[TensorId]| -> Vec<Shape> { tensors.iter().map(|t| shapes[t.index()]).collect() };
            let cost = node.op.cost(&of(&node.inputs), &of(&node.outputs));
            // Operators count 4 bytes an element.
            let (mut stored, mut full) = (0_u128, 0_u128);
            for &tensor in node.inputs.iter().chain(&node.outputs) {
                let elements = shapes[tensor.index()].padded_len() as u128;
                stored += elements * if self.tensors[tensor.index()].half { 2 } else { 4 };
                full += elements * 4;
            }
            Cost { bytes: (u128::from(cost.bytes) * stored / full.max(1)) as u64, ..cost }
        })
    }
}
