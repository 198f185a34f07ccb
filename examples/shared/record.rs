//! Lines of JSON that a training leaves behind, and what trainings with several seeds have in common.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends lines, or writes them anew.
pub fn write<T: Serialize>(path: &Path, lines: &[T], anew: bool) -> Result<()> {
    let file = OpenOptions::new().create(true).write(true).append(!anew).truncate(anew).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    let lines: Vec<String> = lines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    lines.iter().try_for_each(|line| writeln!(file, "{line}")).with_context(|| path.display().to_string())
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
    fn spreads() {
        assert_eq!(spread(&[3.0]), (3.0, None));
        assert_eq!(spread(&[1.0, 2.0, 3.0]), (2.0, Some(1.0)));
    }
}
