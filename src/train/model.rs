//! Trained models as files: what is needed to use them, and nothing of the training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::{Contents, VERSION, metadata, unusable};
use crate::error::{Error, Result};
use crate::graph::ParamLayout;

const FORMAT: &str = "receptive-model";
const RESERVED: [&str; 5] = ["format", "version", "model", "config", "checksum"];

/// A model that was read from a file.
#[derive(Debug, Clone)]
pub struct Model<C> {
    /// The configuration.
    pub config: C,
    /// Everything else that was said of it when it was saved, such as `sample_rate`.
    pub metadata: BTreeMap<String, String>,
    path: PathBuf,
    contents: Contents,
}

/// Saves the weights of a model, and what is needed to build it again, as a safetensors file.
///
/// The tensors are `f32` under the parameters' names, dense, with the shape `[taps, channels in, channels out]`, the same
/// whichever device they come from. The metadata are `format` (`receptive-model`), `version`, `model` (such as
/// `wavenet`), `config` (JSON), `checksum`, and the entries of `extra`. The file appears as a whole or not at all; the
/// same model gives the same bytes.
///
/// # Errors
/// [`Error::Io`] if the file can't be written, in which case an older one is still there; [`Error::Config`] if `extra`
/// has one of the keys above, or the configuration has no JSON form; [`Error::Graph`] if `flat` is not of `layout`.
pub fn save_model<C: Serialize>(
    path: impl AsRef<Path>,
    model: &str,
    config: &C,
    layout: &ParamLayout,
    flat: &[f32],
    extra: &BTreeMap<String, String>,
) -> Result<()> {
    if let Some(key) = RESERVED.iter().find(|key| extra.contains_key(**key)) {
        return Err(Error::Config(format!("the model's metadata have a {key} already: use another key")));
    }
    if flat.len() != layout.flat_len() {
        let (given, expected) = (flat.len(), layout.flat_len());
        return Err(Error::Graph(format!("{given} elements are not the flat vector of a model with {expected}")));
    }
    let config =
        serde_json::to_string(config).map_err(|error| Error::Config(format!("the configuration as JSON: {error}")))?;
    let own = [
        ("format", FORMAT.to_owned()),
        ("version", VERSION.to_owned()),
        ("model", model.to_owned()),
        ("config", config),
    ];
    let mut contents = Contents { metadata: metadata(own), tensors: BTreeMap::new() };
    contents.metadata.extend(extra.clone());
    contents.gather("", layout, flat);
    contents.write(path.as_ref())
}

/// Reads a model of the kind `model` that [`save_model`] wrote.
///
/// # Errors
/// [`Error::Io`] if the file can't be read; [`Error::Checkpoint`], saying what is wrong and what to do, if it is damaged,
/// of another kind, or its configuration is not a `C`.
pub fn load_model<C: DeserializeOwned>(path: impl AsRef<Path>, model: &str) -> Result<Model<C>> {
    let path = path.as_ref();
    let contents = Contents::read(path, "copy it again, or save the model again")?;
    contents.expect(path, FORMAT, model)?;
    let config = contents.json(path, "config")?;
    let extra = contents.metadata.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    let metadata = extra.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Model { config, metadata, path: path.to_owned(), contents })
}

impl<C> Model<C> {
    /// The weights as the flat vector of a model's parameters, to be written to
    /// [`State::Params`](crate::graph::State::Params).
    ///
    /// # Errors
    /// [`Error::Checkpoint`], naming every tensor that is missing, too many or of another shape.
    pub fn flat(&self, layout: &ParamLayout) -> Result<Vec<f32>> {
        let mut wrong = Vec::new();
        let flat = self.contents.scatter("", layout, &mut wrong);
        let unknown = self.contents.tensors.keys().filter(|name| layout.find(name).is_none());
        wrong.extend(unknown.map(|name| format!("{name} is not part of the model")));
        match wrong.is_empty() {
            true => Ok(flat),
            false => Err(unusable(
                &self.path,
                format!(
                    "the weights are not those of this model: {}; build it with the file's configuration",
                    wrong.join(", ")
                ),
            )),
        }
    }
}
