//! GPU against CPU: the workloads of `benches/workloads.json` on every device, checked and then timed.
//!
//! `cargo bench --bench gpu_vs_cpu -- --help` tells the options. A later model adds its row to `workloads.json` and the
//! program of its kind to `models/`.

mod args;
mod ceilings;
mod check;
mod generate;
mod machine;
mod models;
mod plot;
mod report;
mod subject;
mod table;
mod time;
mod workloads;

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use clap::Parser as _;

pub use args::Args;
use ceilings::Ceilings;
use generate::Generation;
use machine::{Machine, Target};
use models::Model;
use receptive::graph::{Cost, Precision};
use report::{Alternated, CPU, Report, Row};
use subject::{Observed, ProgramSubject, Subject};
use time::Effort;
use workloads::{Case, Workloads};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).format_timestamp(None).init();
    let args = Args::parse();
    let report = run(&args)?;
    println!("{}, {}\n\n{}\n{}", report.machine, report.date, table::table(&report), table::LEGEND);
    draw(&args, &report)?;
    let failed = report.rows.iter().filter(|row| row.error.is_some()).count();
    ensure!(failed == 0, "{failed} rows failed, the table says how");
    Ok(())
}

/// Measures what the command line asks for and writes it as JSON where that is asked for.
pub fn run(args: &Args) -> Result<Report> {
    args.check()?;
    let peers = args.peers.iter().map(|path| Report::read(path)).collect::<Result<_>>()?;
    let cases = Workloads::read(args.workloads.as_deref())?.select(args)?;
    let effort = Effort { runs: args.runs, time: Duration::from_secs_f64(args.seconds) };
    let mut report = Report {
        program: format!("receptive {}", env!("CARGO_PKG_VERSION")),
        machine: Machine::here(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        ceilings: vec![],
        rows: vec![],
        alternated: vec![],
        notes: vec![],
        peers,
    };
    let targets = machine::targets(&args.devices, &mut report.notes)?;
    measure_ceilings(&targets, &args.precisions, effort, &mut report);
    let jobs = workloads::jobs(cases);
    for (index, job) in jobs.iter().enumerate() {
        measure_job(job, &targets, effort, &mut report);
        if index + 1 == jobs.len() {
            measure_ceilings(&targets, &args.precisions, effort, &mut report);
        }
        report.rate();
        report.compare();
        // After each job, so that what ends the program leaves what was measured.
        if let Some(path) = &args.json {
            report.write(path)?;
        }
    }
    Ok(report)
}

/// Draws the picture that the command line asks for.
pub fn draw(args: &Args, report: &Report) -> Result<()> {
    args.plot.iter().try_for_each(|path| plot::plot(report, path))
}

/// Before and after the rows: what else runs on the machine comes and goes.
fn measure_ceilings(targets: &[Target], precisions: &[Precision], effort: Effort, report: &mut Report) {
    for &precision in precisions {
        for target in targets.iter().filter(|target| target.computes(precision)) {
            progress(&format!("ceilings of {} in {precision}", target.name));
            match ceilings::ceilings(&target.name, &target.device, precision, effort) {
                Ok(new) => {
                    let same = |old: &&mut Ceilings| old.device == new.device && old.precision == new.precision;
                    match report.ceilings.iter_mut().find(same) {
                        Some(old) => old.raise(new),
                        None => report.ceilings.push(new),
                    }
                }
                Err(error) => report.notes.push(format!("no ceilings of {} in {precision}: {error:#}", target.name)),
            }
        }
    }
}

/// A case, built: the work and what it must give.
struct Built {
    case: Case,
    work: Work,
    /// What a step has to compute and to move.
    cost: Cost,
    /// How the CPU executor was checked, or what was wrong.
    cpu_check: Result<String>,
    /// What the CPU executor computes, where another device is compared with it.
    reference: Vec<Observed>,
}

enum Work {
    Program(Model),
    Generation(Generation),
}

impl Work {
    fn on(&self, device: &receptive::Device) -> Result<Box<dyn Subject + '_>> {
        Ok(match self {
            Self::Program(model) => Box::new(ProgramSubject::new(model, device)?),
            Self::Generation(generation) => Box::new(generation.on(device)?),
        })
    }

    fn parameters(&self) -> usize {
        match self {
            Self::Program(model) => model.parameters,
            Self::Generation(generation) => generation.parameters,
        }
    }
}

