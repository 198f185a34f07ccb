//! `workloads.json`: what is timed, for this harness and for every program that it is compared with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use indexmap::IndexMap;
use receptive::graph::Precision;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::args::Args;

#[derive(Debug, Deserialize)]
pub struct Workloads {
    pub adam: Adam,
    pub classes: usize,
    pub workloads: IndexMap<String, Workload>,
}

/// The optimizer of every training step; the learning rate is the size's.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f32,
}

#[derive(Debug, Deserialize)]
pub struct Workload {
    /// Which program it is: `models::build` knows them.
    pub kind: String,
    pub sample_unit: String,
    /// Workloads of the same name here are measured in turns, for their ratio.
    pub alternate: Option<String>,
    pub sizes: IndexMap<String, Size>,
}

/// One size: its numbers by name, and those that every kind has.
#[derive(Debug, Clone, Deserialize)]
pub struct Size {
    /// What a step makes, in `sample_unit`.
    pub samples: u64,
    pub flops: u64,
    pub parameters: usize,
    #[serde(flatten)]
    numbers: Map<String, Value>,
}

impl Size {
    /// A whole number from 1 to what can be meant.
    pub fn count(&self, key: &str) -> Result<usize> {
        let number = self.numbers.get(key).and_then(Value::as_u64);
        let number = number.with_context(|| format!("the workload has no whole number {key}"))?;
        let most = MOST.iter().find(|(name, _)| *name == key).map_or(MOST_OTHERS, |&(_, most)| most);
        ensure!((1..=most).contains(&number), "{key} of the workload is {number}, not from 1 to {most}");
        Ok(number as usize)
    }

    /// Whole numbers, each from 1 to what can be meant.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let numbers = self.numbers.get(key).and_then(Value::as_array);
        let numbers = numbers.with_context(|| format!("the workload has no list {key}"))?;
        let meant = |number: &u64| (1..=MOST_OTHERS).contains(number);
        let number = |value: &Value| value.as_u64().filter(meant).map(|number| number as usize);
        numbers
            .iter()
            .map(|value| number(value).with_context(|| format!("{key} of the workload has {value} in it")))
            .collect()
    }

    pub fn real(&self, key: &str) -> Result<f64> {
        self.numbers.get(key).and_then(Value::as_f64).with_context(|| format!("the workload has no number {key}"))
    }

    /// The same with `key` at most `most`, where there is such a number.
    pub fn at_most(mut self, key: &str, most: u64) -> Self {
        if let Some(number) = self.numbers.get_mut(key) {
            *number = number.as_u64().map_or(most, |number| number.min(most)).into();
        }
        self
    }
}

/// The most of what multiplies layers, steps or the dilation.
const MOST: [(&str, u64); 3] = [("steps", 1 << 20), ("stacks", 1 << 8), ("layers_per_stack", 24)];
/// The most of any other number: products of a few still fit 64 bits.
const MOST_OTHERS: u64 = 1 << 24;

/// One workload at one size, in one precision.
#[derive(Debug, Clone)]
pub struct Case {
    pub workload: String,
    pub kind: String,
    pub sample_unit: String,
    pub alternate: Option<String>,
    /// The name of the size, such as `small_b1`.
    pub size_name: String,
    pub size: Size,
    pub adam: Adam,
    pub classes: usize,
    pub precision: Precision,
}

impl Workloads {
    /// Reads the file that `--workloads` names, or the first one found where this program runs or lies.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn read(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let name = || format!("the workloads {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(name)?;
        let workloads: Self = serde_json::from_str(&text).with_context(name)?;
        let classes = workloads.classes;
        ensure!((2..=1 << 16).contains(&classes), "{}: classes is {classes}, not from 2 to {}", name(), 1 << 16);
        Ok(workloads)
    }

    /// The cases that the command line asks for, in the order of the file.
    ///
    /// # Errors
    /// If a name fits nothing, or a workload has no size of the class.
    pub fn select(&self, args: &Args) -> Result<Vec<Case>> {
        for only in &args.only {
            if !self.workloads.keys().any(|name| name.starts_with(only.as_str())) {
                let names: Vec<&str> = self.workloads.keys().map(String::as_str).collect();
                bail!("--only {only}: no workload begins so; there are {}", names.join(", "));
            }
        }
        let asked = |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.starts_with(only.as_str()));
        let mut cases = vec![];
        for (name, workload) in self.workloads.iter().filter(|(name, _)| asked(name)) {
            let sizes = workload.sizes.iter().filter(|(size, _)| args.size.holds(size));
            ensure!(
                sizes.clone().next().is_some(),
                "the workload {name} has no {} size; it has {}",
                args.size.name(),
                workload.sizes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            );
            for ((size_name, size), &precision) in
                sizes.flat_map(|size| args.precisions.iter().map(move |precision| (size, precision)))
            {
                cases.push(Case {
                    workload: name.clone(),
                    kind: workload.kind.clone(),
                    sample_unit: workload.sample_unit.clone(),
                    alternate: workload.alternate.clone(),
                    size_name: size_name.clone(),
                    size: size.clone(),
                    adam: self.adam,
                    classes: self.classes,
                    precision,
                });
            }
        }
        ensure!(!cases.is_empty(), "there are no workloads in the file");
        Ok(cases)
    }
}

