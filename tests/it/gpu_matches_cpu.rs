//! Every operator, forward and backward: the GPU computes what the CPU computes, over random shapes.

use receptive::Device;
use receptive::exec::{Executor, Store};
use receptive::graph::{Precision, State};
use receptive::ops::table::TABLE;
use receptive::random::Random;

use crate::support::{CaseProgram, assert_close, floor_gpu, gpu};

const CASES: u32 = 24;

#[test]
fn every_operator_over_random_shapes() {
    compare(&gpu(), false, Precision::F32);
}

#[test]
fn every_operator_over_views() {
    compare(&gpu(), true, Precision::F32);
}

#[test]
fn every_operator_in_half_precision() {
    let device = gpu();
    if device.as_gpu().is_some_and(|gpu| gpu.capabilities().f16) {
        compare(&device, false, Precision::F16);
        compare(&device, true, Precision::F16);
    } else {
        eprintln!("{device} has no f16 in shaders: only the packed way was tested");
    }
}

#[test]
fn every_operator_in_half_precision_without_f16_in_shaders() {
    let device = floor_gpu();
    assert!(!device.as_gpu().unwrap().capabilities().f16);
    compare(&device, false, Precision::F16);
    compare(&device, true, Precision::F16);
}

/// How far a value may be off: `f32` sums in another order; or a few roundings to `f16`, which may be towards zero, and
/// the step between its smallest numbers. A rounding of tanh(x) near 1 is a large part of its slope.
pub fn tolerances(precision: Precision, expected: &[f32]) -> (f32, f32) {
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    match precision {
        Precision::F32 => (1e-5 * largest.max(1.0), 1e-5),
        Precision::F16 => (2.0_f32.powi(-8) * largest + 2.0_f32.powi(-23), 2.0_f32.powi(-10)),
    }
}

fn compare(device: &Device, views: bool, precision: Precision) {
    let Device::Gpu(_) = device else { panic!("not a GPU") };
    // The same kernels but for how they load and store.
    let cases = if precision == Precision::F16 { CASES / 2 } else { CASES };
    for (index, entry) in TABLE.iter().enumerate() {
        for number in 0..cases {
            let mut random = Random::new(1, index as u32, number);
            let case = (entry.case)(&mut random);
            let what =
                format!("{precision}, views {views}, {} case {number}: {:?} on {:?}", entry.name, case.op, case.inputs);
            let case = CaseProgram::with(&case, &mut random, views, precision);

            let mut cpu = case.cpu::<f32>();
            cpu.run(&Default::default()).unwrap();

            let store = Store::new(device);
            store.write(State::Params, &case.flat()).unwrap();
            let mut executor = Executor::new(&case.program, &store).unwrap_or_else(|e| panic!("{what}: {e}"));
            executor.set_poison(true).unwrap();
            case.feed(&mut executor);
            executor.run(&Default::default()).unwrap_or_else(|e| panic!("{what}: {e}"));

            for &output in &case.outputs {
                let (expected, actual) = (cpu.read(output).unwrap(), executor.read(output).unwrap());
                let (absolute, relative) = tolerances(precision, &expected);
                assert_close(&format!("{what}, output"), &actual, &expected, absolute, relative);
            }
            if let Some(gradients) = &case.gradients {
                for (position, (real, _)) in case.reals.iter().enumerate() {
                    let gradient = gradients.of(*real).unwrap();
                    let (expected, actual) = (cpu.read(gradient).unwrap(), executor.read(gradient).unwrap());
                    let what = format!("{what}, gradient of input {position}");
                    let (absolute, relative) = tolerances(precision, &expected);
                    assert_close(&what, &actual, &expected, absolute, relative);
                }
            }
        }
    }
}
