//! From the command line to the exit status.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use super::terminal::message;

/// Sets logging up, reads the command line and runs a command; an error is told on one line.
pub fn run<A: Parser>(command: impl FnOnce(A) -> Result<()>) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,receptive=info"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too. That nobody reads them is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match command(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The decay of averages of weights.
pub fn decay(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(decay) if decay > 0.0 && decay < 1.0 => Ok(decay),
        _ => Err("must be a number above 0 and below 1, such as 0.999".into()),
    }
}

/// A learning rate.
pub fn rate(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f32::is_finite(rate) => Ok(rate),
        _ => Err("must be a number above 0, such as 0.001".into()),
    }
}

/// A time in minutes.
pub fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && f64::is_finite(minutes) => Ok(minutes),
        _ => Err("must be a number above 0".into()),
    }
}