/// What is measured together: a case, or all of one `alternate`.
pub fn jobs(cases: Vec<Case>) -> Vec<Vec<Case>> {
    let mut jobs: Vec<Vec<Case>> = vec![];
    for case in cases {
        let together = |job: &&mut Vec<Case>| {
            let key = |case: &Case| (case.alternate.clone(), case.size_name.clone(), case.precision);
            case.alternate.is_some() && key(&job[0]) == key(&case)
        };
        match jobs.iter_mut().find(together) {
            Some(job) => job.push(case),
            None => jobs.push(vec![case]),
        }
    }
    jobs
}

fn find() -> Result<PathBuf> {
    let name = Path::new("benches/workloads.json");
    let program = std::env::current_exe().context("where this program lies")?;
    let beside = program.parent().unwrap_or(Path::new("."));
    let places = [name.to_owned(), beside.join(name), beside.join("workloads.json")];
    let list = || places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    let found = places.iter().find(|place| place.is_file());
    found.cloned().with_context(|| format!("no workloads: there is none of {}; --workloads names the file", list()))
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn all() -> Workloads {
        Workloads::read(None).unwrap()
    }

    fn select(arguments: &[&str]) -> Result<Vec<Case>> {
        all().select(&Args::parse_from([&["gpu_vs_cpu"], arguments].concat()))
    }

    #[test]
    fn sizes_and_names_select() {
        let names = |cases: &[Case]| -> Vec<String> {
            cases.iter().map(|case| format!("{} {}", case.workload, case.size_name)).collect()
        };
        let cases = select(&["--only", "wavenet_generate", "--only", "conv_forward_25x25"]).unwrap();
        let expected = ["conv_forward_25x25_k7_d32 small", "wavenet_generate small_b1", "wavenet_generate small_b16"];
        assert_eq!(names(&cases), expected);
        let full = select(&["--size", "full", "--only", "tcn_train"]).unwrap();
        assert_eq!(names(&full), ["tcn_train full", "tcn_train full_b512"]);
        assert_eq!(full[1].size.count("batch").unwrap(), 512);
        let mut some = all();
        some.workloads["wavenet_train"].sizes.retain(|size, _| size.starts_with("full"));
        let args = |only| Args::parse_from(["gpu_vs_cpu", "--only", only]);
        let error = some.select(&args("wavenet_train")).unwrap_err().to_string();
        assert!(error.contains("wavenet_train has no small size") && error.contains("full"), "{error}");
        some.select(&args("tcn_train")).unwrap();
        some.workloads.clear();
        assert!(some.select(&Args::parse_from(["gpu_vs_cpu"])).is_err());
        let error = select(&["--only", "wavenet", "--only", "resnet"]).unwrap_err().to_string();
        assert!(error.contains("resnet") && error.contains("wavenet_train"), "{error}");
    }

    #[test]
    fn numbers_that_are_missing_are_named() {
        let case = &select(&["--only", "conv_forward_25x25"]).unwrap()[0];
        assert_eq!(case.size.samples, (case.size.count("batch").unwrap() * case.size.count("time").unwrap()) as u64);
        assert!(case.size.count("stacks").unwrap_err().to_string().contains("stacks"));
        let reduced = case.size.clone().at_most("time", 100).at_most("batch", 100).at_most("stacks", 1);
        assert_eq!((reduced.count("time").unwrap(), reduced.count("batch").unwrap()), (100, 8));
        assert!(reduced.count("stacks").is_err());
    }

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        let case = &select(&["--only", "wavenet_generate"]).unwrap()[0];
        for (key, most) in MOST.into_iter().chain([("batch", MOST_OTHERS)]) {
            for (number, good) in [(0, false), (1, true), (most, true), (most + 1, false), (1 << 40, false)] {
                let mut size = case.size.clone();
                size.numbers.insert(key.into(), number.into());
                assert_eq!(size.count(key).is_ok(), good, "{key} {number}");
                assert!(good || size.count(key).unwrap_err().to_string().contains(key));
            }
        }
    }

    #[test]
    fn alternating_workloads_are_one_job() {
        let jobs = jobs(select(&[]).unwrap());
        let pair: Vec<_> = jobs.iter().filter(|job| job.len() > 1).flatten().collect();
        assert_eq!(pair.len(), 2);
        assert_eq!(pair.iter().map(|case| case.size.count("dilation").unwrap()).collect::<Vec<_>>(), [1, 512]);
        assert!(jobs.iter().filter(|job| job.len() == 1).all(|job| job[0].alternate.is_none()));
    }
}
