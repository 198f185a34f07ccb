//! A ring of staging buffers between host and device, so that a step neither allocates nor waits.
//!
//! Each slot has a buffer to send the step's inputs and one that brings its metrics back. A slot is used again once its
//! step has finished; the host waits only when the device is a whole ring behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::exec::Metrics;
use crate::exec::stopwatch::Stopwatch;
use crate::exec::timing::Log;

/// Steps that may be under way.
const SLOTS: usize = 4;

const PENDING: u8 = 0;
const READY: u8 = 1;
const FAILED: u8 = 2;

#[derive(Debug)]
struct Slot {
    upload: wgpu::Buffer,
    readback: wgpu::Buffer,
    upload_state: Arc<AtomicU8>,
    readback_state: Arc<AtomicU8>,
    /// The step under way and its submission.
    flight: Option<(u64, wgpu::SubmissionIndex)>,
}

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    gpu: Arc<Gpu>,
    slots: Vec<Slot>,
    next: usize,
    metrics: usize,
    arrived: VecDeque<Metrics>,
    stopwatch: Option<Stopwatch>,
    pub log: Log,
}

impl Ring {
    /// Slots that send up to `upload_bytes` and bring back `metrics` numbers.
    pub fn new(gpu: &Arc<Gpu>, upload_bytes: u64, metrics: usize) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let mut slots = Vec::with_capacity(SLOTS);
        for _ in 0..SLOTS {
            let slot = Slot {
                upload: gpu.buffer("step upload", upload_bytes, Usage::MAP_WRITE | Usage::COPY_SRC)?,
                readback: readback(gpu, metrics as u64 * 4)?,
                upload_state: Arc::default(),
                readback_state: Arc::default(),
                flight: None,
            };
            map(&slot.upload, wgpu::MapMode::Write, &slot.upload_state);
            slots.push(slot);
        }
        let what = "mapping the upload buffers";
        gpu.wait_idle(what)?;
        gpu.wait_for_callback(what, || slots.iter().all(|s| s.upload_state.load(Ordering::Acquire) != PENDING))?;
        let gpu = Arc::clone(gpu);
        let (arrived, log) = (VecDeque::new(), Log::default());
        Ok(Self { gpu, slots, next: 0, metrics, arrived, stopwatch: None, log })
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.upload.size() + slot.readback.size()).sum()
    }

    /// Waits for all steps, then takes timestamps with this stopwatch, or none.
    pub fn set_stopwatch(&mut self, stopwatch: Option<Stopwatch>, log: Log) -> Result<()> {
        self.land_all(true)?;
        self.stopwatch = stopwatch;
        let bytes = self.ticks_offset() + self.stopwatch.as_ref().map_or(0, Stopwatch::bytes);
        for slot in &mut self.slots {
            slot.readback = readback(&self.gpu, bytes)?;
        }
        self.log = log;
        Ok(())
    }

    pub fn stopwatch(&self) -> Option<&Stopwatch> {
        self.stopwatch.as_ref()
    }

    /// Where the timestamps lie behind the metrics.
    pub fn ticks_offset(&self) -> u64 {
        (self.metrics as u64 * 4).next_multiple_of(8)
    }

    /// Whether anything is read back.
    fn reads(&self) -> bool {
        self.metrics > 0 || self.stopwatch.is_some()
    }

    /// Frees the next slot, waiting for its last step if need be.
    pub fn wait_for_slot(&mut self) -> Result<()> {
        self.land(self.next, true).map(drop)
    }

    /// Lets `fill` write the upload of the free slot. Gives the buffers to copy from and to.
    pub fn begin(&mut self, fill: impl FnOnce(&mut wgpu::BufferViewMut)) -> Result<(wgpu::Buffer, wgpu::Buffer)> {
        let slot = &self.slots[self.next];
        let mut view =
            slot.upload.get_mapped_range_mut(..).map_err(|error| self.failed("the upload buffer", &error))?;
        fill(&mut view);
        drop(view);
        slot.upload.unmap();
        slot.upload_state.store(PENDING, Ordering::Release);
        Ok((slot.upload.clone(), slot.readback.clone()))
    }

    /// Notes that the step whose upload was just filled has been submitted.
    pub fn submitted(&mut self, step: u64, submission: wgpu::SubmissionIndex) {
        let reads = self.reads();
        let slot = &mut self.slots[self.next];
        map(&slot.upload, wgpu::MapMode::Write, &slot.upload_state);
        slot.readback_state.store(PENDING, Ordering::Release);
        if reads {
            map(&slot.readback, wgpu::MapMode::Read, &slot.readback_state);
        }
        slot.flight = Some((step, submission));
        self.next = (self.next + 1) % SLOTS;
    }

    /// The metrics that have arrived, oldest first.
    pub fn arrived(&mut self, wait: bool) -> Result<Vec<Metrics>> {
        if !wait {
            self.gpu.poll()?;
        }
        self.land_all(wait)?;
        Ok(self.arrived.drain(..).collect())
    }

    /// Takes what has arrived, oldest first.
    pub fn land_all(&mut self, wait: bool) -> Result<()> {
        for age in 0..SLOTS {
            let index = (self.next + age) % SLOTS;
            if !self.land(index, wait)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes metrics and timestamps of a slot whose step has finished; whether it has.
    fn land(&mut self, index: usize, wait: bool) -> Result<bool> {
        let reads = self.reads();
        let slot = &mut self.slots[index];
        let Some((step, submission)) = slot.flight.clone() else { return Ok(true) };
        let states = |slot: &Slot| {
            let upload = slot.upload_state.load(Ordering::Acquire);
            let readback = if reads { slot.readback_state.load(Ordering::Acquire) } else { READY };
            (upload, readback)
        };
        if states(slot) != (READY, READY) {
            if wait {
                let what = format!("step {step}");
                self.gpu.wait(submission, &what)?;
                self.gpu.wait_for_callback(&what, || {
                    let (upload, readback) = states(slot);
                    upload != PENDING && readback != PENDING
                })?;
            } else if !matches!(states(slot), (FAILED, _) | (_, FAILED)) {
                return Ok(false);
            }
        }
        if states(slot) != (READY, READY) {
            return Err(self.failed("the staging buffers of a step", &"mapping was refused"));
        }
        slot.flight = None;
        if reads {
            let slot = &self.slots[index];
            let view = slot.readback.get_mapped_range(..).map_err(|error| self.failed("the metrics buffer", &error))?;
            if self.metrics > 0 {
                let values = bytemuck::pod_collect_to_vec(&view[..self.metrics * 4]);
                self.arrived.push_back(Metrics { step, values });
            }
            if let Some(stopwatch) = &self.stopwatch {
                let bytes = &view[self.ticks_offset() as usize..][..stopwatch.bytes() as usize];
                stopwatch.read(&bytemuck::pod_collect_to_vec(bytes), &mut self.log);
            }
            drop(view);
            slot.readback.unmap();
        }
        Ok(true)
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        self.gpu.check().err().unwrap_or_else(|| Error::Device {
            adapter: self.gpu.name().to_owned(),
            message: format!("{what}: {error}"),
        })
    }
}

fn readback(gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
    gpu.buffer("step metrics", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

fn map(buffer: &wgpu::Buffer, mode: wgpu::MapMode, state: &Arc<AtomicU8>) {
    state.store(PENDING, Ordering::Release);
    let state = Arc::clone(state);
    buffer.map_async(mode, .., move |result| {
        state.store(if result.is_ok() { READY } else { FAILED }, Ordering::Release);
    });
}
