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

use args::{Args, Command};
use shared::command;

fn main() -> ExitCode {
    command::run(|args: Args| match args.command.unwrap_or_else(Command::short_training) {
        Command::Train(args) => train::train(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Info(args) => info::info(&args),
    })
}
