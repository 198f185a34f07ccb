//! Recurrent layers against PyTorch and against Keras' definition, on both executors: outputs, final states and all gradients.

use std::collections::BTreeMap;
use std::sync::Arc;

use receptive::Device;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, ParamLayout, Shape, State, TensorId, pad4};
use receptive::nn::{Biases, RecurrentConfig, RecurrentNet, RecurrentOptions, RecurrentOutputs};
use receptive::ops::{self, Activation, Cell, Geometry, RecurrentInputs};
use serde_json::Value;

use crate::golden::{Golden, number, path};
use crate::support::{assert_close, gpu};

fn config(case: &Value) -> RecurrentConfig {
    let flag = |key: &str| case.get(key).and_then(Value::as_bool);
    let cell = match case["cell"].as_str().unwrap() {
        "gru" => Cell::Gru { reset_after: true, hard: false },
        "keras_gru" => Cell::Gru { reset_after: false, hard: true },
        "lstm" => Cell::Lstm { hard: false },
        "keras_lstm" => Cell::Lstm { hard: true },
        other => Cell::Elman { relu: other == "relu" },
    };
    let biases = match (case["cell"].as_str(), flag("bias")) {
        (Some("keras_gru" | "keras_lstm"), _) => Biases::Single,
        (_, Some(false)) => Biases::None,
        _ => Biases::Double,
    };
    RecurrentConfig {
        layers: case.get("layers").map_or(1, |layers| layers.as_u64().unwrap() as usize),
        bidirectional: flag("bidirectional").unwrap_or(false),
        biases,
        forget_bias: case.get("forget_bias").map(|bias| bias.as_f64().unwrap() as f32),
        ..RecurrentConfig::new(cell, number(case, "hidden"))
    }
}

/// The states of one walk, `[batch, 1, states]`, of the file's `h` and `c`, `[walks, batch, hidden]`.
fn state(file: &Golden, names: [String; 2], config: &RecurrentConfig, walk: usize, batch: usize) -> Vec<f32> {
    let hidden = config.hidden;
    let h = file.reals(&names[0]);
    let c = matches!(config.cell, Cell::Lstm { .. }).then(|| file.reals(&names[1]));
    let mut state = Vec::new();
    for sequence in 0..batch {
        let at = (walk * batch + sequence) * hidden;
        state.extend_from_slice(&h[at..][..hidden]);
        if let Some(c) = &c {
            state.extend(std::iter::repeat_n(0.0, pad4(hidden) - hidden));
            state.extend_from_slice(&c[at..][..hidden]);
        }
    }
    state
}

/// One layer with a mask that is given; a network draws its own.
fn masked(
    graph: &mut Graph,
    config: &RecurrentConfig,
    x: TensorId,
    mask: TensorId,
    options: &RecurrentOptions,
) -> RecurrentOutputs {
    let (inputs, width) = (graph.shape(x).channels, config.cell.gates() * config.hidden);
    let mut param = |name: &str, shape| graph.param(&format!("rnn.{name}_l0"), shape, Init::Zeros, false).unwrap();
    let weight = param("weight_ih", Shape::new(1, inputs, width));
    let recurrent = param("weight_hh", Shape::new(1, config.hidden, width));
    let bias = param("bias_ih", Shape::vector(width));
    let second = (config.biases == Biases::Double).then(|| param("bias_hh", Shape::vector(width)));
    let given = ops::conv1d(graph, x, weight, Some(bias), Geometry::pointwise(), Activation::Identity).unwrap();
    let (initial, lengths) = (options.initial.first().copied(), options.lengths);
    let inputs = RecurrentInputs { bias: second, initial, mask: Some(mask), lengths, reverse: false };
    let states = ops::recurrent(graph, config.cell, given, recurrent, inputs).unwrap();
    let last = vec![ops::final_state(graph, states, initial, lengths, false).unwrap()];
    RecurrentOutputs { sequence: ops::slice(graph, states, 0, config.hidden).unwrap(), last }
}

