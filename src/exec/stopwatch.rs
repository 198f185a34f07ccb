//! Timestamps that the device takes in the course of a step.

use std::time::Duration;

use super::timing::{Log, Timing};
use crate::device::Gpu;
use crate::error::Result;

/// Queries that WebGPU allows in a set.
const SET: usize = wgpu::QUERY_SET_MAX_QUERIES as usize;
const TICK_BYTES: u64 = wgpu::QUERY_SIZE as u64;

/// Where a step's timestamps are taken. Steps follow one another on the device, so one set of queries serves them all.
#[derive(Debug)]
pub(super) struct Stopwatch {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    queries: usize,
    /// Nanoseconds of a tick.
    period: f64,
    /// The operator of each dispatch, where they are timed one by one.
    ops: Option<Vec<usize>>,
}

impl Stopwatch {
    /// A stopwatch for `mode`, given the operator of each dispatch.
    pub fn new(gpu: &Gpu, mode: Timing, ops: &[usize]) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let ops = (mode == Timing::Op).then(|| ops.to_vec());
        let queries = 2 * ops.as_ref().map_or(1, Vec::len);
        let counts: Vec<usize> = (0..queries).step_by(SET).map(|start| SET.min(queries - start)).collect();
        let set = |&count: &usize| {
            gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: count as u32,
            })
        };
        let sets = gpu.scoped("timestamps", || counts.iter().map(set).collect())?;
        let bytes = queries as u64 * TICK_BYTES;
        let resolved = gpu.buffer("timestamps", bytes, Usage::QUERY_RESOLVE | Usage::COPY_SRC)?;
        let period = f64::from(gpu.queue().get_timestamp_period());
        Ok(Self { sets, resolved, queries, period, ops })
    }

    /// Bytes of a step's timestamps.
    pub fn bytes(&self) -> u64 {
        self.queries as u64 * TICK_BYTES
    }

    /// Whether each dispatch is a pass of its own.
    pub fn by_dispatch(&self) -> bool {
        self.ops.is_some()
    }

    /// The timestamps that a pass of the dispatches from `first` to before `end`, of `dispatches` in all, takes.
    pub fn writes(&self, first: usize, end: usize, dispatches: usize) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let (begin, finish) = match self.by_dispatch() {
            true => (Some(2 * first), Some(2 * first + 1)),
            false => ((first == 0).then_some(0), (end == dispatches).then_some(1)),
        };
        let query_set = self.sets.get(begin.or(finish)? / SET)?;
        let index = |query: usize| (query % SET) as u32;
        Some(wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: begin.map(index),
            end_of_pass_write_index: finish.map(index),
        })
    }

    /// Records how the timestamps get into `target`, at `offset`.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder, target: &wgpu::Buffer, offset: u64) {
        for (index, set) in self.sets.iter().enumerate() {
            let first = index * SET;
            let count = SET.min(self.queries - first) as u32;
            encoder.resolve_query_set(set, 0..count, &self.resolved, first as u64 * TICK_BYTES);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, target, offset, self.bytes());
    }

    /// Notes a step's timestamps.
    pub fn read(&self, ticks: &[u64], log: &mut Log) {
        let between =
            |from: u64, to: u64| Duration::from_nanos((to.saturating_sub(from) as f64 * self.period).round() as u64);
        if let (Some(first), Some(last)) = (ticks.first(), ticks.last()) {
            log.add_step(between(*first, *last));
        }
        for (&op, ticks) in self.ops.iter().flatten().zip(ticks.chunks_exact(2)) {
            log.add_op(op, between(ticks[0], ticks[1]));
        }
    }
}
