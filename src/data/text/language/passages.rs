//! Lines whose last word is to be told from the words before it (LAMBADA, Paperno et al. 2016).

use crate::data::{SequenceBatch, Sequences};
use crate::hash::Hash;

use super::{END_OF_LINE, Text, Tokens};

/// Passages of one length a step. What is read ends with the word before the last: the target is never in the input but where
/// the passage has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Passages {
    /// Of all passages, sorted by length.
    ids: Vec<u32>,
    /// Where each passage begins, and the end of the last.
    starts: Vec<usize>,
    /// The passages of each step: first and count.
    groups: Vec<(usize, usize)>,
    batch: usize,
}

impl Passages {
    /// The lines of a text of words that have two words or more, at most `batch` of one length a step. Of longer ones the last
    /// `longest` words are read. Nothing if there are none, or a number is 0.
    pub fn new(text: &Text, vocabulary: &Tokens, batch: usize, longest: usize) -> Option<Self> {
        if batch == 0 || longest == 0 {
            return None;
        }
        let end_of_line = vocabulary.id(END_OF_LINE);
        let begins = [0].into_iter().chain(text.lines.iter().copied());
        let mut passages: Vec<&[u32]> = begins
            .zip(&text.lines)
            .map(|(first, &end)| &text.ids[first..end])
            .map(|line| if line.last().copied() == end_of_line { &line[..line.len() - 1] } else { line })
            .filter(|line| line.len() > 1)
            .map(|line| &line[line.len().saturating_sub(longest + 1)..])
            .collect();
        passages.sort_by_key(|passage| passage.len());
        let mut starts = vec![0];
        for passage in &passages {
            starts.push(starts[starts.len() - 1] + passage.len());
        }
        let mut groups: Vec<(usize, usize)> = Vec::new();
        for (index, passage) in passages.iter().enumerate() {
            match groups.last_mut() {
                Some((first, count)) if *count < batch && passages[*first].len() == passage.len() => *count += 1,
                _ => groups.push((index, 1)),
            }
        }
        (!passages.is_empty()).then(|| Self { ids: passages.concat(), starts, groups, batch })
    }
}

impl Sequences for Passages {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn per_step(&self) -> usize {
        1
    }

    fn only_last(&self) -> bool {
        true
    }

    fn shuffled(&self) -> bool {
        false
    }

    fn largest(&self) -> (usize, usize) {
        let longest = self.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or_default();
        (self.batch, longest.saturating_sub(1))
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        batch.restart(0, 0);
        let Some(&(first, count)) = units.first().and_then(|&unit| self.groups.get(unit)) else { return };
        batch.restart(count, self.starts[first + 1] - self.starts[first] - 1);
        for ends in self.starts[first..=first + count].windows(2) {
            let passage = &self.ids[ends[0]..ends[1]];
            batch.ids.extend_from_slice(&passage[..passage.len() - 1]);
            batch.target_ids.push(passage[passage.len() - 1]);
        }
        batch.count = count;
    }

    fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        hash.bytes(bytemuck::cast_slice(&self.ids));
        for &start in &self.starts {
            hash.bytes(&(start as u64).to_le_bytes());
        }
        hash.hex()
    }
}
