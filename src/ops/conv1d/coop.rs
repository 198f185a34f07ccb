//! The convolution family on cooperative matrices: the tiles of `conv1d_coop.wgsl` and `conv1d_grad_weight_coop.wgsl`.

use super::grad_weight_gpu::{self, Problem as GradWeight, Split};
use super::tiles::{BUSY, Kernel, Problem};
use crate::device::{Capabilities, Variant};
use crate::graph::Dispatch;

/// Matrices that a subgroup makes: rows, columns.
const MATRICES: [u32; 2] = [2, 4];
/// Depth of the slabs that pass through workgroup memory.
const SLAB: u32 = 32;
/// Groups of four halves at the end of a row in workgroup memory, which move the next row to other banks.
const PADDING4: u32 = 2;

/// A tile of cooperative matrices, made by `subgroups` rows and columns of subgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoopTile {
    /// Rows, columns and depth of a matrix: 16 or 8.
    pub size: u32,
    /// Invocations in a subgroup.
    pub width: u32,
    /// Rows and columns of subgroups in the workgroup.
    pub subgroups: [u32; 2],
}

impl CoopTile {
    /// The tile of so many rows and columns of subgroups on a device, or why there is none.
    pub fn new(subgroups: [u32; 2], capabilities: &Capabilities) -> Result<Self, String> {
        let (Some(size), Some(width)) = (capabilities.cooperative_matrix, capabilities.subgroup_width) else {
            return Err("no cooperative matrices".to_owned());
        };
        let tile = Self { size, width, subgroups };
        let (bytes, threads) = (tile.workgroup_bytes(), tile.threads());
        if bytes > capabilities.workgroup_bytes {
            return Err(format!("needs {bytes} bytes of workgroup memory"));
        }
        // Each thread reads the same four columns of several rows.
        let even = [SLAB, tile.m(), tile.n()].iter().all(|columns| threads.is_multiple_of(columns / 4));
        if threads > capabilities.max_invocations || !even {
            return Err(format!("{threads} threads"));
        }
        Ok(tile)
    }

    pub fn m(self) -> u32 {
        self.subgroups[0] * MATRICES[0] * self.size
    }

    pub fn n(self) -> u32 {
        self.subgroups[1] * MATRICES[1] * self.size
    }

    /// Columns of the target; with `gate` each takes two of the sum.
    pub fn columns(self, gate: bool) -> u32 {
        if gate { self.n() / 2 } else { self.n() }
    }

    fn threads(self) -> u32 {
        self.subgroups[0] * self.subgroups[1] * self.width
    }

    /// Groups of four sums that the subgroups pass through workgroup memory at once: two matrices each.
    fn sums(self) -> u32 {
        self.subgroups[0] * self.subgroups[1] * self.size * (self.size / 2 + 1)
    }

    /// The most that any of the kernels needs.
    fn workgroup_bytes(self) -> u32 {
        let places = self.m().max(SLAB) * 12;
        let by_row = |columns: u32| SLAB * (columns / 4 + PADDING4);
        let by_column = |columns: u32| columns * (SLAB / 4 + PADDING4);
        let a = by_column(self.m()).max(by_row(self.m()));
        let b = by_column(self.n()).max(by_row(self.n()));
        places + (a + b) * 8 + self.sums() * 16
    }

    fn dispatch(self, shader: &'static str, entry: &'static str) -> Dispatch {
        Dispatch::new(shader, entry)
            .define("HALF", true)
            .define("MATRIX_8", self.size == 8)
            .constant("SUBGROUPS_M", self.subgroups[0])
            .constant("SUBGROUPS_N", self.subgroups[1])
            .constant("TILE_N", self.n())
            .constant("THREADS", self.threads())
            .constant("SUMS_SIZE", self.sums())
    }

    /// The kernel of a product, without its operands.
    pub fn product(self, transposed: bool) -> Dispatch {
        let a_stride4 = SLAB / 4 + PADDING4;
        let b_size = if transposed { self.n() * a_stride4 } else { SLAB * (self.n() / 4 + PADDING4) };
        self.dispatch("conv1d_coop", "main")
            .constant("TILE_M", self.m())
            .constant("A_SIZE", self.m() * a_stride4)
            .constant("B_SIZE", b_size)
    }

    /// The kernel of the weight gradient's partial sums, without its operands.
    pub fn grad_weight(self) -> Dispatch {
        self.dispatch("conv1d_grad_weight_coop", "partial_main")
            .constant("TILE_K", self.m())
            .constant("A_SIZE", SLAB * (self.m() / 4 + PADDING4))
            .constant("B_SIZE", SLAB * (self.n() / 4 + PADDING4))
    }
}

/// A variant of the products: `M` rows and `N` columns of subgroups.
pub(super) const fn product<const M: u32, const N: u32>(name: &'static str) -> Variant<Problem, Kernel> {
    Variant {
        name,
        admits: |problem, capabilities| {
            if !problem.half {
                return Err(NOT_HALF.to_owned());
            }
            if !problem.transposed && !problem.channels.is_multiple_of(4) {
                return Err(format!("{} channels in are no multiple of 4", problem.channels));
            }
            if problem.gate && !problem.columns.is_multiple_of(4) {
                return Err(format!("no gate of {} channels", problem.columns));
            }
            CoopTile::new([M, N], capabilities).map(Kernel::Coop)
        },
        suits: |problem, capabilities| {
            let tile = CoopTile::new([M, N], capabilities)?;
            suits(capabilities, [(problem.columns, tile.columns(problem.gate))], Kernel::Coop(tile).workgroups(problem))
        },
    }
}