/// Builds a case and computes its reference; nothing where there is no model of its kind yet.
fn build(case: &Case, with_reference: bool) -> Result<Option<Built>> {
    let (work, cost) = if case.kind == generate::KIND {
        let generation = Generation::new(case)?;
        let cost = Cost { flops: case.size.flops, bytes: generation.bytes };
        (Work::Generation(generation), cost)
    } else {
        match models::build(case)? {
            Some(model) => {
                let cost = model.program.cost(model.program.extent())?;
                let (flops, stated) = (cost.flops, case.size.flops);
                let fits = if model.leaves_out { flops <= stated } else { flops == stated };
                ensure!(fits, "a step has {flops} floating-point operations, the workload states {stated}");
                (Work::Program(model), Cost { flops, ..cost })
            }
            None => return Ok(None),
        }
    };
    let (parameters, stated) = (work.parameters(), case.size.parameters);
    ensure!(parameters == stated, "the model has {parameters} parameters, the workload states {stated}");
    let reference = if with_reference { work.on(&receptive::Device::Cpu)?.observe()? } else { vec![] };
    Ok(Some(Built { case: case.clone(), work, cost, cpu_check: check::cpu_against_double(case), reference }))
}

fn measure_job(job: &[Case], targets: &[Target], effort: Effort, report: &mut Report) {
    let with_reference = targets.iter().any(|target| target.name != CPU);
    let targets = || targets.iter().filter(|target| target.computes(job[0].precision));
    let mut built = vec![];
    for case in job {
        let name = format!("{} {} {}", case.workload, case.size_name, case.precision);
        if case.kind == generate::KIND && case.precision != Precision::F32 {
            report.notes.push(format!("{name} is left out: the generator has no other precision than f32"));
            continue;
        }
        progress(&format!("{name}: data and reference"));
        match build(case, with_reference) {
            Ok(Some(case)) => built.push(case),
            Ok(None) => report.notes.push(format!("{name} is left out: there is no model of its kind yet")),
            Err(error) => report.rows.extend(targets().map(|target| {
                let error = Some(format!("{error:#}"));
                Row { error, ..row(case, target) }
            })),
        }
    }
    for target in targets() {
        let rows = measure_on(&built, target, effort);
        if let [reference, others @ ..] = &rows[..] {
            for row in others {
                if let (Some(ms), Some(of)) = (row.best_clock_ms(), reference.best_clock_ms()) {
                    report.alternated.push(Alternated {
                        device: target.name.clone(),
                        precision: row.precision.clone(),
                        size: row.size.clone(),
                        workload: row.workload.clone(),
                        reference: reference.workload.clone(),
                        ratio: ms / of,
                    });
                }
            }
        }
        report.rows.extend(rows);
    }
}

fn row(case: &Case, target: &Target) -> Row {
    Row {
        workload: case.workload.clone(),
        size: case.size_name.clone(),
        device: target.name.clone(),
        precision: case.precision.name().into(),
        parameters: Some(case.size.parameters as u64),
        samples: Some(case.size.samples),
        sample_unit: Some(case.sample_unit.clone()),
        flops: Some(case.size.flops),
        ..Row::default()
    }
}

/// The rows of a job on a device: checked, then measured in turns. What is wrong is not timed.
fn measure_on(built: &[Built], target: &Target, effort: Effort) -> Vec<Row> {
    let row = |built: &Built| Row {
        bytes: Some(built.cost.bytes),
        flops: Some(built.cost.flops),
        ..row(&built.case, target)
    };
    let mut rows: Vec<Row> = built.iter().map(row).collect();
    let mut subjects: Vec<Box<dyn Subject + '_>> = vec![];
    let mut measured = vec![];
    for (index, (built, row)) in built.iter().zip(&mut rows).enumerate() {
        progress(&format!("{} {} {} on {}", row.workload, row.size, row.precision, target.name));
        match built.checked_on(target) {
            Ok((subject, checked)) => {
                row.checked = Some(checked);
                row.dispatches = subject.dispatches();
                row.peak_bytes = subject.memory_bytes();
                subjects.push(subject);
                measured.push(index);
            }
            Err(error) => row.error = Some(format!("{error:#}")),
        }
    }
    match time::measure(&mut subjects, effort) {
        Ok(times) => {
            for (times, index) in times.into_iter().zip(measured) {
                let row = &mut rows[index];
                row.runs = Some(times.runs as u64);
                row.steps = Some(times.steps);
                (row.ms, row.device_ms, row.host_ms) = (Some(times.wall), times.device, times.host);
            }
        }
        Err(error) => measured.into_iter().for_each(|index| rows[index].error = Some(format!("{error:#}"))),
    }
    rows
}

impl Built {
    /// Ready on a device, and how it was checked.
    fn checked_on(&self, target: &Target) -> Result<(Box<dyn Subject + '_>, String)> {
        let cpu_check = self.cpu_check.as_ref().map_err(|error| anyhow::anyhow!("the CPU executor: {error:#}"))?;
        let mut subject = self.work.on(&target.device)?;
        if target.name == CPU {
            return Ok((subject, cpu_check.clone()));
        }
        let tolerance = check::tolerance(self.case.precision);
        let worst = check::compare(&subject.observe()?, &self.reference, tolerance)?;
        Ok((subject, format!("the CPU executor: off by {worst:.1e}, {tolerance}")))
    }
}

fn progress(what: &str) {
    eprintln!("{what}");
}
