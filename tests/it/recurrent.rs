//! Recurrent layers at odd sizes and lengths: every way to compute them agrees with the CPU executor.

use std::sync::Arc;

use receptive::Device;
use receptive::device::Capabilities;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Program, Shape, State, TensorId};
use receptive::nn::{RecurrentConfig, RecurrentNet, RecurrentOptions};
use receptive::ops::Cell;
use receptive::random::Random;

use crate::support::{assert_close, gpu};

const GRU: Cell = Cell::Gru { reset_after: true, hard: false };

/// A layer with its gradients, given those of its states.
struct Layer {
    program: Arc<Program>,
    x: TensorId,
    dy: TensorId,
    lengths: TensorId,
    initial: TensorId,
    results: Vec<TensorId>,
    states: [TensorId; 2],
}

fn layer(config: &RecurrentConfig, inputs: usize, extent: Extent) -> Layer {
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, inputs).unwrap();
    let lengths = graph.input_ids_fixed("lengths", 1).unwrap();
    let initial = graph.input_fixed("initial", 1, config.cell.states(config.hidden)).unwrap();
    let options = RecurrentOptions { initial: vec![initial], lengths: Some(lengths), training: true };
    let outputs = RecurrentNet::new(config.clone()).unwrap().append(&mut graph, "", x, &options).unwrap();
    let dy = graph.input("dy", 0, config.hidden).unwrap();
    let gradients = graph.backward_from(&[(outputs.sequence, dy)]).unwrap();
    let params: Vec<TensorId> = graph.params().iter().map(|param| param.tensor).collect();
    let kept = [outputs.sequence, outputs.last[0]];
    let results = kept.into_iter().chain(params.iter().filter_map(|&param| gradients.of(param))).collect();
    let program = Arc::new(graph.finish(&kept, &[]).unwrap());
    Layer { program, x, dy, lengths, initial, results, states: kept }
}

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0, 0);
    (0..count).map(|_| random.normal()).collect()
}

fn executor(layer: &Layer, device: &Device, capabilities: Option<&Capabilities>) -> Executor {
    let store = Store::new(device);
    store.write(State::Params, &layer.program.params().initial(3)).unwrap();
    match capabilities {
        Some(capabilities) => Executor::with_capabilities(&layer.program, &store, capabilities).unwrap(),
        None => Executor::new(&layer.program, &store).unwrap(),
    }
}

fn results(layer: &Layer, executor: &mut Executor, extent: Extent, lengths: &[u32]) -> Vec<Vec<f32>> {
    executor.resize(extent).unwrap();
    executor.set_poison(true).unwrap();
    let count = |tensor| layer.program.shape(tensor).channels * extent.batch;
    executor.write(layer.x, &normal(5, count(layer.x) * extent.time)).unwrap();
    executor.write(layer.dy, &normal(6, count(layer.dy) * extent.time)).unwrap();
    executor.write(layer.initial, &normal(7, count(layer.initial))).unwrap();
    executor.write_ids(layer.lengths, lengths).unwrap();
    executor.run(&Default::default()).unwrap();
    layer.results.iter().map(|&tensor| executor.read(tensor).unwrap()).collect()
}

fn compare(what: &str, actual: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    for (position, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let scale = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        assert_close(&format!("{what}, result {position}"), actual, expected, tolerance * scale, tolerance);
    }
}

#[test]
fn any_size_by_any_kernel() {
    let capabilities = gpu().as_gpu().expect("not a GPU").capabilities().clone();
    for (size, hidden) in [1, 31, 32, 33, 257].into_iter().enumerate() {
        for (at, cell) in Cell::ALL.into_iter().enumerate() {
            // Software drivers compile for seconds: a third of the cells for each size.
            if (at + size) % 3 != 0 {
                continue;
            }
            let config =
                RecurrentConfig { recurrent_dropout: [0.0, 0.3][at % 2], ..RecurrentConfig::new(cell, hidden) };
            let planned = Extent { batch: 3, time: 7 };
            let layer = layer(&config, 5, planned);
            // Lengths of 0, 1 and the maximum; then shorter sequences and a smaller batch than planned.
            let steps: [(Extent, &[u32]); 3] =
                [(planned, &[0, 1, 7]), (Extent { batch: 2, time: 4 }, &[4, 2]), (planned, &[7, 3, 9])];
            let mut cpu = executor(&layer, &Device::select("cpu").unwrap(), None);
            let expected = steps.map(|(extent, lengths)| results(&layer, &mut cpu, extent, lengths));
            for variant in ["registers", "walk", "step"] {
                let forcing = capabilities.clone().forcing("recurrent", variant).forcing("recurrent_grad", variant);
                let dispatches = receptive::exec::dispatches(&layer.program, &forcing);
                if dispatches.is_err() {
                    assert!(variant == "registers" || hidden == 257, "{variant} for {config:?}: {dispatches:?}");
                    continue;
                }
                let mut gpu = executor(&layer, &gpu(), Some(&forcing));
                for ((extent, lengths), expected) in steps.iter().zip(&expected) {
                    let what = format!("{variant}, {config:?}, {extent:?}, lengths {lengths:?}");
                    compare(&what, &results(&layer, &mut gpu, *extent, lengths), expected, 1e-5);
                }
            }
        }
    }
}

