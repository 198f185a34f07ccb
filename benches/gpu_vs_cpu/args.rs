//! The command line.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
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

/// Of `--seconds`: more than a week, and far from what clocks can't count.
const MOST_SECONDS: f64 = 1e6;

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
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Full => "full",
        }
    }

    /// Whether a size of the workloads, such as `full_b16`, is of this class.
    pub fn holds(self, size: &str) -> bool {
        size.strip_prefix(self.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

impl Args {
    /// What can be said of the options before anything is measured.
    pub fn check(&self) -> Result<()> {
        let seconds = self.seconds;
        ensure!(seconds > 0.0 && seconds <= MOST_SECONDS, "--seconds {seconds}: above 0 and at most {MOST_SECONDS}");
        if let Some(path) = &self.plot {
            let known = path.extension().is_some_and(|end| end == "svg" || end == "png");
            ensure!(known, "--plot {}: the name must end in .svg or .png", path.display());
        }
        for (option, path) in [("--json", &self.json), ("--plot", &self.plot)] {
            if let Some(path) = path {
                writable(path).with_context(|| format!("{option} {}: can't be written", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Opens the file for writing and leaves it as it was.
fn writable(path: &Path) -> std::io::Result<()> {
    let there = path.try_exists()?;
    std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    if there { Ok(()) } else { std::fs::remove_file(path) }
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::*;

    fn check(line: &[&str]) -> Result<()> {
        Args::try_parse_from([&["gpu_vs_cpu"], line].concat())?.check()
    }

    #[test]
    fn times_are_bounded() {
        for seconds in ["0", "-1", "nan", "inf", "1e20", "1000001"] {
            let error = check(&[&format!("--seconds={seconds}")]).unwrap_err().to_string();
            assert!(error.contains("--seconds") && error.contains("1000000"), "{error}");
        }
        check(&["--seconds", "1e6"]).unwrap();
        check(&["--seconds", "1e-300"]).unwrap();
    }

    #[test]
    fn files_that_cannot_be_written_are_found_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let name = |name: &str| folder.path().join(name).display().to_string();
        for option in ["--json", "--plot"] {
            let path = name("none/x.png");
            let error = format!("{:#}", check(&[option, &path]).unwrap_err());
            assert!(error.contains(option) && error.contains(&path), "{error}");
        }
        assert!(check(&["--json", &name("")]).is_err(), "a folder");
        std::fs::write(name("there.json"), "kept").unwrap();
        check(&["--json", &name("there.json"), "--plot", &name("new.svg")]).unwrap();
        assert_eq!(std::fs::read_to_string(name("there.json")).unwrap(), "kept");
        assert!(!folder.path().join("new.svg").exists());
    }
}
