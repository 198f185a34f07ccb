//! Training: both executors learn the same, runs repeat bitwise, ends and events are as promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use receptive::data::Split;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, State, StepArgs};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::train::{
    Checkpoint, Event, Limit, Reason, Task, Trainer, TrainerOptions, WaveNetTask, WaveNetTaskOptions, load_model,
};
use receptive::{Device, Error};

use crate::tiny_wavenet::{
    BATCH, CHUNK, VALID_CHUNKS, chunks, config, devices, losses, optimizer, options, state_bits, task, train,
};

#[test]
fn executors_agree_and_runs_repeat() {
    let mut all = vec![];
    for device in devices() {
        let run = || {
            let mut trainer = Trainer::new(task(), &device, options()).unwrap();
            let losses = losses(&train(&mut trainer, 50).unwrap().1);
            (losses, state_bits(&trainer))
        };
        let (first, second) = (run(), run());
        assert!(first == second, "two runs on {device} differ");
        let (losses, _) = first;
        assert_eq!(losses.len(), 50);
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        assert!(mean(&losses[40..]) < mean(&losses[..3]) - 0.3, "{device} does not learn: {losses:?}");
        all.push(losses);
    }
    for (step, (cpu, gpu)) in all[0].iter().zip(&all[1]).enumerate() {
        assert!((cpu - gpu).abs() <= 1e-3 * cpu, "step {step}: {cpu} on the CPU, {gpu} on the GPU");
    }
}

#[test]
fn seeds_differ() {
    let first = |seed| {
        let mut trainer = Trainer::new(task(), &Device::cpu(), TrainerOptions { seed, ..options() }).unwrap();
        losses(&train(&mut trainer, 2).unwrap().1)
    };
    assert_ne!(first(1), first(2));
}

#[test]
fn validation_is_the_mean_over_every_target() {
    for device in devices() {
        let mut trainer = Trainer::new(task(), &device, options()).unwrap();
        train(&mut trainer, 2).unwrap();
        let actual = trainer.validate().unwrap().unwrap();

        // Chunk by chunk with a program of its own.
        let model = WaveNet::new(config()).unwrap();
        let evaluation = model.evaluation(Extent { batch: 1, time: CHUNK }).unwrap();
        let mut executor = Executor::new(&evaluation.program, trainer.store()).unwrap();
        let valid = chunks(Split::Valid, &config(), 2);
        assert_eq!(valid.len(), VALID_CHUNKS);
        let mut batch = receptive::data::Batch::new(1, &valid);
        let mut sum = 0.0;
        for index in 0..valid.len() {
            valid.fill_in_order(index, &mut batch);
            executor.write_ids(evaluation.input, &batch.input).unwrap();
            executor.write_ids(evaluation.target.unwrap(), &batch.target).unwrap();
            executor.run(&StepArgs::default()).unwrap();
            sum += executor.wait().unwrap()[0].values[0];
        }
        let expected = sum / valid.len() as f32;
        assert!((actual - expected).abs() <= 1e-5 * expected, "{actual} and {expected} on {device}");
        assert_eq!(trainer.validate().unwrap(), Some(actual));
    }
}

#[test]
fn fewer_validation_chunks_are_the_first_ones() {
    let limited = |valid_chunks| {
        let (train, valid) = (chunks(Split::Train, &config(), 1), chunks(Split::Valid, &config(), 2));
        let options = WaveNetTaskOptions { batch: BATCH, optimizer: optimizer(), valid_chunks };
        WaveNetTask::new(WaveNet::new(config()).unwrap(), train, Some(valid), options)
    };
    let loss = |valid_chunks| {
        let mut trainer = Trainer::new(limited(valid_chunks).unwrap(), &Device::cpu(), options()).unwrap();
        trainer.validate().unwrap().unwrap()
    };
    assert_eq!(loss(Some(100)), loss(None));
    let (one, three, all) = (loss(Some(1)), loss(Some(3)), loss(None));
    assert!(one != three && three != all, "{one} {three} {all}");
    assert!(matches!(limited(Some(0)), Err(Error::Config(text)) if text.contains("valid_chunks")));
}

