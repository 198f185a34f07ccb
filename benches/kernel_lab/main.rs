//! One operator at a time: all its kernel variants, each checked and then timed over a list of shapes.
//!
//! ```sh
//! cargo bench --bench kernel_lab -- conv1d --device llvmpipe --size small
//! cargo bench --bench kernel_lab -- conv1d_grad_weight --shape 64x128,k2,d64,b1,t4096 --variant 64x64 --runs 20
//! ```
//!
//! `docs/performance.md` tells how to try an idea with it.

mod measure;
mod shapes;
mod subject;

use anyhow::{Result, bail};
use clap::Parser;
use receptive::Device;

use measure::{Row, cpu, variant};
use shapes::{Size, shapes};
use subject::{OPS, Shape};

/// Verifies and times the variants of a kernel.
#[derive(Debug, Parser)]
struct Args {
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
    /// Timed runs of each.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(unknown) = args.ops.iter().find(|name| OPS.iter().all(|op| op.name != name.as_str())) {
        let known: Vec<&str> = OPS.iter().map(|op| op.name).collect();
        bail!("there is no operator {unknown:?} here; there is: {}", known.join(", "));
    }
    let device = match &args.device {
        Some(name) => Device::select(name)?,
        None => Device::gpu().or_else(|_| Device::select("software"))?,
    };
    println!("{device}\n");
    for op in OPS.iter().filter(|op| args.ops.is_empty() || args.ops.iter().any(|name| name == op.name)) {
        let shapes = if args.shape.is_empty() { shapes(args.size) } else { args.shape.clone() };
        println!("{}", op.name);
        println!(
            "{:<30} {:<24} {:>9} {:>9} {:>9} {:>8} {:>6}",
            "shape", "variant", "median ms", "min ms", "GFLOP/s", "GB/s", "best"
        );
        for shape in &shapes {
            let subject = (op.build)(shape)?;
            let mut rows: Vec<(String, Result<Row>)> = vec![];
            match device.as_gpu() {
                None => rows.push(("cpu".into(), cpu(&subject, args.runs))),
                Some(gpu) => {
                    let chosen = subject.chosen(op.family, gpu.capabilities())?;
                    for name in subject::variants(op.family).into_iter().filter(|name| name.contains(&args.variant)) {
                        let mark = if chosen == Some(name) { " *" } else { "" };
                        rows.push((format!("{name}{mark}"), variant(&subject, op.family, name, &device, args.runs)));
                    }
                }
            }
            let best = rows.iter().filter_map(|(_, row)| row.as_ref().ok()).map(|row| row.median).min();
            for (name, row) in rows {
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
        }
        println!();
    }
    println!("* what is chosen for this shape on this device");
    Ok(())
}
