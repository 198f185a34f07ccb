//! Dropout: the same numbers on every device, other ones in every step and operator, and a mean that stays.

use std::sync::Arc;

use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Shape, StepArgs, TensorId};
use receptive::{Device, Error, ops};

use crate::support::gpu;

const P: f32 = 0.3;

/// Two dropouts and a spatial one of the same ones, over a plan for more than is run.
fn masks(device: &Device, planned: Extent, extent: Extent, channels: usize, steps: &[StepArgs]) -> Vec<[Vec<f32>; 3]> {
    let mut graph = Graph::new(planned).unwrap();
    let x = graph.input("x", 0, channels).unwrap();
    let outputs = [
        ops::dropout(&mut graph, x, P).unwrap(),
        ops::dropout(&mut graph, x, P).unwrap(),
        ops::spatial_dropout(&mut graph, x, P).unwrap(),
    ];
    let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
    let mut executor = Executor::new(&program, &Store::new(device)).unwrap();
    executor.set_poison(true).unwrap();
    executor.resize(extent).unwrap();
    executor.write(x, &ones(extent, channels)).unwrap();
    let run = |step: &StepArgs| {
        executor.run(step).unwrap();
        outputs.map(|output| executor.read(output).unwrap())
    };
    steps.iter().map(run).collect()
}

fn ones(extent: Extent, channels: usize) -> Vec<f32> {
    // Not all the same, and rounded when scaled.
    (0..extent.batch * extent.time * channels).map(|i| 1.0 + (i % 7) as f32 / 7.0).collect()
}

fn at(seed: u64, step: u64) -> StepArgs {
    StepArgs { seed, step, ..StepArgs::default() }
}

fn bits(masks: &[[Vec<f32>; 3]]) -> Vec<Vec<u32>> {
    masks.iter().flatten().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
}

const EXTENT: Extent = Extent { batch: 3, time: 41 };

#[test]
fn both_devices_draw_the_same_bits_whatever_was_planned() {
    let steps = [at(7, 0), at(7, 1), at(u64::MAX - 5, 3), at(7, 1 << 32)];
    for channels in [1, 2, 3, 4, 5, 16, 25] {
        let expected = bits(&masks(&Device::Cpu, EXTENT, EXTENT, channels, &steps));
        let larger = Extent { batch: 5, time: 100 };
        for device in [Device::Cpu, gpu()] {
            assert!(bits(&masks(&device, EXTENT, EXTENT, channels, &steps)) == expected, "{device}, {channels}");
            assert!(bits(&masks(&device, larger, EXTENT, channels, &steps)) == expected, "{device}, {channels}");
        }
    }
}

#[test]
fn steps_seeds_and_operators_have_masks_of_their_own_and_a_resumed_run_has_the_same() {
    let steps = [at(7, 0), at(7, 1), at(7, 1 << 32), at(8, 0), at(7 | 1 << 32, 0)];
    for device in [Device::Cpu, gpu()] {
        let all = masks(&device, EXTENT, EXTENT, 8, &steps);
        let mut different = bits(&all);
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 3 * steps.len(), "{device}");
        // A new executor that begins later.
        assert_eq!(bits(&masks(&device, EXTENT, EXTENT, 8, &steps[1..])), bits(&all[1..]), "{device}");
    }
}

#[test]
fn the_share_of_zeros_is_p_and_the_mean_stays() {
    let (extent, channels) = (Extent { batch: 40, time: 50 }, 50);
    let x = ones(extent, channels);
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    for device in [Device::Cpu, gpu()] {
        let [mask, _, spatial] = &masks(&device, extent, extent, channels, &[at(1, 2)])[0];
        for (mask, draws) in [(mask, x.len()), (spatial, extent.batch * channels)] {
            let zeros = mask.iter().filter(|&&y| y == 0.0).count() as f64 / mask.len() as f64;
            // Four standard deviations.
            let margin = 4.0 * (0.3_f64 * 0.7 / draws as f64).sqrt();
            assert!((zeros - 0.3).abs() < margin, "{device}: {zeros} of {draws} are zero");
            assert!((mean(mask) / mean(&x) - 1.0).abs() < margin / 0.7, "{device}: {}", mean(mask));
            assert!(mask.iter().zip(&x).all(|(&y, &x)| y == 0.0 || (y * 0.7 - x).abs() < 1e-6), "{device}");
        }
        for (sequence, rows) in spatial.chunks(extent.time * channels).enumerate() {
            let dropped = |row: &[f32]| row.iter().map(|&y| y == 0.0).collect::<Vec<_>>();
            let first = dropped(&rows[..channels]);
            assert!(rows.chunks(channels).all(|row| dropped(row) == first), "{device}, sequence {sequence}");
        }
    }
}

/// The gradient of a sum is the mask itself.
#[test]
fn the_gradient_has_the_same_mask() {
    for device in [Device::Cpu, gpu()] {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        let shape = Shape::new(2, 30, 7);
        let x = graph.param("x", shape, Init::Constant(1.0), true).unwrap();
        let y = ops::dropout(&mut graph, x, P).unwrap();
        let seed = ops::constant(&mut graph, shape, 1.0).unwrap();
        let dx: TensorId = graph.backward_from(&[(y, seed)]).unwrap().of(x).unwrap();
        let program = Arc::new(graph.finish(&[y, dx], &[]).unwrap());
        let store = Store::new(&device);
        store.write(receptive::graph::State::Params, &program.params().initial(0)).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        executor.set_poison(true).unwrap();
        for step in 0..3 {
            executor.run(&at(4, step)).unwrap();
            let y = executor.read(y).unwrap();
            assert_eq!(y, executor.read(dx).unwrap(), "{device}");
            assert!(y.contains(&0.0) && y.iter().any(|&y| y > 1.0), "{device}");
        }
    }
}

#[test]
fn no_dropout_is_no_operator_and_misuse_is_an_error() {
    let mut graph = Graph::new(EXTENT).unwrap();
    let x = graph.input("x", 0, 3).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    for append in [ops::dropout, ops::spatial_dropout] {
        assert_eq!(append(&mut graph, x, 0.0).unwrap(), x);
        for p in [-0.1, 1.0, f32::NAN, f32::INFINITY] {
            let error = append(&mut graph, x, p).unwrap_err();
            assert!(matches!(&error, Error::Config(text) if text.contains("dropout: p")), "{error}");
        }
        for p in [0.0, 0.5] {
            assert!(matches!(append(&mut graph, ids, p), Err(Error::Shape { .. })));
        }
        let stranger = Graph::new(EXTENT).unwrap().input("x", 0, 3).unwrap();
        assert!(matches!(append(&mut graph, stranger, 0.0), Err(Error::Graph(_))));
        assert_ne!(append(&mut graph, x, f32::MIN_POSITIVE).unwrap(), x);
    }
}
