//! The layer on the CPU: a tile of rows goes through convolution, gate and residual while it is in the cache.

use rayon::prelude::*;

use super::WaveNetLayer;
use crate::graph::{CpuRun, ROW_TILE, Real, Rows, View, multiply};
use crate::ops::Activation;
use crate::ops::conv1d::{Finish, add_to, forward_panels};
use crate::ops::gate::{condition_row, gate_rows};

pub(super) fn forward<T: Real>(layer: &WaveNetLayer, run: &mut CpuRun<'_, T>) {
    let references: Vec<&View<'_, T>> = run.inputs.iter().collect();
    let inputs = layer.sort(&references);
    let x = inputs.x;
    let (rows, time, residual) = (x.shape.rows(), x.shape.time, x.shape.channels);
    let map = layer.geometry().forward(0);
    let dilated = forward_panels(inputs.dilated, layer.kernel);
    let dilated_finish = Finish { bias: inputs.dilated_bias, add: None, activation: Activation::Identity };
    let projection = inputs.residual.map(|weight| forward_panels(weight, 1));
    let projection_finish = Finish { bias: inputs.residual_bias, add: Some(x), activation: Activation::Identity };

    let [z, pre, rest @ ..] = run.outputs.as_mut_slice() else { return };
    let gate = z.shape.channels;
    let (z_stride, pre_stride, z_padded, pre_padded) = (z.stride, pre.stride, z.shape.stride(), pre.shape.stride());
    let h_stride = rest.first().map_or(1, |h| h.stride);
    let tiles = rows.div_ceil(ROW_TILE);
    // A layer without residual goes through the same loop with an empty piece of `h` for each tile.
    let h_tiles: Vec<&mut [T]> = match rest.first_mut() {
        Some(h) => h.data.chunks_mut(ROW_TILE * h_stride).take(tiles).collect(),
        None => (0..tiles).map(|_| <&mut [T]>::default()).collect(),
    };
    z.data
        .par_chunks_mut(ROW_TILE * z_stride)
        .zip(pre.data.par_chunks_mut(ROW_TILE * pre_stride))
        .zip(h_tiles)
        .enumerate()
        .take(tiles)
        .for_each(|(tile, ((z, pre), h))| {
            let first = tile * ROW_TILE;
            let count = ROW_TILE.min(rows - first);
            // Of a shorter extent than the planned one, rows lie behind the last.
            let (pre, z, h) =
                (first_rows(pre, count, pre_stride), first_rows(z, count, z_stride), first_rows(h, count, h_stride));
            let source = map.rows(x, 0..layer.kernel, time, first, count);
            multiply(&source, &dilated, pre, pre_stride, first, &dilated_finish);
            if let Some(condition) = inputs.condition {
                for (row, pre) in pre.chunks_mut(pre_stride).enumerate() {
                    add_to(&mut pre[..2 * gate], condition.row(condition_row(&condition.shape, time, first + row)));
                }
            }
            gate_rows(pre, pre_stride, gate, z, z_stride);
            if let Some(weight) = &projection {
                multiply(&Rows::dense(z, gate, count, z_stride), weight, h, h_stride, first, &projection_finish);
            }
            for (tile, stride, end, padded) in [
                (pre, pre_stride, 2 * gate, pre_padded),
                (z, z_stride, gate, z_padded),
                (h, h_stride, residual, x.shape.stride()),
            ] {
                if padded > end {
                    tile.chunks_mut(stride).for_each(|values| values[end..padded].fill(T::ZERO));
                }
            }
        });
}

fn first_rows<T>(tile: &mut [T], count: usize, stride: usize) -> &mut [T] {
    let end = tile.len().min(count * stride);
    &mut tile[..end]
}
