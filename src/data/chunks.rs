//! Training examples for an autoregressive model: stretches of samples, and for each the sample that follows.

use std::fmt;

use super::{Clip, DataError, MuLaw, stream};
use crate::random::Random;

/// Which part of a corpus; named in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The part to learn from.
    Train,
    /// The part held out.
    Valid,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Valid => "validation",
        })
    }
}

/// The clips of a split, joined end to end and cut into overlapping chunks.
///
/// Clips are joined because the prompts of a speech corpus are often shorter than one chunk, and padding each would
/// spend most of the work on silence; the price is one made-up transition for each clip.
///
/// With a receptive field of R samples, the model's output at position `t` of a chunk depends on R samples of it only
/// if `t ≥ R − 1`; earlier outputs have seen less and do not count. A chunk of C samples from `s` thus has C − R + 1
/// targets, the samples `s + R ..= s + C`, and chunks start that far (the hop) apart, so that each sample is a target
/// once.
#[derive(Debug, Clone)]
pub struct Chunks {
    samples: Vec<f32>,
    classes: Vec<u16>,
    chunk: usize,
    receptive_field: usize,
}

impl Chunks {
    /// Chunks of `chunk` samples for a model with a receptive field of `receptive_field` samples.
    ///
    /// # Errors
    /// [`DataError::ChunkWithinReceptiveField`] unless `chunk > receptive_field > 0`, [`DataError::SplitTooShort`] if
    /// the clips hold fewer than `chunk + 1` samples together.
    pub fn new(
        split: Split,
        clips: &[Clip],
        mu_law: &MuLaw,
        chunk: usize,
        receptive_field: usize,
    ) -> Result<Self, DataError> {
        if receptive_field == 0 {
            return Err(DataError::Option { name: "receptive_field", value: 0.0, allowed: "at least 1" });
        }
        if chunk <= receptive_field {
            return Err(DataError::ChunkWithinReceptiveField { chunk, receptive_field });
        }
        let samples: Vec<f32> = clips.iter().flat_map(|clip| clip.samples.iter().copied()).collect();
        if samples.len() <= chunk {
            let rate = clips.first().map_or(0, |clip| clip.rate);
            return Err(DataError::SplitTooShort { split, samples: samples.len(), rate, chunk });
        }
        // At most 65,536 classes, so ids fit.
        let classes = samples.iter().map(|&sample| mu_law.encode(sample) as u16).collect();
        Ok(Self { samples, classes, chunk, receptive_field })
    }

    /// Samples in a chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Targets in a chunk, which is also the distance between the starts of two consecutive chunks.
    pub fn hop(&self) -> usize {
        self.chunk - self.receptive_field + 1
    }

    /// The joined samples.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The class ids of the joined samples.
    pub fn classes(&self) -> &[u16] {
        &self.classes
    }

    /// How many chunks fit when the first starts at sample 0: the chunks of an evaluation. A last part shorter than a
    /// chunk is left out.
    #[allow(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        (self.samples.len() - self.chunk - 1) / self.hop() + 1
    }

    /// Fills a batch, one row for each of `starts`, with the chunks that start at those samples. Starts beyond the last
    /// possible one are taken as that one. Rows of the batch beyond `starts`, if it has more, are left as they are.
    pub fn fill(&self, starts: &[usize], batch: &mut Batch) {
        batch.fit(self);
        let (chunk, hop) = (self.chunk, self.hop());
        for (row, &start) in starts.iter().take(batch.rows).enumerate() {
            let start = start.min(self.samples.len() - chunk - 1);
            let input = start..start + chunk;
            let target = start + self.receptive_field..start + chunk + 1;
            for (to, &class) in batch.input[row * chunk..].iter_mut().zip(&self.classes[input.clone()]) {
                *to = u32::from(class);
            }
            batch.scalar[row * chunk..(row + 1) * chunk].copy_from_slice(&self.samples[input]);
            for (to, &class) in batch.target[row * hop..].iter_mut().zip(&self.classes[target]) {
                *to = u32::from(class);
            }
        }
    }

    /// Fills a batch with the next chunks of an evaluation: row `b` of batch `index` holds chunk `index · rows + b`.
    /// Returns how many rows that are: the last batch may be partial, and its further rows repeat the last chunk.
    pub fn fill_in_order(&self, index: usize, batch: &mut Batch) -> usize {
        let first = index.saturating_mul(batch.rows);
        let last = self.len() - 1;
        let starts: Vec<usize> = (0..batch.rows).map(|row| first.saturating_add(row).min(last) * self.hop()).collect();
        self.fill(&starts, batch);
        self.len().saturating_sub(first).min(batch.rows)
    }
}

/// The examples of one step. Allocated once and filled in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    rows: usize,
    /// Class ids of the input, `[rows, chunk]`.
    pub input: Vec<u32>,
    /// The same input as samples, `[rows, chunk]`.
    pub scalar: Vec<f32>,
    /// Class ids to predict, `[rows, hop]`: column `j` follows column `receptive_field − 1 + j` of the input.
    pub target: Vec<u32>,
}

