//! What is timed is checked first: the CPU executor against itself in double precision at a reduced extent, every other
//! device against the CPU executor.

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, ensure};
use receptive::exec::CpuExecutor;
use receptive::graph::{Precision, StepArgs};

use super::generate::{self, Generation};
use super::models::{self, BATCHES, Model, Values};
use super::subject::{Observed, Outcome, Subject};
use super::workloads::Case;

/// The largest deviations allowed.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Of losses, and of what one operator gives: the largest difference, of the largest value of the tensor.
    values: f64,
    /// Of a network's gradients: the norm of the difference, of the tensor's norm. Where a rectifier's input is all but 0,
    /// rounding turns it on or off, and with it a whole contribution to a few elements.
    gradients: f64,
}

/// In `f16` a number has 11 binary digits, and every activation is rounded on the way.
pub fn tolerance(precision: Precision) -> Tolerance {
    match precision {
        Precision::F32 => Tolerance { values: 1e-4, gradients: 1e-3 },
        Precision::F16 => Tolerance { values: 1e-2, gradients: 0.1 },
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0e} is allowed, {} for the norm of a network's gradients", self.values, self.gradients)
    }
}

/// The extent at which double precision is affordable.
const REDUCED: [(&str, u64); 2] = [("batch", 2), ("time", 256)];

/// The largest deviation of any tensor from its reference, relative to that tensor.
///
/// # Errors
/// If something was not computed, is not a number, deviates more than the tolerance or was drawn differently.
pub fn compare(actual: &[Observed], expected: &[Observed], tolerance: Tolerance) -> Result<f64> {
    let mut worst = 0.0;
    for expected in expected {
        let name = &expected.name;
        let found = actual.iter().find(|actual| actual.name == *name);
        let (off, allowed) = match (found.map(|actual| &actual.values), &expected.values) {
            (Some(Outcome::Reals(actual)), Outcome::Reals(expected)) => (deviation(actual, expected), tolerance.values),
            (Some(Outcome::Gradients(actual)), Outcome::Gradients(expected)) => {
                (norm_deviation(actual, expected), tolerance.gradients)
            }
            (Some(Outcome::Draws(actual)), Outcome::Draws(expected)) => {
                let others = actual.iter().zip(expected).filter(|(actual, expected)| actual != expected).count();
                ensure!(
                    actual.len() == expected.len() && others * 8 <= expected.len(),
                    "{name} are wrong: {others} of {} streams drew other classes",
                    expected.len()
                );
                continue;
            }
            _ => anyhow::bail!("{name} was not computed"),
        };
        ensure!(off <= allowed, "{name} is wrong: it deviates by {off:.1e}, {allowed} is allowed");
        worst = f64::max(worst, off);
    }
    Ok(worst)
}

