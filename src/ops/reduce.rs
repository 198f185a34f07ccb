//! The end of every loss on the GPU: many pairs of numbers summed to one, in a fixed order.

use bytemuck::{Pod, Zeroable};

use crate::graph::{Binding, Dispatch, Operand};

/// Pairs that a workgroup sums.
const CHUNK: usize = 4096;

/// What becomes of the sums of (value, weight).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Total<'a> {
    /// `y = factor · Σ value`.
    Scaled { factor: f32, y: &'a Operand },
    /// `y = Σ value / Σ weight`, 0 if there is no weight; `weight = Σ weight`. Weights are whole numbers.
    Mean { y: &'a Operand, weight: &'a Operand },
}

/// The dispatches that sum `count` pairs (at most `planned`) lying in `source`, by way of scratch buffer `scratch`.
pub(crate) fn reduce(source: Binding, planned: usize, count: usize, scratch: usize, total: Total<'_>) -> Vec<Dispatch> {
    let mut dispatches = Vec::new();
    let (mut from, mut left) = (source, count);
    if planned > CHUNK {
        let sums = Binding::Scratch { index: scratch, elements: 2 * planned.div_ceil(CHUNK) };
        let chunks = count.div_ceil(CHUNK);
        let params = Params { workgroups: chunks as u32, count: count as u32, chunk: CHUNK as u32, ..Params::zeroed() };
        let dispatch = Dispatch::new("reduce", "main").read(source).write(sums);
        dispatches.push(dispatch.params(&params).workgroups(chunks));
        (from, left) = (sums, chunks);
    }
    let all = Params { workgroups: 1, count: left as u32, chunk: left as u32, ..Params::zeroed() };
    let dispatch = Dispatch::new("reduce", "main").read(from).workgroups(1);
    dispatches.push(match total {
        Total::Scaled { factor, y } => {
            dispatch.define("TOTAL", true).write(y.binding).params(&Params { factor, y_offset4: y.place4().0, ..all })
        }
        Total::Mean { y, weight } => dispatch
            .define("MEAN", true)
            .write(y.binding)
            .write(weight.binding)
            .params(&Params { y_offset4: y.place4().0, weight_offset4: weight.place4().0, ..all }),
    });
    dispatches
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    count: u32,
    chunk: u32,
    factor: f32,
    y_offset4: u32,
    weight_offset4: u32,
}
