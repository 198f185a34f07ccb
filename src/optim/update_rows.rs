//! The update of a parameter whose gradient is sparse: of the rows that it tells of.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::Method;
use super::tiles::{adagrad_tile, sgd_tile};
use super::update::{self, kernel};
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, PARAM_ALIGN, Real, Shape, cpu_reference, expect_kinds,
    shape_error,
};

/// Inputs: the coefficients that [`Prepare`](super::Prepare) makes, and rows and values of the gradient. Updated in place: the
/// parameters and what [`Method::states`] says. The method must [keep still](Method::keeps_still).
#[derive(Debug, Clone)]
pub(super) struct UpdateRows {
    pub method: Method,
    /// The parameter's first element in the flat vectors.
    pub offset: usize,
    pub shape: Shape,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    update: update::Params,
    count: u32,
    channels4: u32,
    rows_offset: u32,
    grads_offset4: u32,
    grads_stride4: u32,
    params_offset4: u32,
    params_stride4: u32,
}

impl Op for UpdateRows {
    fn name(&self) -> &'static str {
        "optimizer_update_rows"
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
        let (coefficients, rows, values) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2]);
        let (of_method, dispatch) = kernel(&self.method, coefficients, "rows_main");
        let (count, channels4) = (values.shape.rows(), values.channels4());
        let (grads_offset4, grads_stride4) = values.place4();
        let params = Params {
            update: of_method,
            count: count as u32,
            channels4,
            rows_offset: rows.offset as u32,
            grads_offset4,
            grads_stride4,
            params_offset4: (self.offset / 4) as u32,
            params_stride4: (self.shape.stride() / 4) as u32,
        };
        let mut dispatch = dispatch.define("ROWS", true);
        dispatch = dispatch.read(values.binding).read(rows.binding);
        for updated in plan.outputs {
            dispatch = dispatch.write(updated.binding);
        }
        Ok(vec![dispatch.params(&params).workgroups((count * channels4 as usize).div_ceil(256))])
    }

    fn cost(&self, inputs: &[Shape], _: &[Shape]) -> Cost {
        // Of what is updated in place as much as there are values is read and written, at most.
        let updated = vec![inputs[2]; 2 * (1 + self.method.states().len())];
        Cost::moving(inputs.iter().chain(&updated))
    }
}

impl UpdateRows {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (coefficients, rows, values) = (run.inputs[0].row(0), &run.inputs[1], &run.inputs[2]);
        if coefficients[1] == T::ZERO {
            // The step is left out.
            return Ok(());
        }
        let stride = self.shape.stride();
        let told: Vec<(usize, &[T])> = (0..values.shape.rows())
            .filter(|&at| rows.data[at] >= T::ZERO)
            .map(|at| (rows.data[at].to_f64() as usize, values.row(at)))
            .collect();
        let words: Vec<u32> =
            (0..stride).step_by(PARAM_ALIGN).map(|first| (stride - first).min(PARAM_ALIGN) as u32).collect();
        let numbers = || told.iter().map(|(row, _)| *row);
        match (self.method, run.outputs.as_mut_slice()) {
            (Method::Sgd(sgd), [params]) => {
                let params = pick(&mut params.data[self.offset..], stride, numbers());
                told.par_iter().zip(params).for_each(|((_, g), w)| sgd_tile(&sgd, coefficients, &words, g, w, None));
            }
            (Method::Adagrad(adagrad), [params, second]) => {
                let params = pick(&mut params.data[self.offset..], stride, numbers());
                let second = pick(&mut second.data[self.offset..], stride, numbers());
                told.par_iter()
                    .zip(params)
                    .zip(second)
                    .for_each(|(((_, g), w), v)| adagrad_tile(&adagrad, coefficients, &words, g, w, v));
            }
            (method, outputs) => {
                let message = format!("{method:?} does not update rows of {} vectors", outputs.len());
                return Err(shape_error(self, message));
            }
        }
        Ok(())
    }
}

/// Rows of a vector, by their numbers, which rise.
fn pick<T: Send>(mut rest: &mut [T], stride: usize, rows: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    let mut passed = 0;
    rows.map(|row| {
        let (_, from) = std::mem::take(&mut rest).split_at_mut((row - passed) * stride);
        let (picked, behind) = from.split_at_mut(stride);
        (rest, passed) = (behind, row + 1);
        picked
    })
    .collect()
}
