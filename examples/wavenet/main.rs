//! Trains WaveNet on raw audio and generates sound.
//!
//! `cargo run --release --example wavenet` trains for a minute on a clip of plucked strings that it makes itself, and
//! generates one; `-- --help` tells the rest.

mod args;
mod audio;
mod generate;
mod info;
mod metrics;
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
    let result = match args.command.unwrap_or_else(Command::short_training) {
        Command::Train(args) => train::train(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Info(args) => info::info(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", shared::terminal::message(&error));
            ExitCode::FAILURE
        }
    }
}
