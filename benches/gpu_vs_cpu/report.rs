//! Rows, as this harness and the programs that it is compared with write them, and the ratios between them.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::ceilings::Ceilings;
use super::machine::{Machine, same_device};
use super::time::Spread;

/// The device of rows on the CPU.
pub const CPU: &str = "cpu";

/// Times of a step that are believed, in milliseconds: from a picosecond to 30 years.
const TIMES: RangeInclusive<f64> = 1e-9..=1e12;

/// What one program measured on one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub program: String,
    pub machine: Machine,
    /// RFC 3339.
    pub date: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceilings>,
    pub rows: Vec<Row>,
    /// Ratios of workloads that were measured in turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternated: Vec<Alternated>,
    /// What was left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The reports of other programs, with their ratios to this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Report>,
}

/// One workload on one device. A row that failed has an error and no `ms`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub workload: String,
    pub size: String,
    /// `cpu` or the adapter's name.
    pub device: String,
    /// How it ran, such as `eager`; empty where there is one way.
    pub variant: String,
    /// Of activations: `f32`, `tf32`, `bf16` or `f16`.
    pub precision: String,
    pub parameters: Option<u64>,
    /// What a step makes, in the workload's unit.
    pub samples: Option<u64>,
    pub flops: Option<u64>,
    /// Against what the result was checked, and how far it deviates.
    pub checked: Option<String>,
    pub runs: Option<u64>,
    /// Of a step by the host's clock: a run of steps with a sync at its end.
    pub ms: Option<Spread>,
    pub peak_bytes: Option<u64>,
    pub error: Option<String>,

    // What follows other programs need not tell.
    /// The unit of `samples`.
    pub sample_unit: Option<String>,
    /// Steps of a run.
    pub steps: Option<u32>,
    /// Of a step by the device's timestamps.
    pub device_ms: Option<Spread>,
    /// To record and submit a step while the device is idle.
    pub host_ms: Option<Spread>,
    pub dispatches: Option<usize>,
    /// That have to move in a step.
    pub bytes: Option<u64>,
    /// By the device's clock where it has one, else the host's; so are those that follow.
    pub gflops_per_s: Option<f64>,
    pub gb_per_s: Option<f64>,
    /// Of the best matrix product of this library on the device.
    pub percent_of_gemm: Option<f64>,
    /// Of a large copy on the device.
    pub percent_of_copy: Option<f64>,
    /// The CPU executor's time, divided by this row's.
    pub faster_than_cpu: Option<f64>,
    /// Of another program's row: its time, divided by this library's on the same device at the same class of precision.
    pub times_ours: Option<f64>,
    /// The same by the device's clock.
    pub device_times_ours: Option<f64>,
}

/// The ratio of two workloads on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternated {
    pub device: String,
    pub precision: String,
    pub size: String,
    pub workload: String,
    pub reference: String,
    /// The time of `workload`, divided by that of `reference`.
    pub ratio: f64,
}

impl Row {
    /// The median by the device's clock where it has one, else by the host's.
    pub fn best_clock_ms(&self) -> Option<f64> {
        Some(self.device_ms.or(self.ms)?.median)
    }

    /// Whether its times are such.
    fn check(&self) -> Result<()> {
        for (what, times) in [("ms", self.ms), ("device_ms", self.device_ms), ("host_ms", self.host_ms)] {
            for time in times.into_iter().flat_map(|times| [times.median, times.min, times.max]) {
                let Self { workload, size, device, variant, precision, .. } = self;
                ensure!(
                    TIMES.contains(&time),
                    "{what} of the row {workload} {size} {device} {variant} {precision} has {time:e} where a time in \
                     milliseconds must be, {:e} to {:e}",
                    TIMES.start(),
                    TIMES.end()
                );
            }
        }
        Ok(())
    }

    fn same_workload(&self, other: &Self) -> bool {
        self.workload == other.workload && self.size == other.size
    }