#[test]
fn events_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    for device in devices() {
        let options = TrainerOptions {
            valid_every: 4,
            checkpoint_every: 6,
            checkpoint: Some(path.clone()),
            log_every: 2,
            ..options()
        };
        let mut trainer = Trainer::new(task(), &device, options).unwrap();
        let (outcome, events) = train(&mut trainer, 9).unwrap();
        let told: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Step { step, samples_per_second, seconds, learning_rate, .. } => {
                    assert!(*samples_per_second > 0.0 && *seconds > 0.0 && *learning_rate == 3e-3, "{event:?}");
                    format!("step {step}")
                }
                Event::Validated { step, .. } => format!("valid {step}"),
                Event::Saved { step, .. } => format!("saved {step}"),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = ["step 1", "step 3", "valid 4", "step 5", "saved 6", "step 7", "valid 8", "valid 9", "saved 9"];
        assert_eq!(told, expected, "{device}");
        assert_eq!((outcome.step, outcome.reason), (9, Reason::Finished));
        assert_eq!(Checkpoint::load(&path, "wavenet").unwrap().validation(), trainer.validation());
    }
}

#[test]
fn a_run_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    for device in devices() {
        let options = TrainerOptions { checkpoint: Some(path.clone()), checkpoint_every: 0, ..options() };
        let mut trainer = Trainer::new(task(), &device, options).unwrap();
        let error = trainer.run(Limit::steps(0), &AtomicBool::new(false), &mut |_| ()).unwrap_err();
        assert!(matches!(&error, Error::Config(text) if text.contains("at least 1 step")), "{error}");

        let stop = AtomicBool::new(false);
        let mut seen = vec![];
        let outcome = trainer.run(Limit::steps(1_000_000), &stop, &mut |event| match event {
            Event::Step { step, .. } => {
                seen.push(*step);
                if *step == 5 {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            _ => assert!(matches!(event, Event::Saved { .. })),
        });
        let outcome = outcome.unwrap();
        assert_eq!(outcome.reason, Reason::Stopped);
        assert!((6..=12).contains(&outcome.step), "{}", outcome.step);
        assert_eq!(seen, (0..outcome.step).collect::<Vec<_>>(), "every step submitted is told of");
        assert_eq!(Checkpoint::load(&path, "wavenet").unwrap().step(), outcome.step);

        let limit = Limit { steps: None, time: Some(Duration::from_millis(50)) };
        let timed = trainer.run(limit, &AtomicBool::new(false), &mut |_| ()).unwrap();
        assert_eq!(timed.reason, Reason::TimeUp);
        assert!(timed.step > outcome.step && timed.seconds >= 0.05, "{timed:?}");
        assert_eq!(Checkpoint::load(&path, "wavenet").unwrap().step(), timed.step);

        let (done, events) = train(&mut trainer, timed.step).unwrap();
        assert_eq!((done.reason, done.step, events), (Reason::Finished, timed.step, vec![]));
    }
}

/// Writes a number that is not finite into the weights.
fn poison(trainer: &Trainer<WaveNetTask>, name: &str, value: f32) {
    let mut params = trainer.store().read(State::Params).unwrap();
    let weight = trainer.task().program().params().find(name).unwrap();
    params[weight.offset] = value;
    trainer.store().write(State::Params, &params).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_stops_and_spares_the_checkpoint() {
    for device in devices() {
        for (name, value) in
            [("head.1.weight", f32::NAN), ("head.1.weight", f32::INFINITY), ("layers.1.dilated.weight", f32::NAN)]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run");
            let options = TrainerOptions { checkpoint: Some(path.clone()), checkpoint_every: 4, ..options() };
            let mut trainer = Trainer::new(task(), &device, options.clone()).unwrap();
            train(&mut trainer, 6).unwrap();
            let good = std::fs::read(&path).unwrap();
            poison(&trainer, name, value);
            let mut told = vec![];
            let result = trainer.run(Limit::steps(40), &AtomicBool::new(false), &mut |event| told.push(event.clone()));
            let error = result.unwrap_err();
            match &error {
                Error::NonFiniteLoss { step: 6, loss, checkpoint } => {
                    assert!(!loss.is_finite());
                    assert_eq!(checkpoint.as_ref(), Some(&path));
                }
                other => panic!("{other}"),
            }
            let text = error.to_string();
            assert!(text.contains("step 6") && text.contains(&path.display().to_string()), "{text}");
            assert_eq!(told, [], "nothing is told of a step that is not finite");
            // It stays so, and nothing writes over the good file.
            for result in [trainer.save(&path), trainer.save_model(&path, &BTreeMap::new())] {
                assert!(matches!(result, Err(Error::NonFiniteLoss { step: 6, .. })), "{result:?}");
            }
            let again = trainer.run(Limit::steps(40), &AtomicBool::new(false), &mut |_| ());
            assert!(matches!(again, Err(Error::NonFiniteLoss { step: 6, .. })), "{again:?}");
            assert!(std::fs::read(&path).unwrap() == good);
            let mut resumed = Trainer::resume(task(), &device, options, &path).unwrap();
            assert_eq!(train(&mut resumed, 8).unwrap().0.step, 8);
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut trainer = Trainer::new(task(), &Device::cpu(), options()).unwrap();
    train(&mut trainer, 2).unwrap();
    trainer.save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    // All losses so far were finite.
    poison(&trainer, "head.1.weight", f32::NEG_INFINITY);
    for result in [trainer.save(&path), trainer.save_model(folder.path().join("model"), &BTreeMap::new())] {
        match result {
            Err(Error::NonFiniteState { step: 2, what, value, checkpoint }) => {
                assert_eq!((what.as_str(), value), ("params of head.1.weight", f32::NEG_INFINITY));
                assert_eq!(checkpoint, Some(path.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!folder.path().join("model").exists());
    assert!(std::fs::read(&path).unwrap() == good);
    let validated = trainer.validate();
    assert!(matches!(validated, Err(Error::NonFiniteLoss { step: 2, .. })), "{validated:?}");
}

fn logits(config: &WaveNetConfig, store: &Store) -> Vec<u32> {
    let program = WaveNet::new(config.clone()).unwrap().logits(Extent { batch: 1, time: 40 }).unwrap();
    let mut executor = Executor::new(&program.program, store).unwrap();
    let ids: Vec<u32> = (0..40).map(|t| t * 7 % 32).collect();
    executor.write_ids(program.input, &ids).unwrap();
    executor.run(&StepArgs::default()).unwrap();
    executor.read(program.logits.unwrap()).unwrap().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_model_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut files = vec![];
    for device in devices() {
        let mut trainer = Trainer::new(task(), &device, options()).unwrap();
        train(&mut trainer, 5).unwrap();
        let extra = BTreeMap::from([("sample_rate".to_string(), "8000".to_string())]);
        trainer.save_model(&path, &extra).unwrap();
        files.push(std::fs::read(&path).unwrap());
        trainer.save_model(&path, &extra).unwrap();
        assert!(files.last() == std::fs::read(&path).ok().as_ref(), "the same model gives the same bytes");

        let model = load_model::<WaveNetConfig>(&path, "wavenet").unwrap();
        assert_eq!((&model.config, &model.metadata), (&config(), &extra));
        let layout = trainer.task().program().params();
        let flat = model.flat(layout).unwrap();
        let store = Store::new(&device);
        store.write(State::Params, &flat).unwrap();
        let expected = logits(&config(), trainer.store());
        assert!(expected.iter().any(|&bits| bits != 0));
        assert!(logits(&model.config, &store) == expected, "the logits on {device} differ");
        let reserved = trainer.save_model(&path, &BTreeMap::from([("config".to_string(), String::new())]));
        assert!(matches!(reserved, Err(Error::Config(text)) if text.contains("config")));
    }
}

#[test]
fn settings_that_cannot_work_are_errors() {
    let with = |options: TrainerOptions| Trainer::new(task(), &Device::cpu(), options).unwrap_err().to_string();
    assert!(with(TrainerOptions { learning_rate: f32::NAN, ..options() }).contains("learning_rate"));
    assert!(with(TrainerOptions { learning_rate: -1.0, ..options() }).contains("learning_rate"));
    let task = |config: WaveNetConfig, batch, train| {
        let options = WaveNetTaskOptions { batch, ..Default::default() };
        WaveNetTask::new(WaveNet::new(config).unwrap(), train, None, options).unwrap_err().to_string()
    };
    let chunks = || chunks(Split::Train, &config(), 1);
    assert!(task(config(), 0, chunks()).contains("batch"));
    let deeper = WaveNetConfig { dilations: vec![1, 2, 4, 8], ..config() };
    assert!(task(deeper, 2, chunks()).contains("receptive field of 9 samples, the model's is 17"));
    let error = task(WaveNetConfig { classes: 16, ..config() }, 2, chunks());
    assert!(error.contains("classes are 0 to 15"), "{error}");
}
