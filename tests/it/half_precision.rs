//! Mixed precision: training in `f16` follows training in `f32`, what overflows is left out and counted, and memory halves.

use std::sync::Arc;

use receptive::data::{DataError, Prefetch};
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Precision, Program, Shape, State, StepArgs, TensorId};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::ops::{self, Activation, Geometry, RecurrentInputs, Reduction};
use receptive::optim::{self, LossScale, OptimizerConfig};
use receptive::train::{Event, Scaling, Task, Trainer, TrainerOptions};
use receptive::{Device, Error, Result};
use serde_json::{Value, json};

use crate::support::{floor_gpu, gpu};
use crate::tiny_recurrent::{self, GRU, LSTM};
use crate::tiny_wavenet::{config, losses, optimizer, options, scalar_config, state_bits, task_in, train};

/// With `f16` in shaders where the device has it, and without.
fn gpus() -> [Device; 2] {
    [gpu(), floor_gpu()]
}

fn scalings(events: &[Event]) -> Vec<Option<Scaling>> {
    let scaling = |event: &Event| match event {
        Event::Step { scaling, .. } => Some(*scaling),
        _ => None,
    };
    events.iter().filter_map(scaling).collect()
}

/// Half that of the other tests: there scalar input comes by a saddle, from which runs in `f32` part as far as any whose
/// weights begin 0.05% apart.
const LEARNING_RATE: f32 = 1.5e-3;

#[test]
fn training_curves_stay_together() {
    for config in [config(), scalar_config()] {
        let run = |device: &Device, precision| {
            let task = task_in(config.clone(), optimizer(), precision);
            let options = TrainerOptions { learning_rate: LEARNING_RATE, ..options() };
            let mut trainer = Trainer::new(task, device, options).unwrap();
            let events = train(&mut trainer, 200).unwrap().1;
            let validation = trainer.validate().unwrap().unwrap();
            (losses(&events), validation, scalings(&events))
        };
        let (expected, expected_validation, scaling) = run(&gpu(), Precision::F32);
        assert!(scaling.iter().all(Option::is_none));
        assert!(expected[199] < expected[0] - 0.5, "it does not learn: {expected:?}");
        for device in gpus() {
            let (actual, validation, scaling) = run(&device, Precision::F16);
            let never_skipped = Some(Scaling { scale: 65536.0, skipped: 0 });
            assert!(scaling.iter().all(|&scaling| scaling == never_skipped), "{device}: {scaling:?}");
            assert!(actual != expected, "{device} computed in f32");
            for (step, (f16, f32)) in actual.iter().zip(&expected).enumerate() {
                assert!((f16 - f32).abs() <= 0.05 * f32, "step {step} on {device}: {f16} in f16, {f32} in f32");
            }
            // Single steps wander apart as any two orders of summation do; over some steps the curves are one.
            for (window, (f16, f32)) in actual.chunks(20).zip(expected.chunks(20)).enumerate() {
                let [f16, f32] = [f16, f32].map(|losses| losses.iter().sum::<f32>() / losses.len() as f32);
                assert!((f16 - f32).abs() <= 0.02 * f32, "steps from {} on {device}: {f16} and {f32}", window * 20);
            }
            let off = (validation - expected_validation).abs();
            assert!(off <= 0.02 * expected_validation, "{device}: {validation} in f16, {expected_validation} in f32");
        }
    }
}

