//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use receptive::data::text::{Cleaning, TextFormat, VectorFormat};
use receptive::nn::Channels;
use serde::Serialize;

use crate::shared::command::{decay, rate};

/// Classifies sentences by convolutions over word vectors (Kim 2014).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  text_cnn train --data reviews
  text_cnn train --data train.csv --test test.csv --channels non-static --vectors GoogleNews-vectors-negative300.bin.gz
  text_cnn cv --data reviews --folds 10
  echo 'a gripping film' | text_cnn predict --model runs/text_cnn/model.safetensors --json
  text_cnn explain --model runs/text_cnn/model.safetensors --text 'a gripping film' --picture why.png";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model and save it
    Train(TrainArgs),
    /// Tell how well models do on sentences that they have not seen
    Cv(CvArgs),
    /// Classify sentences, one a line of the standard input
    Predict(PredictArgs),
    /// Show which words speak for which class
    Explain(ExplainArgs),
}

/// Which optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adadelta with a rho of 0.95, as published
    Adadelta,
    /// Adam
    Adam,
    /// Adagrad: of the word vectors it updates those that a step reads
    Adagrad,
    /// Stochastic gradient descent: of the word vectors too it updates those alone
    Sgd,
}

/// The data and how they are read.
#[derive(Debug, Clone, ClapArgs, Serialize)]
pub struct DataArgs {
    /// Labelled text: a folder with a file for each class, a file of lines "LABEL text", or a table in CSV or TSV
    #[arg(long)]
    pub data: PathBuf,
    /// How the data lie, where the name does not tell: files, lines or table
    #[arg(long, value_parser = format)]
    #[serde(skip)]
    pub format: Option<TextFormat>,
    /// The table's column of labels, if it is not "label"
    #[arg(long)]
    pub label_column: Option<String>,
    /// The table's column of text, if it is not "text" or "sentence"
    #[arg(long)]
    pub text_column: Option<String>,
    /// How text becomes words: kim, kim-case (letters as they are), or whitespace
    #[arg(long, default_value = "kim", value_parser = cleaning)]
    pub cleaning: Cleaning,
    /// Words that come less often count as unknown
    #[arg(long, default_value_t = 1)]
    pub min_count: usize,
}

/// The model and its training.
#[derive(Debug, Clone, ClapArgs, Serialize)]
pub struct FitArgs {
    /// What stands for a word: random, static, non-static or multichannel
    #[arg(long, default_value = "random", value_parser = channels)]
    pub channels: Channels,
    /// Word vectors of word2vec or GloVe, for all but random ones
    #[arg(long)]
    pub vectors: Option<PathBuf>,
    /// The format of the vectors, where their beginning does not tell: word2vec-binary, word2vec-text or glove
    #[arg(long, value_parser = vector_format)]
    #[serde(skip)]
    pub vectors_format: Option<VectorFormat>,
    /// Numbers of a random word vector
    #[arg(long, default_value_t = 300)]
    pub dimensions: usize,
    /// Words that filters span
    #[arg(long, value_delimiter = ',', default_value = "3,4,5")]
    pub widths: Vec<usize>,
    /// Filters of each width
    #[arg(long, default_value_t = 100)]
    pub filters: usize,
    /// Probability of dropout
    #[arg(long, default_value_t = 0.5)]
    pub dropout: f32,
    /// Largest norm of each class' weights; 0 for any
    #[arg(long, default_value_t = 3.0)]
    pub max_norm: f32,
    /// How parameters are updated
    #[arg(long, value_enum, default_value = "adadelta")]
    pub optimizer: Optimizer,
    /// Learning rate; if left out 1 for Adadelta and SGD, 1e-3 for Adam, 0.01 for Adagrad
    #[arg(long, value_parser = rate)]
    pub learning_rate: Option<f32>,
    /// Average the weights over the steps, with this decay (0.999 spans about a thousand): the averages are tested and saved
    #[arg(long, value_name = "DECAY", value_parser = decay)]
    pub average: Option<f64>,
    /// Sentences of a step
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub batch: usize,
    /// Epochs at most
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: u64,
    /// Epochs without a better result on the held-out sentences that end a training
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: u64,
    /// Share of the training sentences that is held out to choose the epoch by
    #[arg(long, default_value_t = 0.1)]
    pub dev: f64,
    /// Names all random numbers
    #[arg(long, default_value_t = 3435)]
    pub seed: u64,
    /// Where to run: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How devices store activations: f32 or f16
    #[arg(long, default_value = "f32")]
    pub precision: receptive::graph::Precision,
    /// Go on with what is in the folder
    #[arg(long)]
    #[serde(skip)]
    pub resume: bool,
}

