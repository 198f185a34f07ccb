//! A run that is saved and resumed goes on bitwise as if it had never stopped, and any device takes over from any other.

use std::fs;

use receptive::graph::{Precision, State};
use receptive::nn::WaveNetConfig;
use receptive::optim::{Adadelta, Adagrad, LossScale, Method, OptimizerConfig, RmsProp, Sgd};
use receptive::train::{Checkpoint, Event, Trainer, TrainerOptions, WaveNetTask};
use receptive::{Device, Error};

use crate::support::{floor_gpu, gpu};
use crate::tiny_wavenet::{
    config, devices, optimizer, options, scalar_config, state_bits, step_bits, task_in, task_of, train,
};

fn straight_equals_resumed(device: &Device, config: &WaveNetConfig, optimizer: OptimizerConfig, names: usize) {
    compare(device, names, || task_of(config.clone(), optimizer), |_| ());
}

fn compare(device: &Device, names: usize, task: impl Fn() -> WaveNetTask, prepare: impl Fn(&Trainer<WaveNetTask>)) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);

    let mut straight = Trainer::new(task(), device, TrainerOptions { valid_every: 7, ..options() }).unwrap();
    prepare(&straight);
    let (outcome, straight_events) = train(&mut straight, 20).unwrap();
    straight.save(path("straight")).unwrap();

    let with_file = TrainerOptions { valid_every: 7, checkpoint: Some(path("run")), ..options() };
    let mut first = Trainer::new(task(), device, with_file.clone()).unwrap();
    prepare(&first);
    let (_, mut events) = train(&mut first, 10).unwrap();
    assert_eq!(events.pop().unwrap(), Event::Saved { step: 10, path: path("run") });
    // The validation at the end of a run is the only thing that a run in one piece does not have.
    events.retain(|event| !matches!(event, Event::Validated { step: 10, .. }));
    drop(first);
    let mut second = Trainer::resume(task(), device, with_file, path("run")).unwrap();
    assert_eq!((second.step(), second.validation().unwrap().step), (10, 10));
    let (resumed_outcome, resumed_events) = train(&mut second, 20).unwrap();

    let (early, late) = (step_bits(&events, 0), step_bits(&resumed_events, 10));
    assert_eq!([early, late].concat(), step_bits(&straight_events, 0), "losses and gradient norms on {device}");
    assert_eq!((resumed_outcome.step, resumed_outcome.loss), (outcome.step, outcome.loss));
    let validations = |events: &[Event]| {
        let losses = events.iter().filter_map(|event| match event {
            Event::Validated { step, loss, .. } => Some((*step, loss.to_bits())),
            _ => None,
        });
        losses.collect::<Vec<_>>()
    };
    assert_eq!(validations(&[events, resumed_events].concat()), validations(&straight_events));
    let states = state_bits(&straight);
    assert_eq!(states.iter().filter(|(_, bits)| !bits.is_empty()).count(), names);
    assert!(states.iter().filter(|(_, bits)| !bits.is_empty()).all(|(_, bits)| bits.iter().any(|&b| b != 0)));
    assert_eq!(state_bits(&second), states, "{device}");
    assert!(fs::read(path("run")).unwrap() == fs::read(path("straight")).unwrap(), "the files differ");
}

fn adam() -> OptimizerConfig {
    OptimizerConfig { clip_norm: Some(0.5), ..OptimizerConfig::default() }
}

#[test]
fn twenty_steps_are_ten_and_ten() {
    for device in devices() {
        straight_equals_resumed(&device, &config(), adam(), 4);
    }
}

