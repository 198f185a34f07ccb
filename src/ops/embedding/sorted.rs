//! The gradient of a large table: positions are sorted by class, and each class sums its own, in order of position.
//!
//! A class that comes often would be summed by one thread: the sorted positions are cut in pieces of [`PIECE`], the first piece of
//! a class is summed by itself, what lies in further ones before, and then they are added in order. Both executors do so.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::grad::{EmbeddingGrad, Way};
use crate::device::Choice;
use crate::graph::{Binding, CpuRun, Dispatch, GpuPlan, Real, View};
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
    rows_offset: u32,
}

impl EmbeddingGrad {
    /// All rows of the table: those that don't come cost their zeros, wherever the table ends.
    pub(super) fn table_dispatches(&self, plan: &GpuPlan<'_>, choice: Choice<Way>) -> Vec<Dispatch> {
        let dtable = &plan.outputs[0];
        let (table_offset4, table_stride4) = dtable.place4();
        let params = Params { table_offset4, table_stride4, ..self.params(plan) };
        let (mut dispatches, sum) = self.sorted_dispatches(plan, &params);
        let sum = sum("sum_main").write(dtable.binding).params(&params).variant(choice);
        dispatches.push(sum.workgroups(self.table.rows().div_ceil(TABLE_ROWS)));
        dispatches
    }

    /// The rows that come.
    pub(super) fn row_dispatches(&self, plan: &GpuPlan<'_>) -> Vec<Dispatch> {
        let (rows, values) = (&plan.outputs[0], &plan.outputs[1]);
        let (table_offset4, table_stride4) = values.place4();
        let params = Params { table_offset4, table_stride4, rows_offset: rows.offset as u32, ..self.params(plan) };
        let (mut dispatches, sum) = self.sorted_dispatches(plan, &params);
        let sum = sum("rows_main").define("ROWS", true).write(rows.binding).write(values.binding).params(&params);
        dispatches.push(sum.workgroups(values.shape.rows().div_ceil(TABLE_ROWS)));
        dispatches
    }

    fn params(&self, plan: &GpuPlan<'_>) -> Params {
        let (ids, dy) = (&plan.inputs[0], &plan.inputs[1]);
        let taps = self.geometry.kernel;
        let map = self.geometry.forward(ids.shape.time);
        let (dy_offset4, dy_stride4) = dy.place4();
        Params {
            entries: (taps * dy.shape.rows()).next_multiple_of(BLOCK) as u32,
            run: BLOCK as u32,
            rows: dy.shape.rows() as u32,
            time: dy.shape.time as u32,
            ids_time: ids.shape.time as u32,
            taps: taps as u32,
            classes: self.table.time as u32,
            channels4: dy.channels4(),
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            dy_offset4,
            dy_stride4,
            ..Params::default()
        }
    }

