//! Weights as PyTorch names and lays them out.

use super::RecurrentConfig;
use crate::error::{Error, Result};
use crate::graph::ParamLayout;
use crate::nn::state_dict::{self, Entry, Form};

impl RecurrentConfig {
    /// Reads the layers' weights from a state dict of `torch.nn.GRU`, `LSTM` or `RNN` that was saved as safetensors, `bytes`
    /// being the whole file, and puts them where they belong in `flat`, the parameters of a model with layers named
    /// `{prefix}…`; `their_prefix` is that of the names in the file, such as `rnn.`. Gates are in the same order here and there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], naming the tensor, if one is missing, is not `f32` or of another shape, or the bytes are no
    /// safetensors file; [`Error::Config`] if the model has no such layers.
    pub fn load_state_dict(
        &self,
        bytes: &[u8],
        their_prefix: &str,
        layout: &ParamLayout,
        prefix: &str,
        flat: &mut [f32],
    ) -> Result<()> {
        let claims = |name: &str| name.strip_prefix(their_prefix).is_some_and(is_theirs);
        state_dict::load(bytes, &entries(their_prefix, layout, prefix)?, claims, layout, flat)
    }

    /// The layers' weights in `flat` as [`load_state_dict`](Self::load_state_dict) and PyTorch's modules load them: the bytes
    /// of a safetensors file.
    ///
    /// # Errors
    /// [`Error::Graph`] if `flat` is not of this layout; [`Error::Config`] if the model has no such layers.
    pub fn state_dict(&self, their_prefix: &str, layout: &ParamLayout, prefix: &str, flat: &[f32]) -> Result<Vec<u8>> {
        state_dict::save(&entries(their_prefix, layout, prefix)?, layout, flat)
    }
}

pub(in crate::nn) fn entries<'a>(their_prefix: &str, layout: &'a ParamLayout, prefix: &str) -> Result<Vec<Entry<'a>>> {
    let ours = layout.iter().filter_map(|param| Some((param, param.name.strip_prefix(prefix)?)));
    let entries: Vec<Entry<'_>> = ours
        .filter(|(_, name)| is_ours(name))
        .map(|(param, name)| {
            let form = if name.starts_with("weight") { Form::Matrix } else { Form::Vector };
            Entry { param, names: vec![format!("{their_prefix}{name}")], form }
        })
        .collect();
    match entries.is_empty() {
        true => Err(Error::Config(format!("the model has no recurrent layers named {prefix:?}…"))),
        false => Ok(entries),
    }
}

/// Whether a name is that of a weight of recurrent layers, projections of an LSTM's state among them.
pub(in crate::nn) fn is_theirs(name: &str) -> bool {
    is_ours(name) || name.starts_with("weight_hr_l")
}

fn is_ours(name: &str) -> bool {
    ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"].iter().any(|start| name.starts_with(start))
}
