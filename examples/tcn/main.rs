//! The experiments of Bai, Kolter and Koltun (2018): temporal convolutional networks against recurrent ones.
//!
//! `cargo run --release --example tcn -- copy` trains one of them; `-- --help` tells the rest.

mod args;
mod language;
mod record;
mod settings;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod tasks;
mod train;

use std::process::ExitCode;

use args::{Args, Command};
use shared::command;

fn main() -> ExitCode {
    command::run(|args: Args| match args.command {
        Command::Table(args) => table::table(&args),
        task => task.training().map_or(Ok(()), |(task, args)| train::train(task, args)),
    })
}
