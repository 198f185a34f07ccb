//! Cached generation is the full network, sample by sample, and draws from its distribution.

use receptive::data::MuLaw;
use receptive::exec::{Executor, Store};
use receptive::generate::{Generator, Sampling};
use receptive::graph::{Extent, ParamLayout, State};
use receptive::nn::{WaveNet, WaveNetConfig, WaveNetInput};
use receptive::random::Random;
use receptive::{Device, Error};

use crate::support::gpu;

fn devices() -> [Device; 2] {
    [Device::Cpu, gpu()]
}

/// Small, with odd widths that all differ.
fn odd() -> WaveNetConfig {
    WaveNetConfig {
        classes: 21,
        input: WaveNetInput::Classes,
        input_kernel: 2,
        input_bias: true,
        kernel: 2,
        dilations: vec![1, 2, 4, 1, 2],
        residual: 7,
        gate: 5,
        skip: 9,
        head: 11,
        biases: true,
        residual_in_last_layer: false,
    }
}

fn configurations() -> Vec<(&'static str, WaveNetConfig)> {
    vec![
        ("odd widths", odd()),
        ("kernel 3, odd dilations", WaveNetConfig { kernel: 3, dilations: vec![1, 3, 9, 2], ..odd() }),
        ("scalar input", WaveNetConfig { input: WaveNetInput::Scalar, input_kernel: 5, ..odd() }),
        ("no biases", WaveNetConfig { biases: false, input_bias: false, ..odd() }),
        ("one tap", WaveNetConfig { kernel: 1, input_kernel: 1, dilations: vec![1, 2], ..odd() }),
        ("one layer", WaveNetConfig { kernel: 4, dilations: vec![2], ..odd() }),
        (
            "as published",
            WaveNetConfig {
                classes: 256,
                residual: 32,
                gate: 32,
                skip: 160,
                head: 96,
                dilations: vec![1, 2, 4, 8, 16],
                input_bias: false,
                residual_in_last_layer: true,
                ..odd()
            },
        ),
        ("gates wider than the rest", WaveNetConfig { residual: 2, gate: 70, skip: 3, head: 1, classes: 300, ..odd() }),
    ]
}

fn layout(model: &WaveNet) -> ParamLayout {
    model.logits(Extent { batch: 1, time: 1 }).unwrap().program.params().clone()
}

/// Parameters that all matter: biases too are random. Weights are scaled up, so that the past is felt.
fn store(model: &WaveNet, device: &Device, seed: u64, edit: impl Fn(&str, &mut [f32])) -> Store {
    let layout = layout(model);
    let initial = layout.initial(seed);
    let mut flat = initial.clone();
    for (index, param) in layout.iter().enumerate() {
        let mut random = Random::new(seed, 1, index as u32);
        let mut values = param.gather(&initial);
        match param.name.ends_with("bias") {
            true => values.iter_mut().for_each(|v| *v = 0.3 * random.normal()),
            false => values.iter_mut().for_each(|v| *v *= 1.5),
        }
        edit(&param.name, &mut values);
        param.scatter(&values, &mut flat);
    }
    let store = Store::new(device);
    store.write(State::Params, &flat).unwrap();
    store
}

fn plain(model: &WaveNet, device: &Device) -> Store {
    store(model, device, 5, |_, _| ())
}

fn random_classes(count: usize, classes: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed, 2, 0);
    (0..count).map(|_| random.below(classes as u32)).collect()
}

/// The logits of the whole network for one sequence: `[time, classes]`.
fn full_forward(model: &WaveNet, store: &Store, classes: &[u32]) -> Vec<f32> {
    let program = model.logits(Extent { batch: 1, time: classes.len() }).unwrap();
    let mut executor = Executor::new(&program.program, store).unwrap();
    match model.config().input {
        WaveNetInput::Classes => executor.write_ids(program.input, classes).unwrap(),
        WaveNetInput::Scalar => {
            let mu_law = MuLaw::new(model.config().classes).unwrap();
            let samples: Vec<f32> = classes.iter().map(|&class| mu_law.decode(class)).collect();
            executor.write(program.input, &samples).unwrap();
        }
    }
    executor.run(&Default::default()).unwrap();
    executor.read(program.logits.unwrap()).unwrap()
}

/// The largest difference, as a part of the largest magnitude.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(a.iter().chain(b).all(|v| v.is_finite()) && scale > 0.0);
    a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

