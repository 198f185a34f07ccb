//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use receptive::data::audio::MAX_RATE;
use receptive::graph::Precision;
use receptive::nn::WaveNetConfig;

use crate::shared::command::decay;

/// Trains WaveNet on raw audio and generates sound with it.
///
/// Without a command it trains for a minute on a clip of plucked strings that it makes itself.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  wavenet train --data recordings --out runs/voice --minutes 60
  wavenet train --data recordings --out runs/voice --minutes 60 --resume
  wavenet generate --model runs/voice/model.safetensors --seconds 5 --out voice.wav";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on recordings
    #[command(max_term_width = 100)]
    Train(TrainArgs),
    /// Generate a clip with a trained model
    #[command(max_term_width = 100)]
    Generate(GenerateArgs),
    /// Show what a model is: layers, parameters, receptive field
    #[command(max_term_width = 100)]
    Info(InfoArgs),
}

impl Command {
    /// What the example does without a command.
    pub fn short_training() -> Self {
        let defaults = TrainArgs::parse_from(["train"]);
        // Each run in a folder of its own: an earlier one stays.
        let numbered = (2..).map(|number| PathBuf::from(format!("{}-{number}", defaults.out.display())));
        let mut folders = std::iter::once(defaults.out.clone()).chain(numbered);
        let out = folders.find(|folder| !holds_run(folder)).unwrap_or_default();
        Self::Train(TrainArgs { minutes: Some(1.0), out, ..defaults })
    }
}

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub struct TrainArgs {
    /// Folder of WAV and FLAC files, folders inside it included, or one file [default: a clip of plucked strings, made
    /// here]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Resample to this rate [default: the one that most recordings have]
    #[arg(long, value_name = "HZ", help_heading = "Data")]
    pub sample_rate: Option<u32>,
    /// Cut the ends of each recording where its level (root mean square, full scale being 1) stays below this; 0.01 is
    /// usual [default: nothing is cut]
    #[arg(long, value_name = "LEVEL", help_heading = "Data")]
    pub trim: Option<f32>,
    /// Samples in a chunk; the first receptive field of each gives context only
    #[arg(long, value_name = "SAMPLES", default_value_t = 20_000, help_heading = "Data")]
    pub chunk: usize,
    /// Chunks in a step
    #[arg(long, value_name = "B", default_value_t = 1, help_heading = "Data")]
    pub batch: usize,

    /// Size of the model; `wavenet info --preset NAME` shows each
    #[arg(long, value_name = "NAME", default_value = "small", value_parser = WaveNetConfig::PRESETS, help_heading = "Training")]
    pub preset: String,
    /// Steps in all, those before --resume included [default: 10000, or as many as --minutes allow]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub steps: Option<u64>,
    /// Stop after so many minutes of training
    #[arg(long, value_name = "M", help_heading = "Training")]
    pub minutes: Option<f64>,
    /// Learning rate of Adam; it falls to a fiftieth over --steps (half a cosine), and stays where --minutes is the limit
    #[arg(long, value_name = "X", default_value_t = 2e-3, help_heading = "Training")]
    pub lr: f32,
    /// Scale gradients down to this norm; 0 leaves them as they are
    #[arg(long, value_name = "NORM", default_value_t = 1.0, help_heading = "Training")]
    pub clip: f32,
    /// Average the weights over the steps, with this decay (0.999 spans about a thousand): the averages are tested and saved
    #[arg(long, value_name = "DECAY", value_parser = decay, help_heading = "Training")]
    pub average: Option<f64>,
    /// Decides the starting weights, the order of the data and the sample; a run is repeated by its seed
    #[arg(long, value_name = "S", default_value_t = 0, help_heading = "Training")]
    pub seed: u64,
    /// auto (a GPU if there is one, else the CPU), cpu, gpu, software, a backend (vulkan, metal, dx12) or part of an
    /// adapter's name
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = "Training")]
    pub device: String,
    /// How a GPU stores activations and the weights it reads: f32, or f16, which takes half the memory and traffic; sums,
    /// trained weights and the optimizer are f32 in both
    #[arg(long, value_name = "P", default_value_t, value_parser = precision(), help_heading = "Training")]
    pub precision: Precision,
    /// Go on from the checkpoint in --out, with the same data, preset, chunk, batch, seed and precision
    #[arg(long, help_heading = "Training")]
    pub resume: bool,

    /// Folder for model, checkpoint, metrics, pictures and sample
    #[arg(long, value_name = "DIR", default_value = "runs/wavenet", help_heading = "Results")]
    pub out: PathBuf,
    /// Steps between validations; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 250, help_heading = "Results")]
    pub valid_every: u64,
    /// Chunks of a validation at most, the first ones of the recordings held out
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Results")]
    pub valid_chunks: usize,
    /// Steps between checkpoints; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 500, help_heading = "Results")]
    pub checkpoint_every: u64,
    /// Length of the sample generated at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, help_heading = "Results")]
    pub sample_seconds: f64,
}

