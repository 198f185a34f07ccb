//! States that go from step to step on the device: sequences in blocks give what whole ones give.

use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Precision, State, StepArgs};
use receptive::nn::{
    Body, Norm, Objective, RecurrentConfig, RecurrentNet, SequenceConfig, SequenceInput, SequenceModel, TcnActivation,
    TcnConfig,
};
use receptive::ops::{self, Activation, Cell, Padding};
use receptive::random::Random;
use receptive::{Device, Error, Stream};

use crate::no_hidden_work::{held, own_gpu};
use crate::support::{assert_close, gpu};

const STREAMS: usize = 3;
const CHANNELS: usize = 5;

fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0, 0);
    (0..count).map(|_| random.normal()).collect()
}

fn model(body: Body) -> SequenceModel {
    let input = SequenceInput::Values { channels: CHANNELS };
    let objective = Objective::Frames;
    SequenceModel::new(SequenceConfig { input, body, outputs: 4, objective, output_std: None }).unwrap()
}

fn bodies() -> Vec<Body> {
    let plain = TcnConfig::new(CHANNELS, &[5, 5, 7], 3);
    let recurrent = |cell| Body::Recurrent(RecurrentConfig { layers: 2, ..RecurrentConfig::new(cell, 7) });
    let pointwise = TcnConfig { kernel: 1, ..plain.clone() };
    vec![
        Body::Tcn(TcnConfig { channels: vec![4, 4, 4], skips: true, ..plain.clone() }),
        Body::Tcn(TcnConfig { norm: Norm::Layer, activation: TcnActivation::Glu, ..plain.clone() }),
        Body::Tcn(TcnConfig { norm: Norm::Batch, activation: TcnActivation::Gelu, ..plain.clone() }),
        Body::Tcn(TcnConfig { dilations: vec![3, 4, 1], kernel: 4, ..plain.clone() }),
        Body::Tcn(plain),
        Body::Tcn(pointwise),
        recurrent(Cell::Gru { reset_after: true, hard: false }),
        recurrent(Cell::Lstm { hard: false }),
        recurrent(Cell::Elman { relu: false }),
    ]
}

/// A store with a model's starting parameters.
fn store(model: &SequenceModel, device: &Device) -> Store {
    let store = Store::new(device);
    let program = model.evaluation(Extent { batch: 1, time: 1 }).unwrap().program;
    store.write(State::Params, &program.params().initial(5)).unwrap();
    store
}

/// What the model tells of whole sequences.
fn whole(model: &SequenceModel, store: &Store, x: &[f32]) -> Vec<f32> {
    let time = x.len() / STREAMS / CHANNELS;
    let program = model.evaluation(Extent { batch: STREAMS, time }).unwrap();
    let mut executor = Executor::new(&program.program, store).unwrap();
    executor.write(program.input, x).unwrap();
    executor.write(program.target, &vec![0.0; STREAMS * time * 4]).unwrap();
    executor.run(&StepArgs::default()).unwrap();
    executor.read(program.output.unwrap()).unwrap()
}

/// The positions from `first` to `end` of all streams.
fn part(x: &[f32], first: usize, end: usize) -> Vec<f32> {
    x.chunks(x.len() / STREAMS).flat_map(|stream| stream[first * CHANNELS..end * CHANNELS].to_vec()).collect()
}

/// Outputs of blocks, each `[streams, positions, outputs]`, as those of the whole.
fn side_by_side(blocks: &[Vec<f32>]) -> Vec<f32> {
    (0..STREAMS)
        .flat_map(|stream| {
            blocks.iter().flat_map(move |block| block.chunks(block.len() / STREAMS).nth(stream).unwrap())
        })
        .copied()
        .collect()
}

