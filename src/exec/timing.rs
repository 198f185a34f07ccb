//! Where the time of a step goes: by step and by operator.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::graph::{Cost, Node, Program, Shape};

/// Environment variable that says what to measure; see [`Timing::from_env`].
pub const TIMING_VARIABLE: &str = "RECEPTIVE_TIMING";

/// Steps whose times are kept; of more, the latest.
const MOST_STEPS: usize = 1 << 16;

/// What an executor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// Nothing; costs nothing.
    #[default]
    Off,
    /// Each step as a whole.
    Step,
    /// Each operator. On a GPU every dispatch is then a pass of its own, between which the device idles for a moment: the
    /// times tell where the work is, their sum is more than a step takes otherwise.
    Op,
}

impl Timing {
    /// What the environment variable `RECEPTIVE_TIMING` asks for: `1` or `op` for each operator, `step` for each step, and
    /// nothing if it is not set, empty or `0`.
    ///
    /// # Errors
    /// [`Error::Config`] if it says something else.
    pub fn from_env() -> Result<Self> {
        match std::env::var(TIMING_VARIABLE) {
            Err(std::env::VarError::NotPresent) => Ok(Self::Off),
            Err(error) => Err(Error::Config(format!("{TIMING_VARIABLE}: {error}"))),
            Ok(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" | "0" | "off" => Ok(Self::Off),
                "1" | "op" => Ok(Self::Op),
                "step" => Ok(Self::Step),
                _ => Err(Error::Config(format!("{TIMING_VARIABLE}=\"{text}\": use 1 (or op), step or 0"))),
            },
        }
    }
}

/// The time of the operators of one kind: of one name and kernel variant, with outputs of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct OpTime {
    /// The operator's name.
    pub name: &'static str,
    /// The kernel variant; empty where there is no choice, and on the CPU.
    pub variant: &'static str,
    /// The planned shape of the first output.
    pub output: Shape,
    /// How often one of them ran.
    pub count: u64,
    /// The time of all those runs: on a GPU the device's, all dispatches of an operator together; on the CPU by the clock.
    pub time: Duration,
    /// What all those runs cost.
    pub cost: Cost,
}

/// What an executor measured since it was last asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timings {
    /// The time of each step, oldest first: on a GPU the device's, from the first dispatch to the last, nothing if it has no
    /// timestamps; on the CPU by the clock.
    pub steps: Vec<Duration>,
    /// The operators, the one that took longest first; nothing unless [`Timing::Op`] was set.
    pub ops: Vec<OpTime>,
    /// How long the host took to record and submit each step, waits for the device left out; nothing on the CPU.
    pub host: Vec<Duration>,
}

impl Timings {
    /// The median of some times; 0 of none.
    pub fn median(times: &[Duration]) -> Duration {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => Duration::ZERO,
            odd if odd % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A table: a line for each kind of operator, then their sum and the medians of the steps.
impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time: Duration = self.ops.iter().map(|op| op.time).sum();
        if !self.ops.is_empty() {
            let widest = |text: fn(&OpTime) -> String, heading: &str| {
                self.ops.iter().map(|op| text(op).len()).chain([heading.len()]).max().unwrap_or(0)
            };
            let name = widest(|op| op.name.to_owned(), "operator");
            let output = widest(|op| op.output.to_string(), "output");
            writeln!(
                f,
                "{:<name$}  {:<output$}  {:>7}  {:>7}  {:>10}  {:>9}  {:>8}  {:>7}  variant",
                "operator", "output", "share", "calls", "ms", "ms a call", "GFLOP/s", "GB/s"
            )?;
            let sum = OpTime {
                name: "all",
                variant: "",
                output: Shape::new(0, 0, 0),
                count: self.ops.iter().map(|op| op.count).sum(),
                time,
                cost: self.ops.iter().map(|op| op.cost).sum(),
            };
            for op in self.ops.iter().chain([&sum]) {
                let seconds = op.time.as_secs_f64().max(1e-9);
                let row = format!(
                    "{:<name$}  {:<output$}  {:>5.1} %  {:>7}  {:>10.3}  {:>9.4}  {:>8.1}  {:>7.2}  {}",
                    op.name,
                    if op.output.is_empty() { String::new() } else { op.output.to_string() },
                    100.0 * op.time.as_secs_f64() / time.as_secs_f64().max(1e-9),
                    op.count,
                    milliseconds(op.time),
                    milliseconds(op.time) / op.count.max(1) as f64,
                    op.cost.flops as f64 / seconds * 1e-9,
                    op.cost.bytes as f64 / seconds * 1e-9,
                    op.variant,
                );
                writeln!(f, "{}", row.trim_end())?;
            }
        }
        let mut medians = Vec::new();
        for (what, times) in [("took", &self.steps), ("took the host to record and submit", &self.host)] {
            if !times.is_empty() {
                medians.push(format!("{what} {:.3} ms", milliseconds(Self::median(times))));
            }
        }
        match self.steps.len().max(self.host.len()) {
            0 => f.write_str("nothing was timed"),
            steps => write!(f, "a step, the median of {steps}, {}", medians.join(" and ")),
        }
    }
}

