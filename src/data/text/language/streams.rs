//! A text as some streams side by side, read in windows: to tell at each position is the token that comes next.

use std::sync::Arc;

use crate::data::{SequenceBatch, Sequences};
use crate::hash::Hash;

/// A text cut into `batch` parts of one length, which a step reads in windows side by side. A window begins `stride` tokens after
/// the one before and has so many to tell, at its last positions; its first ones, which the window before told, are their context. Of
/// the first window they are told by none (Bai et al. 2018).
#[derive(Debug, Clone, PartialEq)]
pub struct Streams {
    ids: Arc<[u32]>,
    batch: usize,
    window: usize,
    stride: usize,
}

impl Streams {
    /// Windows of `window` tokens a stream, of which the last `stride` are told. What is left at the text's end by the division into
    /// streams is left out. Nothing if a number is 0, `stride` is more than `window`, or the text is too short to tell a token of
    /// each stream.
    pub fn new(ids: &[u32], batch: usize, window: usize, stride: usize) -> Option<Self> {
        let steps = ids.len().checked_div(batch)?;
        let fits = stride > 0 && stride <= window && steps > window - stride + 1;
        fits.then(|| Self { ids: ids[..steps * batch].into(), batch, window, stride })
    }

    /// Tokens of a stream.
    fn steps(&self) -> usize {
        self.ids.len() / self.batch
    }
}

impl Sequences for Streams {
    fn len(&self) -> usize {
        // The last token of a stream is told, not read.
        (self.steps() - 1 - self.context()).div_ceil(self.stride)
    }

    fn per_step(&self) -> usize {
        1
    }

    fn context(&self) -> usize {
        self.window - self.stride
    }

    fn shuffled(&self) -> bool {
        false
    }

    fn largest(&self) -> (usize, usize) {
        (self.batch, self.window.min(self.steps() - 1))
    }

    fn fill(&self, units: &[usize], batch: &mut SequenceBatch) {
        batch.restart(0, 0);
        let Some(&unit) = units.first().filter(|&&unit| unit < self.len()) else { return };
        let first = unit * self.stride;
        let time = self.window.min(self.steps() - 1 - first);
        batch.restart(self.batch, time);
        for stream in self.ids.chunks_exact(self.steps()) {
            batch.ids.extend_from_slice(&stream[first..first + time]);
            batch.target_ids.extend_from_slice(&stream[first + self.context() + 1..first + time + 1]);
        }
        batch.count = batch.target_ids.len();
    }

    fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        hash.bytes(bytemuck::cast_slice(&self.ids));
        format!("{} in windows of {} by {}", hash.hex(), self.window, self.stride)
    }
}
