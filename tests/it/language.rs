//! Language models: the loss of many classes, tied weights, windows with context.

use std::sync::Arc;

use receptive::data::text::language::Streams;
use receptive::data::{SequenceBatch, Sequences};
use receptive::device::Capabilities;
use receptive::exec::{CpuExecutor, Executor, Store, dispatches};
use receptive::graph::{Binding, Extent, Graph, Init, Precision, Program, Shape, State, TensorId};
use receptive::nn::{Body, Objective, SequenceConfig, SequenceInput, SequenceModel, TcnConfig};
use receptive::ops::linear_cross_entropy::LinearCrossEntropy;
use receptive::ops::{self, Activation, Geometry};
use receptive::optim::OptimizerConfig;
use receptive::random::Random;
use receptive::train::{Evaluator, Event, Limit, SequenceTask, Trainer, TrainerOptions};
use receptive::{Device, Gradients};

use crate::support::{assert_close, gpu};

const EXTENT: Extent = Extent { batch: 2, time: 37 };
const CHANNELS: usize = 10;
const CLASSES: usize = 21;

struct Loss {
    program: Arc<Program>,
    targets: TensorId,
    loss: TensorId,
    gradients: Vec<TensorId>,
}

/// The loss of parameters `x`, `weight`, `bias` by one operator, or by a convolution and the softmax of its logits.
fn loss(group: Option<Option<usize>>) -> Loss {
    let mut graph = Graph::new(EXTENT).unwrap();
    let x = graph.param("x", Shape::new(EXTENT.batch, EXTENT.time, CHANNELS), Init::Zeros, false).unwrap();
    let weight_shape = match group {
        Some(_) => Shape::new(1, CLASSES, CHANNELS),
        None => Shape::new(1, CHANNELS, CLASSES),
    };
    let weight = graph.param("weight", weight_shape, Init::Zeros, false).unwrap();
    let bias = graph.param("bias", Shape::vector(CLASSES), Init::Zeros, false).unwrap();
    let targets = graph.input_ids("targets", 0).unwrap();
    let loss = match group {
        Some(group) => graph.push(LinearCrossEntropy { bias: true, group }, &[x, weight, bias, targets]).unwrap()[0],
        None => {
            let logits =
                ops::conv1d(&mut graph, x, weight, Some(bias), Geometry::pointwise(), Activation::Identity).unwrap();
            ops::softmax_cross_entropy(&mut graph, logits, targets).unwrap().loss
        }
    };
    let gradients: Gradients = graph.backward(loss).unwrap();
    let gradients = [x, weight, bias].map(|tensor| gradients.of(tensor).unwrap()).to_vec();
    Loss { program: Arc::new(graph.finish(&[loss], &[]).unwrap()), targets, loss, gradients }
}

impl Loss {
    /// Loss, and gradients of `x`, of the weights with a row a class, and of the bias.
    fn run(&self, device: &Device, values: &[Vec<f32>; 3], targets: &[u32], transposed: bool) -> [Vec<f32>; 4] {
        let across = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
        };
        let mut values = values.clone();
        if transposed {
            values[1] = across(&values[1], CLASSES, CHANNELS);
        }
        let mut flat = vec![0.0; self.program.params().flat_len()];
        for (param, values) in self.program.params().iter().zip(&values) {
            param.scatter(values, &mut flat);
        }
        let store = Store::new(device);
        store.write(State::Params, &flat).unwrap();
        let mut executor = Executor::new(&self.program, &store).unwrap();
        executor.set_poison(true).unwrap();
        executor.write_ids(self.targets, targets).unwrap();
        executor.run(&Default::default()).unwrap();
        let mut gradients = self.gradients.iter().map(|&gradient| executor.read(gradient).unwrap());
        let [x, weight, bias] = [(); 3].map(|()| gradients.next().unwrap());
        let weight = if transposed { across(&weight, CHANNELS, CLASSES) } else { weight };
        [executor.read(self.loss).unwrap(), x, weight, bias]
    }
}

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0, 0);
    (0..count).map(|_| random.normal()).collect()
}

/// One operator gives what a convolution and the softmax of its logits give, whole or in groups, on both executors.
#[test]
fn the_loss_is_that_of_a_convolution_and_a_softmax() {
    let values = [numbers(1, 74 * CHANNELS), numbers(2, CLASSES * CHANNELS), numbers(3, CLASSES)];
    let mut targets: Vec<u32> = (0..74).map(|at| at * 5 % CLASSES as u32).collect();
    targets.iter_mut().step_by(7).for_each(|target| *target = Shape::MASKED);
    let expected = loss(None).run(&Device::Cpu, &values, &targets, true);
    for device in [Device::Cpu, gpu()] {
        for group in [None, Some(4), Some(8), Some(20)] {
            let actual = loss(Some(group)).run(&device, &values, &targets, false);
            for (name, (actual, expected)) in ["loss", "x", "weight", "bias"].iter().zip(actual.iter().zip(&expected)) {
                assert_close(&format!("{name}, groups of {group:?} on {device}"), actual, expected, 1e-5, 1e-5);
            }
        }
        // Nothing is told anywhere.
        let none = vec![Shape::MASKED; 74];
        let nothing = loss(Some(Some(8))).run(&device, &values, &none, false);
        assert!(nothing.iter().flatten().all(|&value| value == 0.0), "{device}");
        // A target that is no class.
        targets[1] = CLASSES as u32;
        assert!(loss(Some(Some(8))).run(&device, &values, &targets, false)[0][0].is_nan(), "{device}");
        targets[1] = 5;
    }
}

