//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::shared::command::{decay, minutes, rate};

/// Trains temporal convolutional networks, and recurrent ones of the same size, on the experiments of Bai, Kolter and Koltun (2018).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tcn copy --length 1000
  tcn adding --length 600 --settings paper --model gru
  tcn seq-mnist --data mnist --minutes 60
  tcn lm-word --data ptb --settings script
  tcn table --runs runs/tcn
  tcn table --tasks copy,music --models tcn,gru --data music=JSB.npz -- --minutes 10";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add the two marked numbers of a sequence
    Adding(TrainArgs),
    /// Repeat ten digits after a long time
    Copy(TrainArgs),
    /// Tell the digit of an image read pixel by pixel
    SeqMnist(TrainArgs),
    /// The same with the pixels in a random order, the same for all images
    PermMnist(TrainArgs),
    /// Tell the next frame of polyphonic music
    Music(TrainArgs),
    /// Tell the next word of a text
    LmWord(TrainArgs),
    /// Tell the next character of a text
    LmChar(TrainArgs),
    /// Tell the last word of a passage, by a model of the next word
    Lambada(TrainArgs),
    /// Print what trained models reached beside the paper's table
    Table(TableArgs),
}

impl Command {
    /// The experiment, where it is one.
    pub fn training(&self) -> Option<(TaskKind, &TrainArgs)> {
        Some(match self {
            Self::Adding(args) => (TaskKind::Adding, args),
            Self::Copy(args) => (TaskKind::Copy, args),
            Self::SeqMnist(args) => (TaskKind::SeqMnist, args),
            Self::PermMnist(args) => (TaskKind::PermMnist, args),
            Self::Music(args) => (TaskKind::Music, args),
            Self::LmWord(args) => (TaskKind::LmWord, args),
            Self::LmChar(args) => (TaskKind::LmChar, args),
            Self::Lambada(args) => (TaskKind::Lambada, args),
            Self::Table(_) => return None,
        })
    }
}

/// An experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    Adding,
    Copy,
    SeqMnist,
    PermMnist,
    Music,
    LmWord,
    LmChar,
    Lambada,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A temporal convolutional network
    Tcn,
    /// An LSTM of about as many parameters
    Lstm,
    /// A GRU of about as many parameters
    Gru,
    /// Elman's network (tanh) of about as many parameters
    Rnn,
}

impl ModelKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcn => "tcn",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Rnn => "rnn",
        }
    }
}

/// Whose settings, where the paper and its authors' scripts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The scripts' defaults, as far as they have an effect there
    Script,
    /// The paper's tables
    Paper,
}

#[derive(Debug, Clone, ClapArgs, Serialize)]
pub struct TrainArgs {
    /// What is trained
    #[arg(long, value_enum, default_value = "tcn")]
    pub model: ModelKind,
    /// Whose settings, where the paper and its authors' scripts differ
    #[arg(long, value_enum, default_value = "paper")]
    pub settings: Source,
    /// Folder or file of the data; adding and copy need none
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Positions of a sequence: adding 600, copy 1000 blanks; of a window of text
    #[arg(long)]
    pub length: Option<usize>,
    /// Epochs at most; those of the settings if left out
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Minutes of training at most, for each seed; the epoch under way is finished
    #[arg(long, value_parser = minutes)]
    pub minutes: Option<f64>,
    /// Trainings with seeds one after the other; mean and spread are told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1111)]
    pub seed: u64,
    /// The seed of the data of adding and copy, the same for all trainings
    #[arg(long, default_value_t = 1111)]
    pub data_seed: u64,
    /// Learning rate
    #[arg(long, value_parser = rate)]
    pub learning_rate: Option<f32>,
    /// Epochs of which one must be worse than all before the learning rate falls, where it falls at a plateau
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Sequences of a step
    #[arg(long)]
    pub batch: Option<usize>,
    /// Taps of a convolution
    #[arg(long)]
    pub kernel: Option<usize>,
    /// Levels of the network, or recurrent layers
    #[arg(long)]
    pub levels: Option<usize>,
    /// Channels of a level, or units of a recurrent layer
    #[arg(long)]
    pub hidden: Option<usize>,
    /// Channels of the embedding of a word or character
    #[arg(long)]
    pub embedding: Option<usize>,
    /// Positions of a window of text that are told, its last ones
    #[arg(long)]
    pub told: Option<usize>,
    /// Take the bytes of a text as its characters
    #[arg(long)]
    pub bytes: bool,
    /// Probability of dropout
    #[arg(long)]
    pub dropout: Option<f32>,
    /// Largest norm of a gradient; 0 for any
    #[arg(long)]
    pub clip: Option<f32>,
    /// Average the weights over the steps, with this decay (0.999 spans about a thousand): the averages are tested and saved
    #[arg(long, value_name = "DECAY", value_parser = decay)]
    pub average: Option<f64>,
    /// Where to run: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How devices store activations: f32 or f16
    #[arg(long, default_value = "f32")]
    pub precision: receptive::graph::Precision,
    /// Folder for results; runs/tcn/TASK-MODEL if left out
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on with the training in the folder
    #[arg(long)]
    pub resume: bool,
}

impl TrainArgs {
    /// What was told of the network and its training that is not in the settings, such as `--length 10`.
    pub fn told(&self) -> Vec<String> {
        let number = |name: &str, value: Option<f64>| value.map(|value| format!("--{name} {}", value as f32));
        let count = |name: &str, value: Option<usize>| value.map(|value| format!("--{name} {value}"));
        let told = [
            count("length", self.length),
            number("learning-rate", self.learning_rate.map(f64::from)),
            self.patience.map(|patience| format!("--patience {patience}")),
            count("batch", self.batch),
            count("kernel", self.kernel),
            count("levels", self.levels),
            count("hidden", self.hidden),
            count("embedding", self.embedding),
            count("told", self.told),
            self.bytes.then(|| "--bytes".to_owned()),
            number("dropout", self.dropout.map(f64::from)),
            number("clip", self.clip.map(f64::from)),
            number("average", self.average),
            (self.precision == receptive::graph::Precision::F16).then(|| format!("--precision {}", self.precision)),
        ];
        told.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, ClapArgs)]
pub struct TableArgs {
    /// Folder with the results of trainings, or folders of them
    #[arg(long, default_value = "runs/tcn")]
    pub runs: PathBuf,
    /// Experiments that are trained first where the folder has no result of them: such as adding,copy,music
    #[arg(long, value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// With which models
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcn")]
    pub models: Vec<ModelKind>,
    /// Where an experiment's data are: music=FILE, seq-mnist=FOLDER
    #[arg(long, value_name = "TASK=PATH")]
    pub data: Vec<String>,
    /// What each training is given besides: -- --minutes 10 --seeds 3
    #[arg(last = true)]
    pub rest: Vec<String>,
}
