//! Generation on a GPU: one workgroup is one stream, one dispatch is many samples.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use wgpu::BufferUsages as Usage;

use super::draw::Sampling;
use super::network::{Affine, Network, input_channels};
use super::not_finite;
use crate::device::{Access, Capabilities, Choice, Gpu, Kernel, KernelKey, PARAMETER_BYTES, Variant, always, choose};
use crate::error::Result;
use crate::graph::pad4;
use crate::nn::{WaveNetConfig, WaveNetInput};

/// What a dispatch should take: far below any driver's watchdog, far above what submitting costs.
const DISPATCH: Duration = Duration::from_millis(50);
/// The most samples of one dispatch.
const MAX_SAMPLES: usize = 16_384;
/// The most bytes of logits that one dispatch writes, unless one sample's are more.
const LOGIT_BYTES: usize = 4 << 20;
/// The kernel counts samples from the rings' cursors on, in 32 bits; after this many the cursors are moved up.
const MAX_POSITION: u64 = 1 << 12;

/// What decides how streams are generated on a device.
#[derive(Debug)]
pub(super) struct Problem {
    config: WaveNetConfig,
    streams: usize,
    /// Bytes of the packed weights.
    weight_bytes: u64,
    /// Elements of one stream's queues.
    queue_elements: u64,
}

impl Problem {
    pub fn new(config: &WaveNetConfig, streams: usize) -> Self {
        // In 128 bits nothing that a valid configuration asks for overflows.
        let row = |width: usize| width.next_multiple_of(4) as u128;
        let affine = |inputs: usize, outputs: usize| (inputs as u128 + 1) * row(outputs);
        let depth = config.dilations.len();
        let (residual, gate, skip) = (config.residual, config.gate, config.skip);
        let weights = (config.input_kernel as u128 * input_channels(config) as u128 + 1) * row(residual)
            + depth as u128 * (affine(config.kernel * residual, 2 * gate) + gate as u128 * row(skip))
            + (depth as u128 - 1) * affine(gate, residual)
            + row(skip)
            + affine(skip, config.head)
            + affine(config.head, config.classes);
        let queue = config.dilations.iter().map(|&d| (config.kernel as u128 - 1) * d as u128).sum::<u128>();
        let narrow = |wide: u128| u64::try_from(wide).unwrap_or(u64::MAX);
        Self {
            config: config.clone(),
            streams,
            weight_bytes: narrow(weights * 4),
            queue_elements: narrow(queue * residual as u128),
        }
    }
}

/// Threads of a workgroup and the places of its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub threads: u32,
    gated: u32,
    logits: u32,
    memory: u32,
}

impl Plan {
    pub fn kernel(&self) -> KernelKey {
        KernelKey {
            shader: "wavenet_generate",
            entry: "main",
            defines: vec![],
            constants: vec![
                ("THREADS", self.threads),
                ("BLOCKS", self.threads / 16),
                ("MEMORY", self.memory),
                ("GATED", self.gated),
                ("LOGITS", self.logits),
            ],
            access: [vec![Access::Read; 3], vec![Access::ReadWrite; 4]].concat(),
        }
    }
}

/// In order of preference; nothing means that the host generates.
const PREFERENCE: &[Variant<Problem, Option<Plan>>] = &[
    Variant {
        name: "one workgroup a stream",
        admits: |problem, device| one_workgroup(problem, device).map(Some),
        suits: always,
    },
    Variant { name: "the host", admits: |_, _| Ok(None), suits: always },
];

pub(super) fn choice(problem: &Problem, capabilities: &Capabilities) -> Result<Choice<Option<Plan>>> {
    choose("wavenet_generate", PREFERENCE, problem, capabilities)
}

