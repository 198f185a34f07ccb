//! Which adapters there are, which one a name means, and how it is opened.

use std::sync::Arc;

use super::capabilities::{Tier, below_floor, meets_floor};
use super::gpu::Gpu;
use super::summary::{AdapterSummary, describe};
use super::unsafe_wgpu;
use crate::{Error, Result};

/// What kind of adapter is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// A real GPU.
    Gpu,
    /// A software adapter.
    Software,
    /// Any adapter of a backend, a real GPU rather than software.
    Backend(wgpu::Backend),
    /// Any adapter whose name contains this, in either case of letters.
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    pub(super) fn parse(name: &'a str) -> Wanted<'a> {
        match name.to_ascii_lowercase().as_str() {
            "gpu" => Wanted::Gpu,
            "software" => Wanted::Software,
            "vulkan" => Wanted::Backend(wgpu::Backend::Vulkan),
            "metal" => Wanted::Backend(wgpu::Backend::Metal),
            "dx12" => Wanted::Backend(wgpu::Backend::Dx12),
            _ => Wanted::Name(name),
        }
    }

    fn admits(self, info: &wgpu::AdapterInfo) -> bool {
        match self {
            Wanted::Gpu => is_real(info.device_type),
            Wanted::Software => info.device_type == wgpu::DeviceType::Cpu,
            Wanted::Backend(backend) => info.backend == backend,
            Wanted::Name(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
        }
    }
}

fn is_real(kind: wgpu::DeviceType) -> bool {
    !matches!(kind, wgpu::DeviceType::Cpu)
}

/// Lower is better. The order among equals is the driver's, so the choice is the same in every run.
fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let backend = match info.backend {
        wgpu::Backend::Vulkan | wgpu::Backend::Metal => 0,
        wgpu::Backend::Dx12 => 1,
        _ => 2,
    };
    (kind, backend)
}

/// Every adapter of the backends that are compiled in, best first. `WGPU_BACKEND` narrows the backends, as in all
/// programs that use wgpu.
pub(super) fn enumerate() -> Vec<wgpu::Adapter> {
    // `Instance::new` panics where no backend is compiled in.
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let descriptor = wgpu::InstanceDescriptor {
        // Refuse a buffer that would make the driver page, with a typed error, while work in flight goes on.
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(95),
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    };
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.retain(|adapter| adapter.get_info().backend != wgpu::Backend::Noop);
    adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
    adapters
}

pub(super) fn summaries(adapters: &[wgpu::Adapter]) -> Vec<AdapterSummary> {
    adapters.iter().map(|adapter| AdapterSummary::new(&adapter.get_info())).collect()
}

/// All adapters in a list for a message.
pub(super) fn list(adapters: &[wgpu::Adapter]) -> String {
    if adapters.is_empty() {
        return "no adapters at all".to_owned();
    }
    summaries(adapters).iter().map(AdapterSummary::to_string).collect::<Vec<_>>().join("; ")
}

/// Opens the best of `adapters` that is `wanted`, going on to the next one where a driver refuses.
pub(super) fn open_best(adapters: &[wgpu::Adapter], wanted: Wanted<'_>, asked: &str) -> Result<Arc<Gpu>> {
    let cap = Tier::cap_from_env()?;
    let mut refusals = Vec::new();
    for adapter in adapters.iter().filter(|adapter| wanted.admits(&adapter.get_info())) {
        match open(adapter, cap) {
            Ok(gpu) => return Ok(Arc::new(gpu)),
            Err(error @ Error::Config(_)) => return Err(error),
            Err(error) => {
                log::warn!("{error}");
                refusals.push(error.to_string());
            }
        }
    }
    let tried = if refusals.is_empty() { String::new() } else { format!("; tried: {}", refusals.join("; ")) };
    let message = format!(
        "there is: {}; ask for \"auto\", \"cpu\", \"gpu\", \"software\", a backend (\"vulkan\", \"metal\", \"dx12\") or \
         part of an adapter's name{tried}",
        list(adapters)
    );
    Err(Error::NoDevice { asked: asked.to_owned(), message })
}

/// Opens each of `adapters`.
pub(super) fn open_all(adapters: &[wgpu::Adapter]) -> Result<Vec<(AdapterSummary, Result<Arc<Gpu>>)>> {
    let cap = Tier::cap_from_env()?;
    let all = adapters.iter().zip(summaries(adapters));
    Ok(all.map(|(adapter, summary)| (summary, open(adapter, cap).map(Arc::new))).collect())
}

