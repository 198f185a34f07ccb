//! Pooling: PyTorch's results, long sequences, what is not a number, and what does not fit.

use std::sync::Arc;

use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Shape, State, TensorId};
use receptive::ops::{self, Pooled, Window};
use receptive::random::Random;
use receptive::{Device, Error};
use serde_json::Value;

use crate::golden::{Golden, GoldenCase, number};
use crate::support::{assert_close, gpu};

#[test]
fn golden_cases_of_pytorch() {
    let file = Golden::read("pool");
    let mut cases = 0;
    for (index, config) in file.cases() {
        let with_lengths = !config["lengths"].is_null();
        let mut case = GoldenCase::new(&file, index, config, with_lengths.then_some("lengths"));
        let x = case.real("x");
        let lengths = with_lengths.then(|| case.ids("lengths"));
        let graph = &mut case.graph;
        let (y, positions) = match config["op"].as_str().unwrap() {
            "max" => (ops::max_pool(graph, x, window(config), lengths).unwrap(), None),
            "avg" => (ops::avg_pool(graph, x, window(config), lengths).unwrap(), None),
            "adaptive_max" => (ops::adaptive_max_pool(graph, x, number(config, "out"), lengths).unwrap(), None),
            "adaptive_avg" => (ops::adaptive_avg_pool(graph, x, number(config, "out"), lengths).unwrap(), None),
            "global_avg" => (ops::global_avg_pool(graph, x, lengths).unwrap(), None),
            "global_max" => with_positions(ops::global_max_pool(graph, x, lengths).unwrap()),
            "k_max" => with_positions(ops::k_max_pool(graph, x, number(config, "k"), lengths).unwrap()),
            other => panic!("no pooling {other}"),
        };
        case.expect(y, "y");
        if let Some(positions) = positions {
            case.expect(positions, "positions");
        }
        case.expect_gradients(y, Some("dy"), &[(x, "dx")]);
        case.check();
        cases += 1;
    }
    assert_eq!(cases, 60);
}

fn with_positions(pooled: Pooled) -> (TensorId, Option<TensorId>) {
    (pooled.values, Some(pooled.positions))
}

fn window(config: &Value) -> Window {
    let window =
        Window::new(number(config, "size")).with_stride(number(config, "stride")).padded(number(config, "pad"));
    if config["count_padding"] == true { window.counting_padding() } else { window }
}

fn devices() -> [Device; 2] {
    [Device::Cpu, gpu()]
}

/// What the poolings of one `x` give: of windows, of whole sequences with positions, of the 3 largest with positions, the mean; and
/// the gradient of `x` where the gradient of the global maximum is 1.
fn run(device: &Device, shape: Shape, x: &[f32], lengths: &[u32]) -> [Vec<f32>; 7] {
    let mut graph = Graph::new(Extent { batch: shape.batch, time: shape.time }).unwrap();
    let input = graph.param("x", shape, Init::Zeros, true).unwrap();
    let ids = graph.input_ids_fixed("lengths", 1).unwrap();
    let local = ops::max_pool(&mut graph, input, Window::new(3).with_stride(1).padded(1), Some(ids)).unwrap();
    let global = ops::global_max_pool(&mut graph, input, Some(ids)).unwrap();
    let largest = ops::k_max_pool(&mut graph, input, 3, Some(ids)).unwrap();
    let mean = ops::global_avg_pool(&mut graph, input, Some(ids)).unwrap();
    let one = ops::constant(&mut graph, shape.with_time(1), 1.0).unwrap();
    let dx = graph.backward_from(&[(global.values, one)]).unwrap().of(input).unwrap();
    let outputs = [local, global.values, global.positions, largest.values, largest.positions, mean, dx];
    let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
    let store = Store::new(device);
    let mut flat = vec![0.0; program.params().flat_len()];
    program.params().find("x").unwrap().scatter(x, &mut flat);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program, &store).unwrap();
    executor.set_poison(true).unwrap();
    executor.write_ids(ids, lengths).unwrap();
    executor.run(&Default::default()).unwrap();
    outputs.map(|output| executor.read(output).unwrap())
}

