//! The gradients of input, weight and bias.

use super::{LinearCrossEntropy, check, gpu};
use crate::error::Result;
use crate::graph::{Cost, Dispatch, FullPrecision, GpuPlan, Kind, Op, Shape, cpu_reference, expect_kinds, expect_same};

/// `dx = g · W`, `dW = gᵀ · x`, `db = Σ g`, where `g = dloss / count · (softmax − onehot)` is the gradient of the logits, 0 where
/// masked.
///
/// Inputs: those of the loss, the logarithms of the softmax's denominators, the count, `dloss`. Outputs: shaped as `x`, `W`, and where
/// there is one the bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LinearCrossEntropyGrad {
    pub of: LinearCrossEntropy,
}

impl LinearCrossEntropyGrad {
    /// The first input of the loss's outputs.
    pub fn first_statistic(&self) -> usize {
        3 + usize::from(self.of.bias)
    }
}

impl Op for LinearCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "linear_cross_entropy_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let reals = 2 + usize::from(self.of.bias);
        let mut kinds = vec![Kind::Real; reals];
        kinds.extend([Kind::Ids, Kind::Real, Kind::Real, Kind::Real]);
        expect_kinds(self, inputs, &kinds)?;
        check(self, inputs, self.of.bias)?;
        let first = self.first_statistic();
        for (input, shape) in inputs[first..].iter().zip([inputs[0].with_channels(1), Shape::scalar(), Shape::scalar()])
        {
            expect_same(self, *input, shape)?;
        }
        Ok(inputs[..reals].to_vec())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::From { inputs: self.first_statistic(), outputs: 1 }
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        gpu::backward(self, plan)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let weight = inputs[1];
        let product = Shape::new(1, weight.channels, 3 * weight.time);
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].rows(), product)
    }
}
