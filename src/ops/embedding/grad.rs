//! The gradient of an embedding's table.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, Real, Shape, cpu_reference, expect_kinds, pad4,
    shape_error,
};
use crate::ops::Geometry;
use crate::ops::conv1d::add_to;

/// `dE[k, c] = Σ_{t: ids[t · stride + k · dilation − pad_left] = c} dy[t]`. Inputs: ids, `dy`. Output: shaped as the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EmbeddingGrad {
    pub geometry: Geometry,
    pub table: Shape,
}

/// Slabs of rows that are summed apart, at most: on threads of their own, and a class that comes often loses fewer digits.
const SLABS: usize = 16;
/// Rows of a slab, at least.
const MIN_SLAB: usize = 1024;

impl EmbeddingGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        if fits_workgroup(&self.table, 1).is_ok() {
            self.sum_slabs(run);
        } else {
            self.sum_table(run);
        }
        Ok(())
    }

    /// Each slab of rows has a table of its own; the tables are added in order.
    fn sum_slabs<T: Real>(&self, run: &mut CpuRun<'_, T>) {
        let (ids, dy, dtable) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (map, classes, time) = (self.geometry.forward(ids.shape.time), self.table.time, dy.shape.time);
        let (rows, stride, padded) = (dy.shape.rows(), dtable.stride, self.table.stride());
        let table_rows = self.table.rows();
        // A table costs as much as its rows, however few are used.
        let slab_rows = rows.div_ceil(SLABS).max(MIN_SLAB).max(table_rows);
        let sum_slab = |first: usize, sums: &mut [T]| {
            sums.fill(T::ZERO);
            for row in first..rows.min(first + slab_rows) {
                let (sequence, at) = (row / time, row % time);
                for tap in 0..self.geometry.kernel {
                    let Some(from) = map.source(at, tap, ids.shape.time) else { continue };
                    let id = ids.ids[sequence * ids.shape.time + from] as usize;
                    if id < classes {
                        add_to(&mut sums[(tap * classes + id) * stride..][..padded], dy.row(row));
                    }
                }
            }
        };
        let sums = &mut dtable.data[..table_rows * stride];
        let starts: Vec<usize> = (slab_rows..rows).step_by(slab_rows).collect();
        let (_, others) = rayon::join(
            || sum_slab(0, sums),
            || {
                let table = |&first: &usize| {
                    let mut table = vec![T::ZERO; table_rows * stride];
                    sum_slab(first, &mut table);
                    table
                };
                starts.par_iter().map(table).collect::<Vec<Vec<T>>>()
            },
        );
        let others = &others;
        sums.par_chunks_mut(PART).enumerate().for_each(|(part, sums)| {
            for table in others {
                add_to(sums, &table[part * PART..][..sums.len()]);
            }
        });
    }
}

/// Elements of the table that one task adds up.
const PART: usize = 4096;

/// How the sum is made on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In workgroup memory, of so many groups of 4 channels at a time: each workgroup reads all ids of its slab of rows.
    Shared {
        /// A power of two.
        groups: usize,
    },
    /// From positions sorted by class (`sorted.rs`): what does not come costs no more than its zeros.
    Sorted,
}

/// Sums that fit in workgroup memory: 16 KiB of 4 channels.
const SHARED_SUMS: usize = 1024;

fn fits_workgroup(table: &Shape, groups: usize) -> Result<Way, String> {
    if table.time * groups <= SHARED_SUMS {
        Ok(Way::Shared { groups })
    } else {
        Err(format!("{} classes of {groups} × 4 channels don't fit in workgroup memory", table.time))
    }
}

/// 4 groups make reads of 64 bytes.
pub(crate) const WAYS: &[Variant<Shape, Way>] = &[
    Variant {
        name: "sums of 16 channels in workgroup memory",
        admits: |table, _| fits_workgroup(table, 4),
        suits: always,
    },
    Variant {
        name: "sums of 8 channels in workgroup memory",
        admits: |table, _| fits_workgroup(table, 2),
        suits: always,
    },
    Variant {
        name: "sums of 4 channels in workgroup memory",
        admits: |table, _| fits_workgroup(table, 1),
        suits: always,
    },
    Variant { name: "positions sorted by class", admits: |_, _| Ok(Way::Sorted), suits: always },
];

/// Workgroups to aim for: the time is split no finer than it must be.
const WORKGROUPS: usize = 512;
/// Elements of scratch memory, at most: 64 MB.
const MAX_SCRATCH: usize = 1 << 24;

