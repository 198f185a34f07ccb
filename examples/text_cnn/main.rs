//! Convolutional networks for sentence classification (Kim 2014): training, cross-validation, prediction, and what they look at.
//!
//! `cargo run --release --example text_cnn -- train --data reviews` trains one; `-- --help` tells the rest.

mod args;
mod cv;
mod data;
mod explain;
mod fit;
mod picture;
mod predict;
mod record;
mod saved;
#[path = "../shared/mod.rs"]
mod shared;
mod shown;
mod train;

use std::process::ExitCode;

use args::{Args, Command};
use shared::command;

fn main() -> ExitCode {
    command::run(|args: Args| match args.command {
        Command::Train(args) => train::train(&args),
        Command::Cv(args) => cv::cv(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Explain(args) => explain::explain(&args),
    })
}
