//! Forecasts a column of a table hours or days ahead.
//!
//! `cargo run --release --example conv_gru -- train --data FILE.csv --target COLUMN` trains a model and draws its
//! forecasts; `-- --help` tells the rest.

mod args;
mod compare;
mod comparison;
mod data;
mod forecast;
mod forecaster;
mod learn;
mod predict;
#[path = "../shared/mod.rs"]
mod shared;
mod train;

use std::process::ExitCode;

use args::{Args, Command};
use shared::command;

fn main() -> ExitCode {
    command::run(|args: Args| match args.command {
        Command::Train(args) => train::train(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Compare(args) => compare::compare(&args),
    })
}
