//! Optimizers: PyTorch's trajectories, the same on both executors, the same bits in every run.

use std::sync::Arc;

use receptive::exec::{CpuExecutor, Executor, Store};
use receptive::graph::{Extent, Graph, Init, ParamLayout, Program, Shape, State, StepArgs, TensorId};
use receptive::optim::{self, Adadelta, Adagrad, Adam, Method, OptimizerConfig, RmsProp, Sgd};
use receptive::random::Random;
use receptive::{Device, Error};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{assert_close, gpu};

/// Parameters whose gradients are inputs.
struct Model {
    program: Arc<Program>,
    grads: Vec<TensorId>,
}

impl Model {
    /// `parameters`: rows, channels and whether they decay. `norm`: whether the norm is a metric.
    fn new(parameters: &[(usize, usize, bool)], config: &OptimizerConfig, norm: bool) -> Self {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        let (mut grads, mut seeds) = (vec![], vec![]);
        for (index, &(rows, channels, decay)) in parameters.iter().enumerate() {
            let shape = Shape::new(1, rows, channels);
            let param = graph.param(&format!("param{index}"), shape, Init::Normal { std: 1.0 }, decay).unwrap();
            let grad = graph.input(&format!("grad{index}"), rows as isize - 1, channels).unwrap();
            grads.push(grad);
            seeds.push((param, grad));
        }
        let gradients = graph.backward_from(&seeds).unwrap();
        let updates = optim::append(&mut graph, &gradients, config).unwrap();
        let metrics: &[TensorId] = if norm { &[updates.grad_norm] } else { &[] };
        Self { program: Arc::new(graph.finish(&[], metrics).unwrap()), grads }
    }

    fn params(&self) -> &ParamLayout {
        self.program.params()
    }

    /// A store with these parameters, and an executor with everything unwritten poisoned.
    fn start(&self, device: &Device, params: &[f32]) -> Run<'_> {
        let store = Store::new(device);
        store.write(State::Params, params).unwrap();
        let mut executor = Executor::new(&self.program, &store).unwrap();
        executor.set_poison(true).unwrap();
        Run { model: self, store, executor }
    }
}

struct Run<'m> {
    model: &'m Model,
    store: Store,
    executor: Executor,
}

impl Run<'_> {
    fn step(&mut self, learning_rate: f32, grads: &[Vec<f32>]) {
        for (&tensor, grad) in self.model.grads.iter().zip(grads) {
            self.executor.write(tensor, grad).unwrap();
        }
        self.executor.run(&StepArgs { learning_rate, ..Default::default() }).unwrap();
    }

    fn flat(&self, state: State) -> Vec<f32> {
        self.store.read(state).unwrap()
    }

    fn param(&self, index: usize) -> Vec<f32> {
        self.model.params().get(index).unwrap().gather(&self.flat(State::Params))
    }

    fn norms(&mut self) -> Vec<f32> {
        self.executor.wait().unwrap().iter().map(|metrics| metrics.values[0]).collect()
    }
}

fn devices() -> [Device; 2] {
    [Device::Cpu, gpu()]
}

fn adam(adam: Adam, clip_norm: Option<f32>) -> OptimizerConfig {
    OptimizerConfig { clip_norm, ..Method::Adam(adam).into() }
}

fn sgd(momentum: f32, nesterov: bool, weight_decay: f32) -> OptimizerConfig {
    OptimizerConfig::from(Method::Sgd(Sgd { momentum, nesterov, weight_decay }))
}

fn golden_config(case: &Value) -> OptimizerConfig {
    let number = |value: &Value| value.as_f64().unwrap();
    let weight_decay = number(&case["weight_decay"]) as f32;
    let method = match case["optimizer"].as_str().unwrap() {
        "sgd" => Method::Sgd(Sgd {
            momentum: number(&case["momentum"]) as f32,
            nesterov: case["nesterov"].as_bool().unwrap(),
            weight_decay,
        }),
        "rmsprop" => Method::RmsProp(RmsProp {
            alpha: number(&case["alpha"]),
            eps: number(&case["eps"]) as f32,
            momentum: number(&case["momentum"]) as f32,
            centered: case["centered"].as_bool().unwrap(),
            weight_decay,
        }),
        "adagrad" => Method::Adagrad(Adagrad {
            lr_decay: number(&case["lr_decay"]) as f32,
            initial_accumulator_value: number(&case["initial_accumulator_value"]) as f32,
            eps: number(&case["eps"]) as f32,
            weight_decay,
        }),
        "adadelta" => {
            Method::Adadelta(Adadelta { rho: number(&case["rho"]), eps: number(&case["eps"]) as f32, weight_decay })
        }
        _ => Method::Adam(Adam {
            beta1: number(&case["betas"][0]),
            beta2: number(&case["betas"][1]),
            eps: number(&case["eps"]) as f32,
            weight_decay,
        }),
    };
    OptimizerConfig { clip_norm: case["clip_norm"].as_f64().map(|norm| norm as f32), ..method.into() }
}

