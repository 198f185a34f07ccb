//! What the paper (supplement, tables 2 and 3) and its authors' scripts say, and what was told instead.

use anyhow::{Context as _, Result, bail, ensure};
use receptive::nn::{Body, RecurrentConfig, SequenceConfig, SequenceModel, TcnConfig};
use receptive::ops::Cell;
use receptive::optim::{Adam, Method, OptimizerConfig, RmsProp, Sgd};
use serde::Serialize;

use crate::args::{ModelKind, Source, TaskKind, TrainArgs};
use crate::language::{self, Language};

/// How the learning rate falls from one epoch to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Annealing {
    /// Not at all.
    None,
    /// Multiplied by `factor` after each `epochs`.
    Every { epochs: u64, factor: f32 },
    /// Multiplied by `factor` after each epoch later than `after` that is worse than all of the last `window` before it.
    Plateau { after: usize, window: usize, factor: f32 },
}

impl Annealing {
    /// The same, with another window where one is told.
    fn with_patience(self, patience: Option<u64>) -> Result<Self> {
        match (self, patience) {
            (_, None) => Ok(self),
            (Self::Plateau { after, factor, .. }, Some(epochs)) => {
                Ok(Self::Plateau { after, window: epochs as usize, factor })
            }
            _ => bail!("--patience: the learning rate of this experiment does not fall at a plateau"),
        }
    }

    /// The share of the full rate after some epochs.
    pub fn share(self, validations: &[f32]) -> f32 {
        match self {
            Self::None => 1.0,
            Self::Plateau { after, window, factor } => {
                let worse = |&epoch: &usize| {
                    let before = &validations[epoch.saturating_sub(window)..epoch];
                    epoch > after && before.iter().all(|&loss| validations[epoch] > loss)
                };
                factor.powi((0..validations.len()).filter(worse).count() as i32)
            }
            Self::Every { epochs, factor } => factor.powi((validations.len() as u64 / epochs.max(1)) as i32),
        }
    }
}

/// The method that updates weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    Adam,
    RmsProp,
    Sgd,
}

/// The settings of a training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    pub length: usize,
    pub batch: usize,
    pub kernel: usize,
    pub levels: usize,
    pub hidden: usize,
    pub dropout: f32,
    /// Whole channels, as the paper has it; the scripts leave out single elements.
    pub spatial_dropout: bool,
    /// The largest norm of a gradient; 0 for any.
    pub clip: f32,
    /// The decay of averages of the weights.
    pub average: Option<f64>,
    pub optimizer: Optimizer,
    pub learning_rate: f32,
    pub annealing: Annealing,
    pub epochs: u64,
    /// Examples that are made, for training and for testing.
    pub examples: (usize, usize),
    /// Standard deviation of the output's weights, where scripts set it.
    pub output_std: Option<f32>,
    /// Of language models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

impl Settings {
    /// Those of an experiment.
    pub fn new(task: TaskKind, args: &TrainArgs) -> Result<Self> {
        let paper = args.settings == Source::Paper;
        let adding = Self {
            length: 600,
            batch: 32,
            kernel: if paper { 8 } else { 7 },
            levels: 8,
            hidden: if paper { 24 } else { 30 },
            dropout: 0.0,
            spatial_dropout: paper,
            clip: 0.0,
            average: args.average,
            optimizer: Optimizer::Adam,
            learning_rate: if paper { 2e-3 } else { 4e-3 },
            annealing: Annealing::None,
            epochs: 10,
            examples: (50_000, 1000),
            output_std: Some(0.01),
            language: None,
        };
        let settings = match task {
            TaskKind::Adding => adding,
            TaskKind::Copy => Self {
                length: 1000,
                kernel: 8,
                hidden: 10,
                dropout: if paper { 0.05 } else { 0.0 },
                // The script clips before the gradient is there: it has no effect.
                clip: if paper { 1.0 } else { 0.0 },
                optimizer: Optimizer::RmsProp,
                learning_rate: 5e-4,
                epochs: 50,
                examples: (10_000, 1000),
                ..adding
            },
            TaskKind::Music => Self {
                length: 1,
                batch: 1,
                kernel: if paper { 3 } else { 5 },
                levels: if paper { 2 } else { 4 },
                hidden: 150,
                dropout: if paper { 0.5 } else { 0.25 },
                // The script clips before the gradient is there: it has no effect.
                clip: if paper { 0.4 } else { 0.0 },
                learning_rate: 1e-3,
                annealing: Annealing::Plateau { after: 9, window: 3, factor: 0.1 },
                epochs: 100,
                examples: (0, 0),
                output_std: None,
                ..adding
            },
            TaskKind::SeqMnist | TaskKind::PermMnist => Self {
                length: 784,
                batch: 64,
                kernel: 7,
                hidden: 25,
                dropout: if paper { 0.0 } else { 0.05 },
                learning_rate: 2e-3,
                annealing: Annealing::Every { epochs: 10, factor: 0.1 },
                epochs: 20,
                examples: (0, 0),
                output_std: None,
                ..adding
            },
            TaskKind::LmWord | TaskKind::LmChar | TaskKind::Lambada => language::settings(task, args, adding),
        };
        settings.with(args)
    }

