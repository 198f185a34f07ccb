//! Sentences are classified: training, vectors that stay, sentences of any length, and explanations that add up.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use receptive::Device;
use receptive::data::Sequences as _;
use receptive::data::text::{Sentences, Vocabulary, WordVectors};
use receptive::exec::Store;
use receptive::graph::{Extent, Precision, State};
use receptive::nn::{Channels, TextCnn, TextCnnConfig};
use receptive::optim::{Adadelta, Method, OptimizerConfig};
use receptive::random::Random;
use receptive::train::{Classifier, Limit, TextCnnTask, Trainer, TrainerOptions};

use crate::support::{assert_close, gpu};

const WORDS: usize = 40;

fn vocabulary() -> Vocabulary {
    Vocabulary::from_words((0..WORDS - Vocabulary::RESERVED).map(|word| format!("word{word}")))
}

fn config(channels: Channels) -> TextCnnConfig {
    TextCnnConfig { dimensions: 10, filters: 6, widths: vec![2, 3], ..TextCnnConfig::kim(WORDS, 2, channels) }
}

/// Random sentences, of which those of class 1 have word 5 before word 6 in them.
fn sentences(count: usize, seed: u64) -> Sentences {
    let mut random = Random::new(seed, 0, 0);
    let mut ids = vec![];
    let classes: Vec<u32> = (0..count).map(|sentence| (sentence % 2) as u32).collect();
    for &class in &classes {
        let length = 2 + random.below(9) as usize;
        let mut words: Vec<u32> = (0..length).map(|_| 7 + random.below(WORDS as u32 - 7)).collect();
        let at = random.below(length as u32 - 1) as usize;
        let pair = if class == 1 { [5, 6] } else { [6, 5] };
        words[at..at + 2].copy_from_slice(&pair);
        ids.push(words);
    }
    Sentences::new(ids, classes, 20).unwrap()
}

fn adadelta() -> OptimizerConfig {
    OptimizerConfig::from(Method::Adadelta(Adadelta { rho: 0.95, ..Adadelta::default() }))
}

fn task(model: TextCnn) -> TextCnnTask {
    let vectors = WordVectors::random(&vocabulary(), 10, 9);
    let vectors = model.config().channels.pretrained().then(|| Arc::new(vectors));
    TextCnnTask::new(model, sentences(203, 1), sentences(60, 2), vectors, adadelta()).unwrap()
}

fn options(seed: u64) -> TrainerOptions {
    TrainerOptions { learning_rate: 1.0, seed, ..TrainerOptions::default() }
}

fn run(trainer: &mut Trainer<TextCnnTask>, steps: u64) {
    trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_order_of_two_words_is_learnt_and_static_vectors_stay() {
    for device in [Device::Cpu, gpu()] {
        for channels in [Channels::Random, Channels::Static, Channels::NonStatic, Channels::Multichannel] {
            let what = format!("{channels:?} on {device}");
            let mut trainer = Trainer::new(task(TextCnn::new(config(channels)).unwrap()), &device, options(4)).unwrap();
            let params = trainer.executor().program().params().clone();
            let before = trainer.store().read(State::Params).unwrap();
            run(&mut trainer, 150);
            let accuracy = trainer.with_task(|task, store| task.evaluate_valid(store)).unwrap().accuracy.unwrap();
            assert!(accuracy > 0.9, "{accuracy}, {what}");
            let after = trainer.store().read(State::Params).unwrap();
            for param in params.iter() {
                let [before, after] = [&before, &after].map(|flat| param.gather(flat));
                if param.name == "static.weight" {
                    assert_eq!(bits(&before), bits(&after), "{what}");
                    assert_eq!(bits(&before), bits(&WordVectors::random(&vocabulary(), 10, 9).values), "{what}");
                } else {
                    assert_ne!(before, after, "{}, {what}", param.name);
                }
                if param.name == "embedding.weight" {
                    assert_eq!(bits(&after[..10]), [0; 10], "the padding of {what}");
                }
            }
        }
    }
}

#[test]
fn a_step_more_after_a_resumption_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    for device in [Device::Cpu, gpu()] {
        let model = || TextCnn::new(config(Channels::Multichannel)).unwrap();
        let mut whole = Trainer::new(task(model()), &device, options(4)).unwrap();
        run(&mut whole, 26);
        let mut half = Trainer::new(task(model()), &device, options(4)).unwrap();
        run(&mut half, 13);
        half.save(&path).unwrap();
        let mut rest = Trainer::resume(task(model()), &device, options(4), &path).unwrap();
        run(&mut rest, 26);
        let [whole, rest] = [&whole, &rest].map(|trainer| bits(&trainer.store().read(State::Params).unwrap()));
        assert!(whole == rest, "{device}");
    }
}

