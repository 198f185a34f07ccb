//! Temporal convolutional networks: what they see, what they compute of the last position, their sizes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use receptive::Device;
use receptive::data::{SequenceBatch, Sequences};
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Precision, Program, Shape, State, StepArgs, TensorId};
use receptive::nn::{
    Body, Norm, Objective, RecurrentConfig, SequenceConfig, SequenceInput, SequenceModel, Tcn, TcnActivation,
    TcnConfig, TcnOptions,
};
use receptive::ops::{BatchNormInputs, Cell, Padding};
use receptive::optim::{self, Adadelta, Adagrad, Adam, Method, OptimizerConfig, RmsProp, Sgd};
use receptive::random::Random;
use receptive::train::{Limit, SequenceTask, Trainer, TrainerOptions};

use crate::no_hidden_work::{held, own_gpu};
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
        true => tcn.append_last(&mut graph, "", x, &TcnOptions::default()).unwrap(),
        false => tcn.append(&mut graph, "", x, &TcnOptions::default()).unwrap(),
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
        TcnConfig { dilations: vec![3, 4, 1], ..plain.clone() },
        TcnConfig { norm: Norm::Layer, activation: TcnActivation::Gelu, ..plain.clone() },
        TcnConfig { padding: Padding::Replicate, activation: TcnActivation::Glu, ..plain.clone() },
        TcnConfig { norm: Norm::Batch, ..plain },
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
    let y = Tcn::new(config)
        .unwrap()
        .append(&mut graph, "", x, &TcnOptions { training: true, ..TcnOptions::default() })
        .unwrap();
    let target = graph.input("target", 0, 7).unwrap();
    let loss = receptive::ops::mse(&mut graph, y, target, receptive::ops::Reduction::Mean).unwrap();
    graph.backward(loss).unwrap();
    let program = graph.finish(&[], &[loss]).unwrap();
    let dispatches = receptive::exec::dispatches(&program, &receptive::device::Capabilities::floor()).unwrap();
    let normalising = dispatches.iter().filter(|dispatch| dispatch.kernel.shader == "weight_norm").count();
    assert_eq!(normalising, 2);
}

/// A batch with lengths: the outputs that there are, and the last of each sequence.
fn with_lengths(config: &TcnConfig, extent: Extent, training: bool) -> (Arc<Program>, [TensorId; 4]) {
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, config.inputs).unwrap();
    let lengths = graph.input_ids_fixed("lengths", 1).unwrap();
    let options = TcnOptions { training, lengths: Some(lengths) };
    let tcn = Tcn::new(config.clone()).unwrap();
    let y = tcn.append(&mut graph, "", x, &options).unwrap();
    let last = tcn.append_last(&mut graph, "again.", x, &options).unwrap();
    (Arc::new(graph.finish(&[y, last], &[]).unwrap()), [x, lengths, y, last])
}

