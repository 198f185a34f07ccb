//! Every operator, forward and backward: the GPU computes what the CPU computes, over random shapes.

use receptive::Device;
use receptive::exec::{Executor, Store};
use receptive::graph::State;
use receptive::ops::table::TABLE;
use receptive::random::Random;

use crate::support::{CaseProgram, assert_close, gpu};

const CASES: u32 = 24;

#[test]
fn every_operator_over_random_shapes() {
    let Device::Gpu(_) = gpu() else { panic!("not a GPU") };
    for (index, entry) in TABLE.iter().enumerate() {
        for number in 0..CASES {
            let mut random = Random::new(1, index as u32, number);
            let case = (entry.case)(&mut random);
            let what = format!("{} case {number}: {:?} on {:?}", entry.name, case.op, case.inputs);
            let case = CaseProgram::new(&case, &mut random);

            let mut cpu = case.cpu::<f32>();
            cpu.run(&Default::default()).unwrap();

            let store = Store::new(&gpu());
            store.write(State::Params, &case.flat()).unwrap();
            let mut executor = Executor::new(&case.program, &store).unwrap_or_else(|e| panic!("{what}: {e}"));
            executor.set_poison(true).unwrap();
            for (tensor, ids) in &case.ids {
                executor.write_ids(*tensor, ids).unwrap();
            }
            executor.run(&Default::default()).unwrap_or_else(|e| panic!("{what}: {e}"));

            let scale = |values: &[f32]| values.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
            for &output in &case.outputs {
                let (expected, actual) = (cpu.read(output).unwrap(), executor.read(output).unwrap());
                assert_close(&format!("{what}, output"), &actual, &expected, 1e-5 * scale(&expected), 1e-5);
            }
            if let Some(gradients) = &case.gradients {
                for (position, (real, _)) in case.reals.iter().enumerate() {
                    let gradient = gradients.of(*real).unwrap();
                    let (expected, actual) = (cpu.read(gradient).unwrap(), executor.read(gradient).unwrap());
                    let what = format!("{what}, gradient of input {position}");
                    assert_close(&what, &actual, &expected, 1e-5 * scale(&expected), 1e-5);
                }
            }
        }
    }
}
