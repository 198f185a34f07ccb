//! Sentences in batches of similar length.

use std::sync::Arc;

use crate::data::{SequenceBatch, Sequences, stream};
use crate::hash::Hash;
use crate::random::Random;

/// Sentences as ids of a vocabulary, each with its class.
///
/// A batch is padded to its longest sentence, by `u32::MAX`: no id, so that nothing is looked up and the vector of the padding
/// stays what it is.
#[derive(Debug, Clone)]
pub struct Sentences {
    ids: Arc<[Vec<u32>]>,
    classes: Arc<[u32]>,
    per_step: usize,
}

impl Sentences {
    /// Sentences with their classes, of which a step takes `per_step`. Nothing if there are not as many classes, or `per_step` is 0.
    pub fn new(ids: Vec<Vec<u32>>, classes: Vec<u32>, per_step: usize) -> Option<Self> {
        (ids.len() == classes.len() && per_step > 0).then(|| Self {
            ids: ids.into(),
            classes: classes.into(),
            per_step,
        })
    }

    /// Some of the sentences, in this order; others than there are are left out.
    #[must_use]
    pub fn subset(&self, units: &[u32]) -> Self {
        let of = |unit: &&u32| (**unit as usize) < self.ids.len();
        Self {
            ids: units.iter().filter(of).map(|&unit| self.ids[unit as usize].clone()).collect(),
            classes: units.iter().filter(of).map(|&unit| self.classes[unit as usize]).collect(),
            per_step: self.per_step,
        }
    }

    /// The longest sentence, in tokens.
    pub fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// The mean length of a sentence, in tokens.
    pub fn mean_length(&self) -> f64 {
        self.ids.iter().map(Vec::len).sum::<usize>() as f64 / self.ids.len().max(1) as f64
    }

    /// The classes of the sentences.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// Tokens of each sentence.
    pub fn lengths(&self) -> Vec<usize> {
        self.ids.iter().map(Vec::len).collect()
    }

    /// Parts of about the same size for cross-validation: a random order cut into `folds`.
    pub fn folds(&self, folds: usize, seed: u64) -> Vec<Vec<u32>> {
        let order = Random::new(seed, stream::FOLDS, 0).permutation(self.ids.len());
        let cut = |fold: usize| fold * order.len() / folds.max(1);
        (0..folds).map(|fold| order[cut(fold)..cut(fold + 1)].to_vec()).collect()
    }

    /// A random order in which the first `held_out`, a share from 0 to 1, are what training does not see: (those, the rest).
    pub fn split(&self, held_out: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let order = Random::new(seed, stream::FOLDS, 1).permutation(self.ids.len());
        let count = (order.len() as f64 * held_out).round() as usize;
        let (held_out, rest) = order.split_at(count.min(order.len()));
        (held_out.to_vec(), rest.to_vec())
    }
}

impl Sequences for Sentences {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn per_step(&self) -> usize {
        self.per_step
    }

    fn with_lengths(&self) -> bool {
        true
    }

    fn largest(&self) -> (usize, usize) {
        (self.per_step, self.longest().max(1))
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        let units = || units.iter().copied().filter(|&unit| unit < self.ids.len());
        let time = units().map(|unit| self.ids[unit].len()).max().unwrap_or_default().max(1);
        batch.restart(0, time);
        for unit in units() {
            let ids = &self.ids[unit];
            batch.rows += 1;
            batch.ids.extend_from_slice(ids);
            batch.ids.resize(batch.rows * time, u32::MAX);
            batch.lengths.push(ids.len() as u32);
            batch.target_ids.push(self.classes[unit]);
            batch.count += 1;
        }
    }

    fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        for (ids, class) in self.ids.iter().zip(&*self.classes) {
            hash.bytes(&[ids.len() as u32, *class].map(u32::to_le_bytes).concat());
            ids.iter().for_each(|id| {
                hash.bytes(&id.to_le_bytes());
            });
        }
        hash.hex()
    }
}

