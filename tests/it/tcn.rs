//! Temporal convolutional networks: what they see, what they compute of the last position, their sizes.

use std::sync::Arc;

use receptive::Device;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Program, State, StepArgs, TensorId};
use receptive::nn::{Norm, Tcn, TcnActivation, TcnConfig};
use receptive::random::Random;

use crate::support::{self, assert_close};

fn devices() -> [Device; 2] {
    [Device::Cpu, support::gpu()]
}

fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0, 0);
    (0..count).map(|_| random.normal()).collect()
}

struct Built {
    program: Arc<Program>,
    x: TensorId,
    y: TensorId,
}

fn build(config: &TcnConfig, extent: Extent, last: bool) -> Built {
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, config.inputs).unwrap();
    let tcn = Tcn::new(config.clone()).unwrap();
    let y = match last {
        true => tcn.append_last(&mut graph, "", x, false).unwrap(),
        false => tcn.append(&mut graph, "", x, false).unwrap(),
    };
    Built { program: Arc::new(graph.finish(&[y], &[]).unwrap()), x, y }
}

impl Built {
    fn executor(&self, device: &Device) -> Executor {
        let store = Store::new(device);
        store.write(State::Params, &self.program.params().initial(5)).unwrap();
        Executor::new(&self.program, &store).unwrap()
    }

    fn run(&self, executor: &mut Executor, x: &[f32]) -> Vec<f32> {
        executor.write(self.x, x).unwrap();
        executor.run(&StepArgs::default()).unwrap();
        executor.read(self.y).unwrap()
    }
}

fn configs() -> Vec<TcnConfig> {
    let plain = TcnConfig::new(2, &[5, 5, 7], 3);
    vec![
        plain.clone(),
        TcnConfig { norm: Norm::None, ..plain.clone() },
        TcnConfig { channels: vec![4, 4, 4], skips: true, ..plain.clone() },
        TcnConfig { dilations: vec![2, 2, 6], ..plain.clone() },
        TcnConfig { dilations: vec![3, 4, 1], ..plain },
    ]
}

/// Changing input t changes no output before t, and reaches as far as the receptive field says.
#[test]
fn causality_and_receptive_field_by_perturbation() {
    for config in configs() {
        let field = config.receptive_field();
        let time = field + 9;
        let built = build(&config, Extent { batch: 1, time }, false);
        // A rectifier may hide the furthest positions.
        let smooth = TcnConfig { activation: TcnActivation::Tanh, ..config.clone() };
        let smooth = build(&smooth, Extent { batch: 1, time }, false);
        for device in devices() {
            let mut executor = built.executor(&device);
            let mut x = values(1, time * 2);
            let before = built.run(&mut executor, &x);
            let at = 4;
            x[at * 2] += 3.0;
            x[at * 2 + 1] -= 2.0;
            let after = built.run(&mut executor, &x);
            let channels = before.len() / time;
            let changed: Vec<usize> =
                (0..time).filter(|t| before[t * channels..][..channels] != after[t * channels..][..channels]).collect();
            assert_eq!(changed.first(), Some(&at), "{config:?}");
            assert!(changed.iter().all(|&t| t < at + field), "{config:?}: {changed:?}");
            let mut executor = smooth.executor(&device);
            let furthest = (0..4)
                .map(|seed| {
                    let mut x = values(2 + seed, time * 2);
                    let before = smooth.run(&mut executor, &x);
                    x[at * 2] += 3.0;
                    let after = smooth.run(&mut executor, &x);
                    (0..time).filter(|t| before[t * channels..][..channels] != after[t * channels..][..channels]).max()
                })
                .max()
                .flatten();
            assert_eq!(furthest, Some(at + field - 1), "{config:?}");
        }
    }
}