/// The largest difference, of the largest value; infinite where it can't be told.
fn deviation(actual: &[f32], expected: &[f32]) -> f64 {
    if actual.len() != expected.len() {
        return f64::INFINITY;
    }
    let difference = |(a, b): (&f32, &f32)| {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    let largest = expected.iter().fold(0.0, |largest, value| f64::max(largest, f64::from(value.abs())));
    let difference = actual.iter().zip(expected).map(difference).fold(0.0, f64::max);
    if difference == 0.0 { 0.0 } else { difference / largest }
}

/// The norm of the difference, of the norm; infinite where it can't be told.
fn norm_deviation(actual: &[f32], expected: &[f32]) -> f64 {
    if actual.len() != expected.len() {
        return f64::INFINITY;
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let difference = squares(&mut actual.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let norm = squares(&mut expected.iter().map(|value| f64::from(*value)));
    match (difference / norm).sqrt() {
        _ if difference == 0.0 => 0.0,
        deviation if deviation.is_nan() => f64::INFINITY,
        deviation => deviation,
    }
}

/// Checks the CPU executor against itself in double precision. Says how.
///
/// # Errors
/// As [`compare`]; what the library gives.
pub fn cpu_against_double(case: &Case) -> Result<String> {
    let mut reduced = case.clone();
    for (key, most) in REDUCED {
        reduced.size = reduced.size.at_most(key, most);
    }
    let cpu = receptive::Device::Cpu;
    // The CPU executor computes in f32, whatever a device is to store.
    let tolerance = tolerance(Precision::F32);
    let worst = if case.kind == generate::KIND {
        let generation = Generation::new(&reduced)?;
        compare(&generation.on(&cpu)?.observe()?, &generation.oracle()?, tolerance)?
    } else {
        let Some(model) = models::build(&reduced)? else { return Ok("no model".into()) };
        compare(&super::subject::ProgramSubject::new(&model, &cpu)?.observe()?, &oracle(&model)?, tolerance)?
    };
    Ok(format!("the same in f64 at a reduced extent: off by {worst:.1e}, {tolerance}"))
}

/// What a program's first step computes in double precision, under the names of [`Subject::observe`].
fn oracle(model: &Model) -> Result<Vec<Observed>> {
    let mut cpu = CpuExecutor::<f64>::new(Arc::clone(&model.program))?;
    let flat = model.program.params().initial(0);
    for param in model.program.params().iter() {
        let values: Vec<f64> = param.gather(&flat).into_iter().map(f64::from).collect();
        cpu.write(param.tensor, &values)?;
    }
    let mut observed = vec![];
    let trains = model.learning_rate.is_some();
    for number in 0..if trains { 2 } else { BATCHES as u64 } {
        for input in &model.inputs {
            match &input.batches[number as usize] {
                Values::Real(values) => {
                    cpu.write(input.tensor, &values.iter().map(|&value| value.into()).collect::<Vec<f64>>())?
                }
                Values::Ids(values) => cpu.write_ids(input.tensor, values)?,
            }
        }
        cpu.run(&StepArgs { learning_rate: model.learning_rate.unwrap_or_default(), step: number, seed: 0 })?;
        for metrics in cpu.metrics() {
            observed.push(Observed::reals(format!("loss of step {number}"), metrics.values));
        }
        for (name, tensor) in model.checked.iter().filter(|_| !trains || number == 0) {
            let values = cpu.read(*tensor)?.into_iter().map(|value| value as f32).collect();
            observed.push(Observed::result(format!("{name} of step {number}"), values, trains));
        }
    }
    Ok(observed)
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::*;

    fn reals(values: &[f32]) -> Vec<Observed> {
        vec![Observed::reals("y", values.to_vec())]
    }

    fn both(allowed: f64) -> Tolerance {
        Tolerance { values: allowed, gradients: allowed }
    }

    #[test]
    fn deviations_are_of_the_largest_value() {
        let expected = reals(&[1.0, -100.0, 0.0]);
        assert_eq!(compare(&reals(&[1.0, -100.0, 0.0]), &expected, both(0.0)).unwrap(), 0.0);
        let worst = compare(&reals(&[1.0, -100.0, 0.5]), &expected, both(0.01)).unwrap();
        assert!((worst - 0.005).abs() < 1e-9, "{worst}");
        for wrong in [&[1.0, -100.0, 2.0][..], &[1.0, f32::NAN, 0.0], &[1.0, -100.0], &[]] {
            let error = compare(&reals(wrong), &expected, both(0.01)).unwrap_err().to_string();
            assert!(error.contains("y is wrong"), "{wrong:?}: {error}");
        }
        assert!(compare(&[], &expected, both(1.0)).is_err());
        assert!(compare(&reals(&[1e-9]), &reals(&[0.0]), both(1.0)).is_err());
    }

    #[test]
    fn few_streams_may_draw_otherwise() {
        let draws = |streams: &[u32]| {
            let values = Outcome::Draws(streams.iter().map(|&class| vec![7, class]).collect());
            vec![Observed { name: "draws".into(), values }]
        };
        let expected = draws(&[1; 16]);
        let mut streams = [1; 16];
        streams[3..5].fill(2);
        compare(&draws(&streams), &expected, both(0.0)).unwrap();
        streams[5] = 2;
        assert!(compare(&draws(&streams), &expected, both(0.0)).is_err());
        assert!(compare(&draws(&[2]), &draws(&[1]), both(0.0)).is_err());
        assert!(compare(&draws(&[1]), &expected, both(0.0)).is_err());
    }

    #[test]
    fn gradients_of_a_network_may_deviate_more() {
        let observed = |values, gradient| vec![Observed::result("y".into(), values, gradient)];
        let tolerance = Tolerance { values: 0.01, gradients: 0.1 };
        // One element far off, the norm by 5%.
        let (actual, expected) = (vec![1.0, 0.5, 10.0], vec![1.0, 0.0, 10.0]);
        compare(&observed(actual.clone(), true), &observed(expected.clone(), true), tolerance).unwrap();
        assert!(compare(&observed(actual, false), &observed(expected.clone(), false), tolerance).is_err());
        assert!(compare(&observed(vec![1.0, 1.5, 10.0], true), &observed(expected.clone(), true), tolerance).is_err());
        assert!(
            compare(&observed(vec![1.0, f32::NAN, 10.0], true), &observed(expected.clone(), true), tolerance).is_err()
        );
        assert!(compare(&observed(expected.clone(), false), &observed(expected, true), tolerance).is_err());
    }
}