    /// What was told takes its place.
    fn with(self, args: &TrainArgs) -> Result<Self> {
        let told = Self {
            length: args.length.unwrap_or(self.length),
            batch: args.batch.unwrap_or(self.batch),
            kernel: args.kernel.unwrap_or(self.kernel),
            levels: args.levels.unwrap_or(self.levels),
            hidden: args.hidden.unwrap_or(self.hidden),
            dropout: args.dropout.unwrap_or(self.dropout),
            clip: args.clip.unwrap_or(self.clip),
            learning_rate: args.learning_rate.unwrap_or(self.learning_rate),
            epochs: args.epochs.unwrap_or(self.epochs),
            annealing: self.annealing.with_patience(args.patience)?,
            ..self
        };
        let counts = [("batch", told.batch), ("length", told.length), ("levels", told.levels), ("hidden", told.hidden)];
        for (name, value) in counts {
            ensure!(value > 0, "--{name} must be at least 1");
        }
        ensure!(told.clip >= 0.0, "--clip must be 0 or positive, got {}", told.clip);
        Ok(told)
    }

    /// The optimizer; gradients are clipped after they are there.
    pub fn optimizer(&self) -> OptimizerConfig {
        let method = match self.optimizer {
            Optimizer::Adam => Method::Adam(Adam::default()),
            Optimizer::RmsProp => Method::RmsProp(RmsProp::default()),
            Optimizer::Sgd => Method::Sgd(Sgd::default()),
        };
        OptimizerConfig { method, clip_norm: (self.clip > 0.0).then_some(self.clip), average: self.average }
    }

    /// The temporal convolutional network of `inputs` channels.
    fn tcn(&self, inputs: usize) -> Body {
        let mut channels = vec![self.hidden; self.levels];
        if let (Some(last), Some(language)) = (channels.last_mut(), &self.language) {
            *last = language.embedding;
        }
        let config = TcnConfig::new(inputs, &channels, self.kernel);
        Body::Tcn(TcnConfig { dropout: self.dropout, spatial_dropout: self.spatial_dropout, ..config })
    }

    /// The model of a kind: `like` with its body; a recurrent one has about as many parameters as the network of these settings,
    /// where its units were not told.
    pub fn model(&self, args: &TrainArgs, inputs: usize, like: &SequenceConfig) -> Result<SequenceModel> {
        let of = |body: Body| SequenceModel::new(language::fitted(SequenceConfig { body, ..like.clone() }));
        let network = of(self.tcn(inputs))?;
        let cell = match args.model {
            ModelKind::Tcn => return Ok(network.with_precision(args.precision)),
            ModelKind::Lstm => Cell::Lstm { hard: false },
            ModelKind::Gru => Cell::Gru { reset_after: true, hard: false },
            ModelKind::Rnn => Cell::Elman { relu: false },
        };
        let layers = args.levels.unwrap_or(1);
        let recurrent = |hidden: usize| {
            let forget_bias = (args.model == ModelKind::Lstm).then_some(1.0);
            Body::Recurrent(RecurrentConfig { layers, forget_bias, ..RecurrentConfig::new(cell, hidden) })
        };
        let hidden = match args.hidden {
            Some(hidden) => hidden,
            None => {
                let most = network.parameter_count()?;
                let mut hidden = 1;
                while of(recurrent(hidden + 1))?.parameter_count()? <= most {
                    hidden += 1;
                }
                hidden
            }
        };
        of(recurrent(hidden)).map(|model| model.with_precision(args.precision)).context("the recurrent model")
    }
}
