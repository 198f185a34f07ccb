//! `text_cnn train`.

use std::fs;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::data::Sequences as _;

use crate::args::TrainArgs;
use crate::data::Corpus;
use crate::fit::{Files, Fit, describe, model};
use crate::record;
use crate::saved;
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::terminal::{grouped, say};
use crate::shared::{self, plot};

pub fn train(args: &TrainArgs) -> Result<()> {
    let corpus = Corpus::read(&args.data, &args.fit)?;
    let test = args.test.as_ref().map(|path| corpus.read_test(path, &args.data, args.fit.batch)).transpose()?;
    let settings = shared::record::settings(&args.out, args, args.fit.resume)?;
    let device = Device::select(&args.fit.device)?;
    let parameters = model(&args.fit, &corpus)?.parameter_count()?;
    say(&format!("{}: {} parameters, on {device}", describe(args.fit.channels), grouped(parameters)));
    let path = args.out.join("model.safetensors");
    let metadata = saved::metadata(&corpus, args.data.cleaning)?;
    let stop = stop_on_interrupt()?;
    let fit = Fit {
        args: &args.fit,
        corpus: &corpus,
        device: &device,
        seed: args.fit.seed,
        sentences: &corpus.sentences,
        test: test.as_ref(),
        files: Some(Files { folder: &args.out, settings: &settings }),
        name: String::new(),
        stop: &stop,
    };
    let epochs = fit.run(|trainer| Ok(trainer.save_model(&path, &metadata)?))?;
    if stop.load(Ordering::SeqCst) {
        say(&format!("stopped after {} epochs; --resume goes on with the next", epochs.len()));
        return Ok(());
    }
    let curve = |of: &dyn Fn(&record::Epoch) -> Option<f64>| -> Vec<(u64, f32)> {
        epochs.iter().filter_map(|epoch| Some((epoch.steps, of(epoch)? as f32))).collect()
    };
    let classes = corpus.labels.len() as f64;
    plot::losses(
        &args.out.join("loss.png"),
        &plot::LossPlot {
            title: &args.out.display().to_string(),
            train: &curve(&|epoch| Some(epoch.train_loss)),
            each: "epoch",
            valid: &curve(&|epoch| epoch.dev_loss),
            valid_name: "validation",
            baselines: &[("guessing", classes.ln())],
            unit: "nats a sentence",
        },
    )?;
    let best = record::best(&epochs).context("there was no epoch")?;
    let result = serde_json::json!({
        "best": best,
        "epochs": epochs.len(),
        "parameters": parameters,
        "device": device.to_string(),
        "test_sentences": test.as_ref().map(|test| test.len()),
    });
    let to = args.out.join("result.json");
    fs::write(&to, serde_json::to_string_pretty(&result)? + "\n").with_context(|| to.display().to_string())?;
    let told = record::percent("dev", best.dev_accuracy) + &record::percent("test", best.test_accuracy);
    say(&format!("the model of epoch {}{told}; wrote {}", best.epoch, path.display()));
    Ok(())
}
