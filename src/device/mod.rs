//! Between the crate and wgpu: which device to use, what it can do, its buffers, pipelines and errors.
//!
//! | Environment variable | Meaning |
//! |---|---|
//! | `RECEPTIVE_DEVICE` | the device that [`Device::auto`] takes, in the syntax of [`Device::select`] |
//! | `RECEPTIVE_TIER` | `floor`, `f16`, `subgroups` or `coop`: use nothing above this [`Tier`]; at `floor` the limits are those every WebGPU device has |
//! | `RECEPTIVE_CACHE` | the folder for compiled pipelines, or `off`; if not set, `receptive` in the user's folder for caches (`$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`) |
//! | `RECEPTIVE_TIMEOUT` | the longest wait for the device in whole seconds, 60 if not set |
//!
//! Compiled pipelines are kept where wgpu can do that (Vulkan), and only for devices that the crate opened: an application
//! that brings its own device decides for itself. The file may be deleted at any time.
//!
//! wgpu's own variables (`WGPU_BACKEND`, `WGPU_VALIDATION`, …) work as in any program that uses it.

mod adapters;
mod buffers;
mod cache;
mod capabilities;
mod gpu;
mod kernel;
mod pipeline;
mod preprocess;
mod shaders;
mod summary;
mod sync;
mod unsafe_wgpu;
mod variant;

use std::fmt;
use std::sync::Arc;

pub use cache::CACHE_VARIABLE;
pub use capabilities::{Capabilities, TIER_VARIABLE, Tier};
pub use gpu::{Gpu, TIMEOUT_VARIABLE};
pub use kernel::{Access, Kernel, KernelKey, PARAMETER_BYTES, shader_names};
pub(crate) use kernel::{HALF, HALF_PACKED};
pub use summary::AdapterSummary;
pub(crate) use variant::names;
pub use variant::{Choice, Family, Variant, always, choose};

use crate::{Error, Result};
use adapters::Wanted;

/// Environment variable that overrides the choice of [`Device::auto`].
pub const DEVICE_VARIABLE: &str = "RECEPTIVE_DEVICE";

/// Where a program runs: the CPU executor or a GPU. Clones share the device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The multi-threaded CPU executor.
    Cpu,
    /// A GPU.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// The device that `RECEPTIVE_DEVICE` names; without it the best real GPU; without that the CPU executor.
    ///
    /// Discrete GPUs come before integrated and virtual ones. Software adapters such as llvmpipe are never taken here:
    /// the CPU executor is faster. What was chosen and why is logged at level `info`.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if `RECEPTIVE_DEVICE` names something that is not there, [`Error::Config`] if another of the
    /// crate's variables has no meaning.
    pub fn auto() -> Result<Device> {
        match std::env::var(DEVICE_VARIABLE) {
            Ok(name) if !is_auto(&name) => {
                let device = Device::explicit(name.trim())?;
                log::info!("{device} ({DEVICE_VARIABLE}={name})");
                Ok(device)
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => Device::best(),
            Err(error) => Err(Error::Config(format!("{DEVICE_VARIABLE}: {error}"))),
        }
    }

    /// The CPU executor.
    pub fn cpu() -> Device {
        Device::Cpu
    }

    /// The best real GPU.
    ///
    /// # Errors
    /// [`Error::NoDevice`], listing the adapters there are, if none is a GPU that can be opened.
    pub fn gpu() -> Result<Device> {
        Device::select("gpu")
    }

    /// The device that a name means:
    ///
    /// | Name | Device |
    /// |---|---|
    /// | `auto` | as [`Device::auto`], the environment variable included |
    /// | `cpu` | the CPU executor |
    /// | `gpu` | the best real GPU |
    /// | `vulkan`, `metal`, `dx12` | the best adapter of that backend, a software adapter if there is no other |
    /// | `software` | a software adapter |
    /// | anything else | the best adapter whose name contains it, in either case of letters (`h100`, `llvmpipe`) |
    ///
    /// # Errors
    /// [`Error::NoDevice`], listing the adapters there are, if no such device can be opened.
    pub fn select(name: &str) -> Result<Device> {
        if is_auto(name) {
            return Device::auto();
        }
        let device = Device::explicit(name.trim())?;
        log::info!("{device} (asked for \"{name}\")");
        Ok(device)
    }

    /// A device that the application opened. Its features and limits decide which kernels run.
    ///
    /// No error handler and no lost callback is installed: the crate finds its errors through error scopes, and the
    /// application keeps its own handlers. If the device is lost, the next wait or read says so; wgpu does not tell of it
    /// earlier than that without a callback. Cooperative matrices are not used, because a device does not tell which
    /// sizes its adapter supports.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if the device was opened with less than 8 storage buffers per stage, 16 KiB of workgroup
    /// memory or 256 invocations per workgroup.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Device> {
        let cap = Tier::cap_from_env()?;
        Ok(Device::Gpu(Arc::new(Gpu::new(device, queue, None, cap, false)?)))
    }

    /// Every adapter of the backends that are compiled in, best first.
    pub fn adapters() -> Vec<AdapterSummary> {
        adapters::summaries(&adapters::enumerate())
    }

    /// Opens every adapter of [`adapters`](Self::adapters), also those that share a name, of which
    /// [`select`](Self::select) takes the best. What can't be opened is an error in its place.
    ///
    /// # Errors
    /// [`Error::Config`] if one of the crate's variables has no meaning.
    pub fn open_all() -> Result<Vec<(AdapterSummary, Result<Device>)>> {
        let opened = adapters::open_all(&adapters::enumerate())?;
        Ok(opened.into_iter().map(|(summary, gpu)| (summary, gpu.map(Device::Gpu))).collect())
    }

    /// The GPU, unless this is the CPU executor.
    pub fn as_gpu(&self) -> Option<&Arc<Gpu>> {
        match self {
            Device::Cpu => None,
            Device::Gpu(gpu) => Some(gpu),
        }
    }

    fn explicit(name: &str) -> Result<Device> {
        if name.eq_ignore_ascii_case("cpu") {
            return Ok(Device::Cpu);
        }
        adapters::open_best(&adapters::enumerate(), Wanted::parse(name), name).map(Device::Gpu)
    }

    fn best() -> Result<Device> {
        let adapters = adapters::enumerate();
        match adapters::open_best(&adapters, Wanted::Gpu, "auto") {
            Ok(gpu) => {
                log::info!("{gpu}: the best GPU there is; {}", gpu.capabilities());
                Ok(Device::Gpu(gpu))
            }
            Err(Error::NoDevice { .. }) => {
                log::info!("no usable GPU, there is: {}; using the CPU executor", adapters::list(&adapters));
                Ok(Device::Cpu)
            }
            Err(error) => Err(error),
        }
    }
}

/// One line: the adapter's name, backend, driver and tier, or "CPU executor".
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("CPU executor"),
            Device::Gpu(gpu) => gpu.fmt(f),
        }
    }
}

fn is_auto(name: &str) -> bool {
    matches!(name.trim(), "") || name.trim().eq_ignore_ascii_case("auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_needs_no_driver() {
        assert!(matches!(Device::select(" CPU "), Ok(Device::Cpu)));
        assert_eq!(Device::cpu().to_string(), "CPU executor");
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = Device::select("no such adapter").unwrap_err();
        assert!(matches!(&error, Error::NoDevice { asked, .. } if asked == "no such adapter"), "{error}");
        let message = error.to_string();
        assert!(message.contains("there is: ") && message.contains("\"software\""), "{message}");
        for adapter in Device::adapters() {
            assert!(message.contains(&adapter.to_string()), "{adapter} is not in: {message}");
        }
    }
}
