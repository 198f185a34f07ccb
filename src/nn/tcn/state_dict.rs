//! Weights as PyTorch and the reference code name and lay them out.

use super::TcnConfig;
use crate::error::{Error, Result};
use crate::graph::ParamLayout;
use crate::nn::state_dict::{self, Entry, Form};

impl TcnConfig {
    /// Reads the weights from a state dict of the reference code's `TemporalConvNet` that was saved as safetensors, `bytes` being
    /// the whole file, and puts them where they belong in `flat`, the parameters of a model with a network named
    /// `{prefix}network…`; `their_prefix` is that of the names in the file, such as `tcn.`. Weight normalisation may be that of
    /// `torch.nn.utils.weight_norm` (`weight_g`, `weight_v`) or of `torch.nn.utils.parametrizations.weight_norm`
    /// (`parametrizations.weight.original0`, `…1`); other normalisations are modules `norm1` and `norm2` of a level. What a level's
    /// `net` repeats of its own modules is left out.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], naming the tensor, if one is missing, is not `f32` or of another shape, there is one that the model
    /// has no room for, or the bytes are no safetensors file; [`Error::Config`] if the model has no such network.
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

    /// The weights in `flat` under the reference code's names, with `weight_g` and `weight_v`: the bytes of a safetensors file.
    /// PyTorch reads it by `safetensors.torch.load_model`, which knows that a level's `net` repeats its modules; parametrizations
    /// take these names too.
    ///
    /// # Errors
    /// [`Error::Graph`] if `flat` is not of this layout; [`Error::Config`] if the model has no such network.
    pub fn state_dict(&self, their_prefix: &str, layout: &ParamLayout, prefix: &str, flat: &[f32]) -> Result<Vec<u8>> {
        state_dict::save(&entries(their_prefix, layout, prefix)?, layout, flat)
    }
}

pub(in crate::nn) fn entries<'a>(their_prefix: &str, layout: &'a ParamLayout, prefix: &str) -> Result<Vec<Entry<'a>>> {
    let ours = layout.iter().filter_map(|param| Some((param, param.name.strip_prefix(prefix)?)));
    let mut entries = Vec::new();
    for (param, name) in ours.filter(|(_, name)| is_theirs(name)) {
        let (module, part) = name.rsplit_once('.').unwrap_or(("", name));
        let parts: &[(&[&str], Form)] = match part {
            "weight_g" => &[(&["weight_g", "parametrizations.weight.original0"], Form::Convolution)],
            "weight_v" => &[(&["weight_v", "parametrizations.weight.original1"], Form::Convolution)],
            "weight" if !is_norm(module) => &[(&["weight"], Form::Convolution)],
            "running" => &[(&["running_mean"], Form::Row(0)), (&["running_var"], Form::Row(1))],
            part => &[(&[part], Form::Vector)],
        };
        entries.extend(parts.iter().map(|&(parts, form)| {
            let names = parts.iter().map(|part| format!("{their_prefix}{module}.{part}")).collect();
            Entry { param, names, form }
        }));
    }
    match entries.is_empty() {
        true => Err(Error::Config(format!("the model has no network named {prefix:?}…"))),
        false => Ok(entries),
    }
}

/// Whether a module is a normalisation.
fn is_norm(module: &str) -> bool {
    module.rsplit('.').next().is_some_and(|module| module.starts_with("norm"))
}

/// Whether a name is that of a level's weight, and not the second one that the reference code's `net` gives it; nor PyTorch's count
/// of the batches that a normalisation saw, of which nothing here depends.
pub(in crate::nn) fn is_theirs(name: &str) -> bool {
    let level = name.strip_prefix("network.").and_then(|name| name.split_once('.'));
    level.is_some_and(|(_, name)| !name.starts_with("net.") && !name.ends_with("num_batches_tracked"))
}
