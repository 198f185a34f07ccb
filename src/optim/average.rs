//! Averages of the parameters over updates.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::updates_of;
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, PARAM_ALIGN, Real, Shape, cpu_reference, expect_kinds,
};

/// `a ← a + max(1 − decay, 1 / t)(w − a)`, which at first is `w` to the bit. Inputs: the coefficients that [`Prepare`](super::Prepare) makes, the counters, which tell
/// `t`, and the flat parameters. Updated in place: the flat averages, those of frozen parameters too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Average {
    pub decay: f64,
}

/// Elements that one task of the CPU takes.
const TILE: usize = 256 * PARAM_ALIGN;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    elements4: u32,
    coefficients_offset4: u32,
    rest: f32,
}

impl Op for Average {
    fn name(&self) -> &'static str {
        "average"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 3])?;
        Ok(vec![])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (coefficients, counters, params) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2]);
        let elements4 = params.shape.padded_len() / 4;
        let numbers = Params {
            elements4: elements4 as u32,
            coefficients_offset4: coefficients.place4().0,
            rest: (1.0 - self.decay) as f32,
        };
        let dispatch = Dispatch::new("average", "main").read(coefficients.binding).read(counters.binding);
        let dispatch = dispatch.read(params.binding).write(plan.outputs[0].binding);
        Ok(vec![dispatch.params(&numbers).workgroups(elements4.div_ceil(256))])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // What is updated in place is read and written.
        Cost::moving(inputs.iter().chain(outputs).chain(outputs))
    }
}

impl Average {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (coefficients, counters, params) = (run.inputs[0].row(0), run.inputs[1].row(0), run.inputs[2].row(0));
        if coefficients[1] == T::ZERO {
            // The step is left out.
            return Ok(());
        }
        let updates = updates_of(&[counters[0].to_f64() as f32, counters[1].to_f64() as f32]);
        let share = T::of((1.0 - self.decay).max(1.0 / updates as f64));
        let averages = run.outputs[0].data.par_chunks_mut(TILE);
        averages.zip(params.par_chunks(TILE)).for_each(|(averages, params)| match share < T::ONE {
            true => averages.iter_mut().zip(params).for_each(|(a, &w)| *a += share * (w - *a)),
            false => averages.copy_from_slice(params),
        });
        Ok(())
    }
}
