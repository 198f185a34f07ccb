//! What users get wrong: each time an error that says what, where and what to do, exit code 1, and nothing half-written.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use receptive::data::audio::write_wav;
use receptive::nn::WaveNetConfig;
use receptive::train::load_model;
use tempfile::TempDir;

/// The example, which lies beside the folder of the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(format!("wavenet{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: cargo build --example wavenet", path.display());
    path
}

fn clip(path: &Path, hz: f32, samples: usize) {
    let samples: Vec<f32> = (0..samples).map(|i| 0.5 * (TAU * hz * i as f32 / 8000.0).sin()).collect();
    write_wav(path, &samples, 8000).unwrap();
}

/// A folder with two recordings in `good`, in which commands run.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("good")).unwrap();
    clip(&folder.path().join("good/a.wav"), 200.0, 3000);
    clip(&folder.path().join("good/b.wav"), 300.0, 3000);
    folder
}

/// A training that takes a second at most, if nothing in `more` (a line of words) is wrong.
fn training(more: &str) -> String {
    format!(
        "train --data good --out out --preset tiny --steps 2 --chunk 1200 --sample-seconds 0.02 --device cpu {more}"
    )
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(example());
    command.args(line.split_whitespace()).current_dir(folder).env_remove("RUST_LOG").env_remove("RECEPTIVE_DEVICE");
    command
}

/// Runs a line, checks its exit code and gives its standard error.
#[track_caller]
fn run(folder: &Path, line: &str, code: i32) -> String {
    let output = command(folder, line).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "wavenet {line}\n{stderr}");
    assert!(!stderr.contains("panicked"), "wavenet {line}\n{stderr}");
    stderr
}

/// Everything in a folder, at any depth, with its contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => all.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

/// Runs a line that must fail with an error that has all the `words`, and must leave every file as it was.
#[track_caller]
fn fails(folder: &Path, line: &str, words: &[&str]) {
    let before = contents(folder);
    let stderr = run(folder, line, 1);
    let error = stderr.find("error: ").map_or("", |at| &stderr[at..]);
    assert!(!error.is_empty(), "wavenet {line}\n{stderr}");
    for word in words {
        assert!(error.contains(word), "wavenet {line}: {word:?} is not in\n{error}");
    }
    // A cause is told once.
    assert!(error.matches("(os error").count() <= 1, "wavenet {line}\n{error}");
    assert!(contents(folder) == before, "wavenet {line} has left files behind, or changed some");
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn data_that_cannot_be_used() {
    let folder = folder();
    let here = folder.path();
    let whole = std::fs::read(here.join("good/a.wav")).unwrap();
    std::fs::create_dir(here.join("empty")).unwrap();
    write(here, "documents/notes.txt", b"notes");
    write(here, "cut/cut.wav", &whole[..whole.len() / 2]);
    write(here, "text/text.wav", b"this is no sound\n");
    write(here, "few/few.wav", &[]);

    fails(here, &training("--data empty"), &["no audio", "empty", ".wav or .flac", "name a folder"]);
    fails(here, &training("--data documents"), &["no audio", "documents", ".wav or .flac"]);
    fails(
        here,
        &training("--data nowhere"),
        &["nowhere", "No such file"].map(|w| if cfg!(unix) { w } else { "nowhere" }),
    );
    fails(here, &training("--data cut"), &["cut.wav", "cut off", "6000 bytes", "again"]);
    fails(here, &training("--data cut/cut.wav"), &["cut.wav", "cut off"]);
    fails(here, &training("--data text"), &["text.wav", "not a WAV or FLAC", "looks like text", "convert"]);
    fails(here, &training("--data few"), &["few.wav", "an empty file"]);
    fails(here, &training("--sample-rate 0"), &["--sample-rate 0", "1000"]);
    fails(here, &training("--sample-rate 4000000000"), &["--sample-rate 4000000000", "768000"]);
    fails(here, &training("--trim 1.5"), &["--trim 1.5", "below 1"]);
    fails(here, &training("--trim 0.9"), &["silence threshold of 0.9", "lower"]);

    fails(here, &training("--chunk 512"), &["--chunk", "512", "receptive field", "longer"]);
    fails(here, &training("--chunk 0"), &["--chunk", "receptive field"]);
    fails(here, &training("--chunk 20000"), &["--chunk", "20000", "20001", "3000", "shorter chunk or more audio"]);
}

#[test]
fn a_broken_file_among_good_ones_is_named_and_left_out() {
    let folder = folder();
    let here = folder.path();
    let whole = std::fs::read(here.join("good/a.wav")).unwrap();
    write(here, "good/inside/broken.wav", &whole[..whole.len() - 1000]);
    let stderr = run(here, &training(""), 0);
    let warning = stderr.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains("broken.wav") && warning.contains("cut off"), "{stderr}");
    for name in ["checkpoint.safetensors", "metrics.jsonl", "loss.png", "sample.wav", "sample.png", "spectrum.png"] {
        assert!(here.join("out").join(name).metadata().unwrap().len() > 0, "{name}");
    }
    let model = load_model::<WaveNetConfig>(here.join("out/model.safetensors"), "wavenet").unwrap();
    assert_eq!(model.config, WaveNetConfig::tiny());
    let left = contents(here).into_iter().find(|(path, _)| path.extension().is_some_and(|ending| ending == "tmp"));
    assert!(left.is_none(), "{left:?}");
}

