//! Weight normalisation (Salimans and Kingma 2016), of all layers of a model at once.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Packing, Real, Shape,
    TensorId, View, cpu_reference, expect_kinds, shape_error,
};
use crate::ops::{Case, CaseInput};
use crate::random::Random;

/// `w[r, c] = g[c] · v[r, c] / ‖v[·, c]‖` for each of some weights; 0 where a column of `v` is.
///
/// Inputs: `v` of each weight, `[taps, c_in, c_out]`, then `g` of each, vectors `[c_out]`. Outputs: each `w`, shaped as its `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightNorm {
    /// Weights.
    pub weights: usize,
}

/// Appends the weights `w = g · v / ‖v‖` of pairs of a direction `v` `[taps, c_in, c_out]` and lengths `g` `[c_out]`, the norm
/// being that of everything that makes an output channel, as `torch.nn.utils.weight_norm` of a convolution. Where the pairs
/// are parameters it is one dispatch however many there are, and one backward.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a `g` does not fit its `v`.
pub fn weight_norm(graph: &mut Graph, pairs: &[(TensorId, TensorId)]) -> Result<Vec<TensorId>> {
    let inputs: Vec<TensorId> = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1)).collect();
    graph.push(WeightNorm { weights: pairs.len() }, &inputs)
}

/// The columns that a workgroup works on, in groups of 4.
const COLUMNS4: usize = 4;

/// A workgroup's columns: `Tile` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Tile {
    rows: u32,
    c4: u32,
    columns4: u32,
    v: [u32; 2],
    g: u32,
    w: [u32; 2],
    dv: [u32; 2],
    dg: u32,
    unused: u32,
}

/// One weight with everything that belongs to it.
struct Weight<'a> {
    v: &'a Operand,
    g: &'a Operand,
    /// Or its gradient.
    w: &'a Operand,
    gradients: Option<(&'a Operand, &'a Operand)>,
}

/// The dispatches that make all weights, or their gradients: one, if tensors of a sort lie in one buffer.
fn dispatches(weights: &[Weight<'_>]) -> Vec<Dispatch> {
    let Some(first) = weights.first() else { return vec![] };
    let together = weights.iter().all(|weight| {
        let written = |weight: &Weight<'_>| weight.gradients.map(|(dv, dg)| [dv.place.0, dg.place.0]);
        let parameters = first.v.place.0;
        let one = written(first).is_none_or(|[dv, dg]| dv == dg);
        weight.v.place.0 == parameters
            && weight.g.place.0 == parameters
            && weight.w.place.0 == first.w.place.0
            && written(weight) == written(first)
            && one
    });
    match together {
        true => vec![dispatch(weights, true)],
        false => weights.chunks(1).map(|weight| dispatch(weight, false)).collect(),
    }
}

fn dispatch(weights: &[Weight<'_>], together: bool) -> Dispatch {
    let offset4 = |operand: &Operand| (if together { operand.place.1 } else { operand.offset } / 4) as u32;
    let place4 = |operand: &Operand| [offset4(operand), (operand.stride / 4) as u32];
    let mut tiles = Vec::new();
    for weight in weights {
        let columns4 = weight.v.channels4() as usize;
        for c4 in (0..columns4).step_by(COLUMNS4) {
            tiles.push(Tile {
                rows: weight.v.shape.rows() as u32,
                c4: c4 as u32,
                columns4: columns4 as u32,
                v: place4(weight.v),
                g: offset4(weight.g),
                w: place4(weight.w),
                dv: weight.gradients.map_or([0; 2], |(dv, _)| place4(dv)),
                dg: weight.gradients.map_or(0, |(_, dg)| offset4(dg)),
                unused: 0,
            });
        }
    }
    let bind = |operand: &Operand| match (together, operand.binding) {
        (true, Binding::Tensor(tensor)) => Binding::Whole(tensor),
        (_, binding) => binding,
    };
    let table: Arc<[u32]> = Arc::from(bytemuck::cast_slice::<Tile, u32>(&tiles));
    let first = &weights[0];
    let dispatch = Dispatch::new("weight_norm", "main")
        .define("GRADIENT", first.gradients.is_some())
        .table(&table)
        .read(bind(first.v))
        .read(bind(first.g));
    let dispatch = match first.gradients {
        None => dispatch.write(bind(first.w)),
        Some((dv, _)) if together => dispatch.read(bind(first.w)).write(bind(dv)),
        Some((dv, dg)) => dispatch.define("APART", true).read(first.w.binding).write(dv.binding).write(dg.binding),
    };
    dispatch.params(&[tiles.len() as u32, 0, 0, 0]).workgroups(tiles.len())
}

impl Op for WeightNorm {
    fn name(&self) -> &'static str {
        "weight_norm"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 2 * self.weights])?;
        let (v, g) = inputs.split_at(self.weights);
        for (v, g) in v.iter().zip(g) {
            if *g != Shape::vector(v.channels) {
                return Err(shape_error(
                    self,
                    format!("lengths {g} don't fit directions {v}: one a channel is needed"),
                ));
            }
        }
        Ok(v.to_vec())
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let reached: Vec<usize> = (0..self.weights).filter(|&weight| gradient.of_output(weight).is_some()).collect();
        let mut inputs: Vec<TensorId> = reached.iter().filter_map(|&weight| gradient.of_output(weight)).collect();
        inputs.extend(reached.iter().map(|&weight| gradient.input(weight)));
        inputs.extend(reached.iter().map(|&weight| gradient.input(self.weights + weight)));
        let given = gradient.push(WeightNormGrad { weights: reached.len() }, &inputs)?;
        let (dv, dg) = given.split_at(reached.len());
        for ((&weight, &dv), &dg) in reached.iter().zip(dv).zip(dg) {
            for (position, part) in [(weight, dv), (self.weights + weight, dg)] {
                if gradient.wanted(position) {
                    gradient.give(position, part);
                }
            }
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(0)
    }

    fn packing(&self) -> Option<Packing> {
        Some(Packing::Outputs(self.weights))
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (v, g) = plan.inputs.split_at(self.weights);
        let weights: Vec<Weight<'_>> =
            v.iter().zip(g).zip(plan.outputs).map(|((v, g), w)| Weight { v, g, w, gradients: None }).collect();
        Ok(dispatches(&weights))
    }
}