/// Longer than 256 slabs of 256, with few different values, so that maxima are often tied.
#[test]
fn long_sequences_and_ties() {
    let shape = Shape::new(2, 70_001, 5);
    let lengths = [u32::MAX, 69_000];
    let mut random = Random::new(1, 0, 0);
    let x: Vec<f32> = (0..shape.len()).map(|_| random.below(5000) as f32 - 6000.0).collect();
    for device in devices() {
        let [_, values, positions, largest, places, mean, dx] = run(&device, shape, &x, &lengths);
        let mut expected_dx = vec![0.0; x.len()];
        for (sequence, &length) in lengths.iter().enumerate() {
            let length = shape.time.min(length as usize);
            for channel in 0..5 {
                let at = |t: usize| (sequence * shape.time + t) * 5 + channel;
                let column: Vec<f32> = (0..length).map(|t| x[at(t)]).collect();
                let mut order: Vec<usize> = (0..length).collect();
                order.sort_by(|&a, &b| column[b].total_cmp(&column[a]));
                assert_eq!(column[order[0]], column[order[1]], "a tie");
                assert_eq!(positions[sequence * 5 + channel], order[0] as f32, "{device}");
                assert_eq!(values[sequence * 5 + channel], column[order[0]], "{device}");
                expected_dx[at(order[0])] = 1.0;
                let mut three = order[..3].to_vec();
                three.sort_unstable();
                for (slot, &t) in three.iter().enumerate() {
                    assert_eq!(places[(sequence * 3 + slot) * 5 + channel], t as f32, "{device}");
                    assert_eq!(largest[(sequence * 3 + slot) * 5 + channel], column[t], "{device}");
                }
                let exact = column.iter().map(|&v| f64::from(v)).sum::<f64>() / length as f64;
                assert_close("mean", &mean[sequence * 5 + channel..][..1], &[exact as f32], 0.0, 1e-5);
            }
        }
        assert!(dx == expected_dx, "{device}: the gradient");
    }
}

/// What lies beyond the length is not seen, even if it is not a number; within, that wins.
#[test]
fn what_is_not_a_number_within_the_length_and_beyond() {
    let (nan, least) = (f32::NAN, f32::NEG_INFINITY);
    let x = [5.0, nan, -1.0, least, -0.0, nan, 2.0, nan, nan, 7.0, nan, nan, 1.0, 2.0, 3.0, 4.0];
    for device in devices() {
        // Four sequences of four positions: of the last none is there.
        let results = run(&device, Shape::new(4, 4, 1), &x, &[4, 1, 2, 0]);
        let [local, values, positions, largest, places, mean, _] = results;
        assert!(
            values[0].is_nan() && values[1] == 0.0 && values[2].is_nan() && values[3] == 0.0,
            "{device}: {values:?}"
        );
        assert_eq!(positions, [1.0, 0.0, 0.0, -1.0], "{device}");
        assert!(local[..3].iter().all(|y| y.is_nan()) && local[3] == -1.0, "{device}: {local:?}");
        assert_eq!(local[4..8], [0.0; 4], "{device}");
        assert!(local[8].is_nan() && local[9].is_nan() && local[10..12] == [7.0, 0.0], "{device}: {local:?}");
        assert_eq!(local[12..], [0.0; 4], "{device}");
        assert_eq!(places, [0.0, 1.0, 2.0, 0.0, -1.0, -1.0, 0.0, 1.0, -1.0, -1.0, -1.0, -1.0], "{device}");
        assert!(largest[1].is_nan() && largest[3..6] == [0.0; 3] && largest[9..] == [0.0; 3], "{device}: {largest:?}");
        assert!(mean[0].is_nan() && mean[1] == 0.0 && mean[2].is_nan() && mean[3] == 0.0, "{device}: {mean:?}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut graph = Graph::new(Extent { batch: 2, time: 9 }).unwrap();
    let x = graph.input("x", 0, 3).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    let lengths = graph.input_ids_fixed("lengths", 1).unwrap();
    let refused = |word: &str, result: receptive::Result<TensorId>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Shape { .. }) && error.to_string().contains(word), "{error}");
    };
    let values = |pooled: receptive::Result<Pooled>| pooled.map(|pooled| pooled.values);
    refused("longer than [2, 9, 3]", ops::max_pool(&mut graph, x, Window::new(10), None));
    refused("longer than [2, 9, 3]", ops::avg_pool(&mut graph, x, Window::new(12).padded(1), Some(lengths)));
    refused("ids[2, 9]", ops::max_pool(&mut graph, x, Window::new(2), Some(ids)));
    refused("ids[2, 9]", ops::global_avg_pool(&mut graph, x, Some(ids)));
    refused("Ids", values(ops::global_max_pool(&mut graph, x, Some(x))));
    refused("Real", values(ops::global_max_pool(&mut graph, ids, None)));
    refused("no position", ops::adaptive_avg_pool(&mut graph, x, 0, None));
    refused("2^32", ops::adaptive_max_pool(&mut graph, x, usize::MAX, None));
    for k in [0, 10] {
        refused("k must be 1 to the time", values(ops::k_max_pool(&mut graph, x, k, None)));
    }
    assert!(ops::max_pool(&mut graph, x, Window::new(10).padded(1), Some(lengths)).is_ok());
    let mut long = Graph::new(Extent { batch: 1, time: (1 << 24) + 1 }).unwrap();
    let x = long.input("x", 0, 1).unwrap();
    refused("2^24", values(ops::global_max_pool(&mut long, x, None)));
    refused("2^24", values(ops::k_max_pool(&mut long, x, 3, None)));
    assert!(ops::global_avg_pool(&mut long, x, None).is_ok());
}
