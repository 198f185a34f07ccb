//! Compiled pipelines are kept on disk, and a file that is no good costs nothing but time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use receptive::device::CACHE_VARIABLE;
use receptive::exec::{Executor, Store};
use receptive::graph::Extent;
use receptive::nn::WaveNet;
use receptive::{Device, wgpu};

use crate::support::{self, application};
use crate::tiny_wavenet::{BATCH, CHUNK, config, optimizer};

/// Plans a training step, which compiles its kernels.
fn plan(device: &Device) {
    let model = WaveNet::new(config()).unwrap();
    let program = model.training(Extent { batch: BATCH, time: CHUNK }, &optimizer()).unwrap().program;
    Executor::new(&program, &Store::new(device)).unwrap();
}

#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_compiles() {
    let name = support::gpu().as_gpu().unwrap().info().name.clone();
    // Two at the same time, as the threads of one program may do.
    let both_are_open = Barrier::new(2);
    let open_and_plan = || {
        let device = Device::select(&name).unwrap();
        both_are_open.wait();
        plan(&device);
        device.as_gpu().unwrap().pipeline_cache().map(|(_, bytes)| bytes)
    };
    let loaded = std::thread::scope(|scope| {
        let threads = [0; 2].map(|_| scope.spawn(open_and_plan));
        threads.map(|thread| thread.join().unwrap())
    });
    println!("loaded {loaded:?}");
}

fn child(cache: &str) -> Child {
    let name = format!("{}::child_compiles", module_path!().split_once("::").unwrap().1);
    Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--ignored", "--nocapture"])
        .env(CACHE_VARIABLE, cache)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a child loaded: `Some` bytes for each of its devices, or `None`.
fn loaded(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{error}");
    out.lines().find_map(|line| line.split_once("loaded ")).unwrap().1.to_owned()
}

/// The one file in a folder.
fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_next_start_reads_what_this_one_compiled() {
    let own = support::gpu();
    let own = own.as_gpu().unwrap();
    if !own.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
        assert_eq!(own.pipeline_cache(), None);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made when it is needed");
    let cache = folder.to_str().unwrap();
    assert_eq!(loaded(child(cache)), "[Some(0), Some(0)]");
    let file = only_file(&folder);
    let first = fs::read(&file).unwrap();
    let read = format!("[Some({0}), Some({0})]", first.len() - 16);
    assert_eq!(loaded(child(cache)), read);

    // Damaged, cut off, or something else: left aside, then replaced by what is good.
    let mut damaged = first.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for bad in [&damaged[..], &first[..first.len() / 2], b"something else"] {
        fs::write(&file, bad).unwrap();
        assert_eq!(loaded(child(cache)), "[Some(0), Some(0)]");
        assert!(!loaded(child(cache)).contains("Some(0)"));
    }

    // Several programs at once, none of which finds a file.
    fs::remove_file(&file).unwrap();
    let children = [0; 3].map(|_| child(cache));
    for child in children {
        loaded(child);
    }
    assert_eq!(only_file(&folder), file);
    assert!(!loaded(child(cache)).contains("Some(0)"));
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, "in the way").unwrap();
    let result = loaded(child(file.to_str().unwrap()));
    assert!(["[Some(0), Some(0)]", "[None, None]"].contains(&&*result), "{result}");
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
    assert_eq!(loaded(child("off")), "[None, None]");
}

#[test]
fn an_applications_device_keeps_no_file() {
    let (device, queue) = application();
    let device = Device::from_wgpu(device, queue).unwrap();
    plan(&device);
    assert_eq!(device.as_gpu().unwrap().pipeline_cache(), None);
}

#[test]
fn tests_leave_the_users_folder_alone() {
    let set = std::env::var_os(CACHE_VARIABLE);
    // The tests of a packed bundle run without cargo.
    assert!(set.is_some() || std::env::var_os("CARGO").is_none(), "cargo does not set {CACHE_VARIABLE}");
    let own = support::gpu();
    if let (Some(folder), Some((path, _))) = (set, own.as_gpu().unwrap().pipeline_cache()) {
        assert!(path.starts_with(folder), "{}", path.display());
    }
}
