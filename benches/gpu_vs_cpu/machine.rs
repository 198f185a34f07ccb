//! The machine, and the devices to measure on.

use anyhow::Result;
use receptive::Device;
use receptive::device::AdapterSummary;
use receptive::graph::Precision;
use receptive::wgpu::{Backend, DeviceType};
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

/// The devices asked for; where none is, the CPU executor and every adapter that can be opened, with a note of each that
/// can't.
///
/// # Errors
/// If one that is asked for can't be opened.
pub fn targets(asked: &[String], notes: &mut Vec<String>) -> Result<Vec<Target>> {
    let mut devices: Vec<Device> = vec![];
    if asked.is_empty() {
        devices.push(Device::Cpu);
        devices.extend(opened(Device::open_all()?, notes));
    }
    for name in asked {
        let device = Device::select(name)?;
        // Two names may mean one device.
        if !devices.iter().any(|other| identity(other) == identity(&device)) {
            devices.push(device);
        }
    }
    Ok(named(devices))
}

/// Those that could be opened.
fn opened(all: Vec<(AdapterSummary, receptive::Result<Device>)>, notes: &mut Vec<String>) -> Vec<Device> {
    let open = |(adapter, device): (AdapterSummary, receptive::Result<Device>)| match device {
        Ok(device) => Some(device),
        Err(error) => {
            notes.push(format!("{adapter} is left out: {error}"));
            None
        }
    };
    all.into_iter().filter_map(open).collect()
}

/// What tells a device from others on this machine, as far as its driver says.
fn identity(device: &Device) -> Option<(String, Backend, String)> {
    device.as_gpu().map(|gpu| {
        let info = gpu.info();
        (info.name.clone(), info.backend, info.device_pci_bus_id.clone())
    })
}

/// Each with a name of its own: after the first of several of one name they are numbered.
fn named(devices: Vec<Device>) -> Vec<Target> {
    let mut targets: Vec<Target> = vec![];
    for device in devices {
        let own = device.as_gpu().map_or("cpu".to_owned(), |gpu| gpu.info().name.clone());
        let numbered = (2..).map(|number| format!("{own} #{number}"));
        let mut names = std::iter::once(own.clone()).chain(numbered);
        let free = |name: &String| targets.iter().all(|target| target.name != *name);
        let name = names.find(free).unwrap_or(own);
        targets.push(Target { name, device });
    }
    targets
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
    fn devices_of_one_name_are_numbered() {
        let names = |devices| named(devices).into_iter().map(|target| target.name).collect::<Vec<_>>();
        assert_eq!(names(vec![Device::Cpu; 3]), ["cpu", "cpu #2", "cpu #3"]);
        assert!(same_device("cpu #2", "cpu"));
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_a_note() {
        let Some(adapter) = Device::adapters().into_iter().next() else { panic!("the tests need an adapter") };
        let refused = receptive::Error::NoDevice { asked: "this one".into(), message: "out of order".into() };
        let mut notes = vec![];
        let devices = opened(vec![(adapter.clone(), Err(refused)), (adapter.clone(), Ok(Device::Cpu))], &mut notes);
        assert_eq!(devices.len(), 1);
        assert!(notes.len() == 1 && notes[0].contains("out of order") && notes[0].contains(&adapter.name), "{notes:?}");
    }

    #[test]
    fn names_that_mean_one_device_are_one_target() {
        let name = Device::adapters().into_iter().next().expect("the tests need an adapter").name;
        let asked = ["cpu", &name, &name.to_uppercase(), "CPU"].map(str::to_owned);
        let targets = targets(&asked, &mut vec![]).unwrap();
        assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["cpu", &name]);
        assert!(super::targets(&["no such adapter".to_owned()], &mut vec![]).is_err());
    }

    #[test]
    fn this_machine_has_a_name() {
        let here = Machine::here();
        assert!(!here.cpu.is_empty() && here.cores > 0, "{here}");
    }
}
