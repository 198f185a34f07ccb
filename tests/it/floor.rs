//! The limits of WebGPU's floor: workgroups that one dimension of a dispatch does not hold, and shapes that don't fit.

use std::sync::Arc;

use receptive::Device;
use receptive::device::Capabilities;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Shape, State};
use receptive::ops::{self, Activation, Geometry};

use crate::support::gpu;

/// A copy, four channels a thread, of more workgroups than the device is said to count in a dimension: every element
/// arrives, and in its place. (No copy of 128 MiB has more than 65,535.)
#[test]
fn a_dispatch_of_more_workgroups_than_a_dimension_holds() {
    const MOST: u32 = 1000;
    const ROWS: usize = 16_400 * 256;
    let extent = Extent { batch: 1, time: ROWS };
    let mut graph = Graph::new(extent).unwrap();
    let ids = graph.input_ids("ids", 0).unwrap();
    let classes = 251;
    let table = graph.param("table", Shape::new(1, classes, 2), Init::Normal { std: 1.0 }, true).unwrap();
    let pairs = ops::embedding(&mut graph, ids, table, None, Geometry::pointwise()).unwrap();
    // From channel 1 on: not a multiple of 4, so the planner can't have it for nothing.
    let second = ops::slice(&mut graph, pairs, 1, 1).unwrap();
    let program = Arc::new(graph.finish(&[second], &[]).unwrap());
    let device = gpu();
    let Device::Gpu(device_gpu) = &device else { panic!("not a GPU") };
    let capabilities = Capabilities { max_workgroups: MOST, ..device_gpu.capabilities().clone() };
    let dispatches = receptive::exec::dispatches(&program, &capabilities).unwrap();
    let most = dispatches.iter().map(|d| d.workgroups).max().unwrap();
    assert!(most > u64::from(MOST), "only {most} workgroups");

    let store = Store::new(&device);
    let flat = program.params().initial(1);
    store.write(State::Params, &flat).unwrap();
    let values = program.params().find("table").unwrap().gather(&flat);
    let mut executor = Executor::with_capabilities(&program, &store, &capabilities).unwrap();
    let class = |row: usize| (row ^ (row >> 9)) % classes;
    executor.write_ids(ids, &(0..ROWS).map(|row| class(row) as u32).collect::<Vec<_>>()).unwrap();
    executor.run(&Default::default()).unwrap();
    let actual = executor.read(second).unwrap();
    assert_eq!(actual.len(), ROWS);
    for (row, &actual) in actual.iter().enumerate() {
        assert_eq!(actual, values[2 * class(row) + 1], "row {row}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut graph = Graph::new(Extent { batch: 2, time: 9 }).unwrap();
    let x = graph.input("x", 0, 4).unwrap();
    let longer = graph.input("longer", 1, 3).unwrap();
    let weight = graph.param("weight", Shape::new(5, 4, 3), Init::Zeros, true).unwrap();
    for parts in [&[][..], &[5, 0], &[2, 2], &[3, 3], &[usize::MAX, 6]] {
        let error = ops::split(&mut graph, weight, parts).unwrap_err().to_string();
        assert!(error.contains("split") && error.contains("[5, 4, 3]"), "{error}");
    }
    let part = ops::split(&mut graph, weight, &[1, 4]).unwrap()[0];
    assert_eq!(graph.shape(part), Shape::new(1, 4, 3));
    let geometry = Geometry::pointwise();
    let error = ops::conv1d_add(&mut graph, x, part, None, longer, geometry, Activation::Relu).unwrap_err().to_string();
    assert!(error.contains("[2, 10, 3]") && error.contains("[2, 9, 3]"), "{error}");
}