#[test]
fn scalar_input_and_other_optimizers_too() {
    let sgd = |momentum| OptimizerConfig::from(Method::Sgd(Sgd { momentum, ..Sgd::default() }));
    straight_equals_resumed(&Device::cpu(), &scalar_config(), sgd(0.9), 3);
    straight_equals_resumed(&Device::cpu(), &config(), sgd(0.0), 2);
    let of = |method: Method| OptimizerConfig { clip_norm: Some(0.5), ..method.into() };
    let rmsprop = RmsProp { momentum: 0.9, centered: true, ..RmsProp::default() };
    let adagrad = Adagrad { lr_decay: 0.1, initial_accumulator_value: 0.1, ..Adagrad::default() };
    for device in devices() {
        straight_equals_resumed(&device, &config(), of(Method::RmsProp(rmsprop)), 5);
        straight_equals_resumed(&device, &config(), of(Method::Adagrad(adagrad)), 3);
        straight_equals_resumed(&device, &config(), of(Method::Adadelta(Adadelta::default())), 4);
        straight_equals_resumed(&device, &config(), OptimizerConfig { average: Some(0.9), ..adam() }, 5);
    }
}

#[test]
fn half_precision_too_while_steps_are_left_out() {
    for device in [gpu(), floor_gpu()] {
        let high = LossScale { exponent: 24, ..LossScale::default() };
        let prepare = |trainer: &Trainer<_>| trainer.store().write(State::LossScale, &high.state()).unwrap();
        compare(&device, 5, || task_in(config(), optimizer(), Precision::F16), prepare);
    }
}

#[test]
fn a_run_goes_on_in_its_own_precision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let task = |precision| task_in(config(), optimizer(), precision);
    let mut trainer = Trainer::new(task(Precision::F16), &Device::cpu(), options()).unwrap();
    train(&mut trainer, 2).unwrap();
    trainer.save(&path).unwrap();
    let error = Trainer::resume(task(Precision::F32), &Device::cpu(), options(), &path).unwrap_err().to_string();
    assert!(error.contains(r#"settings.precision is "f16" in the checkpoint and "f32" here"#), "{error}");
}

#[test]
fn any_device_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let task = || task_of(config(), OptimizerConfig::default());
    let all = [Device::cpu(), gpu()];
    for (from, to) in [(&all[0], &all[1]), (&all[1], &all[0])] {
        let path = folder.path().join("run");
        let mut trainer = Trainer::new(task(), from, options()).unwrap();
        train(&mut trainer, 10).unwrap();
        trainer.save(&path).unwrap();
        let mut other = Trainer::resume(task(), to, options(), &path).unwrap();
        assert_eq!(state_bits(&other), state_bits(&trainer));
        let (_, events) = train(&mut trainer, 15).unwrap();
        let (_, other_events) = train(&mut other, 15).unwrap();
        for (a, b) in step_bits(&events, 10).iter().zip(step_bits(&other_events, 10)) {
            let (a, b) = (f32::from_bits(a.0), f32::from_bits(b.0));
            assert!((a - b).abs() <= 1e-3 * a, "{a} on {from}, {b} on {to}");
        }
    }
}

#[test]
fn learning_rate_and_clipping_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut trainer = Trainer::new(task_of(config(), OptimizerConfig::default()), &Device::cpu(), options()).unwrap();
    train(&mut trainer, 3).unwrap();
    trainer.save(&path).unwrap();
    let clipped = OptimizerConfig { clip_norm: Some(0.1), ..OptimizerConfig::default() };
    let gentler = TrainerOptions { learning_rate: 1e-4, ..options() };
    let mut resumed = Trainer::resume(task_of(config(), clipped), &Device::cpu(), gentler, &path).unwrap();
    assert_eq!(train(&mut resumed, 5).unwrap().0.step, 5);
}

#[test]
fn a_checkpoint_tells_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let options = TrainerOptions { valid_every: 2, ..options() };
    let mut trainer = Trainer::new(task_of(config(), OptimizerConfig::default()), &Device::cpu(), options).unwrap();
    train(&mut trainer, 3).unwrap();
    trainer.save(&path).unwrap();
    let checkpoint = Checkpoint::load(&path, "wavenet").unwrap();
    assert_eq!(checkpoint.config::<WaveNetConfig>().unwrap(), config());
    assert_eq!(checkpoint.optimizer().unwrap(), OptimizerConfig::default());
    assert_eq!((checkpoint.step(), checkpoint.validation()), (3, trainer.validation()));
    assert!(matches!(Checkpoint::load(&path, "tcn"), Err(Error::Checkpoint { .. })));
}