/// Without causality the receptive field is centred.
#[test]
fn a_network_that_is_not_causal_sees_both_sides() {
    let config = TcnConfig { causal: false, ..TcnConfig::new(2, &[5, 5], 3) };
    let reach = (config.receptive_field() - 1) / 2;
    let time = 4 * reach;
    let built = build(&config, Extent { batch: 1, time }, false);
    let mut executor = built.executor(&Device::Cpu);
    let mut seen = (time, 0);
    for seed in 0..8 {
        let mut x = values(seed, time * 2);
        let before = built.run(&mut executor, &x);
        x[2 * reach * 2] += 30.0;
        let after = built.run(&mut executor, &x);
        for t in (0..time).filter(|t| before[t * 5..][..5] != after[t * 5..][..5]) {
            seen = (seen.0.min(t), seen.1.max(t));
        }
    }
    assert_eq!(seen, (2 * reach - reach, 2 * reach + reach));
}

/// The short way to the last position gives what the long way gives, at every length.
#[test]
fn the_last_position_alone_is_the_last_of_all() {
    for config in configs() {
        let extent = Extent { batch: 2, time: 41 };
        let (all, last) = (build(&config, extent, false), build(&config, extent, true));
        for device in devices() {
            let (mut every, mut one) = (all.executor(&device), last.executor(&device));
            for time in [41, 40, 37, 8, 3, 1] {
                let x = values(time as u64, 2 * time * 2);
                every.resize(Extent { batch: 2, time }).unwrap();
                one.resize(Extent { batch: 2, time }).unwrap();
                let (y, short) = (all.run(&mut every, &x), last.run(&mut one, &x));
                let channels = y.len() / time / 2;
                let expected: Vec<f32> =
                    (0..2).flat_map(|b| y[(b * time + time - 1) * channels..][..channels].to_vec()).collect();
                assert_close(&format!("{config:?} at {time}"), &short, &expected, 1e-5, 1e-5);
            }
        }
    }
}

/// The numbers derived from the paper and the reference code (with the linear output layer that each experiment adds).
#[test]
fn parameter_counts_are_the_published_ones() {
    let count = |inputs: usize, width: usize, levels: usize, kernel: usize, outputs: usize| {
        let config = TcnConfig::new(inputs, &vec![width; levels], kernel);
        build(&config, Extent { batch: 1, time: 1 }, false).program.params().count() + width * outputs + outputs
    };
    assert_eq!(count(1, 25, 8, 7, 10), 66_910);
    assert_eq!(count(1, 20, 8, 6, 10), 37_010);
    assert_eq!(count(2, 24, 8, 8, 1), 70_369);
    assert_eq!(count(1, 10, 9, 6, 10), 10_750);
    assert_eq!(count(1, 10, 8, 8, 10), 12_530);
    assert_eq!(count(1, 10, 9, 8, 10), 14_170);
    assert_eq!(count(88, 150, 2, 3, 88), 269_938);
    assert_eq!(count(88, 150, 4, 6, 88), 1_053_238);
    assert_eq!(count(88, 150, 4, 5, 88), 882_538);
}

/// All weights of a model are made by one dispatch, and one makes their gradients.
#[test]
fn weight_normalisation_is_one_dispatch() {
    let config = TcnConfig::new(2, &[5, 5, 7], 3);
    let mut graph = Graph::new(Extent { batch: 2, time: 20 }).unwrap();
    let x = graph.input("x", 0, 2).unwrap();
    let y = Tcn::new(config).unwrap().append(&mut graph, "", x, true).unwrap();
    let target = graph.input("target", 0, 7).unwrap();
    let loss = receptive::ops::mse(&mut graph, y, target, receptive::ops::Reduction::Mean).unwrap();
    graph.backward(loss).unwrap();
    let program = graph.finish(&[], &[loss]).unwrap();
    let dispatches = receptive::exec::dispatches(&program, &receptive::device::Capabilities::floor()).unwrap();
    let normalising = dispatches.iter().filter(|dispatch| dispatch.kernel.shader == "weight_norm").count();
    assert_eq!(normalising, 2);
}
