//! After the first step nothing is compiled and nothing grows, and a shorter extent costs nothing new.

use std::process::Command;
use std::sync::atomic::AtomicBool;

use receptive::Device;
use receptive::data::{Batch, Split};
use receptive::device::Gpu;
use receptive::exec::{Executor, Store, Timing};
use receptive::graph::{Extent, Precision, State, StepArgs};
use receptive::nn::{SequenceProgram, WaveNet, WaveNetProgram};
use receptive::train::{Limit, Task, Trainer, TrainerOptions};

use crate::support::{self, assert_close};
use crate::tiny_recurrent::{self, GRU, LSTM};
use crate::tiny_wavenet::{BATCH, CHUNK, chunks, config, devices, optimizer, options, task, task_in};

/// Everything that a GPU holds: wgpu's own count, and the crate's.
pub fn held(gpu: &Gpu) -> [isize; 8] {
    let hal = gpu.device().get_internal_counters().hal;
    [
        hal.buffers.read(),
        hal.buffer_memory.read(),
        hal.bind_groups.read(),
        hal.compute_pipelines.read(),
        hal.shader_modules.read(),
        gpu.buffers_created() as isize,
        gpu.bytes_created() as isize,
        gpu.pipelines_created() as isize,
    ]
}

/// A device of the test's own: others would count along.
pub fn own_gpu() -> Device {
    Device::select(&support::gpu().as_gpu().unwrap().info().name.clone()).unwrap()
}

#[test]
fn a_thousand_steps_create_nothing() {
    for (precision, more) in [(Precision::F32, 1000), (Precision::F16, 300)] {
        steps_create_nothing(task_in(config(), optimizer(), precision), more);
    }
}

#[test]
fn steps_of_recurrent_layers_create_nothing_either() {
    for (cell, precision) in [(GRU, Precision::F32), (LSTM, Precision::F16)] {
        steps_create_nothing(tiny_recurrent::task(cell, precision), 250);
    }
}

fn steps_create_nothing<T: Task>(task: T, more: u64) {
    let device = own_gpu();
    let gpu = device.as_gpu().unwrap();
    let precision = task.program().precision();
    let mut trainer = Trainer::new(task, &device, TrainerOptions { valid_every: 100, ..options() }).unwrap();
    let steps = |trainer: &mut Trainer<_>, steps| {
        trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap()
    };
    // The end of a run validates: the first validation plans its program.
    steps(&mut trainer, 1);
    let before = held(gpu);
    assert!(before.iter().all(|&count| count > 0), "wgpu counts nothing: {before:?}");
    steps(&mut trainer, 1 + more);
    assert_eq!(held(gpu), before, "{precision}");
}