#[test]
fn logits_are_those_of_the_full_network() {
    for (name, config) in configurations() {
        let model = WaveNet::new(config.clone()).unwrap();
        // Past the receptive field and around every ring more than once.
        let input = random_classes(3 * model.receptive_field() + 7, config.classes, 9);
        for device in devices() {
            let store = plain(&model, &device);
            let expected = full_forward(&model, &store, &input);
            let mut generator = Generator::new(&model, &store, 2).unwrap();
            // In unequal pieces.
            let (first, second) = input.split_at(5);
            let pieces = [generator.logits(first).unwrap(), generator.logits(second).unwrap()];
            for stream in 0..2 {
                let of_stream = |logits: &[f32], count: usize| {
                    let len = count * config.classes;
                    logits[stream * len..(stream + 1) * len].to_vec()
                };
                let actual = [of_stream(&pieces[0], first.len()), of_stream(&pieces[1], second.len())].concat();
                let off = difference(&actual, &expected);
                assert!(off < 1e-4, "{name} on {device}, stream {stream}: off by {off} ({})", generator.variant());
            }
        }
    }
}

#[test]
fn a_greedy_continuation_is_that_of_the_full_network() {
    for (name, config) in configurations() {
        let model = WaveNet::new(config.clone()).unwrap();
        let prompts = [random_classes(6, config.classes, 1), random_classes(6, config.classes, 2)];
        for device in devices() {
            let store = plain(&model, &device);
            let mut generator = Generator::new(&model, &store, 2).unwrap();
            generator.prime_each(&prompts).unwrap();
            let drawn = generator.generate(20, &Sampling { temperature: 0.0, seed: 0 }).unwrap();
            for (prompt, drawn) in prompts.iter().zip(&drawn) {
                let whole = [prompt.as_slice(), drawn].concat();
                let logits = full_forward(&model, &store, &whole);
                for (step, &class) in drawn.iter().enumerate() {
                    let row = &logits[(prompt.len() - 1 + step) * config.classes..][..config.classes];
                    let largest = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
                    let behind = largest - row[class as usize];
                    assert!(behind < 1e-4, "{name} on {device}: draw {step} is class {class}, {behind} below the best");
                }
            }
        }
    }
}

#[test]
fn both_executors_draw_the_same() {
    for (name, config) in configurations() {
        let model = WaveNet::new(config).unwrap();
        for temperature in [0.0, 1.0, 0.7] {
            let drawn = devices().map(|device| {
                let mut generator = Generator::new(&model, &plain(&model, &device), 3).unwrap();
                generator.generate(50, &Sampling { temperature, seed: 1 << 40 | 3 }).unwrap()
            });
            assert_eq!(drawn[0], drawn[1], "{name} at temperature {temperature}");
            if temperature > 0.0 {
                assert_ne!(drawn[0][0], drawn[0][1], "{name}: streams have random numbers of their own");
            }
        }
    }
}

#[test]
fn calls_follow_on_one_another_and_a_reset_starts_anew() {
    let model = WaveNet::new(WaveNetConfig { kernel: 3, ..odd() }).unwrap();
    let sampling = Sampling { temperature: 1.0, seed: 11 };
    for device in devices() {
        let store = plain(&model, &device);
        let fresh = || Generator::new(&model, &store, 2).unwrap();
        let whole = fresh().generate(100, &sampling).unwrap();
        assert_eq!(whole, fresh().generate(100, &sampling).unwrap(), "twice on {device}");

        let mut generator = fresh();
        for round in 0..2 {
            let mut pieces = generator.generate(60, &sampling).unwrap();
            assert_eq!(generator.generate(0, &sampling).unwrap(), [[0_u32; 0]; 2]);
            for count in [1, 39] {
                let more = generator.generate(count, &sampling).unwrap();
                pieces.iter_mut().zip(more).for_each(|(piece, more)| piece.extend(more));
            }
            assert_eq!(pieces, whole, "in pieces on {device}, round {round}");
            generator.reset();
        }
        let other = generator.generate(100, &Sampling { seed: 12, ..sampling }).unwrap();
        assert_ne!(other, whole, "another seed on {device}");

        // Silence is what is fed when nothing was.
        let silence = MuLaw::new(21).unwrap().encode(0.0);
        let mut primed = fresh();
        primed.prime(&[silence]).unwrap();
        assert_eq!(primed.generate(100, &sampling).unwrap(), whole);
        // Feeding what was drawn leaves the same state as drawing it.
        let mut fed = fresh();
        let with_start: Vec<Vec<u32>> = whole.iter().map(|drawn| [&[silence], drawn.as_slice()].concat()).collect();
        fed.prime_each(&with_start).unwrap();
        let mut drawn = fresh();
        drawn.generate(100, &sampling).unwrap();
        let probe = [3, 1, 4];
        assert_eq!(fed.logits(&probe).unwrap(), drawn.logits(&probe).unwrap(), "on {device}");
    }
}

