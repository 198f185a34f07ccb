//! The promises of the crate, a file each. One binary, so that one device serves all tests.

mod bad_checkpoints;
mod concat;
mod device;
mod floor;
mod generation;
mod golden;
mod golden_optim;
mod golden_pytorch;
mod golden_wavenet;
mod gpu_matches_cpu;
mod gradients;
mod losses;
mod no_hidden_work;
mod resume_is_exact;
mod shaders;
mod support;
mod tiny_wavenet;
mod training;