fn one_workgroup(problem: &Problem, device: &Capabilities) -> Result<Plan, String> {
    let config = &problem.config;
    let taps = config.kernel.saturating_mul(config.residual).max(config.head);
    let gated = config.gate.max(config.skip);
    let memory = taps.saturating_add(gated).saturating_add(config.classes);
    let bytes = |threads: usize| memory.saturating_mul(4).saturating_add(threads * 20 + threads / 4 + 64);
    // Four output channels a thread.
    let widest = (2 * config.gate).max(config.residual).max(config.skip).div_ceil(4);
    // A software adapter walks through a workgroup's threads one after the other.
    let wanted = if device.software { 32 } else { 512 };
    let least = widest.next_power_of_two().max(16);
    let most = device.max_invocations as usize;
    if least > most {
        return Err(format!("{} channels need {least} threads, there are {most}", widest * 4));
    }
    let fits = |threads: &usize| bytes(*threads) <= device.workgroup_bytes as usize;
    let halvings = std::iter::successors(Some(wanted.max(least)), |t| Some(t / 2)).take_while(|t| *t >= least);
    let threads = halvings.filter(|t| *t <= most).find(fits).ok_or_else(|| {
        let (needed, limit) = (bytes(least), device.workgroup_bytes);
        format!("the vectors of a sample need {needed} bytes of workgroup memory, there are {limit}")
    })?;
    let bindings = [
        ("weights", problem.weight_bytes),
        ("queues", problem.queue_elements.saturating_mul(problem.streams as u64).saturating_mul(4)),
        ("past inputs", config.input_kernel as u64 * problem.streams as u64 * 4),
        ("logits", config.classes as u64 * problem.streams as u64 * 8 + LOGIT_BYTES as u64),
        ("classes", (MAX_SAMPLES as u64 + problem.streams as u64) * 8),
    ];
    let limit = device.max_binding_bytes;
    if let Some((what, bytes)) = bindings.iter().find(|(_, bytes)| *bytes > limit) {
        return Err(format!("the {what} take {bytes} bytes, a binding holds {limit}"));
    }
    Ok(Plan { threads: threads as u32, gated: taps as u32, logits: (taps + gated) as u32, memory: memory as u32 })
}

/// `Params` of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    streams: u32,
    count: u32,
    position: u32,
    drawing: u32,
    every: u32,
    greedy: u32,
    inverse_temperature: f32,
    seed: [u32; 2],
    draw: [u32; 2],
    depth: u32,
    taps: u32,
    residual: u32,
    gate: u32,
    skip: u32,
    head: u32,
    classes: u32,
    input_taps: u32,
    input_channels: u32,
    scalar: u32,
    input_cursor: u32,
    queue_stride: u32,
    places: Places,
}

/// Where things lie in the packed weights, in rows of 4.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Places {
    layer_stride4: u32,
    input_weight4: u32,
    input_bias4: u32,
    dilated_weight4: u32,
    dilated_bias4: u32,
    residual_weight4: u32,
    residual_bias4: u32,
    skip_weight4: u32,
    skip_bias4: u32,
    head_weight4: u32,
    head_bias4: u32,
    logits_weight4: u32,
    logits_bias4: u32,
}

/// `Ring` of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Ring {
    first: u32,
    length: u32,
    dilation: u32,
    cursor: u32,
}

/// Matrices one after the other, rows padded to 4.
#[derive(Default)]
struct Packer {
    values: Vec<f32>,
}

impl Packer {
    fn rows(&mut self, values: &[f32], width: usize) -> u32 {
        let start = self.values.len() / 4;
        for row in values.chunks_exact(width) {
            self.values.extend_from_slice(row);
            self.values.resize(pad4(self.values.len()), 0.0);
        }
        start as u32
    }

    fn affine(&mut self, affine: &Affine) -> (u32, u32) {
        (self.rows(&affine.weights, affine.outputs), self.rows(&affine.bias, affine.outputs))
    }
}