#[test]
fn long_sequences_go_around_every_ring_exactly() {
    let model =
        WaveNet::new(WaveNetConfig { kernel: 3, input_kernel: 4, dilations: vec![1, 3, 9, 2], ..odd() }).unwrap();
    let input = random_classes(12_003, 21, 8);
    let (before, probe) = input.split_at(12_000);
    for device in devices() {
        let store = plain(&model, &device);
        let logits = [12_000, 4500, 7].map(|piece| {
            let mut generator = Generator::new(&model, &store, 1).unwrap();
            // The last pieces are short, so that there are not too many.
            let (long, short) = before.split_at(11_000);
            long.chunks(piece.max(100)).for_each(|classes| generator.prime(classes).unwrap());
            short.chunks(piece).for_each(|classes| generator.prime(classes).unwrap());
            generator.logits(probe).unwrap()
        });
        assert!(logits[0] == logits[1] && logits[0] == logits[2], "on {device}");
        let tail = &input[input.len() - model.receptive_field() - 2..];
        let expected = full_forward(&model, &store, tail);
        let off = difference(&logits[0], &expected[expected.len() - logits[0].len()..]);
        assert!(off < 1e-4, "on {device}: off by {off}");
    }
}

/// A network whose logits are those of one bias, whatever it is fed.
fn constant(logits: &[f32]) -> (WaveNet, impl Fn(&Device) -> Store) {
    let config = WaveNetConfig { classes: logits.len(), dilations: vec![1], ..odd() };
    let model = WaveNet::new(config).unwrap();
    let (logits, copy) = (logits.to_vec(), model.clone());
    let store = move |device: &Device| {
        store(&copy, device, 1, |name, values| match name {
            "head.1.bias" => values.copy_from_slice(&logits),
            "head.1.weight" => values.fill(0.0),
            _ => (),
        })
    };
    (model, store)
}