#[test]
fn training_curves_of_recurrent_layers_stay_together() {
    for cell in [GRU, LSTM] {
        let run = |device: &Device, precision| {
            let options = TrainerOptions { learning_rate: 1e-2, ..options() };
            let mut trainer = Trainer::new(tiny_recurrent::task(cell, precision), device, options).unwrap();
            let events = train(&mut trainer, 200).unwrap().1;
            (losses(&events), trainer.validate().unwrap().unwrap(), scalings(&events))
        };
        let (expected, expected_validation, _) = run(&gpu(), Precision::F32);
        assert!(expected_validation < 0.8 * expected[0], "it does not learn: {expected_validation}, {expected:?}");
        for device in gpus() {
            let (actual, validation, scaling) = run(&device, Precision::F16);
            let skipped = scaling.last().unwrap().unwrap().skipped;
            assert!(skipped == 0, "{cell:?} on {device}: {skipped} steps left out");
            assert!(actual != expected, "{device} computed in f32");
            for (window, (f16, f32)) in actual.chunks(20).zip(expected.chunks(20)).enumerate() {
                let [f16, f32] = [f16, f32].map(|losses| losses.iter().sum::<f32>() / losses.len() as f32);
                let what = format!("{cell:?}, steps from {} on {device}", window * 20);
                assert!((f16 - f32).abs() <= 0.03 * f32, "{what}: {f16} and {f32}");
            }
            let off = (validation - expected_validation).abs();
            assert!(off <= 0.05 * expected_validation, "{cell:?} on {device}: {validation} and {expected_validation}");
        }
    }
}

/// What a walk is given is rounded; its states and what they are made of are not, over any number of steps.
#[test]
fn recurrent_walks_stay_in_f32() {
    const HIDDEN: usize = 6;
    let exact = |values: Vec<f32>| values.into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect::<Vec<f32>>();
    for (device, cell) in gpus().into_iter().zip([GRU, LSTM]) {
        let extent = Extent { batch: 2, time: 300 };
        let width = cell.gates() * HIDDEN;
        let [f16, f32] = [Precision::F16, Precision::F32].map(|precision| {
            let mut graph = Graph::new(extent).unwrap().with_precision(precision);
            let x = graph.input("x", 0, width).unwrap();
            let uniform = Init::Uniform { bound: 0.5 };
            let weight = graph.param("weight", Shape::new(1, HIDDEN, width), uniform, true).unwrap();
            let states = ops::recurrent(&mut graph, cell, x, weight, RecurrentInputs::default()).unwrap();
            let program = Arc::new(graph.finish(&[states], &[]).unwrap());
            let store = Store::new(&device);
            store.write(State::Params, &exact(program.params().initial(1))).unwrap();
            let mut executor = Executor::new(&program, &store).unwrap();
            let values = (0..extent.batch * extent.time * width).map(|i| (i as f32 * 0.7).sin()).collect();
            executor.write(x, &exact(values)).unwrap();
            executor.run(&StepArgs::default()).unwrap();
            executor.read(states).unwrap()
        });
        assert!(f16 == f32, "{cell:?} on {device}");
        assert!(exact(f32.clone()) != f32, "any number is one of f16");
    }
}

#[test]
fn the_cpu_computes_the_same_program_in_f32() {
    let run = |precision| {
        let task = task_in(config(), optimizer(), precision);
        let mut trainer = Trainer::new(task, &Device::cpu(), options()).unwrap();
        let losses = losses(&train(&mut trainer, 30).unwrap().1);
        (losses, state_bits(&trainer))
    };
    // A power of 2 rounds nothing.
    let (f32, mut f16) = (run(Precision::F32), run(Precision::F16));
    let loss_scale = f16.1.pop().unwrap();
    assert_eq!((loss_scale.0, loss_scale.1.len()), (State::LossScale, LossScale::ELEMENTS));
    assert!(f16.0 == f32.0 && f16.1[..] == f32.1[..f16.1.len()]);
}

