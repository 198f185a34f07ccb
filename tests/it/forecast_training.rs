//! Training a model to forecast: it beats the naive forecast and resumes exactly.

use std::sync::atomic::AtomicBool;

use receptive::Device;
use receptive::data::series::{Series, SeriesParts, SeriesSplit, WindowOptions};
use receptive::graph::State;
use receptive::nn::{ConvRnn, ConvRnnConfig, RecurrentConfig};
use receptive::ops::Cell;
use receptive::optim::OptimizerConfig;
use receptive::train::{ForecastTask, Limit, Predictor, Trainer, TrainerOptions};

use crate::support::gpu;

/// Two waves, of which the second runs ahead of the first.
fn parts() -> SeriesParts {
    let wave = |shift: f64| (0..900).map(|row| (f64::from(row) * 0.21 + shift).sin() + 3.0).collect();
    let columns = vec![("wave".to_owned(), wave(0.0)), ("ahead".to_owned(), wave(0.9))];
    let series = Series::from_columns("waves", columns, None).unwrap();
    let options = WindowOptions { lookback: 24, step: 1, delay: 6, stride: 1 };
    SeriesParts::new(&series, "wave", &SeriesSplit::default(), &options).unwrap()
}

fn hybrid() -> ConvRnn {
    let gru = RecurrentConfig {
        recurrent_dropout: 0.1,
        ..RecurrentConfig::new(Cell::Gru { reset_after: true, hard: false }, 8)
    };
    ConvRnn::new(ConvRnnConfig::hybrid(2, 24, gru).relative_to(0)).unwrap()
}

fn task(parts: &SeriesParts) -> ForecastTask {
    ForecastTask::new(hybrid(), parts.train.clone(), parts.valid.clone(), 16, OptimizerConfig::default()).unwrap()
}

fn run(trainer: &mut Trainer<ForecastTask>, steps: u64) {
    trainer.run(Limit::steps(steps), &AtomicBool::new(false), &mut |_| ()).unwrap();
}

#[test]
fn a_hybrid_learns_what_the_naive_forecast_can_not() {
    let parts = parts();
    for device in [Device::select("cpu").unwrap(), gpu()] {
        let options = TrainerOptions { learning_rate: 5e-3, ..TrainerOptions::default() };
        let mut trainer = Trainer::new(task(&parts), &device, options).unwrap();
        // It starts as the naive forecast.
        let naive = parts.valid.naive_error().mae as f32;
        let start = trainer.validate().unwrap().unwrap();
        assert!((start - naive).abs() < 1e-4 * naive, "{start} and {naive} on {device}");
        run(&mut trainer, 80);
        let error = trainer.validate().unwrap().unwrap();
        assert!(error < 0.3 * naive, "{error}, naive {naive}, on {device}");
    }
}

#[test]
fn ten_steps_are_five_and_five() {
    let (parts, folder) = (parts(), tempfile::tempdir().unwrap());
    for device in [Device::select("cpu").unwrap(), gpu()] {
        let path = folder.path().join("run");
        let options = TrainerOptions::default();
        let mut straight = Trainer::new(task(&parts), &device, options.clone()).unwrap();
        run(&mut straight, 10);
        let with_file = TrainerOptions { checkpoint: Some(path.clone()), ..options };
        let mut first = Trainer::new(task(&parts), &device, with_file.clone()).unwrap();
        run(&mut first, 5);
        let mut second = Trainer::resume(task(&parts), &device, with_file, &path).unwrap();
        run(&mut second, 10);
        for state in [State::Params, State::FirstMoment, State::SecondMoment] {
            let bits = |trainer: &Trainer<ForecastTask>| -> Vec<u32> {
                trainer.store().read(state).unwrap().iter().map(|value| value.to_bits()).collect()
            };
            assert!(bits(&straight) == bits(&second), "{state:?} on {device}");
        }
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let parts = parts();
    let wrong = ConvRnn::new(ConvRnnConfig::dense(3, 24)).unwrap();
    let new = |model, batch| {
        ForecastTask::new(model, parts.train.clone(), parts.valid.clone(), batch, OptimizerConfig::default())
    };
    let error = new(wrong, 16).unwrap_err().to_string();
    assert!(error.contains("[24, 3, 1]") && error.contains("[24, 2, 1]"), "{error}");
    assert!(new(hybrid(), 0).unwrap_err().to_string().contains("batch"));
    assert!(ConvRnn::new(ConvRnnConfig::dense(2, 24).relative_to(2)).is_err());

    let cpu = Device::select("cpu").unwrap();
    let trainer = Trainer::new(task(&parts), &cpu, TrainerOptions::default()).unwrap();
    let mut predictor = Predictor::new(&hybrid(), trainer.store(), 4).unwrap();
    assert!(predictor.forecast(&[0.0; 5 * 48], 5).is_err());
    assert!(predictor.forecast(&[0.0; 7], 1).is_err());
    assert_eq!(predictor.forecast(&[0.5; 3 * 48], 3).unwrap(), [0.5; 3]);
}
