//! The shapes to time: those of the workloads, and odd ones.

use clap::ValueEnum;
use serde_json::Value;

use super::subject::Shape;

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// The workloads' sizes for two CPU cores.
    Small,
    /// The workloads' sizes for a large GPU.
    Full,
    /// Channels that are no multiple of anything, a short sequence, one tap, many taps.
    Odd,
    /// The same shape at dilations 1 and 512.
    Dilation,
}

pub fn shapes(size: Size) -> Vec<Shape> {
    let listed = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a listed shape")).collect();
    match size {
        Size::Small => workloads("small"),
        Size::Full => workloads("full"),
        Size::Odd => listed(&[
            "1x32,k2,d1,b1,t4096",
            "25x25,k7,d32,b3,t300",
            "33x65,k3,d5,b1,t1000",
            "256x10,k1,d1,b64,t1",
            "512x64,k1,d1,b1,t4096",
            "64x256,k1,d1,b1,t4096",
            "300x100,k4,d1,b10,t61",
        ]),
        Size::Dilation => listed(&["64x64,k2,d1,b1,t8192", "64x64,k2,d512,b1,t8192"]),
    }
}

/// The convolutions of `workloads.json`, and the layer of its WaveNet.
fn workloads(size: &str) -> Vec<Shape> {
    let all: Value = serde_json::from_str(include_str!("../workloads.json")).expect("workloads.json");
    let number = |entry: &Value, key: &str| entry[key].as_u64().unwrap_or(1) as usize;
    let mut shapes = vec![];
    for (name, workload) in all["workloads"].as_object().expect("workloads") {
        let entry = &workload["sizes"][size];
        let kind = workload["kind"].as_str();
        if kind == Some("conv") && name.starts_with("conv_forward") {
            shapes.push(Shape {
                inputs: number(entry, "in_channels"),
                outputs: number(entry, "out_channels"),
                kernel: number(entry, "kernel"),
                dilation: number(entry, "dilation"),
                batch: number(entry, "batch"),
                time: number(entry, "time"),
            });
        }
        if kind == Some("wavenet") {
            let residual = number(entry, "residual");
            shapes.push(Shape {
                inputs: residual,
                outputs: 2 * residual,
                kernel: 2,
                dilation: 16,
                batch: number(entry, "batch"),
                time: number(entry, "time"),
            });
        }
    }
    shapes
}