#[test]
fn timed_steps_create_nothing_either() {
    let device = own_gpu();
    let gpu = device.as_gpu().unwrap();
    let mut trainer = Trainer::new(task(), &device, options()).unwrap();
    for (rounds, timing) in [Timing::Step, Timing::Op].into_iter().enumerate() {
        trainer.set_timing(timing).unwrap();
        let mut to = |steps| trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap();
        to(rounds as u64 * 200 + 1);
        let before = held(gpu);
        to(rounds as u64 * 200 + 200);
        assert_eq!(held(gpu), before, "{timing:?}");
    }
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow() {
    let name = format!("{}::child_does_not_grow", module_path!().split_once("::").unwrap().1);
    for device in devices() {
        let device = device.as_gpu().map_or("cpu".to_owned(), |gpu| gpu.info().name.clone());
        let output = Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--ignored", "--nocapture"])
            .env("RECEPTIVE_DEVICE", &device)
            .output()
            .unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("1 passed"), "{device}: {out}{error}");
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "run by another test in a process of its own"]
fn child_does_not_grow() {
    let device = Device::auto().unwrap();
    let mut trainer = Trainer::new(task(), &device, TrainerOptions { valid_every: 50, ..options() }).unwrap();
    let mut to = |steps| trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap();
    to(300);
    let before = resident();
    to(1300);
    let grown = resident().saturating_sub(before);
    // A thousand batches are 1.6 MB, a thousand steps' activations over 50 MB.
    assert!(grown < 1 << 20, "{grown} bytes more after 1,000 steps on {device}");
}

/// Three steps on the first rows and samples of a batch: the losses and the weights.
pub fn three_steps(
    program: &WaveNetProgram,
    executor: &mut Executor,
    store: &Store,
    extent: Extent,
) -> (Vec<f32>, Vec<f32>) {
    let layout = program.program.params();
    store.write(State::Params, &layout.initial(3)).unwrap();
    for state in [State::FirstMoment, State::SecondMoment, State::Counters] {
        let zeros = vec![0.0; store.read(state).unwrap().len()];
        store.write(state, &zeros).unwrap();
    }
    let train = chunks(Split::Train, &config(), 1);
    let mut batch = Batch::new(BATCH, &train);
    train.fill(&[300, 2000], &mut batch);
    let crop = config().receptive_field() - 1;
    let cut = |ids: &[u32], length: usize| -> Vec<u32> {
        ids.chunks(ids.len() / BATCH).take(extent.batch).flat_map(|row| row[..length].to_vec()).collect()
    };
    let mut losses = vec![];
    for step in 0..3 {
        executor.write_ids(program.input, &cut(&batch.input, extent.time)).unwrap();
        executor.write_ids(program.target.unwrap(), &cut(&batch.target, extent.time - crop)).unwrap();
        executor.run(&StepArgs { learning_rate: 1e-2, step, seed: 0 }).unwrap();
        losses.extend(executor.wait().unwrap().into_iter().map(|metrics| metrics.values[0]));
    }
    (losses, store.read(State::Params).unwrap())
}

/// Bind groups, pipelines and kernels that a GPU holds.
fn counts(device: &Device) -> Option<[isize; 3]> {
    let of = |gpu: &Gpu| {
        let held = held(gpu);
        [held[2], held[3], held[7]]
    };
    device.as_gpu().map(|gpu| of(gpu))
}

fn resize_for_nothing(executor: &mut Executor, device: &Device, extent: Extent) {
    let all = || (counts(device), device.as_gpu().map(|gpu| gpu.buffers_created()));
    let before = all();
    executor.resize(extent).unwrap();
    assert_eq!(all(), before, "{extent:?} on {device}");
}

#[test]
fn a_shorter_extent_costs_nothing_and_gives_the_same() {
    let model = WaveNet::new(config()).unwrap();
    let full = Extent { batch: BATCH, time: CHUNK };
    for device in [Device::cpu(), own_gpu()] {
        let program = model.training(full, &optimizer()).unwrap();
        let store = Store::new(&device);
        let mut executor = Executor::new(&program.program, &store).unwrap();
        executor.set_poison(true).unwrap();
        let (full_losses, full_weights) = three_steps(&program, &mut executor, &store, full);
        for extent in [Extent { batch: 1, time: 57 }, Extent { batch: 2, time: 10 }, Extent { batch: 1, time: 9 }] {
            let before = counts(&device);
            resize_for_nothing(&mut executor, &device, extent);
            let resized = three_steps(&program, &mut executor, &store, extent);
            assert_eq!(counts(&device), before);

            let planned_program = model.training(extent, &optimizer()).unwrap();
            let planned_store = Store::new(&device);
            let mut planned = Executor::new(&planned_program.program, &planned_store).unwrap();
            let expected = three_steps(&planned_program, &mut planned, &planned_store, extent);
            let what = format!("{extent:?} on {device}");
            assert_close(&format!("losses at {what}"), &resized.0, &expected.0, 0.0, 1e-5);
            assert_close(&format!("weights at {what}"), &resized.1, &expected.1, 1e-5, 1e-4);
        }
        // And back again.
        executor.resize(full).unwrap();
        assert!(three_steps(&program, &mut executor, &store, full) == (full_losses, full_weights), "{device}");
    }
}

/// Three steps of a recurrent model on the first rows and positions of its examples: the losses and the weights.
fn recurrent_steps(
    program: &SequenceProgram,
    executor: &mut Executor,
    store: &Store,
    extent: Extent,
) -> (Vec<f32>, Vec<f32>) {
    store.write(State::Params, &program.program.params().initial(3)).unwrap();
    for state in [State::FirstMoment, State::SecondMoment, State::Counters] {
        let zeros = vec![0.0; store.read(state).unwrap().len()];
        store.write(state, &zeros).unwrap();
    }
    let (values, targets) = tiny_recurrent::examples(1, tiny_recurrent::BATCH);
    let rows = values.chunks(tiny_recurrent::TIME * tiny_recurrent::CHANNELS).take(extent.batch);
    let input: Vec<f32> = rows.flat_map(|row| row[..extent.time * tiny_recurrent::CHANNELS].to_vec()).collect();
    let mut losses = vec![];
    for step in 0..3 {
        executor.write(program.input, &input).unwrap();
        executor.write(program.target, &targets[..extent.batch * tiny_recurrent::CHANNELS]).unwrap();
        executor.run(&StepArgs { learning_rate: 1e-2, step, seed: 7 }).unwrap();
        losses.extend(executor.wait().unwrap().into_iter().map(|metrics| metrics.values[0]));
    }
    (losses, store.read(State::Params).unwrap())
}

#[test]
fn a_shorter_extent_of_recurrent_layers_costs_nothing_either() {
    let full = Extent { batch: tiny_recurrent::BATCH, time: tiny_recurrent::TIME };
    for (device, cell) in [(Device::cpu(), LSTM), (own_gpu(), LSTM), (own_gpu(), GRU)] {
        let model = tiny_recurrent::model(cell, Precision::F32);
        let made = |extent: Extent| {
            let program = model.training(extent, &optimizer()).unwrap();
            let store = Store::new(&device);
            let executor = Executor::new(&program.program, &store).unwrap();
            (program, store, executor)
        };
        let (program, store, mut executor) = made(full);
        executor.set_poison(true).unwrap();
        let whole = recurrent_steps(&program, &mut executor, &store, full);
        for extent in [Extent { batch: 3, time: 11 }, Extent { batch: 1, time: 1 }] {
            let before = counts(&device);
            resize_for_nothing(&mut executor, &device, extent);
            let resized = recurrent_steps(&program, &mut executor, &store, extent);
            assert_eq!(counts(&device), before);
            let (program, store, mut executor) = made(extent);
            let expected = recurrent_steps(&program, &mut executor, &store, extent);
            let what = format!("{cell:?}, {extent:?} on {device}");
            assert_close(&format!("losses of {what}"), &resized.0, &expected.0, 0.0, 1e-5);
            assert_close(&format!("weights of {what}"), &resized.1, &expected.1, 1e-5, 1e-4);
        }
        executor.resize(full).unwrap();
        assert!(recurrent_steps(&program, &mut executor, &store, full) == whole, "{cell:?} on {device}");
    }
}
