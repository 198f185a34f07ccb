//! The container of models and checkpoints: a safetensors file with a checksum, replaced as a whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::graph::{ParamLayout, Shape};
use crate::hash::Hash;

/// The entry of the metadata that guards all others and the tensors.
const CHECKSUM: &str = "checksum";

/// A tensor as files hold it: `f32`, dense.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// What a file holds, in the order of the names.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Stored>,
}

/// An [`Error::Checkpoint`].
pub(super) fn unusable(path: &Path, message: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.to_owned(), message: message.into() }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    |source| Error::Io { path: path.to_owned(), source }
}

impl Contents {
    /// Adds the parameters of a layout out of a flat vector, each under `prefix` and its name.
    pub fn gather(&mut self, prefix: &str, layout: &ParamLayout, flat: &[f32]) {
        for param in layout.iter() {
            let Shape { batch, time, channels, .. } = param.shape;
            let stored = Stored { shape: vec![batch, time, channels], values: param.gather(flat) };
            self.tensors.insert(format!("{prefix}{}", param.name), stored);
        }
    }

    /// The flat vector of the parameters under `prefix`. What is missing or has another shape is added to `wrong`.
    pub fn scatter(&self, prefix: &str, layout: &ParamLayout, wrong: &mut Vec<String>) -> Vec<f32> {
        let mut flat = vec![0.0; layout.flat_len()];
        for param in layout.iter() {
            let name = format!("{prefix}{}", param.name);
            let Shape { batch, time, channels, .. } = param.shape;
            match self.tensors.get(&name) {
                None => wrong.push(format!("{name} is missing")),
                Some(stored) if stored.shape != [batch, time, channels] => {
                    wrong.push(format!("{name} has the shape {:?}, not {:?}", stored.shape, [batch, time, channels]));
                }
                Some(stored) => param.scatter(&stored.values, &mut flat),
            }
        }
        flat
    }

    /// The hash of everything but itself.
    fn checksum(&self) -> String {
        let mut hash = Hash::new();
        for (key, value) in self.metadata.iter().filter(|(key, _)| *key != CHECKSUM) {
            hash.text(key).text(value);
        }
        for (name, stored) in &self.tensors {
            hash.text(name).text(&format!("{:?}", stored.shape));
            for value in &stored.values {
                hash.bytes(&value.to_le_bytes());
            }
        }
        hash.hex()
    }

    /// Writes a file next to `path` and then puts it in its place, so that `path` is always the old or the new file.
    /// The same contents give the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; what was at `path` is still there.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        self.metadata.insert(CHECKSUM.into(), self.checksum());
        let temporary = temporary(path)?;
        let written = self.write_to(&temporary).and_then(|()| fs::rename(&temporary, path));
        if let Err(source) = written {
            let _ = fs::remove_file(&temporary);
            return Err(Error::Io { path: path.to_owned(), source });
        }
        // The new name is on the disk once the folder is. Not every system can do that, and the file is good without.
        if let Some(folder) = folder(path).filter(|_| cfg!(unix)) {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!(self.metadata));
        let mut offset = 0;
        for (name, stored) in &self.tensors {
            let end = offset + stored.values.len() * 4;
            let entry = json!({ "dtype": "F32", "shape": stored.shape, "data_offsets": [offset, end] });
            header.insert(name.clone(), entry);
            offset = end;
        }
        // The crate's own writer puts the metadata in an order that differs from run to run.
        let mut header = Value::Object(header).to_string();
        let padding = header.len().next_multiple_of(8) - header.len();
        header.extend(std::iter::repeat_n(' ', padding));

