//! One operator at a time: all its kernel variants, each checked and then timed over a list of shapes.
//!
//! ```sh
//! cargo bench --bench kernel_lab -- conv1d --device llvmpipe --size small --precision f16
//! cargo bench --bench kernel_lab -- conv1d_grad_weight --shape 64x128,k2,d64,b1,t4096 --variant 64x64 --runs 20
//! ```
//!
//! `docs/performance.md` tells how to try an idea with it.

mod measure;
mod shapes;
mod subject;

use std::str::FromStr as _;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use receptive::Device;
use receptive::graph::Precision;

pub use measure::Row;
use measure::{cpu, variant};
use shapes::{Size, shapes};
use subject::{OPS, Op, Shape};

/// Verifies and times the variants of a kernel.
#[derive(Debug, Parser)]
pub struct Args {
    /// Which operators; all of them if none is named.
    ops: Vec<String>,
    /// `cpu`, `gpu`, `software` or a part of an adapter's name; by default a real GPU, else a software adapter.
    #[arg(long)]
    device: Option<String>,
    /// Which of the listed shapes.
    #[arg(long, value_enum, default_value = "small")]
    size: Size,
    /// A shape of your own instead, such as `64x128,k2,d64,b1,t4096`; may be given several times.
    #[arg(long)]
    shape: Vec<Shape>,
    /// Only variants whose name contains this.
    #[arg(long, default_value = "")]
    variant: String,
    /// How a GPU stores activations and weights.
    #[arg(long, value_name = "f32|f16", default_value_t = Precision::F32, value_parser = Precision::from_str)]
    precision: Precision,
    /// Timed runs of each.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    run(&Args::parse()).map(|_| ())
}

/// Prints a table of what the command line asks for; gives its rows by the variants' names.
pub fn run(args: &Args) -> Result<Vec<(String, Result<Row>)>> {
    if let Some(unknown) = args.ops.iter().find(|name| OPS.iter().all(|op| op.name != name.as_str())) {
        let known: Vec<&str> = OPS.iter().map(|op| op.name).collect();
        bail!("there is no operator {unknown:?} here; there is: {}", known.join(", "));
    }
    let device = match &args.device {
        Some(name) => Device::select(name)?,
        None => Device::gpu().or_else(|_| Device::select("software"))?,
    };
    let asked = |op: &&Op| args.ops.is_empty() || args.ops.iter().any(|name| name == op.name);
    let names = |op: &Op| subject::variants(op.family).into_iter().filter(|name| name.contains(&args.variant));
    if device.as_gpu().is_none() {
        ensure!(args.precision == Precision::F32, "--precision {}: the CPU executor computes in f32", args.precision);
        ensure!(args.variant.is_empty(), "--variant {}: the CPU executor has no variants", args.variant);
    } else if OPS.iter().filter(asked).all(|op| names(op).next().is_none()) {
        let mut known: Vec<_> = OPS.iter().filter(asked).flat_map(|op| subject::variants(op.family)).collect();
        known.sort_unstable();
        known.dedup();
        bail!("--variant {}: no variant's name has this in it; there are {}", args.variant, known.join(", "));
    }
    println!("{device}, {}\n", args.precision);
    let mut all = vec![];
    for op in OPS.iter().filter(asked) {
        if device.as_gpu().is_some() && names(op).next().is_none() {
            continue;
        }
        let shapes = if args.shape.is_empty() { shapes(args.size) } else { args.shape.clone() };
        println!("{}", op.name);
        println!(
            "{:<30} {:<24} {:>9} {:>9} {:>9} {:>8} {:>6}",
            "shape", "variant", "median ms", "min ms", "GFLOP/s", "GB/s", "best"
        );
        for shape in &shapes {
            let subject = (op.build)(shape, args.precision)?;
            let mut rows: Vec<(String, Result<Row>)> = vec![];
            match device.as_gpu() {
                None => rows.push(("cpu".into(), cpu(&subject, args.runs))),
                Some(gpu) => {
                    let chosen = subject.chosen(op.family, gpu.capabilities())?;
                    for name in names(op) {
                        let mark = if chosen == Some(name) { " *" } else { "" };
                        rows.push((format!("{name}{mark}"), variant(&subject, op.family, name, &device, args.runs)));
                    }
                }
            }
            let best = rows.iter().filter_map(|(_, row)| row.as_ref().ok()).map(|row| row.median).min();
            for (name, row) in &rows {
                print!("{:<30} {name:<24} ", shape.to_string());
                match row {
                    Err(error) => println!("{error:#}"),
                    Ok(row) => {
                        let seconds = row.median.as_secs_f64();
                        println!(
                            "{:>9.3} {:>9.3} {:>9.2} {:>8.2} {:>5.0}%",
                            seconds * 1e3,
                            row.min.as_secs_f64() * 1e3,
                            subject.flops as f64 / seconds / 1e9,
                            subject.bytes as f64 / seconds / 1e9,
                            best.map_or(0.0, |best| best.as_secs_f64() / seconds * 100.0),
                        );
                    }
                }
            }
            all.extend(rows);
        }
        println!();
    }
    println!("* what is chosen for this shape on this device");
    Ok(all)
}
