//! The update of all parameters at once.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use rayon::slice::ChunksMut;

use super::blocks::{Blocks, Constraint};
use super::tiles::{adadelta_tile, adagrad_tile, adam_tile, rmsprop_tile, sgd_tile};
use super::{Method, RmsProp};
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, Operand, PARAM_ALIGN, Real, Shape, cpu_reference,
    expect_kinds, shape_error,
};

/// Inputs: the coefficients that [`Prepare`](super::Prepare) makes, the flat gradients. Updated in place: the
/// parameters and what [`Method::states`] says. Then parameters that are held to a norm are scaled.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub method: Method,
    pub blocks: Blocks,
}

/// Elements that one task of the CPU takes.
const TILE: usize = 64 * PARAM_ALIGN;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Params {
    first4: u32,
    end4: u32,
    coefficients_offset4: u32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    momentum: f32,
    weight_decay: f32,
    initial: f32,
    workgroups: u32,
    constraints: u32,
    columns: u32,
}

/// The kernel of a method, and what it is told of it.
pub(super) fn kernel(method: &Method, coefficients: &Operand, entry: &'static str) -> (Params, Dispatch) {
    let mut params = Params { coefficients_offset4: coefficients.place4().0, ..Params::default() };
    let mut dispatch = Dispatch::new("optimizer", entry);
    match *method {
        Method::Adam(adam) => {
            (params.beta1, params.rest1) = (adam.beta1 as f32, (1.0 - adam.beta1) as f32);
            (params.beta2, params.rest2) = (adam.beta2 as f32, (1.0 - adam.beta2) as f32);
            params.eps = adam.eps;
            dispatch = dispatch.define("ADAM", true);
        }
        Method::Sgd(sgd) => {
            (params.momentum, params.weight_decay) = (sgd.momentum, sgd.weight_decay);
            dispatch = dispatch.define("MOMENTUM", sgd.momentum > 0.0).define("NESTEROV", sgd.nesterov);
        }
        Method::RmsProp(rmsprop) => {
            (params.beta2, params.rest2) = (rmsprop.alpha as f32, (1.0 - rmsprop.alpha) as f32);
            (params.eps, params.momentum, params.weight_decay) = (rmsprop.eps, rmsprop.momentum, rmsprop.weight_decay);
            dispatch = dispatch.define("RMSPROP", true).define("MOMENTUM", rmsprop.momentum > 0.0);
            dispatch = dispatch.define("CENTERED", rmsprop.centered);
        }
        Method::Adagrad(adagrad) => {
            (params.eps, params.weight_decay) = (adagrad.eps, adagrad.weight_decay);
            params.initial = adagrad.initial_accumulator_value;
            dispatch = dispatch.define("ADAGRAD", true);
        }
        Method::Adadelta(adadelta) => {
            (params.beta2, params.rest2) = (adadelta.rho as f32, (1.0 - adadelta.rho) as f32);
            (params.eps, params.weight_decay) = (adadelta.eps, adadelta.weight_decay);
            dispatch = dispatch.define("ADADELTA", true);
        }
    }
    (params, dispatch.read(coefficients.binding))
}

impl Op for Update {
    fn name(&self) -> &'static str {
        "optimizer_update"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        Ok(vec![])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (coefficients, grads) = (&plan.inputs[0], &plan.inputs[1]);
        let elements = self.blocks.updated_elements();
        let workgroups = (elements.len() / 4).div_ceil(256).max(1);
        // A workgroup each: four channels of a parameter that is held to a norm.
        let columns = self.blocks.columns();
        let (of_method, dispatch) = kernel(&self.method, coefficients, "update_main");
        let params = Params {
            first4: (elements.start / 4) as u32,
            end4: (elements.end / 4) as u32,
            workgroups: workgroups as u32,
            constraints: self.blocks.words().len() as u32,
            columns: columns as u32,
            ..of_method
        };
        let mut dispatch = dispatch.define("CONSTRAINED", columns > 0);
        dispatch = dispatch.read(grads.binding).table(&self.blocks.table);
        for updated in plan.outputs {
            dispatch = dispatch.write(updated.binding);
        }
        Ok(vec![dispatch.params(&params).workgroups(workgroups + columns)])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // What is updated in place is read and written.
        let updated = vec![Shape::vector(self.blocks.updated_elements().len()); 1 + 2 * outputs.len()];
        Cost::moving(inputs[..1].iter().chain(&updated))
    }
}

