//! Cooperative matrices: a training step on them computes what it computes without.

use std::io::Write;

use receptive::device::Device;
use receptive::exec::{Executor, Store, dispatches};
use receptive::graph::{Extent, Precision};
use receptive::nn::WaveNet;

use crate::no_hidden_work::three_steps;
use crate::support::{assert_close, gpu};
use crate::tiny_wavenet::{BATCH, CHUNK, config, optimizer};

#[test]
fn training_steps_agree_with_and_without_matrices() {
    let device = gpu();
    let Device::Gpu(gpu) = &device else { panic!("not a GPU") };
    let capabilities = gpu.capabilities();
    if capabilities.cooperative_matrix.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let name = "training_steps_agree_with_and_without_matrices";
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {device} has no cooperative matrices");
        return;
    }
    let model = WaveNet::new(config()).unwrap().with_precision(Precision::F16);
    let extent = Extent { batch: BATCH, time: CHUNK };
    let step = model.training(extent, &optimizer()).unwrap();
    let losses = |conv1d: &str, grad_weight: &str| {
        let forcing = capabilities.clone().forcing("conv1d", conv1d).forcing("conv1d_grad_weight", grad_weight);
        let made = dispatches(&step.program, &forcing).unwrap();
        let count = |shader: &str| made.iter().filter(|dispatch| dispatch.kernel.shader == shader).count();
        let on_matrices = [count("conv1d_coop"), count("conv1d_grad_weight_coop")];
        let store = Store::new(&device);
        let mut executor = Executor::with_capabilities(&step.program, &store, &forcing).unwrap();
        executor.set_poison(true).unwrap();
        (three_steps(&step, &mut executor, &store, extent).0, on_matrices)
    };
    let (expected, on_matrices) = losses("tile 32x32", "tile 32x32");
    assert_eq!(on_matrices, [0, 0]);
    for variant in ["coop 2x1", "coop 4x1"] {
        let (actual, on_matrices) = losses(variant, variant);
        assert!(on_matrices.iter().all(|&count| count > 4), "{on_matrices:?}");
        // A few sums are rounded to the neighbouring half.
        assert_close(&format!("losses of {variant} on {device}"), &actual, &expected, 0.0, 1e-3);
    }
}
