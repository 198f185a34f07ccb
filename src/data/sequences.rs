//! Sequences with what is to be told of them: of the whole, or at each position.

use std::fmt::Debug;

use crate::data::stream;
use crate::hash::Hash;
use crate::random::Random;

/// The sequences of one step. What a model does not read stays empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceBatch {
    /// Sequences.
    pub rows: usize,
    /// Positions of each.
    pub time: usize,
    /// What is read, `[rows, time, channels]`.
    pub values: Vec<f32>,
    /// Or classes that are read, `[rows, time]`; `u32::MAX` where a sequence is shorter than the longest.
    pub ids: Vec<u32>,
    /// Where sequences differ in length, how many positions each has, `[rows]`.
    pub lengths: Vec<u32>,
    /// What is to be told, `[rows, time or 1, channels]`.
    pub target_values: Vec<f32>,
    /// Or classes that are to be told, `[rows, time − context or 1]`; `u32::MAX` where nothing is.
    pub target_ids: Vec<u32>,
    /// Targets that count.
    pub count: usize,
}

impl SequenceBatch {
    /// Empties it and gives it another size; its memory stays.
    pub fn restart(&mut self, rows: usize, time: usize) {
        (self.rows, self.time, self.count) = (rows, time, 0);
        self.values.clear();
        self.ids.clear();
        self.lengths.clear();
        self.target_values.clear();
        self.target_ids.clear();
    }
}

/// Data in units that a step takes one or more of: examples, tunes, windows of text.
pub trait Sequences: Debug + Send + Sync {
    /// Units that there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Units of a step.
    fn per_step(&self) -> usize;

    /// Positions at the start of each sequence that nothing is told at: they only serve those after.
    fn context(&self) -> usize {
        0
    }

    /// Whether something is told at the last position alone, for a model that tells it at each.
    fn only_last(&self) -> bool {
        false
    }

    /// Whether the sequences of a batch may differ in length: then it says how long each is, and holds nothing of meaning after that.
    fn with_lengths(&self) -> bool {
        false
    }

    /// Whether each epoch of a training has an order of its own.
    fn shuffled(&self) -> bool {
        true
    }

    /// The most sequences of a step, and their most positions.
    fn largest(&self) -> (usize, usize);

    /// Makes the batch of some units, at most [`per_step`](Self::per_step) of them; others than there are are left out.
    fn fill(&self, units: &[usize], batch: &mut SequenceBatch);

    /// Tells these data from others.
    fn fingerprint(&self) -> String;

    /// Steps of an epoch.
    fn steps(&self) -> u64 {
        self.len().div_ceil(self.per_step().max(1)) as u64
    }
}

/// Which units are taken at which step: a pure function of (seed, step), so that the step is all there is to save and a resumed
/// run sees the same. Every unit comes once in as many as there are, in an order of its own each time; a step may straddle two
/// epochs.
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    len: usize,
    shuffled: bool,
    /// The epoch drawn last, and its order.
    drawn: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// The order of `len` units, shuffled or as they are.
    pub fn new(seed: u64, len: usize, shuffled: bool) -> Self {
        Self { seed, len, shuffled, drawn: None }
    }

    /// The units of a step that takes `count`. Takes `&mut self` only to keep the order of the current epoch.
    pub fn units(&mut self, step: u64, count: usize) -> Vec<usize> {
        let len = self.len.max(1) as u128;
        let first = u128::from(step) * count as u128;
        (first..first + count as u128).map(|number| self.unit((number / len) as u64, (number % len) as usize)).collect()
    }

    fn unit(&mut self, epoch: u64, position: usize) -> usize {
        if !self.shuffled {
            return position;
        }
        if self.drawn.as_ref().is_none_or(|drawn| drawn.0 != epoch) {
            self.drawn = None;
        }
        let (seed, len) = (self.seed, self.len);
        let draw = || (epoch, Random::new(seed, stream::ORDER, epoch as u32).permutation(len));
        self.drawn.get_or_insert_with(draw).1[position] as usize
    }
}

/// What an example of fixed length is to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Numbers, so many an example.
    Values {
        /// Of all examples.
        values: Vec<f32>,
        /// Of one.
        each: usize,
    },
    /// Classes, so many an example.
    Classes {
        /// Of all examples.
        classes: Vec<u32>,
        /// Of one.
        each: usize,
    },
}

