//! Runs, and what their times say.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::subject::Subject;

/// Times of several runs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Between the quartiles; other programs may not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqr: Option<f64>,
}

impl Spread {
    /// Of any number of times, in any order; nothing of none.
    pub fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let (min, max) = (*times.first()?, *times.last()?);
        // Between the two times next to that place, in proportion.
        let quantile = |share: f64| {
            let place = share * (times.len() - 1) as f64;
            let (below, above) = (times[place.floor() as usize], times[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self { median: quantile(0.5), min, max, iqr: Some(quantile(0.75) - quantile(0.25)) })
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub runs: u32,
    /// For the runs of a row.
    pub time: Duration,
}

/// What was measured of a subject; times of one step, or of one unit of it.
#[derive(Debug, Clone)]
pub struct Times {
    pub runs: usize,
    /// Steps of a run.
    pub steps: u32,
    /// From the host's clock: the steps of a run with a sync at the end.
    pub wall: Spread,
    /// From the device's clock, where it has one.
    pub device: Option<Spread>,
    /// What the host takes to record and submit a step, where the device then works on its own.
    pub host: Option<Spread>,
}

/// However long they take.
const LEAST_RUNS: usize = 3;
/// Long enough that the sync at the end of a run doesn't count.
const RUN: Duration = Duration::from_millis(50);
const MOST_STEPS: u32 = 500;
/// Warm-up at least: every batch twice.
const WARM_UP_STEPS: u64 = 8;
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures subjects in turns, so that what disturbs one disturbs all.
///
/// # Errors
/// What the subjects give.
pub fn measure(subjects: &mut [Box<dyn Subject + '_>], effort: Effort) -> Result<Vec<Times>> {
    let count = subjects.len();
    let mut steps = vec![];
    for subject in subjects.iter_mut() {
        steps.push(warm_up(subject.as_mut())?);
    }
    let mut numbers = vec![0; count];
    let mut turns = |measure: &mut dyn FnMut(usize, &mut u64) -> Result<()>, time: Duration| -> Result<()> {
        let start = Instant::now();
        for run in 0..effort.runs as usize {
            if run >= LEAST_RUNS && start.elapsed() > time.saturating_mul(count as u32) {
                break;
            }
            // There and back, so that none is always first.
            for turn in 0..count {
                let index = if run % 2 == 0 { turn } else { count - 1 - turn };
                measure(index, &mut numbers[index])?;
            }
        }
        Ok(())
    };

    let mut wall = vec![vec![]; count];
    turns(
        &mut |index, number| {
            let time = run(subjects[index].as_mut(), steps[index], number)?;
            wall[index].push(milliseconds(time) / (f64::from(steps[index]) * f64::from(subjects[index].units())));
            Ok(())
        },
        effort.time,
    )?;

    let mut device = vec![vec![]; count];
    let mut timed = vec![];
    for subject in subjects.iter_mut() {
        timed.push(subject.set_timestamps(true)?);
    }
    if timed.contains(&true) {
        turns(
            &mut |index, number| {
                if timed[index] {
                    run(subjects[index].as_mut(), steps[index], number)?;
                    device[index].extend(subjects[index].device_times()?.into_iter().map(milliseconds));
                }
                Ok(())
            },
            effort.time / 2,
        )?;
    }
    for subject in subjects.iter_mut() {
        subject.set_timestamps(false)?;
    }

    let mut host = vec![vec![]; count];
    if subjects.iter().any(|subject| !subject.synchronous()) {
        turns(
            &mut |index, number| {
                let start = Instant::now();
                subjects[index].step(*number)?;
                let time = start.elapsed();
                *number += 1;
                if !subjects[index].synchronous() {
                    host[index].push(milliseconds(time));
                }
                // Nothing under way: the next step doesn't wait for a free buffer.
                subjects[index].wait()
            },
            effort.time / 2,
        )?;
    }

    let all = wall.into_iter().zip(device).zip(host).zip(steps);
    let times = all.filter_map(|(((wall, device), host), steps)| {
        let runs = wall.len();
        Some(Times { runs, steps, wall: Spread::of(wall)?, device: Spread::of(device), host: Spread::of(host) })
    });
    Ok(times.collect())
}

/// Runs until the clocks are up and everything is in place; gives the steps of a run.
fn warm_up(subject: &mut dyn Subject) -> Result<u32> {
    let start = Instant::now();
    let mut number = 0;
    let mut last = RUN;
    while number == 0 || (start.elapsed() < WARM_UP && number < 100 * WARM_UP_STEPS) || number < WARM_UP_STEPS {
        last = run(subject, 1, &mut number)?;
        // A slow subject has no clocks to bring up.
        if last > 4 * WARM_UP && number >= 2 {
            break;
        }
    }
    let steps = RUN.as_secs_f64() / last.as_secs_f64().max(1e-9);
    Ok((steps.ceil() as u32).clamp(1, MOST_STEPS))
}

/// The time of some steps and a sync, without what the host does between synchronous ones.
fn run(subject: &mut dyn Subject, steps: u32, number: &mut u64) -> Result<Duration> {
    let mut prepared = Duration::ZERO;
    let start = Instant::now();
    for _ in 0..steps {
        if subject.synchronous() {
            let start = Instant::now();
            subject.prepare(*number)?;
            prepared += start.elapsed();
        }
        subject.step(*number)?;
        *number += 1;
    }
    subject.wait()?;
    Ok(start.elapsed() - prepared)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::super::subject::Observed;
    use super::*;

    #[test]
    fn quartiles_lie_between_times() {
        assert_eq!(Spread::of(vec![]), None);
        let one = Spread { median: 2.0, min: 2.0, max: 2.0, iqr: Some(0.0) };
        assert_eq!(Spread::of(vec![2.0]), Some(one));
        let five = Spread { median: 3.0, min: 1.0, max: 100.0, iqr: Some(2.0) };
        assert_eq!(Spread::of(vec![4.0, 100.0, 1.0, 2.0, 3.0]), Some(five));
        let four = Spread { median: 2.5, min: 1.0, max: 4.0, iqr: Some(1.5) };
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Some(four));
    }

    /// Sleeps instead of computing.
    struct Sleeper {
        prepare: Duration,
        step: Duration,
        synchronous: bool,
        steps: Vec<u64>,
    }

    impl Subject for &mut Sleeper {
        fn prepare(&mut self, _: u64) -> Result<()> {
            std::thread::sleep(self.prepare);
            Ok(())
        }

        fn step(&mut self, number: u64) -> Result<()> {
            self.steps.push(number);
            if self.synchronous {
                std::thread::sleep(self.step);
            }
            Ok(())
        }

        fn wait(&mut self) -> Result<()> {
            if !self.synchronous {
                std::thread::sleep(self.step);
            }
            Ok(())
        }

        fn observe(&mut self) -> Result<Vec<Observed>> {
            Ok(vec![])
        }

        fn synchronous(&self) -> bool {
            self.synchronous
        }
    }

    #[test]
    fn host_work_between_steps_is_left_out() {
        let sleeper = |synchronous| Sleeper {
            prepare: Duration::from_millis(20),
            step: Duration::from_millis(60),
            synchronous,
            steps: vec![],
        };
        let (mut host, mut device) = (sleeper(true), sleeper(false));
        let mut subjects: Vec<Box<dyn Subject + '_>> = vec![Box::new(&mut host), Box::new(&mut device)];
        let times = measure(&mut subjects, Effort { runs: 4, time: Duration::from_secs(60) }).unwrap();
        drop(subjects);
        for times in &times {
            assert_eq!((times.runs, times.steps), (4, 1));
            // Sleeping is never shorter, and longer on a machine with much to do.
            assert!((60.0..75.0).contains(&times.wall.min), "{times:?}");
            assert!(times.device.is_none());
        }
        assert!(times[0].host.is_none() && times[1].host.is_some_and(|host| host.min < 50.0), "{times:?}");
        // Batches follow on one another.
        let timed = &host.steps[host.steps.len() - 8..];
        assert!(timed.windows(2).all(|pair| pair[1] == pair[0] + 1), "{timed:?}");
    }

    #[test]
    fn time_bounds_the_runs() {
        let mut slow =
            Sleeper { prepare: Duration::ZERO, step: Duration::from_millis(30), synchronous: true, steps: vec![] };
        let mut subjects: Vec<Box<dyn Subject + '_>> = vec![Box::new(&mut slow)];
        let times = measure(&mut subjects, Effort { runs: 1000, time: Duration::from_millis(1) }).unwrap();
        assert_eq!(times[0].runs, LEAST_RUNS);
    }
}
