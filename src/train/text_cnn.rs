//! Training models of sentences.

use std::sync::Arc;

use serde_json::{Value, json};

use super::classifier::{Classifier, feed};
use super::sequence::Evaluation;
use super::task::Task;
use crate::data::text::{Sentences, WordVectors, by_length};
use crate::data::{Prefetch, SequenceBatch, Sequences as _};
use crate::error::{Error, Result};
use crate::exec::{Executor, Store};
use crate::graph::{Extent, Program};
use crate::hash::Hash;
use crate::nn::{TextCnn, TextCnnProgram};
use crate::optim::OptimizerConfig;

/// Batches made ahead: one is in use while the others are made.
const BUFFERS: usize = 3;

/// A model of sentences and the data that it is trained and validated with.
#[derive(Debug)]
pub struct TextCnnTask {
    model: TextCnn,
    optimizer: OptimizerConfig,
    train: Arc<Sentences>,
    valid: Arc<Sentences>,
    vectors: Option<Arc<WordVectors>>,
    fingerprint: Value,
    program: TextCnnProgram,
    classifier: Option<Classifier>,
}

impl TextCnnTask {
    /// A task of a model and its data, which starts with `vectors` for words where the model is to have some.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no sentences to train with; [`Error::Config`] if vectors are missing, or are not of the model's size;
    /// as [`TextCnn::training`].
    pub fn new(
        model: TextCnn,
        train: Sentences,
        valid: Sentences,
        vectors: Option<Arc<WordVectors>>,
        optimizer: OptimizerConfig,
    ) -> Result<Self> {
        if train.is_empty() {
            return Err(Error::Data("there are no sentences to train with".into()));
        }
        let config = model.config();
        match &vectors {
            None if config.channels.pretrained() => {
                return Err(Error::Config("a model of word vectors made elsewhere needs them to start with".into()));
            }
            Some(vectors) if vectors.values.len() != config.words * config.dimensions => {
                return Err(Error::Config(format!(
                    "{} numbers are not the vectors of {} words of {} dimensions each",
                    vectors.values.len(),
                    config.words,
                    config.dimensions
                )));
            }
            _ => (),
        }
        let (batch, longest) = train.largest();
        let program = model.training(Extent { batch, time: config.time(longest) }, &optimizer)?;
        let hash_of = |vectors: &Arc<WordVectors>| Hash::new().bytes(bytemuck::cast_slice(&vectors.values)).hex();
        let fingerprint = json!({
            "batch": train.per_step(),
            "precision": model.precision(),
            "training_data": train.fingerprint(),
            "vectors": vectors.as_ref().map(hash_of),
        });
        let (train, valid) = (Arc::new(train), Arc::new(valid));
        Ok(Self { model, optimizer, train, valid, vectors, fingerprint, program, classifier: None })
    }

    /// The model.
    pub fn model(&self) -> &TextCnn {
        &self.model
    }

    /// Steps that it takes to see all sentences once.
    pub fn steps_per_epoch(&self) -> u64 {
        self.train.steps()
    }

    /// How well the model does on some sentences, with the parameters in `store`. Waits for the device.
    ///
    /// # Errors
    /// What running a program gives.
    pub fn evaluate(&mut self, store: &Store, sentences: &Sentences) -> Result<Evaluation> {
        let classifier = match &mut self.classifier {
            Some(classifier) => classifier,
            None => self.classifier.insert(Classifier::new(self.model.clone(), store)),
        };
        classifier.evaluate(sentences)
    }

    /// The same on the validation data.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_valid(&mut self, store: &Store) -> Result<Evaluation> {
        let valid = Arc::clone(&self.valid);
        self.evaluate(store, &valid)
    }
}

impl Task for TextCnnTask {
    type Batch = SequenceBatch;

    fn name(&self) -> &'static str {
        "text_cnn"
    }

    fn config(&self) -> Value {
        json!(self.model.config())
    }

    fn optimizer(&self) -> OptimizerConfig {
        self.optimizer
    }

    fn fingerprint(&self) -> Value {
        self.fingerprint.clone()
    }

    fn program(&self) -> &Arc<Program> {
        &self.program.program
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let params = self.program.program.params();
        let mut flat = params.initial(seed);
        if let Some(vectors) = &self.vectors {
            let tables = self.model.tables().iter().filter_map(|name| params.find(name));
            tables.for_each(|table| table.scatter(&vectors.values, &mut flat));
        }
        flat
    }

    fn batches(&self, seed: u64, first_step: u64) -> Result<Prefetch<SequenceBatch>> {
        let data = Arc::clone(&self.train);
        let lengths = data.lengths();
        let steps = data.steps();
        let mut drawn: Option<(u64, Vec<Vec<usize>>)> = None;
        let make = move |step: u64, batch: &mut SequenceBatch| {
            let epoch = step / steps;
            let drawn = match &mut drawn {
                Some(drawn) if drawn.0 == epoch => drawn,
                drawn => drawn.insert((epoch, by_length(&lengths, data.per_step(), seed, epoch as u32))),
            };
            data.fill(&drawn.1[(step % steps) as usize], batch);
            Ok::<(), Error>(())
        };
        let buffers = vec![SequenceBatch::default(); BUFFERS];
        Prefetch::new(first_step, buffers, make).map_err(|error| Error::Data(error.to_string()))
    }

    fn feed(&self, batch: &SequenceBatch, executor: &mut Executor) -> Result<()> {
        feed(&self.program, self.model.config(), batch, executor)
    }

    fn samples_per_step(&self) -> u64 {
        self.train.per_step() as u64
    }

    fn validate(&mut self, store: &Store) -> Result<Option<f32>> {
        match self.valid.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.evaluate_valid(store)?.loss as f32)),
        }
    }
}
