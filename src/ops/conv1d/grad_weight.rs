//! The gradients of a convolution's weights and bias: a matrix product over time, in two passes of fixed order.

use bytemuck::{Pod, Zeroable};

use super::coop::{self, CoopTile};
use super::cpu::weight_gradient;
use super::geometry::Geometry;
use crate::device::{Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{
    Binding, Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference,
    expect_kinds, pad4, shape_error,
};

/// `dW[k] = Σ_t x[t · stride + k · dilation − pad_left]ᵀ · dy[t]`, `db = Σ_t dy[t]`.
///
/// Inputs: `x`, `dy`. Outputs: shaped as the weight, and where `bias` a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conv1dGradWeight {
    pub geometry: Geometry,
    pub weight: Shape,
    pub bias: bool,
}

/// Appends the gradient of a convolution's weight alone, shaped as `weight`, given that of its output;
/// [`Graph::backward`] appends it where a model needs it.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn conv1d_grad_weight(
    graph: &mut Graph,
    x: TensorId,
    dy: TensorId,
    weight: Shape,
    geometry: Geometry,
) -> Result<TensorId> {
    graph.push_one(Conv1dGradWeight { geometry, weight, bias: false }, &[x, dy])
}

impl Op for Conv1dGradWeight {
    fn name(&self) -> &'static str {
        "conv1d_grad_weight"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (x, dy) = (inputs[0], inputs[1]);
        let fits = self.geometry.out_time(x.time) == Some(dy.time)
            && self.weight.channels == dy.channels
            && self.weight.rows() == self.geometry.kernel * x.channels;
        if !fits {
            return Err(shape_error(self, format!("input {x}, gradient {dy} and weight {} don't fit", self.weight)));
        }
        let mut outputs = vec![self.weight];
        if self.bias {
            outputs.push(Shape::vector(self.weight.channels));
        }
        Ok(outputs)
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, dy) = (&plan.inputs[0], &plan.inputs[1]);
        let (taps, n) = (self.geometry.kernel, dy.shape.channels);
        let planned =
            Problem { k: partial_rows(taps, x.shape.channels), n, rows: dy.planned.rows(), half: x.half && dy.half };
        Ok(self.dispatches(plan, choose("conv1d_grad_weight", SPLITS, &planned, plan.capabilities)?))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[1].rows(), self.weight)
    }
}

impl Conv1dGradWeight {
    /// The dispatches of a variant already chosen.
    pub(super) fn dispatches(&self, plan: &GpuPlan<'_>, choice: Choice<Split>) -> Vec<Dispatch> {
        let (x, dy) = (&plan.inputs[0], &plan.inputs[1]);
        let (taps, n) = (self.geometry.kernel, dy.shape.channels);
        let partial_rows = partial_rows(taps, x.shape.channels);
        let Split { tile, slabs: planned_slabs } = choice.value;
        // Both kernels take steps of at most 32 rows.
        let slab_rows = dy.planned.rows().div_ceil(planned_slabs).next_multiple_of(32);
        let rows = dy.shape.rows();
        let slabs = rows.div_ceil(slab_rows);
        let tiles = partial_rows.div_ceil(tile.m as usize) * n.div_ceil(tile.n as usize);
        let scratch = Binding::Scratch { index: 0, elements: planned_slabs * partial_rows * pad4(n) };
        let (src_offset4, src_stride4) = x.place4();
        let (dy_offset4, dy_stride4) = dy.place4();
        let map = self.geometry.forward();
        let params = Params {
            workgroups: (tiles * slabs) as u32,
            rows: rows as u32,
            time: dy.shape.time as u32,
            src_time: x.shape.time as u32,
            taps: taps as u32,
            src_channels: x.shape.channels as u32,
            n: n as u32,
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            src_offset4,
            src_stride4,
            dy_offset4,
            dy_stride4,
            slab_rows: slab_rows as u32,
            slabs: slabs as u32,
            out_offset4: 0,
            out_stride4: 0,
            partial_rows: partial_rows as u32,
        };
        let partial = match tile.coop {
            Some(coop) => coop.grad_weight(),
            None => Dispatch::new("conv1d_grad_weight", "partial_main")
                .define("PARTIAL", true)
                .constant("TILE", tile.m)
                .constant("THREADS", tile.m / 4 * (tile.n / 4))
                .constant("TILE_SIZE", tile.m * 4),
        };
        let mut dispatches = vec![
            partial
                .read(x.binding)
                .read(dy.binding)
                .write(scratch)
                .params(&params)
                .workgroups(tiles * slabs)
                .variant(choice),
        ];
        for (position, output) in plan.outputs.iter().enumerate() {
            let bias = position == 1;
            let (out_offset4, out_stride4) = output.place4();
            let params = Params { out_offset4, out_stride4, ..params };
            let elements4 = if bias { 1 } else { taps * x.shape.channels } * (pad4(n) / 4);
            dispatches.push(
                Dispatch::new("conv1d_grad_weight", "reduce_main")
                    .define("REDUCE", true)
                    .define("BIAS_ROW", bias)
                    .read(scratch)
                    .write(output.binding)
                    .params(&params)
                    .workgroups(elements4.div_ceil(64)),
            );
        }
        dispatches
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (weight, bias) = run.outputs.split_at_mut(1);
        let (map, taps) = (self.geometry.forward(), self.geometry.kernel);
        weight_gradient(&run.inputs[0], map, taps, &run.inputs[1], &mut weight[0], bias.first_mut());
        Ok(())
    }
}