impl Batch {
    /// Room for `rows` chunks.
    pub fn new(rows: usize, chunks: &Chunks) -> Self {
        let mut batch = Self { rows, input: Vec::new(), scalar: Vec::new(), target: Vec::new() };
        batch.fit(chunks);
        batch
    }

    /// How many chunks it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn fit(&mut self, chunks: &Chunks) {
        self.input.resize(self.rows * chunks.chunk, 0);
        self.scalar.resize(self.rows * chunks.chunk, 0.0);
        self.target.resize(self.rows * chunks.hop(), 0);
    }
}

/// Which chunks are trained on at which step: a pure function of (seed, step), so that the step number is all there is
/// to save and a resumed run sees the same batches.
///
/// Rows are counted through: row `b` of step `s` is number `s · batch + b`, an epoch is as many rows as chunks fit, and
/// a batch may straddle two epochs. Every epoch has its own order (a random permutation) and its own offset of the
/// first chunk, within one hop, so that the cuts between chunks fall elsewhere each time.
#[derive(Debug, Clone)]
pub struct Schedule {
    seed: u64,
    batch: usize,
    hop: usize,
    chunks_per_epoch: usize,
    offsets: usize,
    /// The epoch drawn last, with its offset and order.
    drawn: Option<(u64, usize, Vec<u32>)>,
}

impl Schedule {
    /// The schedule of `batch` rows a step over `chunks`.
    ///
    /// # Errors
    /// [`DataError::Option`] if `batch` is 0.
    pub fn new(seed: u64, chunks: &Chunks, batch: usize) -> Result<Self, DataError> {
        if batch == 0 {
            return Err(DataError::Option { name: "batch", value: 0.0, allowed: "at least 1" });
        }
        let hop = chunks.hop();
        // Fewer than `Chunks::len` where that makes room for every offset within a hop.
        let room = chunks.samples.len() - chunks.chunk;
        let chunks_per_epoch = (room / hop).clamp(1, u32::MAX as usize);
        let offsets = hop.min(room - (chunks_per_epoch - 1) * hop).min(u32::MAX as usize);
        Ok(Self { seed, batch, hop, chunks_per_epoch, offsets, drawn: None })
    }

    /// Chunks in an epoch.
    pub fn chunks_per_epoch(&self) -> usize {
        self.chunks_per_epoch
    }

    /// Steps in an epoch, not always a whole number.
    pub fn steps_per_epoch(&self) -> f64 {
        self.chunks_per_epoch as f64 / self.batch as f64
    }

    /// The samples at which the chunks of a step start, one for each row. Takes `&mut self` only to keep the order of
    /// the current epoch.
    pub fn starts(&mut self, step: u64) -> Vec<usize> {
        (0..self.batch)
            .map(|row| {
                let number = u128::from(step) * self.batch as u128 + row as u128;
                let epoch = (number / self.chunks_per_epoch as u128) as u64;
                let index = (number % self.chunks_per_epoch as u128) as usize;
                let (offset, order) = self.epoch(epoch);
                offset + order[index] as usize * self.hop
            })
            .collect()
    }

    /// Fills a batch with the chunks of a step.
    pub fn fill(&mut self, chunks: &Chunks, step: u64, batch: &mut Batch) {
        batch.rows = self.batch;
        chunks.fill(&self.starts(step), batch);
    }

