//! Losses and sums where they are easy to get wrong: many rows, huge logits, masks, and extents below the planned ones.

use std::sync::Arc;

use receptive::Device;
use receptive::Gradients;
use receptive::exec::{CpuExecutor, Executor, Store};
use receptive::graph::{Extent, Graph, Init, Program, Shape, State, TensorId};
use receptive::ops::{self, Geometry, Reduction};
use receptive::random::Random;

use crate::support::{assert_close, gpu};

/// Logits as a parameter, targets as an input: the loss and the logits' gradient on a device.
fn cross_entropy(device: &Device, logits: &[f32], targets: &[u32], classes: usize) -> (f32, Vec<f32>) {
    let rows = targets.len();
    let mut graph = Graph::new(Extent { batch: 1, time: rows }).unwrap();
    let x = graph.param("logits", Shape::new(1, rows, classes), Init::Zeros, false).unwrap();
    let y = graph.input_ids("targets", 0).unwrap();
    let loss = ops::softmax_cross_entropy(&mut graph, x, y).unwrap().loss;
    let gradient = graph.backward(loss).unwrap().of(x).unwrap();
    let program = Arc::new(graph.finish(&[loss, gradient], &[]).unwrap());
    let store = Store::new(device);
    let mut flat = vec![0.0; program.params().flat_len()];
    program.params().find("logits").unwrap().scatter(logits, &mut flat);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program, &store).unwrap();
    executor.set_poison(true).unwrap();
    executor.write_ids(y, targets).unwrap();
    executor.run(&Default::default()).unwrap();
    (executor.read(loss).unwrap()[0], executor.read(gradient).unwrap())
}

#[test]
fn nothing_counts_where_all_is_masked() {
    for device in [Device::Cpu, gpu()] {
        let (loss, gradient) = cross_entropy(&device, &[1.5; 15], &[Shape::MASKED; 3], 5);
        assert_eq!((loss, gradient), (0.0, vec![0.0; 15]), "{device}");
    }
}

#[test]
fn a_target_that_is_no_class_shows() {
    for device in [Device::Cpu, gpu()] {
        for target in [5, 6, 1 << 30, u32::MAX - 1] {
            let (loss, gradient) = cross_entropy(&device, &[1.5; 15], &[0, target, 1], 5);
            assert!(loss.is_nan(), "{device}: the loss of target {target} is {loss}");
            assert!(gradient[5..10].iter().all(|g| g.is_nan()), "{device}: {gradient:?}");
        }
    }
}

#[test]
fn logits_that_are_not_numbers_show() {
    for device in [Device::Cpu, gpu()] {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in 0..7 {
                let mut logits = [0.5; 7];
                logits[at] = bad;
                let (loss, _) = cross_entropy(&device, &logits, &[3], 7);
                assert!(!loss.is_finite(), "{device}: the loss with {bad} at class {at} is {loss}");
            }
        }
    }
}

#[test]
fn huge_logits_give_exact_losses() {
    for device in [Device::Cpu, gpu()] {
        for size in [80.0_f32, 1e4, 1e30] {
            // Right and certain; wrong by the whole distance; a choice of two; one far below the rest.
            let logits = [
                size, -size, -size, /**/ size, -size, -size, /**/ size, size, -size, /**/ -size, 0.0,
                0.0,
            ];
            let (loss, gradient) = cross_entropy(&device, &logits, &[0, 1, 1, 2], 3);
            let ln2 = std::f32::consts::LN_2;
            assert_close(&format!("{device}, {size}"), &[loss], &[(2.0 * size + 2.0 * ln2) / 4.0], 1e-6, 2e-6);
            let expected = [0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.5, -0.5, 0.0, 0.0, 0.5, -0.5].map(|g: f32| g / 4.0);
            // Half a unit in the last place of the log-sum-exp at 80 is 4e-6.
            let precision = if size < 100.0 { 4e-6 } else { 1e-6 };
            let (first, rest) = gradient.split_at(6);
            assert_close(&format!("{device}, {size}"), first, &expected[..6], precision, 0.0);
            if size < 100.0 {
                assert_close(&format!("{device}, {size}"), rest, &expected[6..], precision, 0.0);
            }
        }
    }
    // The digits of a small loss survive large logits.
    for device in [Device::Cpu, gpu()] {
        let (loss, _) = cross_entropy(&device, &[80.0, 68.0], &[0], 2);
        assert_close(&format!("{device}"), &[loss], &[(-12.0_f64).exp().ln_1p() as f32], 0.0, 2e-2);
    }
}

/// A graph with ids, a table, and the losses of what it looks up; planned for `extent`.
struct Model {
    program: Arc<Program>,
    ids: TensorId,
    targets: TensorId,
    outputs: Vec<TensorId>,
}

