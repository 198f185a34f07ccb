//! Optimizers: operators that update the flat vector of parameters in place, on the device.
//!
//! However many parameters a model has, an update is three dispatches: the gradient norm takes one and the first half of
//! another, whose other half counts the updates, and one updates everything. A sparse gradient takes two more, and averages
//! take one that passes over everything. The host only sends the learning rate.

mod average;
mod blocks;
mod config;
mod prepare;
mod schedule;
mod tiles;
mod update;
mod update_rows;

use crate::autodiff::Gradients;
use crate::error::{Error, Result};
use crate::graph::{Graph, Param, ParamLayout, Role, State, TensorId};

pub use crate::ops::loss_scale::LossScale;
use average::Average;
use blocks::Blocks;
pub use config::{Adadelta, Adagrad, Adam, Method, OptimizerConfig, RmsProp, Sgd};
use prepare::Prepare;
pub use prepare::{COUNTERS, counters_of, updates_of};
pub use schedule::{Decay, Schedule};
use update::Update;
use update_rows::UpdateRows;

/// What [`append`] adds to a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updates {
    /// The L2 norm of all gradients together before clipping, a scalar; may be a metric of the program.
    pub grad_norm: TensorId,
    /// Where the gradients are scaled, the steps left out so far because a gradient was not finite, a scalar.
    pub skipped: Option<TensorId>,
}

/// Appends the update of all parameters by `gradients`, at the learning rate of each step's
/// [`StepArgs`](crate::graph::StepArgs).
///
/// What is appended to the graph afterwards reads the updated parameters. The norm is computed only where `config` clips
/// or the program keeps [`Updates::grad_norm`]. Gradients that are not finite are not caught: they spread to the
/// parameters, and so to the next loss. In a graph of [`Precision::F16`](crate::graph::Precision::F16) they are: the step is
/// left out and the [`LossScale`] halved.
///
/// # Errors
/// [`Error::Config`] as [`OptimizerConfig::validate`], and if a gradient is sparse and the method does not
/// [keep still](Method::keeps_still); [`Error::Graph`] if parameters were declared after the gradients were taken, the graph has an
/// optimizer already, or what is sparse is held to a norm.
pub fn append(graph: &mut Graph, gradients: &Gradients, config: &OptimizerConfig) -> Result<Updates> {
    config.validate()?;
    let elements = graph.params().flat_len();
    if graph.shape(gradients.flat).channels != elements {
        return Err(Error::Graph(
            "parameters were declared after the gradients were taken: declare them before".into(),
        ));
    }
    if graph.tensors.iter().any(|tensor| tensor.role == Role::State(State::Counters)) {
        return Err(Error::Graph("the graph has an optimizer already".into()));
    }
    check_sparse(graph.params(), &config.method)?;
    let blocks = Blocks::of(graph.params());
    let counters = graph.state(State::Counters, COUNTERS);
    let scaled = gradients.scale.is_some();
    let mut counted = vec![counters];
    if scaled {
        counted.push(graph.state(State::LossScale, LossScale::ELEMENTS));
    }
    let prepare = Prepare { config: *config, blocks: blocks.clone(), scaled };
    let values = gradients.sparse.iter().map(|sparse| sparse.values);
    let all: Vec<TensorId> = [gradients.flat].into_iter().chain(values).collect();
    let prepared = graph.push_in_place(prepare, &all, &counted)?;
    let (grad_norm, coefficients, skipped) = (prepared[0], prepared[1], prepared.get(2).copied());
    graph.set_name(grad_norm, "grad_norm");
    if let Some(skipped) = skipped {
        graph.set_name(skipped, "skipped");
    }

    let states = [State::Params].into_iter().chain(config.method.states());
    let updated: Vec<TensorId> = states.map(|state| graph.state(state, elements)).collect();
    graph.push_in_place(Update { method: config.method, blocks }, &[coefficients, gradients.flat], &updated)?;
    for sparse in &gradients.sparse {
        let Some(&Param { offset, shape, .. }) = graph.params().iter().find(|param| param.tensor == sparse.param)
        else {
            return Err(Error::Graph("the gradients are of another graph".into()));
        };
        let update = UpdateRows { method: config.method, offset, shape };
        graph.push_in_place(update, &[coefficients, sparse.rows, sparse.values], &updated)?;
    }
    if let Some(decay) = config.average {
        let average = graph.state(State::Average, elements);
        graph.push_in_place(Average { decay }, &[coefficients, counters, updated[0]], &[average])?;
    }
    Ok(Updates { grad_norm, skipped })
}

fn check_sparse(params: &ParamLayout, method: &Method) -> Result<()> {
    for param in params.iter().filter(|param| param.sparse) {
        if !method.keeps_still() {
            let advice = "take SGD without momentum or Adagrad, both without weight decay, or don't make it sparse";
            return Err(Error::Config(format!("{} is sparse, and {method:?} changes all rows: {advice}", param.name)));
        }
        if param.max_norm.is_some() {
            return Err(Error::Graph(format!("{} is sparse and can't be held to a norm", param.name)));
        }
    }
    Ok(())
}
