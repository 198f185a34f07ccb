//! What the examples show in a terminal: the picture of a dilated stack, and progress.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Rows of the picture of a stack at most, beside its three lines of text.
const MOST_ROWS: usize = 11;
/// Characters of the longest bar.
const BAR: usize = 48;

/// A picture of a stack of dilated causal convolutions of `kernel` taps: how far into the past each layer, or each block
/// of layers, reaches, the present at the right. `receptive_field` is the model's, in samples at `rate` Hz, any layers
/// before and after the stack included.
pub fn dilations(dilations: &[usize], kernel: usize, receptive_field: usize, rate: u32) -> String {
    let milliseconds = |samples: usize| samples as f64 * 1000.0 / f64::from(rate.max(1));
    let mut picture = format!(
        "receptive field: {} samples, {:.1} ms at {} Hz\n",
        grouped(receptive_field),
        milliseconds(receptive_field),
        grouped(rate as usize)
    );
    let rows = rows(dilations);
    if rows.is_empty() {
        return picture;
    }
    let named = |row: &Row| (row.layers(), row.dilations(dilations));
    let layers_width = rows.iter().map(|row| width(&named(row).0)).max().unwrap_or(0).max("layers".len());
    let dilations_width = rows.iter().map(|row| width(&named(row).1)).max().unwrap_or(0).max("dilation".len());
    // One layer a row: bars of 1, 2, 4 … would be invisible beside 512, so they are drawn on a log scale. Blocks are of
    // like length: a linear scale shows them add up.
    let by_layer = rows.len() == dilations.len();
    let reaches: Vec<usize> = rows.iter().map(|row| reach(&dilations[..row.to], kernel)).collect();
    let longest = reaches.last().copied().unwrap_or(1).max(2) as f64;
    let length = |reach: usize| {
        let share = if by_layer { (reach as f64).ln() / longest.ln() } else { reach as f64 / longest };
        ((share * BAR as f64).round() as usize).clamp(1, BAR)
    };
    let scale = if by_layer { "reach so far, log scale" } else { "reach so far" };
    let heading = format!("past ← {scale}");
    let _ = writeln!(
        picture,
        "{:>layers_width$}  {:<dilations_width$}  {heading}{:>rest$}",
        "layers",
        "dilation",
        "now",
        rest = BAR.saturating_sub(width(&heading))
    );
    // The last layer stands on top, as in the drawings of the paper.
    for (row, reach) in rows.iter().zip(&reaches).rev() {
        let (layers, dilation) = named(row);
        let bar = format!("├{}┤", "─".repeat(length(*reach).saturating_sub(2)));
        let _ = writeln!(
            picture,
            "{layers:>layers_width$}  {dilation:<dilations_width$}  {bar:>BAR$}  {:>7}  {:>8.1} ms",
            grouped(*reach),
            milliseconds(*reach)
        );
    }
    picture
}

/// Layers `from..to` of a stack, drawn as one row.
struct Row {
    from: usize,
    to: usize,
}

impl Row {
    fn layers(&self) -> String {
        if self.to - self.from == 1 { format!("{}", self.to) } else { format!("{}–{}", self.from + 1, self.to) }
    }

    /// One number, the curve of a rising block, or that of several equal ones.
    fn dilations(&self, all: &[usize]) -> String {
        let own = &all[self.from..self.to];
        let blocks = blocks(own);
        let (from, to) = blocks.first().copied().unwrap_or((0, 0));
        let block = &own[from..to];
        match blocks.len() {
            0 | 1 => curve(block),
            times if own.chunks(block.len()).all(|other| other == block) && block.len() == 1 => {
                format!("{} × {times}", curve(block))
            }
            times if own.chunks(block.len()).all(|other| other == block) => format!("({}) × {times}", curve(block)),
            _ => curve(own),
        }
    }
}

/// "1 ▁▂▃▄▅▆▇█ 128": dilations as heights, the first and the last as numbers.
fn curve(dilations: &[usize]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (first, last) = match dilations {
        [] => return String::new(),
        [one] => return grouped(*one),
        [first, .., last] => (grouped(*first), grouped(*last)),
    };
    let log = |dilation: usize| (dilation.max(1) as f64).ln();
    let highest = dilations.iter().map(|&dilation| log(dilation)).fold(1e-9, f64::max);
    let height = |&dilation: &usize| HEIGHTS[(log(dilation) / highest * 7.0).round() as usize];
    let heights: String = dilations.iter().map(height).collect();
    format!("{first} {heights} {last}")
}

/// Maximal runs of rising dilations, as ranges of layers.
fn blocks(dilations: &[usize]) -> Vec<(usize, usize)> {
    let starts = (0..dilations.len()).filter(|&i| i == 0 || dilations[i] <= dilations[i - 1]);
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().skip(1).copied().chain([dilations.len()]);
    starts.iter().copied().zip(ends).collect()
}

/// A row a layer if they fit, else a row a block, else as many neighbouring blocks (or layers) a row as it takes.
fn rows(dilations: &[usize]) -> Vec<Row> {
    let layers: Vec<(usize, usize)> = (0..dilations.len()).map(|i| (i, i + 1)).collect();
    let blocks = blocks(dilations);
    let units =
        if layers.len() <= MOST_ROWS || blocks.len() == 1 || blocks.len() == layers.len() { layers } else { blocks };
    let together = units.len().div_ceil(MOST_ROWS).max(1);
    units.chunks(together).filter_map(|part| Some(Row { from: part.first()?.0, to: part.last()?.1 })).collect()
}

