//! Files that can't be used say why, and interrupted writes harm nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use receptive::data::Split;
use receptive::graph::{Extent, State};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::optim::{Method, OptimizerConfig, Sgd};
use receptive::train::{Checkpoint, Trainer, TrainerOptions, WaveNetTask, WaveNetTaskOptions, load_model};
use receptive::{Device, Error};
use safetensors::SafeTensors;

use crate::tiny_wavenet::{BATCH, chunks, config, optimizer, options, task, task_of, train};

fn checkpoint(path: &Path) -> Vec<u8> {
    let mut trainer = Trainer::new(task(), &Device::cpu(), options()).unwrap();
    train(&mut trainer, 2).unwrap();
    trainer.save(path).unwrap();
    fs::read(path).unwrap()
}

/// The message of an [`Error::Checkpoint`] that names the file.
#[track_caller]
fn message<T>(result: Result<T, Error>, path: &Path) -> String {
    match result.map(drop) {
        Err(Error::Checkpoint { path: named, message }) => {
            assert_eq!(named, path);
            message
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let good = checkpoint(&path);
    let load = || Checkpoint::load(&path, "wavenet");
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for length in [0, 1, 7, 8, 9, header - 1, header, header + 5, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let text = message(load(), &path);
        assert!(text.contains("cut off") && text.contains("start anew"), "{length}: {text}");
    }
    fs::write(&path, [good.as_slice(), b"more"].concat()).unwrap();
    assert!(message(load(), &path).contains("added to"));
    // Each byte of the header, and some of the numbers.
    for at in (0..header).chain((header..good.len()).step_by(997)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        if let Ok(loaded) = load() {
            // A changed character of white space means nothing.
            assert!(bad[at].is_ascii_whitespace() || good[at].is_ascii_whitespace(), "byte {at}");
            assert_eq!(loaded.step(), 2);
        }
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(load().unwrap().step(), 2);
}

#[test]
fn foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let load = || Checkpoint::load(&path, "wavenet");
    for content in [&b"RIFF\x24\x00\x00\x00WAVEfmt and so on"[..], b"{\"step\": 3}", &[0xff; 4096], b"PK\x03\x04"] {
        fs::write(&path, content).unwrap();
        let text = message(load(), &path);
        assert!(text.contains("no safetensors file"), "{text}");
    }
    // Somebody else's weights.
    let data = [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat();
    let view = |dtype, shape| safetensors::tensor::TensorView::new(dtype, shape, &data).unwrap();
    let other = |dtype, shape| safetensors::serialize([("w", view(dtype, shape))], None).unwrap();
    fs::write(&path, other(safetensors::Dtype::F32, vec![2])).unwrap();
    assert!(message(load(), &path).contains("another program wrote this file"));
    assert!(message(load_model::<WaveNetConfig>(&path, "wavenet"), &path).contains("another program"));
    fs::write(&path, other(safetensors::Dtype::F64, vec![1])).unwrap();
    let text = message(load(), &path);
    assert!(text.contains('w') && text.contains("F64"), "{text}");

    // Models and checkpoints are not each other.
    let mut trainer = Trainer::new(task(), &Device::cpu(), options()).unwrap();
    trainer.save_model(&path, &BTreeMap::new()).unwrap();
    assert!(message(load(), &path).contains("is a receptive-model, not a receptive-checkpoint"));
    trainer.save(&path).unwrap();
    assert!(message(load_model::<WaveNetConfig>(&path, "wavenet"), &path).contains("is a receptive-checkpoint"));
    assert!(message(Checkpoint::load(&path, "tcn"), &path).contains("the model is wavenet, not tcn"));

    let missing = folder.path().join("nothing");
    assert!(matches!(Checkpoint::load(&missing, "wavenet"), Err(Error::Io { path, .. }) if path == missing));
}

/// Changes one entry of a file's metadata; without a checksum, as another program would leave it.
fn with_metadata(bytes: &[u8], key: &str, value: &str) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    metadata.remove("checksum");
    metadata.insert(key.into(), value.into());
    safetensors::serialize(tensors.iter(), Some(metadata)).unwrap()
}

#[test]
fn metadata_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let good = checkpoint(&path);
    let cases = [
        ("version", "2", "version is 2, this build reads 1"),
        ("step", "-1", "step in its metadata"),
        ("step", "many", "step in its metadata"),
        ("config", "{", "config in its metadata"),
        ("validation", "soon", "validation in its metadata"),
        ("epoch", "3", "unknown entry \"epoch\""),
    ];
    for (key, value, expected) in cases {
        fs::write(&path, with_metadata(&good, key, value)).unwrap();
        let text = message(Checkpoint::load(&path, "wavenet"), &path);
        assert!(text.contains(expected), "{text}");
    }
    fs::write(&path, with_metadata(&good, "config", "{\"widths\": 3}")).unwrap();
    let loaded = Checkpoint::load(&path, "wavenet").unwrap();
    assert!(message(loaded.config::<WaveNetConfig>(), &path).contains("widths"));
}

#[test]
fn another_run_is_named_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    checkpoint(&path);
    let resume = |task: WaveNetTask, options: TrainerOptions| {
        message(Trainer::resume(task, &Device::cpu(), options, &path), &path)
    };
    let text = resume(task_of(WaveNetConfig { skip: 20, head: 16, ..config() }, optimizer()), options());
    assert!(text.contains("config.skip is 12 in the checkpoint and 20 here"), "{text}");
    assert!(text.contains("config.head is 12 in the checkpoint and 16 here"), "{text}");
    assert!(!text.contains("config.gate") && text.contains("start anew"), "{text}");

    let sgd = OptimizerConfig { method: Method::Sgd(Sgd::default()), ..optimizer() };
    let text = resume(task_of(config(), sgd), options());
    assert!(text.contains("optimizer.method.adam") && text.contains("optimizer.method.sgd"), "{text}");

    let text = resume(task(), TrainerOptions { seed: 6, ..options() });
    assert!(text.contains(r#"settings.seed is "5" in the checkpoint and "6" here"#), "{text}");

    let other_data = |batch| {
        let options = WaveNetTaskOptions { batch, optimizer: optimizer(), valid_chunks: None };
        let model = WaveNet::new(config()).unwrap();
        WaveNetTask::new(model, chunks(Split::Train, &config(), 3), None, options).unwrap()
    };
    let text = resume(other_data(BATCH), options());
    assert!(text.contains("settings.training_data") && !text.contains("settings.batch"), "{text}");
    assert!(resume(other_data(3), options()).contains("settings.batch is 2 in the checkpoint and 3 here"));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let mut trainer = Trainer::new(task(), &Device::cpu(), options()).unwrap();
    trainer.save_model(&path, &BTreeMap::new()).unwrap();
    let model = load_model::<WaveNetConfig>(&path, "wavenet").unwrap();
    let layout = |config| {
        let program = WaveNet::new(config).unwrap().logits(Extent { batch: 1, time: 4 }).unwrap().program;
        program.params().clone()
    };
    let text = message(model.flat(&layout(WaveNetConfig { head: 16, biases: false, ..config() })), &path);
    assert!(text.contains("head.1.weight has the shape [1, 12, 32], not [1, 16, 32]"), "{text}");
    assert!(text.contains("skip.bias is not part of the model"), "{text}");
    let text = message(model.flat(&layout(WaveNetConfig { residual_in_last_layer: true, ..config() })), &path);
    assert!(text.contains("layers.2.residual.weight is missing"), "{text}");
}

#[test]
fn files_that_cannot_be_written_are_found_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    for path in [folder.path().join("no such folder/run"), file.join("run"), folder.path().to_owned()] {
        let with_file = TrainerOptions { checkpoint: Some(path.clone()), ..options() };
        let error = Trainer::new(task(), &Device::cpu(), with_file).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
        let mut trainer = Trainer::new(task(), &Device::cpu(), options()).unwrap();
        let error = trainer.save(&path).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"], "nothing is left behind");
}

#[test]
fn an_interrupted_write_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let good = checkpoint(&path);
    // What a write that was killed leaves behind.
    fs::write(folder.path().join("run.tmp"), &good[..good.len() / 3]).unwrap();
    let with_file = TrainerOptions { checkpoint: Some(path.clone()), ..options() };
    let mut trainer = Trainer::resume(task(), &Device::cpu(), with_file, &path).unwrap();
    assert!(fs::read(&path).unwrap() == good);
    train(&mut trainer, 4).unwrap();
    assert_eq!(Checkpoint::load(&path, "wavenet").unwrap().step(), 4);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the leftover is gone");

    // A write that fails half-way: a folder is in the way of the temporary file.
    let before = fs::read(&path).unwrap();
    fs::create_dir(folder.path().join("run.tmp")).unwrap();
    assert!(matches!(trainer.save(&path), Err(Error::Io { .. })));
    assert!(fs::read(&path).unwrap() == before);
    assert!(trainer.store().read(State::Params).unwrap().iter().all(|value| value.is_finite()));
}
