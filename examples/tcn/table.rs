//! The paper's Table 1 with a column of our own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;

use crate::args::{Args, ModelKind, TableArgs, TaskKind, TrainArgs};
use crate::language::Measure;
use crate::record::{RunResult, number};
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::terminal::{grouped, say};
use crate::train::train_until;

/// What the paper says a model reached.
fn published(task: TaskKind, model: ModelKind) -> &'static str {
    let row = match task {
        TaskKind::SeqMnist => ["99.0", "87.2", "96.2", "21.5"],
        TaskKind::PermMnist => ["97.2", "85.7", "87.3", "25.3"],
        TaskKind::Adding => ["5.8e-5", "0.164", "5.3e-5", "0.177"],
        TaskKind::Music => ["8.10", "8.45", "8.43", "8.91"],
        TaskKind::LmWord => ["88.68", "78.93", "92.48", "114.50"],
        TaskKind::LmChar => ["1.31", "1.36", "1.37", "1.48"],
        TaskKind::Lambada => ["1279", "4186", "", "14725"],
        TaskKind::Copy => ["3.5e-5", "0.0204", "0.0197", "0.0202"],
    };
    row[model as usize]
}

/// Trains what is asked for and not there, and prints the table.
pub fn table(args: &TableArgs) -> Result<()> {
    let stop = stop_on_interrupt()?;
    for task in &args.tasks {
        for model in &args.models {
            let out = args.runs.join(format!("{task}-{}", model.name()));
            if out.join("result.json").exists() {
                continue;
            }
            let (task, args) = training(args, task, *model, &out)?;
            train_until(task, &args, &stop)?;
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
    }
    print(args)
}

/// A training as its own command line would have it.
fn training(args: &TableArgs, task: &str, model: ModelKind, out: &Path) -> Result<(TaskKind, TrainArgs)> {
    let data =
        args.data.iter().map(|data| data.split_once('=').with_context(|| format!("--data {data}: not TASK=PATH")));
    let data: Vec<(&str, &str)> = data.collect::<Result<_>>()?;
    let mut line: Vec<OsString> = ["tcn", task, "--model", model.name(), "--resume", "--out"].map(Into::into).to_vec();
    line.push(out.into());
    for (_, path) in data.into_iter().filter(|(of, _)| *of == task) {
        line.extend(["--data".into(), path.into()]);
    }
    line.extend(args.rest.iter().map(Into::into));
    let told = Args::try_parse_from(line).with_context(|| format!("--tasks {task}"))?;
    let (task, args) = told.command.training().with_context(|| format!("--tasks {task}: that is no experiment"))?;
    Ok((task, args.clone()))
}

fn print(args: &TableArgs) -> Result<()> {
    let mut files = Vec::new();
    find(&args.runs, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "--runs {}: no result.json in it; train something first", args.runs.display());
    let mut lines =
        vec!["| task | model | parameters | published | reached | epochs | time | settings | device |".into()];
    lines.push("|---|---|---|---|---|---|---|---|---|".to_owned());
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let result: RunResult = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        if result.outcomes.is_empty() {
            continue;
        }
        let accurate = result.outcomes[0].accuracy.is_some();
        let (mean, deviation) = match accurate {
            true => result.spread(|outcome| outcome.accuracy.unwrap_or(f64::NAN) * 100.0),
            false => {
                let measure = Measure::of_task(result.task);
                result.spread(|outcome| measure.map_or(outcome.loss, |measure| measure.of(outcome.loss)))
            }
        };
        let format = |value: f64| if accurate { format!("{value:.2}") } else { number(value) };
        let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {}", format(deviation)));
        let (seconds, _) = result.spread(|outcome| outcome.seconds);
        let (epochs, _) = result.spread(|outcome| outcome.epochs as f64);
        lines.push(format!(
            "| {} | {} | {} | {} | {}{deviation} | {epochs:.0} | {:.0} s | {}, {} | {} |",
            result.task.name(),
            result.model.name(),
            grouped(result.parameters),
            published(result.task, result.model),
            format(mean),
            seconds,
            [std::slice::from_ref(&result.settings), &result.told].concat().join(" "),
            match result.outcomes.len() {
                1 => "1 seed".to_owned(),
                seeds => format!("{seeds} seeds"),
            },
            result.device
        ));
    }
    say(&lines.join("\n"));
    Ok(())
}

/// All `result.json` in a folder and those in it.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("--runs {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.file_name().is_some_and(|name| name == "result.json") {
            files.push(path);
        }
    }
    Ok(())
}
