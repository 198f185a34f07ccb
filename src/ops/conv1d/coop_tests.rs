//! The kernels on cooperative matrices compute what the definition says, wherever an adapter has such matrices.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use half::f16;

use super::coop::CoopTile;
use super::geometry::{Geometry, RowMap};
use super::gpu::{Epilogue, Product};
use super::grad_weight::Conv1dGradWeight;
use super::grad_weight_gpu::{self, Split, Sums};
use super::tiles::{self, Kernel};
use crate::device::{Choice, Device, Gpu, KernelKey, PARAMETER_BYTES};
use crate::graph::{Binding, Dispatch, Operand, Shape, TensorId, pad4};
use crate::ops::Activation;
use crate::random::Random;

/// Rows and columns of subgroups that are tried, whichever of them a shape would get.
const SUBGROUPS: [[u32; 2]; 4] = [[2, 1], [4, 1], [2, 2], [4, 2]];

/// What memory holds before a kernel runs: a NaN that no kernel makes.
const UNTOUCHED: u16 = 0x7e5a;

/// The device of the tests, if it has cooperative matrices; if not, that nothing was tested is said aloud.
fn gpu(test: &str) -> Option<Arc<Gpu>> {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let device = DEVICE.get_or_init(|| match std::env::var("RECEPTIVE_TEST_DEVICE") {
        Ok(name) => Device::select(&name).unwrap(),
        Err(_) => Device::gpu().or_else(|_| Device::select("software")).expect("the tests need a Vulkan driver"),
    });
    let gpu = device.as_gpu().expect("not a GPU");
    if gpu.capabilities().cooperative_matrix.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {} has no cooperative matrices", gpu.name());
        return None;
    }
    Some(Arc::clone(gpu))
}

fn tiles(gpu: &Gpu) -> Vec<CoopTile> {
    let tiles: Vec<_> = SUBGROUPS.iter().filter_map(|&at| CoopTile::new(at, gpu.capabilities()).ok()).collect();
    assert!(tiles.len() >= 3, "only {} tiles fit {}", tiles.len(), gpu.name());
    tiles
}

fn choice<V>(value: V) -> Choice<V> {
    Choice { family: "conv1d", name: "coop", value, rejected: vec![] }
}

/// An ordinary kernel where memory holds halves.
fn in_half(dispatch: Dispatch) -> Dispatch {
    dispatch.define("HALF", true)
}

/// A tensor of halves in a buffer of its own, at an offset and with rows longer than its channels.
struct Tensor {
    operand: Operand,
    /// The whole buffer.
    halves: Vec<f16>,
    /// The same as numbers.
    values: Vec<f64>,
}

impl Tensor {
    /// Random numbers, the padding of the channels zero, the rest untouched; as an output all of it untouched.
    fn new(random: &mut Random, index: usize, shape: Shape, scale: Option<f32>) -> Self {
        let offset = 4 * random.below(3) as usize;
        let stride = pad4(shape.channels) + 4 * random.below(3) as usize;
        let mut halves = vec![f16::from_bits(UNTOUCHED); offset + shape.rows() * stride + 8];
        if let Some(scale) = scale {
            for row in 0..shape.rows() {
                let row = &mut halves[offset + row * stride..][..pad4(shape.channels)];
                row.fill(f16::ZERO);
                row[..shape.channels].fill_with(|| f16::from_f32(random.normal() * scale));
            }
        }
        let binding = Binding::Tensor(TensorId::new(0, index));
        let operand = Operand {
            binding,
            shape,
            planned: shape,
            stride,
            offset,
            place: (index, offset),
            needed: true,
            param: None,
            half: true,
        };
        Self::holding(operand, halves)
    }

    fn holding(operand: Operand, halves: Vec<f16>) -> Self {
        let values = halves.iter().map(|half| half.to_f64()).collect();
        Self { operand, halves, values }
    }

    fn at(&self, row: usize, channel: usize) -> f64 {
        self.values[self.operand.offset + row * self.operand.stride + channel]
    }

    /// The source row of a tap at a row of the result with `time` positions a sequence.
    fn row(&self, map: RowMap, time: usize, m: usize, tap: usize) -> Option<usize> {
        let source = self.operand.shape;
        map.source(m % time, tap, source.time).map(|row| m / time * source.time + row)
    }
}