/// Batches of an epoch that are sorted by length together.
const SORTED_TOGETHER: usize = 64;

/// The batches of an epoch: a pure function of the seed and the epoch. Every sentence comes once, but that the last batch is filled
/// up with random others, as Kim does; sentences of a batch are of similar length, and batches come in random order.
pub fn by_length(lengths: &[usize], per_step: usize, seed: u64, epoch: u32) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed, stream::BATCHES, epoch);
    let mut order: Vec<usize> = random.permutation(lengths.len()).into_iter().map(|unit| unit as usize).collect();
    if order.is_empty() || per_step == 0 {
        return Vec::new();
    }
    let others = random.permutation(order.len());
    let missing = order.len().next_multiple_of(per_step) - order.len();
    order.extend(others.into_iter().cycle().take(missing).map(|unit| unit as usize));
    order.chunks_mut(per_step * SORTED_TOGETHER).for_each(|part| part.sort_by_key(|&unit| lengths[unit]));
    let batches: Vec<&[usize]> = order.chunks(per_step).collect();
    random.permutation(batches.len()).into_iter().map(|batch| batches[batch as usize].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_of_similar_length_and_leave_nobody_out() {
        let lengths: Vec<usize> = (0..1003).map(|unit| (unit * 7919) % 61).collect();
        let batches = by_length(&lengths, 10, 3, 0);
        assert_eq!((batches.len(), batches.iter().all(|batch| batch.len() == 10)), (101, true));
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen.len(), 1010);
        seen.dedup();
        assert_eq!(seen, (0..1003).collect::<Vec<_>>());
        let padded: usize =
            batches.iter().map(|batch| 10 * batch.iter().map(|&unit| lengths[unit]).max().unwrap_or_default()).sum();
        let tokens: usize = batches.concat().iter().map(|&unit| lengths[unit]).sum();
        assert!(padded < tokens * 11 / 10, "{padded} positions for {tokens} tokens");
        assert_eq!(by_length(&lengths, 10, 3, 0), batches);
        assert_ne!(by_length(&lengths, 10, 3, 1), batches);
        assert_eq!(by_length(&[5], 3, 0, 0), [[0, 0, 0]]);
        assert!(by_length(&[], 3, 0, 0).is_empty());
    }

    #[test]
    fn batches_are_padded_to_their_longest() {
        let sentences = Sentences::new(vec![vec![2, 3], vec![], vec![4]], vec![0, 1, 1], 2).unwrap();
        let mut batch = SequenceBatch::default();
        sentences.fill(&[0, 1, 7], &mut batch);
        assert_eq!((batch.rows, batch.time, batch.count), (2, 2, 2));
        assert_eq!((&batch.ids[..], &batch.lengths[..]), (&[2, 3, u32::MAX, u32::MAX][..], &[2, 0][..]));
        assert_eq!(batch.target_ids, [0, 1]);
        sentences.fill(&[1], &mut batch);
        assert_eq!((batch.time, &batch.ids[..]), (1, &[u32::MAX][..]));
        assert_eq!((sentences.longest(), sentences.mean_length()), (2, 1.0));
        assert_eq!(sentences.subset(&[2, 9]).classes(), [1]);
        assert_ne!(sentences.subset(&[2, 0]).fingerprint(), sentences.subset(&[0, 2]).fingerprint());
    }

    #[test]
    fn folds_cover_everything_once() {
        let sentences = Sentences::new(vec![vec![2]; 103], vec![0; 103], 5).unwrap();
        let folds = sentences.folds(10, 1);
        assert!(folds.iter().all(|fold| [10, 11].contains(&fold.len())));
        let mut all = folds.concat();
        assert_ne!(all, (0..103).collect::<Vec<u32>>());
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<u32>>());
        let (dev, train) = sentences.split(0.1, 1);
        assert_eq!((dev.len(), train.len()), (10, 93));
    }
}