    /// Fills in the rates and the shares of the ceilings.
    fn rate(&mut self, ceilings: Option<&Ceilings>) {
        let Some(ms) = self.best_clock_ms() else { return };
        self.gflops_per_s = self.flops.map(|flops| flops as f64 / ms / 1e6);
        self.gb_per_s = self.bytes.map(|bytes| bytes as f64 / ms / 1e6);
        if let Some(ceilings) = ceilings {
            self.percent_of_gemm = self.gflops_per_s.map(|rate| 100.0 * rate / ceilings.gemm_gflops_per_s);
            self.percent_of_copy = self.gb_per_s.map(|rate| 100.0 * rate / ceilings.copy_gb_per_s);
        }
    }
}

impl Report {
    /// Reads the report of another program.
    ///
    /// # Errors
    /// If the file can't be read or is none, or a row has a time that none takes.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || format!("the report {}", path.display());
        let text = std::fs::read_to_string(path).with_context(name)?;
        let report: Self = serde_json::from_str(&text).with_context(name)?;
        report.rows.iter().try_for_each(Row::check).with_context(name)?;
        Ok(report)
    }

    /// Writes the report.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Fills in the rates of all rows.
    pub fn rate(&mut self) {
        for row in &mut self.rows {
            row.rate(self.ceilings.iter().find(|of| of.device == row.device && of.precision == row.precision));
        }
    }

    /// Fills in the ratios of all rows, those of `peers` as far as they were measured on this machine.
    pub fn compare(&mut self) {
        let ours = self.rows.clone();
        for row in &mut self.rows {
            row.faster_than_cpu = faster_than_cpu(row, &ours);
        }
        for peer in &mut self.peers {
            if !peer.machine.same(&self.machine) {
                continue;
            }
            for row in &mut peer.rows {
                row.faster_than_cpu = faster_than_cpu(row, &ours);
                let half = |row: &Row| matches!(row.precision.as_str(), "f16" | "bf16");
                let same = ours.iter().find(|our| {
                    our.same_workload(row) && half(our) == half(row) && same_device(&our.device, &row.device)
                });
                row.times_ours = ratio(Some(row), same);
                let device = |row: &Row| Some(row.device_ms?.median);
                row.device_times_ours = device(row).zip(same.and_then(device)).map(|(theirs, ours)| theirs / ours);
            }
        }
    }

    /// The reports whose rows may be compared, this one first.
    pub fn comparable(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.peers.iter().filter(|peer| peer.machine.same(&self.machine)))
    }
}

fn faster_than_cpu(row: &Row, ours: &[Row]) -> Option<f64> {
    ratio(ours.iter().find(|our| our.same_workload(row) && our.device == CPU), Some(row))
}

