//! The script that runs a bundle: it tells what it does not know, and leaves nothing outside the results.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const RUN: &str = include_str!("../../scripts/bundle/run");

/// A program of a bundle that does what libraries and drivers do.
const PROGRAM: &str = r#"#!/bin/sh
for folder in "$RECEPTIVE_CACHE" "${XDG_CACHE_HOME:-$HOME/.cache}/mesa" "${TRITON_CACHE_DIR:-$HOME/.triton}" \
    "${TORCHINDUCTOR_CACHE_DIR:-$HOME/inductor}" "${CUDA_CACHE_PATH:-$HOME/.nv}" \
    "${__GL_SHADER_DISK_CACHE_PATH:-$HOME/.nv}/GLCache"; do
    mkdir -p "$folder" && : >"$folder/file" && echo "wrote $folder" || exit 1
done
echo "test result: ok. 1 passed; 0 failed; 0 ignored"
"#;

/// A bundle with one program, and folders for its results, the home and temporary files.
fn bundle(folder: &Path) {
    for name in ["bundle/bin/tests", "home", "tmp"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let bundle = folder.join("bundle");
    fs::write(bundle.join("run"), RUN).unwrap();
    fs::write(bundle.join("about"), "commit='none'\nbuilt=today\nglibc=2.0\n").unwrap();
    let program = bundle.join("bin/tests/program");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let packed = Command::new("tar").args(["-czf", "bin.tar.gz", "bin"]).current_dir(&bundle).status().unwrap();
    assert!(packed.success());
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg(folder.join("bundle/run")).args(arguments).arg(folder.join("results"));
    for name in ["XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"] {
        command.env_remove(name);
    }
    command.env("HOME", folder.join("home")).env("TMPDIR", folder.join("tmp")).output().unwrap()
}

fn files(folder: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn nothing_outside_the_results_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bundle(folder);
    let output = run(folder, &["--only", "tests"]);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let log = fs::read_to_string(folder.join("results/test-program.log")).unwrap();
    let inside = format!("wrote {}/", folder.join("tmp").display());
    assert_eq!(log.lines().filter(|line| line.starts_with(&inside)).count(), 6, "{log}");
    assert_eq!((files(&folder.join("home")), files(&folder.join("tmp"))), (vec![], vec![]));
}

#[test]
fn what_is_not_known_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    bundle(folder);
    for (arguments, named) in [
        (["--only", "bench"], "benches"),
        (["--only", "tests,bench"], "benches"),
        (["--only", ""], "benches"),
        (["--only", ","], "benches"),
        (["--size", "medium"], "small"),
    ] {
        let output = run(folder, &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(named), "{arguments:?}: {error}");
        assert!(!folder.join("results").exists(), "{arguments:?}");
    }
}
