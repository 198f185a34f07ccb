//! Checking a variant against the CPU executor in f64, and timing it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use receptive::Device;
use receptive::exec::{CpuExecutor, Executor, Store};
use receptive::graph::{Precision, State, StepArgs};

use super::subject::Subject;

/// What one variant took for one shape.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The median of the runs.
    pub median: Duration,
    /// The fastest run.
    pub min: Duration,
}

/// Submissions are timed together until they last this long, so that waiting for them does not count.
const LEAST: Duration = Duration::from_millis(40);

/// A variant on a GPU.
pub fn variant(subject: &Subject, family: &str, name: &str, device: &Device, runs: usize) -> Result<Row> {
    let Some(gpu) = device.as_gpu() else { anyhow::bail!("the CPU has no variants") };
    let store = Store::new(device);
    store.write(State::Params, &subject.flat)?;
    let capabilities = gpu.capabilities().clone().forcing(family, name);
    let mut executor = Executor::with_capabilities(&subject.program, &store, &capabilities)?;
    executor.set_poison(true)?;
    prepare(subject, &mut executor)?;
    check(subject, &mut executor)?;
    executor.set_poison(false)?;
    time(&mut executor, runs)
}

/// The CPU executor.
pub fn cpu(subject: &Subject, runs: usize) -> Result<Row> {
    let store = Store::new(&Device::cpu());
    store.write(State::Params, &subject.flat)?;
    let mut executor = Executor::new(&subject.program, &store)?;
    prepare(subject, &mut executor)?;
    check(subject, &mut executor)?;
    time(&mut executor, runs)
}

fn prepare(subject: &Subject, executor: &mut Executor) -> Result<()> {
    for (tensor, values) in &subject.inputs {
        executor.write(*tensor, values)?;
    }
    for (tensor, ids) in &subject.ids {
        executor.write_ids(*tensor, ids)?;
    }
    Ok(())
}

const STEP: StepArgs = StepArgs { learning_rate: 0.0, step: 0, seed: 0 };

fn check(subject: &Subject, executor: &mut Executor) -> Result<()> {
    let expected = subject.expected.get_or_init(|| expected(subject));
    // In `f16` a number has 11 binary digits, and every operand is rounded.
    let tolerance = match subject.program.precision() {
        Precision::F32 => 2e-5,
        Precision::F16 => 1e-2,
    };
    executor.run(&STEP)?;
    executor.wait()?;
    for (&output, expected) in subject.outputs.iter().zip(expected) {
        let actual = executor.read(output)?;
        let scale = expected.iter().fold(1e-3, |most: f64, v| most.max(v.abs()));
        ensure!(actual.len() == expected.len(), "{} values, not {}", actual.len(), expected.len());
        let worst = actual
            .iter()
            .zip(expected)
            .map(|(a, b)| (f64::from(*a) - b).abs())
            .fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { f64::max(most, error) });
        ensure!(worst <= tolerance * scale, "WRONG: off by {worst:.2e} where the largest is {scale:.2e}");
    }
    Ok(())
}

/// The outputs by the CPU executor in f64.
fn expected(subject: &Subject) -> Vec<Vec<f64>> {
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let run = || -> receptive::Result<Vec<Vec<f64>>> {
        let mut cpu = CpuExecutor::<f64>::new(subject.program.clone())?;
        for param in subject.program.params().iter() {
            cpu.write(param.tensor, &wide(&param.gather(&subject.flat)))?;
        }
        for (tensor, values) in &subject.inputs {
            cpu.write(*tensor, &wide(values))?;
        }
        for (tensor, ids) in &subject.ids {
            cpu.write_ids(*tensor, ids)?;
        }
        cpu.run(&STEP)?;
        subject.outputs.iter().map(|&output| cpu.read(output)).collect()
    };
    run().unwrap_or_else(|error| panic!("the reference does not run: {error}"))
}

fn time(executor: &mut Executor, runs: usize) -> Result<Row> {
    let mut several = |count: u32| -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..count {
            executor.run(&STEP)?;
        }
        executor.wait()?;
        Ok(start.elapsed() / count)
    };
    let once = several(1)?.min(several(1)?);
    let count = LEAST.div_duration_f64(once).ceil().clamp(1.0, 200.0) as u32;
    let mut times = (0..runs.max(1)).map(|_| several(count)).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(Row { median: times[times.len() / 2], min: times[0] })
}
