//! `text_cnn cv`: cross-validation as Kim's. Each fold is tested by a model trained on the others, after the epoch that is best on a
//! tenth of them that is held out.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use receptive::Device;
use receptive::data::Sequences as _;

use crate::args::CvArgs;
use crate::data::Corpus;
use crate::fit::{Fit, describe, model};
use crate::record::{self, Fold};
use crate::shared;
use crate::shared::terminal::{grouped, say};

pub fn cv(args: &CvArgs) -> Result<()> {
    let corpus = Corpus::read(&args.data, &args.fit)?;
    ensure!(args.fit.dev > 0.0, "--dev 0: a share of the sentences must choose the epoch");
    ensure!(args.folds <= corpus.sentences.len(), "--folds {}: there are fewer sentences", args.folds);
    record::settings(&args.out, args, args.fit.resume)?;
    let device = Device::select(&args.fit.device)?;
    let parameters = model(&args.fit, &corpus)?.parameter_count()?;
    say(&format!("{}: {} parameters, on {device}", describe(args.fit.channels), grouped(parameters)));
    let path = args.out.join("folds.jsonl");
    let mut done: Vec<Fold> = if args.fit.resume && path.exists() { shared::record::read(&path)? } else { vec![] };
    shared::record::write(&path, &done, true)?;
    let parts = corpus.sentences.folds(args.folds, args.fit.seed);
    for fold in done.len() + 1..=args.folds {
        let others: Vec<u32> = parts
            .iter()
            .enumerate()
            .filter(|(part, _)| part + 1 != fold)
            .flat_map(|(_, units)| units.clone())
            .collect();
        let (test, train) = (corpus.sentences.subset(&parts[fold - 1]), corpus.sentences.subset(&others));
        let fit = Fit {
            args: &args.fit,
            corpus: &corpus,
            device: &device,
            seed: args.fit.seed + fold as u64,
            sentences: &train,
            test: Some(&test),
            folder: None,
            name: format!("fold {fold}, "),
        };
        let epochs = fit.run(|_| Ok(()))?;
        let (best, last) = record::best(&epochs).zip(epochs.last()).context("there was no epoch")?;
        let line = Fold {
            fold,
            test_accuracy: best.test_accuracy.context("there is nothing to test with")?,
            dev_accuracy: best.dev_accuracy,
            epoch: best.epoch,
            epochs: last.epoch,
            seconds: last.seconds,
        };
        done.push(line);
        shared::record::write(&path, &[line], false)?;
        let (mean, _) = spread(&done);
        say(&format!(
            "fold {fold}: test {:.2} % after epoch {}; mean so far {mean:.2} %",
            line.test_accuracy * 100.0,
            best.epoch
        ));
    }
    let (mean, deviation) = spread(&done);
    let seconds: f64 = done.iter().map(|fold| fold.seconds).sum();
    let epochs: u64 = done.iter().map(|fold| fold.epochs).sum();
    let result = serde_json::json!({
        "accuracy_percent": mean,
        "deviation_percent": deviation,
        "folds": done,
        "parameters": parameters,
        "seconds": seconds,
        "seconds_per_epoch": seconds / epochs.max(1) as f64,
        "device": device.to_string(),
    });
    let to = args.out.join("result.json");
    fs::write(&to, serde_json::to_string_pretty(&result)? + "\n").with_context(|| to.display().to_string())?;
    let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {deviation:.2}"));
    say(&format!(
        "{} folds: {mean:.2}{deviation} %; {seconds:.0} s of training, {:.1} s an epoch; wrote {}",
        done.len(),
        seconds / epochs.max(1) as f64,
        args.out.display()
    ));
    Ok(())
}

/// Mean and deviation over the folds, in percent.
fn spread(folds: &[Fold]) -> (f64, Option<f64>) {
    shared::record::spread(&folds.iter().map(|fold| fold.test_accuracy * 100.0).collect::<Vec<_>>())
}