/// A classifier with random weights everywhere.
fn classifier(config: TextCnnConfig, device: &Device, precision: Precision) -> Classifier {
    let model = TextCnn::new(config).unwrap().with_precision(precision);
    let time = model.config().time(1);
    let params = model.prediction(Extent { batch: 1, time }).unwrap().program.params().clone();
    let mut flat = params.initial(3);
    for (index, param) in params.iter().enumerate() {
        let mut random = Random::new(8, index as u32, 0);
        let values: Vec<f32> = (0..param.shape.len()).map(|_| random.normal() * 0.4).collect();
        param.scatter(&values, &mut flat);
    }
    let store = Store::new(device);
    store.write(State::Params, &flat).unwrap();
    Classifier::new(model, &store)
}

fn lengths() -> Vec<Vec<u32>> {
    let mut random = Random::new(2, 0, 0);
    [0, 1, 2, 7, 1000].map(|length| (0..length).map(|_| 2 + random.below(WORDS as u32 - 2)).collect()).to_vec()
}

#[test]
fn sentences_of_any_length_and_explanations_that_add_up() {
    for wide in [true, false] {
        let config = TextCnnConfig { wide, widths: vec![3, 4, 5], ..config(Channels::Multichannel) };
        let results = [Device::Cpu, gpu()].map(|device| {
            let mut classifier = classifier(config.clone(), &device, Precision::F32);
            // Together and each by itself: padding has no influence.
            let together = classifier.probabilities(&lengths()).unwrap();
            let apart =
                lengths().into_iter().flat_map(|ids| classifier.probabilities(&[ids]).unwrap()).collect::<Vec<_>>();
            assert_close("apart", &apart.concat(), &together.concat(), 1e-6, 1e-5);
            for (ids, explanation) in lengths().iter().zip(classifier.explain(&lengths()).unwrap()) {
                let mut logits = explanation.bias.clone();
                for ngram in &explanation.ngrams {
                    assert!(ngram.start < ngram.end && ngram.end <= ids.len() && ngram.end - ngram.start <= 5);
                    logits.iter_mut().zip(&ngram.contributions).for_each(|(sum, part)| *sum += part);
                }
                let odds = explanation.probabilities[0].ln() - explanation.probabilities[1].ln();
                assert!((logits[0] - logits[1] - odds).abs() < 1e-3, "{logits:?} {odds}, length {}", ids.len());
                let found: usize = explanation.ngrams.iter().map(|ngram| ngram.filters).sum();
                assert!(found <= 3 * config.filters, "{found}");
                assert_eq!(found == 0, ids.is_empty() || (!wide && ids.len() < 3), "length {}", ids.len());
            }
            assert_eq!(classifier.probabilities(&[]).unwrap(), Vec::<Vec<f32>>::new());
            together.concat()
        });
        assert_close("GPU and CPU", &results[1], &results[0], 1e-5, 1e-4);
        // The winning words of a long sentence alone would be the same: half precision tells about the same.
        let mut half = classifier(config, &gpu(), Precision::F16);
        assert_close("f16", &half.probabilities(&lengths()).unwrap().concat(), &results[0], 2e-2, 2e-2);
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let model = || TextCnn::new(config(Channels::Static)).unwrap();
    let none = Sentences::new(vec![], vec![], 5).unwrap();
    let error = |train: Sentences, vectors: Option<WordVectors>| {
        TextCnnTask::new(model(), train, sentences(4, 1), vectors.map(Arc::new), adadelta()).unwrap_err().to_string()
    };
    let vectors = |dimensions| Some(WordVectors::random(&vocabulary(), dimensions, 0));
    assert!(error(none, vectors(10)).contains("no sentences"));
    assert!(error(sentences(4, 1), None).contains("needs them"));
    assert!(error(sentences(4, 1), vectors(11)).contains("40 words of 10 dimensions"));
    assert_eq!(sentences(4, 1).largest().0, 20);
}