/// 268,000 words: what exists beside tensors of the model's own stays within 64 MiB.
#[test]
fn logits_of_many_classes_keep_within_the_memory() {
    let (extent, classes, channels) = (Extent { batch: 16, time: 80 }, 268_000, 400);
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, channels).unwrap();
    let weight = graph.param("weight", Shape::new(1, classes, channels), Init::Zeros, false).unwrap();
    let bias = graph.param("bias", Shape::vector(classes), Init::Zeros, false).unwrap();
    let targets = graph.input_ids("targets", 0).unwrap();
    let loss = ops::linear_cross_entropy(&mut graph, x, weight, Some(bias), targets).unwrap().loss;
    graph.backward(loss).unwrap();
    let program = graph.finish(&[loss], &[]).unwrap();
    let mut scratch = std::collections::HashMap::new();
    for dispatch in dispatches(&program, &Capabilities::floor()).unwrap() {
        for binding in dispatch.bindings {
            if let Binding::Scratch { index, elements } = binding {
                let most: &mut usize = scratch.entry(index).or_default();
                *most = elements.max(*most);
            }
        }
    }
    let bytes = 4 * scratch.values().sum::<usize>();
    assert!(bytes <= 64 << 20, "{} MiB", bytes >> 20);
}

fn config(tied: bool) -> SequenceConfig {
    let (classes, embedding) = (13, 8);
    SequenceConfig {
        input: SequenceInput::Classes { classes, embedding, dropout: 0.0, uniform: Some(0.5), tied },
        body: Body::Tcn(TcnConfig { dropout: 0.0, ..TcnConfig::new(embedding, &[12, embedding], 2) }),
        outputs: classes,
        objective: Objective::Classes,
        output_std: None,
    }
}

/// Sizes derived from the settings of Bai et al. (2018), supplement, table 2: all levels but the last, which is as wide as the embedding,
/// have the width that is given, and the output's weights are the embedding's.
#[test]
fn language_models_have_the_published_sizes() {
    let model = |classes: usize, embedding: usize, width: usize, levels: usize, kernel: usize| {
        let mut channels = vec![width; levels];
        channels[levels - 1] = embedding;
        let network = TcnConfig::new(embedding, &channels, kernel);
        let receptive_field = network.receptive_field();
        let input = SequenceInput::Classes { classes, embedding, dropout: 0.0, uniform: None, tied: true };
        let model = SequenceConfig { input, body: Body::Tcn(network), outputs: classes, ..config(true) };
        (SequenceModel::new(model).unwrap().parameter_count().unwrap(), receptive_field)
    };
    // Words of Penn Treebank, WikiText-103 and LAMBADA; characters of Penn Treebank and text8.
    assert_eq!(model(10_000, 600, 600, 4, 3), (14_659_600, 61));
    assert_eq!(model(267_735, 400, 1000, 5, 3), (132_060_735, 125));
    assert_eq!(model(93_000, 500, 500, 5, 4), (56_603_000, 187));
    assert_eq!(model(50, 100, 450, 3, 3), (2_222_100, 29));
    assert_eq!(model(27, 100, 520, 5, 2), (4_129_667, 63));
}

