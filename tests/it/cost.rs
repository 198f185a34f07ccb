//! What a program says that it costs is what the benchmark's workloads state: arithmetic and parameters.

use receptive::graph::{Cost, Extent, Graph, Init, Program, Shape};
use receptive::nn::{Channels, TextCnn, TextCnnConfig, WaveNet, WaveNetConfig};
use receptive::ops::{self, Activation, Geometry};
use receptive::optim::{self, OptimizerConfig};
use serde_json::Value;

/// Every size of the workloads of a kind: its name, its numbers.
fn sizes(kind: &str) -> Vec<(String, Value)> {
    let all: Value = serde_json::from_str(include_str!("../../benches/workloads.json")).unwrap();
    let mut found = vec![];
    for (name, workload) in all["workloads"].as_object().unwrap() {
        if workload["kind"] == kind {
            let sizes = workload["sizes"].as_object().unwrap();
            found.extend(sizes.iter().map(|(size, numbers)| (format!("{name} {size}"), numbers.clone())));
        }
    }
    assert!(!found.is_empty(), "no workload of kind {kind}");
    found
}

fn number(numbers: &Value, key: &str) -> usize {
    numbers[key].as_u64().unwrap_or_else(|| panic!("{key} of {numbers}")) as usize
}

/// One training step over every position.
fn wavenet(numbers: &Value) -> Program {
    let (stacks, depth) = (number(numbers, "stacks"), number(numbers, "layers_per_stack"));
    let model = WaveNet::new(WaveNetConfig {
        residual: number(numbers, "residual"),
        gate: number(numbers, "residual"),
        skip: number(numbers, "skip"),
        head: number(numbers, "skip"),
        dilations: (0..depth).map(|layer| 1 << layer).collect::<Vec<_>>().repeat(stacks),
        ..WaveNetConfig::small()
    });
    let extent = Extent { batch: number(numbers, "batch"), time: number(numbers, "time") };
    let mut graph = Graph::new(extent).unwrap();
    let (_, logits) = model.unwrap().append(&mut graph, 0).unwrap();
    let target = graph.input_ids("target", 0).unwrap();
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target).unwrap().loss;
    let gradients = graph.backward(loss).unwrap();
    optim::append(&mut graph, &gradients, &OptimizerConfig { clip_norm: None, ..OptimizerConfig::default() }).unwrap();
    graph.finish(&[], &[loss]).unwrap()
}

#[test]
fn a_step_of_wavenet_costs_what_the_workload_states() {
    for (name, numbers) in sizes("wavenet") {
        let program = wavenet(&numbers);
        let cost = program.cost(program.extent()).unwrap();
        assert_eq!(cost.flops, numbers["flops"], "{name}");
        assert_eq!(program.params().count(), number(&numbers, "parameters"), "{name}");
        // Arithmetic is in proportion to the positions; what is left of the traffic is the weights'.
        let Extent { batch, time } = program.extent();
        let half = program.cost(Extent { batch, time: time / 2 }).unwrap();
        assert_eq!(half.flops * 2, cost.flops, "{name}");
        assert!(half.bytes < cost.bytes && half.bytes * 2 > cost.bytes, "{name}: {half:?} and {cost:?}");
    }
}

#[test]
fn a_convolution_and_its_gradients_cost_what_the_workload_states() {
    for (name, numbers) in sizes("conv") {
        let [batch, time, kernel, dilation, c_in, c_out] =
            ["batch", "time", "kernel", "dilation", "in_channels", "out_channels"].map(|key| number(&numbers, key));
        let geometry = Geometry::valid(kernel, dilation);
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        let mut param = |name: &str, shape| graph.param(name, shape, Init::Zeros, false).unwrap();
        let x = param("x", Shape::new(batch, time + geometry.reach(), c_in));
        let dy = param("dy", Shape::new(batch, time, c_out));
        let weight = param("weight", Shape::new(kernel, c_in, c_out));
        let bias = param("bias", Shape::vector(c_out));
        let y = ops::conv1d(&mut graph, x, weight, Some(bias), geometry, Activation::Identity).unwrap();
        graph.backward_from(&[(y, dy)]).unwrap();
        let program = graph.finish(&[y], &[]).unwrap();
        let flops = program.cost(program.extent()).unwrap().flops;
        assert_eq!(flops, 3 * numbers["flops"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn elementwise_operators_only_move_bytes() {
    let mut graph = Graph::new(Extent { batch: 2, time: 10 }).unwrap();
    let x = graph.input("x", 0, 5).unwrap();
    let y = ops::scale(&mut graph, x, 2.0).unwrap();
    let program = graph.finish(&[y], &[]).unwrap();
    // 5 channels take 8, read and written.
    let expected = |positions: u64| Cost { flops: 0, bytes: positions * 8 * 2 * 4 };
    assert_eq!(program.cost(Extent { batch: 2, time: 10 }).unwrap(), expected(20));
    assert_eq!(program.cost(Extent { batch: 1, time: 3 }).unwrap(), expected(3));
    assert!(program.cost(Extent { batch: 3, time: 3 }).is_err());
}

#[test]
fn a_step_of_a_sentence_cnn_costs_what_the_workload_states_but_for_places_that_did_not_win() {
    for (name, numbers) in sizes("textcnn") {
        let config = TextCnnConfig {
            dimensions: number(&numbers, "embed"),
            widths: serde_json::from_value(numbers["widths"].clone()).unwrap(),
            filters: number(&numbers, "filters"),
            wide: false,
            ..TextCnnConfig::kim(number(&numbers, "vocab"), number(&numbers, "classes"), Channels::Random)
        };
        let extent = Extent { batch: number(&numbers, "batch"), time: number(&numbers, "length") };
        // The workload's gradients of weights and input are products over all places of a filter, these over one of a sentence.
        let of_place = |width: usize| 2 * 2 * extent.batch * width * config.dimensions * config.filters;
        let saved: usize = config.widths.iter().map(|&width| (extent.time - width) * of_place(width)).sum();
        let program = TextCnn::new(config).unwrap().training(extent, &OptimizerConfig::default()).unwrap().program;
        assert_eq!(program.cost(extent).unwrap().flops + saved as u64, numbers["flops"], "{name}");
        assert_eq!(program.params().count(), number(&numbers, "parameters"), "{name}");
    }
}
