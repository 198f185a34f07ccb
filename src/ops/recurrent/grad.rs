//! Recurrent layers backward through time.

use super::{Recurrent, cpu};
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Op, Real, Shape, cpu_reference, expect_same, shape_error,
};

/// The gradients of the sums of all gates, and of the initial state. Inputs: the gradient of the states, what the forward walk
/// saved, weight, and those that there are of mask and lengths. Outputs: `[batch, time, gates · hidden]`, behind it, where they
/// differ, the gradients of the recurrent products; and `[batch, 1, states]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RecurrentGrad {
    pub forward: Recurrent,
}

impl RecurrentGrad {
    /// Positions of mask and lengths.
    pub fn positions(&self) -> [Option<usize>; 2] {
        let Recurrent { mask, lengths, .. } = self.forward;
        [mask.then_some(3), lengths.then_some(3 + usize::from(mask))]
    }
}

impl Op for RecurrentGrad {
    fn name(&self) -> &'static str {
        "recurrent_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let &[dstates, saved, weight, ..] = inputs else {
            return Err(shape_error(self, format!("takes 3 inputs or more, got {}", inputs.len())));
        };
        let layout = self.forward.layout(weight.time);
        expect_same(self, saved, saved.with_channels(layout.saved()))?;
        expect_same(self, dstates, saved.with_channels(layout.states()))?;
        let initial = Shape::new(saved.batch, 1, layout.states());
        Ok(vec![saved.with_channels(layout.gradients()), initial])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        self.dispatches(plan)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[1].rows(), inputs[2])
    }
}

impl RecurrentGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        cpu::backward(self, run);
        Ok(())
    }
}
