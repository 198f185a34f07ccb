//! The calls of wgpu that are `unsafe`, and nothing else: no other module of the crate may use `unsafe`.
#![allow(unsafe_code)]

use super::cache::CacheData;

/// Permission to ask for experimental features; the crate asks for cooperative matrices only.
pub(super) fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: the contract is to accept that experimental features may have bugs that lead to undefined behaviour.
    // Cooperative matrices are asked for only where the adapter reports the one configuration the kernels use, those
    // kernels are compared with the portable ones in the tests, and `RECEPTIVE_TIER` turns them off.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// Compiles one of the crate's own shaders without the loop counters that wgpu adds to every loop.
///
/// Bounds checks and division checks stay on. Errors go to the caller's error scope.
pub(super) fn create_shader_module(device: &wgpu::Device, label: &str, wgsl: String) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
    let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
    // SAFETY: the check that is left out guards against loops without end, which compilers may take for unreachable
    // code. The only sources that get here are the crate's own (`shaders/`), whose loops all have finite bounds.
    unsafe { device.create_shader_module_trusted(descriptor, checks) }
}

/// A cache of pipelines, with what an earlier one gave if that suits this device. Errors go to the caller's error scope.
pub(super) fn create_pipeline_cache(device: &wgpu::Device, data: Option<&CacheData>) -> wgpu::PipelineCache {
    let descriptor = wgpu::PipelineCacheDescriptor {
        label: Some("receptive"),
        data: data.map(CacheData::bytes),
        // Data of another driver are left out.
        fallback: true,
    };
    // SAFETY: the data must be what `PipelineCache::get_data` gave before. A `CacheData` is made only by reading a file that
    // begins with the hash of its contents and of adapter, driver and version of the crate, which the crate wrote with the
    // bytes that `get_data` gave; a file that is damaged, cut off or of something else is refused. That nobody forges one
    // in the user's own folder is the trust that a driver puts into its own cache there.
    unsafe { device.create_pipeline_cache(&descriptor) }
}
