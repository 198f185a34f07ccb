//! `wavenet train`: a model from recordings, with its curves and a sample.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use receptive::Device;
use receptive::data::Corpus;
use receptive::generate::Sampling;
use receptive::graph::Precision;
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::optim::{Decay, OptimizerConfig, Schedule};
use receptive::train::{Event, Limit, Outcome, Reason, Trainer, TrainerOptions, WaveNetTask, WaveNetTaskOptions};

use crate::args::TrainArgs;
use crate::audio::{self, Baselines};
use crate::generate;
use crate::info::describe;
use crate::metrics::{Line, MetricsFile};
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::terminal::{self, Progress, grouped, say};
use crate::shared::timing::timed;
use crate::shared::{measure, plot};

const DEFAULT_STEPS: u64 = 10_000;

pub fn train(args: &TrainArgs) -> Result<()> {
    args.check()?;
    let corpus = audio::corpus(args)?;
    let model = WaveNet::new(WaveNetConfig::preset(&args.preset)?)?.with_precision(args.precision);
    say(describe(&model, corpus.rate)?.trim_end());
    let (train, valid) = audio::chunks(&corpus, &model, args.chunk)?;
    let baselines = valid.as_ref().map(|valid| Baselines::of(&train, valid, model.config().classes)).transpose()?;
    if let Some(baselines) = &baselines {
        let [histogram, first_order] = baselines.named().map(|(name, loss)| format!("{name} {loss:.3}"));
        say(&format!("baselines, nats a sample: {histogram}, {first_order}"));
    }
    let device = Device::select(&args.device)?;
    say(&format!("device: {device}"));
    if args.precision == Precision::F16 && device.as_gpu().is_none() {
        say("precision: the CPU computes in f32; only the loss is scaled as --precision f16 has it");
    }
    let clip_norm = (args.clip > 0.0).then_some(args.clip);
    let optimizer = OptimizerConfig { clip_norm, average: args.average, ..OptimizerConfig::default() };
    let options = WaveNetTaskOptions { batch: args.batch, optimizer, valid_chunks: Some(args.valid_chunks) };
    let task = WaveNetTask::new(model.clone(), train, valid, options)?;
    let checkpoint = args.checkpoint();
    let limit = limit(args)?;
    // Over a known number of steps the rate falls to a fiftieth, which settles the weights; a time says no number.
    let decay = limit.steps.filter(|_| limit.time.is_none()).map(|total| Decay::Cosine { total, floor: 0.02 });
    let options = TrainerOptions {
        learning_rate: args.lr,
        schedule: Schedule { decay: decay.unwrap_or_default(), ..Schedule::default() },
        seed: args.seed,
        valid_every: args.valid_every,
        checkpoint_every: args.checkpoint_every,
        checkpoint: Some(checkpoint.clone()),
        ..TrainerOptions::default()
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}: cannot make it", args.out.display()))?;
    let mut trainer = match args.resume {
        true => Trainer::resume(task, &device, options, &checkpoint).context("--resume")?,
        false => Trainer::new(task, &device, options)?,
    };
    let resumed_at = args.resume.then_some(trainer.step());
    let mut metrics = MetricsFile::open(&args.out.join("metrics.jsonl"), resumed_at)?;
    let stop = stop_on_interrupt()?;
    let outcome = timed(&mut trainer, |trainer| run(trainer, limit, &stop, &mut metrics))?;

    let extra = BTreeMap::from([
        ("sample_rate".to_owned(), corpus.rate.to_string()),
        ("steps".to_owned(), outcome.step.to_string()),
    ]);
    trainer.save_model(args.out.join("model.safetensors"), &extra)?;
    // What matters is saved: from here on Ctrl-C ends the process at once.
    stop.store(true, Ordering::SeqCst);
    report(args, &mut trainer, &model, &corpus, baselines, &mut metrics, outcome)
}

fn limit(args: &TrainArgs) -> Result<Limit> {
    let time = args.time()?;
    Ok(Limit { steps: args.steps.or(if time.is_none() { Some(DEFAULT_STEPS) } else { None }), time })
}

/// Trains until the limit or Ctrl-C, showing progress and writing metrics.
fn run(
    trainer: &mut Trainer<WaveNetTask>,
    limit: Limit,
    stop: &AtomicBool,
    metrics: &mut MetricsFile,
) -> Result<Outcome> {
    let shown = match (limit.steps, limit.time) {
        (Some(steps), _) => terminal::Limit::Steps(steps),
        (None, time) => terminal::Limit::Time(time.unwrap_or_default()),
    };
    let mut progress = Progress::new("training", shown);
    let mut failure = None;
    let outcome = trainer.run(limit, stop, &mut |event| {
        if let Err(error) = on_event(event, &mut progress, metrics, shown) {
            // A disk that is full, say: what is trained so far is saved.
            failure.get_or_insert(error);
            stop.store(true, Ordering::SeqCst);
        }
    });
    metrics.flush()?;
    if let Some(error) = failure {
        return Err(error);
    }
    let outcome = outcome?;
    let (how, next) = match outcome.reason {
        Reason::Finished => ("finished", ""),
        Reason::Stopped => ("stopped", "; the checkpoint is saved, --resume goes on"),
        Reason::TimeUp => ("time is up", ""),
    };
    progress.finish(&format!("{how} at step {} after {:.0} s{next}", grouped(outcome.step as usize), outcome.seconds));
    Ok(outcome)
}

