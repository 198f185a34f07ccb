//! Generation on the CPU: one sample is a walk through matrix-vector products over the weights.

use rayon::prelude::*;

use super::draw::{Sampling, draw};
use super::network::{Affine, Network, input_channels};
use super::not_finite;
use crate::error::Result;
use crate::graph::vector_kernel;
use crate::nn::WaveNetInput;
use crate::ops::gate::gate_row;

impl Affine {
    /// `y = x · weights + bias`, or `y += x · weights + bias`.
    fn apply(&self, x: &[f32], y: &mut [f32], add: bool) {
        apply_rows(&self.weights, &self.bias, &x[..self.inputs], &mut y[..self.outputs], add);
    }
}

vector_kernel! {
/// Four inputs at a time, so that the outputs are read and written a quarter as often.
fn apply_rows<'a, T: Real>(weights: &'a [T], bias: &'a [T], x: &'a [T], y: &'a mut [T], add: bool) -> () {
    match add {
        true => y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias),
        false => y.copy_from_slice(&bias[..y.len()]),
    }
    let outputs = y.len();
    let (fours, rest) = x.split_at(x.len() / 4 * 4);
    for (x, rows) in fours.chunks_exact(4).zip(weights.chunks_exact(4 * outputs)) {
        let (a, b, c, d) = (x[0], x[1], x[2], x[3]);
        let (row_a, rows) = rows.split_at(outputs);
        let (row_b, rows) = rows.split_at(outputs);
        let (row_c, row_d) = rows.split_at(outputs);
        for ((((y, &wa), &wb), &wc), &wd) in y.iter_mut().zip(row_a).zip(row_b).zip(row_c).zip(row_d) {
            *y += (a * wa + b * wb) + (c * wc + d * wd);
        }
    }
    for (&x, row) in rest.iter().zip(weights[fours.len() * outputs..].chunks_exact(outputs)) {
        for (y, &weight) in y.iter_mut().zip(row) {
            *y += x * weight;
        }
    }
}
}

/// The past of one layer's input, of one stream: a ring.
#[derive(Debug)]
struct Queue {
    values: Vec<f32>,
    /// The oldest step, which the present one replaces.
    cursor: usize,
}

#[derive(Debug)]
struct Stream {
    inputs: Vec<u32>,
    input_cursor: usize,
    queues: Vec<Queue>,
    logits: Vec<f32>,
    // Scratch from here on.
    taps: Vec<f32>,
    pre: Vec<f32>,
    gated: Vec<f32>,
    skip: Vec<f32>,
    hidden: Vec<f32>,
    weights: Vec<f32>,
}

/// The generator on the CPU.
#[derive(Debug)]
pub(super) struct Host {
    network: Network,
    streams: Vec<Stream>,
}

