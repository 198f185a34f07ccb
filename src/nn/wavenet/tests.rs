//! Layers in groups: the same network as with all gated outputs side by side, and no binding above the floor's.

use super::*;
use crate::Gradients;
use crate::device::{Capabilities, Device};
use crate::exec::{CpuExecutor, Executor, Store, dispatches};
use crate::graph::{Binding, State};
use crate::random::Random;

const EXTENT: Extent = Extent { batch: 2, time: 60 };

struct Step {
    program: Arc<Program>,
    input: TensorId,
    target: TensorId,
    logits: TensorId,
    loss: TensorId,
    gradients: Gradients,
}

/// 11 layers; with biases, widths on multiples of 4; without, odd ones.
fn model(biases: bool) -> WaveNet {
    let (residual, gate, skip) = if biases { (8, 8, 12) } else { (6, 5, 7) };
    WaveNet::new(WaveNetConfig {
        classes: 32,
        dilations: vec![1, 2, 4, 1, 2, 4, 8, 1, 2, 1, 3],
        residual,
        gate,
        skip,
        head: 12,
        biases,
        ..WaveNetConfig::small()
    })
    .unwrap()
}

/// Loss and gradients with at most `layers` layers in a group.
fn step(model: &WaveNet, layers: usize) -> Step {
    let crop = model.receptive_field() - 1;
    let mut graph = Graph::new(EXTENT).unwrap();
    let group_bytes = EXTENT.batch * EXTENT.time * (layers * model.config.gate).next_multiple_of(4) * 4;
    let (input, logits) = model.append_grouped(&mut graph, crop, group_bytes).unwrap();
    let target = graph.input_ids("target", -(crop as isize)).unwrap();
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target).unwrap().loss;
    let gradients = graph.backward(loss).unwrap();
    let mut outputs = vec![loss, logits];
    outputs.extend(graph.params().iter().map(|p| gradients.of(p.tensor).unwrap()));
    let program = Arc::new(graph.finish(&outputs, &[]).unwrap());
    Step { program, input, target, logits, loss, gradients }
}

fn ids(count: usize, classes: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed, 1, 0);
    (0..count).map(|_| random.below(classes as u32)).collect()
}

impl Step {
    /// The tensors to compare, by name.
    fn tensors(&self) -> Vec<(String, TensorId)> {
        let gradients = self.program.params().iter().map(|p| (p.name.clone(), self.gradients.of(p.tensor).unwrap()));
        [("loss".to_owned(), self.loss), ("logits".to_owned(), self.logits)].into_iter().chain(gradients).collect()
    }

    fn input_ids(&self) -> [(TensorId, Vec<u32>); 2] {
        [(self.input, 7), (self.target, 8)].map(|(t, seed)| (t, ids(self.program.shape(t).rows(), 32, seed)))
    }

    /// Every parameter away from 0, biases too.
    fn params(&self) -> Vec<f32> {
        let layout = self.program.params();
        let mut flat = layout.initial(3);
        for (index, param) in layout.iter().enumerate().filter(|(_, p)| !p.decay) {
            let mut random = Random::new(4, 2, index as u32);
            let values: Vec<f32> = (0..param.shape.len()).map(|_| 0.1 * random.normal()).collect();
            param.scatter(&values, &mut flat);
        }
        flat
    }

    fn exact(&self) -> Vec<Vec<f64>> {
        let mut cpu = CpuExecutor::<f64>::new(Arc::clone(&self.program)).unwrap();
        cpu.set_poison(true);
        let flat = self.params();
        for param in self.program.params().iter() {
            let values: Vec<f64> = param.gather(&flat).into_iter().map(f64::from).collect();
            cpu.write(param.tensor, &values).unwrap();
        }
        for (tensor, ids) in self.input_ids() {
            cpu.write_ids(tensor, &ids).unwrap();
        }
        cpu.run(&Default::default()).unwrap();
        self.tensors().into_iter().map(|(_, t)| cpu.read(t).unwrap()).collect()
    }

    fn on(&self, device: &Device) -> Vec<Vec<f64>> {
        let store = Store::new(device);
        store.write(State::Params, &self.params()).unwrap();
        let mut executor = Executor::new(&self.program, &store).unwrap();
        executor.set_poison(true).unwrap();
        for (tensor, ids) in self.input_ids() {
            executor.write_ids(tensor, &ids).unwrap();
        }
        executor.run(&Default::default()).unwrap();
        let values = |t| executor.read(t).unwrap().into_iter().map(f64::from).collect();
        self.tensors().into_iter().map(|(_, t)| t).map(values).collect()
    }

