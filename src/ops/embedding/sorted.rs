//! The gradient of a large table: positions are sorted by class, and each class sums its own, in order of position. A class costs
//! its positions and one row of zeros, wherever the table ends.
//!
//! A class that comes often would be summed by one thread: the sorted positions are cut in pieces of [`PIECE`], the first piece of
//! a class is summed by itself, what lies in further ones before, and then they are added in order. Both executors do so.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::grad::{EmbeddingGrad, Way};
use crate::device::Choice;
use crate::graph::{Binding, CpuRun, Dispatch, GpuPlan, Real};
use crate::ops::conv1d::add_to;

/// Sorted positions that are summed one after the other; the same as in `embedding_grad_sorted.wgsl`.
const PIECE: usize = 64;
/// Positions that a workgroup sorts in its memory, 8 bytes each.
const BLOCK: usize = 1024;
/// Sorted runs that are merged to one at a time.
const RUNS: usize = 16;
/// Threads of a row of the table, and rows of a workgroup.
const LANES: usize = 16;
const TABLE_ROWS: usize = 256 / LANES;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    entries: u32,
    run: u32,
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    dy_offset4: u32,
    dy_stride4: u32,
    table_offset4: u32,
    table_stride4: u32,
}

impl EmbeddingGrad {
    pub(super) fn sorted_dispatches(&self, plan: &GpuPlan<'_>, choice: Choice<Way>) -> Vec<Dispatch> {
        let (ids, dy, dtable) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        let taps = self.geometry.kernel;
        let planned = (taps * dy.planned.rows()).next_multiple_of(BLOCK);
        let entries = (taps * dy.shape.rows()).next_multiple_of(BLOCK);
        let (pieces, channels4) = (entries / PIECE, dy.channels4() as usize);
        let map = self.geometry.forward(ids.shape.time);
        let (dy_offset4, dy_stride4) = dy.place4();
        let (table_offset4, table_stride4) = dtable.place4();
        let params = Params {
            entries: entries as u32,
            run: BLOCK as u32,
            rows: dy.shape.rows() as u32,
            time: dy.shape.time as u32,
            ids_time: ids.shape.time as u32,
            taps: taps as u32,
            classes: self.table.time as u32,
            channels4: channels4 as u32,
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            dy_offset4,
            dy_stride4,
            table_offset4,
            table_stride4,
        };
        let kernel = |entry: &'static str, define: &'static str| {
            Dispatch::new("embedding_grad_sorted", entry).define(define, true)
        };
        let sorted = |index: usize| Binding::Scratch { index, elements: 2 * planned };
        let sums = Binding::Scratch { index: 2, elements: planned / PIECE * 4 * channels4 };

        let sort = kernel("sort_main", "SORT").read(ids.binding).write(sorted(0)).params(&params);
        let mut dispatches = vec![sort.workgroups(entries / BLOCK).variant(choice)];
        let (mut run, mut last) = (BLOCK, 0);
        while run < planned {
            let merge = kernel("merge_main", "MERGE").read(sorted(last)).write(sorted(1 - last));
            dispatches.push(merge.params(&Params { run: run as u32, ..params }).workgroups(entries.div_ceil(256)));
            (run, last) = (run * RUNS, 1 - last);
        }
        let pieces_sum = kernel("piece_main", "PIECES").read(sorted(last)).read(dy.binding).write(sums).params(&params);
        dispatches.push(pieces_sum.workgroups((pieces * channels4).div_ceil(64)));
        let sum = kernel("sum_main", "SUM").constant("LANES", LANES as u32);
        let sum = sum.read(sorted(last)).read(dy.binding).read(sums).write(dtable.binding).params(&params);
        dispatches.push(sum.workgroups(self.table.rows().div_ceil(TABLE_ROWS)));
        dispatches
    }

    pub(super) fn sum_sorted<T: Real>(&self, run: &mut CpuRun<'_, T>) {
        let (ids, dy, dtable) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (map, classes, time) = (self.geometry.forward(ids.shape.time), self.table.time, dy.shape.time);
        let class_of = |tap: usize, row: usize| {
            let (sequence, at) = (row / time, row % time);
            let from = map.source(at, tap, ids.shape.time)?;
            let id = ids.ids[sequence * ids.shape.time + from] as usize;
            (id < classes).then_some(tap * classes + id)
        };
        let entries = || (0..self.geometry.kernel).flat_map(|tap| (0..dy.shape.rows()).map(move |row| (tap, row)));
        // Sorted by counting: where the positions of each class end, once all of them are in place.
        let mut ends = vec![0_usize; self.table.rows() + 1];
        entries().filter_map(|(tap, row)| class_of(tap, row)).for_each(|class| ends[class + 1] += 1);
        for class in 1..ends.len() {
            ends[class] += ends[class - 1];
        }
        let mut sorted = vec![0_u32; ends[self.table.rows()]];
        for (tap, row) in entries() {
            if let Some(class) = class_of(tap, row) {
                sorted[ends[class]] = row as u32;
                ends[class] += 1;
            }
        }
        let (stride, padded) = (dtable.stride, self.table.stride());
        let end = dtable.data.len().min(self.table.rows() * stride);
        dtable.data[..end].par_chunks_mut(stride * TABLE_ROWS).enumerate().for_each(|(chunk, rows)| {
            let mut piece_sum = vec![T::ZERO; padded];
            for (row, sum) in rows.chunks_mut(stride).enumerate() {
                let class = chunk * TABLE_ROWS + row;
                let (mut first, end) = (if class == 0 { 0 } else { ends[class - 1] }, ends[class]);
                let sum = &mut sum[..padded];
                sum.fill(T::ZERO);
                let own = first..end.min((first + 1).next_multiple_of(PIECE));
                sorted[own.clone()].iter().for_each(|&row| add_to(sum, dy.row(row as usize)));
                first = own.end;
                while first < end {
                    piece_sum.fill(T::ZERO);
                    let next = end.min(first + PIECE);
                    sorted[first..next].iter().for_each(|&row| add_to(&mut piece_sum, dy.row(row as usize)));
                    add_to(sum, &piece_sum);
                    first = next;
                }
            }
        });
    }
}
