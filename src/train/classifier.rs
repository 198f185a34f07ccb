//! Classes of sentences, and what speaks for them.

use std::collections::BTreeMap;

use super::sequence::{Evaluation, largest};
use crate::data::text::Sentences;
use crate::data::{SequenceBatch, Sequences as _};
use crate::error::{Error, Result};
use crate::exec::{Executor, Store};
use crate::graph::{Extent, Shape, State, StepArgs};
use crate::nn::{TextCnn, TextCnnConfig, TextCnnProgram};

/// Classifies sentences with the parameters in a store. Programs are planned for the longest sentence so far.
#[derive(Debug)]
pub struct Classifier {
    model: TextCnn,
    store: Store,
    evaluation: Option<Planned>,
    prediction: Option<Planned>,
}

/// A program, its executor, and the largest extent of it.
#[derive(Debug)]
struct Planned {
    program: TextCnnProgram,
    executor: Executor,
    extent: Extent,
}

/// Why a sentence is of its class: logits as sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The probability of each class.
    pub probabilities: Vec<f32>,
    /// What each class gets without any words.
    pub bias: Vec<f32>,
    /// What filters found, by where they found it. With the bias, the contributions add up to the logits.
    pub ngrams: Vec<Ngram>,
}

/// Words at which filters had their maximum.
#[derive(Debug, Clone, PartialEq)]
pub struct Ngram {
    /// The first word's position in the sentence.
    pub start: usize,
    /// The position after the last word's.
    pub end: usize,
    /// How many filters had it here.
    pub filters: usize,
    /// What they add to the logit of each class.
    pub contributions: Vec<f32>,
}

/// Writes a batch to the inputs of a program, at the batch's size.
pub(super) fn feed(
    program: &TextCnnProgram,
    config: &TextCnnConfig,
    batch: &SequenceBatch,
    executor: &mut Executor,
) -> Result<()> {
    let extent = Extent { batch: batch.rows, time: config.time(batch.time) };
    executor.resize(extent)?;
    match extent.time == batch.time {
        true => executor.write_ids(program.tensors.ids, &batch.ids)?,
        // All are shorter than the widest filter.
        false => {
            let mut ids = vec![Shape::MASKED; extent.batch * extent.time];
            let rows = ids.chunks_exact_mut(extent.time).zip(batch.ids.chunks_exact(batch.time));
            rows.for_each(|(padded, own)| padded[..own.len()].copy_from_slice(own));
            executor.write_ids(program.tensors.ids, &ids)?;
        }
    }
    for (&tensor, &width) in program.tensors.windows.iter().zip(&config.widths) {
        let windows = |&length: &u32| config.windows(width, length as usize) as u32;
        executor.write_ids(tensor, &batch.lengths.iter().map(windows).collect::<Vec<_>>())?;
    }
    match program.target {
        Some(target) => executor.write_ids(target, &batch.target_ids),
        None => Ok(()),
    }
}

/// Positions that a program is planned for beyond those of its batch, at most.
const MOST_POSITIONS: usize = 1 << 14;

impl Planned {
    /// A program that takes the batch: the one that there is, or one that is planned for the next power of two of its length, and
    /// for what the one before took, unless that is too much together.
    fn for_batch<'a>(
        planned: &'a mut Option<Self>,
        batch: &SequenceBatch,
        config: &TextCnnConfig,
        store: &Store,
        build: impl Fn(Extent) -> Result<TextCnnProgram>,
    ) -> Result<&'a mut Self> {
        let time = config.time(batch.time);
        let fits = |planned: &Self| planned.extent.batch >= batch.rows && planned.extent.time >= time;
        if !planned.as_ref().is_some_and(fits) {
            let (rows, longest) = planned.as_ref().map_or((1, 1), |before| (before.extent.batch, before.extent.time));
            // Its memory is given back before more is taken.
            *planned = None;
            let own = Extent { batch: batch.rows, time: time.next_power_of_two() };
            let both = Extent { batch: own.batch.max(rows), time: own.time.max(longest) };
            let extent = if both.batch * both.time <= MOST_POSITIONS { both } else { own };
            let program = build(extent)?;
            let executor = Executor::new(&program.program, store)?;
            *planned = Some(Self { program, executor, extent });
        }
        planned.as_mut().ok_or_else(|| Error::Graph("the program was not planned".into()))
    }
}

impl Classifier {
    /// A classifier with the parameters in `store`.
    pub fn new(model: TextCnn, store: &Store) -> Self {
        Self { model, store: store.clone(), evaluation: None, prediction: None }
    }

    /// The model.
    pub fn model(&self) -> &TextCnn {
        &self.model
    }

