//! What the tests share: the device, random cases as programs, comparison.

use std::sync::{Arc, OnceLock};

use receptive::Gradients;
use receptive::device::Device;
use receptive::exec::{CpuExecutor, Element, Executor};
use receptive::graph::{Extent, Graph, Init, Kind, Precision, Program, Shape, TensorId};
use receptive::ops::{self, Case, CaseInput};
use receptive::random::Random;

/// The one GPU of the test process: what `RECEPTIVE_TEST_DEVICE` names, else a real GPU, else a software adapter.
pub fn gpu() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let device = match std::env::var("RECEPTIVE_TEST_DEVICE") {
                Ok(name) => Device::select(&name).unwrap(),
                Err(_) => Device::gpu()
                    .or_else(|_| Device::select("software"))
                    .expect("the tests need a Vulkan driver: scripts/test installs a software one"),
            };
            eprintln!("test device: {device}");
            device
        })
        .clone()
}

/// A device as an application opens it, on the adapter that the tests use.
pub fn application() -> (wgpu::Device, wgpu::Queue) {
    let name = gpu().as_gpu().expect("not a GPU").info().name.clone();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap();
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap()
}

/// The floor of WebGPU on the adapter of [`gpu`].
pub fn floor_gpu() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let (device, queue) = application();
            Device::from_wgpu(device, queue).unwrap()
        })
        .clone()
}

/// A random case of an operator as a program: its inputs, outputs, and the gradients for given output gradients.
pub struct CaseProgram {
    pub program: Arc<Program>,
    /// (tensor, values) of real inputs, all of them parameters.
    pub reals: Vec<(TensorId, Vec<f32>)>,
    pub ids: Vec<(TensorId, Vec<u32>)>,
    /// (tensor, values) of real inputs without gradient.
    pub constants: Vec<(TensorId, Vec<f32>)>,
    pub outputs: Vec<TensorId>,
    /// (output, its given gradient's values).
    pub seeds: Vec<(TensorId, Vec<f32>)>,
    pub seed_tensors: Vec<TensorId>,
    /// Gradient of each real input; nothing if the operator has none.
    pub gradients: Option<Gradients>,
}

/// Normal numbers, none near 0, where rectifiers have a kink.
fn away_from_zero(random: &mut Random, count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|_| {
            let x = random.normal() * scale;
            x + 0.1 * scale * x.signum()
        })
        .collect()
}

impl CaseProgram {
    pub fn new(case: &Case, random: &mut Random) -> Self {
        Self::with(case, random, false, Precision::F32)
    }

