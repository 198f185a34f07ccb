//! What an adapter is, in a line.

use std::fmt;

/// What is known of an adapter before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// The adapter's name, any part of which [`Device::select`](super::Device::select) takes.
    pub name: String,
    /// Vulkan, Metal, DX12, …
    pub backend: wgpu::Backend,
    /// Discrete, integrated, virtual, software (`Cpu`) or unknown.
    pub kind: wgpu::DeviceType,
    /// Name and version of the driver.
    pub driver: String,
}

impl AdapterSummary {
    pub(super) fn new(info: &wgpu::AdapterInfo) -> AdapterSummary {
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        AdapterSummary { name: info.name.clone(), backend: info.backend, kind: info.device_type, driver }
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "unknown kind",
        };
        write!(f, "{} ({}, {kind}", self.name, backend_name(self.backend))?;
        if self.driver.is_empty() { f.write_str(")") } else { write!(f, ", {})", self.driver) }
    }
}

/// Name, backend, kind and driver in one line.
pub(super) fn describe(info: &wgpu::AdapterInfo) -> String {
    AdapterSummary::new(info).to_string()
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        wgpu::Backend::Gl => "OpenGL",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Noop => "noop",
    }
}
