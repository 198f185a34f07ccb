//! Lines of JSON that a training leaves behind, and what trainings with several seeds have in common.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Settings that may be others when a run is gone on with: how long it takes, where, and what is shown.
const FREE: [&str; 8] = ["epochs", "patience", "minutes", "seeds", "device", "out", "resume", "show"];

/// Appends lines, or writes them anew, at once: what was there before stays until all is written.
pub fn write<T: Serialize>(path: &Path, lines: &[T], anew: bool) -> Result<()> {
    let to = if anew { &path.with_extension("new") } else { path };
    let file = OpenOptions::new().create(true).write(true).append(!anew).truncate(anew).open(to);
    let mut file = file.with_context(|| to.display().to_string())?;
    let lines: Vec<String> = lines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    lines.iter().try_for_each(|line| writeln!(file, "{line}")).with_context(|| to.display().to_string())?;
    if anew { fs::rename(to, path).with_context(|| path.display().to_string()) } else { Ok(()) }
}

/// Reads all lines, but for one that was not written to its end.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |(at, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}: line {}", path.display(), at + 1))
    };
    whole.lines().enumerate().map(line).collect()
}

/// The settings of a run, which lie beside its results as `settings.json`. Nothing is touched before they are written: what is refused
/// leaves the results of an earlier run as they are.
#[derive(Debug)]
#[must_use]
pub struct Settings {
    path: PathBuf,
    text: String,
    resume: bool,
}

/// The settings of a run in a folder. What is gone on with must have the same.
pub fn settings(folder: &Path, settings: &impl Serialize, resume: bool) -> Result<Settings> {
    let path = folder.join("settings.json");
    let text = serde_json::to_string_pretty(settings)? + "\n";
    if resume && path.exists() {
        let before: Value = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("{}: not what was written there", path.display()))?;
        // As it will be read: a number may be written and read as another one.
        let differ = differences(&before, &serde_json::from_str(&text)?);
        ensure!(
            differ.is_empty(),
            "--resume {}: {}; use the same settings or another folder",
            folder.display(),
            differ.join(", ")
        );
    }
    Ok(Settings { path, text, resume })
}

impl Settings {
    /// Writes them, and makes the folder. `results` in it, which an earlier run left, are removed where that is not gone on with: else the
    /// new run would seem to be their maker.
    pub fn write(&self, results: &[&str]) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("--out {}: cannot make it", folder.display()))?;
        }
        if !self.resume {
            remove(&results.iter().map(|name| self.path.with_file_name(name)).collect::<Vec<_>>())?;
        }
        fs::write(&self.path, &self.text).with_context(|| self.path.display().to_string())
    }
}

/// Removes files that are there.
pub fn remove(files: &[PathBuf]) -> Result<()> {
    for file in files.iter().filter(|file| file.exists()) {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// What is not as it was.
fn differences(before: &Value, now: &Value) -> Vec<String> {
    let mut differ = Vec::new();
    let names: BTreeSet<&String> = [before, now].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    for name in names.into_iter().filter(|name| !FREE.contains(&name.as_str())) {
        // An option that there was not yet was not given.
        match [before, now].map(|settings| settings.get(name).unwrap_or(&Value::Null)) {
            [old, value] if old == value => {}
            [old, value] if old.is_object() && value.is_object() => differ.extend(differences(old, value)),
            [old, value] => differ.push(format!("{name} was {old} and is {value}")),
        }
    }
    differ
}

/// Mean and standard deviation; the deviation is nothing for one value.
pub fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, &[1, 2], true).unwrap();
        write(&path, &[3], false).unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), [1, 2, 3]);
        write(&path, &[4], true).unwrap();
        fs::write(&path, fs::read_to_string(&path).unwrap() + "5").unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), [4]);
        fs::write(&path, "4\nfive\n").unwrap();
        let error = format!("{:#}", read::<u32>(&path).unwrap_err());
        assert!(error.contains("metrics.jsonl: line 2"), "{error}");
    }

    #[test]
    fn a_run_is_gone_on_with_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let of =
            |epochs: u32, rate: f32| serde_json::json!({ "epochs": epochs, "of": { "rate": rate, "device": epochs } });
        let write =
            |told: &Value, resume: bool| settings(folder.path(), told, resume).and_then(|told| told.write(&["result"]));
        write(&of(1, 0.1), true).unwrap();
        write(&of(2, 0.1), true).unwrap();
        let error = write(&of(2, 0.5), true).unwrap_err().to_string();
        assert!(error.contains("rate was 0.1") && error.contains("and is 0.5"), "{error}");
        let _ = settings(folder.path(), &of(2, 0.5), false).unwrap();
        write(&of(2, 0.1), true).expect("what was not written left the file as it was");
        fs::write(folder.path().join("result"), "").unwrap();
        write(&of(2, 0.1), true).unwrap();
        assert!(folder.path().join("result").exists());
        write(&of(2, 0.5), false).unwrap();
        assert!(!folder.path().join("result").exists());

        // An option that came later, not given, given, and no longer given.
        let with = |decay: Option<f64>| serde_json::json!({ "epochs": 2, "average": decay });
        write(&serde_json::json!({ "epochs": 2 }), false).unwrap();
        write(&with(None), true).unwrap();
        let error = write(&with(Some(0.5)), true).unwrap_err().to_string();
        assert!(error.contains("average was null and is 0.5"), "{error}");
        write(&with(Some(0.5)), false).unwrap();
        let error = write(&serde_json::json!({ "epochs": 2 }), true).unwrap_err().to_string();
        assert!(error.contains("average was 0.5 and is null"), "{error}");
    }

    #[test]
    fn spreads() {
        assert_eq!(spread(&[3.0]), (3.0, None));
        assert_eq!(spread(&[1.0, 2.0, 3.0]), (2.0, Some(1.0)));
    }
}