#[test]
fn options_out_of_range() {
    let folder = folder();
    let here = folder.path();
    for (options, words) in [
        ("--steps 0", &["--steps 0", "at least 1"] as &[&str]),
        ("--minutes=-1", &["--minutes -1", "above 0"]),
        ("--minutes NaN", &["--minutes NaN", "above 0"]),
        ("--minutes 1e300", &["--minutes 1", "too many"]),
        ("--batch 0", &["--batch 0", "at least 1"]),
        ("--batch 100000000", &["batch 100000000", "smaller batch"]),
        ("--batch 18446744073709551615", &["batch 18446744073709551615", "smaller batch"]),
        ("--batch 1000000", &["GiB", "smaller batch"]),
        ("--lr NaN", &["--lr NaN", "above 0"]),
        ("--lr=-0.1", &["--lr -0.1", "above 0"]),
        ("--lr 1e30 --steps 9", &["the loss of step", "no checkpoint was saved", "lower the learning rate"]),
        ("--clip NaN", &["--clip NaN", "0 (no clipping)"]),
        ("--clip=-1", &["--clip -1"]),
        ("--sample-seconds 0", &["--sample-seconds 0", "above 0"]),
        ("--device nonsense", &["\"nonsense\"", "there is: ", "\"auto\", \"cpu\", \"gpu\""]),
        // What the command line's parser finds.
        ("--preset huge", &["huge", "--preset", "tiny, small, paper, published"]),
        ("--steps many", &["many", "--steps"]),
        ("--stepz 3", &["--stepz", "--steps"]),
    ] {
        // The folder and the metrics of the one that trains are meant to be there.
        match options.contains("--lr 1e30") {
            true => {
                let stderr = run(here, &training(options), 1);
                assert!(words.iter().all(|word| stderr.contains(word)), "{options}: {stderr}");
                assert!(!here.join("out/checkpoint.safetensors").exists());
                assert!(!here.join("out/model.safetensors").exists());
                std::fs::remove_dir_all(here.join("out")).unwrap();
            }
            false => fails(here, &training(options), words),
        }
    }
    fails(here, "info", &["--model", "--preset"]);
    fails(here, "info --preset huge", &["huge", "tiny"]);
    fails(here, "sing", &["sing"]);
    for line in ["--help", "--version", "train --help", "help generate", "info --preset published"] {
        assert_eq!(run(here, line, 0), "", "{line}");
    }
}

#[test]
fn places_that_cannot_be_written() {
    let folder = folder();
    let here = folder.path();
    write(here, "file", b"not a folder");
    fails(here, &training("--out file"), &["--out file", "is a file", "name a folder"]);
    fails(here, &training("--out file/run"), &["--out file"]);
    if cfg!(target_os = "linux") {
        fails(here, &training("--out /proc/nonexistent"), &["--out /proc/nonexistent"]);
    }
    write(here, "out/metrics.jsonl.tmp/in/the/way", b"");
    let stderr = run(here, &training(""), 1);
    assert!(stderr.contains("metrics.jsonl"), "{stderr}");
    std::fs::remove_dir_all(here.join("out")).unwrap();
    write(here, "out/checkpoint.safetensors.tmp/in/the/way", b"");
    fails(here, &training(""), &["checkpoint.safetensors"]);
}

