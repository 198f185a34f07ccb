//! Temporal convolutional networks against PyTorch, on both executors: outputs and all gradients, and state dicts both ways.

use std::path::Path;
use std::sync::Arc;

use receptive::Device;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Param, Shape, State};
use receptive::nn::{
    Body, Norm, Objective, RecurrentConfig, SequenceConfig, SequenceInput, SequenceModel, Tcn, TcnConfig, TcnOptions,
};
use receptive::ops::Cell;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::golden::{Golden, number, path};
use crate::support::{assert_close, gpu};

fn config(case: &Value) -> TcnConfig {
    let channels: Vec<usize> = serde_json::from_value(case["channels"].clone()).unwrap();
    let word = |key: &str, default: &str| case.get(key).cloned().unwrap_or_else(|| default.into());
    TcnConfig {
        norm: serde_json::from_value(word("norm", "weight")).unwrap(),
        activation: serde_json::from_value(word("activation", "relu")).unwrap(),
        padding: serde_json::from_value(word("padding", "zeros")).unwrap(),
        causal: case.get("causal").is_none_or(|causal| causal.as_bool().unwrap()),
        ..TcnConfig::new(number(case, "inputs"), &channels, number(case, "kernel"))
    }
}

/// The name that a parameter has in a case.
fn theirs(case: &Value, name: &str) -> String {
    match case["weight_norm"].as_str() {
        Some("parametrizations") => {
            let weight = |i: usize| format!(".parametrizations.weight.original{i}");
            name.replace(".weight_g", &weight(0)).replace(".weight_v", &weight(1))
        }
        _ => name.to_owned(),
    }
}

/// A gradient in PyTorch's order, `[outputs, inputs, taps]`.
fn in_their_order(values: &[f32], param: &Param) -> Vec<f32> {
    let Shape { batch: taps, time: inputs, channels: outputs, .. } = param.shape;
    let mut theirs = Vec::with_capacity(values.len());
    for output in 0..outputs {
        for input in 0..inputs {
            theirs.extend((0..taps).map(|tap| values[(tap * inputs + input) * outputs + output]));
        }
    }
    theirs
}

fn check(file: &Golden, bytes: &[u8], index: usize, case: &Value, device: &Device) {
    let what = format!("case {index} {case} on {device}");
    let name = |tensor: &str| format!("{index}.{tensor}");
    let config = config(case);
    let extent = Extent { batch: number(case, "batch"), time: number(case, "time") };
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.param("x", file.shape(&name("x")), Init::Zeros, false).unwrap();
    let y = Tcn::new(config.clone())
        .unwrap()
        .append(&mut graph, "tcn.", x, &TcnOptions { training: true, ..TcnOptions::default() })
        .unwrap();
    let dy = graph.param("dy", graph.shape(y), Init::Zeros, false).unwrap();
    let gradients = graph.backward_from(&[(y, dy)]).unwrap();
    let program = Arc::new(graph.finish(&[y], &[]).unwrap());

    let layout = program.params();
    let mut flat = layout.initial(0);
    config.load_state_dict(bytes, &name(""), layout, "tcn.", &mut flat).unwrap();
    if case["weight_norm"] != "parametrizations" {
        file.assert_holds(&config.state_dict(&name(""), layout, "tcn.", &flat).unwrap());
    }
    for part in ["x", "dy"] {
        layout.find(part).unwrap().scatter(&file.reals(&name(part)), &mut flat);
    }
    let store = Store::new(device);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program, &store).unwrap();
    executor.set_poison(true).unwrap();
    executor.run(&Default::default()).unwrap();

    let close = |part: &str, actual: &[f32], expected: &[f32]| {
        let scale = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        assert_close(&format!("{what}: {part}"), actual, expected, 4e-6 * scale, 1e-5);
    };
    close("y", &executor.read(y).unwrap(), &file.reals(&name("y")));
    close("dx", &executor.read(gradients.of(x).unwrap()).unwrap(), &file.reals(&name("dx")));
    let mut gradients_there = file.names();
    gradients_there.retain(|there| there.starts_with(&name("dnetwork")));
    for param in layout.iter() {
        let Some(ours) = param.name.strip_prefix("tcn.") else { continue };
        if !param.trained {
            continue;
        }
        let theirs = name(&format!("d{}", theirs(case, ours)));
        let gradient = executor.read(gradients.of(param.tensor).unwrap()).unwrap();
        close(&theirs, &in_their_order(&gradient, param), &file.reals(&theirs));
        gradients_there.retain(|there| *there != theirs);
    }
    assert!(gradients_there.is_empty(), "{what}: {gradients_there:?} are not compared");
    if config.norm != Norm::Batch {
        return;
    }
    // What the step leaves of the running moments, and what another program makes of the same parameters.
    let after = store.read(State::Params).unwrap();
    for param in layout.iter().filter(|param| !param.trained) {
        let ours = param.name.strip_prefix("tcn.").unwrap();
        let theirs = ["_mean", "_var"].map(|part| file.reals(&name(&format!("after.{ours}{part}"))));
        close(ours, &param.gather(&after), &theirs.concat());
        assert_eq!(gradients.of(param.tensor), None);
    }
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.param("x", file.shape(&name("x")), Init::Zeros, false).unwrap();
    let y = Tcn::new(config).unwrap().append(&mut graph, "tcn.", x, &TcnOptions::default()).unwrap();
    graph.param("dy", graph.shape(y), Init::Zeros, false).unwrap();
    let program = Arc::new(graph.finish(&[y], &[]).unwrap());
    assert!(program.params().same_places(layout));
    let mut executor = Executor::new(&program, &store).unwrap();
    executor.set_poison(true).unwrap();
    executor.run(&Default::default()).unwrap();
    close("evaluated", &executor.read(y).unwrap(), &file.reals(&name("evaluated")));
}

