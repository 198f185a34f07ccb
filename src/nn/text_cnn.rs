//! Convolutional networks for sentence classification (Kim 2014, arXiv:1408.5882).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Extent, Graph, Init, Precision, Program, Shape, TensorId};
use crate::nn::word_table::read_by_rows;
use crate::ops::{self, Activation, Geometry, Pooled};
use crate::optim::{self, OptimizerConfig};

/// What stands for a word (Kim 2014, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// A vector that starts at random and is trained.
    Random,
    /// A vector made elsewhere that stays as it is.
    Static,
    /// A vector made elsewhere that is trained further.
    NonStatic,
    /// Both of the last two, side by side: each filter has weights for either.
    Multichannel,
}

impl Channels {
    /// Whether they start with vectors made elsewhere.
    pub fn pretrained(self) -> bool {
        self != Self::Random
    }
}

/// Starting weights of everything but the word vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextCnnInit {
    /// Kim's: convolutions uniform in ±0.01, everything else 0.
    #[default]
    Kim,
    /// Weights and biases uniform in ±1/√(numbers that an output is made of), as PyTorch's.
    Uniform,
}

/// Convolutions of several widths side by side over word vectors, the maximum of each filter over time, dropout, and a softmax.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCnnConfig {
    /// Rows of the table of word vectors, of which the first two are the padding's and that of unknown words.
    pub words: usize,
    /// Numbers of a word vector.
    pub dimensions: usize,
    /// Classes of a sentence.
    pub classes: usize,
    /// What stands for a word.
    pub channels: Channels,
    /// Words that filters span.
    pub widths: Vec<usize>,
    /// Filters of each width.
    pub filters: usize,
    /// Probability of 0 of a filter's maximum in training, in [0, 1). As published, what is left is not scaled in training; in use
    /// all maxima are multiplied by 1 − p.
    pub dropout: f32,
    /// What the L2 norm of each class' weights is held to; nothing for no limit.
    pub max_norm: Option<f32>,
    /// Whether filters reach over the ends of a sentence (wide convolution), as far as they still see a word of it. If not, a sentence
    /// shorter than a filter has nothing for it.
    pub wide: bool,
    /// Starting weights.
    #[serde(default)]
    pub init: TextCnnInit,
}

impl TextCnnConfig {
    /// The published settings: vectors of 300, 100 filters of each of the widths 3, 4 and 5, dropout of 0.5, norms of at most 3.
    pub fn kim(words: usize, classes: usize, channels: Channels) -> Self {
        Self {
            words,
            dimensions: 300,
            classes,
            channels,
            widths: vec![3, 4, 5],
            filters: 100,
            dropout: 0.5,
            max_norm: Some(3.0),
            wide: true,
            init: TextCnnInit::Kim,
        }
    }

    /// Places of a filter of `width` words in a sentence of `length`.
    pub fn windows(&self, width: usize, length: usize) -> usize {
        match self.wide {
            true if length == 0 => 0,
            true => length + width - 1,
            false => (length + 1).saturating_sub(width),
        }
    }

    /// The words, from `start` to `end`, that a filter of `width` sees at place `window` of a sentence of `length`.
    pub fn span(&self, width: usize, window: usize, length: usize) -> (usize, usize) {
        let end = if self.wide { window + 1 } else { window + width };
        (end.saturating_sub(width).min(length), end.min(length))
    }

    /// Positions that a program needs for sentences of at most `longest` words.
    pub fn time(&self, longest: usize) -> usize {
        let least = if self.wide { 1 } else { self.widths.iter().copied().max().unwrap_or(1) };
        longest.max(least)
    }

    fn validate(&self) -> Result<()> {
        let numbers = [
            ("words", self.words),
            ("dimensions", self.dimensions),
            ("classes", self.classes),
            ("filters", self.filters),
            ("widths", self.widths.iter().copied().min().unwrap_or_default()),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == 0) {
            return Err(Error::Config(format!("{name} must be at least 1")));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Config(format!("dropout must be at least 0 and below 1, got {}", self.dropout)));
        }
        Ok(())
    }
}

/// A model of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct TextCnn {
    config: TextCnnConfig,
    precision: Precision,
}

/// A program with the tensors that its caller needs.
#[derive(Debug, Clone)]
pub struct TextCnnProgram {
    /// The program. Its metrics in training: the loss, the gradient's norm, and in [`Precision::F16`] the loss scale and the
    /// steps left out so far; in evaluation the loss.
    pub program: Arc<Program>,
    /// What it reads, and what it gives.
    pub tensors: TextCnnTensors,
    /// Classes `[batch, 1]`, where there is a loss.
    pub target: Option<TensorId>,
}

