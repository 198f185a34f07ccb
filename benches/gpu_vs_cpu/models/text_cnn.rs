//! Kim's sentence CNN: a training step with trainable word vectors, filters within the sentence, and the cross-entropy of two classes.

use std::sync::Arc;

use anyhow::Result;
use receptive::graph::{Extent, Graph};
use receptive::nn::{Channels, TextCnn, TextCnnConfig, TextCnnInit};
use receptive::{ops, optim};

use super::super::workloads::Case;
use super::{BATCHES, Input, Model, Values, ids, optimizer, parameter_gradients};

/// Forward, loss, backward, Adam.
pub fn training(case: &Case) -> Result<Model> {
    let size = |key| case.size.count(key);
    let (words, classes) = (size("vocab")?, size("classes")?);
    let config = TextCnnConfig {
        dimensions: size("embed")?,
        widths: case.size.counts("widths")?,
        filters: size("filters")?,
        dropout: case.size.real("dropout")? as f32,
        max_norm: None,
        wide: false,
        // With output weights of 0 no other gradient could be checked.
        init: TextCnnInit::Uniform,
        ..TextCnnConfig::kim(words, classes, Channels::Random)
    };
    let extent = Extent { batch: size("batch")?, time: size("length")? };
    let mut graph = Graph::new(extent)?.with_precision(case.precision);
    let tensors = TextCnn::new(config.clone())?.append(&mut graph, true)?;
    let target = graph.input_ids_fixed("target", 1)?;
    let loss = ops::softmax_cross_entropy(&mut graph, tensors.output, target)?.loss;
    graph.set_name(loss, "loss");
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &optimizer(case))?;
    let program = Arc::new(graph.finish(&[], &[loss])?);
    let mut inputs = vec![
        Input { tensor: tensors.ids, batches: ids(1, extent.batch * extent.time, words) },
        Input { tensor: target, batches: ids(2, extent.batch, classes) },
    ];
    // All sentences are of full length.
    for (&tensor, &width) in tensors.windows.iter().zip(&config.widths) {
        let windows = vec![config.windows(width, extent.time) as u32; extent.batch];
        inputs.push(Input { tensor, batches: (0..BATCHES).map(|_| Values::Ids(windows.clone())).collect() });
    }
    Ok(Model {
        inputs,
        checked: parameter_gradients(&program, &gradients),
        learning_rate: Some(case.size.real("lr")? as f32),
        parameters: program.params().count(),
        leaves_out: true,
        program,
    })
}
