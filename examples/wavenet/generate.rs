//! `wavenet generate`: a clip from a trained model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use receptive::data::{MuLaw, audio};
use receptive::exec::Store;
use receptive::generate::{Generator, Sampling};
use receptive::graph::{Extent, State};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::train::load_model;
use receptive::{Device, data::Clip};

use crate::args::GenerateArgs;
use crate::shared::plot;
use crate::shared::terminal::{Limit, Progress, grouped, say};

pub fn generate(args: &GenerateArgs) -> Result<()> {
    args.check()?;
    let file = load_model::<WaveNetConfig>(&args.model, "wavenet")?;
    let rate: u32 = file
        .metadata
        .get("sample_rate")
        .and_then(|rate| rate.parse().ok())
        .filter(|rate| (1..=audio::MAX_RATE).contains(rate))
        .with_context(|| format!("{} does not say its sample rate", args.model.display()))?;
    let model = WaveNet::new(file.config.clone())?;
    let device = Device::select(&args.device)?;
    say(&format!("device: {device}"));
    let store = Store::new(&device);
    let layout = model.logits(Extent { batch: 1, time: 1 })?.program;
    store.write(State::Params, &file.flat(layout.params())?)?;

    let past = args.prime.as_deref().map(|path| recording(path, rate)).transpose().context("--prime")?;
    make_folder(&args.out).context("--out")?;
    let sampling = Sampling { temperature: args.temperature, seed: args.seed };
    let samples = clip(&model, &store, rate, args.seconds, &sampling, past.as_ref())?;
    save(&args.out, &samples, rate, "generated")?;
    say(&format!("wrote {} and {}", args.out.display(), args.out.with_extension("png").display()));
    Ok(())
}

/// Makes the folder that `path` lies in.
fn make_folder(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
        }
        None => Ok(()),
    }
}

/// A recording at the model's rate.
fn recording(path: &Path, rate: u32) -> Result<Clip> {
    let clip = audio::read(path)?;
    Ok(if clip.rate == rate { clip } else { audio::resample(&clip, rate)? })
}

/// So many seconds of sound, after `past` if there is one.
pub fn clip(
    model: &WaveNet,
    store: &Store,
    rate: u32,
    seconds: f64,
    sampling: &Sampling,
    past: Option<&Clip>,
) -> Result<Vec<f32>> {
    let mu_law = MuLaw::new(model.config().classes)?;
    let mut generator = Generator::new(model, store, 1)?;
    if let Some(past) = past {
        // What lies before the receptive field is forgotten anyway.
        let start = past.samples.len().saturating_sub(model.receptive_field());
        generator.prime_samples(&past.samples[start..])?;
    }
    let count = ((seconds * f64::from(rate)).round() as usize).max(1);
    let mut progress = Progress::new("generating", Limit::Steps(count as u64));
    let started = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < count {
        let part = (rate as usize / 4).clamp(1, count - samples.len());
        let classes = generator.generate(part, sampling)?;
        samples.extend(classes[0].iter().map(|&class| mu_law.decode(class)));
        let speed = samples.len() as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.update(samples.len() as u64, &format!("{} samples/s", grouped(speed as usize)));
    }
    let elapsed = started.elapsed().as_secs_f64();
    progress.finish(&format!(
        "generated {:.1} s in {elapsed:.1} s: {} samples/s",
        samples.len() as f64 / f64::from(rate),
        grouped((samples.len() as f64 / elapsed.max(1e-9)) as usize)
    ));
    Ok(samples)
}

/// The WAV, and its picture beside it.
pub fn save(path: &Path, samples: &[f32], rate: u32, title: &str) -> Result<()> {
    audio::write_wav(path, samples, rate)?;
    plot::sample(&path.with_extension("png"), samples, rate, title)
}
