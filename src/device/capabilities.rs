//! What a device can do, read once when it is opened.

use std::fmt;

use crate::{Error, Result};

/// Environment variable that caps the tier: `floor`, `f16`, `subgroups` or `coop`.
pub const TIER_VARIABLE: &str = "RECEPTIVE_TIER";

/// Classes of hardware, each with everything the ones below it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// What every WebGPU device has: 32-bit floats, 8 storage buffers, 16 KiB workgroup memory, 256 invocations.
    Floor,
    /// 16-bit floats in shaders.
    F16,
    /// Subgroup operations, with a subgroup width that is the same for every pipeline.
    Subgroups,
    /// Cooperative matrices, f16 factors and f32 sums.
    CooperativeMatrix,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Tier; 4] = [Tier::Floor, Tier::F16, Tier::Subgroups, Tier::CooperativeMatrix];

    /// The tier's name, as in `RECEPTIVE_TIER`.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Floor => "floor",
            Tier::F16 => "f16",
            Tier::Subgroups => "subgroups",
            Tier::CooperativeMatrix => "coop",
        }
    }

    /// The cap that the environment asks for; without one, the highest tier.
    pub(super) fn cap_from_env() -> Result<Tier> {
        match std::env::var(TIER_VARIABLE) {
            Ok(text) => text.parse(),
            Err(std::env::VarError::NotPresent) => Ok(Tier::CooperativeMatrix),
            Err(error) => Err(Error::Config(format!("{TIER_VARIABLE}: {error}"))),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Tier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Tier> {
        let text = text.trim();
        Tier::ALL.into_iter().find(|tier| tier.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::Config(format!("{TIER_VARIABLE}=\"{text}\": the tiers are floor, f16, subgroups and coop"))
        })
    }
}

/// What a device can do. Kernel variants are chosen from this and the shapes alone, so the choice is reproducible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The highest tier whose needs are all met.
    pub tier: Tier,
    /// Shaders may use `f16`.
    pub f16: bool,
    /// Invocations in a subgroup, where subgroup operations exist and the width is the same for every pipeline.
    pub subgroup_width: Option<u32>,
    /// Rows, columns and depth of cooperative matrices, 16 or 8, where there are such with f16 factors and f32 sums, f16
    /// itself and a fixed subgroup width.
    pub cooperative_matrix: Option<u32>,
    /// Passes can be timed on the device.
    pub timestamps: bool,
    /// The largest storage binding, in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Invocations in a workgroup.
    pub max_invocations: u32,
    /// Workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// The adapter runs on the CPU.
    pub software: bool,
    /// Variants to take whether they are worth it or not, (family, variant): see [`Capabilities::forcing`].
    pub forced: Vec<(String, String)>,
}

impl Capabilities {
    /// The least that a WebGPU device has: the default limits and no features.
    pub fn floor() -> Capabilities {
        Capabilities::new(&wgpu::Limits::defaults(), wgpu::Features::empty(), None, None, false)
    }

    /// From what a device was opened with. `matrix` is the size of cooperative matrices that the adapter reports, which
    /// the feature alone does not tell.
    pub(super) fn of_device(device: &wgpu::Device, matrix: Option<u32>, cap: Tier) -> Capabilities {
        let info = device.adapter_info();
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        let width = fixed.then_some(info.subgroup_min_size);
        let software = info.device_type == wgpu::DeviceType::Cpu;
        Capabilities::new(&device.limits(), device.features(), width, matrix, software).capped(cap)
    }

    fn new(
        limits: &wgpu::Limits,
        features: wgpu::Features,
        width: Option<u32>,
        matrix: Option<u32>,
        software: bool,
    ) -> Capabilities {
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        let subgroup_width = width.filter(|_| features.contains(wgpu::Features::SUBGROUP));
        let matrices = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let cooperative_matrix = matrix.filter(|_| f16 && subgroup_width.is_some() && matrices);
        Capabilities {
            tier: Tier::Floor,
            f16,
            subgroup_width,
            cooperative_matrix,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            software,
            forced: vec![],
        }
        .with_tier()
    }

    /// The same, but of a family of kernels (`conv1d`) only the named variant is chosen, wherever that can do the work,
    /// and planning fails where it can't. For measuring and testing variants one by one:
    /// [`Executor::with_capabilities`](crate::exec::Executor::with_capabilities).
    #[must_use]
    pub fn forcing(mut self, family: &str, variant: &str) -> Capabilities {
        self.forced.retain(|(other, _)| other != family);
        self.forced.push((family.to_owned(), variant.to_owned()));
        self
    }

    /// The variant of a family that is forced.
    pub(super) fn forced_variant(&self, family: &str) -> Option<&str> {
        self.forced.iter().find(|(other, _)| other == family).map(|(_, variant)| variant.as_str())
    }

    fn with_tier(mut self) -> Capabilities {
        self.tier = match (self.f16, self.subgroup_width, self.cooperative_matrix) {
            (true, Some(_), Some(_)) => Tier::CooperativeMatrix,
            (true, Some(_), None) => Tier::Subgroups,
            (true, None, _) => Tier::F16,
            (false, _, _) => Tier::Floor,
        };
        self
    }