fn pack(network: &Network) -> (Vec<f32>, Places) {
    let (mut packer, mut places) = (Packer::default(), Places::default());
    let residual = network.config.residual;
    places.input_weight4 = packer.rows(&network.input, residual);
    places.input_bias4 = packer.rows(&network.input_bias, residual);
    for (index, layer) in network.layers.iter().enumerate() {
        // All layers have the same sizes, but for the last, whose residual comes last.
        let start = (packer.values.len() / 4) as u32;
        let (dilated_weight4, dilated_bias4) = packer.affine(&layer.dilated);
        let skip_weight4 = packer.rows(&layer.skip.weights, layer.skip.outputs);
        let (residual_weight4, residual_bias4) = layer.residual.as_ref().map_or((0, 0), |r| packer.affine(r));
        if index == 0 {
            let layer_stride4 = (packer.values.len() / 4) as u32 - start;
            places = Places {
                layer_stride4,
                dilated_weight4,
                dilated_bias4,
                skip_weight4,
                residual_weight4,
                residual_bias4,
                ..places
            };
        }
    }
    places.skip_bias4 = packer.rows(&network.skip_bias, network.config.skip);
    (places.head_weight4, places.head_bias4) = packer.affine(&network.head[0]);
    (places.logits_weight4, places.logits_bias4) = packer.affine(&network.head[1]);
    (packer.values, places)
}

/// The generator on a GPU.
#[derive(Debug)]
pub(super) struct OnGpu {
    gpu: Arc<Gpu>,
    network: Network,
    streams: usize,
    kernel: Arc<Kernel>,
    group: wgpu::BindGroup,
    params: Params,
    params_buffer: wgpu::Buffer,
    rings: Vec<Ring>,
    rings_buffer: wgpu::Buffer,
    queues: wgpu::Buffer,
    state: wgpu::Buffer,
    io: wgpu::Buffer,
    logits: wgpu::Buffer,
    /// Samples since the start.
    fed: u64,
    /// `fed` when the cursors were set.
    base: u64,
    /// The past is to be zeroed before the next dispatch.
    clear: bool,
    /// Samples of the next dispatch: grows and shrinks with the time that they take, which changes no result.
    samples: usize,
    /// Most samples of a dispatch; of one that writes all logits.
    capacity: usize,
    logit_capacity: usize,
}

