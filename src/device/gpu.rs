//! An open GPU: wgpu's device and queue, what they can do, and what went wrong on them.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cache::PipelineCache;
use super::capabilities::{Capabilities, Tier, below_floor, meets_floor};
use super::kernel::KernelCache;
use super::summary::describe;
use super::sync::lock;
use crate::{Error, Result};

/// Environment variable with the longest wait for the device, in whole seconds.
pub const TIMEOUT_VARIABLE: &str = "RECEPTIVE_TIMEOUT";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// An open GPU. Shared as `Arc<Gpu>`; all methods take `&self` and may be called from any thread.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    name: String,
    capabilities: Capabilities,
    timeout: Duration,
    health: Arc<Health>,
    pub(super) cache: Option<PipelineCache>,
    pub(super) kernels: KernelCache,
    pub(super) pipelines_created: AtomicU64,
    pub(super) buffers_created: AtomicU64,
    pub(super) bytes_created: AtomicU64,
    /// What small reads go through, one after the other.
    pub(super) staging: Mutex<Option<wgpu::Buffer>>,
}

/// What is known to have gone wrong. Written by callbacks that may run on any thread, and by waits that find the device
/// gone.
#[derive(Default)]
pub(super) struct Health {
    lost: Mutex<Option<String>>,
    error: Mutex<Option<wgpu::Error>>,
}

impl Health {
    /// Installs the callbacks: without them wgpu panics at the first error outside a scope.
    fn watch(self: &Arc<Self>, device: &wgpu::Device, name: &str) {
        let (errors, adapter) = (Arc::clone(self), name.to_owned());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            log::error!("{adapter}: {error}");
            lock(&errors.error).get_or_insert(error);
        }));
        let (losses, adapter) = (Arc::clone(self), name.to_owned());
        device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            match reason {
                wgpu::DeviceLostReason::Destroyed => log::debug!("{adapter}: {message}"),
                _ => log::error!("{adapter}: the device was lost: {message}"),
            }
            lock(&losses.lost).get_or_insert(message);
        });
    }
}

impl Gpu {
    /// A device opened by the crate, or by the application (`owned` is false: no callbacks are installed).
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        matrix: Option<u32>,
        cap: Tier,
        owned: bool,
    ) -> Result<Gpu> {
        let info = device.adapter_info();
        let name = describe(&info);
        meets_floor(&device.limits())
            .map_err(|missing| Error::NoDevice { asked: name.clone(), message: below_floor(&missing) })?;
        let timeout = timeout_from_env()?;
        let health = Arc::new(Health::default());
        if owned {
            health.watch(&device, &name);
        }
        let mut gpu = Gpu {
            capabilities: Capabilities::of_device(&device, matrix, cap),
            timeout,
            health,
            cache: None,
            device,
            queue,
            info,
            name,
            kernels: KernelCache::default(),
            pipelines_created: AtomicU64::new(0),
            buffers_created: AtomicU64::new(0),
            bytes_created: AtomicU64::new(0),
            staging: Mutex::new(None),
        };
        if owned {
            let (cache, error) = gpu.capture(|| PipelineCache::open(&gpu.device));
            match error {
                None => gpu.cache = cache,
                Some(error) => log::debug!("compiled pipelines: {error}"),
            }
        }
        Ok(gpu)
    }

    /// wgpu's device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// wgpu's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The adapter, as wgpu describes it.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// Name, backend and driver of the adapter in one line, as in error messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Compute pipelines created since the device was opened.
    pub fn pipelines_created(&self) -> u64 {
        self.pipelines_created.load(Ordering::Relaxed)
    }

    /// The file of compiled pipelines, and how many bytes were read from it when the device was opened. Nothing where
    /// pipelines are not kept.
    pub fn pipeline_cache(&self) -> Option<(&Path, usize)> {
        self.cache.as_ref().map(|cache| (cache.path(), cache.loaded()))
    }

    /// Buffers created through [`Gpu::buffer`] since the device was opened, staging buffers of reads included.
    pub fn buffers_created(&self) -> u64 {
        self.buffers_created.load(Ordering::Relaxed)
    }

    /// Bytes of all those buffers, freed ones included.
    pub fn bytes_created(&self) -> u64 {
        self.bytes_created.load(Ordering::Relaxed)
    }

    /// Whether the device still stands and nothing failed outside an error scope since the last call.
    ///
    /// On an application's own device this tells only of a loss that a wait or read found, because no callbacks are
    /// installed there; the application's own handlers hear of everything else.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] once and for all after a loss; otherwise [`Error::Device`] or [`Error::OutOfMemory`] for
    /// the first failure since the last call, which is then forgotten.
    pub fn check(&self) -> Result<()> {
        self.check_lost()?;
        let error = lock(&self.health.error).take();
        match error {
            Some(error) => Err(self.typed(error, "recording or submitting commands", 0)),
            None => Ok(()),
        }
    }

    /// Runs `work` with all of wgpu's errors caught and returned instead of sent to a handler.
    ///
    /// `what` names the work in the error. Scopes belong to a thread: `work` must create and record on this one.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Device`] or [`Error::OutOfMemory`].
    pub fn scoped<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T> {
        self.scoped_bytes(what, 0, work)
    }

    /// [`Gpu::scoped`] for work that needs `bytes` of device memory.
    pub(super) fn scoped_bytes<T>(&self, what: &str, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        let (value, error) = self.capture(work);
        self.check_lost()?;
        match error {
            Some(error) => {
                // What is wrong may be no more than that the device is gone.
                self.probe()?;
                Err(self.typed(error, what, bytes))
            }
            None => Ok(value),
        }
    }

    /// Runs `work` and returns the first error of the kind that says most: validation, memory, then internal.
    pub(super) fn capture<T>(&self, work: impl FnOnce() -> T) -> (T, Option<wgpu::Error>) {
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = work();
        // A popped scope is ready at once on native backends.
        let validation = pollster::block_on(validation.pop());
        let memory = pollster::block_on(memory.pop());
        let internal = pollster::block_on(internal.pop());
        (value, validation.or(memory).or(internal))
    }

    pub(super) fn typed(&self, error: wgpu::Error, what: &str, bytes: u64) -> Error {
        let adapter = self.name.clone();
        match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory { adapter, what: what.to_owned(), bytes },
            error => Error::Device { adapter, message: format!("{what}: {}", error.to_string().trim_end()) },
        }
    }

    /// Remembers a loss; the error for it, with the first reason that became known.
    pub(super) fn lost(&self, message: &str) -> Error {
        let message = lock(&self.health.lost).get_or_insert_with(|| message.to_owned()).clone();
        Error::DeviceLost { adapter: self.name.clone(), message }
    }

    pub(super) fn check_lost(&self) -> Result<()> {
        let lost = lock(&self.health.lost).clone();
        match lost {
            Some(message) => Err(Error::DeviceLost { adapter: self.name.clone(), message }),
            None => Ok(()),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("name", &self.name)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// One line: name, backend, driver and tier.
impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, tier {}", self.name, self.capabilities.tier)
    }
}

fn timeout_from_env() -> Result<Duration> {
    match std::env::var(TIMEOUT_VARIABLE) {
        Err(std::env::VarError::NotPresent) => Ok(DEFAULT_TIMEOUT),
        Err(error) => Err(Error::Config(format!("{TIMEOUT_VARIABLE}: {error}"))),
        Ok(text) => match text.trim().parse() {
            Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
            _ => Err(Error::Config(format!("{TIMEOUT_VARIABLE}=\"{text}\": a whole number of seconds, 1 or more"))),
        },
    }
}