/// Runs dispatches one after the other and returns the contents of the last one's output.
fn run(gpu: &Gpu, dispatches: &[Dispatch], inputs: &[(Binding, &[u8])], outputs: &[(Binding, &[u8])]) -> Vec<Vec<u8>> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let mut buffers = Vec::new();
    for &(binding, bytes) in inputs.iter().chain(outputs) {
        let buffer = gpu.buffer("operand", bytes.len().next_multiple_of(16) as u64, usage).unwrap();
        gpu.write(&buffer, 0, bytes).unwrap();
        buffers.push((binding, buffer));
    }
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for dispatch in dispatches {
        let kernel = gpu.kernel(&dispatch.kernel).unwrap();
        let params =
            gpu.buffer("params", PARAMETER_BYTES, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST).unwrap();
        gpu.write(&params, 0, bytemuck::cast_slice(&dispatch.params)).unwrap();
        let find = |wanted: &Binding| &buffers.iter().find(|(binding, _)| binding == wanted).unwrap().1;
        let all = std::iter::once(&params).chain(dispatch.bindings.iter().map(find));
        let entries: Vec<_> = all
            .enumerate()
            .map(|(at, buffer)| wgpu::BindGroupEntry { binding: at as u32, resource: buffer.as_entire_binding() })
            .collect();
        let group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.layout,
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &group, &[]);
        // One workgroup more than there are: it must do nothing.
        pass.dispatch_workgroups(dispatch.workgroups as u32 + 1, 1, 1);
    }
    gpu.queue().submit([encoder.finish()]);
    gpu.check().unwrap();
    let read = |(binding, bytes): &(Binding, &[u8])| {
        let buffer = &buffers.iter().find(|(other, _)| other == binding).unwrap().1;
        gpu.read(buffer, 0, bytes.len() as u64).unwrap()
    };
    outputs.iter().map(read).collect()
}

fn geometry(random: &mut Random) -> Geometry {
    let kernel = 1 + random.below(4) as usize;
    let dilation = 1 + random.below(5) as usize;
    match random.below(5) {
        0 => Geometry::same(kernel, dilation),
        1 => Geometry::valid(kernel, dilation),
        2 => Geometry::causal(kernel, dilation).with_stride(1 + random.below(3) as usize),
        3 => Geometry::causal(kernel, dilation).cropped(random.below(3) as usize),
        _ => Geometry::causal(kernel, dilation),
    }
}

fn below(random: &mut Random, bound: u32) -> usize {
    random.below(bound) as usize
}

/// Both sizes of matrices in every configuration of the kernels: naga validates them and writes SPIR-V.
#[test]
fn naga_accepts_every_configuration() {
    let mut dispatches = Vec::new();
    for (size, width) in [(8, 8), (8, 32), (16, 32)] {
        for subgroups in SUBGROUPS {
            let tile = CoopTile { size, width, subgroups };
            dispatches.push(tile.grad_weight());
            for bits in 0..64_u32 {
                let on = |bit: u32| bits >> bit & 1 == 1;
                // The gate is forward only, one or the other; what it saves is its own.
                if on(3) && (on(0) || on(5)) || on(4) && !on(3) {
                    continue;
                }
                let names = ["BIAS", "ADD", "GATE", "SAVE", "GATE_GRADIENT"];
                let add = |dispatch: Dispatch, (bit, name)| dispatch.define(name, on(bit));
                dispatches.push((1..).zip(names).fold(tile.product(on(0)).define("TRANSPOSED", on(0)), add));
            }
        }
    }
    for dispatch in dispatches {
        check_shader(&dispatch.kernel);
    }
}

