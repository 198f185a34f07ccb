//! The experiments: their data, and what a model reads and tells.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use receptive::data::images::{Images, pixel_permutation};
use receptive::data::piano_roll::PianoRolls;
use receptive::data::{Sequences, synthetic};
use receptive::nn::{Body, Objective, SequenceConfig, SequenceInput, TcnConfig};

use crate::args::{TaskKind, TrainArgs};
use crate::language;
use crate::settings::Settings;

/// The order of the pixels of permuted MNIST is the same for all seeds of a training.
const PERMUTATION_SEED: u64 = 92_916;
/// MNIST's classes.
const DIGITS: u8 = 10;

/// An experiment with its data.
#[derive(Debug)]
pub struct Experiment {
    pub train: Arc<dyn Sequences>,
    /// To choose by, where the data have a part for it.
    pub valid: Option<Arc<dyn Sequences>>,
    pub test: Arc<dyn Sequences>,
    /// Channels that the body reads.
    pub inputs: usize,
    /// The model but for its body.
    pub like: SequenceConfig,
    /// What the loss is called.
    pub unit: &'static str,
    /// The loss of guessing.
    pub guess: Option<(&'static str, f64)>,
}

impl TaskKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Copy => "copy",
            Self::SeqMnist => "seq-mnist",
            Self::PermMnist => "perm-mnist",
            Self::Music => "music",
            Self::LmWord => "lm-word",
            Self::LmChar => "lm-char",
            Self::Lambada => "lambada",
        }
    }

    /// Reads or makes the data.
    pub fn open(self, args: &TrainArgs, settings: &Settings) -> Result<Experiment> {
        let like = |inputs: usize, outputs: usize, objective: Objective| SequenceConfig {
            input: SequenceInput::Values { channels: inputs },
            body: Body::Tcn(TcnConfig::new(inputs, &[1], 1)),
            outputs,
            objective,
            output_std: settings.output_std,
        };
        let (length, batch, (train, test)) = (settings.length, settings.batch, settings.examples);
        match self {
            Self::Adding => {
                let made = |first: usize, count: usize| {
                    let made = synthetic::adding_problem(args.data_seed, first as u32, count, length, batch);
                    made.context("--length must be at least 2")
                };
                Ok(Experiment {
                    train: Arc::new(made(0, train)?),
                    valid: None,
                    test: Arc::new(made(train, test)?),
                    inputs: 2,
                    like: like(2, 1, Objective::LastValues),
                    unit: "mean squared error",
                    guess: Some(("always 1", 0.1767)),
                })
            }
            Self::Copy => {
                let made = |first: usize, count: usize| {
                    let made = synthetic::copy_memory(args.data_seed, first as u32, count, length, batch);
                    made.context("--length must be at least 1")
                };
                Ok(Experiment {
                    train: Arc::new(made(0, train)?),
                    valid: None,
                    test: Arc::new(made(train, test)?),
                    inputs: 1,
                    like: like(1, synthetic::COPY_CLASSES, Objective::Classes),
                    unit: "nats a position",
                    guess: Some(("guessing the digits", 10.0 * 8.0_f64.ln() / (length + 20) as f64)),
                })
            }
            Self::Music => {
                let file = args.data.as_ref().context("--data is needed: an npz file of piano rolls")?;
                let [train, valid, test] = ["train", "valid", "test"].map(|part| PianoRolls::read(file, part));
                let [train, valid, test] = [train?, valid?, test?].map(|part| part.with_batch(batch));
                let keys = train.keys();
                for (name, part) in [("valid", &valid), ("test", &test)] {
                    ensure!(part.keys() == keys, "{}: {name} has other keys than train", file.display());
                }
                Ok(Experiment {
                    train: Arc::new(train),
                    valid: Some(Arc::new(valid)),
                    test: Arc::new(test),
                    inputs: keys,
                    like: like(keys, keys, Objective::Frames),
                    unit: "nats a frame",
                    guess: None,
                })
            }
            Self::LmWord | Self::LmChar | Self::Lambada => language::open(self, args, settings),
            Self::SeqMnist | Self::PermMnist => {
                let folder = args.data.as_ref().context("--data is needed: the folder with MNIST's four IDX files")?;
                let order = (self == Self::PermMnist).then(|| pixel_permutation(PERMUTATION_SEED, settings.length));
                let part = |name: &str| -> Result<Arc<dyn Sequences>> {
                    let images = Images::read(folder, name)?;
                    if let Some(label) = images.labels.iter().find(|&&label| label >= DIGITS) {
                        bail!("{}: the labels of {name} have a {label}, which is no digit", folder.display());
                    }
                    let sequences = images.sequences(order.as_deref(), batch);
                    let sequences = sequences.with_context(|| format!("{}: no images in {name}", folder.display()))?;
                    Ok(Arc::new(sequences))
                };
                Ok(Experiment {
                    train: part("train")?,
                    valid: None,
                    test: part("t10k")?,
                    inputs: 1,
                    like: like(1, DIGITS.into(), Objective::LastClass),
                    unit: "nats an image",
                    guess: None,
                })
            }
        }
    }
}
