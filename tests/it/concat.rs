//! Concatenation and slices: free or copied, the results are the same.

use std::sync::Arc;

use receptive::Device;
use receptive::exec::{CpuExecutor, Executor, Store};
use receptive::graph::{Extent, Graph, Init, Program, Shape, State, TensorId};
use receptive::ops::{self, Activation, Geometry, Reduction};

use crate::support::{assert_close, gpu};

const EXTENT: Extent = Extent { batch: 2, time: 37 };

struct Model {
    program: Arc<Program>,
    x: TensorId,
    target: TensorId,
    loss: TensorId,
    /// Parameters and their gradients.
    gradients: Vec<(TensorId, TensorId)>,
}

/// Activations of `parts` channels each, side by side and cut into slices again, each through a convolution to a loss.
/// `shift` channels of zeros lie in front, so that with 1 of them nothing falls on a multiple of 4.
fn model(parts: &[usize], slices: &[(usize, usize)], shift: usize) -> Model {
    let mut graph = Graph::new(EXTENT).unwrap();
    let x = graph.input("x", 0, 6).unwrap();
    let target = graph.input("target", 0, 3).unwrap();
    let mut params = vec![];
    let mut param = |graph: &mut Graph, name: String, shape: Shape| {
        let init = Init::Normal { std: 1.0 / (shape.rows() as f32).sqrt() };
        let tensor = graph.param(&name, shape, init, true).unwrap();
        params.push(tensor);
        tensor
    };
    let mut pieces = vec![];
    for (index, &channels) in parts.iter().enumerate() {
        let weight = param(&mut graph, format!("part{index}"), Shape::new(1, 6, channels));
        let y = ops::conv1d(&mut graph, x, weight, None, Geometry::pointwise(), Activation::Tanh).unwrap();
        pieces.push(y);
    }
    if shift > 0 {
        let zeros = Shape::new(EXTENT.batch, EXTENT.time, shift);
        pieces.insert(0, ops::constant(&mut graph, zeros, 0.0).unwrap());
    }
    let shifted = ops::concat(&mut graph, &pieces).unwrap();
    let total: usize = parts.iter().sum();
    let whole = if shift > 0 { ops::slice(&mut graph, shifted, shift, total).unwrap() } else { shifted };
    let weight = param(&mut graph, "whole".into(), Shape::new(2, total, 3));
    let mut y = ops::conv1d(&mut graph, whole, weight, None, Geometry::causal(2, 4), Activation::Identity).unwrap();
    for (index, &(start, channels)) in slices.iter().enumerate() {
        let part = ops::slice(&mut graph, shifted, shift + start, channels).unwrap();
        let weight = param(&mut graph, format!("slice{index}"), Shape::new(1, channels, 3));
        let more = ops::conv1d(&mut graph, part, weight, None, Geometry::pointwise(), Activation::Sigmoid).unwrap();
        y = ops::add(&mut graph, y, more).unwrap();
    }
    let loss = ops::mse(&mut graph, y, target, Reduction::Mean).unwrap();
    let gradients = graph.backward(loss).unwrap();
    let gradients: Vec<_> = params.into_iter().map(|p| (p, gradients.of(p).unwrap())).collect();
    let mut outputs = vec![loss];
    outputs.extend(gradients.iter().map(|&(_, gradient)| gradient));
    let program = graph.finish(&outputs, &[]).unwrap();
    Model { program: Arc::new(program), x, target, loss, gradients }
}