/// Examples of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    values: Vec<f32>,
    time: usize,
    channels: usize,
    targets: Targets,
    per_step: usize,
}

impl Examples {
    /// Examples `[examples, time, channels]`, of which a step takes `per_step`. Nothing if these are no whole examples with as many
    /// targets, or a number is 0.
    pub fn new(values: Vec<f32>, time: usize, channels: usize, targets: Targets, per_step: usize) -> Option<Self> {
        let size = time.checked_mul(channels).filter(|&size| size > 0)?;
        let examples = values.len() / size;
        let fits = match &targets {
            Targets::Values { values, each } => *each > 0 && examples.checked_mul(*each) == Some(values.len()),
            Targets::Classes { classes, each } => *each > 0 && examples.checked_mul(*each) == Some(classes.len()),
        };
        let whole = values.len().is_multiple_of(size) && examples > 0 && per_step > 0;
        (fits && whole).then_some(Self { values, time, channels, targets, per_step })
    }
}

impl Sequences for Examples {
    fn len(&self) -> usize {
        self.values.len() / (self.time * self.channels)
    }

    fn per_step(&self) -> usize {
        self.per_step
    }

    fn largest(&self) -> (usize, usize) {
        (self.per_step, self.time)
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        let size = self.time * self.channels;
        batch.restart(0, self.time);
        for &unit in units.iter().filter(|&&unit| unit < self.len()) {
            batch.rows += 1;
            batch.values.extend_from_slice(&self.values[unit * size..][..size]);
            match &self.targets {
                Targets::Values { values, each } => {
                    batch.target_values.extend_from_slice(&values[unit * each..][..*each]);
                    batch.count += 1;
                }
                Targets::Classes { classes, each } => {
                    batch.target_ids.extend_from_slice(&classes[unit * each..][..*each]);
                    batch.count += each;
                }
            }
        }
    }

    fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        hash.bytes(bytemuck::cast_slice(&self.values));
        match &self.targets {
            Targets::Values { values, .. } => hash.bytes(bytemuck::cast_slice(values)),
            Targets::Classes { classes, .. } => hash.bytes(bytemuck::cast_slice(classes)),
        };
        hash.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_comes_once_an_epoch_in_an_order_of_its_own() {
        let mut order = Order::new(3, 10, true);
        let epoch = |order: &mut Order, first: u64| {
            (first..first + 5).flat_map(|step| order.units(step, 2)).collect::<Vec<_>>()
        };
        let (first, second) = (epoch(&mut order, 0), epoch(&mut order, 5));
        assert_ne!(first, second);
        for mut units in [first.clone(), second] {
            units.sort_unstable();
            assert_eq!(units, (0..10).collect::<Vec<_>>());
        }
        // A pure function of the step.
        assert_eq!(epoch(&mut order, 0), first);
        assert_ne!(epoch(&mut Order::new(4, 10, true), 0), first);
        assert_eq!(Order::new(3, 10, false).units(3, 4), [2, 3, 4, 5]);
        assert_eq!(Order::new(3, 10, false).units(2, 4), [8, 9, 0, 1]);
    }

    #[test]
    fn examples_fill_batches_with_what_there_is() {
        let targets = Targets::Classes { classes: vec![7, 8, 9], each: 1 };
        let examples = Examples::new((0..12).map(|v| v as f32).collect(), 2, 2, targets.clone(), 2).unwrap();
        let mut batch = SequenceBatch::default();
        examples.fill(&[2, 3], &mut batch);
        assert_eq!((batch.rows, batch.time, batch.count), (1, 2, 1));
        assert_eq!((batch.values.as_slice(), batch.target_ids.as_slice()), (&[8.0, 9.0, 10.0, 11.0][..], &[9][..]));
        assert_eq!((examples.len(), examples.steps(), examples.largest()), (3, 2, (2, 2)));
        assert!(Examples::new(vec![0.0; 11], 2, 2, targets.clone(), 2).is_none());
        assert!(Examples::new(vec![0.0; 8], 2, 2, targets, 2).is_none());
    }
}
