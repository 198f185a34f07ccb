//! Recurrent networks, alone and behind convolutions: a training step with the mean absolute error of a forecast.

use std::sync::Arc;

use anyhow::{Result, bail};
use receptive::graph::{Extent, Graph};
use receptive::nn::{ConvRnn, ConvRnnConfig, Layer, RecurrentConfig};
use receptive::ops::{self, Cell, Reduction};
use receptive::optim;

use super::super::workloads::Case;
use super::{Input, Model, optimizer, parameter_gradients, reals};

fn network(case: &Case) -> Result<ConvRnn> {
    let size = |key| case.size.count(key);
    let cell = match case.kind.as_str() {
        "gru" | "conv_gru" => Cell::Gru { reset_after: true, hard: false },
        "lstm" => Cell::Lstm { hard: false },
        other => bail!("no recurrent network is of kind {other}"),
    };
    let recurrent_dropout = case.size.real("recurrent_dropout").unwrap_or(0.0) as f32;
    let recurrent = RecurrentConfig { recurrent_dropout, ..RecurrentConfig::new(cell, size("hidden")?) };
    let mut layers = vec![];
    if case.kind == "conv_gru" {
        let conv = Layer::Conv { channels: size("filters")?, kernel: size("kernel")? };
        layers.extend([conv.clone(), Layer::MaxPool { size: size("pool")? }, conv]);
    }
    layers.push(Layer::Recurrent(recurrent));
    let (inputs, time) = (size("in_features")?, size("time")?);
    Ok(ConvRnn::new(ConvRnnConfig { inputs, time, layers, outputs: 1, relative_to: None })?)
}

/// Forward, loss, backward, Adam.
pub fn training(case: &Case) -> Result<Model> {
    let network = network(case)?;
    let config = network.config();
    let extent = Extent { batch: case.size.count("batch")?, time: config.time };
    let mut graph = Graph::new(extent)?.with_precision(case.precision);
    let input = graph.input("input", 0, config.inputs)?;
    let output = network.append(&mut graph, input, true)?;
    let target = graph.input_fixed("target", 1, 1)?;
    let loss = ops::mae(&mut graph, output, target, Reduction::Mean)?;
    graph.set_name(loss, "loss");
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &optimizer(case))?;
    let program = Arc::new(graph.finish(&[], &[loss])?);
    Ok(Model {
        inputs: vec![
            Input { tensor: input, batches: reals(1, extent.batch * extent.time * config.inputs) },
            Input { tensor: target, batches: reals(2, extent.batch) },
        ],
        checked: parameter_gradients(&program, &gradients),
        learning_rate: Some(case.size.real("lr")? as f32),
        parameters: program.params().count(),
        leaves_out: false,
        program,
    })
}
