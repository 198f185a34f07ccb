//! Operators and their gradients against PyTorch, on both executors.

use std::collections::BTreeMap;

use receptive::graph::Shape;
use receptive::ops::{self, Activation, Geometry, Reduction};
use serde_json::Value;

use crate::golden::{Golden, GoldenCase, number};

#[test]
fn conv1d() {
    let file = Golden::read("conv1d");
    let mut cases = 0;
    for (index, config) in file.cases() {
        let mut case = GoldenCase::new(&file, index, config, None);
        let (x, weight) = (case.real("x"), case.real("weight"));
        let bias = config["bias"].as_bool().unwrap().then(|| case.real("bias"));
        let pad = |key: &str| config[key].as_i64().unwrap() as isize;
        let geometry = Geometry {
            kernel: number(config, "kernel"),
            dilation: number(config, "dilation"),
            stride: number(config, "stride"),
            pad_left: pad("pad_left"),
            pad_right: pad("pad_right"),
            from_end: false,
        };
        let y = ops::conv1d(&mut case.graph, x, weight, bias, geometry, Activation::Identity).unwrap();
        case.expect(y, "y");
        let mut inputs = vec![(x, "dx"), (weight, "dweight")];
        inputs.extend(bias.map(|bias| (bias, "dbias")));
        case.expect_gradients(y, Some("dy"), &inputs);
        case.check();
        cases += 1;
    }
    assert_eq!(cases, 27);
}

fn activation(config: &Value) -> Activation {
    match config["op"].as_str().unwrap() {
        "relu" => Activation::Relu,
        "leaky_relu" => Activation::LeakyRelu { slope: config["slope"].as_f64().unwrap() as f32 },
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        other => panic!("no activation {other}"),
    }
}

fn reduction(config: &Value) -> Reduction {
    match config["reduction"].as_str().unwrap() {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        other => panic!("no reduction {other}"),
    }
}

/// How many cases of each operator there are.
const CASES: [(&str, usize); 10] = [
    ("cross_entropy", 5),
    ("embedding", 3),
    ("embedding_conv", 4),
    ("gate", 5),
    ("l1", 2),
    ("leaky_relu", 2),
    ("mse", 2),
    ("relu", 1),
    ("sigmoid", 1),
    ("tanh", 1),
];

#[test]
fn activations_gates_losses_and_embeddings() {
    let file = Golden::read("ops");
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, config) in file.cases() {
        let op = config["op"].as_str().unwrap();
        match op {
            "relu" | "leaky_relu" | "tanh" | "sigmoid" => activation_case(&file, index, config),
            "cross_entropy" => cross_entropy_case(&file, index, config),
            "mse" | "l1" => regression_case(&file, index, config),
            "embedding" => embedding_case(&file, index, config, Geometry::pointwise()),
            "embedding_conv" => {
                let geometry = Geometry::causal(number(config, "kernel"), number(config, "dilation"));
                embedding_case(&file, index, config, geometry);
            }
            "gate" => gate_case(&file, index, config),
            _ => panic!("no operator {op}"),
        }
        *cases.entry(op).or_default() += 1;
    }
    assert_eq!(cases.into_iter().collect::<Vec<_>>(), CASES);
}

fn activation_case(file: &Golden, index: usize, config: &Value) {
    let mut case = GoldenCase::new(file, index, config, None);
    let x = case.real("x");
    let y = ops::activate(&mut case.graph, x, activation(config)).unwrap();
    case.expect(y, "y");
    case.expect_gradients(y, Some("dy"), &[(x, "dx")]);
    case.check();
}

fn gate_case(file: &Golden, index: usize, config: &Value) {
    let mut case = GoldenCase::new(file, index, config, None);
    let x = case.real("x");
    let condition = case.has("cond").then(|| case.real("cond"));
    let y = ops::gate(&mut case.graph, x, condition).unwrap();
    case.expect(y, "y");
    let mut inputs = vec![(x, "dx")];
    inputs.extend(condition.map(|condition| (condition, "dcond")));
    case.expect_gradients(y, Some("dy"), &inputs);
    case.check();
}

fn cross_entropy_case(file: &Golden, index: usize, config: &Value) {
    let mut case = GoldenCase::new(file, index, config, Some("target"));
    let (logits, target) = (case.real("logits"), case.ids("target"));
    let loss = ops::softmax_cross_entropy(&mut case.graph, logits, target).unwrap().loss;
    case.expect(loss, "loss");
    case.expect_gradients(loss, None, &[(logits, "dlogits")]);
    case.check();
}

fn regression_case(file: &Golden, index: usize, config: &Value) {
    let mut case = GoldenCase::new(file, index, config, None);
    let (x, target) = (case.real("x"), case.real("target"));
    let loss = if config["op"] == "mse" { ops::mse } else { ops::mae };
    let loss = loss(&mut case.graph, x, target, reduction(config)).unwrap();
    case.expect(loss, "loss");
    case.expect_gradients(loss, None, &[(x, "dx")]);
    case.check();
}

fn embedding_case(file: &Golden, index: usize, config: &Value, geometry: Geometry) {
    let mut case = GoldenCase::new(file, index, config, Some("ids"));
    let ids = case.ids("ids");
    let dims = file.dims(&format!("{index}.table"));
    let [.., classes, channels] = dims[..] else { panic!("a table of {dims:?}") };
    let table = case.real_shaped("table", Shape::new(geometry.kernel, classes, channels));
    let bias = case.has("bias").then(|| case.real("bias"));
    let y = ops::embedding(&mut case.graph, ids, table, bias, geometry).unwrap();
    case.expect(y, "y");
    let mut inputs = vec![(table, "dtable")];
    inputs.extend(bias.map(|bias| (bias, "dbias")));
    case.expect_gradients(y, Some("dy"), &inputs);
    case.check();
}