fn values(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

impl Model {
    /// Loss and gradients.
    fn on(&self, device: &Device) -> Vec<Vec<f32>> {
        let store = Store::new(device);
        store.write(State::Params, &self.program.params().initial(5)).unwrap();
        let mut executor = Executor::new(&self.program, &store).unwrap();
        executor.set_poison(true).unwrap();
        let rows = EXTENT.batch * EXTENT.time;
        executor.write(self.x, &values(rows * 6, 0.37)).unwrap();
        executor.write(self.target, &values(rows * 3, 0.91)).unwrap();
        executor.run(&Default::default()).unwrap();
        let outputs = std::iter::once(self.loss).chain(self.gradients.iter().map(|&(_, gradient)| gradient));
        outputs.map(|t| executor.read(t).unwrap()).collect()
    }

    /// The loss with every parameter moved by `h` along `sin`, in f64.
    fn exact(&self, h: f64) -> CpuExecutor<f64> {
        let mut cpu = CpuExecutor::<f64>::new(Arc::clone(&self.program)).unwrap();
        cpu.set_poison(true);
        let flat = self.program.params().initial(5);
        for param in self.program.params().iter() {
            let moved = param.gather(&flat).into_iter().enumerate();
            let moved: Vec<f64> = moved.map(|(i, v)| f64::from(v) + h * direction(i)).collect();
            cpu.write(param.tensor, &moved).unwrap();
        }
        let rows = EXTENT.batch * EXTENT.time;
        let cast = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        cpu.write(self.x, &cast(values(rows * 6, 0.37))).unwrap();
        cpu.write(self.target, &cast(values(rows * 3, 0.91))).unwrap();
        cpu.run(&Default::default()).unwrap();
        cpu
    }
}

fn direction(index: usize) -> f64 {
    (index as f64 * 1.7 + 0.3).sin()
}

/// Steps of a printed program that cost nothing, by operator.
fn in_place(program: &Program, op: &str) -> usize {
    program.to_string().lines().filter(|line| line.contains(op) && line.ends_with("(in place)")).count()
}

/// The steps that cost nothing are those expected, all executors agree, and so do finite differences.
fn check(parts: &[usize], slices: &[(usize, usize)], concats_in_place: usize, slices_in_place: usize) {
    let free = model(parts, slices, 0);
    let copied = model(parts, slices, 1);
    let text = free.program.to_string();
    assert_eq!(in_place(&free.program, "Concat("), concats_in_place, "{text}");
    assert_eq!(in_place(&free.program, "Slice {"), slices_in_place, "{text}");
    assert_eq!(in_place(&copied.program, ""), 0, "{}", copied.program);

    let expected = copied.on(&Device::Cpu);
    for (what, actual) in
        [("free, CPU", free.on(&Device::Cpu)), ("free, GPU", free.on(&gpu())), ("copied, GPU", copied.on(&gpu()))]
    {
        for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            assert_close(&format!("{parts:?} {what}, {index}"), actual, expected, 1e-6, 1e-5);
        }
    }

    for model in [free, copied] {
        let step = 1e-5;
        let loss = |h: f64| model.exact(h).read(model.loss).unwrap()[0];
        let actual = (loss(step) - loss(-step)) / (2.0 * step);
        let exact = model.exact(0.0);
        let along = |&(_, gradient): &(TensorId, TensorId)| -> f64 {
            exact.read(gradient).unwrap().iter().enumerate().map(|(i, g)| g * direction(i)).sum()
        };
        let expected: f64 = model.gradients.iter().map(along).sum();
        assert!((actual - expected).abs() < 1e-8, "{parts:?}: {expected} analytic, {actual} by differences");
        assert!(expected.abs() > 1e-3, "a direction that says nothing: {expected}");
    }
}

#[test]
fn parts_on_multiples_of_4_are_free() {
    // One concatenation; its gradient is three slices, of which all are free, and those asked for.
    check(&[8, 4, 5], &[(0, 8), (8, 4), (12, 5), (4, 8)], 1, 7);
}

#[test]
fn parts_elsewhere_are_copied() {
    // Of the gradient's two slices the second starts at channel 5, the first ends there; (8, 4) and (4, 9) are free.
    check(&[5, 8], &[(0, 5), (5, 8), (8, 4), (4, 9), (3, 2)], 0, 2);
}

#[test]
fn a_part_can_be_in_two_concatenations_and_twice_in_one() {
    let mut graph = Graph::new(EXTENT).unwrap();
    let x = graph.input("x", 0, 4).unwrap();
    let y = ops::activate(&mut graph, x, Activation::Tanh).unwrap();
    let z = ops::activate(&mut graph, x, Activation::Relu).unwrap();
    let first = ops::concat(&mut graph, &[y, z]).unwrap();
    let second = ops::concat(&mut graph, &[z, y]).unwrap();
    let twice = ops::concat(&mut graph, &[y, y, x]).unwrap();
    let outputs = [first, second, twice];
    let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
    assert_eq!(in_place(&program, "Concat("), 1, "{program}");
    let rows = EXTENT.batch * EXTENT.time;
    let values = values(rows * 4, 0.7);
    for device in [Device::Cpu, gpu()] {
        let mut executor = Executor::new(&program, &Store::new(&device)).unwrap();
        executor.set_poison(true).unwrap();
        executor.write(x, &values).unwrap();
        executor.run(&Default::default()).unwrap();
        type Function = fn(f32) -> f32;
        let same: Function = |x| x;
        let relu: Function = |x| x.max(0.0);
        let parts: [&[Function]; 3] = [&[f32::tanh, relu], &[relu, f32::tanh], &[f32::tanh, f32::tanh, same]];
        for (output, functions) in outputs.into_iter().zip(parts) {
            let row = |row: &[f32]| -> Vec<f32> {
                functions.iter().flat_map(|f| row.iter().map(|&x| f(x)).collect::<Vec<_>>()).collect()
            };
            let expected: Vec<f32> = values.chunks(4).flat_map(row).collect();
            assert_close(&format!("{device}"), &executor.read(output).unwrap(), &expected, 1e-6, 0.0);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut graph = Graph::new(EXTENT).unwrap();
    let x = graph.input("x", 0, 6).unwrap();
    let shorter = graph.input("shorter", -1, 6).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    for (start, channels) in [(0, 0), (6, 1), (3, 4), (usize::MAX, 2)] {
        let error = ops::slice(&mut graph, x, start, channels).unwrap_err().to_string();
        assert!(error.contains("[2, 37, 6]"), "{error}");
    }
    for parts in [&[][..], &[x, shorter], &[x, ids]] {
        assert!(ops::concat(&mut graph, parts).is_err(), "{parts:?}");
    }
}