/// The gradient of tied weights is that of their use as table and as output's weights; the model has so many parameters fewer.
#[test]
fn tied_weights_get_the_gradients_of_both_uses() {
    let count = |tied| SequenceModel::new(config(tied)).unwrap().with_context(3).parameter_count().unwrap();
    assert_eq!(count(true), count(false) - 13 * 8);
    let (classes, channels) = (13, 8);
    let mut graph = Graph::new(Extent { batch: 2, time: 9 }).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    let targets = graph.input_ids("targets", -3).unwrap();
    let table = graph.param("table", Shape::new(1, classes, channels), Init::Normal { std: 0.7 }, false).unwrap();
    let x = ops::embedding(&mut graph, ids, table, None, Geometry::pointwise()).unwrap();
    let h = ops::crop(&mut graph, x, 3).unwrap();
    let loss = ops::linear_cross_entropy(&mut graph, h, table, None, targets).unwrap().loss;
    let gradient = graph.backward(loss).unwrap().of(table).unwrap();
    let program = Arc::new(graph.finish(&[loss], &[]).unwrap());
    let step = |values: &[f64]| {
        let mut cpu = CpuExecutor::<f64>::new(Arc::clone(&program)).unwrap();
        cpu.write(table, values).unwrap();
        cpu.write_ids(ids, &(0..18).map(|at| at * 7 % 13).collect::<Vec<u32>>()).unwrap();
        cpu.write_ids(targets, &(0..12).map(|at| at * 5 % 13).collect::<Vec<u32>>()).unwrap();
        cpu.run(&Default::default()).unwrap();
        (cpu.read(loss).unwrap()[0], cpu.read(gradient).unwrap())
    };
    let values: Vec<f64> = numbers(8, classes * channels).into_iter().map(f64::from).collect();
    let direction: Vec<f64> = numbers(9, classes * channels).into_iter().map(f64::from).collect();
    let moved = |h: f64| step(&values.iter().zip(&direction).map(|(value, d)| value + h * d).collect::<Vec<_>>()).0;
    let expected: f64 = step(&values).1.iter().zip(&direction).map(|(gradient, d)| gradient * d).sum();
    let actual = (moved(1e-6) - moved(-1e-6)) / 2e-6;
    assert!(expected.abs() > 0.01 && (actual - expected).abs() <= 1e-7, "{expected} and {actual} by differences");
}

#[test]
fn tied_weights_that_do_not_fit_are_refused() {
    let refused = |config: SequenceConfig, word: &str| {
        let error = SequenceModel::new(config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(SequenceConfig { outputs: 12, ..config(true) }, "not 12 outputs");
    refused(SequenceConfig { objective: Objective::LastValues, ..config(true) }, "classes");
    refused(SequenceConfig { body: Body::Tcn(TcnConfig::new(8, &[8, 12], 2)), ..config(true) }, "not 12");
}

/// A language whose next token follows from the one before, with noise.
fn text(count: usize) -> Vec<u32> {
    let mut random = Random::new(4, 0, 0);
    let mut ids = vec![1];
    while ids.len() < count {
        let next = (ids[ids.len() - 1] * 5 + 1) % 13;
        ids.push(if random.below(10) == 0 { random.below(13) } else { next });
    }
    ids
}

/// A tied model learns, alike on both executors and in half precision; what it is judged by is a whole window's mean.
#[test]
fn a_language_model_learns() {
    let ids = text(3000);
    let train: Arc<dyn Sequences> = Arc::new(Streams::new(&ids[..2500], 4, 24, 16).unwrap());
    let valid: Arc<dyn Sequences> = Arc::new(Streams::new(&ids[2500..], 2, 24, 16).unwrap());
    let mut losses = vec![];
    for (device, precision) in [(Device::Cpu, Precision::F32), (gpu(), Precision::F32), (gpu(), Precision::F16)] {
        let model = SequenceModel::new(config(true)).unwrap().with_precision(precision);
        let optimizer = OptimizerConfig { clip_norm: Some(1.0), ..OptimizerConfig::default() };
        let task = SequenceTask::new(model, Arc::clone(&train), Arc::clone(&valid), optimizer).unwrap();
        let options = TrainerOptions { learning_rate: 1e-2, ..TrainerOptions::default() };
        let mut trainer = Trainer::new(task, &device, options).unwrap();
        let mut first = None;
        trainer
            .run(Limit::steps(150), &Default::default(), &mut |event| {
                if let Event::Step { loss, .. } = event {
                    first.get_or_insert(*loss);
                }
            })
            .unwrap();
        let reached = trainer.with_task(|task, store| task.evaluate(store)).unwrap().loss;
        let first = f64::from(first.unwrap());
        assert!(first > 2.2 && reached < 1.7, "{first} to {reached} on {device} in {precision}");
        losses.push(reached);
        // The mean over what is told, whatever the batches.
        let whole: Arc<dyn Sequences> = Arc::new(Streams::new(&ids[2500..], 2, 248, 240).unwrap());
        let mut evaluator = Evaluator::new(trainer.task().model(), trainer.store(), &*whole).unwrap();
        let whole = evaluator.evaluate(&*whole).unwrap().loss;
        assert!((whole - reached).abs() < 0.02, "{whole} and {reached}");
    }
    assert!((losses[0] - losses[1]).abs() < 0.02 && (losses[0] - losses[2]).abs() < 0.1, "{losses:?}");
}

/// The last window of a text is shorter; a change of length allocates nothing and compiles nothing.
#[test]
fn windows_of_another_length_are_the_same_program() {
    let streams = Streams::new(&text(300), 2, 24, 16).unwrap();
    let mut batch = SequenceBatch::default();
    let lengths: Vec<usize> = (0..streams.len())
        .map(|unit| {
            streams.fill(&[unit], &mut batch);
            batch.time
        })
        .collect();
    assert_eq!(lengths, [24, 24, 24, 24, 24, 24, 24, 24, 21]);
}
