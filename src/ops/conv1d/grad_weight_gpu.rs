//! The weight gradients on the GPU: how the sums are split, and the parameters of `conv1d_grad_weight.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::coop::{self, CoopTile};
use super::grad_weight::Conv1dGradWeight;
use super::tiles::{LANES, software};
use crate::device::{Capabilities, Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{Binding, Dispatch, Operand, pad4};

/// The sums of one or two convolutions over the same rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    /// Channels in of all taps of the first convolution, each padded to 4, and 4 for the bias.
    pub k: usize,
    /// Its channels out.
    pub n: usize,
    /// The same of the second.
    pub second: Option<(usize, usize)>,
    pub rows: usize,
    /// Whether `x` and `dy` are stored as `f16`.
    pub half: bool,
}

/// How the sums are split: tiles of the results, slabs of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    pub kernel: Kernel,
    pub slabs: usize,
}

/// What makes the partial sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Coop(CoopTile),
    /// `conv1d_grad_weight.wgsl`: rows and columns of a workgroup's tile, and groups of 4 of them that a thread makes.
    Tile {
        k: u32,
        n: u32,
        thread_k4: u32,
        thread_n4: u32,
    },
    /// The same without workgroup memory: groups of 4 rows that a lane of a subgroup loads, and of 4 columns that it makes.
    Subgroup {
        k4: u32,
        n4: u32,
    },
}

impl Kernel {
    /// Rows and columns of a workgroup's tile.
    fn tile(&self) -> (usize, usize) {
        let (k, n) = match *self {
            Self::Coop(coop) => (coop.m(), coop.n()),
            Self::Tile { k, n, .. } => (k, n),
            Self::Subgroup { k4, n4 } => (4 * LANES * k4, 4 * LANES * n4),
        };
        (k as usize, n as usize)
    }

    /// The tiles of a result of `k` rows, 4 for the bias among them, and `n` columns.
    fn tiles(&self, k: usize, n: usize) -> usize {
        let (tile_k, tile_n) = self.tile();
        // Only where it is made of matrices is the bias a row as any other.
        let bias = if matches!(self, Self::Coop(_)) { 0 } else { BIAS_ROWS };
        (k - bias).div_ceil(tile_k) * n.div_ceil(tile_n)
    }

    fn dispatch(&self) -> Dispatch {
        let own = |k: u32, n: u32, k4: u32, n4: u32| {
            Dispatch::new("conv1d_grad_weight", "partial_main")
                .define("PARTIAL", true)
                .constant("TILE_K", k)
                .constant("TILE_N", n)
                .constant("THREAD_K4", k4)
                .constant("THREAD_N4", n4)
        };
        match *self {
            Self::Coop(coop) => coop.grad_weight(),
            Self::Subgroup { k4, n4 } => own(4 * LANES * k4, 4 * LANES * n4, k4, n4).define("SUBGROUPS", true),
            Self::Tile { k, n, thread_k4, thread_n4 } => {
                let threads = threads(k, n, thread_k4, thread_n4);
                let (a_size, b_size) = (STEP / 4 * k, STEP / 4 * n);
                own(k, n, thread_k4, thread_n4)
                    .constant("THREADS", threads)
                    .constant("A_SIZE", a_size)
                    .constant("B_SIZE", b_size)
                    .constant("A_LOADS", a_size / threads)
                    .constant("B_LOADS", b_size / threads)
            }
        }
    }
}

fn threads(k: u32, n: u32, thread_k4: u32, thread_n4: u32) -> u32 {
    k / (4 * thread_k4) * (n / (4 * thread_n4))
}

/// Rows of a partial sum for the bias, because kernels write 4 at once.
const BIAS_ROWS: usize = 4;
/// Rows that pass through workgroup memory at once.
const STEP: u32 = 16;
/// Workgroups to aim for, so that the time is split no finer than it must be.
const WORKGROUPS: usize = 512;
/// The same for a software adapter, whose threads are few.
const SOFTWARE_WORKGROUPS: usize = 128;
/// Rows that are worth a workgroup.
const MIN_SLAB: usize = 64;
/// Elements of scratch memory of a sum, at most: 64 MB.
const MAX_SCRATCH: usize = 1 << 24;

impl Problem {
    pub fn tiles(&self, kernel: Kernel) -> usize {
        kernel.tiles(self.k, self.n) + self.second.map_or(0, |(k, n)| kernel.tiles(k, n))
    }

