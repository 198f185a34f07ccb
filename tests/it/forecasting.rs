//! The example that forecasts, as its users call it: what it writes, and what it says of bad input.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(format!("conv_gru{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: cargo build --example conv_gru", path.display());
    path
}

/// A folder with a table of 200 hours: `load` is the hour, so that the last value is off by as many hours as it is old.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "date,load,wind\n".to_owned();
    (0..200).for_each(|h| writeln!(table, "2020-01-{:02} {:02}:00,{h},{}", 1 + h / 24, h % 24, h % 5).unwrap());
    std::fs::write(folder.path().join("table.csv"), &table).unwrap();
    std::fs::write(folder.path().join("ragged.csv"), table.replace(",7,2\n", ",7\n")).unwrap();
    std::fs::write(folder.path().join("missing.csv"), table.replace(",7,2\n", ",NA,2\n")).unwrap();
    folder
}

/// Runs a line, checks its exit code and gives what it printed and what it complained of.
#[track_caller]
fn run(folder: &Path, line: &str, code: i32) -> (String, String) {
    let mut command = Command::new(example());
    command.args(line.split_whitespace()).current_dir(folder).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(code), "conv_gru {line}\n{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "conv_gru {line}\n{stderr}");
    (stdout, stderr)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const WINDOWS: &str = "--target load --lookback 12 --step 2 --delay 5";

#[test]
fn a_forecaster_is_measured_drawn_kept_and_used() {
    let folder = folder();
    let path = folder.path();
    let line = format!("train --model naive --data table.csv {WINDOWS} --unit kW --out out");
    let (stdout, _) = run(path, &line, 0);
    for words in ["200 rows", "columns: load, wind", "left out: date", "load in kW, 7 rows ahead"] {
        assert!(stdout.contains(words), "{words:?} is not in\n{stdout}");
    }
    let result = json(&path.join("out/result.json"));
    // The last row seen is two before the window's end, the row to forecast five after it.
    let test = &result["results"][0]["runs"][0]["test"];
    let (mae, count) = (&test["mae"], &test["count"]);
    assert!((mae.as_f64().unwrap() - 7.0).abs() < 1e-4, "{result}");
    assert_eq!(count.as_u64(), Some(50 - 12 - 5), "{result}");
    assert_eq!(std::fs::read(path.join("out/forecast.png")).unwrap()[1..4], *b"PNG");

    run(path, "predict --model out/forecaster.json --data table.csv --out all.csv", 0);
    let all = std::fs::read_to_string(path.join("all.csv")).unwrap();
    assert_eq!(all.lines().count(), 1 + 200 - 12 + 1);
    let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let first = fields(all.lines().nth(1).unwrap());
    assert_eq!((&*first[0], &*first[1], &*first[3]), ("17", "\"2020-01-01 17:00\"", "17"));
    let last = fields(all.lines().last().unwrap());
    assert_eq!((&*last[0], &*last[1], &*last[3]), ("205", "\"\"", ""));
    let forecast = |fields: &[String]| fields[2].parse::<f64>().unwrap();
    assert!((forecast(&first) - 10.0).abs() < 1e-4 && (forecast(&last) - 198.0).abs() < 1e-4, "{all}");

    let (stdout, _) =
        run(path, &format!("compare --data missing.csv --missing drop {WINDOWS} --out all --epochs 1"), 0);
    assert!(stdout.contains("left out: conv,"), "{stdout}");
    assert!(stdout.contains("1 of them not used, 2 runs"), "{stdout}");
    assert_eq!(json(&path.join("all/compare.json"))["results"][0]["model"], "naive");
    assert_eq!(json(&path.join("all/compare.json"))["results"].as_array().unwrap().len(), 5);
    assert_eq!(std::fs::read(path.join("all/compare.png")).unwrap()[1..4], *b"PNG");
}

#[test]
fn a_training_goes_on_where_it_was_with_each_seed() {
    let folder = folder();
    let path = folder.path();
    let train = format!("train --model dense --data table.csv {WINDOWS} --device cpu --seed 3 --seeds 2");
    let (stdout, _) = run(path, &format!("{train} --epochs 3 --out straight"), 0);
    assert!(stdout.contains(" ± "), "{stdout}");
    run(path, &format!("{train} --epochs 2 --out again"), 0);
    run(path, &format!("{train} --epochs 3 --out again --resume"), 0);
    for file in ["model.safetensors", "seed-3/model.safetensors", "seed-4/checkpoint.safetensors"] {
        let [straight, again] = ["straight", "again"].map(|run| std::fs::read(path.join(run).join(file)).unwrap());
        assert!(straight == again, "{file} differs");
    }
    let result = json(&path.join("again/result.json"));
    let runs = result["results"][0]["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4]);
    // The model that is kept is that of the seed with the least error on the validation part.
    let error = |run: &Value| run["valid"]["mae"].as_f64().unwrap();
    let best = if error(&runs[0]) <= error(&runs[1]) { 3 } else { 4 };
    let kept = std::fs::read(path.join("again/model.safetensors")).unwrap();
    assert!(kept == std::fs::read(path.join(format!("again/seed-{best}/model.safetensors"))).unwrap());
    // Another learning rate is allowed, another batch is another training.
    let (_, stderr) = run(path, &format!("{train} --epochs 4 --batch 7 --out again --resume"), 1);
    assert!(stderr.contains("--resume") && stderr.contains("batch"), "{stderr}");
}

#[test]
fn bad_input_is_an_error_that_says_where() {
    let folder = folder();
    let cases = [
        ("train --data ragged.csv --target load", &["ragged.csv, line 9:", "column wind"][..]),
        ("train --data missing.csv --target load", &["missing.csv, line 9, column load:", "ffill"]),
        ("train --data table.csv --target tide", &["table.csv, line 1:", "\"tide\"", "load, wind"]),
        ("train --data table.csv --target load --lookback 96", &["lines 2 to 101", "column load", "96"]),
        ("train --data table.csv --target load --lookback 12 --step 5", &["lookback is 12", "multiple of step"]),
        ("train --data table.csv --target load --split 1,2", &["split", "three numbers"]),
        ("train --data table.csv --target load --split 190,10,10", &["200 rows", "190,10,10"]),
        ("train --data table.csv --target load --batch 0", &["--batch 0"]),
        ("train --data table.csv --target load --out table.csv", &["--out table.csv", "folder"]),
        ("train --data none.csv --target load", &["none.csv"]),
        ("predict --model table.csv --data table.csv --out x.csv", &["--model table.csv", "forecaster.json"]),
    ];
    for (line, words) in cases {
        let (_, stderr) = run(folder.path(), line, 1);
        let error = stderr.find("error: ").map_or("", |at| &stderr[at..]);
        for word in words {
            assert!(error.contains(word), "{word:?} is not in the error of conv_gru {line}\n{stderr}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing is half-written: {left:?}");
}
