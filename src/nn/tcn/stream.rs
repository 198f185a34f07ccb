//! A temporal convolutional network that is fed a sequence in blocks.

use super::{Tcn, TcnOptions};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorId};
use crate::nn::Carried;
use crate::ops::{self, Geometry, Padding};

impl Tcn {
    /// As [`append`](Self::append) without dropout, but what its convolutions reach into of earlier blocks is carried from step
    /// to step: a sequence fed in blocks of any size, or position by position, gives what the whole gives. `x` is
    /// `[batch, time, inputs]`, a block of each of `batch` streams; a state has the `(kernel − 1) · dilation` positions before
    /// the block that a convolution reads, so that all of them together are about the receptive field, however long the
    /// streams.
    ///
    /// # Errors
    /// [`Error::Config`] if the network is not causal or its padding is not zeros; as [`append`](Self::append).
    pub fn append_carried(&self, graph: &mut Graph, prefix: &str, x: TensorId) -> Result<Carried> {
        let config = &self.config;
        if !config.causal {
            return Err(Error::Config(
                "a network that sees its future can't be fed in blocks: it must be causal".into(),
            ));
        }
        if config.padding != Padding::Zeros {
            return Err(Error::Config("what is fed in blocks begins behind zeros: the padding must be zeros".into()));
        }
        let levels = self.parameters(graph, prefix, x)?;
        let mut states = Vec::new();
        let (mut h, mut sum) = (x, None);
        for (index, (level, &dilation)) in levels.iter().zip(&config.dilations).enumerate() {
            let mut made = h;
            for (number, convolution) in [&level.first, &level.second].into_iter().enumerate() {
                let geometry = Geometry::valid(config.kernel, dilation);
                let name = format!("{prefix}network.{index}.conv{}.past", number + 1);
                let joined = behind_its_past(graph, &name, made, geometry.reach(), &mut states)?;
                made = self.normalised(graph, joined, convolution, geometry, &TcnOptions::default())?;
            }
            h = self.join(graph, level, made, h, 1)?;
            if config.skips {
                sum = Some(match sum {
                    Some(sum) => ops::add(graph, sum, made)?,
                    None => made,
                });
            }
        }
        Ok(Carried { sequence: sum.unwrap_or(h), states })
    }
}

/// `x` behind the `reach` positions before it, which are carried.
fn behind_its_past(
    graph: &mut Graph,
    name: &str,
    x: TensorId,
    reach: usize,
    states: &mut Vec<TensorId>,
) -> Result<TensorId> {
    if reach == 0 {
        return Ok(x);
    }
    let past = graph.input_fixed(name, reach, graph.shape(x).channels)?;
    let (joined, last) = ops::join_time(graph, past, x)?;
    graph.carry(past, last)?;
    states.push(past);
    Ok(joined)
}
