//! Temporal convolutional networks of Bai, Kolter and Koltun (2018): a training step that tells a class at the last position, or
//! which keys sound at every one.

use std::sync::Arc;

use anyhow::{Result, bail};
use receptive::graph::{Extent, Graph, Init, Shape};
use receptive::nn::{Tcn, TcnConfig, TcnInit, TcnOptions};
use receptive::ops::{self, Activation, Geometry, Reduction};
use receptive::optim;

use super::super::workloads::Case;
use super::{Input, Model, Values, ids, optimizer, parameter_gradients, reals};

/// Forward, loss, backward, Adam.
pub fn training(case: &Case) -> Result<Model> {
    let size = |key| case.size.count(key);
    let (inputs, hidden) = (size("in_channels")?, size("hidden")?);
    let config = TcnConfig {
        dropout: case.size.real("dropout")? as f32,
        init: TcnInit::PyTorch,
        ..TcnConfig::new(inputs, &vec![hidden; size("levels")?], size("kernel")?)
    };
    let extent = Extent { batch: size("batch")?, time: size("time")? };
    let rows = extent.batch * extent.time;
    let mut graph = Graph::new(extent)?.with_precision(case.precision);
    let x = graph.input("input", 0, inputs)?;
    let (tcn, options) = (Tcn::new(config)?, TcnOptions { training: true, lengths: None });
    let linear = |graph: &mut Graph, h, outputs: usize| -> Result<_> {
        let uniform = Init::Uniform { bound: 1.0 / (hidden as f32).sqrt() };
        let weight = graph.param("linear.weight", Shape::new(1, hidden, outputs), uniform, true)?;
        let bias = graph.param("linear.bias", Shape::vector(outputs), uniform, false)?;
        Ok(ops::conv1d(graph, h, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?)
    };
    let (loss, target) = match case.kind.as_str() {
        "tcn_classify" => {
            let classes = size("classes")?;
            let h = tcn.append_last(&mut graph, "tcn.", x, &options)?;
            let output = linear(&mut graph, h, classes)?;
            let target = graph.input_ids_fixed("target", 1)?;
            let loss = ops::softmax_cross_entropy(&mut graph, output, target)?.loss;
            (loss, Input { tensor: target, batches: ids(2, extent.batch, classes) })
        }
        "tcn_music" => {
            let keys = size("out_channels")?;
            let h = tcn.append(&mut graph, "tcn.", x, &options)?;
            let output = linear(&mut graph, h, keys)?;
            let target = graph.input("target", 0, keys)?;
            let loss = ops::binary_cross_entropy(&mut graph, output, target, Reduction::Mean)?;
            (loss, Input { tensor: target, batches: keys_that_sound(rows * keys) })
        }
        other => bail!("no temporal convolutional network is of kind {other}"),
    };
    graph.set_name(loss, "loss");
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &optimizer(case))?;
    let program = Arc::new(graph.finish(&[], &[loss])?);
    Ok(Model {
        inputs: vec![Input { tensor: x, batches: reals(1, rows * inputs) }, target],
        checked: parameter_gradients(&program, &gradients),
        learning_rate: Some(case.size.real("lr")? as f32),
        parameters: program.params().count(),
        leaves_out: case.kind == "tcn_classify",
        program,
    })
}

/// Of 22 keys one sounds, about four of 88.
fn keys_that_sound(elements: usize) -> Vec<Values> {
    let sounding = |values: Values| match values {
        Values::Ids(ids) => Values::Real(ids.into_iter().map(|id| f32::from(u8::from(id == 0))).collect()),
        reals => reals,
    };
    ids(3, elements, 22).into_iter().map(sounding).collect()
}
