//! The command line.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use receptive::data::series::{Missing, ReadOptions, SeriesSplit, TextColumns, WindowOptions, Windows};
use receptive::graph::Precision;
use receptive::nn::{ConvRnnConfig, Layer, RecurrentConfig};
use receptive::ops::Cell;
use serde::{Deserialize, Serialize};

use crate::shared::command::{decay, rate};

/// Forecasts a column of a table: naively, or by a model that it trains.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  conv_gru train --data ETTh1.csv.gz --target OT --split 8640,2880,2880 --model conv-gru
  conv_gru train --data ETTh1.csv.gz --target OT --split 8640,2880,2880 --model conv-gru --resume
  conv_gru compare --data ETTh1.csv.gz --target OT --split 8640,2880,2880
  conv_gru predict --model runs/forecast/forecaster.json --data ETTh1.csv.gz --out forecasts.csv";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model and draw what it forecasts
    #[command(max_term_width = 100)]
    Train(TrainArgs),
    /// Forecast with a trained model
    #[command(max_term_width = 100)]
    Predict(PredictArgs),
    /// Train several models in turn and compare them
    #[command(max_term_width = 100)]
    Compare(CompareArgs),
}

/// What makes the forecasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// The last value known
    Naive,
    /// A dense layer of 32 units over the window
    Dense,
    /// Three convolutions with pooling
    Conv,
    /// A GRU of 32 units
    Gru,
    /// An LSTM of 32 units
    Lstm,
    /// A GRU of 32 units on what two convolutions with pooling leave of the window
    ConvGru,
    /// The same with Keras' equations and the dropout of Chollet's weather example, whatever --dropout says
    Chollet,
    /// Dilated causal convolutions in residual blocks
    Tcn,
}

impl ModelKind {
    /// The network of windows of `time` rows and `inputs` columns; nothing where there is nothing to train.
    pub fn network(self, inputs: usize, time: usize, run: &RunArgs) -> Option<ConvRnnConfig> {
        let recurrent =
            |cell| RecurrentConfig { recurrent_dropout: run.recurrent_dropout, ..RecurrentConfig::new(cell, 32) };
        let gru = recurrent(Cell::Gru { reset_after: true, hard: false });
        let mut config = match self {
            Self::Naive => return None,
            Self::Dense => ConvRnnConfig::dense(inputs, time),
            Self::Conv => ConvRnnConfig::convolutions(inputs, time),
            Self::Gru => ConvRnnConfig::recurrent(inputs, time, gru),
            Self::Lstm => ConvRnnConfig::recurrent(inputs, time, recurrent(Cell::Lstm { hard: false })),
            Self::ConvGru => ConvRnnConfig::hybrid(inputs, time, gru),
            Self::Chollet => ConvRnnConfig::chollet(inputs, time),
            Self::Tcn => ConvRnnConfig::tcn(inputs, time),
        };
        let last = config.layers.len() - 1;
        match &mut config.layers[last] {
            _ if run.dropout == 0.0 || self == Self::Chollet => {}
            Layer::Tcn(tcn) => tcn.dropout = run.dropout,
            Layer::Recurrent(_) => config.layers.insert(last, Layer::SpatialDropout { p: run.dropout }),
            _ => config.layers.insert(last, Layer::Dropout { p: run.dropout }),
        }
        Some(config)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Dense => "dense",
            Self::Conv => "conv",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
            Self::ConvGru => "conv-gru",
            Self::Chollet => "chollet",
            Self::Tcn => "tcn",
        }
    }
}

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// With PyTorch's defaults
    Adam,
    /// With Keras' defaults
    Rmsprop,
}

/// Settings that were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Chollet, Deep Learning with Python, 1st edition, section 6.3.
    Chollet,
}

/// Which table, how it is read, split and cut into windows.
#[derive(Debug, Clone, Parser, Serialize)]
pub struct DataArgs {
    /// Table with a row for each moment, in time order: CSV, TSV or other text, compressed by gzip or not
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: PathBuf,
    /// Column to forecast; columns of a file without a header are called c1, c2 …
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub target: String,
    /// What to do about missing values: drop leaves out the rows in which one is missing (no window reaches across
    /// them), ffill repeats the last value [default: a missing value is an error]
    #[arg(long, value_name = "POLICY", value_parser = missing(), help_heading = "Data")]
    pub missing: Option<Missing>,
    /// Make a column of 0 and 1 for each text in a column of text, which is left out otherwise; dates always are
    #[arg(long, help_heading = "Data")]
    pub one_hot: bool,
    /// Columns to leave out, such as row numbers
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', help_heading = "Data")]
    pub exclude: Vec<String>,
    /// Whether the first line names the columns [default: it does unless there is a number in it]
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    pub header: Option<bool>,
    /// Training, validation and test, in time order: fractions, or rows such as 8640,2880,2880
    #[arg(long, value_name = "A,B,C", default_value_t, value_parser = split, help_heading = "Data")]
    pub split: SeriesSplit,
    /// Character between columns, or `tab` [default: that of comma, semicolon, tab and space of which the first line has most]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, help_heading = "Data")]
    pub delimiter: Option<u8>,
    /// The column's unit, for tables and pictures, such as °C
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub unit: Option<String>,