    /// The same; with `views`, each real input is the end of a tensor with 4 channels more, which the planner makes a
    /// view. In half precision all values are such as `f16` holds.
    pub fn with(case: &Case, random: &mut Random, views: bool, precision: Precision) -> Self {
        let away_from_zero = |random: &mut Random, count: usize, scale: f32| {
            let mut values = away_from_zero(random, count, scale);
            if precision == Precision::F16 {
                values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
            }
            values
        };
        let inputs = case.inputs.iter().filter(|input| !matches!(input, CaseInput::Real { .. })).map(|i| i.shape());
        let extent = inputs.max_by_key(|shape| (shape.kind == Kind::Ids, shape.batch));
        let extent = extent.map_or(Extent { batch: 1, time: 1 }, |s| Extent { batch: s.batch, time: s.time });
        let mut graph = Graph::new(extent).unwrap().with_precision(precision);
        let (mut reals, mut ids, mut constants, mut inputs) = (vec![], vec![], vec![], vec![]);
        for (position, input) in case.inputs.iter().enumerate() {
            let name = format!("input{position}");
            match *input {
                CaseInput::Real { shape, scale } if views => {
                    let wide = shape.with_channels(shape.channels + 4);
                    let tensor = graph.param(&name, wide, Init::Zeros, false).unwrap();
                    reals.push((tensor, away_from_zero(random, wide.len(), scale)));
                    let value = ops::scale(&mut graph, tensor, 1.0).unwrap();
                    inputs.push(ops::slice(&mut graph, value, 4, shape.channels).unwrap());
                }
                CaseInput::Real { shape, scale } => {
                    let tensor = graph.param(&name, shape, Init::Zeros, false).unwrap();
                    reals.push((tensor, away_from_zero(random, shape.len(), scale)));
                    inputs.push(tensor);
                }
                CaseInput::Constant { shape } => {
                    let tensor = graph.input_fixed(&name, shape.time, shape.channels).unwrap();
                    constants.push((tensor, away_from_zero(random, shape.len(), 1.0)));
                    inputs.push(tensor);
                }
                CaseInput::Ids { shape, classes, masked } => {
                    let tensor = graph.input_ids(&name, 0).unwrap();
                    let values = (0..shape.len())
                        .map(|_| match masked && random.below(5) == 0 {
                            true => Shape::MASKED,
                            false => random.below(classes as u32),
                        })
                        .collect();
                    ids.push((tensor, values));
                    inputs.push(tensor);
                }
            }
        }
        let outputs = graph.push_shared(Arc::clone(&case.op), &inputs).unwrap();
        let mut seeds = vec![];
        let mut seed_tensors = vec![];
        let mut gradients = None;
        if !reals.is_empty() {
            let mut pairs = vec![];
            let of_op = outputs.iter().enumerate().filter(|&(position, _)| case.op.differentiable(position));
            for (position, &output) in of_op {
                let shape = graph.shape(output);
                let seed = graph.param(&format!("seed{position}"), shape, Init::Zeros, false).unwrap();
                seeds.push((output, away_from_zero(random, shape.len(), 1.0)));
                seed_tensors.push(seed);
                pairs.push((output, seed));
            }
            gradients = Some(graph.backward_from(&pairs).unwrap());
        }
        let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
        Self { program, reals, ids, constants, outputs, seeds, seed_tensors, gradients }
    }

    /// A CPU executor with the inputs in place.
    pub fn cpu<T: Element>(&self) -> CpuExecutor<T> {
        let mut cpu = CpuExecutor::<T>::new(Arc::clone(&self.program)).unwrap();
        cpu.set_poison(true);
        let cast = |values: &[f32]| values.iter().map(|&v| T::of(f64::from(v))).collect::<Vec<T>>();
        for (tensor, values) in self.reals.iter().chain(&self.constants) {
            cpu.write(*tensor, &cast(values)).unwrap();
        }
        for (tensor, (_, values)) in self.seed_tensors.iter().zip(&self.seeds) {
            cpu.write(*tensor, &cast(values)).unwrap();
        }
        for (tensor, values) in &self.ids {
            cpu.write_ids(*tensor, values).unwrap();
        }
        cpu
    }

    /// Writes the inputs that are no parameters.
    pub fn feed(&self, executor: &mut Executor) {
        for (tensor, ids) in &self.ids {
            executor.write_ids(*tensor, ids).unwrap();
        }
        for (tensor, values) in &self.constants {
            executor.write(*tensor, values).unwrap();
        }
    }

    /// The parameters as a flat vector.
    pub fn flat(&self) -> Vec<f32> {
        let mut flat = vec![0.0; self.program.params().flat_len()];
        let values = self.reals.iter().map(|(t, v)| (*t, v));
        let seeds = self.seed_tensors.iter().copied().zip(self.seeds.iter().map(|(_, v)| v));
        for (tensor, values) in values.chain(seeds) {
            let param = self.program.params().iter().find(|p| p.tensor == tensor).unwrap();
            param.scatter(values, &mut flat);
        }
        flat
    }
}

/// Checks `|a - b| <= absolute + relative · |b|` and reports the worst place.
#[track_caller]
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], absolute: f32, relative: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    let excess = |(a, b): (&f32, &f32)| {
        if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() - absolute - relative * b.abs() }
    };
    let worst = actual.iter().zip(expected).map(excess).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((index, over)) = worst.filter(|&(_, over)| over > 0.0) {
        let (a, b) = (actual[index], expected[index]);
        panic!("{what}: element {index} of {}: {a} and {b} differ, {over} too much", actual.len());
    }
}