impl OnGpu {
    pub fn new(gpu: &Arc<Gpu>, network: Network, streams: usize, plan: &Plan) -> Result<Self> {
        let config = &network.config;
        let (weights, places) = pack(&network);
        let mut first = 0;
        let rings = network.layers.iter().enumerate().map(|(index, layer)| {
            let length = network.queue_length(index) as u32;
            let ring = Ring { first, length, dilation: layer.dilation as u32, cursor: 0 };
            first += length * config.residual as u32;
            ring
        });
        let rings: Vec<Ring> = rings.collect();
        let queue_stride = first;
        let scalar = config.input == WaveNetInput::Scalar;
        let samples: Vec<f32> = match scalar {
            true => (0..config.classes as u32).map(|class| network.mu_law.decode(class)).collect(),
            false => vec![0.0],
        };
        let capacity = (MAX_SAMPLES / streams).max(1);
        let logit_capacity = (LOGIT_BYTES / (streams * config.classes * 4)).clamp(1, capacity);

        let buffer = |label: &str, words: usize, usage| gpu.buffer(label, words as u64 * 4, usage | Usage::COPY_DST);
        let filled = |label: &str, bytes: &[u8]| -> Result<wgpu::Buffer> {
            let buffer = buffer(label, bytes.len() / 4, Usage::STORAGE)?;
            gpu.write(&buffer, 0, bytes)?;
            Ok(buffer)
        };
        let weights = filled("generation weights", bytemuck::cast_slice(&weights))?;
        let rings_buffer = filled("generation rings", bytemuck::cast_slice(&rings))?;
        let sample_buffer = filled("generation samples", bytemuck::cast_slice(&samples))?;
        let queues = buffer("generation queues", queue_stride as usize * streams, Usage::STORAGE)?;
        let state = buffer("generation state", config.input_kernel * streams, Usage::STORAGE)?;
        let io = buffer("generation classes", (capacity + 1) * streams, Usage::STORAGE | Usage::COPY_SRC)?;
        let logit_words = (logit_capacity + 1) * streams * config.classes;
        let logits = buffer("generation logits", logit_words, Usage::STORAGE | Usage::COPY_SRC)?;
        let params_buffer = gpu.buffer("generation parameters", PARAMETER_BYTES, Usage::UNIFORM | Usage::COPY_DST)?;

        let key = plan.kernel();
        gpu.compile_all([&key])?;
        let kernel = gpu.kernel(&key)?;
        let buffers = [&params_buffer, &weights, &rings_buffer, &sample_buffer, &queues, &state, &io, &logits];
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(&kernel.label), layout: &kernel.layout, entries: &entries };
        let group = gpu.scoped(&kernel.label, || gpu.device().create_bind_group(&descriptor))?;
        let params = Params {
            streams: streams as u32,
            depth: rings.len() as u32,
            taps: config.kernel as u32,
            residual: config.residual as u32,
            gate: config.gate as u32,
            skip: config.skip as u32,
            head: config.head as u32,
            classes: config.classes as u32,
            input_taps: config.input_kernel as u32,
            input_channels: input_channels(config) as u32,
            scalar: scalar.into(),
            queue_stride,
            places,
            ..Params::zeroed()
        };
        // As if a workgroup made 10^9 products a second, 16 at a time.
        let products = network.products() * streams.div_ceil(16);
        let samples = (DISPATCH.as_nanos() as usize / products).clamp(1, capacity);
        Ok(Self {
            gpu: Arc::clone(gpu),
            network,
            streams,
            kernel,
            group,
            params,
            params_buffer,
            rings,
            rings_buffer,
            queues,
            state,
            io,
            logits,
            fed: 0,
            base: 0,
            clear: false,
            samples,
            capacity,
            logit_capacity,
        })
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn reset(&mut self) {
        self.clear = true;
    }

    /// As [`Host::feed`](super::host::Host::feed).
    pub fn feed(&mut self, words: &[u32], count: usize, all: bool) -> Result<Vec<f32>> {
        let classes = self.network.config.classes;
        let mut logits = vec![0.0; if all { self.streams * count * classes } else { 0 }];
        let mut done = 0;
        while done < count {
            let limit = if all { self.logit_capacity } else { self.capacity };
            let piece = self.samples.min(limit).min(count - done);
            let lines: Vec<u32> =
                words.chunks_exact(count).flat_map(|line| &line[done..done + piece]).copied().collect();
            self.gpu.write(&self.io, 0, bytemuck::cast_slice(&lines))?;
            let started = Instant::now();
            self.dispatch(Params { drawing: 0, every: all.into(), ..self.params }, piece)?;
            self.pace(started.elapsed(), piece);
            if all {
                let skip = (self.streams * classes * 4) as u64;
                let bytes = self.gpu.read(&self.logits, skip, (self.streams * piece * classes * 4) as u64)?;
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                for (stream, values) in values.chunks_exact(piece * classes).enumerate() {
                    logits[(stream * count + done) * classes..][..values.len()].copy_from_slice(values);
                }
            }
            done += piece;
        }
        Ok(logits)
    }