fn counts(model: &WaveNet, store: &Store, sampling: &Sampling, streams: usize, samples: usize) -> Vec<f64> {
    let mut counts = vec![0.0; model.config().classes];
    let drawn = Generator::new(model, store, streams).unwrap().generate(samples, sampling).unwrap();
    drawn.iter().flatten().for_each(|&class| counts[class as usize] += 1.0);
    counts
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let exps: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[test]
fn draws_follow_the_softmax() {
    let mut random = Random::new(3, 0, 0);
    // Fewer and more classes than a workgroup has threads; some of no probability.
    for classes in [13, 700] {
        let mut logits: Vec<f32> = (0..classes).map(|_| random.normal()).collect();
        logits[4] = -500.0;
        logits[classes - 1] = -500.0;
        let (model, store) = constant(&logits);
        for (device, temperature) in devices().into_iter().flat_map(|d| [(d.clone(), 1.0_f32), (d, 2.0)]) {
            let sampling = Sampling { temperature, seed: 21 };
            let (streams, samples) = (8, 2500);
            let counts = counts(&model, &store(&device), &sampling, streams, samples);
            let total = (streams * samples) as f64;
            let mut chi_square = 0.0;
            for (p, count) in softmax(&logits, f64::from(temperature)).iter().zip(&counts) {
                match *p > 1e-30 {
                    true => chi_square += (count - p * total).powi(2) / (p * total),
                    false => assert_eq!(*count, 0.0),
                }
            }
            // Mean n, variance 2n: five standard deviations.
            let degrees = (classes - 3) as f64;
            let limit = degrees + 5.0 * (2.0 * degrees).sqrt();
            assert!(chi_square < limit, "{classes} classes at {temperature} on {device}: {chi_square} > {limit}");
            assert!(chi_square > degrees - 5.0 * (2.0 * degrees).sqrt(), "too even: {chi_square} of {degrees}");
        }
    }
}

#[test]
fn temperature_sets_the_entropy() {
    let logits: Vec<f32> = (0..16).map(|i| i as f32 * 0.3).collect();
    let (model, store) = constant(&logits);
    for device in devices() {
        let store = store(&device);
        let entropy = |temperature: f32| {
            let counts = counts(&model, &store, &Sampling { temperature, seed: 2 }, 2, 2000);
            counts.iter().filter(|c| **c > 0.0).map(|c| -(c / 4000.0) * (c / 4000.0).ln()).sum::<f64>()
        };
        let exact = |temperature: f64| softmax(&logits, temperature).iter().map(|p| -p * p.ln()).sum::<f64>();
        assert_eq!(entropy(0.0), 0.0, "on {device}");
        for temperature in [0.25, 1.0, 4.0] {
            let (seen, exact) = (entropy(temperature), exact(f64::from(temperature)));
            assert!((seen - exact).abs() < 0.06, "{temperature} on {device}: {seen} and {exact}");
        }
    }
}

#[test]
fn models_too_wide_for_a_workgroup_are_left_to_the_host() {
    let config = WaveNetConfig { classes: 60_000, dilations: vec![1, 2], ..odd() };
    let model = WaveNet::new(config).unwrap();
    let sampling = Sampling { temperature: 1.0, seed: 4 };
    let [cpu, on_gpu] = devices().map(|device| {
        let mut generator = Generator::new(&model, &plain(&model, &device), 1).unwrap();
        (generator.variant().to_owned(), generator.generate(30, &sampling).unwrap())
    });
    assert_eq!(cpu.1, on_gpu.1);
    assert_eq!(cpu.0, "wavenet_generate: the host");
    assert!(on_gpu.0.contains("the host (one workgroup a stream: the vectors"), "{}", on_gpu.0);
}

#[test]
fn samples_are_fed_as_they_are_or_as_classes() {
    let mu_law = MuLaw::new(21).unwrap();
    let classes = random_classes(30, 21, 3);
    for input in [WaveNetInput::Classes, WaveNetInput::Scalar] {
        let model = WaveNet::new(WaveNetConfig { input, ..odd() }).unwrap();
        for device in devices() {
            let store = plain(&model, &device);
            let logits_after = |samples: &[f32]| {
                let mut generator = Generator::new(&model, &store, 1).unwrap();
                generator.prime_samples(samples).unwrap();
                generator.logits(&[7]).unwrap()
            };
            let mut by_class = Generator::new(&model, &store, 1).unwrap();
            by_class.prime(&classes).unwrap();
            let expected = by_class.logits(&[7]).unwrap();
            let exact: Vec<f32> = classes.iter().map(|&class| mu_law.decode(class)).collect();
            assert_eq!(logits_after(&exact), expected, "{input:?} on {device}");
            let between: Vec<f32> = exact.iter().map(|sample| sample * 1.001).collect();
            assert_eq!(logits_after(&between) == expected, input == WaveNetInput::Classes, "{input:?} on {device}");
        }
    }
}

#[test]
fn what_cannot_be_is_a_typed_error() {
    let model = WaveNet::new(odd()).unwrap();
    for device in devices() {
        let store = plain(&model, &device);
        for streams in [0, (1 << 20) + 1] {
            assert!(matches!(Generator::new(&model, &store, streams), Err(Error::Config(m)) if m.contains("streams")));
        }
        let empty = Store::new(&device);
        assert!(matches!(Generator::new(&model, &empty, 1), Err(Error::Graph(m)) if m.contains("0 parameters")));
        let mut generator = Generator::new(&model, &store, 2).unwrap();
        for temperature in [-0.5, f32::NAN, f32::INFINITY] {
            let drawn = generator.generate(1, &Sampling { temperature, seed: 0 });
            assert!(matches!(drawn, Err(Error::Config(m)) if m.contains("temperature")));
        }
        for fed in [generator.prime(&[3, 21]), generator.logits(&[21]).map(drop)] {
            assert!(matches!(fed, Err(Error::Data(m)) if m.contains("class 21") && m.contains("21 classes")));
        }
        for sequences in [vec![vec![1]], vec![vec![1], vec![1, 2]]] {
            assert!(matches!(generator.prime_each(&sequences), Err(Error::Data(m)) if m.contains("2 streams")));
        }
        assert!(matches!(generator.prime_samples(&[0.0, f32::NAN]), Err(Error::Data(m)) if m.contains("sample 1")));
        // None of that was fed.
        let sampling = Sampling::default();
        let fresh = Generator::new(&model, &store, 2).unwrap().generate(5, &sampling).unwrap();
        assert_eq!(generator.generate(5, &sampling).unwrap(), fresh);
    }
}

#[test]
fn logits_that_are_not_finite_end_the_generation() {
    let model = WaveNet::new(odd()).unwrap();
    for device in devices() {
        for (part, value) in
            [("head.1.bias", f32::NAN), ("layers.1.dilated.weight", f32::NAN), ("head.1.bias", f32::INFINITY)]
        {
            let store = store(&model, &device, 1, |name, values| {
                if name == part {
                    values[2] = value;
                }
            });
            for temperature in [0.0, 1.0] {
                let mut generator = Generator::new(&model, &store, 2).unwrap();
                let sampling = Sampling { temperature, seed: 0 };
                let error = generator.generate(40, &sampling).unwrap_err();
                assert!(matches!(&error, Error::Data(m) if m.contains("not finite")), "{part} on {device}: {error}");
                let error = generator.generate(1, &sampling).unwrap_err();
                assert!(matches!(&error, Error::Data(m) if m.contains("reset")), "{part} on {device}: {error}");
                generator.reset();
                assert!(generator.generate(40, &sampling).is_err());
            }
        }
    }
}
