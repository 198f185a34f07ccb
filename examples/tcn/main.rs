//! The experiments of Bai, Kolter and Koltun (2018): temporal convolutional networks against recurrent ones.
//!
//! `cargo run --release --example tcn -- copy` trains one of them; `-- --help` tells the rest.

mod args;
mod record;
mod settings;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod tasks;
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
        Command::Table(args) => table::table(&args),
        task => task.training().map_or(Ok(()), |(task, args)| train::train(task, args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", shared::terminal::message(&error));
            ExitCode::FAILURE
        }
    }
}