    /// As [`Host::generate`](super::host::Host::generate).
    pub fn generate(&mut self, count: usize, first: u64, sampling: &Sampling) -> Result<Vec<Vec<u32>>> {
        let mut drawn = vec![Vec::with_capacity(count); self.streams];
        let mut done = 0;
        while done < count {
            let piece = self.samples.min(count - done);
            let draw = first + done as u64;
            let params = Params {
                drawing: 1,
                every: 0,
                greedy: sampling.inverse_temperature().is_none().into(),
                inverse_temperature: sampling.inverse_temperature().unwrap_or(1.0),
                seed: [sampling.seed as u32, (sampling.seed >> 32) as u32],
                draw: [draw as u32, (draw >> 32) as u32],
                ..self.params
            };
            let started = Instant::now();
            self.dispatch(params, piece)?;
            self.pace(started.elapsed(), piece);
            let bytes = self.gpu.read(&self.io, 0, (self.streams * (piece + 1) * 4) as u64)?;
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            let (classes, broken) = words.split_at(self.streams * piece);
            if let Some(stream) = broken.iter().position(|&status| status != 0) {
                return Err(not_finite(stream));
            }
            for (drawn, classes) in drawn.iter_mut().zip(classes.chunks_exact(piece)) {
                drawn.extend_from_slice(classes);
            }
            done += piece;
        }
        Ok(drawn)
    }

    /// Runs one dispatch and waits for it.
    fn dispatch(&mut self, params: Params, count: usize) -> Result<()> {
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("generation") });
        if std::mem::take(&mut self.clear) {
            encoder.clear_buffer(&self.queues, 0, None);
            encoder.clear_buffer(&self.state, 0, None);
            (self.fed, self.base) = (0, 0);
            self.set_cursors()?;
        } else if self.fed - self.base >= MAX_POSITION {
            self.base = self.fed;
            self.set_cursors()?;
        }
        let past = (self.network.config.input_kernel - 1).max(1) as u64;
        let params = Params {
            count: count as u32,
            position: (self.fed - self.base) as u32,
            input_cursor: (self.base % past) as u32,
            ..params
        };
        self.gpu.write(&self.params_buffer, 0, bytemuck::bytes_of(&params))?;
        let limit = self.gpu.capabilities().max_workgroups;
        let lines = params.streams.div_ceil(limit);
        let index = self.gpu.scoped("generation", || {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.kernel.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(params.streams.div_ceil(lines), lines, 1);
            drop(pass);
            self.gpu.queue().submit([encoder.finish()])
        })?;
        self.fed += count as u64;
        self.gpu.wait(index, "generation")
    }

    fn set_cursors(&mut self) -> Result<()> {
        for ring in &mut self.rings {
            ring.cursor = (self.base % u64::from(ring.length.max(1))) as u32;
        }
        self.gpu.write(&self.rings_buffer, 0, bytemuck::cast_slice(&self.rings))
    }

    /// Sets how many samples the next dispatch makes.
    fn pace(&mut self, took: Duration, piece: usize) {
        if took > 2 * DISPATCH {
            self.samples = (piece / 2).max(1);
        } else if took < DISPATCH / 2 && piece == self.samples {
            self.samples = (piece * 2).min(self.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(config: WaveNetConfig, streams: usize) -> Choice<Option<Plan>> {
        choice(&Problem::new(&config, streams), &Capabilities::floor()).unwrap()
    }

    #[test]
    fn the_presets_fit_the_floor() {
        for name in WaveNetConfig::PRESETS {
            let choice = chosen(WaveNetConfig::preset(name).unwrap(), 4);
            assert_eq!((choice.name, choice.value.unwrap().threads), ("one workgroup a stream", 256), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_host_with_the_reason() {
        let small = WaveNetConfig::small;
        let cases = [
            (WaveNetConfig { classes: 65_536, ..small() }, 1, "bytes of workgroup memory"),
            (WaveNetConfig { skip: 1028, ..small() }, 1, "threads"),
            (WaveNetConfig { kernel: 1 << 24, ..small() }, 1, "bytes of workgroup memory"),
            (WaveNetConfig { dilations: vec![1 << 24], ..small() }, 1, "the queues take"),
            (small(), 1 << 14, "the queues take"),
            (WaveNetConfig { input_kernel: 1 << 13, ..small() }, 1, "the weights take"),
        ];
        for (config, streams, reason) in cases {
            let choice = chosen(config, streams);
            assert_eq!((choice.name, choice.value), ("the host", None), "{reason}");
            assert!(choice.to_string().contains(reason), "{choice}");
        }
    }
}