fn check_shader(key: &KernelKey) {
    use naga::valid::{Capabilities as Caps, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let source = key.wgsl().unwrap();
    let capabilities = Caps::SHADER_FLOAT16 | Caps::SUBGROUP | Caps::COOPERATIVE_MATRIX;
    let mut options = naga::front::wgsl::Options::new();
    options.capabilities = capabilities;
    let module = naga::front::wgsl::Frontend::new_with_options(options).parse(&source);
    let module = module.unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let information = validator.validate(&module).unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
    let constants = key.constants.iter().map(|&(name, value)| (name.to_owned(), f64::from(value))).collect();
    let (module, information) =
        naga::back::pipeline_constants::process_overrides(&module, &information, None, &constants)
            .unwrap_or_else(|e| panic!("{key}: {e}"));
    let options = naga::back::spv::Options { lang_version: (1, 6), ..Default::default() };
    naga::back::spv::write_vec(&module, &information, &options, None).unwrap_or_else(|e| panic!("{key}: {e}"));
}

#[test]
fn products_of_any_shape() {
    let Some(gpu) = gpu("products_of_any_shape") else { return };
    for tile in tiles(&gpu) {
        for case in 0..10 {
            check_product(&gpu, tile, &mut Random::new(7, case, tile.m() * 256 + tile.n()));
        }
    }
}

/// What is made of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Made {
    Activation(Activation),
    Gate,
    GateGradient,
}