/// The tensors of a model.
#[derive(Debug, Clone)]
pub struct TextCnnTensors {
    /// Words `[batch, time]`; [`Shape::MASKED`] behind the end of a sentence, so that nothing is looked up there.
    pub ids: TensorId,
    /// For each width the places of its filters, ids `[batch, 1]`: [`TextCnnConfig::windows`].
    pub windows: Vec<TensorId>,
    /// Logits `[batch, 1, classes]`.
    pub output: TensorId,
    /// For each width the maxima of its filters before the rectifier, and the places of the maxima, `[batch, 1, filters]`. A program
    /// for prediction keeps them.
    pub pooled: Vec<Pooled>,
}

/// Half the width of the convolutions' starting weights, and of the vectors' (Kim's `conv_net_sentence.py`).
const WEIGHT_BOUND: f32 = 0.01;
const VECTOR_BOUND: f32 = 0.25;
/// Rows of the table that start as zero: those of the padding and of unknown words.
const ZERO_ROWS: usize = 2;

/// The word vectors that are trained.
const TRAINED: &str = "embedding.weight";
/// The word vectors that are not.
const STATIC: &str = "static.weight";

impl TextCnn {
    /// A model of this configuration.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is out of its range.
    pub fn new(config: TextCnnConfig) -> Result<Self> {
        config.validate()?;
        let model = Self { config, precision: Precision::default() };
        model.parameter_count()?;
        Ok(model)
    }

    /// The same, whose programs are stored in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// In which precision its programs are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The configuration.
    pub fn config(&self) -> &TextCnnConfig {
        &self.config
    }

    /// Trainable numbers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn parameter_count(&self) -> Result<usize> {
        let time = self.config.time(1);
        let mut graph = Graph::new(Extent { batch: 1, time })?;
        self.append(&mut graph, false)?;
        Ok(graph.params().count())
    }

    /// The names of the parameters that are tables of word vectors, `[1, words, dimensions]`: vectors made elsewhere go there.
    pub fn tables(&self) -> &'static [&'static str] {
        match self.config.channels {
            Channels::Random | Channels::NonStatic => &[TRAINED],
            Channels::Static => &[STATIC],
            Channels::Multichannel => &[STATIC, TRAINED],
        }
    }

    /// A step of training; the loss is the mean cross-entropy in nats.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn training(&self, extent: Extent, optimizer: &OptimizerConfig) -> Result<TextCnnProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let tensors = self.append(&mut graph, true)?;
        let (target, loss) = loss(&mut graph, tensors.output)?;
        read_by_rows(&mut graph, TRAINED, &optimizer.method)?;
        let gradients = graph.backward(loss)?;
        let updates = optim::append(&mut graph, &gradients, optimizer)?;
        let metrics: Vec<TensorId> =
            [loss, updates.grad_norm].into_iter().chain(gradients.scale).chain(updates.skipped).collect();
        Ok(TextCnnProgram { program: Arc::new(graph.finish(&[], &metrics)?), tensors, target: Some(target) })
    }

    /// The loss and the logits, without dropout.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn evaluation(&self, extent: Extent) -> Result<TextCnnProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let tensors = self.append(&mut graph, false)?;
        let (target, loss) = loss(&mut graph, tensors.output)?;
        let program = Arc::new(graph.finish(&[tensors.output], &[loss])?);
        Ok(TextCnnProgram { program, tensors, target: Some(target) })
    }

    /// The logits, and what the filters found where.
    ///
    /// # Errors
    /// What appending operators gives.
    pub fn prediction(&self, extent: Extent) -> Result<TextCnnProgram> {
        let mut graph = Graph::new(extent)?.with_precision(self.precision);
        let tensors = self.append(&mut graph, false)?;
        let found = tensors.pooled.iter().flat_map(|pooled| [pooled.values, pooled.positions]);
        let outputs: Vec<TensorId> = [tensors.output].into_iter().chain(found).collect();
        Ok(TextCnnProgram { program: Arc::new(graph.finish(&outputs, &[])?), tensors, target: None })
    }

    /// Appends everything but the loss to a graph, inputs and parameters included. With `training` dropout is at work.
    ///
    /// # Errors
    /// [`Error::Shape`] if the graph's time is less than [`TextCnnConfig::time`]; [`Error::Graph`] if names are taken.
    pub fn append(&self, graph: &mut Graph, training: bool) -> Result<TextCnnTensors> {
        let config = &self.config;
        let ids = graph.input_ids("ids", 0)?;
        let table = Shape::new(1, config.words, config.dimensions);
        let init = Init::UniformAfter { rows: ZERO_ROWS, bound: VECTOR_BOUND };
        let mut channels = Vec::new();
        for name in self.tables() {
            let table = match *name {
                STATIC => graph.untrained(name, table, init)?,
                _ => graph.param(name, table, init, false)?,
            };
            channels.push(ops::embedding(graph, ids, table, None, Geometry::pointwise())?);
        }
        let x = match channels[..] {
            [x] => x,
            _ => ops::concat(graph, &channels)?,
        };
        let inputs = graph.shape(x).channels;
        let (mut windows, mut pooled) = (Vec::new(), Vec::new());
        for (index, &width) in config.widths.iter().enumerate() {
            let pad = if config.wide { width as isize - 1 } else { 0 };
            let geometry = Geometry { pad_left: pad, pad_right: pad, ..Geometry::valid(width, 1) };
            let (init, prefix) = (config.init.of(width * inputs), format!("convs.{index}"));
            let shape = Shape::new(width, inputs, config.filters);
            let weight_init =
                if config.init == TextCnnInit::Kim { Init::Uniform { bound: WEIGHT_BOUND } } else { init };
            let weight = graph.param(&format!("{prefix}.weight"), shape, weight_init, true)?;
            let bias = graph.param(&format!("{prefix}.bias"), Shape::vector(config.filters), init, false)?;
            let count = graph.input_ids_fixed(&format!("windows.{index}"), 1)?;
            pooled.push(ops::conv1d_max(graph, x, weight, bias, geometry, Some(count))?);
            windows.push(count);
        }
        let maxima: Vec<TensorId> = pooled.iter().map(|pooled| pooled.values).collect();
        let h = match maxima[..] {
            [h] => h,
            _ => ops::concat(graph, &maxima)?,
        };
        // The rectifier is monotonic: after the maximum it does the same for a fraction of the work.
        let h = ops::activate(graph, h, Activation::Relu)?;
        let h = if config.dropout > 0.0 { ops::scale(graph, h, 1.0 - config.dropout)? } else { h };
        let h = if training { ops::dropout(graph, h, config.dropout)? } else { h };
        let inputs = graph.shape(h).channels;
        let init = config.init.of(inputs);
        let weight = graph.param("linear.weight", Shape::new(1, inputs, config.classes), init, true)?;
        if let Some(max_norm) = config.max_norm {
            graph.constrain(weight, max_norm)?;
        }
        let bias = graph.param("linear.bias", Shape::vector(config.classes), init, false)?;
        let output = ops::conv1d(graph, h, weight, Some(bias), Geometry::pointwise(), Activation::Identity)?;
        graph.set_name(output, "output");
        Ok(TextCnnTensors { ids, windows, output, pooled })
    }
}

