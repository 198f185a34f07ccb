//! The convolution family on cooperative matrices: the tiles of `conv1d_coop.wgsl` and `conv1d_grad_weight_coop.wgsl`.

use super::gpu::Tile;
use crate::device::Capabilities;
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
        // Threads read the same column of every row.
        let columns = SLAB.max(tile.m()).max(tile.n()) / 4;
        if threads > capabilities.max_invocations || !threads.is_multiple_of(columns) {
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

    pub fn tile(self) -> Tile {
        Tile { m: self.m(), n: self.n(), coop: Some(self) }
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
        let places = self.m().max(SLAB) * 8;
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