/// One trajectory of PyTorch's.
struct Golden {
    config: OptimizerConfig,
    learning_rate: f32,
    parameters: Vec<(usize, usize, bool)>,
    /// By parameter.
    initial: Vec<Vec<f32>>,
    /// By step and parameter: the gradients, and the parameters after the step.
    grads: Vec<Vec<Vec<f32>>>,
    params: Vec<Vec<Vec<f32>>>,
    /// Where gradients are clipped.
    norms: Option<Vec<f32>>,
}

fn golden() -> Vec<Golden> {
    ["optim", "optim_adaptive"].into_iter().flat_map(golden_of).collect()
}

fn golden_of(name: &str) -> Vec<Golden> {
    let path = crate::golden::path(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["config"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: String| -> Vec<f32> {
        let words = file.tensor(&name).unwrap().data().chunks_exact(4);
        words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let read = |(number, case): (usize, &Value)| {
        let config = golden_config(case);
        let sizes: Vec<Vec<usize>> = serde_json::from_value(case["shapes"].clone()).unwrap();
        let split = |s: &Vec<usize>| (s[..s.len() - 1].iter().product(), s[s.len() - 1], true);
        let steps = case["steps"].as_u64().unwrap() as usize;
        let by_step = |what: &str| -> Vec<Vec<Vec<f32>>> {
            let of = |j| tensor(format!("{number}.{j}.{what}"));
            let row = |all: Vec<f32>, step| all.chunks(all.len() / steps).nth(step).unwrap().to_vec();
            (0..steps).map(|step| (0..sizes.len()).map(|j| row(of(j), step)).collect()).collect()
        };
        Golden {
            config,
            learning_rate: case["lr"].as_f64().unwrap() as f32,
            parameters: sizes.iter().map(split).collect(),
            initial: (0..sizes.len()).map(|j| tensor(format!("{number}.{j}.initial"))).collect(),
            grads: by_step("grads"),
            params: by_step("params"),
            norms: config.clip_norm.map(|_| tensor(format!("{number}.norms"))),
        }
    };
    cases.iter().enumerate().map(read).collect()
}

/// How far parameters went.
fn way(to: &[f32], from: &[f32]) -> Vec<f32> {
    to.iter().zip(from).map(|(a, b)| a - b).collect()
}

#[test]
fn trajectories_are_those_of_pytorch() {
    let cases = golden();
    assert_eq!(cases.len(), 15);
    for (device, case) in devices().iter().flat_map(|device| cases.iter().map(move |case| (device, case))) {
        let model = Model::new(&case.parameters, &case.config, case.norms.is_some());
        let mut flat = vec![0.0; model.params().flat_len()];
        for (param, values) in model.params().iter().zip(&case.initial) {
            param.scatter(values, &mut flat);
        }
        let mut run = model.start(device, &flat);
        for (step, (grads, params)) in case.grads.iter().zip(&case.params).enumerate() {
            run.step(case.learning_rate, grads);
            for (j, initial) in case.initial.iter().enumerate() {
                let what = format!("{device}, {:?}, parameter {j} after step {step}", case.config);
                // In `f32` each step rounds the parameters, some of which are above 2, twice.
                assert_close(&what, &way(&run.param(j), initial), &way(&params[j], initial), 1e-6, 1e-5);
            }
        }
        if let Some(norms) = &case.norms {
            assert_close(&format!("{device}, norms"), &run.norms(), norms, 0.0, 1e-6);
        }
    }
}

/// Without the rounding of each step, only that of the stored result is left.
#[test]
fn trajectories_in_f64_are_those_of_pytorch() {
    let widen = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    for case in golden() {
        let model = Model::new(&case.parameters, &case.config, case.norms.is_some());
        let mut executor = CpuExecutor::<f64>::new(Arc::clone(&model.program)).unwrap();
        let tensors: Vec<TensorId> = model.params().iter().map(|param| param.tensor).collect();
        for (&tensor, initial) in tensors.iter().zip(&case.initial) {
            executor.write(tensor, &widen(initial)).unwrap();
        }
        for (step, (grads, params)) in case.grads.iter().zip(&case.params).enumerate() {
            for (&tensor, grad) in model.grads.iter().zip(grads) {
                executor.write(tensor, &widen(grad)).unwrap();
            }
            executor.run(&StepArgs { learning_rate: case.learning_rate, ..Default::default() }).unwrap();
            for (j, initial) in case.initial.iter().enumerate() {
                let exact = executor.read(tensors[j]).unwrap();
                let actual: Vec<f32> = exact.iter().zip(initial).map(|(&a, &b)| (a - f64::from(b)) as f32).collect();
                let what = format!("{:?}, parameter {j} after step {step}", case.config);
                assert_close(&what, &actual, &way(&params[j], initial), 1.3e-7, 3e-7);
            }
        }
    }
}

/// Rows with padding, parameters that end within a block, a size that fills no workgroup: 300,000 elements.
const LARGE: &[(usize, usize, bool)] =
    &[(2 * 150, 300, true), (1, 300, false), (1, 1, false), (3 * 77, 65, true), (1000, 190, true), (1, 64, false)];

fn large_grads(step: u32) -> Vec<Vec<f32>> {
    let scale = if step.is_multiple_of(3) { 0.001 } else { 0.01 };
    let sizes = LARGE.iter().enumerate();
    sizes
        .map(|(index, (rows, channels, _))| {
            let mut random = Random::new(5, step, index as u32);
            (0..rows * channels).map(|_| scale * random.normal()).collect()
        })
        .collect()
}

fn of(method: Method) -> OptimizerConfig {
    OptimizerConfig::from(method)
}

fn rmsprop(momentum: f32, centered: bool, weight_decay: f32) -> OptimizerConfig {
    of(Method::RmsProp(RmsProp { momentum, centered, weight_decay, ..RmsProp::default() }))
}

fn adagrad(weight_decay: f32) -> OptimizerConfig {
    of(Method::Adagrad(Adagrad { lr_decay: 0.1, initial_accumulator_value: 0.1, weight_decay, ..Adagrad::default() }))
}

fn adadelta(weight_decay: f32) -> OptimizerConfig {
    of(Method::Adadelta(Adadelta { weight_decay, ..Adadelta::default() }))
}

fn configs() -> [OptimizerConfig; 10] {
    let adamw = Adam { weight_decay: 0.01, ..Adam::default() };
    [
        adam(adamw, Some(2.0)),
        sgd(0.9, true, 0.01),
        sgd(0.9, false, 0.0),
        sgd(0.0, false, 0.01),
        rmsprop(0.0, false, 0.0),
        rmsprop(0.9, false, 0.01),
        rmsprop(0.0, true, 0.01),
        rmsprop(0.9, true, 0.0),
        adagrad(0.01),
        adadelta(0.01),
    ]
}

/// Parameters, moments and norms after 20 steps.
fn train(model: &Model, device: &Device) -> [Vec<f32>; 5] {
    let mut run = model.start(device, &model.params().initial(3));
    for step in 0..20 {
        run.step(1e-2, &large_grads(step));
    }
    let norms = run.norms();
    assert_eq!(optim::updates_of(&run.flat(State::Counters)), 20);
    let states = [State::Params, State::FirstMoment, State::SecondMoment, State::GradientMean];
    let [params, first, second, mean] = states.map(|state| run.flat(state));
    [params, first, second, mean, norms]
}

#[test]
fn both_executors_agree_and_padding_stays_zero() {
    for config in configs() {
        let model = Model::new(LARGE, &config, true);
        assert!(model.params().count() > 290_000);
        let [cpu, gpu] = devices().map(|device| train(&model, &device));
        for (what, (actual, expected)) in
            ["params", "first", "second", "mean", "norms"].iter().zip(gpu.iter().zip(&cpu))
        {
            let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            assert_close(&format!("{what}, {config:?}"), actual, expected, 2e-6 * scale, 1e-5);
        }
        let exact = |step| {
            let squares = large_grads(step).concat().into_iter().map(|g| f64::from(g).powi(2));
            squares.sum::<f64>().sqrt() as f32
        };
        let exact: Vec<f32> = (0..20).map(exact).collect();
        assert_close("norms", &cpu[4], &exact, 0.0, 1e-6);
        assert!(exact.iter().any(|&n| n < 2.0) && exact.iter().any(|&n| n > 2.0), "both sides of the clipping");

        let mut padding = vec![1.0; model.params().flat_len()];
        for param in model.params().iter() {
            param.scatter(&vec![0.0; param.shape.len()], &mut padding);
        }
        for flat in cpu[..4].iter().chain(&gpu[..4]).filter(|flat| !flat.is_empty()) {
            let wrong = flat.iter().zip(&padding).position(|(value, padding)| *padding > 0.0 && value.to_bits() != 0);
            assert_eq!(wrong, None, "an element of padding is not zero, {config:?}");
        }
    }
}

/// A model whose second parameter is held to a norm, and with `frozen` one that is not trained between them.
fn held(config: &OptimizerConfig, max_norm: Option<f32>, frozen: bool) -> Model {
    let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
    let (mut grads, mut seeds) = (vec![], vec![]);
    for (index, (rows, channels)) in [(70, 9), (700, 6), (3, 2)].into_iter().enumerate() {
        let shape = Shape::new(1, rows, channels);
        let param = graph.param(&format!("param{index}"), shape, Init::Normal { std: 0.05 }, true).unwrap();
        if let Some(max_norm) = max_norm.filter(|_| index == 1) {
            graph.constrain(param, max_norm).unwrap();
        }
        if frozen && index == 0 {
            graph.untrained("frozen", Shape::new(1, 5, 7), Init::Normal { std: 1.0 }).unwrap();
        }
        let grad = graph.input(&format!("grad{index}"), rows as isize - 1, channels).unwrap();
        grads.push(grad);
        seeds.push((param, grad));
    }
    let gradients = graph.backward_from(&seeds).unwrap();
    let updates = optim::append(&mut graph, &gradients, config).unwrap();
    Model { program: Arc::new(graph.finish(&[], &[updates.grad_norm]).unwrap()), grads }
}

fn held_grads(step: u32) -> Vec<Vec<f32>> {
    let draw = |(index, elements)| {
        let mut random = Random::new(6, step, index);
        (0..elements).map(|_| random.normal()).collect()
    };
    [(0, 70 * 9), (1, 700 * 6), (2, 6)].into_iter().map(draw).collect()
}

#[test]
fn norms_are_held_within_the_update() {
    let max_norm = 1.2;
    for config in configs() {
        let (free, model) = (held(&config, None, false), held(&config, Some(max_norm), true));
        let mut initial = model.params().initial(3);
        // One channel is shorter than that, the others are not.
        let constrained = model.params().find("param1").unwrap();
        let mut values = constrained.gather(&initial);
        values.iter_mut().step_by(6).for_each(|value| *value *= 0.1);
        constrained.scatter(&values, &mut initial);
        let [cpu, gpu] = devices().map(|device| {
            let mut run = model.start(&device, &initial);
            run.step(1e-3, &held_grads(0));
            let first = run.flat(State::Params);
            for step in 1..6 {
                run.step(1e-3, &held_grads(step));
            }
            let frozen = model.params().find("frozen").unwrap();
            assert_eq!(frozen.gather(&run.flat(State::Params)), frozen.gather(&initial), "{config:?} on {device}");
            (first, run.flat(State::Params), run.norms())
        });
        assert_close(&format!("after the steps, {config:?}"), &gpu.1, &cpu.1, 1e-5, 1e-4);
        assert_close(&format!("norms, {config:?}"), &gpu.2, &cpu.2, 0.0, 1e-5);

        // The first step, from what it is without a norm.
        let mut flat = vec![0.0; free.params().flat_len()];
        for param in free.params().iter() {
            param.scatter(&model.params().find(&param.name).unwrap().gather(&initial), &mut flat);
        }
        let mut run = free.start(&Device::Cpu, &flat);
        run.step(1e-3, &held_grads(0));
        let unheld = run.flat(State::Params);
        for param in free.params().iter() {
            let mut expected = param.gather(&unheld);
            if param.name == "param1" {
                let norms: Vec<f32> = (0..6)
                    .map(|channel| expected.iter().skip(channel).step_by(6).map(|w| w * w).sum::<f32>().sqrt())
                    .collect();
                assert!(norms.iter().any(|&n| n > max_norm) && norms.iter().any(|&n| n < max_norm), "{norms:?}");
                let factors = norms.iter().map(|&n| if n > max_norm { max_norm / (n + 1e-7) } else { 1.0 });
                expected.iter_mut().zip(factors.collect::<Vec<_>>().iter().cycle()).for_each(|(w, f)| *w *= f);
            }
            for (device, flat) in devices().iter().zip([&cpu.0, &gpu.0]) {
                let actual = model.params().find(&param.name).unwrap().gather(flat);
                assert_close(&format!("{}, {config:?} on {device}", param.name), &actual, &expected, 1e-6, 1e-5);
            }
        }
    }
}

#[test]
fn only_trained_parameters_are_held_to_a_positive_norm() {
    let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
    let trained = graph.param("trained", Shape::vector(3), Init::Zeros, true).unwrap();
    let frozen = graph.untrained("frozen", Shape::vector(3), Init::Zeros).unwrap();
    let input = graph.input("input", 0, 3).unwrap();
    assert!(matches!(graph.constrain(trained, 0.0), Err(Error::Config(_))));
    assert!(matches!(graph.constrain(frozen, 1.0), Err(Error::Graph(_))));
    assert!(matches!(graph.constrain(input, 1.0), Err(Error::Graph(_))));
    graph.constrain(trained, 1.0).unwrap();
    assert_eq!(graph.params().count(), 3);
}

#[test]
fn every_run_gives_the_same_bits() {
    let bits = |vectors: [Vec<f32>; 5]| vectors.map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    for config in configs() {
        let model = Model::new(LARGE, &config, true);
        assert!(bits(train(&model, &gpu())) == bits(train(&model, &gpu())), "GPU, {config:?}");
        let on_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(train(&model, &Device::Cpu)))
        };
        assert!(on_threads(1) == on_threads(3), "CPU, {config:?}");
    }
}

#[test]
fn the_norm_is_left_out_where_nobody_wants_it() {
    let dispatches = |config: &OptimizerConfig, norm| {
        let model = Model::new(LARGE, config, norm);
        let mut run = model.start(&gpu(), &model.params().initial(3));
        let Executor::Gpu(executor) = &run.executor else { panic!("not a GPU") };
        // Each gradient is copied to its place.
        let dispatches = executor.dispatches() - LARGE.len();
        run.step(1e-2, &large_grads(0));
        (dispatches, run.flat(State::Params))
    };
    let plain = adam(Adam::default(), None);
    let ((with, a), (without, b)) = (dispatches(&plain, true), dispatches(&plain, false));
    assert_eq!((with, without), (3, 2));
    assert!(a == b, "the update depends on whether the norm is shown");
    assert_eq!(dispatches(&adam(Adam::default(), Some(1.0)), false).0, 3);
}

/// From moments of zero, the update with number `t` shows the bias corrections alone.
#[test]
fn bias_corrections_are_accurate_at_any_count() {
    let Adam { beta1, beta2, .. } = Adam::default();
    let model = Model::new(&[(1, 1, true)], &adam(Adam::default(), None), false);
    for device in devices() {
        for updates in [0, 1, 2, 5, 9, 10, 11, 30, 100, 690, 1000, 1100, 5000, 20_000, 1_000_000, 1 << 40] {
            let mut run = model.start(&device, &vec![0.0; model.params().flat_len()]);
            run.store.write(State::Counters, &optim::counters_of(updates)).unwrap();
            run.step(1.0, &[vec![1.0]]);
            let t = (updates + 1) as f64;
            let correction = |beta: f64| -(t * beta.ln()).exp_m1();
            let first = (1.0 - beta1) / correction(beta1);
            let expected = -first / (((1.0 - beta2) / correction(beta2)).sqrt() + 1e-8);
            let what = format!("{device}, update {t}");
            assert_close(&what, &run.param(0), &[expected as f32], 0.0, 2e-6);
        }
    }
}

#[test]
fn the_count_goes_on_past_what_one_f32_holds() {
    let model = Model::new(&[(1, 3, true)], &sgd(0.0, false, 0.0), false);
    for device in devices() {
        for start in [(1_u64 << 20) - 2, (1 << 24) - 1, 100_000_000, 5 << 30] {
            let mut run = model.start(&device, &vec![0.0; model.params().flat_len()]);
            run.store.write(State::Counters, &optim::counters_of(start)).unwrap();
            for _ in 0..4 {
                run.step(1.0, &[vec![1.0; 3]]);
            }
            let counters = run.flat(State::Counters);
            assert_eq!(optim::updates_of(&counters), start + 4, "{device}");
            assert_eq!(counters, optim::counters_of(start + 4), "{device}");
        }
    }
}

#[test]
fn only_what_decays_decays() {
    let parameters = [(1, 70, false), (5, 30, true), (1, 4, false)];
    for config in [adam(Adam { weight_decay: 0.1, ..Adam::default() }, None), sgd(0.0, false, 0.1)] {
        let model = Model::new(&parameters, &config, false);
        for device in devices() {
            let flat = model.params().initial(7);
            let mut run = model.start(&device, &flat);
            run.step(0.5, &parameters.map(|(rows, channels, _)| vec![0.0; rows * channels]));
            for (index, param) in model.params().iter().enumerate() {
                let factor = if param.decay { 0.95 } else { 1.0 };
                let expected: Vec<f32> = param.gather(&flat).iter().map(|w| w * factor).collect();
                let what = format!("{device}, {}, {config:?}", param.name);
                assert_close(&what, &run.param(index), &expected, 0.0, if param.decay { 1e-6 } else { 0.0 });
            }
        }
    }
}

#[test]
fn gradients_that_are_not_finite_spread() {
    let parameters = [(1, 70, true), (1, 4, true)];
    let mut bad = vec![1.0; 70];
    bad[3] = f32::NAN;
    for device in devices() {
        let others = [rmsprop(0.9, true, 0.0), rmsprop(0.0, true, 0.0), adagrad(0.0), adadelta(0.0)];
        for config in [adam(Adam::default(), None), sgd(0.9, true, 0.0)].into_iter().chain(others) {
            let model = Model::new(&parameters, &config, true);
            let mut run = model.start(&device, &model.params().initial(1));
            run.step(0.1, &[bad.clone(), vec![1.0; 4]]);
            let nan: Vec<usize> = (0..70).filter(|&i| run.param(0)[i].is_nan()).collect();
            assert_eq!(nan, [3], "{device}");
            assert!(run.param(1).iter().all(|w| w.is_finite()) && run.norms()[0].is_nan(), "{device}");

            let clipped = OptimizerConfig { clip_norm: Some(1.0), ..config };
            let model = Model::new(&parameters, &clipped, true);
            let mut run = model.start(&device, &model.params().initial(1));
            run.step(0.1, &[bad.clone(), vec![1.0; 4]]);
            assert!((0..2).all(|p| run.param(p).iter().all(|w| w.is_nan())), "{device}: clipping hides a NaN");
        }
    }
}

#[test]
fn misuse_is_an_error() {
    let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
    let param = graph.param("a", Shape::vector(3), Init::Zeros, true).unwrap();
    let grad = graph.input("grad", 0, 3).unwrap();
    let gradients = graph.backward_from(&[(param, grad)]).unwrap();
    let wrong = adam(Adam { beta1: 1.5, ..Adam::default() }, None);
    assert!(matches!(optim::append(&mut graph, &gradients, &wrong), Err(Error::Config(_))));
    let config = OptimizerConfig::default();
    optim::append(&mut graph.clone(), &gradients, &config).unwrap();
    let mut late = graph.clone();
    late.param("b", Shape::vector(3), Init::Zeros, true).unwrap();
    let error = optim::append(&mut late, &gradients, &config).unwrap_err().to_string();
    assert!(error.contains("after the gradients"), "{error}");
    optim::append(&mut graph, &gradients, &config).unwrap();
    let error = optim::append(&mut graph, &gradients, &config).unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
}