    /// What a kernel's tiles leave to be split among workgroups.
    pub fn split(&self, kernel: Kernel, device: &Capabilities) -> Split {
        let wanted = if device.software { SOFTWARE_WORKGROUPS } else { WORKGROUPS };
        let elements = self.second.map_or(0, |(k, n)| k * pad4(n)).max(self.k * pad4(self.n));
        let most = (self.rows / MIN_SLAB).min(MAX_SCRATCH / elements).max(1);
        Split { kernel, slabs: wanted.div_ceil(self.tiles(kernel)).clamp(1, most) }
    }

    /// Whether a tile fits the smallest result: one half as large would leave less of it empty.
    fn suits(&self, kernel: Kernel) -> Result<(), String> {
        let (tile_k, tile_n) = kernel.tile();
        let empty = |k: usize, n: usize| k <= tile_k / 2 || n <= tile_n / 2;
        let (k, n) = (self.k - BIAS_ROWS, self.n);
        match self.second.map(|(k, n)| (k - BIAS_ROWS, n)).into_iter().chain([(k, n)]).find(|&(k, n)| empty(k, n)) {
            Some((k, n)) => Err(format!("{k} x {n} leaves much of {tile_k} x {tile_n} empty")),
            None => Ok(()),
        }
    }
}

macro_rules! variant {
    ($name:literal, $kernel:expr, $admits:expr, $suits:expr) => {
        Variant {
            name: $name,
            admits: |problem, device| {
                let admits: fn(&Capabilities) -> Result<(), String> = $admits;
                admits(device).map(|()| problem.split($kernel, device))
            },
            suits: $suits,
        }
    };
}

fn subgroups(device: &Capabilities) -> Result<(), String> {
    if device.subgroup_width == Some(LANES) { Ok(()) } else { Err(format!("no subgroups of {LANES}")) }
}

const fn tile(k: u32, n: u32, thread_k4: u32, thread_n4: u32) -> Kernel {
    Kernel::Tile { k, n, thread_k4, thread_n4 }
}

/// In order of preference.
pub(crate) const VARIANTS: &[Variant<Problem, Split>] = &[
    coop::grad_weight::<4, 1>("coop 4x1"),
    coop::grad_weight::<2, 1>("coop 2x1"),
    variant!("subgroup 32x64", Kernel::Subgroup { k4: 1, n4: 2 }, subgroups, |problem: &Problem, device| {
        software(device)?;
        if problem.n > 32 { Ok(()) } else { Err("32 columns or fewer".into()) }
    }),
    variant!("subgroup 64x32", Kernel::Subgroup { k4: 2, n4: 1 }, subgroups, |_, device| software(device)),
    variant!("tile 128x64", tile(128, 64, 2, 2), |_| Ok(()), |problem, _| problem.suits(tile(128, 64, 2, 2))),
    variant!("tile 64x64", tile(64, 64, 2, 1), |_| Ok(()), |problem, _| problem.suits(tile(64, 64, 2, 1))),
    variant!("tile 32x32", tile(32, 32, 1, 1), |_| Ok(()), always),
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
    bias_offset4: u32,
}

/// An operator with its inputs and outputs.
type Sum<'a> = (&'a Conv1dGradWeight, &'a [Operand], &'a [Operand]);

/// One or two sums, each with the variant chosen.
pub(super) struct Sums<'a> {
    sums: Vec<(Sum<'a>, Choice<Split>)>,
}

/// Rows and columns of what a sum gives, the bias among the rows.
fn size((op, inputs, _): &Sum<'_>) -> (usize, usize) {
    (op.geometry.kernel * pad4(inputs[0].shape.channels) + BIAS_ROWS, inputs[1].shape.channels)
}

impl<'a> Sums<'a> {
    pub fn choose(sums: &[Sum<'a>], capabilities: &Capabilities) -> Result<Self> {
        let problem = |sum: &Sum<'a>| {
            let (k, n) = size(sum);
            Problem {
                k,
                n,
                second: None,
                rows: sum.1[1].planned.rows(),
                half: sum.1.iter().all(|operand| operand.half),
            }
        };
        let choose = |problem: &Problem| choose("conv1d_grad_weight", VARIANTS, problem, capabilities);
        // Two are one dispatch where one kernel serves both.
        let together = choose(&Problem { second: sums.get(1).map(size), ..problem(&sums[0]) })?;
        let choices = match together.value.kernel {
            Kernel::Coop(_) => sums.iter().map(|sum| choose(&problem(sum))).collect::<Result<Vec<_>>>()?,
            _ => vec![together; sums.len()],
        };
        Ok(Self { sums: sums.iter().copied().zip(choices).collect() })
    }