/// Whatever lies beyond the end of a sequence, its outputs are bitwise the same; and but for batch normalisation in training, they
/// are what the sequence gives alone.
#[test]
fn what_lies_beyond_an_end_has_no_influence() {
    let both = TcnConfig { causal: false, ..TcnConfig::new(2, &[5, 7], 3) };
    let mut cases = vec![
        (TcnConfig::new(2, &[5, 7], 3), false),
        (TcnConfig { norm: Norm::Batch, ..TcnConfig::new(2, &[5, 7], 3) }, true),
        (TcnConfig { norm: Norm::Batch, ..both.clone() }, true),
        (TcnConfig { norm: Norm::Batch, ..both.clone() }, false),
        (TcnConfig { norm: Norm::Layer, activation: TcnActivation::Gelu, ..both.clone() }, false),
    ];
    for padding in [Padding::Zeros, Padding::Replicate, Padding::Reflect] {
        cases.push((TcnConfig { padding, ..both.clone() }, false));
    }
    let (batch, time, lengths) = (4, 17, [17_u32, 6, 0, 1]);
    for (config, training) in cases {
        let (program, [x, ids, y, last]) = with_lengths(&config, Extent { batch, time }, training);
        let alone = build(&config, Extent { batch: 1, time }, false);
        for device in devices() {
            let what = format!("{config:?} {training} on {device}");
            let mut flat = program.params().initial(5);
            // Both networks have the same weights.
            for param in program.params().iter().filter(|param| !param.name.starts_with("again.")) {
                let again = program.params().find(&format!("again.{}", param.name)).unwrap();
                again.scatter(&param.gather(&flat), &mut flat);
            }
            let run = |x_values: &[f32]| {
                let store = Store::new(&device);
                store.write(State::Params, &flat).unwrap();
                let mut executor = Executor::new(&program, &store).unwrap();
                executor.set_poison(true).unwrap();
                executor.write(x, x_values).unwrap();
                executor.write_ids(ids, &lengths).unwrap();
                executor.run(&StepArgs::default()).unwrap();
                (executor.read(y).unwrap(), executor.read(last).unwrap())
            };
            let mut input = values(3, batch * time * 2);
            let (before, last_before) = run(&input);
            for (row, value) in input.iter_mut().enumerate().map(|(i, value)| (i / 2, value)) {
                if row % time >= lengths[row / time] as usize {
                    *value = 1e3 - *value * 50.0;
                }
            }
            let (after, last_after) = run(&input);
            assert_eq!(last_before, last_after, "{what}");
            for (sequence, &length) in lengths.iter().enumerate() {
                let there = sequence * time * 7..(sequence * time + length as usize) * 7;
                assert!(before[there.clone()] == after[there.clone()], "{what}: sequence {sequence}");
                let row = last_before[sequence * 7..][..7].to_vec();
                match length {
                    0 => assert_eq!(row, vec![0.0; 7], "{what}"),
                    _ => assert_close(&what, &row, &before[there.end - 7..there.end], 1e-6, 1e-6),
                }
                if length > 0 && !training {
                    let store = Store::new(&device);
                    store.write(State::Params, &alone.program.params().initial(5)).unwrap();
                    let mut one = Executor::new(&alone.program, &store).unwrap();
                    one.resize(Extent { batch: 1, time: length as usize }).unwrap();
                    let of_it = &input[sequence * time * 2..][..length as usize * 2];
                    assert_close(&what, &before[there], &alone.run(&mut one, of_it), 1e-5, 1e-5);
                }
            }
            // And what lies before it has.
            input[0] += 1.0;
            assert!(run(&input).0 != after, "{what}");
        }
    }
}

/// The loss of a model with lengths does not depend on what lies beyond them, neither with convolutions nor with recurrent layers.
#[test]
fn models_with_lengths_count_what_there_is() {
    let tcn = TcnConfig { causal: false, ..TcnConfig::new(3, &[5], 3) };
    let recurrent = RecurrentConfig::new(Cell::Gru { reset_after: true, hard: false }, 4);
    for body in [Body::Tcn(tcn), Body::Recurrent(recurrent)] {
        for objective in [Objective::LastClass, Objective::Classes, Objective::Frames] {
            let model = SequenceModel::new(SequenceConfig {
                input: SequenceInput::Values { channels: 3 },
                body: body.clone(),
                outputs: 4,
                objective,
                output_std: None,
            })
            .unwrap()
            .with_lengths();
            let made = model.evaluation(Extent { batch: 2, time: 9 }).unwrap();
            let targets: Vec<u32> = match objective {
                Objective::LastClass => vec![1, 3],
                _ => (0..18).map(|i| if i < 9 || i < 9 + 4 { i % 4 } else { Shape::MASKED }).collect(),
            };
            let store = Store::new(&Device::Cpu);
            store.write(State::Params, &made.program.params().initial(2)).unwrap();
            let mut executor = Executor::new(&made.program, &store).unwrap();
            let mut loss = |input: &[f32], lengths: [u32; 2]| {
                executor.write(made.input, input).unwrap();
                executor.write_ids(made.lengths.unwrap(), &lengths).unwrap();
                match objective {
                    Objective::Frames => executor.write(made.target, &[1.0; 2 * 9 * 4]).unwrap(),
                    _ => executor.write_ids(made.target, &targets).unwrap(),
                }
                executor.run(&StepArgs::default()).unwrap();
                executor.wait().unwrap().last().unwrap().values[0]
            };
            let mut input = values(4, 2 * 9 * 3);
            let before = loss(&input, [9, 4]);
            assert!(before.is_finite() && before > 0.0);
            input[(9 + 4) * 3..].fill(40.0);
            assert_eq!(loss(&input, [9, 4]), before, "{body:?} {objective:?}");
            // What comes later changes no class of a position in a network that goes forward.
            let forward = matches!((&body, objective), (Body::Recurrent(_), Objective::Classes));
            assert_eq!(loss(&input, [9, 9]) == before, forward, "{body:?} {objective:?}");
        }
    }
}

/// Frames of tunes of 2, 9 and 5 positions, so many of them at once.
#[derive(Debug)]
struct Tunes(usize);

impl Sequences for Tunes {
    fn len(&self) -> usize {
        3
    }

    fn per_step(&self) -> usize {
        self.0
    }