impl TextCnnInit {
    /// Of what is made of `inputs` numbers, and is not a convolution of Kim's.
    fn of(self, inputs: usize) -> Init {
        match self {
            Self::Kim => Init::Zeros,
            Self::Uniform => Init::Uniform { bound: 1.0 / (inputs as f32).sqrt() },
        }
    }
}

fn loss(graph: &mut Graph, output: TensorId) -> Result<(TensorId, TensorId)> {
    let target = graph.input_ids_fixed("target", 1)?;
    let loss = ops::softmax_cross_entropy(graph, output, target)?.loss;
    graph.set_name(loss, "loss");
    Ok((target, loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let count =
            |channels| TextCnn::new(TextCnnConfig::kim(18_767, 2, channels)).unwrap().parameter_count().unwrap();
        let rest = |inputs: usize| (3 + 4 + 5) * inputs * 100 + 300 + 300 * 2 + 2;
        assert_eq!(count(Channels::Random), 18_767 * 300 + rest(300));
        assert_eq!(count(Channels::NonStatic), 18_767 * 300 + rest(300));
        assert_eq!(count(Channels::Static), rest(300));
        assert_eq!(count(Channels::Multichannel), 18_767 * 300 + rest(600));
    }

    #[test]
    fn places_of_filters() {
        let wide = TextCnnConfig::kim(10, 2, Channels::Random);
        let narrow = TextCnnConfig { wide: false, ..wide.clone() };
        assert_eq!([0, 1, 2, 7].map(|length| wide.windows(3, length)), [0, 3, 4, 9]);
        assert_eq!([0, 1, 2, 3, 7].map(|length| narrow.windows(3, length)), [0, 0, 0, 1, 5]);
        let spans = |config: &TextCnnConfig, length| -> Vec<_> {
            (0..config.windows(3, length)).map(|window| config.span(3, window, length)).collect()
        };
        assert_eq!(spans(&wide, 2), [(0, 1), (0, 2), (0, 2), (1, 2)]);
        assert_eq!(spans(&narrow, 4), [(0, 3), (1, 4)]);
        assert_eq!((wide.time(0), narrow.time(2)), (1, 5));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let kim = || TextCnnConfig::kim(10, 2, Channels::Random);
        let wrong = [
            (TextCnnConfig { words: 0, ..kim() }, "words"),
            (TextCnnConfig { widths: vec![], ..kim() }, "widths"),
            (TextCnnConfig { widths: vec![3, 0], ..kim() }, "widths"),
            (TextCnnConfig { dropout: 1.0, ..kim() }, "dropout"),
            (TextCnnConfig { max_norm: Some(-1.0), ..kim() }, "max_norm"),
        ];
        for (config, name) in wrong {
            let error = TextCnn::new(config).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