#[test]
fn a_step_that_overflows_is_left_out_and_counted() {
    for device in gpus() {
        let mut trainer = Trainer::new(task_in(config(), optimizer(), Precision::F16), &device, options()).unwrap();
        train(&mut trainer, 3).unwrap();
        let kept = |trainer: &Trainer<_>| {
            let mut states = state_bits(trainer);
            states.retain(|(state, _)| *state != State::LossScale);
            states
        };
        let before = kept(&trainer);
        let high = LossScale { exponent: 40, steps: 7, skipped: 2 };
        trainer.store().write(State::LossScale, &high.state()).unwrap();
        let (_, events) = train(&mut trainer, 5).unwrap();
        for (index, event) in events.iter().enumerate() {
            let &Event::Step { loss, grad_norm, scaling, .. } = event else { panic!("{event:?}") };
            assert!(loss.is_finite() && !grad_norm.is_finite(), "{device}: {event:?}");
            let expected = Scaling { scale: 2.0_f32.powi(56 - index as i32), skipped: 3 + index as u64 };
            assert_eq!(scaling, Some(expected), "{device}");
        }
        assert_eq!(events.len(), 2);
        assert!(kept(&trainer) == before, "{device}: a step that was left out changed something");
        let state = LossScale::of(&trainer.store().read(State::LossScale).unwrap());
        assert_eq!(state, LossScale { exponent: 38, steps: 0, skipped: 4 });

        // It falls until gradients fit, and training goes on.
        let (_, events) = train(&mut trainer, 60).unwrap();
        let skipped: Vec<u64> = scalings(&events).into_iter().map(|scaling| scaling.unwrap().skipped).collect();
        let last = skipped[skipped.len() - 1];
        assert!((10..50).contains(&last), "{device}: {skipped:?}");
        let state = LossScale::of(&trainer.store().read(State::LossScale).unwrap());
        assert_eq!((state.exponent, state.skipped), (42 - last as i32, last as u32), "{device}");
        let updates = optim::updates_of(&trainer.store().read(State::Counters).unwrap());
        assert_eq!(updates, 60 - (last - 2), "{device}");
        assert!(kept(&trainer) != before);
    }
}

/// Trains one vector towards zeros by a loss whose gradient `f16` can't hold.
struct Steep {
    program: Arc<Program>,
    target: TensorId,
}

impl Steep {
    fn new() -> Self {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap().with_precision(Precision::F16);
        let vector = graph.param("vector", Shape::vector(4), Init::Constant(1e-3), true).unwrap();
        let target = graph.input("target", 0, 4).unwrap();
        let error = ops::mse(&mut graph, vector, target, Reduction::Mean).unwrap();
        let loss = ops::scale(&mut graph, error, 1e30).unwrap();
        let gradients = graph.backward(loss).unwrap();
        let updates = optim::append(&mut graph, &gradients, &OptimizerConfig::default()).unwrap();
        let metrics = [loss, updates.grad_norm, gradients.scale.unwrap(), updates.skipped.unwrap()];
        Self { program: Arc::new(graph.finish(&[], &metrics).unwrap()), target }
    }
}

impl Task for Steep {
    type Batch = ();

    fn name(&self) -> &'static str {
        "steep"
    }

    fn config(&self) -> Value {
        json!({})
    }

    fn optimizer(&self) -> OptimizerConfig {
        OptimizerConfig::default()
    }

    fn fingerprint(&self) -> Value {
        json!({})
    }

    fn program(&self) -> &Arc<Program> {
        &self.program
    }

    fn batches(&self, _: u64, first_step: u64) -> Result<Prefetch<()>> {
        let made = Prefetch::new(first_step, vec![(), ()], |_, _| Ok::<(), DataError>(()));
        made.map_err(|error| Error::Data(error.to_string()))
    }

    fn feed(&self, (): &(), executor: &mut Executor) -> Result<()> {
        executor.write(self.target, &[0.0; 4])
    }

    fn samples_per_step(&self) -> u64 {
        1
    }

    fn validate(&mut self, _: &Store) -> Result<Option<f32>> {
        Ok(None)
    }
}

#[test]
fn a_gradient_that_never_fits_is_an_error() {
    for device in gpus() {
        let mut trainer = Trainer::new(Steep::new(), &device, TrainerOptions::default()).unwrap();
        let before = trainer.store().read(State::Params).unwrap();
        let error = train(&mut trainer, 100).unwrap_err();
        let Error::NonFiniteState { step, ref what, .. } = error else { panic!("{device}: {error}") };
        assert_eq!(step, u64::from(LossScale::SMALLEST.unsigned_abs()), "{device}");
        assert!(what.contains("smallest loss scale"), "{error}");
        assert_eq!(trainer.store().read(State::Params).unwrap(), before);
    }
}