    fn with_lengths(&self) -> bool {
        self.0 > 1
    }

    fn largest(&self) -> (usize, usize) {
        (self.0, 9)
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        let lengths: Vec<usize> = units.iter().map(|&unit| [2, 9, 5][unit]).collect();
        let longest = *lengths.iter().max().unwrap();
        batch.restart(units.len(), longest);
        for (&unit, &length) in units.iter().zip(&lengths) {
            let filled = (batch.lengths.len() + 1) * longest * 3;
            batch.values.extend(values(unit as u64, length * 3));
            batch.values.resize(filled, 7.0);
            batch
                .target_values
                .extend(values(9 + unit as u64, length * 3).iter().map(|v| f32::from(u8::from(*v > 0.0))));
            batch.target_values.resize(filled, 1.0);
            batch.lengths.push(length as u32);
            batch.count += length;
        }
    }

    fn fingerprint(&self) -> String {
        String::new()
    }
}

/// Sequences of different lengths side by side are evaluated, and trained, as they are one by one.
#[test]
fn batches_of_different_lengths_are_what_their_sequences_are() {
    for device in devices() {
        let model = SequenceModel::new(SequenceConfig {
            input: SequenceInput::Values { channels: 3 },
            body: Body::Tcn(TcnConfig { dropout: 0.0, ..TcnConfig::new(3, &[5, 5], 3) }),
            outputs: 3,
            objective: Objective::Frames,
            output_std: None,
        })
        .unwrap();
        let task = |tunes: usize| {
            let data: Arc<dyn Sequences> = Arc::new(Tunes(tunes));
            let optimizer = OptimizerConfig::from(Method::Sgd(Sgd::default()));
            SequenceTask::new(model.clone(), Arc::clone(&data), data, optimizer).unwrap()
        };
        // The gradient is the sum over all frames, so that one step with all tunes is each tune's steps from where it began.
        let options = TrainerOptions { learning_rate: 0.01, ..TrainerOptions::default() };
        let trained = |tunes: usize, steps: u64| {
            let mut trainer = Trainer::new(task(tunes), &device, options.clone()).unwrap();
            let start = trainer.store().read(State::Params).unwrap();
            let before = trainer.with_task(|task, store| task.evaluate(store)).unwrap().loss;
            trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| {}).unwrap();
            let after = trainer.with_task(|task, store| task.evaluate(store)).unwrap().loss;
            (start, before, after)
        };
        let (start, one_by_one, later) = trained(1, 3);
        let (same, side_by_side, together) = trained(3, 1);
        assert_eq!(start, same);
        assert!((one_by_one - side_by_side).abs() < 1e-6, "{one_by_one} {side_by_side}");
        let (fell, fell_together) = (one_by_one - later, side_by_side - together);
        assert!(fell > 0.01 && (fell - fell_together).abs() < 0.1 * fell, "{fell} {fell_together}");
    }
}

/// A step whose activations were too large, as a loss scale has it now and then, spoils no running moment of the channel.
#[test]
fn running_moments_stay_finite() {
    for device in devices() {
        let mut graph = Graph::new(Extent { batch: 2, time: 20 }).unwrap();
        let x = graph.input("x", 0, 3).unwrap();
        let weight = graph.param("weight", Shape::vector(3), Init::Constant(1.0), false).unwrap();
        let bias = graph.param("bias", Shape::vector(3), Init::Zeros, false).unwrap();
        let running = graph.untrained("running", Shape::new(1, 2, 3), Init::Moments).unwrap();
        let inputs = BatchNormInputs { weight, bias, running, lengths: None };
        let y = receptive::ops::batch_norm(&mut graph, x, &inputs, 1e-5, 0.1, true).unwrap();
        let program = Arc::new(graph.finish(&[y], &[]).unwrap());
        let store = Store::new(&device);
        store.write(State::Params, &program.params().initial(5)).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        let mut input = values(1, 2 * 20 * 3);
        input[3 * 7 + 1] = f32::INFINITY;
        executor.write(x, &input).unwrap();
        executor.run(&StepArgs::default()).unwrap();
        let flat = store.read(State::Params).unwrap();
        let moments = program.params().iter().find(|param| param.name == "running").unwrap().gather(&flat);
        let [mean, variance] = [&moments[..3], &moments[3..]];
        assert_eq!((mean[1], variance[1]), (0.0, 1.0), "{device}");
        assert!([mean[0], mean[2]].iter().all(|mean| mean.is_finite() && *mean != 0.0), "{device}: {moments:?}");
    }
}