/// What has been measured so far. One for each executor; at [`Timing::Off`] it holds nothing.
#[derive(Debug, Default)]
pub(super) struct Log {
    mode: Timing,
    /// By operator that runs, in the program's order.
    ops: Vec<OpTime>,
    /// What each of them costs at the current extent.
    costs: Vec<Cost>,
    steps: VecDeque<Duration>,
    host: VecDeque<Duration>,
}

impl Log {
    /// For a program at the current shapes; `variant` names the kernel variant of an operator.
    pub fn new(mode: Timing, program: &Program, shapes: &[Shape], variant: impl Fn(usize) -> &'static str) -> Self {
        let mut log = Self { mode, ..Self::default() };
        if mode == Timing::Op {
            let op = |(index, node): (usize, &Node)| OpTime {
                name: node.op.name(),
                variant: variant(index),
                output: node.outputs.first().map_or(Shape::new(0, 0, 0), |&tensor| program.shape(tensor)),
                count: 0,
                time: Duration::ZERO,
                cost: Cost::default(),
            };
            log.ops = program.running().enumerate().map(op).collect();
            log.resize(program, shapes);
        }
        log
    }

    /// Notes the extent of the following steps.
    pub fn resize(&mut self, program: &Program, shapes: &[Shape]) {
        if self.mode == Timing::Op {
            self.costs.clear();
            self.costs.extend(program.costs(shapes));
        }
    }

    /// The time, if anything is measured.
    pub fn now(&self) -> Option<Instant> {
        (self.mode != Timing::Off).then(Instant::now)
    }

    /// Notes that all operators run once, at the current extent.
    pub fn count_ops(&mut self) {
        for (op, cost) in self.ops.iter_mut().zip(&self.costs) {
            op.count += 1;
            op.cost += *cost;
        }
    }

    pub fn add_op(&mut self, index: usize, time: Duration) {
        if let Some(op) = self.ops.get_mut(index) {
            op.time += time;
        }
    }

    pub fn add_step(&mut self, time: Duration) {
        push(&mut self.steps, time);
    }

    /// Notes the time of the host since `start`.
    pub fn add_host(&mut self, start: Option<Instant>) {
        if let Some(start) = start {
            push(&mut self.host, start.elapsed());
        }
    }

    /// Everything so far, which is then forgotten.
    pub fn drain(&mut self) -> Timings {
        let mut ops: Vec<OpTime> = Vec::new();
        for op in &mut self.ops {
            let key = |op: &OpTime| (op.name, op.variant, op.output);
            if op.count > 0 {
                match ops.iter_mut().find(|other| key(other) == key(op)) {
                    Some(other) => {
                        (other.count, other.time) = (other.count + op.count, other.time + op.time);
                        other.cost += op.cost;
                    }
                    None => ops.push(op.clone()),
                }
            }
            (op.count, op.time, op.cost) = (0, Duration::ZERO, Cost::default());
        }
        ops.sort_by_key(|op| std::cmp::Reverse(op.time));
        Timings { steps: self.steps.drain(..).collect(), ops, host: self.host.drain(..).collect() }
    }
}

fn push(times: &mut VecDeque<Duration>, time: Duration) {
    if times.len() == MOST_STEPS {
        times.pop_front();
    }
    times.push_back(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let times = |numbers: &[u64]| numbers.iter().map(|&n| Duration::from_micros(n)).collect::<Vec<_>>();
        for (numbers, expected) in [(&[][..], 0), (&[3], 3), (&[9, 1, 5], 5), (&[9, 1, 5, 7], 6)] {
            assert_eq!(Timings::median(&times(numbers)), Duration::from_micros(expected), "{numbers:?}");
        }
    }

    #[test]
    fn times_of_old_steps_are_forgotten() {
        let mut log = Log::default();
        for step in 0..MOST_STEPS as u64 + 10 {
            log.add_step(Duration::from_nanos(step));
        }
        let steps = log.drain().steps;
        assert_eq!((steps.len(), steps[0]), (MOST_STEPS, Duration::from_nanos(10)));
        assert!(log.drain().steps.is_empty());
    }

    #[test]
    fn printed_as_a_table() {
        let op = |name, variant, milliseconds, cost| OpTime {
            name,
            variant,
            output: Shape::new(1, 100, 32),
            count: 4,
            time: Duration::from_millis(milliseconds),
            cost,
        };
        let timings = Timings {
            steps: vec![Duration::from_millis(6); 2],
            ops: vec![
                op("conv1d", "tile 64x64", 9, Cost { flops: 18_000_000, bytes: 9_000_000 }),
                op("sum", "", 3, Cost { flops: 0, bytes: 3_000_000 }),
            ],
            host: vec![Duration::from_micros(250); 2],
        };
        let expected = "\
operator  output          share    calls          ms  ms a call   GFLOP/s     GB/s  variant
conv1d    [1, 100, 32]   75.0 %        4       9.000     2.2500       2.0     1.00  tile 64x64
sum       [1, 100, 32]   25.0 %        4       3.000     0.7500       0.0     1.00
all                     100.0 %        8      12.000     1.5000       1.5     1.00
a step, the median of 2, took 6.000 ms and took the host to record and submit 0.250 ms";
        assert_eq!(timings.to_string(), expected);
        assert_eq!(Timings::default().to_string(), "nothing was timed");
    }
}
