//! The promises of the crate, a file each. One binary, so that one device serves all tests.

mod averages;
mod bad_checkpoints;
#[cfg(feature = "audio")]
mod bad_input;
mod benchmark;
#[cfg(target_os = "linux")]
mod bundle;
mod chord;
#[allow(dead_code, reason = "its own unit tests run here")]
#[path = "../../examples/conv_gru/comparison.rs"]
mod comparison;
mod concat;
#[cfg(feature = "tables")]
#[allow(dead_code, reason = "its own unit tests run here")]
#[path = "../../examples/conv_gru/args.rs"]
mod conv_gru_args;
mod coop;
mod cost;
mod device;
mod dropout;
mod embedding;
mod floor;
#[allow(dead_code, reason = "its own unit tests run here")]
#[path = "../../examples/conv_gru/forecast.rs"]
mod forecast;
#[cfg(feature = "tables")]
mod forecast_training;
mod forecasting;
mod generation;
mod golden;
mod golden_optim;
mod golden_pytorch;
mod golden_recurrent;
mod golden_tcn;
mod golden_text_cnn;
mod golden_wavenet;
mod gpu_matches_cpu;
mod gradients;
mod half_precision;
mod in_an_application;
#[cfg(feature = "tables")]
mod language;
mod losses;
#[allow(dead_code, reason = "its own unit tests run here: cargo builds examples, but does not test them")]
#[path = "../../examples/wavenet/metrics.rs"]
mod metrics;
mod no_hidden_work;
mod pipeline_cache;
mod pool;
mod recurrent;
mod recurrent_walks;
mod resume_is_exact;
#[cfg(feature = "tables")]
mod series;
mod shaders;
#[path = "../../examples/shared/mod.rs"]
mod shared;
mod sparse;
mod stream;
mod support;
mod tcn;
mod text;
mod text_cnn;
#[allow(dead_code, reason = "its own unit tests run here")]
#[path = "../../examples/text_cnn/record.rs"]
mod text_cnn_record;
#[allow(dead_code, reason = "its own unit tests run here")]
#[path = "../../examples/text_cnn/shown.rs"]
mod text_cnn_shown;
mod timing;
mod tiny_recurrent;
mod tiny_wavenet;
mod training;
mod variants;