/// The case's weights. Where forget gates start open, the biases are to be those already that the layer starts with.
fn weights(file: &Golden, bytes: &[u8], index: usize, config: &RecurrentConfig, layout: &ParamLayout) -> Vec<f32> {
    let mut flat = layout.initial(0);
    let biases = |flat: &[f32]| flat[layout.find("rnn.bias_ih_l0").unwrap().offset..][..4 * config.hidden].to_vec();
    if config.forget_bias.is_some() {
        assert_eq!(biases(&flat), file.reals(&format!("{index}.bias_ih_l0")), "what case {index} starts with");
    }
    config.load_state_dict(bytes, &format!("{index}."), layout, "rnn.", &mut flat).unwrap();
    flat
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

fn check(file: &Golden, bytes: &[u8], index: usize, case: &Value, device: &Device) {
    let what = format!("case {index} {case} on {device}");
    let name = |tensor: &str| format!("{index}.{tensor}");
    let config = config(case);
    let net = RecurrentNet::new(config.clone()).unwrap();
    let [batch, time, inputs] = ["batch", "time", "inputs"].map(|key| number(case, key));
    let mut graph = Graph::new(Extent { batch, time }).unwrap();
    let mut values: Vec<(TensorId, Vec<f32>)> = Vec::new();
    let mut given = |graph: &mut Graph, name: &str, shape: Shape, value: Vec<f32>| {
        let tensor = graph.param(name, shape, Init::Zeros, false).unwrap();
        values.push((tensor, value));
        tensor
    };
    let x = given(&mut graph, "x", Shape::new(batch, time, inputs), file.reals(&name("x")));
    let walks = config.layers * config.directions();
    let state_shape = Shape::new(batch, 1, config.cell.states(config.hidden));
    let states = |part: &str| {
        let names = ["h", "c"].map(|state| name(&part.replace('*', state)));
        (0..walks).map(|walk| state(file, names.clone(), &config, walk, batch)).collect::<Vec<_>>()
    };
    let has_initial = case.get("initial").is_some();
    let mut options = RecurrentOptions { training: true, ..RecurrentOptions::default() };
    if has_initial {
        let each = states("*0").into_iter().enumerate();
        options.initial = each.map(|(i, v)| given(&mut graph, &format!("initial{i}"), state_shape, v)).collect();
    }
    let lengths: Option<Vec<u32>> = case.get("lengths").map(|lengths| serde_json::from_value(lengths.clone()).unwrap());
    options.lengths = lengths.as_ref().map(|_| graph.input_ids_fixed("lengths", 1).unwrap());
    let outputs = match case.get("mask") {
        Some(_) => {
            let shape = Shape::new(batch, 1, config.hidden);
            let mask = given(&mut graph, "mask", shape, file.reals(&name("mask")));
            masked(&mut graph, &config, x, mask, &options)
        }
        None => net.append(&mut graph, "rnn.", x, &options).unwrap(),
    };

    let y_shape = graph.shape(outputs.sequence);
    let mut seeds = vec![(outputs.sequence, given(&mut graph, "dy", y_shape, file.reals(&name("dy"))))];
    for (i, (&last, value)) in outputs.last.iter().zip(states("d*n")).enumerate() {
        seeds.push((last, given(&mut graph, &format!("dlast{i}"), state_shape, value)));
    }
    let gradients = graph.backward_from(&seeds).unwrap();
    let kept: Vec<TensorId> = [outputs.sequence].into_iter().chain(outputs.last.iter().copied()).collect();
    let program = Arc::new(graph.finish(&kept, &[]).unwrap());

    let layout = program.params();
    let mut flat = weights(file, bytes, index, &config, layout);
    file.assert_holds(&config.state_dict(&name(""), layout, "rnn.", &flat).unwrap());
    for (tensor, value) in &values {
        layout.iter().find(|param| param.tensor == *tensor).unwrap().scatter(value, &mut flat);
    }
    let store = Store::new(device);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program, &store).unwrap();
    executor.set_poison(true).unwrap();
    if let (Some(tensor), Some(lengths)) = (options.lengths, &lengths) {
        executor.write_ids(tensor, lengths).unwrap();
    }
    executor.run(&Default::default()).unwrap();

    let mut expected: BTreeMap<String, (TensorId, Vec<f32>)> = BTreeMap::new();
    expected.insert("y".into(), (outputs.sequence, file.reals(&name("y"))));
    expected.insert("dx".into(), (gradients.of(x).unwrap(), file.reals(&name("dx"))));
    for (i, (&last, value)) in outputs.last.iter().zip(states("*n")).enumerate() {
        expected.insert(format!("last {i}"), (last, value));
    }
    if has_initial {
        for (i, (&initial, value)) in options.initial.iter().zip(states("d*0")).enumerate() {
            expected.insert(format!("gradient of initial state {i}"), (gradients.of(initial).unwrap(), value));
        }
    }
    let mut weights = 0;
    for param in layout.iter() {
        let Some(theirs) = param.name.strip_prefix("rnn.") else { continue };
        let value = file.reals(&name(&format!("d{theirs}")));
        let value = match theirs.starts_with("weight") {
            true => transposed(&value, param.shape.channels, param.shape.time),
            false => value,
        };
        expected.insert(format!("gradient of {theirs}"), (gradients.of(param.tensor).unwrap(), value));
        weights += 1;
    }
    assert_eq!(weights, walks * [2, 3, 4][config.biases as usize], "{what}");
    for (part, (tensor, value)) in expected {
        let scale = value.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        assert_close(&format!("{what}: {part}"), &executor.read(tensor).unwrap(), &value, 4e-6 * scale, 1e-5);
    }
}

#[test]
fn recurrent_layers() {
    let file = Golden::read("recurrent");
    let bytes = std::fs::read(path("recurrent")).unwrap();
    let mut cases = 0;
    for (index, case) in file.cases() {
        for device in [Device::select("cpu").unwrap(), gpu()] {
            check(&file, &bytes, index, case, &device);
        }
        cases += 1;
    }
    assert_eq!(cases, 24);
}

#[test]
fn a_state_dict_that_does_not_fit_is_told_by_name() {
    let bytes = std::fs::read(path("recurrent")).unwrap();
    let config = RecurrentConfig::new(Cell::Gru { reset_after: true, hard: false }, 6);
    let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
    let x = graph.input("x", 0, 4).unwrap();
    RecurrentNet::new(config.clone()).unwrap().append(&mut graph, "", x, &Default::default()).unwrap();
    let layout = graph.params();
    let mut flat = layout.initial(0);
    let mut message = |bytes: &[u8], prefix: &str| {
        config.load_state_dict(bytes, prefix, layout, "", &mut flat).unwrap_err().to_string()
    };
    let error = message(&bytes, "0.");
    assert!(error.contains("0.weight_ih_l0") && error.contains("[18, 4]") && error.contains("[15, 4]"), "{error}");
    let error = message(&bytes, "rnn.");
    assert!(error.contains("no tensor rnn.weight_ih_l0"), "{error}");
    assert!(message(&bytes[..100], "0.").contains("safetensors"));
    // Of two layers in two directions.
    let error = message(&bytes, "1.");
    assert!(error.contains("no room for 1.") && error.contains("directions"), "{error}");
    let error = config.load_state_dict(&bytes, "0.", layout, "rnn.", &mut layout.initial(0)).unwrap_err().to_string();
    assert!(error.contains("rnn."), "{error}");
}