    /// Published settings, for what is not given: chollet is Chollet's forecast of a table with a row every ten minutes, with a lookback
    /// of 720, step 3 and delay 144, by his network with RMSprop, 500 steps in an epoch; gradients are clipped at a norm of 1, as
    /// everywhere here, and --split is to be given
    #[arg(long, value_name = "NAME", value_enum, help_heading = "Data")]
    pub preset: Option<Preset>,

    /// Rows that a forecast looks back
    #[arg(
        long,
        value_name = "N",
        default_value_t = 240,
        default_value_if("preset", "chollet", "720"),
        help_heading = "Windows"
    )]
    pub lookback: usize,
    /// Look at every so many rows of them
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1,
        default_value_if("preset", "chollet", "3"),
        help_heading = "Windows"
    )]
    pub step: usize,
    /// Rows between the end of the window and the row to forecast, which is so many rows and a step after the last one
    /// seen
    #[arg(
        long,
        value_name = "D",
        default_value_t = 24,
        default_value_if("preset", "chollet", "144"),
        help_heading = "Windows"
    )]
    pub delay: usize,
    /// Rows from one window to the next
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Windows")]
    pub stride: usize,
}

impl DataArgs {
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            delimiter: self.delimiter,
            header: self.header,
            missing: self.missing,
            text: if self.one_hot { TextColumns::OneHot } else { TextColumns::Drop },
            exclude: self.exclude.clone(),
        }
    }

    pub fn windows(&self) -> WindowOptions {
        WindowOptions { lookback: self.lookback, step: self.step, delay: self.delay, stride: self.stride }
    }
}

/// How models are trained, and where the results go.
#[derive(Debug, Clone, Parser, Serialize)]
pub struct RunArgs {
    /// Windows in a step
    #[arg(long, value_name = "B", default_value_t = 128, help_heading = "Training")]
    pub batch: usize,
    /// Epochs; the one with the least error on the validation part is kept
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Training")]
    pub epochs: u64,
    /// Let networks read each window relative to its last row and forecast the change since then: for columns whose level
    /// drifts from the training part to the test part
    #[arg(long, help_heading = "Training")]
    pub relative: bool,
    /// Optimizer: adam or rmsprop
    #[arg(
        long,
        value_name = "NAME",
        value_enum,
        default_value = "adam",
        default_value_if("preset", "chollet", "rmsprop"),
        help_heading = "Training"
    )]
    pub optimizer: Optimizer,
    /// Share of what the last layer over time reads that is left out in training: of a recurrent layer's input the same
    /// channels for a whole window; of a tcn after each of its convolutions
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Training")]
    pub dropout: f32,
    /// Share of a recurrent layer's state that its products leave out in training, the same for a whole window
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Training")]
    pub recurrent_dropout: f32,
    /// Weight decay of adam (AdamW), of rmsprop the L2 penalty
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Training")]
    pub weight_decay: f32,
    /// Steps in an epoch [default: as many as it takes to see every window of the training part]
    #[arg(long, value_name = "N", default_value_if("preset", "chollet", "500"), help_heading = "Training")]
    pub steps_per_epoch: Option<u64>,
    /// Learning rate
    #[arg(long, value_name = "X", default_value_t = 1e-3, value_parser = rate, help_heading = "Training")]
    pub learning_rate: f32,
    /// Average the weights over the steps, with this decay (0.999 spans about a thousand): the averages are tested and saved
    #[arg(long, value_name = "DECAY", value_parser = decay, help_heading = "Training")]
    pub average: Option<f64>,
    /// Trainings with seeds one after the other; the model with the least error on the validation part is kept, and mean
    /// and standard deviation are told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Training")]
    pub seeds: u64,
    /// The first seed, which decides the starting weights and the order of the windows; a run is repeated by its seed
    #[arg(long, value_name = "S", default_value_t = 0, help_heading = "Training")]
    pub seed: u64,
    /// auto (a GPU if there is one, else the CPU), cpu, gpu, software, a backend (vulkan, metal, dx12) or part of an
    /// adapter's name
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = "Training")]
    pub device: String,
    /// How a GPU stores activations and the weights it reads: f32 or f16
    #[arg(long, value_name = "P", default_value_t, value_parser = precision(), help_heading = "Training")]
    pub precision: Precision,

    /// Go on with the training in the folder, which Ctrl-C or an accident stopped
    #[arg(long, help_heading = "Training")]
    pub resume: bool,

    /// Folder for the results; what an earlier run left there is replaced
    #[arg(long, value_name = "DIR", default_value = "runs/forecast", help_heading = "Results")]
    pub out: PathBuf,
    /// Forecasts in the picture at most
    #[arg(long, value_name = "N", default_value_t = 336, help_heading = "Results")]
    pub show: usize,
}