fn model(extent: Extent, taps: usize, classes: usize, channels: usize) -> Model {
    let mut graph = Graph::new(extent).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    let targets = graph.input_ids("targets", 0).unwrap();
    let table = graph.param("table", Shape::new(taps, classes, channels), Init::Normal { std: 1.0 }, true).unwrap();
    let bias = graph.param("bias", Shape::vector(channels), Init::Normal { std: 1.0 }, false).unwrap();
    let zero = graph.param("zero", Shape::vector(channels), Init::Zeros, false).unwrap();
    let x = ops::embedding(&mut graph, ids, table, Some(bias), Geometry::causal(taps, 3)).unwrap();
    let entropy = ops::softmax_cross_entropy(&mut graph, x, targets).unwrap();
    let half = ops::scale(&mut graph, x, 0.5).unwrap();
    let square = ops::mse(&mut graph, x, half, Reduction::Mean).unwrap();
    let sums = ops::sum_time(&mut graph, x).unwrap();
    let total = ops::sum_rows(&mut graph, x).unwrap();
    let distance = ops::mae(&mut graph, total, zero, Reduction::Mean).unwrap();
    let distance = ops::scale(&mut graph, distance, 1e-4).unwrap();
    let loss = ops::add(&mut graph, entropy.loss, square).unwrap();
    let loss = ops::add(&mut graph, loss, distance).unwrap();
    let gradients: Gradients = graph.backward(loss).unwrap();
    let of = |t| gradients.of(t).unwrap();
    let outputs = vec![entropy.loss, entropy.count, square, sums, total, of(table), of(bias), of(zero)];
    let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
    Model { program, ids, targets, outputs }
}

fn random_ids(random: &mut Random, rows: usize, classes: usize) -> Vec<u32> {
    // A fifth of all positions have the same id, as silence and padding do.
    (0..rows)
        .map(|_| match random.below(10) {
            0 => Shape::MASKED,
            1 | 2 => 1,
            _ => random.below(classes as u32),
        })
        .collect()
}

/// GPU and CPU against f64, at the planned extent, at a smaller one, and at the planned one again.
fn compare(extent: Extent, smaller: Extent, taps: usize, classes: usize, channels: usize) {
    // So large a table is summed in few slabs: a class that comes often is a long sum.
    let tolerance = if classes > 10_000 { 5e-5 } else { 2e-5 };
    let model = model(extent, taps, classes, channels);
    let flat = model.program.params().initial(7);
    let store = Store::new(&gpu());
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&model.program, &store).unwrap();
    executor.set_poison(true).unwrap();
    let cpu_store = Store::new(&Device::Cpu);
    cpu_store.write(State::Params, &flat).unwrap();
    let mut cpu = Executor::new(&model.program, &cpu_store).unwrap();
    cpu.set_poison(true).unwrap();
    let mut exact = CpuExecutor::<f64>::new(Arc::clone(&model.program)).unwrap();
    for param in model.program.params().iter() {
        let values: Vec<f64> = param.gather(&flat).into_iter().map(f64::from).collect();
        exact.write(param.tensor, &values).unwrap();
    }
    for (step, extent) in [extent, smaller, extent].into_iter().enumerate() {
        let mut random = Random::new(3, step as u32, 0);
        let rows = extent.batch * extent.time;
        let (ids, targets) = (random_ids(&mut random, rows, classes), random_ids(&mut random, rows, channels));
        exact.resize(extent).unwrap();
        exact.write_ids(model.ids, &ids).unwrap();
        exact.write_ids(model.targets, &targets).unwrap();
        exact.run(&Default::default()).unwrap();
        for (name, executor) in [("CPU", &mut cpu), ("GPU", &mut executor)] {
            executor.resize(extent).unwrap();
            executor.write_ids(model.ids, &ids).unwrap();
            executor.write_ids(model.targets, &targets).unwrap();
            let mut run = || {
                executor.run(&Default::default()).unwrap();
                model.outputs.iter().map(|&t| executor.read(t).unwrap()).collect::<Vec<_>>()
            };
            let (first, again) = (run(), run());
            assert_eq!(first, again, "{name}: not the same bits again");
            for (position, (&output, actual)) in model.outputs.iter().zip(&first).enumerate() {
                let expected: Vec<f32> = exact.read(output).unwrap().into_iter().map(|v| v as f32).collect();
                let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                let what = format!("{name}, {taps} taps, {classes} classes, {extent:?}, output {position}");
                assert_close(&what, actual, &expected, tolerance * largest.max(1e-6), 0.0);
            }
        }
    }
}

#[test]
fn many_rows_in_few_classes() {
    compare(Extent { batch: 3, time: 23_000 }, Extent { batch: 2, time: 20_001 }, 2, 40, 8);
}

#[test]
fn long_rows_and_large_tables() {
    compare(Extent { batch: 2, time: 1500 }, Extent { batch: 1, time: 777 }, 2, 256, 64);
    compare(Extent { batch: 2, time: 900 }, Extent { batch: 2, time: 500 }, 1, 3000, 300);
    compare(Extent { batch: 1, time: 20_000 }, Extent { batch: 1, time: 2 }, 1, 18_000, 60);
}
