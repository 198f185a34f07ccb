//! Which kernel a product gets, and how large its tiles are.

use super::coop::{self, CoopTile};
use crate::device::{Capabilities, Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::Dispatch;

/// Workgroups that keep a large GPU busy.
pub(crate) const BUSY: usize = 128;

/// The lanes of a subgroup for which `conv1d_registers.wgsl` is written.
pub(crate) const LANES: u32 = 8;

/// The size of the matrix to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    pub rows: usize,
    /// Of the target; for the gate those of its output.
    pub columns: usize,
    /// Whether each column has a second half, for the gate.
    pub gate: bool,
    /// Of the source.
    pub channels: usize,
    pub transposed: bool,
    /// Whether all operands are stored as `f16`.
    pub half: bool,
}

impl Problem {
    /// The kernel chosen.
    pub fn kernel(&self, capabilities: &Capabilities) -> Result<Choice<Kernel>> {
        choose("conv1d", VARIANTS, self, capabilities)
    }
}

/// A kernel with its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Tile(Tile),
    Registers(Registers),
    Coop(CoopTile),
}

/// `conv1d.wgsl`: the tile that a workgroup makes, the part of it that a thread makes, and the slab along K, the last
/// three in groups of 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    m: u32,
    n: u32,
    thread_m4: u32,
    thread_n4: u32,
    slab4: u32,
}

/// `conv1d_registers.wgsl`: groups of 4 columns that a thread makes; `subgroups`: whether the lanes of a subgroup share
/// what they load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    columns4: u32,
    subgroups: bool,
}

impl Tile {
    fn threads(&self) -> u32 {
        self.m / (4 * self.thread_m4) * (self.n / (4 * self.thread_n4))
    }

    /// Whether it is worth it: whether few of its columns are empty, and many workgroups run.
    fn suits(&self, problem: &Problem) -> Result<(), String> {
        let covered = problem.columns.next_multiple_of(self.n as usize);
        let least = if problem.columns <= 16 { 16 } else { problem.columns.next_multiple_of(self.n.min(32) as usize) };
        if covered * 5 > least * 6 {
            return Err(format!("{} columns leave much of {covered} empty", problem.columns));
        }
        let count = Kernel::Tile(*self).workgroups(problem);
        if count < BUSY { Err(format!("{count} workgroups are fewer than {BUSY}")) } else { Ok(()) }
    }
}

impl Kernel {
    /// Rows and columns that a workgroup makes.
    fn covers(&self, problem: &Problem) -> (usize, usize) {
        match self {
            Self::Tile(tile) => (tile.m as usize, tile.n as usize),
            Self::Registers(registers) => {
                let columns4 = if problem.gate { 1 } else { registers.columns4 };
                (LANES as usize, (4 * LANES * columns4) as usize)
            }
            Self::Coop(tile) => (tile.m() as usize, tile.columns(problem.gate) as usize),
        }
    }

    pub fn workgroups(&self, problem: &Problem) -> usize {
        let (rows, columns) = self.covers(problem);
        problem.rows.div_ceil(rows) * problem.columns.div_ceil(columns)
    }

    /// The kernel with its own constants.
    pub fn dispatch(&self, problem: &Problem) -> Dispatch {
        match self {
            Self::Tile(tile) => Dispatch::new("conv1d", "main")
                .constant("TILE_M", tile.m)
                .constant("TILE_N", tile.n)
                .constant("THREAD_M4", tile.thread_m4)
                .constant("THREAD_N4", tile.thread_n4)
                .constant("SLAB4", tile.slab4)
                .constant("THREADS", tile.threads())
                .constant("A_SIZE", tile.m * tile.slab4)
                .constant("B_SIZE", tile.n * tile.slab4),
            Self::Registers(registers) => Dispatch::new("conv1d_registers", "main")
                .define("SUBGROUPS", registers.subgroups)
                .constant("COLUMNS4", registers.columns4),
            Self::Coop(tile) => tile.product(problem.transposed),
        }
    }
}

/// The tile that every product can have.
pub(super) const SMALL: Tile = Tile { m: 32, n: 32, thread_m4: 1, thread_n4: 1, slab4: 4 };

const fn registers(columns4: u32, subgroups: bool) -> Registers {
    Registers { columns4, subgroups }
}

fn admit_registers(registers: Registers, problem: &Problem, device: &Capabilities) -> Result<Kernel, String> {
    if registers.subgroups && device.subgroup_width != Some(LANES) {
        return Err(format!("no subgroups of {LANES}"));
    }
    if problem.gate && (registers.columns4 != 2 || !problem.columns.is_multiple_of(4)) {
        return Err(format!("no gate of {} channels", problem.columns));
    }
    Ok(Kernel::Registers(registers))
}

fn admit_tile(tile: Tile, problem: &Problem) -> Result<Kernel, String> {
    if problem.gate { Err("no gate".into()) } else { Ok(Kernel::Tile(tile)) }
}

