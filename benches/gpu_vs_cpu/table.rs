//! The table for people: a heading for each workload, and a line for each row of it.

use std::fmt::Write as _;

use super::report::{Report, Row};
use super::time::Spread;

/// Characters of the first column at most.
const NAME: usize = 34;
/// Fewer runs than this are marked.
const RUNS: u64 = 10;

const COLUMNS: [&str; 15] = [
    "", "ms", "min", "max", "±iqr", "device", "GFLOP/s", "gemm", "GB/s", "copy", "disp", "host", "MB", "×CPU", "÷ours",
];

pub const LEGEND: &str = "\
ms, min, max   a step by the host's clock: a run of steps with a sync at its end; median of the runs (* fewer than 10)
±iqr           between the quartiles of the runs, of the median
device         median of a step in ms by the device's timestamps
GFLOP/s, GB/s  arithmetic of the convolutions and matrix products, and bytes that have to move, by the device's clock
               where there is one; gemm, copy: percent of the best matrix product of this library and of a large copy on
               the same device in this run
disp, host     dispatches of a step; ms that the host takes to record and submit a step while the device is idle
MB             device memory
×CPU           how many times as fast as the CPU executor
÷ours          the other program's time, divided by ours on the same device at the same class of precision";

/// The whole report.
pub fn table(report: &Report) -> String {
    let mut lines: Vec<Line> = vec![Line::Cells(COLUMNS.map(str::to_owned).to_vec())];
    for (workload, size) in workloads(report) {
        lines.push(Line::Text(String::new()));
        lines.push(Line::Text(heading(report, &workload, &size)));
        for (program, row) in all_rows(report).filter(|(_, row)| row.workload == workload && row.size == size) {
            lines.push(Line::Cells(cells(program, row)));
            lines.extend(row.error.iter().map(|error| Line::Text(format!("    {error}"))));
        }
    }
    let mut text = laid_out(lines);
    let ratios = report.alternated.iter().map(|of| {
        let (device, precision) = (short(&of.device), &of.precision);
        format!("{} takes {:.3} × the time of {}, {precision} on {device}", of.workload, of.ratio, of.reference)
    });
    let ceilings = report.ceilings.iter().map(|of| {
        format!(
            "ceilings of {}: matrix product {} in {} {} GFLOP/s, copy of {} MiB {} GB/s",
            short(&of.device),
            of.gemm,
            of.precision,
            number(of.gemm_gflops_per_s),
            of.copy_bytes >> 20,
            number(of.copy_gb_per_s)
        )
    });
    let others = report.peers.iter().filter(|peer| !peer.machine.same(&report.machine)).map(|peer| {
        let machine = &peer.machine;
        format!("{} ran on another machine, so there are no ratios:\n  {machine}", short(&peer.program))
    });
    for lines in [ratios.collect(), ceilings.collect(), others.collect(), report.notes.clone()] {
        let lines: Vec<String> = lines;
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{}", lines.join("\n"));
        }
    }
    text
}

/// Without what is in brackets, of a device, or after a plus, of a program.
fn short(name: &str) -> &str {
    name.split(['(', '+']).next().unwrap_or_default().trim()
}

enum Line {
    Text(String),
    Cells(Vec<String>),
}

