//! A recurrent model and data small enough to train in a test.

use std::sync::Arc;

use receptive::data::{Examples, Targets};
use receptive::graph::Precision;
use receptive::nn::{Body, Objective, RecurrentConfig, SequenceConfig, SequenceInput, SequenceModel};
use receptive::ops::Cell;
use receptive::random::Random;
use receptive::train::SequenceTask;

use crate::tiny_wavenet::optimizer;

pub const CHANNELS: usize = 4;
pub const BATCH: usize = 8;
pub const TIME: usize = 20;

pub const GRU: Cell = Cell::Gru { reset_after: true, hard: false };
pub const LSTM: Cell = Cell::Lstm { hard: false };

/// Two layers with both kinds of dropout.
pub fn model(cell: Cell, precision: Precision) -> SequenceModel {
    let body = RecurrentConfig { layers: 2, dropout: 0.1, recurrent_dropout: 0.1, ..RecurrentConfig::new(cell, 8) };
    let config = SequenceConfig {
        input: SequenceInput::Values { channels: CHANNELS },
        body: Body::Recurrent(body),
        outputs: CHANNELS,
        objective: Objective::LastValues,
        output_std: None,
    };
    SequenceModel::new(config).unwrap().with_precision(precision)
}

/// Normal numbers, and the sum of each channel, scaled to be as large.
pub fn examples(seed: u64, count: usize) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(seed, 0, 0);
    let values: Vec<f32> = (0..count * TIME * CHANNELS).map(|_| random.normal()).collect();
    let sum = |example: &[f32], channel: usize| example.iter().skip(channel).step_by(CHANNELS).sum::<f32>();
    let scale = 1.0 / (TIME as f32).sqrt();
    let sums = |example| (0..CHANNELS).map(move |channel| sum(example, channel) * scale);
    let targets = values.chunks(TIME * CHANNELS).flat_map(sums).collect();
    (values, targets)
}

pub fn task(cell: Cell, precision: Precision) -> SequenceTask {
    let data = |seed, count| {
        let (values, sums) = examples(seed, count);
        let targets = Targets::Values { values: sums, each: CHANNELS };
        Arc::new(Examples::new(values, TIME, CHANNELS, targets, BATCH).unwrap())
    };
    // Of the validation's batches the last is partial.
    SequenceTask::new(model(cell, precision), data(1, 400), data(2, BATCH * 4 + 3), optimizer()).unwrap()
}
