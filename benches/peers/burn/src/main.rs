//! The workloads of benches/workloads.json in burn on wgpu, as its users write them: checked, timed, written as JSON.

mod measure;
mod models;
mod workload;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, DeviceType};

use clap::Parser;

use measure::{Limits, convolution, training};
use models::{ConvGru, GruRegression, TcnClassify, TextCnn, WaveNet};
use workload::{Machine, Outcome, Report, Row, Size, Timing};

/// The benchmark workloads in burn on wgpu
#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "benches/workloads.json", value_name = "FILE")]
    workloads: PathBuf,
    /// Where the results go; written after every row
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// small or full, or the name of one size
    #[arg(long, default_value = "small")]
    size: String,
    /// Workloads whose name begins so; several with commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// A part of the adapter's name [default: the first GPU]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// The most that the runs of a row may take, after its first step
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// The most seconds for all of a row, trying out kernels included
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    limit: f64,
    #[arg(long, num_args = 2, hide = true)]
    row: Option<Vec<String>>,
}

/// How this binary was compiled: burn has no switch for it at run time.
fn variant() -> String {
    let chosen = |on: bool, yes, no| if on { yes } else { no };
    [
        chosen(cfg!(feature = "autotune"), "autotune", "no autotune"),
        chosen(cfg!(feature = "fusion"), "fusion", "no fusion"),
        chosen(cfg!(feature = "spirv"), "spirv", "wgsl"),
    ]
    .join(", ")
}

#[cfg(feature = "spirv")]
const DEVICES: DeviceType = DeviceType::Vulkan;
#[cfg(not(feature = "spirv"))]
const DEVICES: DeviceType = DeviceType::Wgpu;

fn device(wanted: Option<&str>) -> Result<(Device, String)> {
    let name = |device: &Device| device.identity().map(|identity| identity.name).unwrap_or_default();
    let mut devices: Vec<_> = Device::enumerate(DEVICES)
        .into_vec()
        .into_iter()
        .map(|device| {
            let name = name(&device);
            (device, name)
        })
        .collect();
    let Some(wanted) = wanted else {
        if devices.is_empty() {
            bail!("burn finds no GPU of wgpu");
        }
        return Ok(devices.remove(0));
    };
    let names = devices.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    let found = devices.iter().position(|(_, name)| name.to_lowercase().contains(&wanted.to_lowercase()));
    let index =
        found.ok_or_else(|| anyhow!("burn finds no GPU of wgpu whose name has '{wanted}'; there are: {names}"))?;
    Ok(devices.swap_remove(index))
}

fn measure(name: &str, kind: &str, size: &Size, device: &Device, limits: Limits) -> Result<Timing> {
    let device = device.clone().autodiff();
    match kind {
        "wavenet" => training::<WaveNet>(size, &device, limits),
        "tcn_classify" => training::<TcnClassify>(size, &device, limits),
        "textcnn" => training::<TextCnn>(size, &device, limits),
        "gru" => training::<GruRegression>(size, &device, limits),
        "conv_gru" => training::<ConvGru>(size, &device, limits),
        "conv" => convolution(name, size, &device, limits),
        _ => bail!("the kind {kind} is not written in burn"),
    }
}

/// The row of one workload and size, in a process of its own: a driver that crashes, or kernels that are tried out
/// without end, then cost one row only.
fn row_of_child(name: &str, size: &str, limit: Duration) -> Result<Timing> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--row", name, size])
        .stdout(Stdio::piped())
        .spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("stopped after its limit of {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut text = String::new();
    child.stdout.take().expect("its output is a pipe").read_to_string(&mut text)?;
    // What it says is a line, far below what a pipe holds. A crash at its end, after the line, costs nothing.
    match serde_json::from_str(&text) {
        Ok(Outcome::Measured(timing)) => Ok(timing),
        Ok(Outcome::Failed(error)) => bail!("{error}"),
        Err(_) => bail!("the process failed: {status}"),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workloads = workload::read(&arguments.workloads)?.workloads;
    let (device, adapter) = device(arguments.device.as_deref())?;
    if let Some([name, size_name]) = arguments.row.as_deref() {
        let workload = &workloads[name];
        let limits = Limits { runs: arguments.runs, seconds: arguments.seconds };
        let outcome = match measure(name, &workload.kind, &workload.sizes[size_name], &device, limits) {
            Ok(timing) => Outcome::Measured(timing),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        println!("{}", serde_json::to_string(&outcome)?);
        return Ok(());
    }
    let mut report = Report {
        program: format!("burn {}", env!("BURN_VERSION")),
        machine: Machine::here(adapter.clone()),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        rows: Vec::new(),
    };
    for (name, workload) in &workloads {
        let wanted = arguments.only.is_empty() || arguments.only.iter().any(|part| name.starts_with(part.as_str()));
        for (size_name, size) in workload.sizes.iter().filter(|_| wanted) {
            if *size_name != arguments.size && !size_name.starts_with(&format!("{}_", arguments.size)) {
                continue;
            }
            let result = row_of_child(name, size_name, Duration::from_secs_f64(arguments.limit));
            let (timing, error) = match result {
                Ok(timing) => (Some(timing), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            let said = match (&timing, &error) {
                (Some(timing), _) => format!("{:9.2} ms, the first {:.0} ms", timing.ms.median, timing.first_ms),
                (_, error) => error.clone().unwrap_or_default(),
            };
            eprintln!("{name} {size_name} f32 {}: {said}", variant());
            report.rows.push(Row {
                workload: name.clone(),
                size: size_name.clone(),
                device: adapter.clone(),
                variant: variant(),
                precision: "f32".to_string(),
                parameters: size.parameters,
                samples: size.samples,
                flops: size.flops,
                error,
                timing,
            });
            if let Some(path) = &arguments.json {
                workload::write(path, &report)?;
            }
        }
    }
    if report.rows.is_empty() {
        bail!("no workload of that name and size");
    }
    if arguments.json.is_none() {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}
