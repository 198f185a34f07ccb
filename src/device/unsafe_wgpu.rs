//! The two calls of wgpu that are `unsafe`, and nothing else: no other module of the crate may use `unsafe`.
#![allow(unsafe_code)]

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
