//! Kernels: WGSL sources with defines and constants.

use std::fmt;
use std::sync::Arc;

use super::sync::Slots;
use super::{preprocess, shaders};
use crate::{Error, Result};

pub use super::shaders::names as shader_names;

/// Size in bytes of the uniform buffer at binding 0 of every kernel: the parameters of one dispatch.
pub const PARAMETER_BYTES: u64 = 256;

/// Storage buffers that a kernel may bind: what every WebGPU device has.
pub(super) const MAX_STORAGE_BUFFERS: usize = 8;

/// The name under which `shaders/shared/storage.wgsl` stores activations and weights as `f16`.
pub(crate) const HALF: &str = "HALF";
/// The same without `f16` in shaders.
pub(crate) const HALF_PACKED: &str = "HALF_PACKED";

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

    pub(super) fn preprocess(&self, source: &str) -> Result<String> {
        let text = preprocess::preprocess(self.shader, source, &self.defines, &self.constants, shaders::shared)
            .map_err(|error| self.error(error.to_string()))?;
        // WGSL wants it before everything else. On the first line, so that lines keep their numbers.
        Ok(if self.defines.contains(&HALF) { format!("enable f16; {text}") } else { text })
    }

    pub(super) fn error(&self, message: String) -> Error {
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

/// The entries of a kernel's bind group.
pub(super) fn layout_entries(access: &[Access]) -> Vec<wgpu::BindGroupLayoutEntry> {
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
