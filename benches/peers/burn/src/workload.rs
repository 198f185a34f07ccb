//! The definitions of the workloads, and the JSON that every program of the benchmark writes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Workloads {
    pub workloads: BTreeMap<String, Workload>,
}

#[derive(Deserialize)]
pub struct Workload {
    pub kind: String,
    pub sizes: BTreeMap<String, Size>,
}

/// A size of a workload. What a kind does not have stays at its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Size {
    pub batch: usize,
    pub time: usize,
    pub lr: f64,
    pub samples: u64,
    pub flops: u64,
    pub parameters: usize,
    // wavenet
    pub residual: usize,
    pub skip: usize,
    pub stacks: usize,
    pub layers_per_stack: usize,
    // tcn_classify, conv
    pub in_channels: usize,
    pub out_channels: usize,
    pub hidden: usize,
    pub levels: usize,
    pub kernel: usize,
    pub dilation: usize,
    pub dropout: f64,
    pub classes: usize,
    // textcnn
    pub vocab: usize,
    pub length: usize,
    pub embed: usize,
    pub widths: Vec<usize>,
    pub filters: usize,
    // conv_gru, gru
    pub in_features: usize,
    pub pool: usize,
}

pub fn read(path: &Path) -> Result<Workloads> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
}

#[derive(Serialize)]
pub struct Report {
    pub program: String,
    pub machine: Machine,
    pub date: String,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub gpu: Option<String>,
}

#[derive(Default, Serialize)]
pub struct Row {
    pub workload: String,
    pub size: String,
    pub device: String,
    pub variant: String,
    pub precision: String,
    pub parameters: usize,
    pub samples: u64,
    pub flops: u64,
    pub error: Option<String>,
    #[serde(flatten)]
    pub timing: Option<Timing>,
}

/// What the process that measures a row tells the one that collects them.
#[derive(Serialize, Deserialize)]
pub enum Outcome {
    Measured(Timing),
    Failed(String),
}

#[derive(Serialize, Deserialize)]
pub struct Timing {
    /// What the result was checked against.
    pub checked: String,
    /// The first step, in which kernels are compiled and, with autotune, tried out.
    pub first_ms: f64,
    pub runs: usize,
    pub ms: Spread,
    pub peak_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

impl Machine {
    pub fn here(gpu: String) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            gpu: Some(gpu),
        }
    }
}

/// Written whole or not at all, so that a stop in the middle leaves the rows before.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_string_pretty(report)? + "\n")
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