pub(super) fn software(device: &Capabilities) -> Result<(), String> {
    if device.software { Ok(()) } else { Err("for software adapters".into()) }
}

/// Whether a kernel without workgroup memory is worth it: on a software adapter, and where its columns are not half empty.
fn suits_software(registers: Registers, problem: &Problem, device: &Capabilities) -> Result<(), String> {
    software(device)?;
    let columns = 4 * LANES as usize;
    if registers.columns4 > 1 && problem.columns <= columns && !problem.gate {
        return Err(format!("{columns} columns or fewer"));
    }
    Ok(())
}

macro_rules! registers {
    ($name:literal, $registers:expr) => {
        Variant {
            name: $name,
            admits: |problem, device| admit_registers($registers, problem, device),
            suits: |problem, device| suits_software($registers, problem, device),
        }
    };
}

macro_rules! tile {
    ($name:literal, $m:literal x $n:literal, $thread_m4:literal x $thread_n4:literal, slab $slab4:literal) => {
        Variant {
            name: $name,
            admits: |problem, _| {
                let (thread_m4, thread_n4) = ($thread_m4, $thread_n4);
                admit_tile(Tile { m: $m, n: $n, thread_m4, thread_n4, slab4: $slab4 }, problem)
            },
            suits: |problem, _| {
                let (thread_m4, thread_n4) = ($thread_m4, $thread_n4);
                Tile { m: $m, n: $n, thread_m4, thread_n4, slab4: $slab4 }.suits(problem)
            },
        }
    };
}

/// In order of preference.
pub(crate) const VARIANTS: &[Variant<Problem, Kernel>] = &[
    coop::product::<4, 2>("coop 4x2"),
    coop::product::<4, 1>("coop 4x1"),
    coop::product::<2, 1>("coop 2x1"),
    registers!("subgroup 8x64", registers(2, true)),
    registers!("subgroup 8x32", registers(1, true)),
    registers!("registers 8x64", registers(2, false)),
    tile!("tile 128x128", 128 x 128, 2 x 2, slab 4),
    tile!("tile 128x64", 128 x 64, 2 x 1, slab 4),
    tile!("tile 64x64", 64 x 64, 2 x 1, slab 4),
    tile!("tile 128x32", 128 x 32, 2 x 1, slab 2),
    tile!("tile 64x16", 64 x 16, 1 x 1, slab 2),
    Variant { name: "tile 32x32", admits: |problem, _| admit_tile(SMALL, problem), suits: always },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::choose;

    const PLAIN: Problem = Problem { rows: 0, columns: 0, gate: false, channels: 64, transposed: false, half: false };

    #[test]
    fn tiles_keep_to_the_floor_and_each_slab_is_brought_at_once() {
        let problem = Problem { rows: 1 << 20, columns: 64, ..PLAIN };
        for variant in VARIANTS {
            if let Ok(Kernel::Tile(tile)) = (variant.admits)(&problem, &Capabilities::floor()) {
                let threads = tile.threads();
                assert!(threads <= 256 && threads.is_power_of_two(), "{}", variant.name);
                assert!((tile.m + tile.n) * tile.slab4 * 16 <= 16_384, "{}", variant.name);
                assert!((tile.m + tile.n) / 4 * tile.slab4 <= threads, "{}", variant.name);
            }
        }
    }

    #[test]
    fn the_choice_follows_rows_and_columns() {
        let floor = Capabilities::floor();
        let software = Capabilities { software: true, ..floor.clone() };
        let name = |rows, columns, device: &Capabilities| {
            choose("conv1d", VARIANTS, &Problem { rows, columns, ..PLAIN }, device).unwrap().name
        };
        let expected = [
            (65_536, 256, "tile 128x128"),
            (65_536, 128, "tile 128x128"),
            (65_536, 300, "tile 128x128"),
            (65_536, 64, "tile 128x64"),
            (65_536, 65, "tile 128x32"),
            (65_536, 25, "tile 128x32"),
            (65_536, 10, "tile 64x16"),
            (8_192, 64, "tile 64x64"),
            (4_096, 128, "tile 64x64"),
            (64, 10, "tile 32x32"),
        ];
        for (rows, columns, tile) in expected {
            assert_eq!(name(rows, columns, &floor), tile, "{rows} rows, {columns} columns");
        }
        assert_eq!(name(4_096, 64, &software), "registers 8x64");
        let software = Capabilities { subgroup_width: Some(8), ..software };
        assert_eq!(name(4_096, 64, &software), "subgroup 8x64");
        assert_eq!(name(4_096, 32, &software), "subgroup 8x32");
        assert_eq!(name(60, 32, &software), "subgroup 8x32");
        assert_eq!(name(60, 40, &software), "subgroup 8x64");
    }
}
