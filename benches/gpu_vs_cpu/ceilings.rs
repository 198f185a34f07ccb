//! What a device can do at best, measured in the same run as what it does: a large copy, and the library's matrix
//! product.

use std::time::{Duration, Instant};

use anyhow::Result;
use rayon::prelude::*;
use receptive::Device;
use receptive::device::Gpu;
use receptive::graph::Precision;
use receptive::wgpu;
use serde::{Deserialize, Serialize};

use super::models::conv;
use super::subject::{ProgramSubject, Subject};
use super::time::{Effort, measure};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    pub device: String,
    /// Of the matrix product.
    pub precision: String,
    /// The best matrix product: its size, rows × channels in × channels out, and what it reaches.
    pub gemm: String,
    pub gemm_gflops_per_s: f64,
    /// Read and written, of a copy of `copy_bytes`.
    pub copy_gb_per_s: f64,
    pub copy_bytes: u64,
}

impl Ceilings {
    /// Takes what is higher in `other`.
    pub fn raise(&mut self, other: Self) {
        if other.gemm_gflops_per_s > self.gemm_gflops_per_s {
            (self.gemm, self.gemm_gflops_per_s) = (other.gemm, other.gemm_gflops_per_s);
        }
        self.copy_gb_per_s = self.copy_gb_per_s.max(other.copy_gb_per_s);
    }
}

/// Products to try, (rows, channels in, channels out): on a software adapter one that doesn't take long.
const PRODUCTS: [(usize, usize, usize); 2] = [(8192, 512, 512), (32_768, 1024, 1024)];
const SMALL_PRODUCTS: [(usize, usize, usize); 1] = [(4096, 256, 256)];

/// Larger than any cache.
const COPY_BYTES: u64 = 256 << 20;
const SMALL_COPY_BYTES: u64 = 64 << 20;

/// # Errors
/// What the device gives.
pub fn ceilings(name: &str, device: &Device, precision: Precision, effort: Effort) -> Result<Ceilings> {
    let software = device.as_gpu().is_some_and(|gpu| gpu.capabilities().software);
    let products: &[_] = match device {
        Device::Cpu => &PRODUCTS[..1],
        Device::Gpu(_) if software => &SMALL_PRODUCTS,
        Device::Gpu(_) => &PRODUCTS,
    };
    let mut best = (String::new(), 0.0);
    for &(rows, c_in, c_out) in products {
        let model = conv::product(rows, c_in, c_out, precision)?;
        let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(ProgramSubject::new(&model, device)?)];
        let times = &measure(&mut subjects, effort)?[0];
        let gflops = (2 * rows * c_in * c_out) as f64 / times.device.unwrap_or(times.wall).min / 1e6;
        if gflops > best.1 {
            best = (format!("{rows} x {c_in} x {c_out}"), gflops);
        }
    }
    let bytes = if software { SMALL_COPY_BYTES } else { COPY_BYTES };
    let copy_bytes = device.as_gpu().map_or(bytes, |gpu| bytes.min(gpu.capabilities().max_buffer_bytes / 4 * 4));
    let fastest = match device {
        Device::Cpu => copy_on_host(copy_bytes, effort),
        Device::Gpu(gpu) => copy_on_gpu(gpu, copy_bytes, effort)?,
    };
    Ok(Ceilings {
        device: name.to_owned(),
        precision: precision.name().to_owned(),
        gemm: best.0,
        gemm_gflops_per_s: best.1,
        copy_gb_per_s: 2.0 * copy_bytes as f64 / fastest.as_secs_f64() / 1e9,
        copy_bytes,
    })
}

/// On all threads.
fn copy_on_host(bytes: u64, effort: Effort) -> Duration {
    let source = vec![1_u8; bytes as usize];
    let mut target = vec![0_u8; bytes as usize];
    let part = source.len().div_ceil(4 * rayon::current_num_threads());
    let begun = Instant::now();
    // The first also brings the memory there.
    let times = (0..=effort.runs.max(3)).take_while(|&run| run <= 3 || begun.elapsed() < effort.time).map(|_| {
        let start = Instant::now();
        target.par_chunks_mut(part).zip(source.par_chunks(part)).for_each(|(target, source)| {
            target.copy_from_slice(source);
        });
        std::hint::black_box(&target);
        start.elapsed()
    });
    times.min().unwrap_or(Duration::MAX)
}

/// There and back in one submit, so that submitting doesn't count.
fn copy_on_gpu(gpu: &Gpu, bytes: u64, effort: Effort) -> Result<Duration> {
    const COPIES: u32 = 8;
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffers = [gpu.buffer("copy", bytes, usage)?, gpu.buffer("copy", bytes, usage)?];
    let mut best = Duration::MAX;
    let begun = Instant::now();
    for _ in (0..=effort.runs.max(3)).take_while(|&run| run <= 3 || begun.elapsed() < effort.time) {
        let start = Instant::now();
        let index = gpu.scoped("copy", || {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            for copy in 0..COPIES as usize {
                encoder.copy_buffer_to_buffer(&buffers[copy % 2], 0, &buffers[1 - copy % 2], 0, bytes);
            }
            gpu.queue().submit([encoder.finish()])
        })?;
        gpu.wait(index, "copy")?;
        best = best.min(start.elapsed() / COPIES);
    }
    Ok(best)
}
