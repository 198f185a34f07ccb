//! The benchmark harness measures what it says. Its own unit tests run here too: cargo builds benchmarks, but does not
//! test them.

use clap::Parser as _;

use crate::support;

#[allow(dead_code, reason = "its main is cargo's")]
#[path = "../../benches/gpu_vs_cpu/main.rs"]
mod gpu_vs_cpu;

#[allow(dead_code, reason = "its main is cargo's")]
#[path = "../../benches/kernel_lab/main.rs"]
mod kernel_lab;

fn lab(line: &[&str]) -> anyhow::Result<Vec<(String, anyhow::Result<kernel_lab::Row>)>> {
    kernel_lab::run(&kernel_lab::Args::parse_from([&["kernel_lab", "--shape", "8x16,k2,d3,b1,t50"], line].concat()))
}

#[test]
fn the_kernel_lab_checks_variants_in_both_precisions() {
    let device = support::gpu().as_gpu().unwrap().info().name.clone();
    for precision in ["f32", "f16"] {
        for variant in ["tile 32x32", "parts"] {
            let line = ["--device", &device, "--precision", precision, "--variant", variant, "--runs", "1"];
            let rows = lab(&line).unwrap();
            // Of each operator that has it: the three of a convolution, the three of a WaveNet.
            assert!(rows.len() == 3 && rows.iter().all(|(_, row)| row.is_ok()), "{precision}: {rows:?}");
        }
    }
}

#[test]
fn the_kernel_lab_names_what_there_is() {
    let device = support::gpu().as_gpu().unwrap().info().name.clone();
    let error = |line: &[&str]| lab(line).unwrap_err().to_string();
    let variants = error(&["conv1d", "--device", &device, "--variant", "nope"]);
    assert!(variants.contains("nope") && variants.contains("tile 32x32") && !variants.contains("fused"), "{variants}");
    assert!(error(&["--device", "cpu", "--precision", "f16"]).contains("f32"));
    assert!(error(&["conv2d"]).contains("conv1d_grad_weight"));
}

#[test]
fn a_workload_becomes_a_row_a_picture_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (json, plot) = (file("here.json"), file("here.svg"));
    let line = ["gpu_vs_cpu", "--only", "conv_forward_25x25", "--device", "cpu", "--runs", "3", "--seconds", "1"];
    let args = |more: &[&str]| gpu_vs_cpu::Args::parse_from([&line[..], more].concat());
    gpu_vs_cpu::run(&args(&["--json", &json])).unwrap();

    // A run of its own becomes the peer of the next.
    let with_peer = args(&["--peers", &json, "--plot", &plot]);
    let report = gpu_vs_cpu::run(&with_peer).unwrap();
    gpu_vs_cpu::draw(&with_peer, &report).unwrap();
    let [row] = &report.rows[..] else { panic!("{:?}", report.rows) };
    assert_eq!((row.workload.as_str(), row.device.as_str()), ("conv_forward_25x25_k7_d32", "cpu"));
    assert_eq!((row.error.as_deref(), row.runs, row.parameters), (None, Some(3), Some(4400)));
    let ms = row.ms.unwrap();
    assert!(0.0 < ms.min && ms.min <= ms.median && ms.median <= ms.max, "{ms:?}");
    assert!(row.percent_of_gemm.unwrap() > 0.0 && row.faster_than_cpu == Some(1.0), "{row:?}");
    let peer = &report.peers[0].rows[0];
    assert_eq!(peer.times_ours, Some(peer.ms.unwrap().median / ms.median));
    assert!(std::fs::read_to_string(&plot).unwrap().contains("conv_forward_25x25_k7_d32"));
    let written: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(written["rows"][0]["ms"]["median"].as_f64(), Some(peer.ms.unwrap().median));
}

#[test]
fn what_is_wrong_is_not_timed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workloads.json");
    let text = std::fs::read_to_string("benches/workloads.json").unwrap().replace("4400", "4401");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let line = ["gpu_vs_cpu", "--only", "conv_forward_25x25", "--device", "cpu", "--workloads", &path];
    let report = gpu_vs_cpu::run(&gpu_vs_cpu::Args::parse_from(line)).unwrap();
    let [row] = &report.rows[..] else { panic!("{:?}", report.rows) };
    let error = row.error.as_deref().unwrap_or_default();
    assert!(error.contains("4400 parameters, the workload states 4401") && row.ms.is_none(), "{row:?}");
}

#[test]
fn numbers_that_cannot_be_meant_are_rows_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workloads.json").display().to_string();
    let text = std::fs::read_to_string("benches/workloads.json").unwrap();
    for (old, new) in [("\"steps\": 200,", "\"steps\": 0,"), ("\"stacks\": 2,", "\"stacks\": 1099511627776,")] {
        std::fs::write(&path, text.replace(old, new)).unwrap();
        let json = folder.path().join("here.json").display().to_string();
        let line = ["gpu_vs_cpu", "--only", "wavenet_generate", "--device", "cpu", "--runs", "1", "--seconds", "0.01"];
        let line = [&line[..], &["--workloads", &path, "--json", &json]].concat();
        let report = gpu_vs_cpu::run(&gpu_vs_cpu::Args::parse_from(line)).unwrap();
        let errors =
            report.rows.iter().filter(|row| row.error.as_deref().is_some_and(|error| error.contains("not from 1")));
        assert_eq!((errors.count(), report.rows.len()), (2, 2), "{:?}", report.rows);
        assert!(std::fs::metadata(json).unwrap().len() > 0);
    }
}