/// The time of one row, divided by another's, both by the host's clock, which all programs have.
fn ratio(row: Option<&Row>, other: Option<&Row>) -> Option<f64> {
    Some(row?.ms?.median / other?.ms?.median)
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::*;

    fn row(device: &str, precision: &str, ms: f64) -> Row {
        let spread = Spread { median: ms, min: ms, max: ms, iqr: None };
        let (workload, size) = ("wavenet_train".into(), "small".into());
        let (device, precision) = (device.into(), precision.into());
        Row { workload, size, device, precision, ms: Some(spread), ..Row::default() }
    }

    fn report(program: &str, cores: usize, rows: Vec<Row>) -> Report {
        let machine = Machine { cpu: "Zen".into(), cores, gpu: None };
        Report {
            program: program.into(),
            machine,
            date: String::new(),
            ceilings: vec![],
            rows,
            alternated: vec![],
            notes: vec![],
            peers: vec![],
        }
    }

    #[test]
    fn peers_are_compared_on_the_same_device_and_class_of_precision() {
        let mut ours = report(
            "receptive",
            2,
            vec![row("cpu", "f32", 100.0), row("H100 HBM3", "f32", 5.0), row("H100 HBM3", "f16", 2.0)],
        );
        let rows = || {
            vec![row("cpu", "f32", 150.0), row("H100", "tf32", 10.0), row("H100", "bf16", 6.0), row("RTX", "f32", 1.0)]
        };
        ours.peers = vec![report("here", 2, rows()), report("elsewhere", 4, rows())];
        ours.compare();
        let faster = |report: &Report| report.rows.iter().map(|row| row.faster_than_cpu).collect::<Vec<_>>();
        let times = |report: &Report| report.rows.iter().map(|row| row.times_ours).collect::<Vec<_>>();
        assert_eq!(faster(&ours), [Some(1.0), Some(20.0), Some(50.0)]);
        assert_eq!(times(&ours), [None; 3]);
        assert_eq!(times(&ours.peers[0]), [Some(1.5), Some(2.0), Some(3.0), None]);
        assert_eq!(faster(&ours.peers[0])[1], Some(10.0));
        assert_eq!(times(&ours.peers[1]), [None; 4]);
        assert_eq!(ours.comparable().count(), 2);
    }

    #[test]
    fn reports_of_others_are_read() {
        let text = r#"{"program": "pytorch 2.9", "machine": {"cpu": "Zen", "cores": 2, "gpu": null},
            "date": "2026-11-24T13:00:00Z", "python": "3.11", "rows": [
            {"workload": "wavenet_train", "size": "small", "device": "cpu", "variant": "eager", "precision": "f32",
             "parameters": 153408, "samples": 4096, "flops": 3296722944, "checked": "eager f64: 1e-6", "runs": 10,
             "ms": {"median": 64.5, "min": 63.0, "max": 70.0}, "peak_bytes": null, "error": null, "threads": 2},
            {"workload": "gru_train", "size": "small", "device": "cpu", "variant": "compile", "precision": "f32",
             "error": "no compiler"}]}"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.json");
        std::fs::write(&path, text).unwrap();
        let report = Report::read(&path).unwrap();
        assert_eq!(report.rows[0].ms.unwrap().median, 64.5);
        assert_eq!((report.rows[1].ms, report.rows[1].error.as_deref()), (None, Some("no compiler")));
        // What is written is read again.
        report.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap().rows, report.rows);
        for time in ["0", "-0.0", "-1", "1e-300", "1e300"] {
            for of in ["ms", "device_ms", "host_ms"] {
                let times = format!(r#""{of}": {{"median": {time}, "min": 1, "max": 2}}"#);
                std::fs::write(
                    &path,
                    text.replacen(r#""runs": 10"#, &times, 1).replacen(
                        r#""ms": {"median": 64"#,
                        r#""other": {"median": 64"#,
                        1,
                    ),
                )
                .unwrap();
                let error = format!("{:#}", Report::read(&path).unwrap_err());
                assert!(error.contains("peer.json") && error.contains("wavenet_train small cpu eager"), "{error}");
            }
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(format!("{:#}", Report::read(&path).unwrap_err()).contains("peer.json"));
    }

    #[test]
    fn rates_use_the_clock_of_the_device() {
        let ceilings = Ceilings {
            device: "d".into(),
            precision: "f32".into(),
            gemm: String::new(),
            gemm_gflops_per_s: 4000.0,
            copy_gb_per_s: 200.0,
            copy_bytes: 0,
        };
        let mut row = Row { flops: Some(4_000_000_000), bytes: Some(40_000_000), ..row("d", "f32", 4.0) };
        row.rate(Some(&ceilings));
        assert_eq!((row.gflops_per_s, row.percent_of_gemm), (Some(1000.0), Some(25.0)));
        assert_eq!((row.gb_per_s, row.percent_of_copy), (Some(10.0), Some(5.0)));
        row.device_ms = Some(Spread { median: 2.0, min: 2.0, max: 2.0, iqr: None });
        row.rate(Some(&ceilings));
        assert_eq!((row.percent_of_gemm, row.percent_of_copy), (Some(50.0), Some(10.0)));
    }
}
