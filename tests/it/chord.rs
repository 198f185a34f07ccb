//! A WaveNet learns a chord: what it generates has its power at the chord's pitches.

use std::f64::consts::TAU;
use std::sync::atomic::AtomicBool;

use receptive::Device;
use receptive::data::{Chunks, Clip, MuLaw, Split};
use receptive::exec::Store;
use receptive::generate::{Generator, Sampling};
use receptive::graph::State;
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::optim::OptimizerConfig;
use receptive::random::Random;
use receptive::train::{Limit, Trainer, TrainerOptions, WaveNetTask, WaveNetTaskOptions};

use crate::measure::tone_power;
use crate::support::gpu;

/// E♭3, G3 and B♭3, as in the test of tensorflow-wavenet.
const PITCHES: [f64; 3] = [155.56, 196.00, 233.08];
const RATE: u32 = 2000;

/// A hundred seconds: in a few the phases of the three take so few of their positions together that a network learns the
/// clip by heart, and is lost where it leaves it.
const SAMPLES: usize = 200_000;

/// Three sines, and noise of so much standard deviation.
fn chord(samples: usize, noise: f32) -> Clip {
    let wave = |i: usize| PITCHES.iter().map(|hz| (TAU * hz * i as f64 / f64::from(RATE)).sin()).sum::<f64>() / 3.0;
    let mut random = Random::new(1, 0, 0);
    Clip { samples: (0..samples).map(|i| wave(i) as f32 + noise * random.normal()).collect(), rate: RATE }
}

/// Dilations 1 to 64 twice: a receptive field of 256 samples.
fn model() -> WaveNet {
    let dilations = [1, 2, 4, 8, 16, 32, 64].repeat(2);
    WaveNet::new(WaveNetConfig { dilations, residual: 16, gate: 16, skip: 32, head: 32, ..WaveNetConfig::small() })
        .unwrap()
}

/// The trained parameters and the last loss.
fn trained(model: &WaveNet, clip: Clip, seed: u64, steps: u64) -> (Store, f32) {
    let mu_law = MuLaw::new(model.config().classes).unwrap();
    let field = model.receptive_field();
    let chunks = Chunks::new(Split::Train, &[clip], &mu_law, field + 1000, field).unwrap();
    let options = WaveNetTaskOptions { batch: 1, optimizer: OptimizerConfig::default(), valid_chunks: None };
    let task = WaveNetTask::new(model.clone(), chunks, None, options).unwrap();
    let options = TrainerOptions { learning_rate: 5e-3, seed, ..TrainerOptions::default() };
    let mut trainer = Trainer::new(task, &Device::Cpu, options).unwrap();
    let outcome = trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap();
    let store = Store::new(&Device::Cpu);
    store.write(State::Params, &trainer.store().read(State::Params).unwrap()).unwrap();
    (store, outcome.loss.unwrap())
}

/// Two seconds, after one that is the way into the chord if it begins from silence.
fn generated(model: &WaveNet, store: &Store, seed: u64, past: &[f32]) -> Vec<f32> {
    let mu_law = MuLaw::new(model.config().classes).unwrap();
    let mut generator = Generator::new(model, store, 1).unwrap();
    generator.prime_samples(past).unwrap();
    let classes = generator.generate(3 * RATE as usize, &Sampling { temperature: 1.0, seed }).unwrap();
    classes[0][RATE as usize..].iter().map(|&class| mu_law.decode(class)).collect()
}

#[test]
fn what_it_generates_has_its_power_at_the_pitches() {
    let model = model();
    let past = chord(2 * model.receptive_field(), 0.0).samples;
    let elsewhere = PITCHES.map(|hz| hz + 20.0);
    for (seed, noise) in [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.02)] {
        let (store, loss) = trained(&model, chord(SAMPLES, noise), seed, 300);
        for past in [&[], &past[..]] {
            let samples = generated(&model, &store, seed, past);
            let each = PITCHES.map(|hz| tone_power(&samples, RATE, &[hz], 6.0));
            let share = tone_power(&samples, RATE, &PITCHES, 6.0);
            let case = format!("seed {seed}, after {} samples: loss {loss:.3}, {share:.3}: {each:.3?}", past.len());
            eprintln!("{case}");
            assert!(share >= 0.7, "{case}");
            assert!(tone_power(&samples, RATE, &elsewhere, 6.0) < 0.05, "{case}");
            // From silence it may come to one tone alone, of which nothing in its data shows the way back.
            assert!(past.is_empty() || each.iter().all(|&one| one > 0.15), "{case}");
        }
    }
}

/// Trained weights, whose logits are far apart, as the GPU's generator sees them.
#[test]
fn the_gpu_goes_on_as_the_cpu_does() {
    let model = model();
    let (store, _) = trained(&model, chord(SAMPLES, 0.0), 5, 60);
    let on_gpu = Store::new(&gpu());
    on_gpu.write(State::Params, &store.read(State::Params).unwrap()).unwrap();
    let past = chord(model.receptive_field(), 0.0);
    let sampling = Sampling { temperature: 0.0, seed: 0 };
    let continued = |store: &Store| {
        let mut generator = Generator::new(&model, store, 1).unwrap();
        generator.prime_samples(&past.samples).unwrap();
        generator.generate(48, &sampling).unwrap().remove(0)
    };
    let logits = |store: &Store, classes: &[u32]| {
        let mut generator = Generator::new(&model, store, 1).unwrap();
        generator.prime_samples(&past.samples).unwrap();
        generator.logits(classes).unwrap()
    };
    let (expected, got) = (continued(&store), continued(&on_gpu));
    let (exact, close) = (logits(&store, &expected), logits(&on_gpu, &expected));
    let scale = exact.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let difference = exact.iter().zip(&close).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(difference < 1e-4 * scale, "{difference} of {scale}");
    // From where the two likeliest classes are as good as equal, rounding decides.
    let tie = exact.chunks_exact(model.config().classes).position(|row| {
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted[0] - sorted[1] < 4e-4 * scale
    });
    let sure = tie.map_or(expected.len(), |tie| tie + 1);
    assert!(sure >= 8, "a tie at {sure} already");
    assert_eq!(got[..sure], expected[..sure]);
}
