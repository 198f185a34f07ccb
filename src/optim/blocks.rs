//! Which parts of the flat vectors belong to parameters, and which of those decay.

use std::fmt;
use std::sync::Arc;

use crate::graph::{PARAM_ALIGN, ParamLayout};

/// A word for each block of [`PARAM_ALIGN`] elements: how many of its elements are a parameter's, a multiple of 4, and
/// in the highest bit whether they decay. No two parameters share a block.
#[derive(Clone, PartialEq)]
pub(super) struct Blocks(pub Arc<[u32]>);

const DECAYS: u32 = 1 << 31;

impl Blocks {
    pub fn of(params: &ParamLayout) -> Self {
        let mut words = vec![0; params.flat_len() / PARAM_ALIGN];
        for param in params.iter() {
            let elements = param.shape.padded_len();
            let first = param.offset / PARAM_ALIGN;
            for (block, start) in (0..elements).step_by(PARAM_ALIGN).enumerate() {
                let owned = (elements - start).min(PARAM_ALIGN) as u32;
                words[first + block] = owned | if param.decay { DECAYS } else { 0 };
            }
        }
        Self(words.into())
    }

    /// Elements of the flat vectors.
    pub fn elements(&self) -> usize {
        self.0.len() * PARAM_ALIGN
    }
}

/// How many elements of a block are a parameter's, and whether they decay.
pub(super) fn unpack(word: u32) -> (usize, bool) {
    ((word & !DECAYS) as usize, word & DECAYS != 0)
}

/// Short, for printed programs.
impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Extent, Graph, Init, Shape};

    #[test]
    fn blocks_follow_the_layout() {
        let mut graph = Graph::new(Extent { batch: 1, time: 1 }).unwrap();
        assert_eq!(Blocks::of(graph.params()).0[..], [0]);
        for (name, channels, decay) in [("a", 64, true), ("b", 65, true), ("c", 3, false)] {
            graph.param(name, Shape::vector(channels), Init::Zeros, decay).unwrap();
        }
        let blocks = Blocks::of(graph.params());
        let unpacked: Vec<_> = blocks.0.iter().map(|&word| unpack(word)).collect();
        assert_eq!(unpacked, [(64, true), (64, true), (4, true), (4, false)]);
        assert_eq!(blocks.elements(), graph.params().flat_len());
    }
}