        let mut file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for value in self.tensors.values().flat_map(|stored| &stored.values) {
            file.write_all(&value.to_le_bytes())?;
        }
        file.into_inner()?.sync_all()
    }

    /// Reads a file and checks it; `advice` says what to do about one that can't be used.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read, [`Error::Checkpoint`] if it is no safetensors file of `f32` or is damaged.
    pub fn read(path: &Path, advice: &str) -> Result<Self> {
        let bytes = fs::read(path).map_err(io_error(path))?;
        let damaged = |message: String| unusable(path, format!("{message}; {advice}"));
        let parsed = |error| damaged(describe(&error, bytes.len()));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(parsed)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(parsed)?;
        let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
        let mut contents = Self { metadata: metadata.collect(), tensors: BTreeMap::new() };
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("the tensor {name} is {:?}, not F32", view.dtype())));
            }
            let (words, _) = view.data().as_chunks::<4>();
            let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
            contents.tensors.insert(name.to_owned(), Stored { shape: view.shape().to_vec(), values });
        }
        // Files from elsewhere have none.
        if contents.metadata.get(CHECKSUM).is_some_and(|stored| *stored != contents.checksum()) {
            return Err(damaged("the file is damaged: its contents don't match its checksum".into()));
        }
        Ok(contents)
    }

    /// Checks format, version and model.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], with what is there and what was expected.
    pub fn expect(&self, path: &Path, format: &str, model: &str) -> Result<()> {
        let found = |key: &str| self.metadata.get(key).map(String::as_str);
        match found("format") {
            Some(there) if there == format => {}
            Some(there) => return Err(unusable(path, format!("the file is a {there}, not a {format}"))),
            None => {
                return Err(unusable(
                    path,
                    format!("another program wrote this file: its metadata don't say {format}"),
                ));
            }
        }
        if found("version") != Some(VERSION) {
            let version = found("version").unwrap_or("none");
            return Err(unusable(
                path,
                format!(
                    "the format's version is {version}, this build reads {VERSION}: use the crate's release that wrote it"
                ),
            ));
        }
        if found("model") != Some(model) {
            let there = found("model").unwrap_or("none");
            return Err(unusable(path, format!("the model is {there}, not {model}")));
        }
        Ok(())
    }

    /// A JSON entry of the metadata.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none or it is something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self, path: &Path, key: &str) -> Result<T> {
        let text = self.metadata.get(key).ok_or_else(|| unusable(path, format!("its metadata have no {key}")))?;
        serde_json::from_str(text)
            .map_err(|error| unusable(path, format!("{key} in its metadata is not what it should be: {error}")))
    }
}

/// Of both formats.
pub(super) const VERSION: &str = "1";

/// Whether a file could be written, found out without touching what is there.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn check_writable(path: &Path) -> Result<()> {
    let temporary = temporary(path)?;
    if path.is_dir() {
        return Err(io_error(path)(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    File::create(&temporary).and_then(|_| fs::remove_file(&temporary)).map_err(io_error(path))
}

fn folder(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// In the same folder, because only there can it take the other's place at once. The name is always the same, so that
/// what an interrupted write left behind is overwritten by the next.
fn temporary(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::Config(format!("{} is no name of a file", path.display())))?;
    let mut name = name.to_owned();
    name.push(".tmp");
    Ok(path.with_file_name(name))
}

fn describe(error: &SafeTensorError, bytes: usize) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            format!("the file ({bytes} bytes) is no safetensors file, or was cut off in its header")
        }
        SafeTensorError::InvalidHeader(_) | SafeTensorError::InvalidHeaderDeserialization(_) => {
            "the file is no safetensors file, or its header is damaged".to_owned()
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("the file was cut off or added to: its {bytes} bytes are not those that its header announces")
        }
        error => format!("the file is damaged: {error}"),
    }
}

/// Where two JSON values differ: `config.residual is 8 in the checkpoint and 16 here`.
pub(super) fn differences(name: &str, saved: &Value, here: &Value) -> Vec<String> {
    match (saved, here) {
        (Value::Object(saved), Value::Object(here)) => {
            let keys: BTreeMap<&String, ()> = saved.keys().chain(here.keys()).map(|key| (key, ())).collect();
            let of = |map: &Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or(Value::Null);
            keys.into_keys()
                .flat_map(|key| differences(&format!("{name}.{key}"), &of(saved, key), &of(here, key)))
                .collect()
        }
        _ if saved == here => vec![],
        _ => vec![format!("{name} is {saved} in the checkpoint and {here} here")],
    }
}

/// A value as it comes back from a file: floating-point numbers may lose their last digit on the way.
pub(super) fn as_read(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or_else(|_| value.clone())
}

/// Metadata for [`Contents`] from pairs.
pub(super) fn metadata<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