fn laid_out(lines: Vec<Line>) -> String {
    let mut widths = [0; COLUMNS.len()];
    for line in &lines {
        if let Line::Cells(cells) = line {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        let line = match line {
            Line::Text(text) => text,
            Line::Cells(cells) => {
                let mut line = format!("  {:<1$}", cells[0], widths[0]);
                for (cell, &width) in cells.iter().zip(&widths).skip(1).filter(|(_, width)| **width > 0) {
                    let _ = write!(line, " {cell:>width$}");
                }
                line
            }
        };
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Every workload and size with a row, in the order in which they appear.
pub fn workloads(report: &Report) -> Vec<(String, String)> {
    let mut seen: Vec<(String, String)> = vec![];
    for row in &report.rows {
        let key = (row.workload.clone(), row.size.clone());
        if !seen.contains(&key) {
            seen.push(key);
        }
    }
    seen
}

/// The rows of this program, then those of others.
fn all_rows(report: &Report) -> impl Iterator<Item = (Option<&str>, &Row)> {
    let peers = report.peers.iter().flat_map(|peer| peer.rows.iter().map(|row| (Some(peer.program.as_str()), row)));
    report.rows.iter().map(|row| (None, row)).chain(peers)
}

fn heading(report: &Report, workload: &str, size: &str) -> String {
    let row = report.rows.iter().find(|row| row.workload == workload && row.size == size);
    let mut text = format!("{workload}, {size}");
    if let Some(flops) = row.and_then(|row| row.flops) {
        let _ = write!(text, ": {} GFLOP", number(flops as f64 / 1e9));
    }
    if let Some(bytes) = row.and_then(|row| row.bytes) {
        let _ = write!(text, ", {} MB to move", number(bytes as f64 / 1e6));
    }
    if let Some((samples, unit)) = row.and_then(|row| Some((row.samples?, row.sample_unit.as_ref()?))) {
        let _ = write!(text, "; a step is {samples} {unit}");
    }
    text
}

/// What a row is called: of another program its name and variant, the precision, the device.
pub fn name(program: Option<&str>, row: &Row) -> String {
    let program = short(program.unwrap_or_default());
    let precision = if row.precision == "f32" { "" } else { &row.precision };
    let parts = [program, &row.variant, precision, short(&row.device)];
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn cells(program: Option<&str>, row: &Row) -> Vec<String> {
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    let median = |spread: Option<Spread>| optional(spread.map(|spread| spread.median));
    let percent = |value: Option<f64>| value.map(|value| format!("{value:.0}%")).unwrap_or_default();
    let few = if row.ms.is_some() && row.runs.is_some_and(|runs| runs < RUNS) { "*" } else { "" };
    let iqr = row.ms.and_then(|ms| Some(100.0 * ms.iqr? / ms.median));
    vec![
        cut(&name(program, row), NAME),
        median(row.ms) + few,
        optional(row.ms.map(|ms| ms.min)),
        optional(row.ms.map(|ms| ms.max)),
        percent(iqr),
        median(row.device_ms),
        optional(row.gflops_per_s),
        percent(row.percent_of_gemm),
        optional(row.gb_per_s),
        percent(row.percent_of_copy),
        row.dispatches.map(|count| count.to_string()).unwrap_or_default(),
        median(row.host_ms),
        optional(row.peak_bytes.map(|bytes| bytes as f64 / 1e6)),
        optional(row.faster_than_cpu),
        optional(row.times_ours),
    ]
}

/// At most so many characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Three digits that count, or all those before the point.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 || v == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 => format!("{value:.2}"),
        v if v >= 0.09995 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::super::ceilings::Ceilings;
    use super::super::machine::Machine;
    use super::*;

    /// Characters of a line at most.
    const WIDTH: usize = 120;

    fn spread(median: f64) -> Option<Spread> {
        Some(Spread { median, min: median * 0.98, max: median * 1.2, iqr: Some(median * 0.1) })
    }

    /// Every column as wide as it may come.
    fn wide() -> Row {
        Row {
            workload: "conv_grad_weight_128x256_k2_d512".into(),
            size: "full_b512".into(),
            device: "NVIDIA GeForce RTX 4090 Laptop GPU".into(),
            precision: "f16".into(),
            flops: Some(1_398_011_854_848),
            bytes: Some(123_456_789_012),
            samples: Some(65_536),
            sample_unit: Some("output positions (B*T)".into()),
            runs: Some(3),
            ms: spread(12_345.6),
            device_ms: spread(12_345.6),
            host_ms: spread(0.0456),
            gflops_per_s: Some(123_456.7),
            gb_per_s: Some(12_345.6),
            percent_of_gemm: Some(100.4),
            percent_of_copy: Some(100.4),
            dispatches: Some(1234),
            peak_bytes: Some(79_999_000_000),
            faster_than_cpu: Some(1234.5),
            times_ours: Some(123.4),
            ..Row::default()
        }
    }

    fn report() -> Report {
        let machine = Machine { cpu: "Zen".into(), cores: 2, gpu: None };
        let other = Machine { cores: 64, ..machine.clone() };
        let failed = Row {
            error: Some("y is wrong".into()),
            device: "cpu".into(),
            workload: wide().workload,
            size: wide().size,
            ..Row::default()
        };
        let peer = |machine: &Machine| Report {
            program: "pytorch 2.9.1+cu130".into(),
            machine: machine.clone(),
            date: String::new(),
            ceilings: vec![],
            rows: vec![Row { variant: "cuda graphs".into(), ..wide() }],
            alternated: vec![],
            notes: vec![],
            peers: vec![],
        };
        let ceilings = Ceilings {
            device: "cpu".into(),
            precision: "f32".into(),
            gemm: "8192 x 512 x 512".into(),
            gemm_gflops_per_s: 101.23,
            copy_gb_per_s: 20.0,
            copy_bytes: 1 << 28,
        };
        Report {
            program: "receptive".into(),
            ceilings: vec![ceilings],
            rows: vec![failed, wide()],
            peers: vec![peer(&machine), peer(&other)],
            ..peer(&machine)
        }
    }

    #[test]
    fn lines_fit() {
        let table = table(&report());
        for line in table.lines().chain(LEGEND.lines()) {
            assert!(line.chars().count() <= WIDTH, "{}: {line}", line.chars().count());
        }
        assert!(table.contains("y is wrong") && table.contains("12346*"), "{table}");
        assert!(table.contains("another machine") && table.contains("64 cores"), "{table}");
        assert!(table.contains("8192 x 512 x 512 in f32 101 GFLOP/s, copy of 256 MiB 20.0 GB/s"), "{table}");
    }

    #[test]
    fn columns_line_up() {
        let table = table(&report());
        let ends: Vec<usize> = table
            .lines()
            .filter(|line| line.contains("12346"))
            .map(|line| line.chars().position(|c| c == '*').unwrap())
            .collect();
        assert!(ends.len() == 3 && ends.iter().all(|end| *end == ends[0]), "{ends:?}\n{table}");
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let cases =
            [(0.0, "0"), (0.01234, "0.0123"), (0.1, "0.100"), (9.9949, "9.99"), (9.996, "10.0"), (99.96, "100")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(123_456.7), "123457");
        assert_eq!(cut("abcdefghij", 7), "abcdef…");
        assert_eq!(cut("abc", 3), "abc");
    }
}