#[derive(Debug, Clone, ClapArgs, Serialize)]
pub struct TrainArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub fit: FitArgs,
    /// Labelled text to test with, in the form of the data
    #[arg(long)]
    pub test: Option<PathBuf>,
    /// Folder for results
    #[arg(long, default_value = "runs/text_cnn")]
    pub out: PathBuf,
}

#[derive(Debug, Clone, ClapArgs, Serialize)]
pub struct CvArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub fit: FitArgs,
    /// Parts that are tested one after the other, by models trained on the others
    #[arg(long, default_value_t = 10, value_parser = at_least_two)]
    pub folds: usize,
    /// Folds that are trained at a time, for devices that one small model leaves idle. The results are the same
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    #[serde(skip)]
    pub jobs: usize,
    /// Folder for results
    #[arg(long, default_value = "runs/text_cnn_cv")]
    pub out: PathBuf,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct PredictArgs {
    /// A model that was trained
    #[arg(long)]
    pub model: PathBuf,
    /// A line of JSON for each sentence
    #[arg(long)]
    pub json: bool,
    /// Where to run: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto")]
    pub device: String,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct ExplainArgs {
    /// A model that was trained
    #[arg(long)]
    pub model: PathBuf,
    /// The sentence
    #[arg(long)]
    pub text: String,
    /// Groups of words that are shown, at most
    #[arg(long, default_value_t = 12)]
    pub top: usize,
    /// A PNG for the picture
    #[arg(long)]
    pub picture: Option<PathBuf>,
    /// JSON instead of lines for people
    #[arg(long)]
    pub json: bool,
    /// Where to run: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// One of several names.
fn one_of<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, String> {
    let known = || names.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("must be one of {}", known()))
}

fn channels(name: &str) -> Result<Channels, String> {
    let names = [
        ("random", Channels::Random),
        ("static", Channels::Static),
        ("non-static", Channels::NonStatic),
        ("multichannel", Channels::Multichannel),
    ];
    one_of(name, &names)
}

fn cleaning(name: &str) -> Result<Cleaning, String> {
    one_of(name, &[("kim", Cleaning::Kim), ("kim-case", Cleaning::KimCase), ("whitespace", Cleaning::Whitespace)])
}

fn format(name: &str) -> Result<TextFormat, String> {
    let names = [("files", TextFormat::ClassFiles), ("lines", TextFormat::LabelledLines), ("table", TextFormat::Table)];
    one_of(name, &names)
}

fn vector_format(name: &str) -> Result<VectorFormat, String> {
    let names = [
        ("word2vec-binary", VectorFormat::Word2vecBinary),
        ("word2vec-text", VectorFormat::Word2vecText),
        ("glove", VectorFormat::Glove),
    ];
    one_of(name, &names)
}

fn at_least(number: &str, least: usize) -> Result<usize, String> {
    let fits = |number: &usize| *number >= least;
    number.parse().ok().filter(fits).ok_or_else(|| format!("must be a whole number, {least} or more"))
}

fn at_least_one(number: &str) -> Result<usize, String> {
    at_least(number, 1)
}

fn at_least_two(number: &str) -> Result<usize, String> {
    at_least(number, 2)
}
