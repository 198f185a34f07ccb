//! The workloads of benches/workloads.json in burn on wgpu, as its users write them: checked, timed, written as JSON.

mod measure;
mod models;
mod workload;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, DeviceType};
use clap::Parser;

use measure::{Limits, convolution, training};
use models::{ConvGru, GruRegression, TcnClassify, TextCnn, WaveNet};
use workload::{Machine, Report, Row, Size, Timing};

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
    /// Begin no more rows after this
    #[arg(long, value_name = "SECONDS")]
    total: Option<f64>,
}

/// How this binary was compiled: burn has no switch for it at run time.
fn variant() -> &'static str {
    match (cfg!(feature = "autotune"), cfg!(feature = "fusion")) {
        (true, true) => "autotune, fusion",
        (true, false) => "autotune",
        (false, true) => "no autotune, fusion",
        (false, false) => "no autotune",
    }
}

fn device(wanted: Option<&str>) -> Result<(Device, String)> {
    let name = |device: &Device| device.identity().map(|identity| identity.name).unwrap_or_default();
    let mut devices: Vec<_> = Device::enumerate(DeviceType::Vulkan)
        .into_vec()
        .into_iter()
        .map(|device| {
            let name = name(&device);
            (device, name)
        })
        .collect();
    let Some(wanted) = wanted else {
        if devices.is_empty() {
            bail!("burn finds no Vulkan device");
        }
        return Ok(devices.remove(0));
    };
    let names = devices.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    let found = devices.iter().position(|(_, name)| name.to_lowercase().contains(&wanted.to_lowercase()));
    let index =
        found.ok_or_else(|| anyhow!("burn finds no Vulkan device whose name has '{wanted}'; there are: {names}"))?;
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let limits = Limits { runs: arguments.runs, seconds: arguments.seconds };
    let workloads = workload::read(&arguments.workloads)?;
    let (device, adapter) = device(arguments.device.as_deref())?;
    let mut report = Report {
        program: format!("burn {}", env!("BURN_VERSION")),
        machine: Machine::here(adapter.clone()),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        rows: Vec::new(),
    };
    let begun = Instant::now();
    for (name, workload) in &workloads.workloads {
        let wanted = arguments.only.is_empty() || arguments.only.iter().any(|part| name.starts_with(part.as_str()));
        for (size_name, size) in workload.sizes.iter().filter(|_| wanted) {
            if *size_name != arguments.size && !size_name.starts_with(&format!("{}_", arguments.size)) {
                continue;
            }
            let result = match arguments.total {
                Some(total) if begun.elapsed().as_secs_f64() > total => {
                    Err(anyhow!("not run: the time allowed was used up"))
                }
                // Burn panics where it fails; the other rows are still worth having.
                _ => {
                    std::panic::catch_unwind(AssertUnwindSafe(|| measure(name, &workload.kind, size, &device, limits)))
                        .unwrap_or_else(|_| Err(anyhow!("burn panicked; its message is above")))
                }
            };
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
                variant: variant().to_string(),
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