/// `Σ_r x[r, c] · y[r, c]` for each channel, padding included.
fn column_sums<T: Real>(x: &View<'_, T>, y: &View<'_, T>) -> Vec<T> {
    let mut sums = vec![T::ZERO; x.shape.stride()];
    for row in 0..x.shape.rows() {
        for ((sum, &x), &y) in sums.iter_mut().zip(x.row(row)).zip(y.row(row)) {
            *sum += x * y;
        }
    }
    sums
}

impl WeightNorm {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (v, g) = run.inputs.split_at(self.weights);
        run.outputs.par_iter_mut().zip(v).zip(g).for_each(|((w, v), g)| {
            let scale: Vec<T> = column_sums(v, v)
                .iter()
                .zip(g.row(0))
                .map(|(&square, &g)| if square > T::ZERO { g / square.sqrt() } else { T::ZERO })
                .collect();
            for row in 0..v.shape.rows() {
                for ((w, &v), &scale) in w.row(row).iter_mut().zip(v.row(row)).zip(&scale) {
                    *w = v * scale;
                }
            }
        });
        Ok(())
    }
}

/// `dg = Σ dw · v / ‖v‖` and `dv = g / ‖v‖ · (dw − v · Σ dw · v / ‖v‖²)` by column. Inputs: each `dw`, each `v`, each `g`. Outputs:
/// each `dv`, each `dg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WeightNormGrad {
    weights: usize,
}

impl Op for WeightNormGrad {
    fn name(&self) -> &'static str {
        "weight_norm_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 3 * self.weights])?;
        if inputs[..self.weights] != inputs[self.weights..2 * self.weights] {
            return Err(shape_error(self, "gradients don't fit weights"));
        }
        Ok(inputs[self.weights..].to_vec())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    fn packing(&self) -> Option<Packing> {
        Some(Packing::Inputs(self.weights))
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dw, others) = plan.inputs.split_at(self.weights);
        let (v, g) = others.split_at(self.weights);
        let (dv, dg) = plan.outputs.split_at(self.weights);
        let weight = |at: usize| Weight { v: &v[at], g: &g[at], w: &dw[at], gradients: Some((&dv[at], &dg[at])) };
        Ok(dispatches(&(0..self.weights).map(weight).collect::<Vec<_>>()))
    }
}

impl WeightNormGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dw, others) = run.inputs.split_at(self.weights);
        let (v, g) = others.split_at(self.weights);
        let (dv, dg) = run.outputs.split_at_mut(self.weights);
        dv.par_iter_mut().zip(dg).zip(dw).zip(v).zip(g).for_each(|((((dv, dg), dw), v), g)| {
            let (squares, products) = (column_sums(v, v), column_sums(dw, v));
            let mut scales = Vec::with_capacity(squares.len());
            for (((dg, &g), &square), &product) in dg.row(0).iter_mut().zip(g.row(0)).zip(&squares).zip(&products) {
                let norm = square.sqrt();
                let there = square > T::ZERO;
                *dg = if there { product / norm } else { T::ZERO };
                scales.push(if there { (g / norm, product / square) } else { (T::ZERO, T::ZERO) });
            }
            for row in 0..v.shape.rows() {
                for (((dv, &dw), &v), &(scale, along)) in
                    dv.row(row).iter_mut().zip(dw.row(row)).zip(v.row(row)).zip(&scales)
                {
                    *dv = scale * (dw - v * along);
                }
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let weights = 1 + random.below(3) as usize;
    let sizes = [1, 2, 3, 5, 8, 17, 25, 40];
    let mut size = || sizes[random.below(sizes.len() as u32) as usize];
    let shapes: Vec<Shape> = (0..weights).map(|_| Shape::new(1 + size() % 5, size(), size())).collect();
    let directions = shapes.iter().map(|&shape| CaseInput::real(shape));
    let lengths = shapes.iter().map(|shape| CaseInput::real(Shape::vector(shape.channels)));
    Case::new(WeightNorm { weights }, directions.chain(lengths).collect())
}
