//! Which parts of the flat vectors belong to parameters, which of those decay, and which are held to a norm.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::graph::{PARAM_ALIGN, Param, ParamLayout};

/// The blocks of [`PARAM_ALIGN`] elements of the flat vectors. No two parameters share one.
#[derive(Clone, PartialEq)]
pub(super) struct Blocks {
    /// What kernels read: a word for each block, and behind them four channels each of what is held to a norm, as
    /// `shaders/optimizer.wgsl` has it.
    pub table: Arc<[u32]>,
    count: usize,
    /// From the first block to the last that is updated: large tables in front or behind that are frozen or sparse cost nothing.
    pub updated: Range<usize>,
    /// The parameters that are held to a norm.
    pub constraints: Arc<[Constraint]>,
}

/// A parameter each of whose channels is held to a norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Constraint {
    /// Its first element in the flat vectors.
    pub offset: usize,
    pub rows: usize,
    pub stride: usize,
    pub max_norm: f32,
}

impl Constraint {
    /// Numbers that a workgroup reads of four channels.
    const WORDS: usize = 4;

    /// The numbers of each four channels.
    fn columns(&self) -> impl Iterator<Item = [u32; Self::WORDS]> + use<> {
        let Self { offset, rows, stride, max_norm } = *self;
        (0..stride / 4)
            .map(move |column| [(offset / 4 + column) as u32, (stride / 4) as u32, rows as u32, max_norm.to_bits()])
    }
}

const DECAYS: u32 = 1 << 31;
const CONSTRAINED: u32 = 1 << 30;

impl Blocks {
    pub fn of(params: &ParamLayout) -> Self {
        let mut words = vec![0; params.flat_len() / PARAM_ALIGN];
        // What is sparse is updated by rows.
        for param in params.iter().filter(|param| param.trained && !param.sparse) {
            let elements = param.shape.padded_len();
            let first = param.offset / PARAM_ALIGN;
            let constrained = if param.max_norm.is_some() { CONSTRAINED } else { 0 };
            let bits = constrained | if param.decay { DECAYS } else { 0 };
            for (block, start) in (0..elements).step_by(PARAM_ALIGN).enumerate() {
                words[first + block] = (elements - start).min(PARAM_ALIGN) as u32 | bits;
            }
        }
        let constraint = |param: &Param| {
            let (rows, stride) = (param.shape.rows(), param.shape.stride());
            param.max_norm.map(|max_norm| Constraint { offset: param.offset, rows, stride, max_norm })
        };
        let constraints: Arc<[Constraint]> = params.iter().filter_map(constraint).collect();
        let count = words.len();
        let first = words.iter().position(|&word| word != 0).unwrap_or_default();
        let updated = first..words.iter().rposition(|&word| word != 0).map_or(first, |last| last + 1);
        words.extend(constraints.iter().flat_map(Constraint::columns).flatten());
        Self { table: words.into(), count, updated, constraints }
    }

    /// A word for each block: how many of its elements are a parameter's that is trained, a multiple of 4, and in the highest bits
    /// whether they decay, and whether the parameter is held to a norm.
    pub fn words(&self) -> &[u32] {
        &self.table[..self.count]
    }

    /// Groups of four channels that are held to a norm.
    pub fn columns(&self) -> usize {
        (self.table.len() - self.count) / Constraint::WORDS
    }

    /// The words of those that are updated.
    pub fn updated_words(&self) -> &[u32] {
        &self.words()[self.updated.clone()]
    }

    /// From the first element of the flat vectors to the last that is updated.
    pub fn updated_elements(&self) -> Range<usize> {
        self.updated.start * PARAM_ALIGN..self.updated.end * PARAM_ALIGN
    }
}

/// How many elements of a block are a parameter's, and whether they decay.
pub(super) fn unpack(word: u32) -> (usize, bool) {
    ((word & !(DECAYS | CONSTRAINED)) as usize, word & DECAYS != 0)
}

/// Short, for printed programs.
impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks", self.count)?;
        match self.constraints.len() {
            0 => Ok(()),
            constraints => write!(f, ", {constraints} held to a norm"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Extent, Graph, Init, Shape};

    #[test]
    fn blocks_follow_the_layout() {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        let empty = Blocks::of(graph.params());
        assert_eq!((empty.words(), empty.updated_elements()), (&[0][..], 0..0));
        for (name, channels, decay) in [("a", 64, true), ("b", 65, true), ("c", 3, false)] {
            graph.param(name, Shape::vector(channels), Init::Zeros, decay).unwrap();
        }
        graph.untrained("d", Shape::vector(70), Init::Zeros).unwrap();
        let held = graph.param("e", Shape::new(1, 9, 2), Init::Zeros, true).unwrap();
        graph.constrain(held, 3.0).unwrap();
        let blocks = Blocks::of(graph.params());
        let unpacked: Vec<_> = blocks.words().iter().map(|&word| unpack(word)).collect();
        let frozen = (0, false);
        assert_eq!(unpacked, [(64, true), (64, true), (4, true), (4, false), frozen, frozen, (36, true)]);
        assert_eq!(blocks.updated_elements(), 0..graph.params().flat_len());
        let constraint = Constraint { offset: 6 * PARAM_ALIGN, rows: 9, stride: 4, max_norm: 3.0 };
        assert_eq!(blocks.constraints[..], [constraint]);
        // Its stride is 4: one group of channels.
        assert_eq!((blocks.columns(), &blocks.table[7..]), (1, &[96, 1, 9, 3.0_f32.to_bits()][..]));
        assert_eq!(blocks.words().iter().filter(|&&word| word & CONSTRAINED != 0).count(), 1);
    }
}
