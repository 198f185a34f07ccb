//! Kernels: WGSL sources with defines and constants, compiled once and kept.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gpu::{Gpu, Slots, lock};
use super::{preprocess, shaders, unsafe_wgpu};
use crate::{Error, Result};

pub use super::shaders::names as shader_names;

/// Size in bytes of the uniform buffer at binding 0 of every kernel: the parameters of one dispatch.
pub const PARAMETER_BYTES: u64 = 256;

/// Storage buffers that a kernel may bind: what every WebGPU device has.
const MAX_STORAGE_BUFFERS: usize = 8;

/// How a kernel uses a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// What a kernel is compiled from. Bind group 0 holds all bindings: at 0 a uniform buffer of [`PARAMETER_BYTES`], from 1
/// on the storage buffers in the order of `access`, at most 8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelKey {
    /// File name in `shaders/` without its ending.
    pub shader: &'static str,
    /// Entry point.
    pub entry: &'static str,
    /// Names that `#ifdef` finds defined.
    pub defines: Vec<&'static str>,
    /// Values of the shader's `override` constants.
    pub constants: Vec<(&'static str, u32)>,
    /// How each storage buffer is used.
    pub access: Vec<Access>,
}

impl KernelKey {
    /// The WGSL that this key compiles: imports resolved, defines applied. Constants are given at pipeline creation.
    ///
    /// # Errors
    /// [`Error::Shader`] if there is no such shader or its directives are wrong.
    pub fn wgsl(&self) -> Result<String> {
        let source = shaders::source(self.shader).ok_or_else(|| {
            let known: Vec<&str> = shader_names().collect();
            self.error(format!("there is no such shader; there is: {}", known.join(", ")))
        })?;
        self.preprocess(source)
    }

    fn preprocess(&self, source: &str) -> Result<String> {
        preprocess::preprocess(self.shader, source, &self.defines, shaders::shared)
            .map_err(|error| self.error(error.to_string()))
    }

    fn error(&self, message: String) -> Error {
        Error::Shader { shader: self.shader.to_owned(), variant: self.variant(), message }
    }

    /// Entry point, defines and constants, separated by spaces.
    fn variant(&self) -> String {
        let mut text = self.entry.to_owned();
        for define in &self.defines {
            text.push(' ');
            text.push_str(define);
        }
        for (name, value) in &self.constants {
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }
}

/// Shader, entry point, defines and constants: the label of the pipeline in messages and captures.
impl fmt::Display for KernelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shader, self.variant())
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// The layout of bind group 0.
    pub layout: wgpu::BindGroupLayout,
    /// The key as text.
    pub label: String,
}

/// Compiled kernels by key.
pub(super) type KernelCache = Slots<KernelKey, Arc<Kernel>>;

impl Gpu {
    /// The kernel of a key, compiled at the first call. Different kernels may be compiled on several threads at once.
    ///
    /// # Errors
    /// [`Error::Shader`] with the compiler's message; [`Error::DeviceLost`], [`Error::OutOfMemory`].
    pub fn kernel(&self, key: &KernelKey) -> Result<Arc<Kernel>> {
        let slot = Arc::clone(lock(&self.kernels).entry(key.clone()).or_default());
        let mut slot = lock(&slot);
        if let Some(kernel) = &*slot {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(self.compile(key, key.wgsl()?, unsafe_wgpu::create_shader_module)?);
        *slot = Some(Arc::clone(&kernel));
        Ok(kernel)
    }

    /// A kernel of the caller's own WGSL, which may use the directives and imports of the crate's shaders; `key.shader`
    /// only names it. All of wgpu's checks stay on. The kernel is compiled at every call, not kept.
    ///
    /// # Errors
    /// As [`Gpu::kernel`].
    pub fn kernel_from_wgsl(&self, key: &KernelKey, source: &str) -> Result<Arc<Kernel>> {
        let checked = |device: &wgpu::Device, label: &str, wgsl: String| {
            let source = wgpu::ShaderSource::Wgsl(wgsl.into());
            device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
        };
        self.compile(key, key.preprocess(source)?, checked).map(Arc::new)
    }

    fn compile(
        &self,
        key: &KernelKey,
        wgsl: String,
        module: impl Fn(&wgpu::Device, &str, String) -> wgpu::ShaderModule,
    ) -> Result<Kernel> {
        if key.access.len() > MAX_STORAGE_BUFFERS {
            let message = format!("{} storage buffers, at most {MAX_STORAGE_BUFFERS} are allowed", key.access.len());
            return Err(key.error(message));
        }
        let label = key.to_string();
        let (kernel, error) = self.capture(|| self.create(key, &module(self.device(), &label, wgsl), label.clone()));
        self.check_lost()?;
        if error.is_some() {
            self.probe()?;
        }
        match error {
            None => {
                self.pipelines_created.fetch_add(1, Ordering::Relaxed);
                Ok(kernel)
            }
            Some(error @ wgpu::Error::OutOfMemory { .. }) => Err(self.typed(error, &kernel.label, 0)),
            Some(error) => Err(key.error(format!("{} on {}", error.to_string().trim_end(), self.name()))),
        }
    }

    fn create(&self, key: &KernelKey, module: &wgpu::ShaderModule, label: String) -> Kernel {
        let device = self.device();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &layout_entries(&key.access),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let constants: Vec<(&str, f64)> =
            key.constants.iter().map(|(name, value)| (*name, f64::from(*value))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // The kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Kernel { pipeline, layout, label }
    }
}

fn layout_entries(access: &[Access]) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding: usize, ty: wgpu::BufferBindingType, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size },
        count: None,
    };
    let parameters = entry(0, wgpu::BufferBindingType::Uniform, wgpu::BufferSize::new(PARAMETER_BYTES));
    let storage = access.iter().enumerate().map(|(index, access)| {
        let read_only = *access == Access::Read;
        entry(index + 1, wgpu::BufferBindingType::Storage { read_only }, None)
    });
    std::iter::once(parameters).chain(storage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KernelKey {
        KernelKey {
            shader: "no_such_shader",
            entry: "main",
            defines: vec!["F16", "BIAS"],
            constants: vec![("tile", 64), ("taps", 2)],
            access: vec![Access::Read, Access::ReadWrite],
        }
    }

    #[test]
    fn the_label_tells_variants_apart() {
        assert_eq!(key().to_string(), "no_such_shader/main F16 BIAS tile=64 taps=2");
    }

    #[test]
    fn an_unknown_shader_is_an_error() {
        let error = key().wgsl().unwrap_err();
        assert!(matches!(&error, Error::Shader { shader, .. } if shader == "no_such_shader"), "{error}");
    }

    #[test]
    fn bindings_follow_the_access_list() {
        let entries = layout_entries(&key().access);
        let kinds: Vec<_> = entries.iter().map(|entry| (entry.binding, entry.ty)).collect();
        let buffer =
            |ty, min_binding_size| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size };
        assert_eq!(
            kinds,
            [
                (0, buffer(wgpu::BufferBindingType::Uniform, wgpu::BufferSize::new(256))),
                (1, buffer(wgpu::BufferBindingType::Storage { read_only: true }, None)),
                (2, buffer(wgpu::BufferBindingType::Storage { read_only: false }, None)),
            ]
        );
    }
}