/// Slabs of rows, each with a whole table of its own: not more rows of tables than rows to sum, give or take.
fn slabs(table: &Shape, rows: usize, groups: usize) -> usize {
    let tiles = table.batch * table.channels.div_ceil(4 * groups);
    let by_rows = rows / 64.max(table.time / 2);
    let by_memory = MAX_SCRATCH / table.padded_len();
    WORKGROUPS.div_ceil(tiles).min(by_rows).min(by_memory).max(1)
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    slab_rows: u32,
    slabs: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    table_offset4: u32,
    table_stride4: u32,
}

impl Op for EmbeddingGrad {
    fn name(&self) -> &'static str {
        "embedding_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Ids, Kind::Real])?;
        let (ids, dy) = (inputs[0], inputs[1]);
        let fits = self.geometry.out_time(ids.time) == Some(dy.time)
            && ids.batch == dy.batch
            && self.table.channels == dy.channels;
        if fits {
            Ok(vec![self.table])
        } else {
            Err(shape_error(self, format!("input {ids}, gradient {dy} and table {} don't fit", self.table)))
        }
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let choice: Choice<Way> = choose("embedding_grad", WAYS, &self.table, plan.capabilities)?;
        Ok(match choice.value {
            Way::Shared { groups } => self.shared_dispatches(plan, groups, choice),
            Way::Sorted => self.table_dispatches(plan, choice),
        })
    }
}

impl EmbeddingGrad {
    fn shared_dispatches(&self, plan: &GpuPlan<'_>, groups: usize, choice: Choice<Way>) -> Vec<Dispatch> {
        let (ids, dy, dtable) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        let slab_rows = dy.planned.rows().div_ceil(slabs(&self.table, dy.planned.rows(), groups));
        let planned_slabs = dy.planned.rows().div_ceil(slab_rows);
        let slabs = dy.shape.rows().div_ceil(slab_rows);
        let channels4 = dy.channels4() as usize;
        let workgroups = slabs * self.table.batch * channels4.div_ceil(groups);
        let scratch =
            Binding::Scratch { index: 0, elements: planned_slabs * self.table.rows() * pad4(dy.shape.channels) };
        let map = self.geometry.forward(ids.shape.time);
        let (dy_offset4, dy_stride4) = dy.place4();
        let (table_offset4, table_stride4) = dtable.place4();
        let params = Params {
            workgroups: workgroups as u32,
            rows: dy.shape.rows() as u32,
            time: dy.shape.time as u32,
            ids_time: ids.shape.time as u32,
            taps: self.geometry.kernel as u32,
            classes: self.table.time as u32,
            channels4: channels4 as u32,
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            slab_rows: slab_rows as u32,
            slabs: slabs as u32,
            dy_offset4,
            dy_stride4,
            table_offset4,
            table_stride4,
        };
        let partial = Dispatch::new("embedding_grad", "partial_main")
            .define("PARTIAL", true)
            .constant("GROUPS", groups as u32)
            .constant("SUMS", (self.table.time * groups) as u32);
        let partial = partial.read(ids.binding).read(dy.binding).write(scratch).params(&params);
        let reduce = Dispatch::new("embedding_grad", "reduce_main").define("REDUCE", true);
        let reduce = reduce.read(scratch).write(dtable.binding).params(&params);
        vec![
            partial.workgroups(workgroups).variant(choice),
            reduce.workgroups((self.table.rows() * channels4).div_ceil(64)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Capabilities;

    #[test]
    fn the_split_keeps_a_gpu_busy_and_the_memory_bounded() {
        let way = |table: Shape, rows| {
            let way = choose("embedding_grad", WAYS, &table, &Capabilities::floor()).unwrap().value;
            match way {
                Way::Shared { groups } => Some((groups, slabs(&table, rows, groups))),
                Way::Sorted => None,
            }
        };
        // WaveNet's input on 8-bit audio: 64 slabs × 2 taps × 4 tiles of 16 channels.
        assert_eq!(way(Shape::new(2, 256, 64), 65_536), Some((4, 64)));
        assert_eq!(way(Shape::new(1, 512, 64), 65_536), Some((2, 64)));
        assert_eq!(way(Shape::new(1, 1024, 64), 65_536), Some((1, 32)));
        assert_eq!(way(Shape::new(1, 5, 1), 3), Some((4, 1)));
        // Words.
        assert_eq!(way(Shape::new(1, 10_000, 600), 1280), None);
    }
}
