//! WaveNet's logits, loss, gradients and a few Adam steps against PyTorch.

use std::sync::Arc;

use receptive::Gradients;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, ParamLayout, Program, Shape, State, StepArgs, TensorId};
use receptive::nn::{WaveNet, WaveNetConfig, WaveNetInput};
use receptive::ops;
use receptive::optim::{self, OptimizerConfig};
use receptive::{Device, Result};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{assert_close, gpu};

struct Golden {
    bytes: Vec<u8>,
    case: Value,
}

impl Golden {
    fn open(name: &str) -> Self {
        let path = crate::golden::path(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let case = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["config"]).unwrap();
        Self { bytes, case }
    }

    fn number(&self, key: &str) -> usize {
        self.case[key].as_u64().unwrap() as usize
    }

    fn flag(&self, key: &str) -> bool {
        self.case[key].as_bool().unwrap()
    }

    fn config(&self) -> WaveNetConfig {
        WaveNetConfig {
            classes: self.number("classes"),
            input: if self.flag("scalar_input") { WaveNetInput::Scalar } else { WaveNetInput::Classes },
            input_kernel: self.number("input_kernel"),
            input_bias: self.flag("input_bias"),
            kernel: self.number("kernel"),
            dilations: self.case["dilations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d.as_u64().unwrap() as usize)
                .collect(),
            residual: self.number("residual"),
            gate: self.number("gate"),
            skip: self.number("skip"),
            head: self.number("head"),
            biases: self.flag("biases"),
            residual_in_last_layer: self.flag("residual_in_last_layer"),
        }
    }

    fn words(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data();
        data.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_bits).collect()
    }

    fn flat(&self, layout: &ParamLayout) -> Vec<f32> {
        let mut flat = vec![0.0; layout.flat_len()];
        for param in layout.iter() {
            param.scatter(&self.floats(&format!("param.{}", param.name)), &mut flat);
        }
        flat
    }
}

struct Step {
    program: Arc<Program>,
    input: TensorId,
    target: TensorId,
    logits: TensorId,
    gradients: Gradients,
}

/// Loss over all positions, as the golden cases have it, with Adam where wanted.
fn step(model: &WaveNet, extent: Extent, adam: bool) -> Result<Step> {
    let mut graph = Graph::new(extent)?;
    let (input, logits) = model.append(&mut graph, 0)?;
    let target = graph.input_ids("target", 0)?;
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target)?.loss;
    let gradients = graph.backward(loss)?;
    if adam {
        optim::append(&mut graph, &gradients, &OptimizerConfig::default())?;
    }
    let program = Arc::new(graph.finish(&[logits], &[loss])?);
    Ok(Step { program, input, target, logits, gradients })
}

fn executor(golden: &Golden, step: &Step, device: &Device) -> (Executor, Store) {
    let store = Store::new(device);
    store.write(State::Params, &golden.flat(step.program.params())).unwrap();
    let mut executor = Executor::new(&step.program, &store).unwrap();
    if golden.flag("scalar_input") {
        executor.write(step.input, &golden.floats("input")).unwrap();
    } else {
        executor.write_ids(step.input, &golden.words("input")).unwrap();
    }
    // -1 in PyTorch's file is the mask here.
    assert_eq!(Shape::MASKED, -1_i32 as u32);
    executor.write_ids(step.target, &golden.words("target")).unwrap();
    (executor, store)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

fn check(name: &str) {
    let golden = Golden::open(name);
    let model = WaveNet::new(golden.config()).unwrap();
    assert_eq!(model.parameter_count().unwrap(), golden.number("parameters"), "{name}");
    assert_eq!(model.receptive_field(), golden.number("receptive_field"), "{name}");
    let extent = Extent { batch: golden.number("batch"), time: golden.number("time") };
    let step = step(&model, extent, false).unwrap();
    for device in [Device::cpu(), gpu()] {
        let what = |part: &str| format!("{name} on {device}: {part}");
        let (mut executor, _store) = executor(&golden, &step, &device);
        executor.set_poison(true).unwrap();
        executor.run(&StepArgs::default()).unwrap();
        let loss = executor.wait().unwrap()[0].values[0];
        assert_close(&what("loss"), &[loss], &golden.floats("loss"), 0.0, 1e-5);
        let expected = golden.floats("logits");
        let logits = executor.read(step.logits).unwrap();
        assert_close(&what("logits"), &logits, &expected, 1e-5 * largest(&expected), 1e-5);
        for param in step.program.params().iter() {
            let expected = golden.floats(&format!("grad.{}", param.name));
            let actual = executor.read(step.gradients.of(param.tensor).unwrap()).unwrap();
            assert_close(&what(&param.name), &actual, &expected, 2e-5 * largest(&expected), 1e-5);
        }
    }
}

#[test]
fn class_input() {
    check("wavenet_classes");
}

#[test]
fn scalar_input_with_odd_widths_and_no_biases() {
    check("wavenet_scalar");
}

#[test]
fn unused_residual_in_the_last_layer() {
    check("wavenet_last_residual");
}

#[test]
fn five_adam_steps() {
    let golden = Golden::open("wavenet_classes");
    let model = WaveNet::new(golden.config()).unwrap();
    let extent = Extent { batch: golden.number("batch"), time: golden.number("time") };
    let step = step(&model, extent, true).unwrap();
    for device in [Device::cpu(), gpu()] {
        let (mut executor, store) = executor(&golden, &step, &device);
        for number in 0..5 {
            executor.run(&StepArgs { learning_rate: 1e-3, step: number, seed: 0 }).unwrap();
        }
        let losses: Vec<f32> = executor.wait().unwrap().iter().map(|m| m.values[0]).collect();
        // Four steps may be under way, so all five have arrived in one call at the latest now.
        assert_close(&format!("losses on {device}"), &losses, &golden.floats("losses"), 0.0, 1e-5);
        let flat = store.read(State::Params).unwrap();
        for param in step.program.params().iter() {
            let expected = golden.floats(&format!("after.param.{}", param.name));
            // Adam's first steps are ±lr whatever the gradient's size, so tiny gradients amplify rounding.
            assert_close(&format!("{} on {device}", param.name), &param.gather(&flat), &expected, 2e-5, 1e-4);
        }
    }
}

#[test]
fn the_published_sizes() {
    let published = WaveNet::new(WaveNetConfig::published()).unwrap();
    assert_eq!(published.parameter_count().unwrap(), 1_515_968);
    assert_eq!(published.receptive_field(), 5_117);
    let paper = WaveNet::new(WaveNetConfig::paper()).unwrap();
    assert_eq!(paper.parameter_count().unwrap(), 1_279_616);
    assert_eq!(paper.receptive_field(), 3_071);
}