fn check_product(gpu: &Gpu, tile: CoopTile, random: &mut Random) {
    let geometry = geometry(random);
    let (batch, long) = (1 + below(random, 3), geometry.reach() + 3 + below(random, 150));
    let short = geometry.out_time(long).unwrap();
    let made = match random.below(4) {
        0 => Made::Gate,
        1 => Made::GateGradient,
        _ => Made::Activation(Activation::ALL[below(random, Activation::ALL.len() as u32)]),
    };
    let transposed = made != Made::Gate && random.below(2) == 0;
    // Channels in: a multiple of 4 forward.
    let channels = if transposed { 1 + below(random, 70) } else { 4 * (1 + below(random, 18)) };
    let columns = if let Made::Activation(_) = made { 1 + below(random, 150) } else { 4 * (1 + below(random, 24)) };
    let (map, time, source_time) =
        if transposed { (geometry.backward(long), long, short) } else { (geometry.forward(long), short, long) };

    let target = Shape::new(batch, time, columns);
    let both = target.with_channels(2 * columns);
    let sums = if made == Made::Gate { both } else { target };
    let taps = geometry.kernel;
    let source = Tensor::new(random, 0, Shape::new(batch, source_time, channels), Some(1.0));
    let weight = match transposed {
        true => Shape::new(taps, columns, channels),
        false => Shape::new(taps, channels, sums.channels),
    };
    let weight = Tensor::new(random, 1, weight, Some(1.0 / ((taps * channels) as f32).sqrt()));
    let bias = (random.below(2) == 0).then(|| Tensor::new(random, 2, Shape::vector(sums.channels), Some(1.0)));
    let add_time = if random.below(2) == 0 { time } else { 1 };
    let add = (random.below(2) == 0).then(|| Tensor::new(random, 3, sums.with_time(add_time), Some(1.0)));
    let gate = (made == Made::GateGradient).then(|| Tensor::new(random, 4, both, Some(1.0)));
    let shapes = match made {
        Made::Activation(_) => vec![target],
        Made::Gate => vec![target, both],
        Made::GateGradient => vec![both],
    };
    let outputs: Vec<Tensor> = (5..).zip(&shapes).map(|(at, &shape)| Tensor::new(random, at, shape, None)).collect();
    let product = Product {
        source: &source.operand,
        weight: &weight.operand,
        target: &outputs[0].operand,
        columns,
        map,
        taps,
        transposed,
        bias: bias.as_ref().map(|tensor| &tensor.operand),
        add: add.as_ref().map(|tensor| &tensor.operand),
        epilogue: match (made, &gate) {
            (Made::Activation(activation), _) => Epilogue::Activation(activation),
            (_, Some(gate)) => Epilogue::GateGradient(&gate.operand),
            (_, None) => Epilogue::Gate(&outputs[1].operand),
        },
    };
    let dispatch = product.dispatch_as(choice(Kernel::Coop(tile)));
    // The last output, for which the ordinary kernel needs no gate of its own.
    let last = &outputs[outputs.len() - 1];
    let ordinary = match made {
        Made::Gate => {
            let epilogue = Epilogue::Activation(Activation::Identity);
            Product { target: &last.operand, columns: 2 * columns, epilogue, ..product }
        }
        _ => product,
    };
    let ordinary = in_half(ordinary.dispatch_as(choice(Kernel::Tile(tiles::SMALL))));
    let inputs: Vec<(Binding, &[u8])> = [Some(&source), Some(&weight), bias.as_ref(), add.as_ref(), gate.as_ref()]
        .into_iter()
        .flatten()
        .map(|tensor| (tensor.operand.binding, bytemuck::cast_slice(&tensor.halves)))
        .collect();
    let written: Vec<(Binding, &[u8])> =
        outputs.iter().map(|tensor| (tensor.operand.binding, bytemuck::cast_slice(&tensor.halves))).collect();
    let [after, ordinary] = [dispatch, ordinary].map(|dispatch| {
        let after = run(gpu, &[dispatch], &inputs, &written);
        let tensors = outputs.iter().zip(after);
        tensors.map(|(t, bytes)| Tensor::holding(t.operand, bytemuck::pod_collect_to_vec(&bytes))).collect::<Vec<_>>()
    });

    let what = format!(
        "{tile:?}, {geometry:?}, {} to {target}, transposed {transposed}, bias {}, add {:?}, {made:?} on {}",
        source.operand.shape,
        bias.is_some(),
        add.as_ref().map(|add| add.operand.shape),
        gpu.name()
    );
    let mut touched: Vec<Vec<f16>> = outputs.iter().map(|output| output.halves.clone()).collect();
    for m in 0..target.rows() {
        let sum = |n: usize| {
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias.at(0, n));
            sum += add.as_ref().map_or(0.0, |add| add.at(if add_time == 1 { m / time } else { m }, n));
            for tap in 0..taps {
                let Some(from) = source.row(map, time, m, tap) else { continue };
                let of = |c: usize| match transposed {
                    true => weight.at(tap * columns + n, c),
                    false => weight.at(tap * channels + c, n),
                };
                sum += (0..channels).map(|c| source.at(from, c) * of(c)).sum::<f64>();
            }
            sum
        };
        let mut sums: Vec<f64> = (0..sums.channels).map(sum).collect();
        let gates = |a: f64, b: f64| (a.tanh(), 1.0 / (1.0 + (-b).exp()));
        let rows = match (made, &gate) {
            (Made::Activation(activation), _) => {
                activation.apply(&mut sums);
                vec![sums]
            }
            (_, None) => {
                let gated = |n: usize| {
                    let (a, b) = gates(sums[n], sums[columns + n]);
                    a * b
                };
                vec![(0..columns).map(gated).collect(), sums]
            }
            (_, Some(gate)) => {
                let gradient = |n: usize| {
                    let (a, b) = gates(gate.at(m, n % columns), gate.at(m, columns + n % columns));
                    sums[n % columns] * if n < columns { b * (1.0 - a * a) } else { a * b * (1.0 - b) }
                };
                vec![(0..2 * columns).map(gradient).collect()]
            }
        };
        for (position, row) in rows.into_iter().enumerate() {
            let Tensor { operand, halves, values } = &after[position];
            for channel in 0..pad4(row.len()) {
                let at = operand.offset + m * operand.stride + channel;
                let value = row.get(channel).copied().unwrap_or(0.0);
                // Half a unit in the last place of a half, and what the order of the f32 sum makes of it.
                let allowed = if channel < row.len() { value.abs() / 2048.0 + 2e-4 } else { 0.0 };
                let place = || format!("{what}: output {position}, row {m}, channel {channel}: {}", values[at]);
                assert!((values[at] - value).abs() <= allowed, "{}, expected {value}", place());
                if position + 1 == outputs.len() {
                    let other = ordinary[position].values[at];
                    let off = (values[at] - other).abs();
                    assert!(off <= 2.0 * allowed, "{}, the ordinary kernel gives {other}", place());
                }
                touched[position][at] = halves[at];
            }
        }
    }
    for (touched, after) in touched.iter().zip(&after) {
        let other = (0..touched.len()).find(|&at| touched[at].to_bits() != after.halves[at].to_bits());
        assert_eq!(other, None, "{what}: written outside the output");
    }
}

#[test]
fn weight_gradients_of_any_shape() {
    let Some(gpu) = gpu("weight_gradients_of_any_shape") else { return };
    for tile in tiles(&gpu) {
        for case in 0..6 {
            check_grad_weight(&gpu, tile, &mut Random::new(8, case, tile.m() * 256 + tile.n()));
        }
    }
}