    #[track_caller]
    fn check(&self, what: &str, actual: &[Vec<f64>], expected: &[Vec<f64>], relative: f64) {
        for (((name, _), actual), expected) in self.tensors().iter().zip(actual).zip(expected) {
            assert_eq!(actual.len(), expected.len(), "{what}: {name}");
            let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            let worst = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(scale > 0.0, "{what}: {name} is all 0");
            assert!(worst <= relative * scale, "{what}: {name} differs by {worst} of {scale}");
        }
    }
}

#[test]
fn groups_are_even_and_within_the_limit() {
    let model = model(true);
    let groups = |layers: usize| model.groups(EXTENT, EXTENT.batch * EXTENT.time * layers * 8);
    assert_eq!(groups(11), [11]);
    assert_eq!(groups(100), [11]);
    assert_eq!(groups(10), [5, 6]);
    assert_eq!(groups(4), [3, 4, 4]);
    // A layer is never cut.
    assert_eq!(groups(0), [1; 11]);
    let huge = Extent { batch: usize::MAX, time: 2 };
    assert_eq!(model.groups(huge, MAX_GROUP_BYTES / 4), [1; 11]);
}

#[test]
fn one_group_has_one_skip_product_and_copies_no_weights() {
    let text = step(&model(true), 11).program.to_string();
    assert_eq!((text.matches("Concat(").count(), text.matches("Split {").count()), (1, 0), "{text}");
    let text = step(&model(true), 4).program.to_string();
    assert_eq!((text.matches("Concat(").count(), text.matches("Split {").count()), (3, 1), "{text}");
    assert_eq!(text.matches("Join(").count(), 1, "{text}");
    // Of aligned widths, neither the groups nor their gradients are copied.
    assert_eq!(text.matches("(in place)").count(), 3 + 11, "{text}");
}

#[test]
fn groups_give_the_same_logits_loss_and_gradients() {
    let gpu = match std::env::var("RECEPTIVE_TEST_DEVICE") {
        Ok(name) => Device::select(&name).unwrap(),
        Err(_) => Device::gpu().or_else(|_| Device::select("software")).unwrap(),
    };
    for biases in [true, false] {
        let model = model(biases);
        let expected = step(&model, 11).exact();
        for layers in [10, 4, 1] {
            let grouped = step(&model, layers);
            let what = format!("biases {biases}, {layers} layers");
            grouped.check(&what, &grouped.exact(), &expected, 1e-12);
            for device in [&Device::Cpu, &gpu] {
                grouped.check(&format!("{what} on {device}"), &grouped.on(device), &expected, 2e-5);
            }
        }
    }
}

#[test]
fn real_sizes_bind_no_more_than_the_floor() {
    let floor = Capabilities::floor();
    let optimizer = OptimizerConfig::default();
    for (preset, batch, time, layers) in [
        ("paper", 1, 20_000, vec![15, 15]),
        ("paper", 4, 16_384, vec![7, 8, 7, 8]),
        ("published", 1, 20_000, vec![50]),
        ("published", 4, 16_384, vec![12, 13, 12, 13]),
        ("small", 1, 16_384, vec![18]),
        ("small", 4, 16_384, vec![9, 9]),
    ] {
        let model = WaveNet::new(WaveNetConfig::preset(preset).unwrap()).unwrap();
        let extent = Extent { batch, time };
        assert_eq!(model.groups(extent, MAX_GROUP_BYTES / 4), layers, "{preset} {extent:?}");
        let programs = [
            model.training(extent, &optimizer).unwrap(),
            model.evaluation(extent).unwrap(),
            model.logits(extent).unwrap(),
        ];
        for program in programs.iter().map(|p| &p.program) {
            let largest = program.largest_binding_bytes();
            assert!(largest <= floor.max_binding_bytes, "{preset} {extent:?}: {largest} bytes\n{program}");
            for dispatch in dispatches(program, &floor).unwrap() {
                for binding in dispatch.bindings {
                    if let Binding::Scratch { elements, .. } = binding {
                        assert!(elements <= 16 << 20, "{}: {elements} elements of scratch memory", dispatch.kernel);
                    }
                }
            }
        }
    }
}