#[test]
fn blocks_of_any_size_give_what_the_whole_gives() {
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::F16, 1e-2)] {
        for body in bodies() {
            let model = model(body).with_precision(precision);
            let ends = [1, 2, 9, 10, 13, 30, 61];
            let x = values(2, STREAMS * 61 * CHANNELS);
            for device in [Device::Cpu, gpu()] {
                let store = store(&model, &device);
                let expected = whole(&model, &store, &x);
                // The last block is longer than what runs at once.
                let mut stream = Stream::new(&model, &store, STREAMS, 20).unwrap();
                stream.executor().set_poison(true).unwrap();
                // Twice: the second time from the start again.
                for _ in 0..2 {
                    let mut first = 0;
                    let blocks: Vec<Vec<f32>> = ends
                        .into_iter()
                        .map(|end| stream.push(&part(&x, std::mem::replace(&mut first, end), end)).unwrap())
                        .collect();
                    let what = format!("{:?} in {precision} on {device}", model.config().body);
                    assert_close(&what, &side_by_side(&blocks), &expected, tolerance, tolerance);
                    stream.reset().unwrap();
                }
            }
        }
    }
}

#[test]
fn one_stream_starts_anew_while_the_others_go_on() {
    for body in bodies() {
        let model = model(body);
        let (head, tail) = (values(3, STREAMS * 17 * CHANNELS), values(4, STREAMS * 17 * CHANNELS));
        let both: Vec<f32> = head
            .chunks(17 * CHANNELS)
            .zip(tail.chunks(17 * CHANNELS))
            .flat_map(|(head, tail)| [head, tail].concat())
            .collect();
        for device in [Device::Cpu, gpu()] {
            let store = store(&model, &device);
            let (going_on, anew) = (whole(&model, &store, &both), whole(&model, &store, &tail));
            let mut stream = Stream::new(&model, &store, STREAMS, 17).unwrap();
            stream.push(&head).unwrap();
            // One after the other, and one that stays.
            stream.reset_streams(&[1]).unwrap();
            stream.reset_streams(&[2]).unwrap();
            let told = stream.push(&tail).unwrap();
            for (number, told) in told.chunks(17 * 4).enumerate() {
                let expected = match number {
                    1 | 2 => &anew[number * 17 * 4..][..17 * 4],
                    number => &going_on[(number * 34 + 17) * 4..][..17 * 4],
                };
                assert_close(&format!("stream {number} on {device}"), told, expected, 1e-5, 1e-5);
            }
            assert!(matches!(stream.reset_streams(&[STREAMS]), Err(Error::Graph(_))));
            assert!(matches!(stream.push(&tail[1..]), Err(Error::Graph(_))));
            assert!(stream.push(&[]).unwrap().is_empty());
        }
    }
}

/// What is remembered of a stream is what the receptive field reaches into.
#[test]
fn memory_is_the_receptive_field() {
    for body in bodies() {
        let Body::Tcn(config) = &body else { continue };
        let field = config.receptive_field();
        let program = model(body.clone()).streaming(Extent { batch: 1, time: 8 }).unwrap();
        let positions: usize = program.states.iter().map(|&state| program.program.shape(state).time).sum();
        assert_eq!(positions, field - 1);
    }
}

#[test]
fn streaming_creates_nothing() {
    let device = own_gpu();
    for body in bodies() {
        let model = model(body);
        let store = store(&model, &device);
        let mut stream = Stream::new(&model, &store, STREAMS, 20).unwrap();
        let mut feed = |time: usize| stream.push(&values(1, STREAMS * time * CHANNELS)).unwrap();
        feed(20);
        let before = held(device.as_gpu().unwrap());
        for time in [20, 1, 7, 20, 3, 19, 40] {
            feed(time);
        }
        assert_eq!(held(device.as_gpu().unwrap()), before);
    }
}