impl Host {
    pub fn new(network: Network, streams: usize) -> Self {
        let config = &network.config;
        let stream = |_| Stream {
            inputs: vec![0; config.input_kernel - 1],
            input_cursor: 0,
            queues: (0..network.layers.len())
                .map(|layer| Queue { values: vec![0.0; network.queue_length(layer) * config.residual], cursor: 0 })
                .collect(),
            logits: vec![0.0; config.classes],
            taps: vec![0.0; config.kernel * config.residual],
            pre: vec![0.0; 2 * config.gate],
            gated: vec![0.0; config.gate],
            skip: vec![0.0; config.skip],
            hidden: vec![0.0; config.head],
            weights: vec![0.0; config.classes],
        };
        Self { streams: (0..streams).map(stream).collect(), network }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn reset(&mut self) {
        for stream in &mut self.streams {
            stream.inputs.fill(0);
            stream.input_cursor = 0;
            for queue in &mut stream.queues {
                queue.values.fill(0.0);
                queue.cursor = 0;
            }
        }
    }

    /// Feeds `[streams, count]` words; gives `[streams, count, classes]` logits if `all` of them are asked for.
    pub fn feed(&mut self, words: &[u32], count: usize, all: bool) -> Vec<f32> {
        let network = &self.network;
        let classes = network.config.classes;
        let mut logits = vec![0.0; if all { self.streams.len() * count * classes } else { 0 }];
        let lines: Vec<&mut [f32]> = match all {
            true => logits.chunks_exact_mut(count * classes).collect(),
            false => self.streams.iter().map(|_| <&mut [f32]>::default()).collect(),
        };
        let streams = self.streams.par_iter_mut().zip(words.par_chunks_exact(count)).zip(lines);
        streams.for_each(|((stream, words), line)| {
            for (index, &word) in words.iter().enumerate() {
                stream.step(network, word, all || index + 1 == count);
                if all {
                    line[index * classes..][..classes].copy_from_slice(&stream.logits);
                }
            }
        });
        logits
    }

    /// Draws `count` classes for every stream; `first` is the number of the first sample.
    pub fn generate(&mut self, count: usize, first: u64, sampling: &Sampling) -> Result<Vec<Vec<u32>>> {
        let network = &self.network;
        let inverse = sampling.inverse_temperature();
        self.streams
            .par_iter_mut()
            .enumerate()
            .map(|(index, stream)| {
                let mut classes = Vec::with_capacity(count);
                for sample in 0..count as u64 {
                    let uniform = sampling.uniform(first + sample, index as u32);
                    let class =
                        draw(&stream.logits, inverse, uniform, &mut stream.weights).ok_or_else(|| not_finite(index))?;
                    classes.push(class);
                    stream.step(network, network.word(class), true);
                }
                Ok(classes)
            })
            .collect()
    }
}

impl Stream {
    fn step(&mut self, network: &Network, word: u32, logits: bool) {
        let config = &network.config;
        let residual = config.residual;
        let past = (config.kernel - 1) * residual;
        self.first_convolution(network, word);
        self.skip.copy_from_slice(&network.skip_bias);
        for ((layer, queue), &dilation) in network.layers.iter().zip(&mut self.queues).zip(&config.dilations) {
            if past > 0 {
                for (tap, values) in self.taps[..past].chunks_exact_mut(residual).enumerate() {
                    let at = queue.cursor + tap * dilation * residual;
                    let at = if at >= queue.values.len() { at - queue.values.len() } else { at };
                    values.copy_from_slice(&queue.values[at..][..residual]);
                }
                queue.values[queue.cursor..][..residual].copy_from_slice(&self.taps[past..]);
                queue.cursor += residual;
                if queue.cursor == queue.values.len() {
                    queue.cursor = 0;
                }
            }
            layer.dilated.apply(&self.taps, &mut self.pre, false);
            gate_row(&self.pre, &mut self.gated);
            if logits {
                layer.skip.apply(&self.gated, &mut self.skip, true);
            }
            if let Some(weights) = &layer.residual {
                weights.apply(&self.gated, &mut self.taps[past..], true);
            }
        }
        if logits {
            rectify(&mut self.skip);
            network.head[0].apply(&self.skip, &mut self.hidden, false);
            rectify(&mut self.hidden);
            network.head[1].apply(&self.hidden, &mut self.logits, false);
        }
    }

    /// Leaves its output as the newest tap.
    fn first_convolution(&mut self, network: &Network, word: u32) {
        let config = &network.config;
        let residual = config.residual;
        let x = &mut self.taps[(config.kernel - 1) * residual..];
        x.copy_from_slice(&network.input_bias);
        let channels = input_channels(config);
        let past = self.inputs.len();
        for tap in 0..=past {
            let word = if tap < past { self.inputs[(self.input_cursor + tap) % past] } else { word };
            let (row, scale) = match config.input {
                WaveNetInput::Classes if word == 0 => continue,
                WaveNetInput::Classes => (word as usize - 1, 1.0),
                WaveNetInput::Scalar => (0, f32::from_bits(word)),
            };
            let weights = &network.input[(tap * channels + row) * residual..][..residual];
            x.iter_mut().zip(weights).for_each(|(x, &weight)| *x += scale * weight);
        }
        if past > 0 {
            self.inputs[self.input_cursor] = word;
            self.input_cursor = (self.input_cursor + 1) % past;
        }
    }
}

/// Rectifies; NaN stays.
fn rectify(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
}
