//! Checkpoints: everything that a training run needs to go on bitwise as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::{Contents, Stored, VERSION, as_read, differences, metadata, unusable};
use crate::error::Result;
use crate::exec::Store;
use crate::graph::{Program, State};

const FORMAT: &str = "receptive-checkpoint";
/// All entries of the metadata.
const KEYS: [&str; 9] =
    ["format", "version", "model", "config", "optimizer", "settings", "step", "validation", "checksum"];
const ADVICE: &str = "continue from another copy, or start anew without it";

/// A mean loss over the validation data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps that had been made.
    pub step: u64,
    /// The loss, in nats.
    pub loss: f32,
}

/// What a checkpoint says of its run, beside the numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub model: String,
    pub config: Value,
    pub optimizer: Value,
    /// What else must be the same for the run to go on exactly.
    pub settings: Value,
    pub step: u64,
    pub validation: Option<Validation>,
}

/// A checkpoint that was read from a file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    run: Run,
    path: PathBuf,
    contents: Contents,
}

/// The states of a program that outlive a step: gradients don't.
fn kept(program: &Program) -> impl Iterator<Item = (State, usize)> + '_ {
    program.states().filter(|(state, _)| *state != State::Grads)
}

/// Whether a state is a flat vector over the parameters.
fn is_flat(state: State) -> bool {
    !matches!(state, State::Counters | State::LossScale)
}

/// Writes a checkpoint in one piece or not at all.
pub(super) fn save(path: &Path, run: &Run, program: &Program, vectors: &[(State, Vec<f32>)]) -> Result<()> {
    let json = |value: &Value| value.to_string();
    let mut contents = Contents {
        metadata: metadata([
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("model", run.model.clone()),
            ("config", json(&run.config)),
            ("optimizer", json(&run.optimizer)),
            ("settings", json(&run.settings)),
            ("step", run.step.to_string()),
        ]),
        tensors: BTreeMap::new(),
    };
    if let Some(validation) = run.validation {
        // As bits: JSON has no way to write what is not finite, and may lose a digit.
        let text = format!("{} {:08x} {}", validation.step, validation.loss.to_bits(), validation.loss);
        contents.metadata.insert("validation".into(), text);
    }
    for (state, values) in vectors {
        if is_flat(*state) {
            contents.gather(&format!("{}.", state.name()), program.params(), values);
        } else {
            let stored = Stored { shape: vec![values.len()], values: values.clone() };
            contents.tensors.insert(state.name().into(), stored);
        }
    }
    contents.write(path)
}

/// The vectors of a program that belong in a checkpoint, as they lie on the device.
pub(super) fn read_vectors(program: &Program, store: &Store) -> Result<Vec<(State, Vec<f32>)>> {
    kept(program).map(|(state, _)| Ok((state, store.read(state)?))).collect()
}

impl Checkpoint {
    /// Reads the checkpoint of a model of the kind `model` (such as `wavenet`).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file can't be read; [`Error::Checkpoint`](crate::Error::Checkpoint), saying
    /// what is wrong and what to do, if it is damaged or something else.
    pub fn load(path: impl AsRef<Path>, model: &str) -> Result<Self> {
        let path = path.as_ref();
        let contents = Contents::read(path, ADVICE)?;
        contents.expect(path, FORMAT, model)?;
        // One may be a damaged name of another.
        if let Some(key) = contents.metadata.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unusable(path, format!("its metadata have an unknown entry {key:?}; {ADVICE}")));
        }
        let validation = contents.metadata.get("validation").map(|text| {
            let mut words = text.split(' ');
            let step = words.next().and_then(|word| word.parse().ok());
            let bits = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
            step.zip(bits).map(|(step, bits)| Validation { step, loss: f32::from_bits(bits) }).ok_or_else(|| {
                unusable(path, format!("validation in its metadata is not what it should be: {text:?}; {ADVICE}"))
            })
        });
        let run = Run {
            model: model.to_owned(),
            config: contents.json(path, "config")?,
            optimizer: contents.json(path, "optimizer")?,
            settings: contents.json(path, "settings")?,
            step: contents.json(path, "step")?,
            validation: validation.transpose()?,
        };
        Ok(Self { run, path: path.to_owned(), contents })
    }

    /// The model's configuration.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if it is not a `C`.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C> {
        self.contents.json(&self.path, "config")
    }

    /// The optimizer's configuration.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if it is not one that this build knows.
    pub fn optimizer(&self) -> Result<crate::optim::OptimizerConfig> {
        self.contents.json(&self.path, "optimizer")
    }

    /// Steps made.
    pub fn step(&self) -> u64 {
        self.run.step
    }

    /// The latest validation.
    pub fn validation(&self) -> Option<Validation> {
        self.run.validation
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the run goes on with the same configuration, optimizer and settings; clipping may differ.
    pub(super) fn expect(&self, here: &Run) -> Result<()> {
        let without_clipping = |optimizer: &Value| {
            let mut optimizer = optimizer.clone();
            optimizer.as_object_mut().map(|fields| fields.remove("clip_norm"));
            optimizer
        };
        let pairs = [
            ("config", self.run.config.clone(), here.config.clone()),
            ("optimizer", without_clipping(&self.run.optimizer), without_clipping(&here.optimizer)),
            ("settings", self.run.settings.clone(), here.settings.clone()),
        ];
        let differing: Vec<String> =
            pairs.iter().flat_map(|(name, saved, here)| differences(name, saved, &as_read(here))).collect();
        match differing.is_empty() {
            true => Ok(()),
            false => Err(unusable(
                &self.path,
                format!(
                    "it is of another run: {}; give what the checkpoint has, or start anew without it",
                    differing.join(", ")
                ),
            )),
        }
    }

    /// Writes everything to the memory that `program` uses.
    pub(super) fn restore(&self, program: &Program, store: &Store) -> Result<()> {
        let mut wrong = Vec::new();
        let mut vectors = Vec::new();
        let mut expected: Vec<String> = Vec::new();
        for (state, elements) in kept(program) {
            let name = state.name();
            if is_flat(state) {
                let prefix = format!("{name}.");
                expected.extend(program.params().iter().map(|param| format!("{prefix}{}", param.name)));
                vectors.push((state, self.contents.scatter(&prefix, program.params(), &mut wrong)));
            } else {
                expected.push(name.into());
                match self.contents.tensors.get(name) {
                    Some(stored) if stored.shape == [elements] => vectors.push((state, stored.values.clone())),
                    Some(stored) => wrong.push(format!("{name} has the shape {:?}, not [{elements}]", stored.shape)),
                    None => wrong.push(format!("{name} is missing")),
                }
            }
        }
        let unknown = self.contents.tensors.keys().filter(|name| !expected.contains(name));
        wrong.extend(unknown.map(|name| format!("{name} is not part of the run")));
        if !wrong.is_empty() {
            return Err(unusable(&self.path, format!("{}; {ADVICE}", wrong.join(", "))));
        }
        vectors.iter().try_for_each(|(state, values)| store.write(*state, values))
    }
}