/// Running moments move by what batch normalisation sees, and by no optimizer.
#[test]
fn optimizers_leave_running_moments_as_they_are() {
    let config = TcnConfig { norm: Norm::Batch, ..TcnConfig::new(2, &[5, 7], 3) };
    let after_a_step = |method: Option<Method>, device: &Device, precision: Precision| {
        let mut graph = Graph::new(Extent { batch: 2, time: 20 }).unwrap().with_precision(precision);
        let x = graph.input("x", 0, 2).unwrap();
        let options = TcnOptions { training: true, lengths: None };
        let y = Tcn::new(config.clone()).unwrap().append(&mut graph, "", x, &options).unwrap();
        let target = graph.input("target", 0, 7).unwrap();
        let loss = receptive::ops::mse(&mut graph, y, target, receptive::ops::Reduction::Mean).unwrap();
        let gradients = graph.backward(loss).unwrap();
        if let Some(method) = method {
            optim::append(&mut graph, &gradients, &OptimizerConfig::from(method)).unwrap();
        }
        let program = Arc::new(graph.finish(&[], &[loss]).unwrap());
        let store = Store::new(device);
        store.write(State::Params, &program.params().initial(5)).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        executor.write(x, &values(1, 2 * 20 * 2)).unwrap();
        executor.write(target, &values(2, 2 * 20 * 7)).unwrap();
        executor.run(&StepArgs { learning_rate: 0.1, ..StepArgs::default() }).unwrap();
        let flat = store.read(State::Params).unwrap();
        let params = program.params().iter();
        params.map(|param| (param.trained, param.gather(&flat), param.gather(&program.params().initial(5)))).collect()
    };
    let methods = [
        Method::Adam(Adam { weight_decay: 0.1, ..Adam::default() }),
        Method::Sgd(Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::default() }),
        Method::RmsProp(RmsProp { centered: true, momentum: 0.9, ..RmsProp::default() }),
        Method::Adagrad(Adagrad::default()),
        Method::Adadelta(Adadelta::default()),
    ];
    for device in devices() {
        for precision in Precision::ALL {
            let expected: Vec<(bool, Vec<f32>, Vec<f32>)> = after_a_step(None, &device, precision);
            for method in methods {
                let what = format!("{method:?} {precision} on {device}");
                let actual = after_a_step(Some(method), &device, precision);
                for ((trained, expected, initial), (_, actual, _)) in expected.iter().zip(&actual) {
                    match trained {
                        true => assert_eq!(expected, initial, "{what}"),
                        false => assert!(actual == expected && actual != initial, "{what}: {actual:?} {expected:?}"),
                    }
                }
                assert!(actual.iter().any(|(trained, actual, initial)| *trained && actual != initial), "{what}");
            }
        }
    }
}

/// Sequences of many lengths within the planned maximum, in training: nothing is compiled or allocated for a new one.
#[test]
fn another_length_costs_nothing() {
    let device = own_gpu();
    let config = SequenceConfig {
        input: SequenceInput::Values { channels: 3 },
        body: Body::Tcn(TcnConfig { dropout: 0.5, ..TcnConfig::new(3, &[6, 6], 3) }),
        outputs: 3,
        objective: Objective::Frames,
        output_std: None,
    };
    let model = SequenceModel::new(config).unwrap();
    let extent = Extent { batch: 1, time: 160 };
    let training = model.training(extent, &OptimizerConfig::default()).unwrap();
    let store = Store::new(&device);
    store.write(State::Params, &training.program.params().initial(1)).unwrap();
    let mut executor = Executor::new(&training.program, &store).unwrap();
    let step = |executor: &mut Executor, number: u64, time: usize| {
        executor.resize(Extent { time, ..extent }).unwrap();
        executor.write(training.input, &values(number, time * 3)).unwrap();
        executor.write(training.target, &vec![1.0; time * 3]).unwrap();
        executor.run(&StepArgs { learning_rate: 1e-2, step: number, seed: 1 }).unwrap();
    };
    let gpu = device.as_gpu().unwrap();
    // What wrote the parameters is given back once the first step is through.
    step(&mut executor, 0, 160);
    let first = executor.wait().unwrap()[0].values[0];
    let before = held(gpu);
    for number in 1..61 {
        step(&mut executor, number, 20 + (number as usize * 37) % 141);
    }
    let losses: Vec<f32> = executor.wait().unwrap().iter().map(|metrics| metrics.values[0]).collect();
    assert_eq!(held(gpu), before);
    assert!(losses.iter().all(|loss| loss.is_finite()) && losses.last() < Some(&first), "{first} {losses:?}");
}
