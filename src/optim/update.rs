//! The update of all parameters at once.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use rayon::slice::ChunksMut;

use super::blocks::{Blocks, unpack};
use super::{Adam, Method, Sgd};
use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, PARAM_ALIGN, Real, Shape, ViewMut, cpu_reference,
    expect_kinds, shape_error, vector_kernel,
};

/// Inputs: the coefficients that [`Prepare`](super::Prepare) makes, the flat gradients. Updated in place: the
/// parameters, and as far as the method has them the first and the second moment.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub method: Method,
    pub blocks: Blocks,
}

/// Elements that one task of the CPU takes.
const TILE: usize = 64 * PARAM_ALIGN;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    elements4: u32,
    coefficients_offset4: u32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    momentum: f32,
    weight_decay: f32,
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
        let elements4 = self.blocks.elements() / 4;
        let mut params =
            Params { elements4: elements4 as u32, coefficients_offset4: coefficients.place4().0, ..Params::default() };
        let mut dispatch = Dispatch::new("optimizer", "update_main").define("UPDATE", true);
        match self.method {
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
        }
        dispatch = dispatch.read(coefficients.binding).read(grads.binding).table(&self.blocks.0);
        for updated in plan.outputs {
            dispatch = dispatch.write(updated.binding);
        }
        Ok(vec![dispatch.params(&params).workgroups(elements4.div_ceil(256))])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // What is updated in place is read and written.
        Cost::moving(inputs.iter().chain(outputs).chain(outputs))
    }
}

impl Update {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let coefficients = run.inputs[0].row(0);
        if coefficients[1] == T::ZERO {
            // The step is left out.
            return Ok(());
        }
        let grads = run.inputs[1].data.par_chunks(TILE);
        let tiles = grads.zip(self.blocks.0.par_chunks(TILE / PARAM_ALIGN));
        match (self.method, run.outputs.as_mut_slice()) {
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
            (method, outputs) => {
                return Err(shape_error(self, format!("{method:?} does not update {} vectors", outputs.len())));
            }
        }
        Ok(())
    }
}

/// A flat vector in the parts that tasks take.
fn chunks<'a, T: Real>(view: &mut ViewMut<'a, T>) -> ChunksMut<'a, T> {
    std::mem::take(&mut view.data).par_chunks_mut(TILE)
}

vector_kernel! {
fn adam_tile<'a, T: Real>(
    adam: &'a Adam,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
) -> () {
    let &[rate, root, clip, shrink] = coefficients else { return };
    let (beta1, rest1) = (T::of(adam.beta1), T::of(1.0 - adam.beta1));
    let (beta2, rest2) = (T::of(adam.beta2), T::of(1.0 - adam.beta2));
    let eps = T::of(f64::from(adam.eps));
    let tiles = params.chunks_mut(PARAM_ALIGN).zip(first.chunks_mut(PARAM_ALIGN));
    let tiles = tiles.zip(second.chunks_mut(PARAM_ALIGN)).zip(grads.chunks(PARAM_ALIGN)).zip(blocks);
    for ((((params, first), second), grads), &word) in tiles {
        let (count, decays) = unpack(word);
        let shrink = if decays { shrink } else { T::ONE };
        let elements =
            params[..count].iter_mut().zip(&mut first[..count]).zip(&mut second[..count]).zip(&grads[..count]);
        for (((w, m), v), &g) in elements {
            let g = g * clip;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *w = *w * shrink - rate * *m / (v.sqrt() / root + eps);
        }
    }
}
}

vector_kernel! {
fn sgd_tile<'a, T: Real>(
    sgd: &'a Sgd,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    first: Option<&'a mut [T]>,
) -> () {
    let &[rate, _, clip, _] = coefficients else { return };
    let momentum = T::of(f64::from(sgd.momentum));
    let weight_decay = T::of(f64::from(sgd.weight_decay));
    let mut first = first.map(|first| first.chunks_mut(PARAM_ALIGN));
    for ((params, grads), &word) in params.chunks_mut(PARAM_ALIGN).zip(grads.chunks(PARAM_ALIGN)).zip(blocks) {
        let (count, decays) = unpack(word);
        let decay = if decays { weight_decay } else { T::ZERO };
        let elements = params[..count].iter_mut().zip(&grads[..count]);
        match first.as_mut().and_then(Iterator::next) {
            Some(first) => {
                for ((w, &g), m) in elements.zip(&mut first[..count]) {
                    let g = g * clip + decay * *w;
                    *m = momentum * *m + g;
                    let step = if sgd.nesterov { g + momentum * *m } else { *m };
                    *w -= rate * step;
                }
            }
            None => elements.for_each(|(w, &g)| *w -= rate * (g * clip + decay * *w)),
        }
    }
}
}
