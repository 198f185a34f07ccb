//! The promises of the crate, a file each. One binary, so that one device serves all tests.

mod device;
mod generation;
mod golden_optim;
mod golden_wavenet;
mod gpu_matches_cpu;
mod gradients;
mod shaders;
mod support;