#[test]
fn memory_halves() {
    let extent = Extent { batch: 1, time: 20_000 };
    let optimizer = OptimizerConfig::default();
    // In halves all 30 layers of `paper` fit in one group, whose gradients take memory at once.
    for (preset, percent) in [("small", 52), ("paper", 56)] {
        let [full, half] = Precision::ALL.map(|precision| {
            let model = WaveNet::new(WaveNetConfig::preset(preset).unwrap()).unwrap().with_precision(precision);
            let program = model.training(extent, &optimizer).unwrap().program;
            assert_eq!(program.precision(), precision);
            (program.pool_bytes(), program.largest_binding_bytes())
        });
        assert!(
            half.0 * 100 <= full.0 * percent,
            "{preset}: {} bytes of activations in f16, {} in f32",
            half.0,
            full.0
        );
        assert!(half.1 <= 128 << 20, "{preset}: binds {} bytes", half.1);
    }
}

#[test]
fn little_is_converted() {
    let model = WaveNet::new(config()).unwrap().with_precision(Precision::F16);
    let extent = Extent { batch: 2, time: 100 };
    let text = model.training(extent, &optimizer()).unwrap().program.to_string();
    // All parameters, and the sum of the layers' skip biases.
    assert_eq!(text.matches("Cast(").count(), 2, "{text}");
    assert!(text.contains("Cast(params)"), "{text}");
}

/// Parameters that a step has updated are read as they are then, inputs and outputs come and go as `f32`, and a metric that
/// an operator stores as `f16` is one like any other.
#[test]
fn what_is_read_is_what_was_written() {
    for device in gpus() {
        let mut graph = Graph::new(Extent { batch: 2, time: 3 }).unwrap().with_precision(Precision::F16);
        let vector = graph.param("vector", Shape::vector(5), Init::Zeros, true).unwrap();
        let input = graph.input("input", 0, 5).unwrap();
        let single = graph.input("single", 0, 1).unwrap();
        let before = ops::scale(&mut graph, vector, 1.0).unwrap();
        let sum = ops::sum_rows(&mut graph, before).unwrap();
        let zeros = ops::constant(&mut graph, Shape::vector(5), 0.0).unwrap();
        let loss = ops::mse(&mut graph, sum, zeros, Reduction::Sum).unwrap();
        let gradients = graph.backward(loss).unwrap();
        let sgd = OptimizerConfig::from(optim::Method::Sgd(optim::Sgd::default()));
        optim::append(&mut graph, &gradients, &sgd).unwrap();
        let after = ops::scale(&mut graph, vector, 2.0).unwrap();
        let doubled = ops::scale(&mut graph, input, 2.0).unwrap();
        let last = ops::slice(&mut graph, after, 4, 1).unwrap();
        let program = Arc::new(graph.finish(&[before, after, doubled, single, sum], &[last]).unwrap());
        let store = Store::new(&device);
        let mut executor = Executor::new(&program, &store).unwrap();
        executor.set_poison(true).unwrap();
        for step in 0..3 {
            // Exact in f16, and others every time.
            let values = [1.0, -0.5, 0.25, 3.0, -7.5].map(|v| v + step as f32);
            let mut flat = vec![0.0; program.params().flat_len()];
            program.params().get(0).unwrap().scatter(&values, &mut flat);
            store.write(State::Params, &flat).unwrap();
            let inputs: Vec<f32> = (0..30).map(|i| i as f32 * 0.5 - step as f32).collect();
            executor.write(input, &inputs).unwrap();
            executor.write(single, &inputs[..6]).unwrap();
            let unscaled = LossScale { exponent: -LossScale::FIRST, ..LossScale::default() };
            store.write(State::LossScale, &unscaled.state()).unwrap();
            executor.run(&StepArgs { learning_rate: 0.25, step, seed: 0 }).unwrap();
            assert_eq!(executor.read(before).unwrap(), values, "{device}");
            assert_eq!(executor.read(sum).unwrap(), values);
            assert_eq!(executor.read(single).unwrap(), &inputs[..6]);
            assert_eq!(executor.read(doubled).unwrap(), inputs.iter().map(|v| v * 2.0).collect::<Vec<_>>());
            // The gradient is twice the values, of which the update takes a quarter away.
            assert_eq!(executor.read(after).unwrap(), values, "{device}");
            assert_eq!(executor.wait().unwrap()[0].values, [values[4]]);
        }
    }
}

