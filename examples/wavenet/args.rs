//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use receptive::nn::WaveNetConfig;

/// Trains WaveNet on raw audio and generates sound.
///
/// Without a command it trains for a minute on a clip of plucked strings that it makes itself.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on a folder of recordings
    Train(TrainArgs),
    /// Generate a clip with a trained model
    Generate(GenerateArgs),
    /// Tell what a model is: layers, parameters, receptive field
    Info(InfoArgs),
}

impl Command {
    /// What the example does without a command.
    pub fn short_training() -> Self {
        Self::Train(TrainArgs { minutes: Some(1.0), ..TrainArgs::parse_from(["train"]) })
    }
}

#[derive(Debug, Parser)]
pub struct TrainArgs {
    /// Folder of WAV and FLAC files, searched to any depth, or one file [default: a built-in clip of plucked strings]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder for the model, checkpoint, metrics, pictures and sample
    #[arg(long, value_name = "DIR", default_value = "runs/wavenet")]
    pub out: PathBuf,
    /// Size of the model
    #[arg(long, default_value = "small", value_parser = WaveNetConfig::PRESETS)]
    pub preset: String,
    /// Steps in all, those before a resumption included [default: 10000, or as many as --minutes allow]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Stop after so many minutes of training
    #[arg(long, value_name = "M")]
    pub minutes: Option<f64>,
    /// Samples in a chunk; the first receptive field of it only conditions
    #[arg(long, value_name = "SAMPLES", default_value_t = 20_000)]
    pub chunk: usize,
    /// Chunks in a step
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,
    /// Learning rate of Adam
    #[arg(long, value_name = "X", default_value_t = 2e-3)]
    pub lr: f32,
    /// Clip the gradient to this norm; 0 for no clipping
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub clip: f32,
    /// Names the starting weights, the order of the data and the sample
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// auto, cpu, gpu, a backend, or part of an adapter's name
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
    /// Resample to this rate [default: the recordings' own]
    #[arg(long, value_name = "HZ")]
    pub sample_rate: Option<u32>,
    /// Cut ends whose level (root mean square) is below this, such as 0.01
    #[arg(long, value_name = "LEVEL")]
    pub trim: Option<f32>,
    /// Go on from the checkpoint in --out
    #[arg(long)]
    pub resume: bool,
    /// Steps between validations; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub valid_every: u64,
    /// Steps between checkpoints; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub checkpoint_every: u64,
    /// Length of the sample generated at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub sample_seconds: f64,
}

#[derive(Debug, Parser)]
pub struct GenerateArgs {
    /// A model.safetensors that `train` wrote
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Length of the clip
    #[arg(long, value_name = "S")]
    pub seconds: f64,
    /// The WAV to write; a picture goes beside it
    #[arg(long, value_name = "FILE.wav")]
    pub out: PathBuf,
    /// Below 1 is safer, above 1 bolder; 0 always takes the most probable
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f32,
    /// Another seed, another clip
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Let the clip go on where this recording ends
    #[arg(long, value_name = "FILE.wav")]
    pub prime: Option<PathBuf>,
    /// auto, cpu, gpu, a backend, or part of an adapter's name
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
}

#[derive(Debug, Parser)]
#[group(required = true, multiple = false)]
pub struct InfoArgs {
    /// A model.safetensors that `train` wrote
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// A size of `train`
    #[arg(long, value_name = "NAME", value_parser = WaveNetConfig::PRESETS)]
    pub preset: Option<String>,
}