#[test]
fn temporal_convolutional_networks() {
    let file = Golden::read("tcn");
    let bytes = std::fs::read(path("tcn")).unwrap();
    for (index, case) in file.cases() {
        for device in [Device::select("cpu").unwrap(), gpu()] {
            check(&file, &bytes, index, case, &device);
        }
    }
    assert_eq!(file.cases().count(), 9);
}

#[test]
fn a_state_dict_of_another_network_is_told_by_name() {
    let bytes = std::fs::read(path("tcn")).unwrap();
    let message = |config: TcnConfig, prefix: &str| {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        let x = graph.input("x", 0, config.inputs).unwrap();
        Tcn::new(config.clone()).unwrap().append(&mut graph, "", x, &TcnOptions::default()).unwrap();
        let layout = graph.params();
        config.load_state_dict(&bytes, prefix, layout, "", &mut layout.initial(0)).unwrap_err().to_string()
    };
    let good = TcnConfig::new(3, &[5, 5], 3);
    let error = message(TcnConfig::new(3, &[5, 5], 4), "0.");
    assert!(error.contains("0.network.0.conv1.weight_v must be f32 [5, 3, 4], got F32 [5, 3, 3]"), "{error}");
    let error = message(TcnConfig::new(3, &[5], 3), "0.");
    assert!(error.contains("no room for 0.network.1."), "{error}");
    let error = message(TcnConfig::new(3, &[5, 5, 5], 3), "1.");
    assert!(error.contains("no tensor 1.network.2.conv1.weight_v or 1.network.2.conv1.parametrizations"), "{error}");
    assert!(message(good, "elsewhere.").contains("no tensor elsewhere."));
}

/// What a whole model writes it reads again, under the names of the reference code's models.
#[test]
fn state_dicts_of_whole_models() {
    let recurrent = RecurrentConfig::new(Cell::Lstm { hard: false }, 4);
    for body in [Body::Tcn(TcnConfig::new(6, &[5, 4], 3)), Body::Recurrent(recurrent)] {
        let is_tcn = matches!(body, Body::Tcn(_));
        let model = SequenceModel::new(SequenceConfig {
            input: SequenceInput::Classes { classes: 9, embedding: 6, dropout: 0.0, uniform: None, tied: false },
            body,
            outputs: 3,
            objective: Objective::Classes,
            output_std: None,
        })
        .unwrap();
        let program = model.evaluation(Extent { batch: 1, time: 4 }).unwrap().program;
        let layout = program.params();
        let flat = layout.initial(3);
        let bytes = model.state_dict(layout, &flat).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), layout.iter().count());
        assert_eq!(file.tensor("encoder.weight").unwrap().shape(), [9, 6]);
        assert_eq!(file.tensor("linear.weight").unwrap().shape(), [3, 4]);
        let first = if is_tcn { "tcn.network.1.conv2.weight_v" } else { "rnn.weight_hh_l0" };
        assert!(file.tensor(first).is_ok());
        let mut again = layout.initial(4);
        assert!(again != flat);
        model.load_state_dict(&bytes, layout, &mut again).unwrap();
        assert_eq!(again, flat);
    }
}

/// Writes what `make.py --check` reads: weights as they start, and what the CPU makes of some inputs with them.
#[test]
#[ignore = "writes files for PyTorch"]
fn a_state_dict_for_pytorch() {
    let config = TcnConfig::new(3, &[5, 7, 7], 3);
    let extent = Extent { batch: 2, time: 19 };
    let mut graph = Graph::new(extent).unwrap();
    let x = graph.input("x", 0, config.inputs).unwrap();
    let y = Tcn::new(config.clone()).unwrap().append(&mut graph, "tcn.", x, &TcnOptions::default()).unwrap();
    let program = Arc::new(graph.finish(&[y], &[]).unwrap());
    let flat = program.params().initial(5);
    let store = Store::new(&Device::Cpu);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program, &store).unwrap();
    let values: Vec<f32> = (0..2 * 19 * 3).map(|i| (i as f32 * 0.7).sin() * 2.0).collect();
    executor.write(x, &values).unwrap();
    executor.run(&Default::default()).unwrap();

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state_dict");
    std::fs::create_dir_all(&folder).unwrap();
    let bytes = config.state_dict("tcn.", program.params(), "tcn.", &flat).unwrap();
    std::fs::write(folder.join("state_dict.safetensors"), bytes).unwrap();
    let of = |values: &[f32]| values.iter().copied().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let (x, y) = (of(&values), of(&executor.read(y).unwrap()));
    let views = [("x", vec![2, 19, 3], &x), ("y", vec![2, 19, 7], &y)]
        .map(|(name, dims, data)| (name, TensorView::new(Dtype::F32, dims, data).unwrap()));
    let shape = json!({ "inputs": config.inputs, "channels": config.channels, "kernel": config.kernel });
    let metadata = [("config".to_owned(), shape.to_string())].into();
    safetensors::serialize_to_file(views, Some(metadata), &folder.join("outputs.safetensors")).unwrap();
}