fn check_grad_weight(gpu: &Gpu, tile: CoopTile, random: &mut Random) {
    let geometry = geometry(random);
    let (batch, long) = (1 + below(random, 3), geometry.reach() + 3 + below(random, 150));
    let short = geometry.out_time(long).unwrap();
    let (channels, n, taps) = (1 + below(random, 70), 1 + below(random, 100), geometry.kernel);
    let x = Tensor::new(random, 0, Shape::new(batch, long, channels), Some(1.0));
    let dy = Tensor::new(random, 1, Shape::new(batch, short, n), Some(1.0));
    let shapes = [Shape::new(taps, channels, n), Shape::vector(n)];
    let output = |index: usize| Operand {
        binding: Binding::Tensor(TensorId::new(0, 2 + index)),
        shape: shapes[index],
        planned: shapes[index],
        stride: shapes[index].stride(),
        offset: 0,
        place: (2 + index, 0),
        needed: true,
        param: None,
        half: false,
    };
    let outputs = [output(0), output(1)];
    let op = Conv1dGradWeight { geometry, weight: shapes[0], bias: true };
    let inputs = [x.operand, dy.operand];
    let slabs = 1 + below(random, 5);
    let dispatches = |kernel| {
        let sum = (&op, &inputs[..], &outputs[..]);
        Sums::with_choices(vec![(sum, choice(Split { kernel, slabs }))]).dispatches()
    };
    let ordinary = dispatches(grad_weight_gpu::Kernel::Tile { k: 32, n: 32, thread_k4: 1, thread_n4: 1 });
    let dispatches = dispatches(grad_weight_gpu::Kernel::Coop(tile));
    let ordinary: Vec<_> = ordinary.into_iter().map(in_half).collect();
    let scratch = dispatches[0].bindings[2];
    let Binding::Scratch { elements, .. } = scratch else { panic!("{scratch:?}") };

    let poison = |elements: usize| vec![f32::NAN; elements];
    let (sums, weight, bias) = (poison(elements), poison(shapes[0].padded_len()), poison(shapes[1].padded_len()));
    let inputs: [(Binding, &[u8]); 2] =
        [(x.operand.binding, bytemuck::cast_slice(&x.halves)), (dy.operand.binding, bytemuck::cast_slice(&dy.halves))];
    let written: [(Binding, &[u8]); 3] = [
        (outputs[0].binding, bytemuck::cast_slice(&weight)),
        (outputs[1].binding, bytemuck::cast_slice(&bias)),
        (scratch, bytemuck::cast_slice(&sums)),
    ];
    let [[weight, bias], [ordinary_weight, ordinary_bias]] = [dispatches, ordinary].map(|dispatches| {
        let after = run(gpu, &dispatches, &inputs, &written);
        [0, 1].map(|at: usize| bytemuck::pod_collect_to_vec::<u8, f32>(&after[at]))
    });

    let what =
        format!("{tile:?}, {slabs} slabs, {op:?}, {} and {} on {}", x.operand.shape, dy.operand.shape, gpu.name());
    let rows = dy.operand.shape.rows();
    let close = |[tap, channel, column]: [usize; 3], got: f32, ordinary: f32, expected: f64| {
        let allowed = 1e-5 * (rows as f64 + expected.abs());
        let error = (f64::from(got) - expected).abs();
        let place = || format!("{what}: tap {tap}, channel {channel}, column {column}: {got}");
        assert!(error <= allowed, "{}, expected {expected}", place());
        let error = f64::from((got - ordinary).abs());
        assert!(error <= 2.0 * allowed, "{}, the ordinary kernel gives {ordinary}", place());
    };
    for column in 0..pad4(n) {
        let dy = |m: usize| if column < n { dy.at(m, column) } else { 0.0 };
        // The bias as a tap more.
        close([taps, 0, column], bias[column], ordinary_bias[column], (0..rows).map(dy).sum());
        for tap in 0..taps {
            for channel in 0..channels {
                let term =
                    |m: usize| x.row(geometry.forward(long), short, m, tap).map(|row| x.at(row, channel) * dy(m));
                let at = (tap * channels + channel) * pad4(n) + column;
                let place = [tap, channel, column];
                close(place, weight[at], ordinary_weight[at], (0..rows).filter_map(term).sum());
            }
        }
    }
}
