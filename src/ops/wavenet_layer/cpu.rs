//! The layer on the CPU: a tile of rows goes through convolution, gate and residual while it is in the cache.

use rayon::prelude::*;

use super::WaveNetLayer;
use crate::graph::{CpuRun, Matrix, ROW_TILE, Real, gemm};
use crate::ops::conv1d::{Gathered, add_to};
use crate::ops::gate::{condition_row, gate_row};

pub(super) fn forward<T: Real>(layer: &WaveNetLayer, run: &mut CpuRun<'_, T>) {
    let inputs = layer.sort(&run.inputs);
    let x = inputs.x;
    let (rows, time, residual) = (x.shape.rows(), x.shape.time, x.shape.channels);
    let map = layer.geometry().forward();
    let weight = Matrix::rows(inputs.dilated.data, inputs.dilated.stride);

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
            let gathered = Gathered::new(&x, map, layer.kernel, time, first, count);
            let size = (count, 2 * gate, layer.kernel * residual);
            gemm(size, pre, pre_stride, false, gathered.matrix(), weight);
            for row in 0..count {
                let pre = &mut pre[row * pre_stride..][..pre_padded];
                pre[2 * gate..].fill(T::ZERO);
                let pre = &mut pre[..2 * gate];
                if let Some(bias) = inputs.dilated_bias {
                    add_to(pre, bias.row(0));
                }
                if let Some(condition) = inputs.condition {
                    add_to(pre, condition.row(condition_row(&condition.shape, time, first + row)));
                }
                let z = &mut z[row * z_stride..][..z_padded];
                gate_row(pre, &mut z[..gate]);
                z[gate..].fill(T::ZERO);
            }
            let Some(weight) = inputs.residual else { return };
            let weight = Matrix::rows(weight.data, weight.stride);
            gemm((count, residual, gate), h, h_stride, false, Matrix::rows(z, z_stride), weight);
            for row in 0..count {
                let h = &mut h[row * h_stride..][..x.shape.stride()];
                h[residual..].fill(T::ZERO);
                let h = &mut h[..residual];
                if let Some(bias) = inputs.residual_bias {
                    add_to(h, bias.row(0));
                }
                add_to(h, x.row(first + row));
            }
        });
}