/// Samples that a stack of causal convolutions sees: 1 + (kernel − 1) · the sum of its dilations.
fn reach(dilations: &[usize], kernel: usize) -> usize {
    1 + kernel.saturating_sub(1) * dilations.iter().sum::<usize>()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A line on standard output. That nobody reads it any more is no reason to end a training.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The error and its causes, without those that an error before them has told of already.
pub fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| match message.contains(&cause) {
        true => message,
        false if message.is_empty() => cause,
        false => format!("{message}: {cause}"),
    })
}

/// A whole number with commas between thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What bounds a run: a number of steps, or a time.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// Until this step.
    Steps(u64),
    /// Until this much time has passed.
    Time(Duration),
}

/// Progress of a long run on standard error: a bar with the time left in a terminal, a line every ten seconds elsewhere.
pub struct Progress {
    bar: ProgressBar,
    limit: Limit,
    started: Instant,
    /// The first step reported, and when: what came before it (loading, compiling) says nothing about the speed.
    first: Option<u64>,
    started_steps: Instant,
    /// When the next line is due, where there is no terminal.
    next_line: Option<Instant>,
}

impl Progress {
    const LINE_EVERY: Duration = Duration::from_secs(10);

    /// Starts a run that will end at `limit`; `what` is one word, such as "training".
    pub fn new(what: &'static str, limit: Limit) -> Self {
        let length = match limit {
            Limit::Steps(steps) => steps,
            Limit::Time(time) => millis(time),
        };
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(length) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {wide_bar:.blue/dim} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(what);
        let next_line = (!terminal).then(Instant::now);
        Self { bar, limit, started: Instant::now(), first: None, started_steps: Instant::now(), next_line }
    }

    /// After `step` steps in all (of earlier runs as well); `message` is what to show beside the bar, such as
    /// [`training_message`]'s.
    pub fn update(&mut self, step: u64, message: &str) {
        if self.first.is_none() {
            // The time left follows from the steps of this run, not from those it resumed after.
            self.first = Some(step);
            self.started_steps = Instant::now();
        }
        match self.limit {
            Limit::Steps(_) => self.bar.set_position(step),
            Limit::Time(_) => self.bar.set_position(millis(self.started.elapsed())),
        }
        let message = format!("{message}{}", self.left(step));
        if self.next_line.is_some_and(|due| Instant::now() >= due) {
            self.next_line = Some(Instant::now() + Self::LINE_EVERY);
            eprintln!("{} {message}", self.bar.prefix());
        }
        self.bar.set_message(message);
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Ends the run: the bar gives way to `text`.
    pub fn finish(self, text: &str) {
        self.bar.finish_and_clear();
        eprintln!("{text}");
    }

    /// ", 12 s left", as far as it can be told.
    fn left(&self, step: u64) -> String {
        let left = match (self.limit, self.first) {
            (Limit::Time(time), _) => Some(time.saturating_sub(self.started.elapsed())),
            (Limit::Steps(steps), Some(first)) if step > first => {
                Some(self.started_steps.elapsed().mul_f64(steps.saturating_sub(step) as f64 / (step - first) as f64))
            }
            _ => None,
        };
        left.map_or(String::new(), |left| format!(", {} left", duration(left)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// "step 1,200 of 5,000, loss 2.412, 85,300 samples/s": what to show beside the bar while training.
pub fn training_message(step: u64, limit: Limit, loss: f32, samples_per_second: f64) -> String {
    let step = grouped(step as usize);
    let of = match limit {
        Limit::Steps(steps) => format!(" of {}", grouped(steps as usize)),
        Limit::Time(_) => String::new(),
    };
    format!("step {step}{of}, loss {loss:.3}, {} samples/s", grouped(samples_per_second.max(0.0).round() as usize))
}

/// A time in the two units that matter: "42 s", "3 min 20 s", "2 h 05 min".
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(layers: u32, cycles: usize) -> Vec<usize> {
        (0..cycles).flat_map(|_| (0..layers).map(|layer| 1 << layer)).collect()
    }

    #[test]
    fn a_small_stack_has_a_row_a_layer() {
        let picture = dilations(&[1, 2, 4], 2, 8, 8000);
        let expected = "\
receptive field: 8 samples, 1.0 ms at 8,000 Hz
layers  dilation  past ← reach so far, log scale               now
     3  4         ├──────────────────────────────────────────────┤        8       1.0 ms
     2  2                         ├──────────────────────────────┤        4       0.5 ms
     1  1                                         ├──────────────┤        2       0.2 ms
";
        assert_eq!(picture, expected);
    }

    #[test]
    fn blocks_are_rows_and_the_top_row_is_the_whole_reach() {
        let picture = dilations(&cycles(10, 3), 2, 3071, 16_000);
        let rows: Vec<&str> = picture.lines().skip(2).collect();
        assert_eq!(rows.len(), 3, "{picture}");
        assert!(rows[0].trim_start().starts_with("21–30  1 ▁▂▃▃▄▅▆▆▇█ 512  ├──"), "{picture}");
        assert!(rows[0].contains("3,070") && rows[0].ends_with("191.9 ms"), "{picture}");
        assert!(rows[2].contains("1,024"), "{picture}");
    }

    #[test]
    fn no_stack_takes_more_than_fourteen_lines() {
        let stacks =
            [cycles(10, 5), cycles(3, 30), vec![1; 50], (1..=50).collect(), cycles(1, 13), cycles(20, 1), vec![]];
        for stack in stacks {
            let picture = dilations(&stack, 3, 1000, 0);
            assert!(picture.lines().count() <= 14, "{picture}");
            let last = stack.len().to_string();
            assert!(stack.is_empty() || picture.lines().nth(2).is_some_and(|row| row.contains(&last)), "{picture}");
        }
    }

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([7, 999, 1000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
        let times = [59, 60, 3599, 3600, 7500].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(times, ["59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "2 h 05 min"]);
    }
}
