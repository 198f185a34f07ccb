//! `text_cnn cv`: cross-validation as Kim's. Each fold is tested by a model trained on the others, after the epoch that is best on a
//! tenth of them that is held out.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use receptive::Device;
use receptive::data::Sequences as _;
use serde_json::json;

use crate::args::CvArgs;
use crate::data::Corpus;
use crate::fit::{Fit, describe, model};
use crate::record::{self, Fold};
use crate::shared;
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::terminal::{grouped, say};

pub fn cv(args: &CvArgs) -> Result<()> {
    let corpus = Corpus::read(&args.data, &args.fit)?;
    ensure!(args.folds <= corpus.sentences.len(), "--folds {}: there are fewer sentences", args.folds);
    let least = corpus.sentences.len() - corpus.sentences.len().div_ceil(args.folds);
    ensure!(
        (least as f64 * args.fit.dev).round() >= 1.0,
        "--dev {}: of {least} sentences none is left to choose the epoch by; give more",
        args.fit.dev
    );
    // All folds are trained alike, those that are gone on with too.
    let alike = [args.fit.epochs, args.fit.patience];
    let told = json!({ "arguments": args, "epochs_and_patience": alike, "data": corpus.sentences.fingerprint() });
    let settings = shared::record::settings(&args.out, &told, args.fit.resume)?;
    let device = Device::select(&args.fit.device)?;
    let parameters = model(&args.fit, &corpus)?.parameter_count()?;
    settings.write(&["result.json"])?;
    say(&format!("{}: {} parameters, on {device}", describe(args.fit.channels), grouped(parameters)));
    let (stop, begun) = (stop_on_interrupt()?, Instant::now());
    let path = args.out.join("folds.jsonl");
    let mut done: Vec<Fold> = if args.fit.resume && path.exists() { shared::record::read(&path)? } else { vec![] };
    shared::record::write(&path, &done, true)?;
    let parts = corpus.sentences.folds(args.folds, args.fit.seed);
    let left = (1..=args.folds).filter(|fold| done.iter().all(|done| done.fold != *fold)).collect();
    let train = |fold: usize| train_fold(args, &corpus, &device, &parts, fold, &stop);
    let stopped = side_by_side(left, args.jobs, &stop, train, |line| {
        done.push(line);
        shared::record::write(&path, &[line], false)?;
        let (mean, _) = spread(&done);
        let accuracy = line.test_accuracy * 100.0;
        say(&format!("fold {}: test {accuracy:.2} % after epoch {}; mean so far {mean:.2} %", line.fold, line.epoch));
        Ok(())
    })?;
    if stopped {
        say(&format!("stopped after {} folds; --resume goes on with the others", done.len()));
        return Ok(());
    }
    done.sort_by_key(|done| done.fold);
    let (mean, deviation) = spread(&done);
    let seconds: f64 = done.iter().map(|fold| fold.seconds).sum();
    let epochs: u64 = done.iter().map(|fold| fold.epochs).sum();
    let result = json!({
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
        "{} folds: {mean:.2}{deviation} %; {:.1} s an epoch with {} at a time, {:.0} s since the start; wrote {}",
        done.len(),
        seconds / epochs.max(1) as f64,
        args.jobs,
        begun.elapsed().as_secs_f64(),
        args.out.display()
    ));
    Ok(())
}

/// Trains on all parts but one, of which it tells the accuracy. Nothing if it was stopped.
fn train_fold(
    args: &CvArgs,
    corpus: &Corpus,
    device: &Device,
    parts: &[Vec<u32>],
    fold: usize,
    stop: &AtomicBool,
) -> Result<Option<Fold>> {
    let others = parts.iter().enumerate().filter(|(part, _)| part + 1 != fold);
    let others: Vec<u32> = others.flat_map(|(_, units)| units.clone()).collect();
    let (test, train) = (corpus.sentences.subset(&parts[fold - 1]), corpus.sentences.subset(&others));
    let fit = Fit {
        args: &args.fit,
        corpus,
        device,
        seed: args.fit.seed.wrapping_add(fold as u64),
        sentences: &train,
        test: Some(&test),
        files: None,
        name: format!("fold {fold}, "),
        stop,
    };
    let epochs = fit.run(|_| Ok(()))?;
    if stop.load(Ordering::SeqCst) {
        return Ok(None);
    }
    let (best, last) = record::best(&epochs).zip(epochs.last()).context("there was no epoch")?;
    Ok(Some(Fold {
        fold,
        test_accuracy: best.test_accuracy.context("there is nothing to test with")?,
        dev_accuracy: best.dev_accuracy.context("there is nothing to choose the epoch by")?,
        epoch: best.epoch,
        epochs: last.epoch,
        seconds: last.seconds,
    }))
}

/// Runs a job for each fold, `at_once` of them at a time, and tells each result as it comes. Whether it was stopped, as it also is
/// by an error, which is given once all have ended.
fn side_by_side(
    folds: Vec<usize>,
    at_once: usize,
    stop: &AtomicBool,
    job: impl Fn(usize) -> Result<Option<Fold>> + Sync,
    mut tell: impl FnMut(Fold) -> Result<()>,
) -> Result<bool> {
    let at_once = at_once.min(folds.len());
    let next = Mutex::new(folds.into_iter());
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, next, job) = (sender.clone(), &next, &job);
            scope.spawn(move || {
                let fold = || next.lock().ok()?.next();
                while let (Some(fold), false) = (fold(), stop.load(Ordering::SeqCst)) {
                    if sender.send(job(fold)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let (mut stopped, mut failure) = (false, None);
        for result in results {
            match result.and_then(|fold| fold.map(&mut tell).transpose()) {
                Ok(told) => stopped |= told.is_none(),
                Err(error) => {
                    stop.store(true, Ordering::SeqCst);
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(stopped || stop.load(Ordering::SeqCst)), Err)
    })
}

/// Mean and deviation over the folds, in percent.
fn spread(folds: &[Fold]) -> (f64, Option<f64>) {
    shared::record::spread(&folds.iter().map(|fold| fold.test_accuracy * 100.0).collect::<Vec<_>>())
}