/// A sequence in two steps is trained as two sequences of which the second starts where the first ended, which is truncated
/// back-propagation through time.
#[test]
fn training_in_blocks_is_truncated_back_propagation() {
    let config = RecurrentConfig::new(Cell::Gru { reset_after: true, hard: false }, 6);
    let net = RecurrentNet::new(config).unwrap();
    let extent = Extent { batch: 2, time: 11 };
    let gradients_of = |graph: &mut Graph, sequence| {
        let dy = graph.input("dy", 0, 6).unwrap();
        let gradients = graph.backward_from(&[(sequence, dy)]).unwrap();
        let params: Vec<_> = graph.params().iter().map(|param| param.tensor).collect();
        (dy, params.into_iter().filter_map(|param| gradients.of(param)).collect::<Vec<_>>())
    };
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, CHANNELS).unwrap();
    let carried = net.append_carried(&mut graph, "", x, None, true).unwrap();
    let (dy, gradients) = gradients_of(&mut graph, carried.sequence);
    let carrying = std::sync::Arc::new(graph.finish(&[], &[]).unwrap());

    let mut graph = Graph::new(extent).unwrap();
    let given_x = graph.input("x", 0, CHANNELS).unwrap();
    let initial = graph.input_fixed("initial", 1, 6).unwrap();
    let options = receptive::nn::RecurrentOptions { initial: vec![initial], lengths: None, training: true };
    let outputs = net.append(&mut graph, "", given_x, &options).unwrap();
    let (given_dy, given_gradients) = gradients_of(&mut graph, outputs.sequence);
    let given = std::sync::Arc::new(graph.finish(&[outputs.last[0]], &[]).unwrap());

    for device in [Device::Cpu, gpu()] {
        let run = |executor: &mut Executor, x: (_, &[f32]), dy: (_, &[f32])| {
            executor.write(x.0, x.1).unwrap();
            executor.write(dy.0, dy.1).unwrap();
            executor.run(&StepArgs::default()).unwrap();
        };
        let start = |program: &std::sync::Arc<receptive::graph::Program>| {
            let store = Store::new(&device);
            store.write(State::Params, &program.params().initial(3)).unwrap();
            Executor::new(program, &store).unwrap()
        };
        let (mut one, mut other) = (start(&carrying), start(&given));
        let mut last = vec![0.0; 2 * 6];
        for block in 0..3 {
            let (inputs, seeds) = (values(block, 2 * 11 * CHANNELS), values(10 + block, 2 * 11 * 6));
            run(&mut one, (x, &inputs), (dy, &seeds));
            other.write(initial, &last).unwrap();
            run(&mut other, (given_x, &inputs), (given_dy, &seeds));
            last = other.read(outputs.last[0]).unwrap();
            assert_eq!(one.read(carried.states[0]).unwrap(), last);
            for (&actual, &expected) in gradients.iter().zip(&given_gradients) {
                assert_eq!(one.read(actual).unwrap(), other.read(expected).unwrap(), "block {block} on {device}");
            }
        }
    }
}

#[test]
fn what_cannot_be_carried_is_refused() {
    let mut graph = Graph::new(Extent { batch: 2, time: 4 }).unwrap();
    let state = graph.input_fixed("state", 2, 3).unwrap();
    let ids = graph.input_ids_fixed("ids", 2).unwrap();
    let x = graph.input("x", 0, 3).unwrap();
    let next = ops::activate(&mut graph, state, Activation::Tanh).unwrap();
    let longer = ops::activate(&mut graph, x, Activation::Tanh).unwrap();
    let fails = |graph: &mut Graph, state, next, text: &str| {
        let error = graph.carry(state, next).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    fails(&mut graph, x, longer, "state x: it is no real input of fixed time");
    fails(&mut graph, ids, next, "state ids: it is no real input of fixed time");
    fails(&mut graph, next, next, "is no real input");
    fails(&mut graph, state, state, "an operator must make its next value");
    fails(&mut graph, state, longer, "state state: it is [2, 2, 3], its next value [2, 4, 3]");
    graph.carry(state, next).unwrap();
    fails(&mut graph, state, next, "is carried already");

    let blind = Body::Tcn(TcnConfig { causal: false, ..TcnConfig::new(CHANNELS, &[4], 3) });
    let repeating = Body::Tcn(TcnConfig { padding: Padding::Replicate, ..TcnConfig::new(CHANNELS, &[4], 3) });
    let cell = Cell::Gru { reset_after: true, hard: false };
    let both_ways = Body::Recurrent(RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(cell, 4) });
    for body in [blind, repeating, both_ways] {
        let refused = Stream::new(&model(body), &Store::new(&Device::Cpu), 1, 8);
        assert!(matches!(refused, Err(Error::Config(_))), "{refused:?}");
    }
}