/// What real GPUs take for such sizes: several threads share the sums of a unit.
#[test]
fn threads_that_share_a_unit() {
    let capabilities = Capabilities { software: false, ..gpu().as_gpu().expect("not a GPU").capabilities().clone() };
    for (cell, hidden) in [(GRU, 100), (Cell::Lstm { hard: false }, 65), (Cell::Elman { relu: true }, 30)] {
        let (config, extent) = (RecurrentConfig::new(cell, hidden), Extent { batch: 3, time: 5 });
        let layer = layer(&config, 5, extent);
        let mut cpu = executor(&layer, &Device::select("cpu").unwrap(), None);
        let expected = results(&layer, &mut cpu, extent, &[5, 2, 0]);
        for variant in ["registers", "walk"] {
            let forcing = capabilities.clone().forcing("recurrent", variant).forcing("recurrent_grad", variant);
            let mut gpu = executor(&layer, &gpu(), Some(&forcing));
            let actual = results(&layer, &mut gpu, extent, &[5, 2, 0]);
            compare(&format!("{variant}, {config:?}"), &actual, &expected, 1e-5);
        }
    }
}

#[test]
fn forget_gates_start_open() {
    let config = RecurrentConfig { forget_bias: Some(1.0), ..RecurrentConfig::new(Cell::Lstm { hard: false }, 6) };
    let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
    let x = graph.input("x", 0, 4).unwrap();
    RecurrentNet::new(config).unwrap().append(&mut graph, "", x, &Default::default()).unwrap();
    let flat = graph.params().initial(1);
    for (name, expected) in [("bias_ih_l0", 1.0), ("bias_hh_l0", 0.0)] {
        let bias = &flat[graph.params().find(name).unwrap().offset..][..24];
        assert_eq!(bias[6..12], [expected; 6], "{name}");
        assert!(bias[..6].iter().chain(&bias[12..]).all(|value| *value != 0.0 && value.abs() < 0.41), "{bias:?}");
    }
}

#[test]
fn one_step_and_five_thousand() {
    let config = RecurrentConfig::new(GRU, 32);
    for time in [1, 5000] {
        let extent = Extent { batch: 2, time };
        let layer = layer(&config, 3, extent);
        let lengths = [time as u32, 1];
        let mut cpu = executor(&layer, &Device::select("cpu").unwrap(), None);
        let mut gpu = executor(&layer, &gpu(), None);
        let expected = results(&layer, &mut cpu, extent, &lengths);
        compare(&format!("{time} steps"), &results(&layer, &mut gpu, extent, &lengths), &expected, 2e-5);
    }
}

#[test]
fn a_state_carried_over_two_calls_is_one_call() {
    for device in [Device::select("cpu").unwrap(), gpu()] {
        for cell in [GRU, Cell::Lstm { hard: false }, Cell::Elman { relu: false }] {
            let config = RecurrentConfig::new(cell, 33);
            let whole = layer(&config, 3, Extent { batch: 2, time: 20 });
            let run = |executor: &mut Executor, layer: &Layer, x: &[f32], initial: &[f32], time: usize| {
                executor.resize(Extent { batch: 2, time }).unwrap();
                executor.write(layer.x, x).unwrap();
                executor.write(layer.dy, &vec![0.0; 2 * time * 33]).unwrap();
                executor.write(layer.initial, initial).unwrap();
                executor.write_ids(layer.lengths, &[time as u32; 2]).unwrap();
                executor.run(&Default::default()).unwrap();
                layer.states.map(|tensor| executor.read(tensor).unwrap())
            };
            let (x, initial) = (normal(1, 2 * 20 * 3), normal(2, 2 * config.cell.states(33)));
            let mut executor = executor(&whole, &device, None);
            let [expected, expected_last] = run(&mut executor, &whole, &x, &initial, 20);
            let part = |from: usize, to: usize| -> Vec<f32> {
                (0..2).flat_map(|b| x[(b * 20 + from) * 3..(b * 20 + to) * 3].to_vec()).collect()
            };
            let [first, state] = run(&mut executor, &whole, &part(0, 13), &initial, 13);
            let [second, last] = run(&mut executor, &whole, &part(13, 20), &state, 7);
            let joined: Vec<f32> = (0..2)
                .flat_map(|b| first[b * 13 * 33..][..13 * 33].iter().chain(&second[b * 7 * 33..][..7 * 33]).copied())
                .collect();
            assert_eq!(joined, expected, "{cell:?} on {device}");
            assert_eq!(last, expected_last, "{cell:?} on {device}");
        }
    }
}

#[test]
fn wrong_shapes_and_numbers_are_told() {
    let mut graph = Graph::new(Extent { batch: 2, time: 4 }).unwrap();
    let x = graph.input("x", 0, 6).unwrap();
    let weight = graph.param("weight", Shape::new(1, 3, 9), Init::Zeros, true).unwrap();
    let error = receptive::ops::recurrent(&mut graph, GRU, x, weight, Default::default()).unwrap_err().to_string();
    assert!(error.contains("recurrent") && error.contains("[2, 4, 9]") && error.contains("[2, 4, 6]"), "{error}");
    for config in [
        RecurrentConfig { dropout: 1.0, ..RecurrentConfig::new(GRU, 4) },
        RecurrentConfig { recurrent_dropout: f32::NAN, ..RecurrentConfig::new(GRU, 4) },
        RecurrentConfig { forget_bias: Some(1.0), ..RecurrentConfig::new(GRU, 4) },
        RecurrentConfig::new(GRU, 0),
    ] {
        assert!(RecurrentNet::new(config.clone()).is_err(), "{config:?}");
    }
    let net = RecurrentNet::new(RecurrentConfig { layers: 2, ..RecurrentConfig::new(GRU, 4) }).unwrap();
    let initial = graph.input_fixed("initial", 1, 4).unwrap();
    let options = RecurrentOptions { initial: vec![initial], ..Default::default() };
    let error = net.append(&mut graph, "", x, &options).unwrap_err().to_string();
    assert!(error.contains("1 initial states for 2 layers"), "{error}");
}
