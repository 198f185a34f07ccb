//! Generation on the CPU: one sample is a walk through matrix-vector products over packed weights.

use rayon::prelude::*;

use super::draw::{Sampling, draw};
use super::network::{Affine, Network, input_channels};
use super::not_finite;
use crate::error::Result;
use crate::graph::vector_kernel;
use crate::nn::WaveNetInput;
use crate::ops::gate::gate_row;

/// Outputs that are summed side by side: they stay in vector registers over all inputs.
const PANEL: usize = 32;

/// An affine map packed for one vector at a time: `[panel][input][PANEL]`, panels padded with zeros.
#[derive(Debug)]
struct Packed {
    inputs: usize,
    outputs: usize,
    panels: Vec<[f32; PANEL]>,
    bias: Vec<[f32; PANEL]>,
}

impl Packed {
    fn new(affine: &Affine) -> Self {
        let (inputs, outputs) = (affine.inputs, affine.outputs);
        let count = outputs.div_ceil(PANEL);
        let mut panels = vec![[0.0; PANEL]; count * inputs];
        for (input, row) in affine.weights.chunks_exact(outputs).enumerate() {
            for (panel, columns) in row.chunks(PANEL).enumerate() {
                panels[panel * inputs + input][..columns.len()].copy_from_slice(columns);
            }
        }
        let mut bias = vec![[0.0; PANEL]; count];
        for (panel, columns) in bias.iter_mut().zip(affine.bias.chunks(PANEL)) {
            panel[..columns.len()].copy_from_slice(columns);
        }
        Self { inputs, outputs, panels, bias }
    }

    /// `y = x · weights + bias`, or `y += x · weights + bias`.
    fn apply(&self, x: &[f32], y: &mut [f32], add: bool) {
        apply_panels(&self.panels, &self.bias, &x[..self.inputs], &mut y[..self.outputs], add);
    }
}

vector_kernel! {
fn apply_panels<'a, T: Real>(
    panels: &'a [[T; PANEL]],
    bias: &'a [[T; PANEL]],
    x: &'a [T],
    y: &'a mut [T],
    add: bool,
) -> () {
    for ((rows, bias), y) in panels.chunks_exact(x.len()).zip(bias).zip(y.chunks_mut(PANEL)) {
        let mut sum = *bias;
        for (row, &x) in rows.iter().zip(x) {
            for (sum, &weight) in sum.iter_mut().zip(row) {
                *sum += x * weight;
            }
        }
        match add {
            true => y.iter_mut().zip(&sum).for_each(|(y, &sum)| *y += sum),
            false => y.copy_from_slice(&sum[..y.len()]),
        }
    }
}
}

#[derive(Debug)]
struct PackedLayer {
    dilated: Packed,
    residual: Option<Packed>,
    skip: Packed,
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
    layers: Vec<PackedLayer>,
    head: [Packed; 2],
    streams: Vec<Stream>,
}

impl Host {
    pub fn new(network: Network, streams: usize) -> Self {
        let config = &network.config;
        let layers = network.layers.iter().map(|layer| PackedLayer {
            dilated: Packed::new(&layer.dilated),
            residual: layer.residual.as_ref().map(Packed::new),
            skip: Packed::new(&layer.skip),
        });
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
        Self {
            layers: layers.collect(),
            head: network.head.each_ref().map(Packed::new),
            streams: (0..streams).map(stream).collect(),
            network,
        }
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
        let (network, layers, head) = (&self.network, &self.layers, &self.head);
        let classes = network.config.classes;
        let mut logits = vec![0.0; if all { self.streams.len() * count * classes } else { 0 }];
        let lines: Vec<&mut [f32]> = match all {
            true => logits.chunks_exact_mut(count * classes).collect(),
            false => self.streams.iter().map(|_| <&mut [f32]>::default()).collect(),
        };
        let streams = self.streams.par_iter_mut().zip(words.par_chunks_exact(count)).zip(lines);
        streams.for_each(|((stream, words), line)| {
            for (index, &word) in words.iter().enumerate() {
                stream.step(network, layers, head, word, all || index + 1 == count);
                if all {
                    line[index * classes..][..classes].copy_from_slice(&stream.logits);
                }
            }
        });
        logits
    }

    /// Draws `count` classes for every stream; `first` is the number of the first sample.
    pub fn generate(&mut self, count: usize, first: u64, sampling: &Sampling) -> Result<Vec<Vec<u32>>> {
        let (network, layers, head) = (&self.network, &self.layers, &self.head);
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
                    stream.step(network, layers, head, network.word(class), true);
                }
                Ok(classes)
            })
            .collect()
    }
}

impl Stream {
    fn step(&mut self, network: &Network, layers: &[PackedLayer], head: &[Packed; 2], word: u32, logits: bool) {
        let config = &network.config;
        let residual = config.residual;
        let past = (config.kernel - 1) * residual;
        self.first_convolution(network, word);
        self.skip.copy_from_slice(&network.skip_bias);
        for ((layer, queue), &dilation) in layers.iter().zip(&mut self.queues).zip(&config.dilations) {
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
            head[0].apply(&self.skip, &mut self.hidden, false);
            rectify(&mut self.hidden);
            head[1].apply(&self.hidden, &mut self.logits, false);
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
