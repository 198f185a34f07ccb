//! Weights as PyTorch and the reference code name and lay them out.

use super::{Body, SequenceModel};
use crate::error::Result;
use crate::graph::ParamLayout;
use crate::nn::state_dict::{self, Entry, Form};
use crate::nn::{recurrent, tcn};

impl SequenceModel {
    /// Reads the weights from a state dict that was saved as safetensors, `bytes` being the whole file, into `flat`, the
    /// parameters of a program of this model. The names are those of the reference code's models: `tcn.` and the network's, as
    /// [`TcnConfig::load_state_dict`](crate::nn::TcnConfig::load_state_dict) says, or `rnn.` and those of `torch.nn.GRU`; then
    /// `linear` or `decoder`, and `encoder.weight` where classes are read.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint), naming the tensor, if one is missing, is not `f32` or of another shape, there
    /// is one that the model has no room for, or the bytes are no safetensors file.
    pub fn load_state_dict(&self, bytes: &[u8], layout: &ParamLayout, flat: &mut [f32]) -> Result<()> {
        let claims: fn(&str) -> bool = match self.config.body {
            Body::Tcn(_) => |name| name.strip_prefix("tcn.").is_some_and(tcn::is_theirs),
            Body::Recurrent(_) => |name| name.strip_prefix("rnn.").is_some_and(recurrent::is_theirs),
        };
        state_dict::load(bytes, &self.entries(layout)?, claims, layout, flat)
    }

    /// The weights in `flat` under the names that [`load_state_dict`](Self::load_state_dict) reads: the bytes of a safetensors
    /// file. `torch.nn` reads it by `safetensors.torch.load_model`.
    ///
    /// # Errors
    /// [`Error::Graph`](crate::Error::Graph) if `flat` is not of this layout.
    pub fn state_dict(&self, layout: &ParamLayout, flat: &[f32]) -> Result<Vec<u8>> {
        state_dict::save(&self.entries(layout)?, layout, flat)
    }

    fn entries<'a>(&self, layout: &'a ParamLayout) -> Result<Vec<Entry<'a>>> {
        let mut entries = match self.config.body {
            Body::Tcn(_) => tcn::entries("tcn.", layout, "tcn.")?,
            Body::Recurrent(_) => recurrent::entries("rnn.", layout, "rnn.")?,
        };
        let outside = [
            ("encoder.weight", "encoder.weight", Form::Table),
            ("linear.weight", "decoder.weight", Form::Matrix),
            ("linear.bias", "decoder.bias", Form::Vector),
        ];
        entries.extend(outside.into_iter().filter_map(|(name, other, form)| {
            Some(Entry { param: layout.find(name)?, names: vec![name.into(), other.into()], form })
        }));
        Ok(entries)
    }
}