/// Opens one adapter with all its limits and the features the kernels know, or fewer where the driver refuses them.
fn open(adapter: &wgpu::Adapter, cap: Tier) -> Result<Gpu> {
    let name = describe(&adapter.get_info());
    let no_device = |message: String| Error::NoDevice { asked: name.clone(), message };
    meets_floor(&adapter.limits()).map_err(|missing| no_device(below_floor(&missing)))?;

    let limits = match cap {
        Tier::Floor => wgpu::Limits::defaults().or_worse_values_from(&adapter.limits()),
        _ => adapter.limits(),
    };
    let matrix = matrix_size(adapter.get_info().backend, &adapter.cooperative_matrix_properties());
    let wanted = adapter.features() & wanted_features(cap, matrix.is_some());
    let experimental = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let mut attempts = vec![wanted, wanted.difference(experimental), wgpu::Features::empty()];
    attempts.dedup();

    let mut refusal = String::new();
    for features in attempts {
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("receptive"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: if features.contains(experimental) {
                unsafe_wgpu::experimental_features()
            } else {
                wgpu::ExperimentalFeatures::disabled()
            },
            // The crate makes few, large buffers, so big blocks to carve small ones from would lie idle.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        });
        match pollster::block_on(request) {
            Ok((device, queue)) => return Gpu::new(device, queue, matrix, cap, true),
            Err(error) => {
                log::warn!("{name}: could not be opened with {features:?}: {error}");
                refusal = error.to_string();
            }
        }
    }
    Err(no_device(format!("the driver refused to open it: {refusal}")))
}

fn wanted_features(cap: Tier, matrices: bool) -> wgpu::Features {
    let mut features = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
    features.set(wgpu::Features::SHADER_F16, cap >= Tier::F16);
    features.set(wgpu::Features::SUBGROUP, cap >= Tier::Subgroups);
    features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, matrices && cap >= Tier::CooperativeMatrix);
    features
}

/// The size of the cooperative matrices that the kernels use, 16×16×16 rather than 8×8×8, with factors of f16 and sums of
/// f32; nothing where the adapter has no such. On Vulkan only: for Metal naga 30 can't load them from vectors.
fn matrix_size(backend: wgpu::Backend, reported: &[wgpu::CooperativeMatrixProperties]) -> Option<u32> {
    let has = |size: u32| {
        reported.iter().any(|matrix| {
            (matrix.m_size, matrix.n_size, matrix.k_size) == (size, size, size)
                && matrix.ab_type == wgpu::CooperativeScalarType::F16
                && matrix.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|&size| backend == wgpu::Backend::Vulkan && has(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: wgpu::DeviceType, backend: wgpu::Backend) -> wgpu::AdapterInfo {
        wgpu::AdapterInfo { name: name.to_owned(), ..wgpu::AdapterInfo::new(kind, backend) }
    }

    #[test]
    fn better_hardware_comes_first() {
        use wgpu::{Backend, DeviceType};
        let mut infos = [
            info("llvmpipe", DeviceType::Cpu, Backend::Vulkan),
            info("other", DeviceType::Other, Backend::Vulkan),
            info("discrete", DeviceType::DiscreteGpu, Backend::Dx12),
            info("virtual", DeviceType::VirtualGpu, Backend::Vulkan),
            info("integrated", DeviceType::IntegratedGpu, Backend::Vulkan),
            info("discrete", DeviceType::DiscreteGpu, Backend::Vulkan),
            info("discrete 2", DeviceType::DiscreteGpu, Backend::Vulkan),
        ];
        infos.sort_by_key(rank);
        let names: Vec<_> = infos.iter().map(|info| (info.name.as_str(), info.backend)).collect();
        let expected = [
            ("discrete", Backend::Vulkan),
            ("discrete 2", Backend::Vulkan),
            ("discrete", Backend::Dx12),
            ("integrated", Backend::Vulkan),
            ("virtual", Backend::Vulkan),
            ("other", Backend::Vulkan),
            ("llvmpipe", Backend::Vulkan),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn names_mean_adapters() {
        use wgpu::{Backend, DeviceType};
        let real = info("NVIDIA H100 80GB", DeviceType::DiscreteGpu, Backend::Vulkan);
        let software = info("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu, Backend::Vulkan);
        let cases = [
            ("gpu", true, false),
            ("GPU", true, false),
            ("software", false, true),
            ("vulkan", true, true),
            ("metal", false, false),
            ("h100", true, false),
            ("LLVMpipe", false, true),
            ("radeon", false, false),
        ];
        for (name, admits_real, admits_software) in cases {
            let wanted = Wanted::parse(name);
            assert_eq!((wanted.admits(&real), wanted.admits(&software)), (admits_real, admits_software), "{name}");
        }
    }

    #[test]
    fn a_cap_leaves_features_out() {
        use wgpu::Features;
        assert_eq!(wanted_features(Tier::Floor, true), Features::TIMESTAMP_QUERY | Features::PIPELINE_CACHE);
        assert!(!wanted_features(Tier::F16, true).contains(Features::SUBGROUP));
        assert!(!wanted_features(Tier::Subgroups, true).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX));
        assert!(wanted_features(Tier::CooperativeMatrix, true).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX));
        assert!(!wanted_features(Tier::CooperativeMatrix, false).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX));
    }

    #[test]
    fn the_larger_matrices_are_taken() {
        use wgpu::{Backend, CooperativeScalarType as Scalar};
        let matrix = |[m_size, n_size, k_size]: [u32; 3], ab_type, cr_type| wgpu::CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let small = matrix([8, 8, 8], Scalar::F16, Scalar::F32);
        let large = matrix([16, 16, 16], Scalar::F16, Scalar::F32);
        let others = [
            matrix([16, 16, 16], Scalar::F16, Scalar::F16),
            matrix([8, 8, 8], Scalar::F32, Scalar::F32),
            matrix([16, 8, 16], Scalar::F16, Scalar::F32),
        ];
        assert_eq!(matrix_size(Backend::Vulkan, &others), None);
        assert_eq!(matrix_size(Backend::Vulkan, &[others[0], small]), Some(8));
        assert_eq!(matrix_size(Backend::Vulkan, &[small, large, others[2]]), Some(16));
        assert_eq!(matrix_size(Backend::Metal, &[small]), None);
    }
}
