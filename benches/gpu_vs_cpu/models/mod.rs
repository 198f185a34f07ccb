//! The workloads as programs of this library. A new kind is a file here and its line in [`build`].

pub mod conv;
pub mod conv_rnn;
pub mod tcn;
pub mod text_cnn;
pub mod wavenet;

use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use receptive::Gradients;
use receptive::graph::{Program, TensorId};
use receptive::optim::{Adam, Method, OptimizerConfig};
use receptive::random::Random;

use super::workloads::Case;

/// Batches of data in rotation.
pub const BATCHES: usize = 4;

/// A workload as a program, with its data.
#[derive(Debug)]
pub struct Model {
    pub program: Arc<Program>,
    pub inputs: Vec<Input>,
    /// What is compared with a reference after the first step, besides the program's metrics.
    pub checked: Vec<(String, TensorId)>,
    /// Where a step is a training step.
    pub learning_rate: Option<f32>,
    /// Trainable numbers.
    pub parameters: usize,
    /// Whether it leaves arithmetic out that the workload states, because nobody reads what it would give.
    pub leaves_out: bool,
}

/// An input with its batches.
#[derive(Debug)]
pub struct Input {
    pub tensor: TensorId,
    pub batches: Vec<Values>,
}

#[derive(Debug)]
pub enum Values {
    Real(Vec<f32>),
    Ids(Vec<u32>),
}

/// The program of a workload; nothing where there is no model of its kind yet.
///
/// # Errors
/// If the workload lacks a number, or what the library gives.
pub fn build(case: &Case) -> Result<Option<Model>> {
    Ok(Some(match case.kind.as_str() {
        "wavenet" => wavenet::training(case)?,
        "conv" => conv::alone(case)?,
        "tcn_classify" | "tcn_music" => tcn::training(case)?,
        "textcnn" => text_cnn::training(case)?,
        "gru" | "lstm" | "conv_gru" => conv_rnn::training(case)?,
        _ => return Ok(None),
    }))
}

/// The optimizer of all training steps.
pub fn optimizer(case: &Case) -> OptimizerConfig {
    let adam = Adam { beta1: case.adam.beta1, beta2: case.adam.beta2, eps: case.adam.eps, ..Adam::default() };
    let clip_norm = case.size.real("clip").ok().map(|norm| norm as f32);
    OptimizerConfig { clip_norm, ..Method::Adam(adam).into() }
}

/// Every parameter's gradient, by name.
pub fn parameter_gradients(program: &Program, gradients: &Gradients) -> Vec<(String, TensorId)> {
    let named = program.params().iter().filter_map(|param| Some((param.name.clone(), gradients.of(param.tensor)?)));
    named.map(|(name, gradient)| (format!("gradient of {name}"), gradient)).collect()
}

/// Random numbers that are made together: enough for a thread to do.
const CHUNK: usize = 1 << 16;

/// Uniform numbers of variance 1, a sequence for each stream and batch.
pub fn reals(stream: u32, elements: usize) -> Vec<Values> {
    let width = 12.0_f32.sqrt();
    batches(stream, elements, |random| (random.uniform() - 0.5) * width).map(Values::Real).collect()
}

/// Uniform class ids.
pub fn ids(stream: u32, elements: usize, classes: usize) -> Vec<Values> {
    batches(stream, elements, move |random| random.below(classes as u32)).map(Values::Ids).collect()
}

fn batches<T: Default + Clone + Send>(
    stream: u32,
    elements: usize,
    draw: impl Fn(&mut Random) -> T + Sync,
) -> impl Iterator<Item = Vec<T>> {
    (0..BATCHES as u64).map(move |batch| {
        let mut values = vec![T::default(); elements];
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            let mut random = Random::new(batch, stream, chunk as u32);
            values.fill_with(|| draw(&mut random));
        });
        values
    })
}
