//! The promises of the crate, a file each. One binary, so that one device serves all tests.

mod bad_checkpoints;
#[cfg(feature = "audio")]
mod bad_input;
mod chord;
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
#[allow(dead_code, reason = "the examples' measures, of which one is used")]
#[path = "../../examples/shared/measure.rs"]
mod measure;
mod no_hidden_work;
mod resume_is_exact;
mod shaders;
mod support;
mod tiny_wavenet;
mod training;
