//! The gradient of a layer's gate: what comes back through the residual's weights and the skip path, in one kernel.

use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, GpuPlan, Kind, Op, Operand, Real, Rows, Shape, cpu_reference, expect_kinds, for_row_tiles,
    multiply, shape_error,
};
use crate::ops::conv1d::{Epilogue, Finish, Product, backward_panels};
use crate::ops::gate::gate_gradient_rows;
use crate::ops::{Activation, Geometry, gate};

/// `dz = dh · Wᵀ + add`, then `[da | db]` of `z = tanh(a) · σ(b)`.
///
/// Inputs: `dh` `[batch, time, r]`, `W` `[1, g, r]`, `[a | b]` `[batch, time, 2g]`, and where `add` a tensor
/// `[batch, time, g]`. Output: shaped as `[a | b]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GatedProjectionGrad {
    pub add: bool,
}

impl Op for GatedProjectionGrad {
    fn name(&self) -> &'static str {
        "gated_projection_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 3 + usize::from(self.add)])?;
        let (dh, weight, pre) = (inputs[0], inputs[1], inputs[2]);
        let z = pre.with_channels(weight.rows());
        let fits = dh.channels == weight.channels && pre == dh.with_channels(2 * weight.rows());
        if !fits || inputs.get(3).is_some_and(|&add| add != z) {
            return Err(shape_error(self, format!("gradient {dh}, weight {weight} and gate {pre} don't fit")));
        }
        Ok(vec![pre])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dh, weight, pre) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2]);
        let out = &plan.outputs[0];
        let columns = weight.shape.rows();
        let product = Product {
            source: dh,
            weight,
            target: out,
            columns,
            map: Geometry::pointwise().backward(0),
            taps: 1,
            transposed: true,
            bias: None,
            add: plan.inputs.get(3),
            epilogue: Epilogue::GateGradient(pre),
        };
        if columns % 4 == 0 {
            return Ok(vec![product.dispatch(plan.capabilities)?]);
        }
        // The halves don't begin at multiples of 4: the product goes by way of memory.
        let dz = Operand::scratch(0, pre.planned.with_channels(columns), pre.shape.with_channels(columns), pre);
        let product = Product { target: &dz, epilogue: Epilogue::Activation(Activation::Identity), ..product };
        Ok(vec![product.dispatch(plan.capabilities)?, gate::dispatch(pre, None, Some(&dz), out)])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].rows(), inputs[1])
    }
}

impl GatedProjectionGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dh, weight, pre, add) = (&run.inputs[0], &run.inputs[1], &run.inputs[2], run.inputs.get(3));
        let out = &mut run.outputs[0];
        let (rows, stride, padded) = (out.shape.rows(), out.stride, out.shape.stride());
        let (gate, residual) = (weight.shape.rows(), dh.shape.channels);
        let panels = backward_panels(weight, 1);
        let finish = Finish { bias: None, add, activation: Activation::Identity };
        for_row_tiles(out.data, stride, rows, |first, chunk| {
            let count = chunk.len().div_ceil(stride);
            let mut dz = vec![T::ZERO; count * gate];
            let dh = Rows::dense(&dh.data[first * dh.stride..], residual, count, dh.stride);
            multiply(&dh, &panels, &mut dz, gate, first, &finish);
            gate_gradient_rows(&pre.data[first * pre.stride..], pre.stride, &dz, gate, chunk, stride);
            if padded > 2 * gate {
                chunk.chunks_mut(stride).for_each(|values| values[2 * gate..padded].fill(T::ZERO));
            }
        });
        Ok(())
    }
}