    fn epoch(&mut self, epoch: u64) -> (usize, &[u32]) {
        if self.drawn.as_ref().is_none_or(|drawn| drawn.0 != epoch) {
            self.drawn = None;
        }
        let (seed, len, offsets) = (self.seed, self.chunks_per_epoch, self.offsets);
        let (_, offset, order) = self.drawn.get_or_insert_with(|| {
            let offset = Random::new(seed, stream::OFFSET, epoch as u32).below(offsets as u32) as usize;
            (epoch, offset, Random::new(seed, stream::SHUFFLE, epoch as u32).permutation(len))
        });
        (*offset, order)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RATE: u32 = 8000;

    /// Every sample has a class of its own, equal to its index.
    fn ramp(mu_law: &MuLaw, len: usize) -> Vec<Clip> {
        let samples: Vec<f32> = (0..len as u32).map(|class| mu_law.decode(class)).collect();
        samples.chunks(7).map(|part| Clip { samples: part.to_vec(), rate: RATE }).collect()
    }

    fn chunks(len: usize, chunk: usize, receptive_field: usize) -> Result<Chunks, DataError> {
        let mu_law = MuLaw::new(65_536).unwrap();
        Chunks::new(Split::Train, &ramp(&mu_law, len), &mu_law, chunk, receptive_field)
    }

    #[test]
    fn a_target_is_the_sample_after_its_output() {
        let chunks = chunks(100, 10, 4).unwrap();
        let mut batch = Batch::new(2, &chunks);
        chunks.fill(&[5, 40], &mut batch);
        assert_eq!(batch.input[..10], (5..15).collect::<Vec<u32>>());
        assert_eq!(batch.target[..7], (9..16).collect::<Vec<u32>>());
        assert_eq!(batch.input[10..], (40..50).collect::<Vec<u32>>());
        assert_eq!(batch.target[7..], (44..51).collect::<Vec<u32>>());
        assert_eq!(batch.scalar[10..], chunks.samples()[40..50]);
    }

    #[test]
    fn in_order_every_sample_is_a_target_once() {
        for (len, chunk, receptive_field) in [(101, 10, 4), (500, 33, 32), (500, 64, 1), (11, 10, 4)] {
            let chunks = chunks(len, chunk, receptive_field).unwrap();
            let mut batch = Batch::new(3, &chunks);
            let mut targets = Vec::new();
            for index in 0.. {
                let rows = chunks.fill_in_order(index, &mut batch);
                targets.extend_from_slice(&batch.target[..rows * chunks.hop()]);
                if rows < 3 {
                    break;
                }
            }
            let end = receptive_field + chunks.len() * chunks.hop();
            assert!(len - end < chunks.hop(), "{len} {end}");
            assert_eq!(targets, (receptive_field as u32..end as u32).collect::<Vec<_>>(), "{len} {chunk}");
        }
    }

    #[test]
    fn an_epoch_takes_every_chunk_once_in_an_order_of_its_own() {
        let chunks = chunks(5000, 64, 20).unwrap();
        let mut schedule = Schedule::new(3, &chunks, 4).unwrap();
        let (len, hop) = (schedule.chunks_per_epoch(), chunks.hop());
        assert_eq!(len, (5000 - 64) / 45);
        let starts: Vec<usize> = (0..3 * len as u64).flat_map(|step| schedule.starts(step)).collect();
        let mut offsets = HashSet::new();
        for epoch in starts.chunks(len) {
            let offset = epoch.iter().min().unwrap();
            assert!(*offset < hop);
            offsets.insert(*offset);
            let distinct: HashSet<_> = epoch.iter().map(|start| (start - offset) / hop).collect();
            assert!(epoch.iter().all(|start| (start - offset) % hop == 0 && start + 65 <= 5000));
            assert_eq!((distinct.len(), distinct.iter().max()), (len, Some(&(len - 1))));
            assert!(!epoch.is_sorted());
        }
        assert!(offsets.len() > 6, "{offsets:?}");
        assert_ne!(starts[..len], starts[len..2 * len]);
    }

    #[test]
    fn a_batch_depends_on_seed_and_step_only() {
        let chunks = chunks(3000, 64, 20).unwrap();
        let mut straight = Schedule::new(9, &chunks, 5).unwrap();
        let (mut expected, mut resumed) = (Batch::new(5, &chunks), Batch::new(1, &chunks));
        for step in 0..100 {
            straight.fill(&chunks, step, &mut expected);
            // Out of order and from nothing, into a batch of another size.
            let mut fresh = Schedule::new(9, &chunks, 5).unwrap();
            fresh.starts(1000 - step);
            fresh.fill(&chunks, step, &mut resumed);
            assert_eq!(resumed, expected, "step {step}");
            resumed = Batch::new(1, &chunks);
        }
        let mut other = Schedule::new(10, &chunks, 5).unwrap();
        assert_ne!(other.starts(0), straight.starts(0));
        other.starts(u64::MAX);
    }

    #[test]
    fn every_length_near_the_least_fits() {
        for len in 65..65 + 3 * 45 {
            let chunks = chunks(len, 64, 20).unwrap();
            let mut schedule = Schedule::new(1, &chunks, 3).unwrap();
            assert!(schedule.chunks_per_epoch() <= chunks.len());
            let starts: HashSet<usize> = (0..600).flat_map(|step| schedule.starts(step)).collect();
            assert!(starts.iter().all(|start| start + 65 <= len), "{len} {starts:?}");
            assert_eq!(starts.len(), (len - 64).min(schedule.chunks_per_epoch() * 45), "{len}");
        }
    }

    #[test]
    fn sizes_that_cannot_work_are_errors() {
        let error = chunks(100, 10, 10).unwrap_err();
        assert!(matches!(error, DataError::ChunkWithinReceptiveField { chunk: 10, receptive_field: 10 }));
        let error = chunks(64, 64, 20).unwrap_err();
        assert!(matches!(error, DataError::SplitTooShort { samples: 64, chunk: 64, .. }));
        let text = error.to_string();
        assert!(text.contains("training") && text.contains("0.01 s at 8000 Hz") && text.contains("65"), "{text}");
        assert!(matches!(chunks(64, 10, 0), Err(DataError::Option { name: "receptive_field", .. })));
        let chunks = chunks(65, 64, 20).unwrap();
        assert_eq!(chunks.len(), 1);
        assert!(matches!(Schedule::new(0, &chunks, 0), Err(DataError::Option { name: "batch", .. })));
    }
}