#[test]
fn what_f16_cannot_hold_is_infinite() {
    let values = [
        65504.0,
        65519.9,
        -65519.9,
        65520.0,
        -65520.0,
        1e30,
        -1e30,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        32768.0,
        -0.0,
    ];
    for device in gpus() {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap().with_precision(Precision::F16);
        let vector = graph.param("vector", Shape::vector(values.len()), Init::Zeros, true).unwrap();
        let same = ops::scale(&mut graph, vector, 1.0).unwrap();
        let twice = ops::scale(&mut graph, vector, 2.0).unwrap();
        let program = Arc::new(graph.finish(&[same, twice], &[]).unwrap());
        let store = Store::new(&device);
        let mut flat = vec![0.0; program.params().flat_len()];
        program.params().get(0).unwrap().scatter(&values, &mut flat);
        store.write(State::Params, &flat).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        executor.run(&StepArgs::default()).unwrap();
        for (tensor, factor) in [(same, 1.0), (twice, 2.0)] {
            let actual = executor.read(tensor).unwrap();
            for (&value, actual) in values.iter().zip(actual) {
                // Rounded when it is read, and again when the product is written.
                let rounded = half::f16::from_f32(value).to_f32();
                let expected = half::f16::from_f32(rounded * factor).to_f32();
                let same = expected == actual || (expected.is_nan() && actual.is_nan());
                assert!(same, "{value} * {factor} on {device}: {actual}, not {expected}");
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    const CHANNELS: usize = 6;
    let extent = Extent { batch: 1, time: 16 };
    let run = |device: &Device| {
        let mut graph = Graph::new(extent).unwrap().with_precision(Precision::F16);
        let x = graph.input("x", 0, CHANNELS).unwrap();
        let shape = Shape::new(2, CHANNELS, 2 * CHANNELS);
        let weight = graph.param("weight", shape, Init::Normal { std: 0.3 }, true).unwrap();
        let y = ops::conv1d(&mut graph, x, weight, None, Geometry::causal(2, 1), Activation::Identity).unwrap();
        let z = ops::gate(&mut graph, y, None).unwrap();
        let program = Arc::new(graph.finish(&[y, z], &[]).unwrap());
        let store = Store::new(device);
        store.write(State::Params, &program.params().initial(1)).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        let mut values: Vec<f32> = (0..extent.time * CHANNELS).map(|i| (i as f32).sin()).collect();
        values[5 * CHANNELS + 2] = f32::NAN;
        executor.write(x, &values).unwrap();
        executor.run(&StepArgs::default()).unwrap();
        [y, z].map(|tensor| executor.read(tensor).unwrap())
    };
    for device in gpus().into_iter().chain([Device::cpu()]) {
        for (name, values) in ["conv1d", "gate"].into_iter().zip(run(&device)) {
            let channels = values.len() / extent.time;
            for (row, values) in values.chunks(channels).enumerate() {
                // Both taps bring it to all channels.
                let reached = row == 5 || row == 6;
                let all = values.iter().all(|value| if reached { value.is_nan() } else { value.is_finite() });
                assert!(all, "{name}, row {row} on {device}: {values:?}");
            }
        }
    }
}
