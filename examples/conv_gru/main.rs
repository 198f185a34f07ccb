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
mod predict;
#[path = "../shared/mod.rs"]
mod shared;
mod train;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,receptive=info"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too. That nobody reads them is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let result = match args.command {
        Command::Train(args) => train::train(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Compare(args) => compare::compare(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", shared::terminal::message(&error));
            ExitCode::FAILURE
        }
    }
}