impl TrainArgs {
    /// What can be said of the options before anything is read.
    pub fn check(&self) -> Result<()> {
        ensure!(self.steps != Some(0), "--steps 0: there is nothing to train; give at least 1");
        self.time()?;
        ensure!(self.valid_chunks > 0, "--valid-chunks 0: a validation needs at least 1 chunk");
        ensure!(self.batch > 0, "--batch 0: a step needs at least 1 chunk");
        ensure!(self.lr.is_finite() && self.lr > 0.0, "--lr {}: must be above 0, such as 0.002", self.lr);
        ensure!(self.clip.is_finite() && self.clip >= 0.0, "--clip {}: must be 0 (no clipping) or above", self.clip);
        if let Some(rate) = self.sample_rate {
            ensure!((1000..=MAX_RATE).contains(&rate), "--sample-rate {rate}: must be 1000 to {MAX_RATE} Hz");
        }
        if let Some(level) = self.trim {
            ensure!((0.0..1.0).contains(&level), "--trim {level}: must be at least 0 and below 1, such as 0.01");
        }
        check_seconds("--sample-seconds", self.sample_seconds)?;
        let out = self.out.display();
        ensure!(self.out.is_dir() || !self.out.exists(), "--out {out}: this is a file; name a folder");
        ensure!(
            !self.resume || self.checkpoint().exists(),
            "--resume: there is no {}; name the folder of the run in --out, or leave --resume away to start anew",
            self.checkpoint().display()
        );
        ensure!(
            self.resume || !holds_run(&self.out),
            "--out {out}: this folder holds a run already; --resume goes on with it, another --out starts anew"
        );
        Ok(())
    }

    /// The limit of time.
    pub fn time(&self) -> Result<Option<Duration>> {
        let time = |minutes: f64| {
            ensure!(minutes.is_finite() && minutes > 0.0, "--minutes {minutes}: must be above 0");
            Duration::try_from_secs_f64(minutes * 60.0).with_context(|| format!("--minutes {minutes}: too many"))
        };
        self.minutes.map(time).transpose()
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.out.join("checkpoint.safetensors")
    }
}

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub struct GenerateArgs {
    /// A model.safetensors that `train` wrote
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Length of the clip
    #[arg(long, value_name = "S")]
    pub seconds: f64,
    /// The WAV to write; a picture of it goes beside it
    #[arg(long, value_name = "FILE.wav")]
    pub out: PathBuf,
    /// How bold: below 1 likely sounds become likelier, above 1 unlikely ones; 0 always takes the likeliest
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f32,
    /// Another seed, another clip
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Go on where this recording (WAV or FLAC) ends
    #[arg(long, value_name = "FILE.wav")]
    pub prime: Option<PathBuf>,
    /// auto (a GPU if there is one, else the CPU), cpu, gpu, software, a backend (vulkan, metal, dx12) or part of an
    /// adapter's name
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
}

impl GenerateArgs {
    /// What can be said of the options before anything is read.
    pub fn check(&self) -> Result<()> {
        check_seconds("--seconds", self.seconds)?;
        let temperature = self.temperature;
        ensure!(temperature.is_finite() && temperature >= 0.0, "--temperature {temperature}: must be 0 or above");
        let out = self.out.display();
        ensure!(!self.out.is_dir(), "--out {out}: this is a folder; name a file in it, such as clip.wav");
        let wav = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav"));
        ensure!(wav(&self.out), "--out {out}: the name must end in .wav");
        Ok(())
    }
}

fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name)).try_map(|name| name.parse::<Precision>())
}

/// Whether a training has left something in a folder.
fn holds_run(folder: &Path) -> bool {
    ["checkpoint.safetensors", "model.safetensors", "metrics.jsonl"].iter().any(|name| folder.join(name).exists())
}

fn check_seconds(option: &str, seconds: f64) -> Result<()> {
    ensure!(seconds > 0.0 && seconds <= 3600.0, "{option} {seconds}: must be above 0 and at most 3600");
    Ok(())
}

#[derive(Debug, Parser)]
#[group(required = true, multiple = false)]
pub struct InfoArgs {
    /// A model.safetensors that `train` wrote
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// A size that `train` knows
    #[arg(long, value_name = "NAME", value_parser = WaveNetConfig::PRESETS)]
    pub preset: Option<String>,
}