#[test]
fn resumptions_that_cannot_be() {
    let folder = folder();
    let here = folder.path();
    fails(here, &training("--resume"), &["--resume", "there is no", "checkpoint.safetensors", "--out"]);
    run(here, &training(""), 0);
    fails(here, &training(""), &["--out out", "holds a run already", "--resume", "another --out"]);
    let resume = training("--resume --steps 3");
    fails(here, &format!("{resume} --preset small"), &["config.residual is 16 in the checkpoint and 32 here", "give"]);
    fails(here, &format!("{resume} --seed 7"), &["settings.seed", "\"0\"", "\"7\""]);
    fails(here, &format!("{resume} --chunk 1100"), &["settings.chunk is 1200 in the checkpoint and 1100 here"]);
    fails(here, &format!("{resume} --data good/a.wav"), &["settings.training_"]);

    let checkpoint = here.join("out/checkpoint.safetensors");
    let whole = std::fs::read(&checkpoint).unwrap();
    for keep in [0, 5, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&checkpoint, &whole[..keep]).unwrap();
        fails(here, &resume, &["checkpoint.safetensors", "start anew"]);
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&checkpoint, &flipped).unwrap();
    fails(here, &resume, &["checkpoint.safetensors", "damaged", "start anew"]);
    std::fs::copy(here.join("out/model.safetensors"), &checkpoint).unwrap();
    fails(here, &resume, &["checkpoint.safetensors", "receptive-model"]);

    std::fs::write(&checkpoint, &whole).unwrap();
    let stderr = run(here, &resume, 0);
    assert!(stderr.contains("finished at step 3"), "{stderr}");
}

#[test]
fn generation_that_cannot_be() {
    let folder = folder();
    let here = folder.path();
    run(here, &training(""), 0);
    let model = here.join("out/model.safetensors");
    let whole = std::fs::read(&model).unwrap();
    write(here, "cut.safetensors", &whole[..whole.len() / 2]);
    write(here, "text", b"not a model, but long enough to be read as the length of a header");
    let generate = |more: &str| {
        format!("generate --model out/model.safetensors --seconds 0.05 --out clip.wav --device cpu {more}")
    };
    fails(here, &generate("--model nowhere"), &["nowhere"]);
    fails(here, &generate("--model good"), &["good"]);
    fails(here, &generate("--model text"), &["text", "no safetensors file"]);
    fails(here, &generate("--model cut.safetensors"), &["cut.safetensors", "cut off", "again"]);
    fails(here, &generate("--model out/checkpoint.safetensors"), &["receptive-checkpoint", "not a receptive-model"]);
    fails(here, &generate("--model good/a.wav"), &["a.wav", "no safetensors file"]);
    fails(here, "info --model cut.safetensors", &["cut.safetensors", "cut off"]);
    for seconds in ["0", "-1", "NaN", "1e9"] {
        fails(here, &generate(&format!("--seconds={seconds}")), &["--seconds", "above 0"]);
    }
    fails(here, &generate("--temperature NaN"), &["--temperature NaN", "0 or above"]);
    fails(here, &generate("--temperature=-1"), &["--temperature -1"]);
    fails(here, &generate("--prime text"), &["--prime", "text", "not a WAV or FLAC"]);
    fails(here, &generate("--prime nowhere.wav"), &["--prime", "nowhere.wav"]);
    fails(here, &generate("--out text/clip.wav"), &["--out", "text"]);
    fails(here, &generate("--out good"), &["--out good", "folder"]);
    fails(here, &generate("--out clip.png"), &["--out clip.png", ".wav"]);
    fails(here, &generate("--device nonsense"), &["nonsense", "there is: "]);
    fails(here, "generate --seconds 1 --out clip.wav", &["--model"]);

    // One sample is a clip; a primed one, in a folder that is not there yet, too.
    run(here, &generate("--seconds 1e-9"), 0);
    run(here, &generate("--prime good/a.wav --temperature 0 --out new/folder/clip.WAV"), 0);
    assert!(here.join("clip.png").exists() && here.join("new/folder/clip.png").exists());
    assert_eq!(receptive::data::audio::read(here.join("new/folder/clip.WAV")).unwrap().samples.len(), 400);
}

/// Ctrl-C saves and exits with success, and the training goes on from there.
#[test]
#[cfg(unix)]
fn an_interrupted_training_goes_on() {
    let folder = folder();
    let here = folder.path();
    let line = training("--steps 1000000 --checkpoint-every 3");
    let mut child = command(here, &line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !here.join("out/checkpoint.safetensors").exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("--resume goes on") && !stderr.contains("panicked"), "{stderr}");

    let model = load_model::<WaveNetConfig>(here.join("out/model.safetensors"), "wavenet").unwrap();
    let stopped: u64 = model.metadata["steps"].parse().unwrap();
    assert!(stopped >= 3);
    let steps = || -> Vec<u64> {
        let text = std::fs::read_to_string(here.join("out/metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line.get("loss").is_some()).map(|line| line["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps(), (1..=stopped).collect::<Vec<_>>());
    let stderr = run(here, &training(&format!("--resume --steps {}", stopped + 2)), 0);
    assert!(stderr.contains("finished at step"), "{stderr}");
    assert_eq!(steps(), (1..=stopped + 2).collect::<Vec<_>>());
}
