//! Every variant of every kernel, forced: it computes what the CPU computes, over random shapes and some that fill the
//! largest tiles.

use std::sync::Arc;

use receptive::device::Capabilities;
use receptive::exec::{Executor, Store, dispatches};
use receptive::graph::{Precision, Shape, State};
use receptive::ops::conv1d::Conv1d;
use receptive::ops::table::{FAMILIES, TABLE};
use receptive::ops::{Activation, Case, CaseInput, Geometry};
use receptive::random::Random;

use crate::gpu_matches_cpu::tolerances;
use crate::support::{CaseProgram, assert_close, gpu};

/// What a device may lack, in the words of the variants that need it.
const LACKING: [&str; 3] = ["no cooperative matrices", "no subgroups of", "activations are not stored as f16"];

/// Of each operator: software drivers take seconds to compile the largest register tiles.
const CASES: u32 = 1;

/// The operators whose kernels, forward or backward, are of a family.
fn cases(family: &str, random: &mut Random) -> Vec<Case> {
    let name = family.trim_end_matches("_grad").trim_end_matches("_grad_weight");
    let entry = TABLE.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no operator {name}"));
    let mut cases: Vec<Case> = (0..CASES).map(|_| (entry.case)(random)).collect();
    if name == "conv1d" {
        cases.push(convolution(3, 140, 150, 150));
    }
    cases
}

fn convolution(kernel: usize, channels_in: usize, channels_out: usize, time: usize) -> Case {
    let geometry = Geometry::causal(kernel, 3);
    let conv = Conv1d { geometry, bias: true, add: false, activation: Activation::Relu };
    let real = |shape, scale| CaseInput::Real { shape, scale };
    let inputs = vec![
        real(Shape::new(2, time, channels_in), 1.0),
        real(Shape::new(kernel, channels_in, channels_out), 1.0 / ((kernel * channels_in) as f32).sqrt()),
        real(Shape::vector(channels_out), 1.0),
    ];
    Case { op: Arc::new(conv), inputs }
}

/// Compares the case where the variant admits it; if not, gives the reason.
fn compare(case: &CaseProgram, what: &str, capabilities: &Capabilities) -> Result<(), String> {
    dispatches(&case.program, capabilities).map_err(|error| error.to_string())?;
    let mut cpu = case.cpu::<f32>();
    cpu.run(&Default::default()).unwrap();
    let store = Store::new(&gpu());
    store.write(State::Params, &case.flat()).unwrap();
    let mut executor = Executor::with_capabilities(&case.program, &store, capabilities).unwrap();
    executor.set_poison(true).unwrap();
    case.feed(&mut executor);
    executor.run(&Default::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let gradients = case.gradients.iter().flat_map(|g| case.reals.iter().filter_map(|(real, _)| g.of(*real)));
    for (position, output) in case.outputs.iter().copied().chain(gradients).enumerate() {
        let (expected, actual) = (cpu.read(output).unwrap(), executor.read(output).unwrap());
        let (absolute, relative) = tolerances(case.program.precision(), &expected);
        assert_close(&format!("{what}, result {position}"), &actual, &expected, absolute, relative);
    }
    Ok(())
}

#[test]
fn every_variant_computes_what_the_cpu_computes() {
    every_variant(Precision::F32);
}

#[test]
fn every_variant_in_half_precision() {
    every_variant(Precision::F16);
}

fn every_variant(precision: Precision) {
    let device = gpu();
    let capabilities = device.as_gpu().expect("not a GPU").capabilities();
    for (index, family) in FAMILIES.iter().enumerate() {
        for variant in (family.variants)() {
            let forcing = capabilities.clone().forcing(family.name, variant);
            let mut random = Random::new(11, index as u32, 0);
            let (mut compared, mut reasons) = (0, vec![]);
            for case in cases(family.name, &mut random) {
                let what = format!("{precision}, {}: {variant}, {:?} on {:?}", family.name, case.op, case.inputs);
                let case = CaseProgram::with(&case, &mut random, false, precision);
                match compare(&case, &what, &forcing) {
                    Ok(()) => compared += 1,
                    Err(reason) => reasons.push(reason),
                }
            }
            let lacking = |reason: &String| LACKING.iter().any(|lacking| reason.contains(lacking));
            if let Some(reason) = reasons.iter().find(|reason| compared == 0 && lacking(reason)) {
                eprintln!("not compared: {reason}");
                continue;
            }
            assert!(compared > 0, "{}: {variant} was compared {compared} times: {reasons:?}", family.name);
        }
    }
}
