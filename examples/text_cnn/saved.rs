//! Models in files, with the words and classes that they know.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use receptive::Device;
use receptive::data::text::{Cleaning, Vocabulary};
use receptive::exec::Store;
use receptive::graph::{Extent, State};
use receptive::nn::{TextCnn, TextCnnConfig};
use receptive::train::{Classifier, load_model};

use crate::data::Corpus;

/// What goes into a model's file beside its weights.
pub fn metadata(corpus: &Corpus, cleaning: Cleaning) -> Result<BTreeMap<String, String>> {
    let entries = [
        ("labels", serde_json::to_string(&corpus.labels)?),
        ("vocabulary", serde_json::to_string(&corpus.vocabulary.words().iter().collect::<Vec<_>>())?),
        ("cleaning", serde_json::to_string(&cleaning)?),
    ];
    Ok(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// A model that was read from a file, ready for use.
pub struct Saved {
    pub labels: Vec<String>,
    pub vocabulary: Vocabulary,
    pub cleaning: Cleaning,
    pub classifier: Classifier,
}

impl Saved {
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let file = load_model::<TextCnnConfig>(path, "text_cnn")?;
        let entry = |key: &str| {
            let value = file.metadata.get(key);
            value.with_context(|| format!("{}: there is no {key} in it; train the model again", path.display()))
        };
        let labels: Vec<String> = serde_json::from_str(entry("labels")?).context("labels")?;
        let words: Vec<String> = serde_json::from_str(entry("vocabulary")?).context("vocabulary")?;
        let cleaning = serde_json::from_str(entry("cleaning")?).context("cleaning")?;
        let (vocabulary, config) = (Vocabulary::from_words(words), &file.config);
        ensure!(
            vocabulary.len() == config.words && labels.len() == config.classes,
            "{}: its words and labels are not those of its weights; train the model again",
            path.display()
        );
        let model = TextCnn::new(config.clone())?;
        let program = model.prediction(Extent { batch: 1, time: config.time(1) })?.program;
        let store = Store::new(device);
        store.write(State::Params, &file.flat(program.params())?)?;
        Ok(Self { labels, vocabulary, cleaning, classifier: Classifier::new(model, &store) })
    }
}
