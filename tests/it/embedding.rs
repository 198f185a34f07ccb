//! The gradient of embeddings of many classes: positions sorted by class.

use std::sync::Arc;

use receptive::device::{Capabilities, Device};
use receptive::exec::{Executor, Store, dispatches};
use receptive::graph::{Precision, Shape, State};
use receptive::ops::embedding::Embedding;
use receptive::ops::{Case, CaseInput, Geometry};
use receptive::random::Random;

use crate::support::{CaseProgram, assert_close, gpu};

/// Ids `[batch, time]`, some of them masked, of which `share` are one class.
fn case(batch: usize, time: usize, table: Shape, geometry: Geometry, share: f64) -> CaseProgram {
    let ids = CaseInput::Ids { shape: Shape::ids(batch, time), classes: table.time, masked: true };
    let inputs = vec![ids, CaseInput::Real { shape: table, scale: 1.0 }];
    let mut random = Random::new(5, 0, 0);
    let case = Case { op: Arc::new(Embedding { geometry, bias: false }), inputs };
    let mut case = CaseProgram::with(&case, &mut random, false, Precision::F32);
    for id in &mut case.ids[0].1 {
        if f64::from(random.below(1000)) < share * 1000.0 {
            *id = table.time as u32 / 2;
        }
    }
    case
}

fn gradient(case: &CaseProgram, device: &Device) -> Vec<f32> {
    let gradient = case.gradients.as_ref().unwrap().of(case.reals[0].0).unwrap();
    let store = Store::new(device);
    store.write(State::Params, &case.flat()).unwrap();
    let mut executor = Executor::new(&case.program, &store).unwrap();
    executor.set_poison(true).unwrap();
    case.feed(&mut executor);
    executor.run(&Default::default()).unwrap();
    executor.read(gradient).unwrap()
}

/// One block and many, one merge and two, classes that come once and one that comes always: the same sums in the same order.
#[test]
fn sums_over_sorted_positions_are_the_same_on_both_executors() {
    let pointwise = Geometry::pointwise();
    for (batch, time, table, geometry, share) in [
        (1, 7, Shape::new(1, 1030, 5), pointwise, 0.0),
        (2, 500, Shape::new(1, 2000, 9), pointwise, 0.5),
        (16, 80, Shape::new(1, 10_000, 66), pointwise, 0.05),
        (3, 3000, Shape::new(3, 1500, 4), Geometry::causal(3, 2), 0.2),
        (2, 10_000, Shape::new(1, 5000, 8), pointwise, 1.0),
        (4, 9000, Shape::new(1, 3000, 4), pointwise, 0.3),
    ] {
        let case = case(batch, time, table, geometry, share);
        let what = format!("{batch} × {time}, table {table}, {share} of one class");
        let (gpu, cpu) = (gradient(&case, &gpu()), gradient(&case, &Device::Cpu));
        assert!(gpu == cpu, "{what}: GPU and CPU differ");
        // And they are the sums that they should be.
        let mut exact = case.cpu::<f64>();
        exact.run(&Default::default()).unwrap();
        let tensor = case.gradients.as_ref().unwrap().of(case.reals[0].0).unwrap();
        let exact: Vec<f32> = exact.read(tensor).unwrap().into_iter().map(|value| value as f32).collect();
        let largest = exact.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(largest > 1.0, "{what}");
        assert_close(&what, &cpu, &exact, 1e-6 * largest, 1e-5);
    }
}

/// What a step costs does not grow with positions times classes: each dispatch has about a thread an entry or a row of the table.
#[test]
fn a_large_table_costs_its_rows_and_the_positions() {
    let case = case(16, 80, Shape::new(1, 10_000, 600), Geometry::pointwise(), 0.0);
    let dispatches = dispatches(&case.program, &Capabilities::floor()).unwrap();
    let of_gradient = dispatches.iter().filter(|d| d.kernel.shader == "embedding_grad_sorted");
    let workgroups: Vec<u64> = of_gradient.map(|dispatch| dispatch.workgroups).collect();
    // 1,280 positions are two blocks and 32 pieces of 150 groups of channels; 16 rows of the table a workgroup.
    assert_eq!(workgroups, [2, 8, 75, 625]);
}
