//! The machine, and the devices to measure on.

use anyhow::Result;
use receptive::Device;
use receptive::graph::Precision;
use receptive::wgpu::DeviceType;
use serde::{Deserialize, Serialize};

/// What tells one machine from another: ratios are only taken within one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    /// The best real GPU; nothing where there is none, or a program that ran on the CPU did not look.
    pub gpu: Option<String>,
}

impl Machine {
    pub fn here() -> Self {
        let refresh = sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing());
        let system = sysinfo::System::new_with_specifics(refresh);
        let brand = system.ok().and_then(|system| Some(system.cpus().first()?.brand().trim().to_owned()));
        let gpu = Device::adapters().into_iter().find(|adapter| adapter.kind != DeviceType::Cpu);
        Self {
            cpu: brand.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            gpu: gpu.map(|gpu| gpu.name),
        }
    }

    /// Whether two descriptions may be of one machine.
    pub fn same(&self, other: &Self) -> bool {
        let gpus = match (&self.gpu, &other.gpu) {
            (Some(gpu), Some(other)) => same_device(gpu, other),
            _ => true,
        };
        self.cpu == other.cpu && self.cores == other.cores && gpus
    }
}

/// Whether two names mean one device: drivers write more or less of a name.
pub fn same_device(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    one.contains(&other) || other.contains(&one)
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} cores, {}", self.cpu, self.cores, self.gpu.as_deref().unwrap_or("no GPU"))
    }
}

/// A device by the name that its rows bear.
#[derive(Debug)]
pub struct Target {
    pub name: String,
    pub device: Device,
}

impl Target {
    /// Whether programs of a precision are worth measuring here: the CPU executor computes all of them in `f32`.
    pub fn computes(&self, precision: Precision) -> bool {
        precision == Precision::F32 || self.device.as_gpu().is_some()
    }
}

/// The devices asked for, or the CPU executor and every adapter.
///
/// # Errors
/// If one can't be opened.
pub fn targets(asked: &[String]) -> Result<Vec<Target>> {
    let every = || std::iter::once("cpu".to_owned()).chain(Device::adapters().into_iter().map(|adapter| adapter.name));
    let names: Vec<String> = if asked.is_empty() { every().collect() } else { asked.to_vec() };
    let mut targets: Vec<Target> = vec![];
    for name in names {
        let device = Device::select(&name)?;
        let name = device.as_gpu().map_or("cpu".to_owned(), |gpu| gpu.info().name.clone());
        if !targets.iter().any(|target| target.name == name) {
            targets.push(Target { name, device });
        }
    }
    Ok(targets)
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart() {
        let machine =
            |cpu: &str, cores, gpu: Option<&str>| Machine { cpu: cpu.into(), cores, gpu: gpu.map(Into::into) };
        let here = machine("Zen", 16, Some("NVIDIA H100 80GB HBM3"));
        assert!(here.same(&here) && here.same(&machine("Zen", 16, None)));
        assert!(here.same(&machine("Zen", 16, Some("H100"))));
        assert!(!here.same(&machine("Zen", 16, Some("H200"))));
        assert!(!here.same(&machine("Zen", 2, None)) && !here.same(&machine("Core", 16, None)));
    }

    #[test]
    fn this_machine_has_a_name() {
        let here = Machine::here();
        assert!(!here.cpu.is_empty() && here.cores > 0, "{here}");
    }
}
