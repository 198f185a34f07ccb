//! The convolution family on the GPU: which tile, and the parameters of `conv1d.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::coop::{self, CoopTile};
use super::geometry::RowMap;
use crate::device::{Capabilities, Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{Dispatch, Operand, Shape};
use crate::ops::Activation;

/// Workgroups that keep a large GPU busy.
pub(super) const BUSY: usize = 128;

/// Rows and columns of the tile that a workgroup makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub m: u32,
    pub n: u32,
    /// Where it is made of cooperative matrices.
    pub coop: Option<CoopTile>,
}

/// The matrix to be made.
pub(crate) struct Problem {
    pub rows: usize,
    pub columns: usize,
    /// Of the source.
    pub channels: usize,
    pub transposed: bool,
    /// Whether all operands are stored as `f16`.
    pub half: bool,
}

impl Problem {
    /// Tiles, each a workgroup's.
    pub fn tiles(&self, tile: Tile) -> usize {
        self.rows.div_ceil(tile.m as usize) * self.columns.div_ceil(tile.n as usize)
    }
}

fn suits(problem: &Problem, tile: Tile) -> Result<(), String> {
    let covered = problem.columns.next_multiple_of(tile.n as usize);
    // A tile half empty does twice the work.
    if covered > tile.n as usize && covered * 2 > problem.columns * 3
        || covered > problem.columns.next_multiple_of(16) * 2
    {
        return Err(format!("{} columns leave much of {covered} empty", problem.columns));
    }
    let count = problem.tiles(tile);
    if count < BUSY { Err(format!("{count} workgroups are fewer than {BUSY}")) } else { Ok(()) }
}

pub(super) const LARGE: Tile = Tile { m: 64, n: 64, coop: None };
const NARROW: Tile = Tile { m: 64, n: 16, coop: None };
pub(super) const SMALL: Tile = Tile { m: 32, n: 32, coop: None };

/// Tiles in order of preference.
pub(crate) const TILES: &[Variant<Problem, Tile>] = &[
    coop::product::<4, 2>("coop 4x2"),
    coop::product::<4, 1>("coop 4x1"),
    coop::product::<2, 1>("coop 2x1"),
    Variant { name: "tile 64x64", admits: |_, _| Ok(LARGE), suits: |problem, _| suits(problem, LARGE) },
    Variant {
        name: "tile 64x16",
        admits: |_, _| Ok(NARROW),
        suits: |problem, _| {
            if problem.columns <= 16 { Ok(()) } else { Err(format!("{} columns are more than 16", problem.columns)) }
        },
    },
    Variant { name: "tile 32x32", admits: |_, _| Ok(SMALL), suits: always },
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
    divide: i32,
    weight_offset4: u32,
    weight_stride4: u32,
    bias_offset4: u32,
    src_offset4: u32,
    src_stride4: u32,
    dst_offset4: u32,
    dst_stride4: u32,
    add_offset4: u32,
    add_stride4: u32,
    add_time: u32,
    pre_offset4: u32,
    pre_stride4: u32,
    slope: f32,
}

/// One product of the family, for [`dispatch`](Product::dispatch).
pub(crate) struct Product<'a> {
    pub source: &'a Operand,
    pub weight: &'a Operand,
    pub target: &'a Operand,
    /// Channels of the result: the target's, but for the gate's gradient half of them.
    pub columns: usize,
    pub map: RowMap,
    pub taps: usize,
    pub transposed: bool,
    pub bias: Option<&'a Operand>,
    /// Added before the activation; of one position, it serves the whole sequence.
    pub add: Option<&'a Operand>,
    /// Where the gate's gradient is the epilogue: what the gate read.
    pub gate: Option<&'a Operand>,
    pub activation: Activation,
}

impl Product<'_> {
    pub fn dispatch(&self, capabilities: &Capabilities) -> Result<Dispatch> {
        let planned = self.problem(self.target.planned.rows());
        Ok(self.dispatch_as(choose("conv1d", TILES, &planned, capabilities)?))
    }

    fn problem(&self, rows: usize) -> Problem {
        Problem {
            rows,
            columns: self.columns,
            channels: self.source.shape.channels,
            transposed: self.transposed,
            half: self.source.half && self.weight.half && self.target.half,
        }
    }

    /// The same with a variant already chosen.
    pub(super) fn dispatch_as(&self, choice: Choice<Tile>) -> Dispatch {
        let tile = choice.value;
        let Shape { time, .. } = self.target.shape;
        let rows = self.target.shape.rows();
        let place = |operand: Option<&Operand>| operand.map_or((0, 0), Operand::place4);
        let (src_offset4, src_stride4) = self.source.place4();
        let (dst_offset4, dst_stride4) = self.target.place4();
        let (weight_offset4, weight_stride4) = self.weight.place4();
        let (add_offset4, add_stride4) = place(self.add);
        let (pre_offset4, pre_stride4) = place(self.gate);
        let workgroups = self.problem(rows).tiles(tile);
        let params = Params {
            workgroups: workgroups as u32,
            rows: rows as u32,
            time: time as u32,
            src_time: self.source.shape.time as u32,
            taps: self.taps as u32,
            src_channels: self.source.shape.channels as u32,
            n: self.columns as u32,
            multiply: self.map.multiply as i32,
            step: self.map.step as i32,
            shift: self.map.shift as i32,
            divide: self.map.divide as i32,
            weight_offset4,
            weight_stride4,
            bias_offset4: place(self.bias).0,
            src_offset4,
            src_stride4,
            dst_offset4,
            dst_stride4,
            add_offset4,
            add_stride4,
            add_time: self.add.map_or(0, |add| add.shape.time as u32),
            pre_offset4,
            pre_stride4,
            slope: self.activation.slope(),
        };
        // Bindings have fixed places; one that a variant does not use is the weights once more.
        let or_weight = |operand: Option<&Operand>| operand.unwrap_or(self.weight).binding;
        let kernel = match tile.coop {
            Some(coop) => coop.product(self.transposed).define("STRIDED", self.map.divide > 1),
            None => Dispatch::new("conv1d", "main")
                .constant("TILE_M", tile.m)
                .constant("TILE_N", tile.n)
                .constant("THREADS", tile.m / 4 * tile.n / 4)
                .constant("A_SIZE", tile.m * 4)
                .constant("B_SIZE", tile.n * 4),
        };
        kernel
            .define("BIAS", self.bias.is_some())
            .define("ADD", self.add.is_some())
            .define("TRANSPOSED", self.transposed)
            .define("GATE_GRADIENT", self.gate.is_some())
            .constant("ACTIVATION", self.activation.code())
            .read(self.source.binding)
            .read(self.weight.binding)
            .write(self.target.binding)
            .read(or_weight(self.bias))
            .read(or_weight(self.add))
            .read(or_weight(self.gate))
            .params(&params)
            .workgroups(workgroups)
            .variant(choice)
    }
}
