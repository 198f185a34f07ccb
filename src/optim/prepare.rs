//! What the update needs to know of a step: gradient norm, clipping, number of the update, bias corrections.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::blocks::{Blocks, unpack};
use super::{Adagrad, LossScale, Method, OptimizerConfig};
use crate::error::Result;
use crate::graph::{
    Binding, Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, PARAM_ALIGN, Real, Shape, View, cpu_reference,
    expect_kinds,
};

/// Elements of [`State::Counters`](crate::graph::State::Counters): the updates applied, as low and high part, which stay
/// exact as `f32`; two are not used.
pub const COUNTERS: usize = 4;

/// The high part counts these: a sum of both parts is exact up to 2⁴⁴ updates.
const HIGH: u64 = 1 << 20;

/// The updates applied that counters tell of: [`State::Counters`](crate::graph::State::Counters) as read from a store.
pub fn updates_of(counters: &[f32]) -> u64 {
    match counters {
        [low, high, ..] => *high as u64 * HIGH + *low as u64,
        _ => 0,
    }
}

/// The counters of a number of updates applied, to be written to a store.
pub fn counters_of(updates: u64) -> [f32; COUNTERS] {
    [(updates % HIGH) as f32, (updates / HIGH) as f32, 0.0, 0.0]
}

/// Inputs: the flat gradients, and the values of the sparse ones. Outputs: their norm, the coefficients of the update as in `shaders/optimizer_prepare.wgsl`, where the
/// loss is scaled the steps left out, and updated in place the counters and where the loss is scaled the scale.
#[derive(Debug, Clone)]
pub(super) struct Prepare {
    pub config: OptimizerConfig,
    pub blocks: Blocks,
    /// Whether the gradients are multiplied by the loss scale.
    pub scaled: bool,
}

/// Workgroups of the norm's first pass, at most: its second pass is one workgroup.
const MAX_PARTIALS: usize = 1024;

/// The same for a software adapter, where the end of a workgroup's sum costs as much as thousands of elements.
const SOFTWARE_PARTIALS: usize = 32;

/// Elements that one task of the CPU takes.
const TILE: usize = 256 * PARAM_ALIGN;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct NormParams {
    elements4: u32,
    slab4: u32,
    workgroups: u32,
    elements_offset4: u32,
    partials_offset: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct PrepareParams {
    partials: u32,
    clip_norm: f32,
    log_beta1: f32,
    log_beta2: f32,
    weight_decay: f32,
    lr_decay: f32,
    coefficients_offset4: u32,
    norm_offset4: u32,
    skipped_offset4: u32,
    first_exponent: f32,
    smallest_exponent: f32,
    largest_exponent: f32,
    patience: f32,
}

impl Op for Prepare {
    fn name(&self) -> &'static str {
        "optimizer_prepare"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; inputs.len()])?;
        let mut outputs = vec![Shape::scalar(), Shape::vector(4)];
        outputs.extend(self.scaled.then(Shape::scalar));
        Ok(outputs)
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (norm, coefficients) = (&plan.outputs[0], &plan.outputs[1]);
        let (skipped, counters, loss_scale) = match &plan.outputs[2..] {
            [skipped, counters, loss_scale] if self.scaled => (Some(skipped), counters, Some(loss_scale)),
            rest => (None, &rest[0], None),
        };
        // The norm tells whether all gradients are finite.
        let with_norm = self.config.clip_norm.is_some() || norm.needed || self.scaled;
        let scratch = Binding::Scratch { index: 0, elements: plan.inputs.len() * MAX_PARTIALS };
        let most = if plan.capabilities.software { SOFTWARE_PARTIALS } else { MAX_PARTIALS };
        let (mut norms, mut partials) = (Vec::new(), 0);
        for (index, grads) in plan.inputs.iter().enumerate() {
            let counted = if index > 0 { 0..grads.shape.padded_len() } else { self.blocks.updated_elements() };
            let elements4 = counted.len() / 4;
            let slab4 = elements4.div_ceil(most).next_multiple_of(256).max(256);
            let workgroups = elements4.div_ceil(slab4).max(1);
            let params = NormParams {
                elements4: elements4 as u32,
                slab4: slab4 as u32,
                workgroups: workgroups as u32,
                elements_offset4: grads.place4().0 + (counted.start / 4) as u32,
                partials_offset: partials as u32,
            };
            let mut norm = Dispatch::new("grad_norm", "main").define("SPARSE", index > 0).params(&params);
            norm = norm.read(grads.binding).write(scratch).workgroups(workgroups);
            norms.push(if index > 0 { norm } else { norm.table(&self.blocks.table) });
            partials += workgroups;
        }

        let (log_beta1, log_beta2, weight_decay) = match self.config.method {
            Method::Adam(adam) => (log_beta(adam.beta1), log_beta(adam.beta2), adam.weight_decay),
            _ => (0.0, 0.0, 0.0),
        };
        let lr_decay = match self.config.method {
            Method::Adagrad(adagrad) => adagrad.lr_decay,
            _ => 0.0,
        };
        let params = PrepareParams {
            partials: partials as u32,
            clip_norm: self.config.clip_norm.unwrap_or(0.0),
            log_beta1,
            log_beta2,
            weight_decay,
            lr_decay,
            coefficients_offset4: coefficients.place4().0,
            norm_offset4: norm.place4().0,
            skipped_offset4: skipped.map_or(0, |skipped| skipped.place4().0),
            first_exponent: LossScale::FIRST as f32,
            smallest_exponent: LossScale::SMALLEST as f32,
            largest_exponent: LossScale::LARGEST as f32,
            patience: LossScale::PATIENCE as f32,
        };
        let mut prepare = Dispatch::new("optimizer_prepare", "main")
            .define("ADAM", matches!(self.config.method, Method::Adam(_)))
            .define("ADAGRAD", matches!(self.config.method, Method::Adagrad(_)))
            .define("NORM", with_norm)
            .define("CLIP", self.config.clip_norm.is_some())
            .define("SCALED", self.scaled)
            .read(Binding::Step)
            .write(counters.binding)
            .write(coefficients.binding)
            .params(&params)
            .workgroups(1);
        if !with_norm {
            return Ok(vec![prepare]);
        }
        prepare = prepare.write(norm.binding).read(scratch);
        if let (Some(skipped), Some(loss_scale)) = (skipped, loss_scale) {
            prepare = prepare.write(loss_scale.binding).write(skipped.binding);
        }
        norms.push(prepare);
        Ok(norms)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let counted = [Shape::vector(self.blocks.updated_elements().len())];
        Cost::moving(counted.iter().chain(&inputs[1..]).chain(outputs))
    }
}

