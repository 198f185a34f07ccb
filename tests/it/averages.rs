//! Averages of the parameters over updates.

use std::collections::BTreeMap;

use receptive::Error;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Precision, State};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::optim::{LossScale, OptimizerConfig};
use receptive::train::{Task, Trainer, WaveNetTask, load_model};

use crate::support::{assert_close, gpu};
use crate::tiny_wavenet::{config, devices, optimizer, options, task, task_in, task_of, train};

fn averaging(decay: f64) -> OptimizerConfig {
    OptimizerConfig { average: Some(decay), ..optimizer() }
}

fn flat(trainer: &Trainer<WaveNetTask>, state: State) -> Vec<f32> {
    trainer.store().read(state).unwrap()
}

/// The mean of the weights after each step, then an exponential moving average; training itself is the same to the bit.
#[test]
fn averages_follow_their_formula() {
    for device in devices() {
        let decay = 0.75;
        let mut plain = Trainer::new(task(), &device, options()).unwrap();
        let mut trainer = Trainer::new(task_of(config(), averaging(decay)), &device, options()).unwrap();
        assert_eq!(flat(&trainer, State::Average), flat(&trainer, State::Params));
        let mut expected = vec![0.0_f64; flat(&trainer, State::Params).len()];
        for t in 1..=10_u32 {
            train(&mut plain, t.into()).unwrap();
            train(&mut trainer, t.into()).unwrap();
            let params = flat(&trainer, State::Params);
            assert!(params == flat(&plain, State::Params), "{device}, update {t}");
            let share = (1.0 - decay).max(1.0 / f64::from(t));
            expected.iter_mut().zip(&params).for_each(|(a, &w)| *a += share * (f64::from(w) - *a));
            let expected: Vec<f32> = expected.iter().map(|&a| a as f32).collect();
            assert_close(&format!("{device}, update {t}"), &flat(&trainer, State::Average), &expected, 1e-7, 1e-6);
        }
        let (average, params) = (flat(&trainer, State::Average), flat(&trainer, State::Params));
        assert!(average.iter().zip(&params).any(|(a, w)| (a - w).abs() > 1e-4), "{device}");
    }
}

/// What is validated and saved are the averages, whatever the device.
#[test]
fn a_trainer_validates_and_saves_the_averages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for device in devices() {
        let mut plain = Trainer::new(task(), &device, options()).unwrap();
        let mut trainer = Trainer::new(task_of(config(), averaging(0.9)), &device, options()).unwrap();
        train(&mut plain, 12).unwrap();
        train(&mut trainer, 12).unwrap();
        let average = flat(&trainer, State::Average);
        let loss = trainer.validate().unwrap();
        assert_ne!(loss, plain.validate().unwrap(), "{device}");
        plain.store().write(State::Params, &average).unwrap();
        assert_eq!(loss, plain.validate().unwrap(), "{device}");

        trainer.save_model(&path, &BTreeMap::new()).unwrap();
        let model = load_model::<WaveNetConfig>(&path, "wavenet").unwrap();
        assert_eq!(model.flat(trainer.executor().program().params()).unwrap(), average, "{device}");
        assert_eq!(trainer.weights().read(State::Params).unwrap(), average, "{device}");
    }
}

#[test]
fn a_step_that_is_left_out_leaves_the_averages() {
    let task = task_in(config(), averaging(0.9), Precision::F16);
    let mut trainer = Trainer::new(task, &gpu(), options()).unwrap();
    train(&mut trainer, 3).unwrap();
    let before = flat(&trainer, State::Average);
    let high = LossScale { exponent: 24, ..LossScale::default() };
    trainer.store().write(State::LossScale, &high.state()).unwrap();
    train(&mut trainer, 4).unwrap();
    assert_eq!(LossScale::of(&flat(&trainer, State::LossScale)).skipped, 1);
    assert_eq!(flat(&trainer, State::Average), before);
}

#[test]
fn averages_are_not_trained_and_their_decay_is_checked() {
    let task = task_of(config(), averaging(0.9));
    for device in devices() {
        let store = Store::new(&device).averaged();
        assert!(matches!(Executor::new(task.program(), &store), Err(Error::Graph(_))), "{device}");
    }
    // A store without averages has none to compute with.
    let evaluation = WaveNet::new(config()).unwrap().evaluation(Extent { batch: 1, time: 100 }).unwrap().program;
    for device in devices() {
        let store = Store::new(&device);
        let trained = Executor::new(&evaluation, &store).unwrap();
        let error = Executor::new(trained.program(), &store.averaged()).unwrap_err();
        assert!(matches!(&error, Error::Graph(message) if message.contains("no averages")), "{error}");
    }
    for decay in [0.0, 1.0, -0.5, f64::NAN] {
        let error = averaging(decay).validate().unwrap_err();
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains("average"), "{error}");
    }
}
