//! Kim's network against PyTorch, on both executors: logits, gradients, and steps of Adadelta with norms that are held.

use receptive::Device;
use receptive::data::text::Vocabulary;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Shape, State, StepArgs};
use receptive::nn::{Channels, TextCnn, TextCnnConfig, TextCnnInit, TextCnnProgram};
use receptive::optim::{Adadelta, Method, OptimizerConfig};
use serde_json::Value;

use crate::golden::{Golden, number};
use crate::support::{assert_close, gpu};

fn config(case: &Value, dropout: f32) -> TextCnnConfig {
    TextCnnConfig {
        words: number(case, "words"),
        dimensions: number(case, "dimensions"),
        classes: number(case, "classes"),
        channels: serde_json::from_value::<Channels>(case["channels"].clone()).unwrap(),
        widths: serde_json::from_value(case["widths"].clone()).unwrap(),
        filters: number(case, "filters"),
        dropout,
        max_norm: case["max_norm"].as_f64().map(|norm| norm as f32),
        init: TextCnnInit::Kim,
        wide: case["wide"].as_bool().unwrap(),
    }
}

/// An executor with the case's parameters and inputs.
fn start(
    file: &Golden,
    index: usize,
    model: &TextCnn,
    build: impl Fn(Extent) -> TextCnnProgram,
    device: &Device,
) -> (TextCnnProgram, Store, Executor) {
    let ids = file.ids(&format!("{index}.ids"));
    let lengths = file.ids(&format!("{index}.lengths"));
    let program = build(Extent { batch: lengths.len(), time: ids.len() / lengths.len() });
    let params = program.program.params();
    let mut flat = vec![0.0; params.flat_len()];
    params.iter().for_each(|param| param.scatter(&file.reals(&format!("{index}.param.{}", param.name)), &mut flat));
    let store = Store::new(device);
    store.write(State::Params, &flat).unwrap();
    let mut executor = Executor::new(&program.program, &store).unwrap();
    executor.set_poison(true).unwrap();
    let masked = |&id: &u32| if id == Vocabulary::PADDING { Shape::MASKED } else { id };
    executor.write_ids(program.tensors.ids, &ids.iter().map(masked).collect::<Vec<_>>()).unwrap();
    for (&tensor, &width) in program.tensors.windows.iter().zip(&model.config().widths) {
        let windows = |&length: &u32| model.config().windows(width, length as usize) as u32;
        executor.write_ids(tensor, &lengths.iter().map(windows).collect::<Vec<_>>()).unwrap();
    }
    if let Some(target) = program.target {
        executor.write_ids(target, &file.ids(&format!("{index}.target"))).unwrap();
    }
    (program, store, executor)
}

#[test]
fn logits_gradients_and_steps_are_those_of_pytorch() {
    let file = Golden::read("text_cnn");
    assert_eq!(file.cases().count(), 6);
    for device in [Device::Cpu, gpu()] {
        for (index, case) in file.cases() {
            let expected = |name: &str| file.reals(&format!("{index}.{name}"));
            let what = format!("case {index} {case} on {device}");
            for (dropout, name) in [(0.0, "logits"), (0.5, "half")] {
                let model = TextCnn::new(config(case, dropout)).unwrap();
                let build = |extent| model.evaluation(extent).unwrap();
                let (program, _, mut executor) = start(&file, index, &model, build, &device);
                executor.run(&StepArgs::default()).unwrap();
                assert_close(
                    &format!("{name}, {what}"),
                    &executor.read(program.tensors.output).unwrap(),
                    &expected(name),
                    2e-6,
                    2e-6,
                );
            }

            let model = TextCnn::new(config(case, 0.0)).unwrap();
            let real = |key: &str| case[key].as_f64().unwrap();
            let adadelta = Adadelta { rho: real("rho"), eps: real("eps") as f32, weight_decay: 0.0 };
            let optimizer = OptimizerConfig::from(Method::Adadelta(adadelta));
            let build = |extent| model.training(extent, &optimizer).unwrap();
            let (program, store, mut executor) = start(&file, index, &model, build, &device);
            let params = program.program.params();
            let step = StepArgs { learning_rate: real("lr") as f32, ..StepArgs::default() };
            let mut losses = vec![];
            for number in 0..number(case, "steps") {
                executor.run(&step).unwrap();
                losses.push(executor.wait().unwrap()[0].values[0]);
                if number > 0 {
                    continue;
                }
                let gradients = store.read(State::Grads).unwrap();
                for param in params.iter().filter(|param| param.trained) {
                    let (name, actual) = (format!("gradient of {}, {what}", param.name), param.gather(&gradients));
                    assert_close(&name, &actual, &expected(&format!("grad.{}", param.name)), 1e-6, 2e-6);
                    if param.name == "embedding.weight" {
                        assert!(actual[..model.config().dimensions].iter().all(|value| *value == 0.0), "{name}");
                    }
                }
            }
            assert_close(&format!("losses, {what}"), &losses, &expected("losses"), 1e-6, 2e-6);
            let flat = store.read(State::Params).unwrap();
            for param in params.iter() {
                let (actual, name) = (param.gather(&flat), format!("{} after the steps, {what}", param.name));
                assert_close(&name, &actual, &expected(&format!("after.{}", param.name)), 1e-5, 1e-5);
                let before = expected(&format!("param.{}", param.name));
                if param.name == "static.weight" {
                    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&actual), bits(&before), "{name}");
                }
            }
            let weight = params.find("linear.weight").unwrap().gather(&flat);
            let classes = model.config().classes;
            for class in 0..classes {
                let squares: f32 = weight.iter().skip(class).step_by(classes).map(|w| w * w).sum();
                assert!(squares.sqrt() < 0.9 + 1e-6, "{what}: class {class} has a norm of {}", squares.sqrt());
            }
        }
    }
}