fn on_event(event: &Event, progress: &mut Progress, metrics: &mut MetricsFile, shown: terminal::Limit) -> Result<()> {
    match *event {
        Event::Step { step, loss, grad_norm, scaling, samples_per_second, seconds, .. } => {
            let step = step + 1;
            progress.update(step, &terminal::training_message(step, shown, loss, samples_per_second));
            metrics.push(Line {
                step,
                loss: Some(loss),
                // JSON has no way to write that of a step left out.
                grad_norm: Some(grad_norm).filter(|norm| norm.is_finite()),
                loss_scale: scaling.map(|scaling| scaling.scale),
                skipped: scaling.map(|scaling| scaling.skipped),
                samples_per_second: Some(samples_per_second),
                seconds,
                ..Line::default()
            })
        }
        Event::Validated { step, loss, seconds } => {
            progress.line(&format!("step {}: validation loss {loss:.3}", grouped(step as usize)));
            metrics.push(Line { step, valid_loss: Some(loss), seconds, ..Line::default() })?;
            metrics.flush()
        }
        Event::Saved { .. } => metrics.flush(),
        _ => Ok(()),
    }
}

/// Last validation, curve, sample, spectra and a summary.
fn report(
    args: &TrainArgs,
    trainer: &mut Trainer<WaveNetTask>,
    model: &WaveNet,
    corpus: &Corpus,
    baselines: Option<Baselines>,
    metrics: &mut MetricsFile,
    outcome: Outcome,
) -> Result<()> {
    let file = |name: &str| args.out.join(name);
    let last = metrics.validation().last().copied();
    let valid_loss = match last {
        Some((step, loss)) if step == outcome.step => Some(loss),
        // Who presses Ctrl-C does not want to wait.
        _ if outcome.reason == Reason::Stopped => None,
        _ => {
            let loss = trainer.validate()?;
            if let Some(loss) = loss {
                let (step, seconds) = (outcome.step, outcome.seconds);
                metrics.push(Line { step, valid_loss: Some(loss), seconds, ..Line::default() })?;
                metrics.flush()?;
            }
            loss
        }
    };
    let named = baselines.map(|b| b.named().to_vec()).unwrap_or_default();
    plot::losses(
        &file("loss.png"),
        &plot::LossPlot {
            title: &format!("WaveNet, preset {}", args.preset),
            train: &metrics.training(),
            each: "step",
            valid: &metrics.validation(),
            valid_name: "validation",
            baselines: &named,
            unit: "nats a sample",
        },
    )?;

    let sampling = Sampling { temperature: 1.0, seed: args.seed };
    let samples = generate::clip(model, trainer.weights(), corpus.rate, args.sample_seconds, &sampling, None)?;
    generate::save(&file("sample.wav"), &samples, corpus.rate, "generated after training")?;
    let recordings: Vec<f32> = corpus.valid.iter().flat_map(|clip| clip.samples.iter().copied()).collect();
    plot::spectra(
        &file("spectrum.png"),
        "Long-term spectra",
        corpus.rate,
        &[("recordings held out", &recordings), ("generated", &samples)],
    )?;

    let summary = summary(args, model, corpus, baselines, valid_loss, metrics, outcome, &recordings, &samples);
    std::fs::write(file("summary.txt"), &summary).with_context(|| file("summary.txt").display().to_string())?;
    say(&format!("\n{summary}wrote {}", listed(&args.out)));
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a summary is of everything")]
fn summary(
    args: &TrainArgs,
    model: &WaveNet,
    corpus: &Corpus,
    baselines: Option<Baselines>,
    valid_loss: Option<f32>,
    metrics: &MetricsFile,
    outcome: Outcome,
    recordings: &[f32],
    samples: &[f32],
) -> String {
    let mut lines = vec![format!(
        "{} steps in {:.0} s, preset {}, receptive field {} samples ({:.0} ms at {} Hz)",
        grouped(outcome.step as usize),
        metrics.seconds(),
        args.preset,
        grouped(model.receptive_field()),
        model.receptive_field() as f64 * 1e3 / f64::from(corpus.rate),
        grouped(corpus.rate as usize)
    )];
    if let (Some(loss), Some(baselines)) = (valid_loss, baselines) {
        lines.push(format!(
            "validation loss {loss:.3} nats a sample; baselines: class histogram {:.3}, previous class {:.3}",
            baselines.histogram, baselines.first_order
        ));
    }
    if metrics.skipped() > 0 {
        lines.push(format!("{} steps left out: their gradients overflowed f16", grouped(metrics.skipped() as usize)));
    }
    if let Some(similarity) = measure::similarity(recordings, samples, corpus.rate) {
        lines.push(format!("sample: {similarity}"));
    }
    lines.join("\n") + "\n"
}

fn listed(folder: &Path) -> String {
    let names = ["model.safetensors", "metrics.jsonl", "loss.png", "sample.wav", "sample.png", "spectrum.png"];
    let listed: Vec<String> = names.iter().map(|name| folder.join(name).display().to_string()).collect();
    listed.join(", ")
}