    /// What sorts the positions and sums pieces of them; and the beginning of what then makes sums of classes.
    fn sorted_dispatches(
        &self,
        plan: &GpuPlan<'_>,
        params: &Params,
    ) -> (Vec<Dispatch>, impl Fn(&'static str) -> Dispatch) {
        let (ids, dy) = (plan.inputs[0].binding, &plan.inputs[1]);
        let planned = (self.geometry.kernel * dy.planned.rows()).next_multiple_of(BLOCK);
        let (entries, channels4) = (params.entries as usize, params.channels4 as usize);
        let kernel = |entry: &'static str, define: &'static str| {
            Dispatch::new("embedding_grad_sorted", entry).define(define, true)
        };
        let sorted = |index: usize| Binding::Scratch { index, elements: 2 * planned };
        let sums = Binding::Scratch { index: 2, elements: planned / PIECE * 4 * channels4 };

        let sort = kernel("sort_main", "SORT").read(ids).write(sorted(0)).params(params);
        let mut dispatches = vec![sort.workgroups(entries / BLOCK)];
        let (mut run, mut last) = (BLOCK, 0);
        while run < planned {
            let merge = kernel("merge_main", "MERGE").read(sorted(last)).write(sorted(1 - last));
            dispatches.push(merge.params(&Params { run: run as u32, ..*params }).workgroups(entries.div_ceil(256)));
            (run, last) = (run * RUNS, 1 - last);
        }
        let (sorted, dy) = (sorted(last), dy.binding);
        let pieces = kernel("piece_main", "PIECES").read(sorted).read(dy).write(sums).params(params);
        dispatches.push(pieces.workgroups((entries / PIECE * channels4).div_ceil(64)));
        let sum = move |entry| {
            let sum = kernel(entry, "SUMS").constant("LANES", LANES as u32);
            sum.read(sorted).read(dy).read(sums)
        };
        (dispatches, sum)
    }

    /// All rows of the table.
    pub(super) fn sum_table<T: Real>(&self, run: &mut CpuRun<'_, T>) {
        let (dy, dtable) = (&run.inputs[1], &mut run.outputs[0]);
        let sorted = self.sorted(&run.inputs[0], dy);
        let (stride, padded) = (dtable.stride, self.table.stride());
        let end = dtable.data.len().min(self.table.rows() * stride);
        dtable.data[..end].par_chunks_mut(stride * TABLE_ROWS).enumerate().for_each(|(chunk, rows)| {
            let first = chunk * TABLE_ROWS;
            let mut at = sorted.partition_point(|entry| entry.class < first as u32);
            for (row, sum) in rows.chunks_mut(stride).enumerate() {
                let entries = of_class(&sorted[at..], (first + row) as u32);
                sum_class(at, entries, dy, &mut sum[..padded]);
                at += entries.len();
            }
        });
    }

    /// The rows that come.
    pub(super) fn sum_rows<T: Real>(&self, run: &mut CpuRun<'_, T>) {
        let dy = &run.inputs[1];
        let sorted = self.sorted(&run.inputs[0], dy);
        let [rows, values] = run.outputs.as_mut_slice() else { return };
        let (stride, padded, count) = (values.stride, values.shape.stride(), values.shape.rows());
        let chunks = values.data[..count * stride].par_chunks_mut(stride * TABLE_ROWS);
        rows.row(0).fill(-T::ONE);
        let rows = rows.data[..count].par_chunks_mut(TABLE_ROWS);
        chunks.zip(rows).enumerate().for_each(|(chunk, (values, rows))| {
            for (row, (sum, class)) in values.chunks_mut(stride).zip(rows).enumerate() {
                let at = chunk * TABLE_ROWS + row;
                let first = sorted.get(at).filter(|first| at == 0 || sorted[at - 1].class != first.class);
                let entries = first.map_or(&[][..], |first| of_class(&sorted[at..], first.class));
                *class = first.map_or(*class, |first| T::of(f64::from(first.class)));
                sum_class(at, entries, dy, &mut sum[..padded]);
            }
        });
    }

    /// The positions of classes.
    fn sorted<T: Real>(&self, ids: &View<'_, T>, dy: &View<'_, T>) -> Vec<Entry> {
        let (map, classes, time) = (self.geometry.forward(ids.shape.time), self.table.time, dy.shape.time);
        let entry = |tap: usize, row: usize| {
            let (sequence, at) = (row / time, row % time);
            let from = map.source(at, tap, ids.shape.time)?;
            let id = ids.ids[sequence * ids.shape.time + from] as usize;
            (id < classes).then_some(Entry { class: (tap * classes + id) as u32, row: row as u32 })
        };
        let taps = 0..self.geometry.kernel;
        let mut entries: Vec<Entry> =
            taps.flat_map(|tap| (0..dy.shape.rows()).filter_map(move |row| entry(tap, row))).collect();
        entries.par_sort_unstable();
        entries
    }
}

/// A row of the table, and a row of `dy` that is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    class: u32,
    row: u32,
}

/// The entries of a class that come first.
fn of_class(entries: &[Entry], class: u32) -> &[Entry] {
    let count = entries.iter().take_while(|entry| entry.class == class).count();
    &entries[..count]
}

/// Sums the entries of a class, of which the first is the sorted entry number `at`.
fn sum_class<T: Real>(at: usize, entries: &[Entry], dy: &View<'_, T>, sum: &mut [T]) {
    sum.fill(T::ZERO);
    let (own, further) = entries.split_at(entries.len().min(PIECE - at % PIECE));
    own.iter().for_each(|entry| add_to(sum, dy.row(entry.row as usize)));
    if further.is_empty() {
        return;
    }
    let mut piece_sum = vec![T::ZERO; sum.len()];
    for piece in further.chunks(PIECE) {
        piece_sum.fill(T::ZERO);
        piece.iter().for_each(|entry| add_to(&mut piece_sum, dy.row(entry.row as usize)));
        add_to(sum, &piece_sum);
    }
}
