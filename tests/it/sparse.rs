//! Tables whose gradient is that of the rows alone that a step reads.

use std::sync::Arc;

use receptive::device::{Capabilities, Device};
use receptive::exec::{Executor, Store, dispatches};
use receptive::graph::{Extent, Graph, Init, Precision, Program, Shape, State, StepArgs, TensorId};
use receptive::nn::{
    Body, Channels, Objective, SequenceConfig, SequenceInput, SequenceModel, TcnConfig, TextCnn, TextCnnConfig,
};
use receptive::ops::{self, Activation, Geometry, Reduction};
use receptive::optim::{self, Adagrad, Adam, Method, OptimizerConfig, Sgd};
use receptive::random::Random;
use receptive::{Error, Result};

use crate::support::{assert_close, gpu};

const EXTENT: Extent = Extent { batch: 3, time: 50 };

/// An embedding, a dense layer if there is one, and their training.
struct Model {
    program: Arc<Program>,
    ids: TensorId,
    target: TensorId,
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layer {
    /// Behind the table, held to a norm.
    Behind,
    /// The weights in front of the table, the bias behind it.
    Around,
    /// The table is all there is.
    None,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    extent: Extent,
    table: Shape,
    geometry: Geometry,
    layer: Layer,
    precision: Precision,
    sparse: bool,
}

fn kind(classes: usize, channels: usize, geometry: Geometry) -> Kind {
    let table = Shape::new(geometry.kernel, classes, channels);
    Kind { extent: EXTENT, table, geometry, layer: Layer::Behind, precision: Precision::F32, sparse: true }
}

fn model(kind: &Kind, config: &OptimizerConfig) -> Result<Model> {
    let mut graph = Graph::new(kind.extent)?.with_precision(kind.precision);
    let ids = graph.input_ids("ids", 0)?;
    let channels = kind.table.channels;
    let weight = |graph: &mut Graph| graph.param("weight", Shape::new(1, channels, 2), Init::he(channels), true);
    let bias = |graph: &mut Graph| graph.param("bias", Shape::vector(2), Init::Zeros, false);
    let weight_before = (kind.layer == Layer::Around).then(|| weight(&mut graph)).transpose()?;
    let table = graph.param("table", kind.table, Init::Normal { std: 1.0 }, false)?;
    if kind.sparse {
        graph.sparse(table)?;
    }
    let x = ops::embedding(&mut graph, ids, table, None, kind.geometry)?;
    let y = match kind.layer {
        Layer::None => x,
        Layer::Behind | Layer::Around => {
            let weight = weight_before.map_or_else(|| weight(&mut graph), Ok)?;
            let bias = bias(&mut graph)?;
            if kind.layer == Layer::Behind {
                graph.constrain(weight, 0.5)?;
            }
            ops::conv1d(&mut graph, x, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?
        }
    };
    let outputs = graph.shape(y).channels;
    let target = graph.input("target", 0, outputs)?;
    let loss = ops::mse(&mut graph, y, target, Reduction::Mean)?;
    let gradients = graph.backward(loss)?;
    let updates = optim::append(&mut graph, &gradients, config)?;
    let program = Arc::new(graph.finish(&[], &[loss, updates.grad_norm])?);
    Ok(Model { program, ids, target, extent: kind.extent })
}

/// What a training leaves.
#[derive(PartialEq)]
struct Trained {
    states: Vec<(State, Vec<f32>)>,
    metrics: Vec<Vec<f32>>,
}

/// Six steps of several sizes; in one of them nothing is read.
fn train(model: &Model, device: &Device, classes: usize) -> Trained {
    let store = Store::new(device);
    store.write(State::Params, &model.program.params().initial(1)).unwrap();
    let mut executor = Executor::new(&model.program, &store).unwrap();
    executor.set_poison(true).unwrap();
    let mut random = Random::new(7, 0, 0);
    let mut metrics = Vec::new();
    for step in 0..6 {
        let extent = [model.extent, Extent { batch: 2, time: 9 }, Extent { batch: 3, time: 33 }][step % 3];
        executor.resize(extent).unwrap();
        let positions = extent.batch * extent.time;
        let mut id = || match random.below(4) {
            _ if step == 4 => Shape::MASKED,
            0 => Shape::MASKED,
            // More than a piece of sorted positions.
            1 | 2 if step < 3 => classes as u32 - 1,
            _ => random.below(classes as u32 + 5),
        };
        let ids: Vec<u32> = (0..positions).map(|_| id()).collect();
        let outputs = executor.shape(model.target).channels;
        let target: Vec<f32> = (0..outputs * positions).map(|_| random.normal()).collect();
        executor.write_ids(model.ids, &ids).unwrap();
        executor.write(model.target, &target).unwrap();
        executor.run(&StepArgs { learning_rate: 0.02, step: step as u64, seed: 0 }).unwrap();
        metrics.extend(executor.wait().unwrap().into_iter().map(|metrics| metrics.values));
    }
    let states = [State::Params, State::SecondMoment].map(|state| (state, store.read(state).unwrap()));
    Trained { states: states.into(), metrics }
}

fn methods() -> [Method; 2] {
    [Method::Sgd(Sgd::default()), Method::Adagrad(Adagrad { initial_accumulator_value: 0.1, ..Adagrad::default() })]
}

/// What is left out is what would have changed nothing: without clipping to the last bit.
#[test]
fn a_sparse_gradient_trains_as_the_whole_one_does() {
    let clipped = Some(0.05);
    let pointwise = Geometry::pointwise();
    // One merge of sorted blocks, and two.
    let (long, longer) = (Extent { batch: 3, time: 1000 }, Extent { batch: 6, time: 3000 });
    for (kind, clip_norm) in [
        (kind(1500, 70, pointwise), None),
        (Kind { layer: Layer::Around, ..kind(1200, 5, Geometry::causal(3, 2)) }, None),
        (Kind { layer: Layer::None, ..kind(1200, 9, pointwise) }, None),
        (Kind { extent: long, ..kind(1030, 6, pointwise) }, None),
        (Kind { extent: longer, ..kind(3000, 5, pointwise) }, None),
        (kind(1200, 300, pointwise), clipped),
        (Kind { layer: Layer::None, ..kind(1200, 9, pointwise) }, clipped),
        (Kind { precision: Precision::F16, ..kind(1500, 64, pointwise) }, clipped),
        // Here the whole gradient is summed in another order.
        (kind(40, 6, Geometry::same(2, 1)), clipped),
    ] {
        for method in methods() {
            let config = OptimizerConfig { clip_norm, ..method.into() };
            let [sparse, whole] = [true, false].map(|sparse| model(&Kind { sparse, ..kind }, &config).unwrap());
            let classes = kind.table.time;
            let mut all = Vec::new();
            for device in [Device::Cpu, gpu()] {
                let what = format!("{kind:?}, {config:?} on {device}");
                let (expected, actual) = (train(&whole, &device, classes), train(&sparse, &device, classes));
                let initial = whole.program.params().initial(1);
                let moved = expected.states[0].1.iter().zip(&initial).filter(|(after, before)| after != before).count();
                assert!(moved > 100 && moved < initial.len(), "{what}: {moved} of {} moved", initial.len());
                for ((state, expected), (_, actual)) in expected.states.iter().zip(&actual.states) {
                    if clip_norm.is_none() {
                        assert!(expected == actual, "{what}: {state:?} differs");
                    }
                    assert_close(&format!("{what}: {state:?}"), actual, expected, 2e-6, 1e-5);
                }
                for (actual, expected) in actual.metrics.iter().zip(&expected.metrics) {
                    assert_close(&format!("{what}: loss and norm"), actual, expected, 1e-6, 1e-5);
                }
                all.push(actual);
            }
            let tolerance = if kind.precision == Precision::F16 { 2e-3 } else { 2e-6 };
            for (cpu, gpu) in all[0].states.iter().zip(&all[1].states) {
                assert_close(&format!("CPU and GPU, {config:?}: {:?}", cpu.0), &gpu.1, &cpu.1, tolerance, 1e-4);
            }
        }
    }
}

/// The dispatches of a step, and their workgroups, are the same for a table ten times as large.
#[test]
fn a_step_costs_the_rows_that_it_reads() {
    let workgroups = |classes: usize, sparse: bool| -> Vec<(&'static str, u64)> {
        let kind = Kind { sparse, ..kind(classes, 300, Geometry::pointwise()) };
        let config = OptimizerConfig { clip_norm: Some(1.0), ..methods()[1].into() };
        let program = model(&kind, &config).unwrap().program;
        let dispatches = dispatches(&program, &Capabilities::floor()).unwrap();
        dispatches.iter().map(|dispatch| (dispatch.kernel.entry, dispatch.workgroups)).collect()
    };
    assert_eq!(workgroups(2_000, true), workgroups(20_000, true));
    assert_ne!(workgroups(2_000, false), workgroups(20_000, false));
}

#[test]
fn what_cannot_be_sparse_is_refused() {
    let kind = kind(2000, 8, Geometry::pointwise());
    let refused = [
        Method::Adam(Adam::default()),
        Method::Sgd(Sgd { momentum: 0.9, ..Sgd::default() }),
        Method::Adagrad(Adagrad { weight_decay: 0.1, ..Adagrad::default() }),
    ];
    for method in refused {
        let error = model(&kind, &OptimizerConfig::from(method)).err().unwrap();
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains("table is sparse"), "{error}");
    }

    // Two that read the same table, of which one is no embedding.
    for tied in [false, true] {
        let mut graph = Graph::new(EXTENT).unwrap();
        let ids = graph.input_ids("ids", 0).unwrap();
        let table = graph.param("table", Shape::new(1, 8, 8), Init::Zeros, false).unwrap();
        graph.sparse(table).unwrap();
        let x = ops::embedding(&mut graph, ids, table, None, Geometry::pointwise()).unwrap();
        let y = match tied {
            true => ops::conv1d(&mut graph, x, table, None, Geometry::pointwise(), Activation::Identity),
            false => ops::embedding(&mut graph, ids, table, None, Geometry::pointwise()),
        };
        let target = graph.input("target", 0, 8).unwrap();
        let sum = ops::add(&mut graph, x, y.unwrap()).unwrap();
        let loss = ops::mse(&mut graph, sum, target, Reduction::Mean).unwrap();
        let error = graph.backward(loss).unwrap_err();
        assert!(matches!(error, Error::Graph(_)) && error.to_string().contains("table is sparse"), "{error}");
    }

    // One that no embedding reads.
    let mut graph = Graph::new(EXTENT).unwrap();
    let frozen = graph.untrained("frozen", Shape::vector(8), Init::Zeros).unwrap();
    let weight = graph.param("weight", Shape::new(1, 4, 1), Init::Zeros, false).unwrap();
    assert!(matches!(graph.sparse(frozen), Err(Error::Graph(_))));
    graph.sparse(weight).unwrap();
    let input = graph.input("input", 0, 4).unwrap();
    let y = ops::conv1d(&mut graph, input, weight, None, Geometry::pointwise(), Activation::Identity).unwrap();
    let target = graph.input("target", 0, 1).unwrap();
    let loss = ops::mse(&mut graph, y, target, Reduction::Mean).unwrap();
    assert!(matches!(graph.backward(loss), Err(Error::Graph(_))));

    // One whose gradient is there already, as a whole.
    let mut graph = Graph::new(EXTENT).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    let table = graph.param("table", Shape::new(1, 8, 1), Init::Zeros, false).unwrap();
    let x = ops::embedding(&mut graph, ids, table, None, Geometry::pointwise()).unwrap();
    let target = graph.input("target", 0, 1).unwrap();
    let loss = ops::mse(&mut graph, x, target, Reduction::Mean).unwrap();
    graph.backward(loss).unwrap();
    assert!(matches!(graph.sparse(table), Err(Error::Graph(_))));
}

/// Models read their tables by rows where that is possible and there are more rows than positions.
#[test]
fn models_of_many_words_are_trained_by_rows() {
    let kernels = |words: usize, method: Method| -> Vec<&'static str> {
        let config = TextCnnConfig { dimensions: 8, filters: 4, ..TextCnnConfig::kim(words, 2, Channels::Random) };
        let optimizer = OptimizerConfig::from(method);
        let program = TextCnn::new(config).unwrap().training(EXTENT, &optimizer).unwrap().program;
        dispatches(&program, &Capabilities::floor()).unwrap().iter().map(|dispatch| dispatch.kernel.entry).collect()
    };
    for (words, method, by_rows) in [
        (2000, methods()[0], true),
        (2000, methods()[1], true),
        (100, methods()[1], false),
        (2000, Method::default(), false),
    ] {
        let kernels = kernels(words, method);
        assert_eq!(kernels.contains(&"rows_main"), by_rows, "{words} words, {method:?}");
        assert_eq!(kernels.contains(&"sum_main"), !by_rows && words > 1024, "{words} words, {method:?}");
    }
    for tied in [false, true] {
        let input = SequenceInput::Classes { classes: 2000, embedding: 8, dropout: 0.0, uniform: None, tied };
        let body = Body::Tcn(TcnConfig::new(8, &[8], 2));
        let config = SequenceConfig { input, body, outputs: 2000, objective: Objective::Classes, output_std: None };
        let program = SequenceModel::new(config).unwrap().training(EXTENT, &methods()[0].into()).unwrap().program;
        let dispatches = dispatches(&program, &Capabilities::floor()).unwrap();
        assert_eq!(dispatches.iter().any(|dispatch| dispatch.kernel.entry == "rows_main"), !tied);
    }
}
