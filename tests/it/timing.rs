//! Timing tells where a step's time goes, and changes nothing of what it computes.

use std::collections::BTreeMap;
use std::time::Duration;

use receptive::exec::{Executor, Store, Timing, Timings};
use receptive::graph::{Cost, Extent, StepArgs};
use receptive::nn::WaveNet;
use receptive::train::Trainer;
use receptive::{Device, Error};

use crate::no_hidden_work::own_gpu;
use crate::support::application;
use crate::tiny_wavenet::{BATCH, CHUNK, config, devices, optimizer, options, state_bits, step_bits, task, train};

const MODES: [Timing; 3] = [Timing::Off, Timing::Step, Timing::Op];

#[test]
fn timing_changes_no_bit() {
    for device in devices() {
        let mut plain = Trainer::new(task(), &device, options()).unwrap();
        let (_, events) = train(&mut plain, 20).unwrap();
        let expected = (step_bits(&events, 0), state_bits(&plain));
        // One mode all along; a new one every few steps.
        for (first, rest) in [(Timing::Step, &[][..]), (Timing::Op, &[]), (Timing::Op, &MODES)] {
            let mut timed = Trainer::new(task(), &device, options()).unwrap();
            timed.set_timing(first).unwrap();
            let mut events = vec![];
            for (index, &mode) in rest.iter().enumerate() {
                events.extend(train(&mut timed, 5 * (index as u64 + 1)).unwrap().1);
                timed.set_timing(mode).unwrap();
            }
            events.extend(train(&mut timed, 20).unwrap().1);
            assert!((step_bits(&events, 0), state_bits(&timed)) == expected, "{first:?}, {rest:?} on {device}");
        }
    }
}

#[test]
fn the_first_step_of_a_trainer_is_left_out() {
    for device in devices() {
        for mode in [Timing::Step, Timing::Op] {
            let mut trainer = Trainer::new(task(), &device, options()).unwrap();
            trainer.set_timing(mode).unwrap();
            train(&mut trainer, 1).unwrap();
            assert_eq!(trainer.timings().unwrap(), Timings::default(), "{device}");
            train(&mut trainer, 4).unwrap();
            let timings = trainer.timings().unwrap();
            assert_eq!(timings.steps.len(), 3, "{device}");
            let updates = timings.ops.iter().find(|op| op.name == "optimizer_update").map(|op| op.count);
            assert_eq!(updates, (mode == Timing::Op).then_some(3), "{device}");
            // Only the first.
            trainer.set_timing(mode).unwrap();
            train(&mut trainer, 5).unwrap();
            assert_eq!(trainer.timings().unwrap().steps.len(), 1, "{device}");
        }
    }
}

/// An executor of a training step, with the extent that it is planned for.
fn executor(device: &Device) -> (Executor, Store) {
    let model = WaveNet::new(config()).unwrap();
    let program = model.training(Extent { batch: BATCH, time: CHUNK }, &optimizer()).unwrap().program;
    let store = Store::new(device);
    (Executor::new(&program, &store).unwrap(), store)
}

fn run(executor: &mut Executor, steps: u64) {
    for step in 0..steps {
        executor.run(&StepArgs { learning_rate: 1e-3, step, seed: 1 }).unwrap();
    }
}

fn by_name(timings: &Timings) -> BTreeMap<&str, (u64, Cost, Duration)> {
    let mut names = BTreeMap::<_, (u64, Cost, Duration)>::new();
    for op in &timings.ops {
        let (count, cost, time) = names.entry(op.name).or_default();
        (*count, *cost, *time) = (*count + op.count, *cost + op.cost, *time + op.time);
    }
    names
}

#[test]
fn every_operator_is_counted_and_timed() {
    for device in devices() {
        let on_gpu = device.as_gpu().is_some();
        let (mut executor, _store) = executor(&device);
        let program = executor.program().clone();
        executor.set_timing(Timing::Op).unwrap();
        // More steps than may be under way, the last ones shorter.
        run(&mut executor, 7);
        let shorter = Extent { batch: 1, time: CHUNK / 2 };
        executor.resize(shorter).unwrap();
        run(&mut executor, 2);
        let metrics = executor.metrics().unwrap().len();
        let timings = executor.timings().unwrap();
        assert_eq!(metrics + executor.metrics().unwrap().len(), 9, "timing took metrics of {device}");

        let cost = program.cost(program.extent()).unwrap().times(7) + program.cost(shorter).unwrap().times(2);
        assert_eq!(timings.ops.iter().map(|op| op.cost).sum::<Cost>(), cost, "{device}");
        let names = by_name(&timings);
        let layers = config().dilations.len() as u64;
        assert_eq!(names["wavenet_layer"].0, 9 * layers, "{device}");
        assert_eq!(names["optimizer_update"].0, 9, "{device}");
        assert!(names.values().all(|(_, _, time)| *time > Duration::ZERO), "{device}: {names:?}");
        assert!(timings.ops.is_sorted_by(|a, b| a.time >= b.time), "{device}");
        let variants = timings.ops.iter().filter(|op| op.name == "wavenet_layer").map(|op| op.variant);
        assert!(variants.into_iter().all(|variant| variant.is_empty() != on_gpu), "{device}");

        assert_eq!((timings.steps.len(), timings.host.len()), (9, if on_gpu { 9 } else { 0 }), "{device}");
        let (steps, ops): (Duration, Duration) =
            (timings.steps.iter().sum(), timings.ops.iter().map(|op| op.time).sum());
        assert!(ops <= steps && ops > steps / 20, "{device}: {ops:?} of {steps:?}");

        let table = timings.to_string();
        assert!(names.keys().all(|name| table.contains(name)), "{table}");
        assert_eq!(executor.timings().unwrap(), Timings::default(), "{device}");
    }
}

#[test]
fn steps_alone_are_timed_without_operators() {
    for device in devices() {
        let (mut executor, _store) = executor(&device);
        run(&mut executor, 3);
        assert_eq!(executor.timings().unwrap(), Timings::default(), "{device}");
        executor.set_timing(Timing::Step).unwrap();
        run(&mut executor, 6);
        let timings = executor.timings().unwrap();
        assert_eq!(timings.steps.len(), 6, "{device}");
        assert!(timings.ops.is_empty() && timings.steps.iter().all(|time| !time.is_zero()), "{device}: {timings:?}");
        run(&mut executor, 2);
        executor.set_timing(Timing::Off).unwrap();
        run(&mut executor, 2);
        assert_eq!(executor.timings().unwrap(), Timings::default(), "{device}");
    }
}

#[test]
fn a_device_without_timestamps_times_the_host() {
    let (device, queue) = application();
    let device = Device::from_wgpu(device, queue).unwrap();
    let (mut executor, _store) = executor(&device);
    let error = executor.set_timing(Timing::Op).unwrap_err();
    assert!(matches!(&error, Error::Config(message) if message.contains("timestamps")), "{error}");
    executor.set_timing(Timing::Step).unwrap();
    run(&mut executor, 5);
    let timings = executor.timings().unwrap();
    assert_eq!((timings.steps.len(), timings.host.len()), (0, 5));
}

#[test]
fn memory_is_what_the_device_gave() {
    let device = own_gpu();
    let gpu = device.as_gpu().unwrap();
    let before = gpu.bytes_created();
    let (executor, _store) = executor(&device);
    assert_eq!(executor.memory_bytes(), gpu.bytes_created() - before);
}