    /// The mean loss over some sentences, and the share of them that is told right. Waits for the device.
    ///
    /// # Errors
    /// What running a program gives.
    pub fn evaluate(&mut self, sentences: &Sentences) -> Result<Evaluation> {
        let (lengths, classes) = (sentences.lengths(), self.model.config().classes);
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        // The longest first, so that programs are planned once.
        order.sort_by_key(|&unit| std::cmp::Reverse(lengths[unit]));
        let mut batch = SequenceBatch::default();
        let (mut loss, mut right) = (0.0_f64, 0_usize);
        for units in order.chunks(sentences.per_step()) {
            sentences.fill(units, &mut batch);
            let build = |extent| self.model.evaluation(extent);
            let Planned { program, executor, .. } =
                Planned::for_batch(&mut self.evaluation, &batch, self.model.config(), &self.store, build)?;
            feed(program, self.model.config(), &batch, executor)?;
            executor.run(&StepArgs::default())?;
            let metrics = executor.wait()?;
            let mean = metrics.last().and_then(|metrics| metrics.values.first()).copied().unwrap_or(f32::NAN);
            loss += f64::from(mean) * batch.rows as f64;
            let logits = executor.read(program.tensors.output)?;
            let told = logits.chunks_exact(classes).map(largest);
            right += told.zip(&batch.target_ids).filter(|(told, target)| *told == **target as usize).count();
        }
        let count = order.len().max(1) as f64;
        Ok(Evaluation { loss: loss / count, accuracy: Some(right as f64 / count) })
    }

    /// The probability of each class for each of some sentences, given as ids. Waits for the device.
    ///
    /// # Errors
    /// What running a program gives.
    pub fn probabilities(&mut self, sentences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let classes = self.model.config().classes;
        match self.predict(sentences)? {
            Some(Planned { program, executor, .. }) => {
                Ok(executor.read(program.tensors.output)?.chunks_exact(classes).map(softmax).collect())
            }
            None => Ok(vec![]),
        }
    }

    /// Runs the program for prediction; nothing if there are no sentences.
    fn predict(&mut self, sentences: &[Vec<u32>]) -> Result<Option<&mut Planned>> {
        let Some(all) = Sentences::new(sentences.to_vec(), vec![0; sentences.len()], sentences.len()) else {
            return Ok(None);
        };
        let mut batch = SequenceBatch::default();
        all.fill(&(0..sentences.len()).collect::<Vec<_>>(), &mut batch);
        let (config, build) = (self.model.config(), |extent| self.model.prediction(extent));
        let planned = Planned::for_batch(&mut self.prediction, &batch, config, &self.store, build)?;
        feed(&planned.program, config, &batch, &mut planned.executor)?;
        planned.executor.run(&StepArgs::default())?;
        Ok(Some(planned))
    }

    /// What speaks for which class in each of some sentences, given as ids. Waits for the device.
    ///
    /// # Errors
    /// What running a program gives.
    pub fn explain(&mut self, sentences: &[Vec<u32>]) -> Result<Vec<Explanation>> {
        let (config, store) = (self.model.config().clone(), self.store.clone());
        let Some(Planned { program, executor, .. }) = self.predict(sentences)? else { return Ok(vec![]) };
        let logits = executor.read(program.tensors.output)?;
        let found = program
            .tensors
            .pooled
            .iter()
            .map(|pooled| Ok((executor.read(pooled.values)?, executor.read(pooled.positions)?)));
        let found: Vec<(Vec<f32>, Vec<f32>)> = found.collect::<Result<_>>()?;
        let (params, flat) = (program.program.params(), store.read(State::Params)?);
        let weights = |name: &str| params.find(name).map(|param| param.gather(&flat)).unwrap_or_default();
        let (weight, bias) = (weights("linear.weight"), weights("linear.bias"));
        let explain = |sentence: usize| {
            let length = sentences[sentence].len();
            let mut ngrams: BTreeMap<(usize, usize), (usize, Vec<f32>)> = BTreeMap::new();
            for (index, (values, places)) in found.iter().enumerate() {
                let filters = sentence * config.filters..(sentence + 1) * config.filters;
                let own = values[filters.clone()].iter().zip(&places[filters]).enumerate();
                // What the rectifier cuts off speaks for nothing.
                for (filter, (&value, &place)) in own.filter(|(_, (value, place))| **value > 0.0 && **place >= 0.0) {
                    let span = config.span(config.widths[index], place as usize, length);
                    let entry = ngrams.entry(span).or_insert_with(|| (0, vec![0.0; config.classes]));
                    entry.0 += 1;
                    let row = &weight[(index * config.filters + filter) * config.classes..][..config.classes];
                    let kept = value * (1.0 - config.dropout);
                    entry.1.iter_mut().zip(row).for_each(|(sum, weight)| *sum += kept * weight);
                }
            }
            let ngram = |((start, end), (filters, contributions))| Ngram { start, end, filters, contributions };
            let logits = &logits[sentence * config.classes..][..config.classes];
            Explanation {
                probabilities: softmax(logits),
                bias: bias.clone(),
                ngrams: ngrams.into_iter().map(ngram).collect(),
            }
        };
        Ok((0..sentences.len()).map(explain).collect())
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

impl Explanation {
    /// The class of the largest probability.
    pub fn class(&self) -> usize {
        largest(&self.probabilities)
    }
}