    /// The same device with nothing above `cap`; at the floor the limits are WebGPU's defaults too.
    pub fn capped(mut self, cap: Tier) -> Capabilities {
        self.cooperative_matrix = self.cooperative_matrix.filter(|_| cap >= Tier::CooperativeMatrix);
        self.subgroup_width = self.subgroup_width.filter(|_| cap >= Tier::Subgroups);
        self.f16 &= cap >= Tier::F16;
        if cap == Tier::Floor {
            let floor = wgpu::Limits::defaults();
            self.max_binding_bytes = self.max_binding_bytes.min(floor.max_storage_buffer_binding_size);
            self.max_buffer_bytes = self.max_buffer_bytes.min(floor.max_buffer_size);
            self.workgroup_bytes = self.workgroup_bytes.min(floor.max_compute_workgroup_storage_size);
            self.max_invocations = self.max_invocations.min(floor.max_compute_invocations_per_workgroup);
            self.max_workgroups = self.max_workgroups.min(floor.max_compute_workgroups_per_dimension);
        }
        self.with_tier()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |value: bool| if value { "yes" } else { "no" };
        write!(f, "tier {}: f16 {}, subgroups ", self.tier, yes_no(self.f16))?;
        let of = |f: &mut fmt::Formatter<'_>, size: Option<u32>| match size {
            Some(size) => write!(f, "of {size}"),
            None => f.write_str("no"),
        };
        of(f, self.subgroup_width)?;
        f.write_str(", cooperative matrices ")?;
        of(f, self.cooperative_matrix)?;
        write!(
            f,
            ", timestamps {}, binding {} MiB, buffer {} MiB, workgroup memory {} KiB, \
             {} invocations, {} workgroups",
            yes_no(self.timestamps),
            self.max_binding_bytes >> 20,
            self.max_buffer_bytes >> 20,
            self.workgroup_bytes >> 10,
            self.max_invocations,
            self.max_workgroups,
        )?;
        if self.software { f.write_str(", software") } else { Ok(()) }
    }
}

/// Whether a device meets the floor that every kernel relies on.
pub(super) fn meets_floor(limits: &wgpu::Limits) -> Result<(), String> {
    let needs = [
        ("storage buffers per shader stage", limits.max_storage_buffers_per_shader_stage, 8),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, 16_384),
        ("invocations per workgroup", limits.max_compute_invocations_per_workgroup, 256),
        ("invocations per workgroup along x", limits.max_compute_workgroup_size_x, 256),
    ];
    let missing: Vec<String> = needs
        .iter()
        .filter(|(_, has, need)| has < need)
        .map(|(what, has, need)| format!("{has} {what} where {need} are needed"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
}

pub(super) fn below_floor(missing: &str) -> String {
    format!("below the least that WebGPU asks for: {missing}; use another adapter, or \"cpu\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best() -> Capabilities {
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: 1 << 32,
            max_buffer_size: 1 << 34,
            max_compute_workgroup_storage_size: 49_152,
            max_compute_invocations_per_workgroup: 1024,
            max_compute_workgroup_size_x: 1024,
            ..wgpu::Limits::defaults()
        };
        let features = wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        Capabilities::new(&limits, features, Some(32), Some(16), false)
    }

    #[test]
    fn a_cap_removes_everything_above_it() {
        assert_eq!(best().tier, Tier::CooperativeMatrix);
        for cap in Tier::ALL {
            let capped = best().capped(cap);
            assert_eq!(capped.tier, cap);
            assert_eq!(capped.f16, cap >= Tier::F16);
            assert_eq!(capped.subgroup_width.is_some(), cap >= Tier::Subgroups);
            assert_eq!(capped.cooperative_matrix.is_some(), cap >= Tier::CooperativeMatrix);
            assert_eq!(capped.max_binding_bytes == 128 << 20, cap == Tier::Floor);
            assert!(capped.timestamps, "timing is no tier");
        }
        let floor = best().capped(Tier::Floor);
        assert_eq!(Capabilities { timestamps: false, ..floor }, Capabilities::floor());
    }

    #[test]
    fn a_tier_needs_everything_below_it() {
        let limits = wgpu::Limits::defaults();
        let subgroups = wgpu::Features::SUBGROUP;
        let matrices = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let without_f16 = Capabilities::new(&limits, subgroups | matrices, Some(32), Some(16), false);
        assert_eq!((without_f16.tier, without_f16.subgroup_width), (Tier::Floor, Some(32)));
        assert_eq!(without_f16.cooperative_matrix, None);
        let f16 = wgpu::Features::SHADER_F16;
        let varying = Capabilities::new(&limits, subgroups | matrices | f16, None, Some(16), false);
        assert_eq!((varying.tier, varying.cooperative_matrix), (Tier::F16, None));
        let other_sizes = Capabilities::new(&limits, subgroups | matrices | f16, Some(32), None, false);
        assert_eq!((other_sizes.tier, other_sizes.cooperative_matrix), (Tier::Subgroups, None));
    }

    #[test]
    fn names_of_tiers_are_read_back() {
        for tier in Tier::ALL {
            assert_eq!(tier.to_string().parse::<Tier>().unwrap(), tier);
        }
        let error = "fast".parse::<Tier>().unwrap_err().to_string();
        assert!(error.contains("RECEPTIVE_TIER") && error.contains("subgroups"), "{error}");
    }

    #[test]
    fn printed_with_every_limit() {
        assert_eq!(
            best().to_string(),
            "tier coop: f16 yes, subgroups of 32, cooperative matrices of 16, timestamps yes, binding 4096 MiB, \
             buffer 16384 MiB, workgroup memory 48 KiB, 1024 invocations, 65535 workgroups"
        );
    }

    #[test]
    fn the_floor_is_checked() {
        assert_eq!(meets_floor(&wgpu::Limits::defaults()), Ok(()));
        let message = meets_floor(&wgpu::Limits::downlevel_webgl2_defaults()).unwrap_err();
        assert!(message.contains("0 storage buffers") && message.contains("256"), "{message}");
    }
}