/// A variant of the weight gradient's partial sums: `M` rows and `N` columns of subgroups.
pub(super) const fn grad_weight<const M: u32, const N: u32>(name: &'static str) -> Variant<GradWeight, Split> {
    Variant {
        name,
        admits: |problem, capabilities| {
            if !problem.half {
                return Err(NOT_HALF.to_owned());
            }
            let tile = CoopTile::new([M, N], capabilities)?;
            Ok(problem.split(grad_weight_gpu::Kernel::Coop(tile), capabilities))
        },
        suits: |problem, capabilities| {
            let tile = CoopTile::new([M, N], capabilities)?;
            let kernel = grad_weight_gpu::Kernel::Coop(tile);
            let workgroups = problem.tiles(kernel) * problem.split(kernel, capabilities).slabs;
            suits(capabilities, [(problem.k, tile.m()), (problem.n, tile.n())], workgroups)
        },
    }
}

const NOT_HALF: &str = "activations are not stored as f16";

/// Whether tiles are worth it: `sides` of the result and of a tile, neither of which may leave more than half of its
/// tiles empty.
fn suits<const SIDES: usize>(
    capabilities: &Capabilities,
    sides: [(usize, u32); SIDES],
    workgroups: usize,
) -> Result<(), String> {
    if capabilities.software {
        return Err("matrices are emulated".to_owned());
    }
    for (size, side) in sides {
        let covered = size.next_multiple_of(side as usize);
        if covered > 2 * size {
            return Err(format!("{size} leave most of {covered} empty"));
        }
    }
    if workgroups < BUSY { Err(format!("{workgroups} workgroups are fewer than {BUSY}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::grad_weight_gpu::VARIANTS as GRAD_WEIGHT_VARIANTS;
    use super::super::tiles::VARIANTS;
    use super::*;
    use crate::device::choose;

    /// What NVIDIA's driver reports.
    fn nvidia() -> Capabilities {
        Capabilities {
            f16: true,
            subgroup_width: Some(32),
            cooperative_matrix: Some(16),
            workgroup_bytes: 48 << 10,
            max_invocations: 1024,
            ..Capabilities::floor()
        }
    }

    fn problem(rows: usize, columns: usize) -> Problem {
        Problem { rows, columns, gate: false, channels: 64, transposed: false, half: true }
    }

    #[test]
    fn large_problems_of_halves_get_matrices() {
        let name = |problem: &Problem, capabilities: &Capabilities| {
            choose("conv1d", VARIANTS, problem, capabilities).unwrap().name
        };
        assert_eq!(name(&problem(1 << 16, 128), &nvidia()), "coop 4x2");
        assert_eq!(name(&problem(1 << 16, 60), &nvidia()), "coop 4x1");
        assert_eq!(name(&problem(1 << 13, 64), &nvidia()), "coop 2x1");
        let ordinary = [
            (problem(1 << 12, 64), nvidia()),
            (problem(1 << 16, 20), nvidia()),
            (Problem { half: false, ..problem(1 << 16, 128) }, nvidia()),
            (Problem { channels: 6, ..problem(1 << 16, 128) }, nvidia()),
            (problem(1 << 16, 128), Capabilities { software: true, ..nvidia() }),
            (problem(1 << 16, 128), Capabilities { cooperative_matrix: None, ..nvidia() }),
            (problem(1 << 16, 128), Capabilities { workgroup_bytes: 8 << 10, ..nvidia() }),
        ];
        for (problem, capabilities) in ordinary {
            assert!(!name(&problem, &capabilities).contains("coop"), "{} x {}", problem.rows, problem.columns);
        }
        assert_eq!(name(&Problem { channels: 6, transposed: true, ..problem(1 << 16, 128) }, &nvidia()), "coop 4x2");
        // WebGPU's least has no room for the largest tile.
        let little = Capabilities { workgroup_bytes: 32 << 10, ..nvidia() };
        assert_eq!(name(&problem(1 << 16, 128), &little), "coop 4x1");
    }

    #[test]
    fn weight_gradients_split_time_to_get_matrices() {
        let name = |k, n, rows, half| {
            let problem = GradWeight { k, n, second: None, rows, half };
            choose("conv1d_grad_weight", GRAD_WEIGHT_VARIANTS, &problem, &nvidia()).unwrap().name
        };
        assert_eq!(name(132, 128, 1 << 16, true), "coop 4x1");
        assert_eq!(name(68, 64, 1 << 16, true), "coop 4x1");
        assert_eq!(name(52, 64, 1 << 16, true), "coop 2x1");
        for ordinary in [name(132, 128, 1 << 16, false), name(20, 64, 1 << 16, true), name(68, 64, 1 << 11, true)] {
            assert!(!ordinary.contains("coop"), "{ordinary}");
        }
    }

    #[test]
    fn tiles_on_known_devices() {
        let tile = CoopTile::new([4, 2], &nvidia()).unwrap();
        assert_eq!((tile.m(), tile.n(), tile.threads()), (128, 128, 256));
        let software = Capabilities { subgroup_width: Some(8), cooperative_matrix: Some(8), ..nvidia() };
        let tile = CoopTile::new([4, 1], &software).unwrap();
        assert_eq!((tile.m(), tile.n(), tile.threads()), (64, 32, 32));
        // 8 threads don't come out even with 16 groups of columns.
        let narrow = Capabilities { subgroup_width: Some(8), ..nvidia() };
        assert_eq!(CoopTile::new([1, 1], &narrow).unwrap_err(), "8 threads");
    }
}