impl RunArgs {
    pub fn seeds(&self) -> impl Iterator<Item = u64> {
        let first = self.seed;
        (0..self.seeds).map(move |number| first.wrapping_add(number))
    }

    /// The same with no more windows in a step than there are.
    pub fn fitted(&self, train: &Windows) -> Self {
        Self { batch: self.batch.min(train.len()), ..self.clone() }
    }

    /// What can be said of the options before anything is read.
    pub fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "--batch 0: a step needs at least 1 window");
        ensure!(self.epochs > 0, "--epochs 0: there is nothing to train; give at least 1");
        ensure!(self.steps_per_epoch != Some(0), "--steps-per-epoch 0: an epoch needs at least 1 step");
        for (name, share) in [("dropout", self.dropout), ("recurrent-dropout", self.recurrent_dropout)] {
            ensure!((0.0..1.0).contains(&share), "--{name} {share}: must be at least 0 and below 1");
        }
        ensure!(self.show > 1, "--show {}: a picture needs at least 2 forecasts", self.show);
        ensure!(self.out.is_dir() || !self.out.exists(), "--out {}: this is a file; name a folder", self.out.display());
        Ok(())
    }
}

#[derive(Debug, Clone, Parser, Serialize)]
#[command(args_override_self = true)]
pub struct TrainArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,
    /// What makes the forecasts
    #[arg(
        long,
        value_name = "NAME",
        value_enum,
        default_value = "conv-gru",
        default_value_if("preset", "chollet", "chollet"),
        help_heading = "Training"
    )]
    pub model: ModelKind,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Clone, Parser, Serialize)]
#[command(args_override_self = true)]
pub struct CompareArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,
    /// Models to compare [default: all]
    #[arg(long, value_name = "NAME,…", value_enum, value_delimiter = ',', help_heading = "Training")]
    #[serde(skip)]
    pub models: Vec<ModelKind>,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Clone, Parser)]
#[command(args_override_self = true)]
pub struct PredictArgs {
    /// A forecaster.json that `train` wrote
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Table with the columns of the one that it was trained on
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// CSV to write: a line for each forecast, those of rows after the end of the table included; rows are counted from 0
    #[arg(long, value_name = "FILE.csv")]
    pub out: PathBuf,
    /// Only the forecasts of the last so many rows [default: all]
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}

fn missing() -> impl TypedValueParser<Value = Missing> {
    PossibleValuesParser::new(Missing::ALL.map(Missing::name)).try_map(|name| name.parse::<Missing>())
}

fn delimiter(text: &str) -> Result<u8, &'static str> {
    match text.as_bytes() {
        b"tab" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("one character such as ; or |, or the word tab"),
    }
}

fn split(text: &str) -> Result<SeriesSplit, receptive::data::series::SeriesError> {
    text.parse()
}

fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name)).try_map(|name| name.parse::<Precision>())
}

#[cfg(test)]
mod tests {
    use receptive::nn::ConvRnn;

    use super::*;

    #[test]
    fn presets_are_defaults() {
        let parse = |rest: &str| {
            let given = format!("conv_gru train --data x.csv --target x {rest}");
            let Command::Train(args) = Args::try_parse_from(given.split_whitespace()).unwrap().command else {
                panic!()
            };
            args
        };
        let args = parse("--preset chollet");
        assert_eq!(args.data.windows(), WindowOptions { lookback: 720, step: 3, delay: 144, stride: 1 });
        assert_eq!((args.model, args.run.optimizer), (ModelKind::Chollet, Optimizer::Rmsprop));
        assert_eq!((args.run.batch, args.run.epochs, args.run.steps_per_epoch), (128, 20, Some(500)));
        let network = args.model.network(14, args.data.windows().steps(), &args.run).map(ConvRnn::new);
        assert_eq!(network.unwrap().unwrap().parameter_count().unwrap(), 13_697);
        let args = parse("--preset chollet --step 6 --model gru");
        assert_eq!((args.data.lookback, args.data.step, args.model), (720, 6, ModelKind::Gru));
        let args = parse("");
        assert_eq!((args.data.lookback, args.data.step, args.data.delay), (240, 1, 24));
        assert_eq!(
            (args.model, args.run.optimizer, args.run.steps_per_epoch),
            (ModelKind::ConvGru, Optimizer::Adam, None)
        );
    }
}
