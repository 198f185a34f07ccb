//! Compiling kernels, once each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::cache::PipelineCache;
use super::gpu::Gpu;
use super::kernel::{Kernel, KernelKey, MAX_STORAGE_BUFFERS, layout_entries};
use super::sync::lock;
use super::unsafe_wgpu;
use crate::Result;

impl Gpu {
    /// Compiles the kernels of some keys on all threads, and keeps what is new in the file of compiled pipelines.
    ///
    /// # Errors
    /// As [`Gpu::kernel`].
    pub(crate) fn compile_all<'k>(&self, keys: impl IntoParallelIterator<Item = &'k KernelKey>) -> Result<()> {
        let before = self.pipelines_created();
        keys.into_par_iter().try_for_each(|key| self.kernel(key).map(drop))?;
        if let Some(cache) = self.cache.as_ref().filter(|_| self.pipelines_created() > before) {
            cache.save();
        }
        Ok(())
    }

    /// The kernel of a key, compiled at the first call. Different kernels may be compiled on several threads at once.
    ///
    /// # Errors
    /// [`Error::Shader`](crate::Error::Shader) with the compiler's message; [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
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
            cache: self.cache.as_ref().map(PipelineCache::wgpu),
        });
        Kernel { pipeline, layout, label }
    }
}