/// Rows of a partial sum: each tap padded to 4, and 4 for the bias, because kernels read 4 channels at once.
fn partial_rows(taps: usize, channels: usize) -> usize {
    taps * pad4(channels) + 4
}

pub(crate) struct Problem {
    pub k: usize,
    pub n: usize,
    pub rows: usize,
    /// Whether `x` and `dy` are stored as `f16`.
    pub half: bool,
}

/// The tile that a workgroup makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub m: u32,
    pub n: u32,
    /// Where it is made of cooperative matrices.
    pub coop: Option<CoopTile>,
}

pub(super) const LARGE: Tile = Tile { m: 64, n: 64, coop: None };
pub(super) const SMALL: Tile = Tile { m: 32, n: 32, coop: None };

/// How the sum is split: tiles of the result, slabs of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    pub tile: Tile,
    pub slabs: usize,
}

/// Workgroups to aim for, so that the time is split no finer than it must be.
const WORKGROUPS: usize = 256;
/// Rows that are worth a workgroup.
const MIN_SLAB: usize = 64;
/// Elements of scratch memory, at most: 64 MB.
const MAX_SCRATCH: usize = 1 << 24;

pub(super) fn split(problem: &Problem, tile: Tile) -> Split {
    let tiles = problem.k.div_ceil(tile.m as usize) * problem.n.div_ceil(tile.n as usize);
    let most = (problem.rows / MIN_SLAB).min(MAX_SCRATCH / (problem.k * pad4(problem.n))).max(1);
    Split { tile, slabs: WORKGROUPS.div_ceil(tiles).clamp(1, most) }
}

pub(crate) const SPLITS: &[Variant<Problem, Split>] = &[
    coop::grad_weight::<4, 1>("coop 4x1"),
    coop::grad_weight::<2, 1>("coop 2x1"),
    Variant {
        name: "tile 64x64",
        admits: |problem, _| Ok(split(problem, LARGE)),
        suits: |problem, _| {
            let smaller = problem.k.min(problem.n);
            if smaller > 32 { Ok(()) } else { Err(format!("a side of {smaller} fits in 32")) }
        },
    },
    Variant { name: "tile 32x32", admits: |problem, _| Ok(split(problem, SMALL)), suits: always },
];

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    src_time: u32,
    taps: u32,
    src_channels: u32,
    n: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    src_offset4: u32,
    src_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    slab_rows: u32,
    slabs: u32,
    out_offset4: u32,
    out_stride4: u32,
    partial_rows: u32,
}
