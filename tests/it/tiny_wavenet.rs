//! A WaveNet and data small enough to train in a test, and what the tests of training share.

use std::sync::atomic::AtomicBool;

use receptive::data::{Chunks, MuLaw, Split, plucked_strings};
use receptive::graph::{Precision, State};
use receptive::nn::{WaveNet, WaveNetConfig, WaveNetInput};
use receptive::optim::OptimizerConfig;
use receptive::train::{Event, Limit, Outcome, Task, Trainer, TrainerOptions, WaveNetTask, WaveNetTaskOptions};
use receptive::{Device, Result};

use crate::support;

pub const CHUNK: usize = 100;
pub const BATCH: usize = 2;
/// Validation chunks: with batches of 2 the last batch is partial.
pub const VALID_CHUNKS: usize = 5;

/// Both executors.
pub fn devices() -> [Device; 2] {
    [Device::cpu(), support::gpu()]
}

/// A receptive field of 9 samples.
pub fn config() -> WaveNetConfig {
    WaveNetConfig {
        classes: 32,
        dilations: vec![1, 2, 4],
        residual: 8,
        gate: 8,
        skip: 12,
        head: 12,
        ..WaveNetConfig::tiny()
    }
}

pub fn scalar_config() -> WaveNetConfig {
    WaveNetConfig { input: WaveNetInput::Scalar, ..config() }
}

pub fn chunks(split: Split, config: &WaveNetConfig, seed: u64) -> Chunks {
    let clip = plucked_strings(1.0, 8000, seed).unwrap();
    let hop = CHUNK - config.receptive_field() + 1;
    let samples = match split {
        Split::Train => clip.samples.len(),
        Split::Valid => CHUNK + 1 + (VALID_CHUNKS - 1) * hop,
    };
    let clip = receptive::data::Clip { samples: clip.samples[..samples].to_vec(), ..clip };
    Chunks::new(split, &[clip], &MuLaw::new(config.classes).unwrap(), CHUNK, config.receptive_field()).unwrap()
}

pub fn task_of(config: WaveNetConfig, optimizer: OptimizerConfig) -> WaveNetTask {
    task_in(config, optimizer, Precision::F32)
}

pub fn task_in(config: WaveNetConfig, optimizer: OptimizerConfig, precision: Precision) -> WaveNetTask {
    let (train, valid) = (chunks(Split::Train, &config, 1), chunks(Split::Valid, &config, 2));
    let options = WaveNetTaskOptions { batch: BATCH, optimizer, valid_chunks: None };
    WaveNetTask::new(WaveNet::new(config).unwrap().with_precision(precision), train, Some(valid), options).unwrap()
}

/// Adam with clipping.
pub fn optimizer() -> OptimizerConfig {
    OptimizerConfig { clip_norm: Some(1.0), ..OptimizerConfig::default() }
}

pub fn task() -> WaveNetTask {
    task_of(config(), optimizer())
}

pub fn options() -> TrainerOptions {
    TrainerOptions { learning_rate: 3e-3, seed: 5, ..TrainerOptions::default() }
}

/// Trains up to so many steps in all; the outcome and all events.
pub fn train<T: Task>(trainer: &mut Trainer<T>, steps: u64) -> Result<(Outcome, Vec<Event>)> {
    let mut events = vec![];
    let outcome = trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |event| events.push(event.clone()))?;
    Ok((outcome, events))
}

/// The bits of loss and gradient norm of each step, which must be consecutive from `first`.
#[track_caller]
pub fn step_bits(events: &[Event], first: u64) -> Vec<(u32, u32)> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step { step, loss, grad_norm, .. } => Some((*step, (loss.to_bits(), grad_norm.to_bits()))),
        _ => None,
    });
    let (numbers, bits): (Vec<u64>, Vec<_>) = steps.unzip();
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    bits
}

pub fn losses(events: &[Event]) -> Vec<f32> {
    step_bits(events, 0).iter().map(|(loss, _)| f32::from_bits(*loss)).collect()
}

/// Everything that a run carries from step to step, as bits.
pub fn state_bits<T: Task>(trainer: &Trainer<T>) -> Vec<(State, Vec<u32>)> {
    let states = [State::Params, State::FirstMoment, State::SecondMoment, State::GradientMean, State::Average];
    [&states[..], &[State::Counters, State::LossScale]]
        .concat()
        .into_iter()
        .map(|state| (state, trainer.store().read(state).unwrap().iter().map(|v| v.to_bits()).collect()))
        .collect()
}