impl Update {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let coefficients = run.inputs[0].row(0);
        if coefficients[1] == T::ZERO {
            // The step is left out.
            return Ok(());
        }
        let updated = self.blocks.updated_elements();
        let grads = run.inputs[1].data[updated.clone()].par_chunks(TILE);
        let tiles = grads.zip(self.blocks.updated_words().par_chunks(TILE / PARAM_ALIGN));
        let mut vectors: Vec<&mut [T]> = run.outputs.iter_mut().map(|view| &mut view.data[updated.clone()]).collect();
        match (self.method, vectors.as_mut_slice()) {
            (Method::Adam(adam), [params, first, second]) => {
                tiles
                    .zip(chunks(params))
                    .zip(chunks(first))
                    .zip(chunks(second))
                    .for_each(|((((g, blocks), w), m), v)| adam_tile(&adam, coefficients, blocks, g, w, m, v));
            }
            (Method::Sgd(sgd), [params, first]) => {
                tiles.zip(chunks(params)).zip(chunks(first)).for_each(|(((g, blocks), w), m)| {
                    sgd_tile(&sgd, coefficients, blocks, g, w, Some(m));
                });
            }
            (Method::Sgd(sgd), [params]) => {
                tiles.zip(chunks(params)).for_each(|((g, blocks), w)| sgd_tile(&sgd, coefficients, blocks, g, w, None));
            }
            (Method::RmsProp(rmsprop), [params, second, others @ ..]) => {
                let RmsProp { momentum, centered, .. } = rmsprop;
                let mut others = others.iter_mut();
                let first = optional_chunks((momentum > 0.0).then(|| others.next()).flatten(), params.len());
                let mean = optional_chunks(centered.then(|| others.next()).flatten(), params.len());
                tiles.zip(chunks(params)).zip(chunks(second)).zip(first).zip(mean).for_each(
                    |(((((g, blocks), w), v), m), a)| {
                        rmsprop_tile(&rmsprop, coefficients, blocks, g, w, v, (m, a));
                    },
                );
            }
            (Method::Adagrad(adagrad), [params, second]) => {
                tiles.zip(chunks(params)).zip(chunks(second)).for_each(|(((g, blocks), w), v)| {
                    adagrad_tile(&adagrad, coefficients, blocks, g, w, v);
                });
            }
            (Method::Adadelta(adadelta), [params, second, first]) => {
                tiles
                    .zip(chunks(params))
                    .zip(chunks(second))
                    .zip(chunks(first))
                    .for_each(|((((g, blocks), w), v), s)| adadelta_tile(&adadelta, coefficients, blocks, g, w, v, s));
            }
            (method, vectors) => {
                return Err(shape_error(self, format!("{method:?} does not update {} vectors", vectors.len())));
            }
        }
        for constraint in &*self.blocks.constraints {
            constraint.hold(&mut run.outputs[0].data[constraint.offset..]);
        }
        Ok(())
    }
}

/// Beside a norm that is divided by, as in `torch.renorm`.
const NORM_EPS: f64 = 1e-7;

impl Constraint {
    /// Scales the channels of a parameter whose norm is too large.
    fn hold<T: Real>(&self, param: &mut [T]) {
        let param = &mut param[..self.rows * self.stride];
        let mut squares = vec![0.0; self.stride];
        for row in param.chunks_exact(self.stride) {
            squares.iter_mut().zip(row).for_each(|(sum, w)| *sum += w.to_f64() * w.to_f64());
        }
        let limit = f64::from(self.max_norm);
        let factor = |square: f64| if square.sqrt() > limit { limit / (square.sqrt() + NORM_EPS) } else { 1.0 };
        let factors: Vec<T> = squares.into_iter().map(|square| T::of(factor(square))).collect();
        for row in param.chunks_exact_mut(self.stride) {
            row.iter_mut().zip(&factors).for_each(|(w, &factor)| *w *= factor);
        }
    }
}

/// A vector in the parts that tasks take.
fn chunks<T: Real>(vector: &mut [T]) -> ChunksMut<'_, T> {
    vector.par_chunks_mut(TILE)
}

/// The same of a vector that a method may not have; of `elements` then.
fn optional_chunks<'a, T: Real>(vector: Option<&'a mut &mut [T]>, elements: usize) -> Vec<Option<&'a mut [T]>> {
    match vector {
        Some(vector) => vector.chunks_mut(TILE).map(Some).collect(),
        None => (0..elements.div_ceil(TILE)).map(|_| None).collect(),
    }
}