/// `ln β`, finite for β = 0: then `βᵗ` is 0 too in `f32`.
fn log_beta(beta: f64) -> f32 {
    beta.ln().max(-1e4) as f32
}

impl Prepare {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let mut norm = self.norm(&run.inputs);
        let at_counters = run.outputs.len() - 1 - usize::from(self.scaled);
        let mut unscale = 1.0;
        let mut finite = true;
        if let (true, Some(state)) = (self.scaled, run.outputs.last_mut()) {
            let state = &mut state.data[..LossScale::ELEMENTS];
            let before = LossScale::of(&state.iter().map(|v| v.to_f64() as f32).collect::<Vec<_>>());
            unscale = 1.0 / f64::from(before.scale());
            norm *= unscale;
            finite = norm.is_finite();
            let after = before.after(finite);
            state.copy_from_slice(&after.state().map(|v| T::of(f64::from(v))));
            run.outputs[2].row(0).fill(T::ZERO);
            run.outputs[2].data[0] = T::of(f64::from(after.skipped));
        }
        run.outputs[0].row(0).fill(T::ZERO);
        run.outputs[0].data[0] = T::of(norm);
        if !finite {
            // The update does nothing where these are 0.
            run.outputs[1].row(0).fill(T::ZERO);
            return Ok(());
        }
        let clip = match self.config.clip_norm {
            // Not by `min`, which would hide a norm that is NaN.
            Some(limit) if norm + 1e-6 >= f64::from(limit) || norm.is_nan() => f64::from(limit) / (norm + 1e-6),
            _ => 1.0,
        };
        let clip = clip * unscale;
        let counters = &mut run.outputs[at_counters].data;
        let updates = 1 + counters[1].to_f64() as u64 * HIGH + counters[0].to_f64() as u64;
        counters[0] = T::of((updates % HIGH) as f64);
        counters[1] = T::of((updates / HIGH) as f64);

        let rate = f64::from(run.step.learning_rate);
        let correction = |beta: f64| -(updates as f64 * beta.ln()).exp_m1();
        let coefficients = match self.config.method {
            Method::Adam(adam) => [
                rate / correction(adam.beta1),
                correction(adam.beta2).sqrt(),
                clip,
                1.0 - rate * f64::from(adam.weight_decay),
            ],
            Method::Adagrad(Adagrad { lr_decay, .. }) => {
                [rate / (1.0 + (updates - 1) as f64 * f64::from(lr_decay)), 1.0, clip, 1.0]
            }
            Method::Sgd(_) | Method::RmsProp(_) | Method::Adadelta(_) => [rate, 1.0, clip, 1.0],
        };
        for (target, value) in run.outputs[1].row(0).iter_mut().zip(coefficients) {
            *target = T::of(value);
        }
        Ok(())
    }

    /// The L2 norm: sums of tiles, then their sum.
    fn norm<T: Real>(&self, grads: &[View<'_, T>]) -> f64 {
        let flat = &grads[0].data[self.blocks.updated_elements()];
        let tiles = flat.par_chunks(TILE).zip(self.blocks.updated_words().par_chunks(TILE / PARAM_ALIGN));
        let mut sums: Vec<f64> = tiles.map(|(grads, blocks)| sum_of_squares(grads, blocks)).collect();
        for sparse in &grads[1..] {
            let tiles = sparse.data[..sparse.shape.padded_len()].par_chunks(TILE);
            sums.par_extend(tiles.map(|grads| sum_of_squares(grads, &[PARAM_ALIGN as u32; TILE / PARAM_ALIGN])));
        }
        sums.iter().sum::<f64>().sqrt()
    }
}

fn sum_of_squares<T: Real>(grads: &[T], blocks: &[u32]) -> f64 {
    let mut sums = [0.0; 4];
    for (block, &word) in grads.chunks(PARAM_ALIGN).zip(blocks) {
        for four in block[..unpack(word).0.min(block.len())].chunks_exact(4) {
            for (sum, x) in sums.iter_mut().zip(four) {
                let x = x.to_f64();
                *sum += x * x;
            }
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_hold_large_counts() {
        for updates in [0, 1, HIGH - 1, HIGH, 100_000_001, (1 << 44) - 1] {
            assert_eq!(updates_of(&counters_of(updates)), updates);
        }
        assert_eq!(updates_of(&[]), 0);
    }
}
