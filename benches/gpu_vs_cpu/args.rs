//! The command line.

use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use receptive::graph::Precision;

/// Times the workloads of benches/workloads.json on the CPU executor and on every GPU, after checking what they compute.
#[derive(Debug, Parser)]
#[command(name = "gpu_vs_cpu", max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    /// Which sizes of the workloads: small for a CPU or a software adapter, full for a large GPU
    #[arg(long, value_enum, default_value = "small")]
    pub size: SizeClass,
    /// Only workloads whose name begins so; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// cpu, gpu, software, a backend (vulkan, metal, dx12) or part of an adapter's name; may be given several times
    /// [default: cpu and every adapter]
    #[arg(long = "device", value_name = "NAME")]
    pub devices: Vec<String>,
    /// How GPUs store activations and weights; may be given several times. The CPU executor computes in f32 in any case
    #[arg(long = "precision", value_name = "f32|f16", default_values_t = [Precision::F32], value_parser = Precision::from_str)]
    pub precisions: Vec<Precision>,
    /// Timed runs of each row
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Time for a row's runs: when it is up there are no more, but for the first three
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub seconds: f64,
    /// Write all that was found out as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the ratios
    #[arg(long, value_name = "FILE.svg|png")]
    pub plot: Option<PathBuf>,
    /// JSON of other programs, to put beside ours
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub peers: Vec<PathBuf>,
    /// The workloads [default: benches/workloads.json here, or beside this program]
    #[arg(long, value_name = "FILE")]
    pub workloads: Option<PathBuf>,
    /// What `cargo bench` gives to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo bench --bench gpu_vs_cpu -- --only wavenet_train --device cpu --device gpu
  cargo bench --bench gpu_vs_cpu -- --size full --json here.json --plot here.png --peers pytorch.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SizeClass {
    Small,
    Full,
}

impl SizeClass {
    /// Whether a size of the workloads, such as `full_b16`, is of this class.
    pub fn holds(self, size: &str) -> bool {
        let name = match self {
            Self::Small => "small",
            Self::Full => "full",
        };
        size.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

impl Args {
    /// What can be said of the options before anything is measured.
    pub fn check(&self) -> Result<()> {
        ensure!(self.seconds.is_finite() && self.seconds > 0.0, "--seconds {}: must be above 0", self.seconds);
        if let Some(path) = &self.plot {
            let known = path.extension().is_some_and(|end| end == "svg" || end == "png");
            ensure!(known, "--plot {}: the name must end in .svg or .png", path.display());
        }
        Ok(())
    }
}