    /// With variants already chosen.
    #[cfg(test)]
    pub fn with_choices(sums: Vec<(Sum<'a>, Choice<Split>)>) -> Self {
        Self { sums }
    }

    pub fn dispatches(self) -> Vec<Dispatch> {
        let params: Vec<Params> = self.sums.iter().map(|(sum, choice)| params(sum, choice.value)).collect();
        let scratch: Vec<Binding> = self
            .sums
            .iter()
            .enumerate()
            .map(|(index, (sum, choice))| {
                let (k, n) = size(sum);
                Binding::Scratch { index, elements: choice.value.slabs * k * pad4(n) }
            })
            .collect();
        let bias = self.sums[0].0.0.bias;
        let pair = self.sums.len() == 2;
        let one_kernel = |(_, choice): &(_, Choice<Split>)| !matches!(choice.value.kernel, Kernel::Coop(_));
        let together = pair && self.sums.iter().all(one_kernel);

        let mut reduce = Dispatch::new("conv1d_grad_weight", "reduce_main")
            .define("REDUCE", true)
            .define("BIAS", bias)
            .define("PAIR", pair);
        let mut results = 0;
        for (position, ((sum, _), &scratch)) in self.sums.iter().zip(&scratch).enumerate() {
            let (op, inputs, outputs) = sum;
            reduce = reduce.read(scratch).write(outputs[0].binding);
            // Bindings have fixed places; one that is not used is a scrap of scratch memory, of its own since WebGPU lets
            // nothing be bound twice for writing.
            let scrap = Binding::Scratch { index: 2 + position, elements: 4 };
            reduce = reduce.write(outputs.get(1).map_or(scrap, |bias| bias.binding));
            let rows = op.geometry.kernel * inputs[0].shape.channels + usize::from(bias);
            results += rows * pad4(inputs[1].shape.channels) / 4;
        }
        let reduce = reduce.params_of(&params).workgroups(results.div_ceil(16));

        let mut dispatches = vec![];
        let mut rest = self.sums.into_iter().zip(params.iter().copied()).zip(scratch);
        if together {
            let mut partial = None;
            for (((sum, choice), _), scratch) in rest {
                let dispatch: Dispatch = partial.unwrap_or_else(|| choice.value.kernel.dispatch().define("PAIR", true));
                let bound = dispatch.read(sum.1[0].binding).read(sum.1[1].binding).write(scratch);
                partial = Some(bound.variant(choice));
            }
            let workgroups = params.iter().map(|params| params.workgroups as usize).sum();
            dispatches.extend(partial.map(|partial| partial.params_of(&params).workgroups(workgroups)));
        } else {
            dispatches.extend(rest.by_ref().map(|(((sum, choice), params), scratch)| {
                let partial = choice.value.kernel.dispatch();
                let bound = partial.read(sum.1[0].binding).read(sum.1[1].binding).write(scratch);
                bound.params_of(&[params]).workgroups(params.workgroups as usize).variant(choice)
            }));
        }
        dispatches.push(reduce);
        dispatches
    }
}

fn params(sum: &Sum<'_>, split: Split) -> Params {
    let (op, inputs, outputs) = sum;
    let (x, dy) = (&inputs[0], &inputs[1]);
    let (k, n) = size(sum);
    // All kernels take steps of at most 32 rows.
    let slab_rows = dy.planned.rows().div_ceil(split.slabs).next_multiple_of(32);
    let slabs = dy.shape.rows().div_ceil(slab_rows);
    let (src_offset4, src_stride4) = x.place4();
    let (dy_offset4, dy_stride4) = dy.place4();
    let (out_offset4, out_stride4) = outputs[0].place4();
    let map = op.geometry.forward(x.shape.time);
    Params {
        workgroups: (split.kernel.tiles(k, n) * slabs) as u32,
        rows: dy.shape.rows() as u32,
        time: dy.shape.time as u32,
        src_time: x.shape.time as u32,
        taps: op.geometry.kernel as u32,
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
        out_offset4,
        out_stride4,
        partial_rows: k as u32,
        bias_offset4: outputs.get(1).map_or(0, |bias| bias.place4().0),
    }
}
