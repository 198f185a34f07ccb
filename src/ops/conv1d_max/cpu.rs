//! The maxima on the CPU: products of tiles of places that count, of which only the largest of each sequence are kept.

use rayon::prelude::*;

use super::Conv1dMax;
use crate::graph::{CpuRun, ROW_TILE, Real, Rows, multiply};
use crate::ops::Activation;
use crate::ops::conv1d::{Finish, forward_panels};
use crate::ops::pool::{beats, length};

/// The largest of each filter over some places of a sequence.
struct Winners<T> {
    sequence: usize,
    values: Vec<T>,
    at: Vec<usize>,
}

pub(super) fn forward<T: Real>(op: &Conv1dMax, run: &mut CpuRun<'_, T>) {
    let (x, weight, bias, lengths) = (&run.inputs[0], &run.inputs[1], &run.inputs[2], run.inputs.get(3));
    let (taps, filters, time) = (op.geometry.kernel, weight.shape.channels, x.shape.time);
    let (map, places) = (op.geometry.forward(time), op.geometry.out_time(time).unwrap_or_default());
    let of_sequence = |sequence: usize| (0..length(lengths, sequence, places)).map(move |place| (sequence, place));
    let places: Vec<(usize, usize)> = (0..x.shape.batch).flat_map(of_sequence).collect();
    let panels = forward_panels(weight, taps);
    let finish = Finish { bias: Some(bias), add: None, activation: Activation::Identity };
    let tile = |tile: &[(usize, usize)]| {
        let mut starts = Vec::with_capacity(taps * tile.len());
        for tap in 0..taps {
            let start = |from: usize, sequence: usize| (sequence * time + from) * x.stride;
            starts.extend(tile.iter().map(|&(sequence, place)| {
                map.source(place, tap, time).map_or(Rows::<T>::NONE, |from| start(from, sequence))
            }));
        }
        let rows = Rows::new(x.data, x.shape.channels, tile.len(), starts);
        let mut features = vec![T::ZERO; tile.len() * filters];
        multiply(&rows, &panels, &mut features, filters, 0, &finish);
        let mut found: Vec<Winners<T>> = vec![];
        for (features, &(sequence, place)) in features.chunks(filters).zip(tile) {
            match found.last_mut() {
                Some(Winners { sequence: last, values, at }) if *last == sequence => {
                    for ((value, at), &feature) in values.iter_mut().zip(at).zip(features) {
                        if beats(feature, *value) {
                            (*value, *at) = (feature, place);
                        }
                    }
                }
                _ => found.push(Winners { sequence, values: features.to_vec(), at: vec![place; filters] }),
            }
        }
        found
    };
    let tiles: Vec<Vec<Winners<T>>> = places.par_chunks(ROW_TILE).map(tile).collect();

    let [y, positions] = run.outputs.as_mut_slice() else { return };
    for sequence in 0..x.shape.batch {
        y.row(sequence).fill(T::ZERO);
        positions.row(sequence).fill(T::ZERO);
        positions.row(sequence)[..filters].fill(-T::ONE);
    }
    for Winners { sequence, values, at } in tiles.into_iter().flatten() {
        let best = y.row(sequence).iter_mut().zip(positions.row(sequence));
        for ((best, position), (value, at)) in best.zip(values.into_iter().zip(at)) {
            if *position < T::ZERO || beats(value, *best) {
                (*best, *position) = (value, T::of(at as f64));
            }
        }
    }
}
