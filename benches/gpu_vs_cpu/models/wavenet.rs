//! WaveNet: a training step with the loss over every position.

use std::sync::Arc;

use anyhow::Result;
use receptive::graph::{Extent, Graph};
use receptive::nn::{WaveNet, WaveNetConfig, WaveNetInput};
use receptive::{ops, optim};

use super::super::workloads::Case;
use super::{Input, Model, ids, optimizer, parameter_gradients};

/// The network of a workload.
pub fn network(case: &Case) -> Result<WaveNet> {
    let (residual, skip) = (case.size.count("residual")?, case.size.count("skip")?);
    let stack: Vec<usize> = (0..case.size.count("layers_per_stack")?).map(|layer| 1 << layer).collect();
    let config = WaveNetConfig {
        classes: case.classes,
        input: WaveNetInput::Classes,
        input_kernel: 2,
        input_bias: true,
        kernel: 2,
        dilations: stack.repeat(case.size.count("stacks")?),
        residual,
        gate: residual,
        skip,
        head: skip,
        biases: true,
        residual_in_last_layer: false,
    };
    Ok(WaveNet::new(config)?)
}

/// Forward, loss, backward, Adam.
pub fn training(case: &Case) -> Result<Model> {
    let extent = Extent { batch: case.size.count("batch")?, time: case.size.count("time")? };
    let mut graph = Graph::new(extent)?.with_precision(case.precision);
    let (input, logits) = network(case)?.append(&mut graph, 0)?;
    let target = graph.input_ids("target", 0)?;
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target)?.loss;
    graph.set_name(loss, "loss");
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &optimizer(case))?;
    let program = Arc::new(graph.finish(&[], &[loss])?);
    let positions = extent.batch * extent.time;
    Ok(Model {
        inputs: vec![
            Input { tensor: input, batches: ids(1, positions, case.classes) },
            Input { tensor: target, batches: ids(2, positions, case.classes) },
        ],
        checked: parameter_gradients(&program, &gradients),
        learning_rate: Some(case.size.real("lr")? as f32),
        parameters: program.params().count(),
        leaves_out: false,
        program,
    })
}
