//! Weights as PyTorch names and lays them out: a matrix is `[gates · hidden, inputs]` there.

use safetensors::{Dtype, SafeTensors};

use super::RecurrentConfig;
use crate::error::{Error, Result};
use crate::graph::ParamLayout;

impl RecurrentConfig {
    /// Reads the layers' weights from a state dict of `torch.nn.GRU`, `LSTM` or `RNN` that was saved as safetensors, `bytes`
    /// being the whole file, and puts them where they belong in `flat`, the parameters of a model with layers named
    /// `{prefix}…`; `their_prefix` is that of the names in the file, such as `rnn.`. Gates are in the same order here and there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], naming the tensor, if one is missing, is not `f32` or of another shape, or the bytes are no
    /// safetensors file.
    pub fn load_state_dict(
        &self,
        bytes: &[u8],
        their_prefix: &str,
        layout: &ParamLayout,
        prefix: &str,
        flat: &mut [f32],
    ) -> Result<()> {
        let unusable = |message: String| Error::Checkpoint { path: "state dict".into(), message };
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| unusable(format!("not a safetensors file ({error}); save the state dict again")))?;
        if flat.len() != layout.flat_len() {
            let (given, expected) = (flat.len(), layout.flat_len());
            return Err(Error::Graph(format!("{given} elements are not the flat vector of a model with {expected}")));
        }
        let ours: Vec<&str> =
            layout.iter().filter_map(|param| param.name.strip_prefix(prefix)).filter(|n| is_ours(n)).collect();
        if ours.is_empty() {
            return Err(Error::Config(format!("the model has no recurrent layers named {prefix:?}…")));
        }
        let names = file.names();
        let theirs = names.iter().filter_map(|name| name.strip_prefix(their_prefix)).filter(|name| is_theirs(name));
        if let Some(name) = theirs.into_iter().find(|name| !ours.contains(name)) {
            return Err(unusable(format!(
                "there is no room for {their_prefix}{name}: layers, directions or biases differ"
            )));
        }
        for param in layout.iter() {
            let Some(name) = param.name.strip_prefix(prefix).filter(|name| is_ours(name)) else { continue };
            let theirs = format!("{their_prefix}{name}");
            let tensor = file.tensor(&theirs).map_err(|_| unusable(format!("there is no tensor {theirs}")))?;
            let (inputs, outputs) = (param.shape.time, param.shape.channels);
            let is_matrix = name.starts_with("weight");
            let expected = if is_matrix { vec![outputs, inputs] } else { vec![outputs] };
            if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
                return Err(unusable(format!(
                    "{theirs} must be f32 {expected:?}, got {:?} {:?}",
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
            let dense: Vec<f32> = match is_matrix {
                true => (0..inputs).flat_map(|i| values.iter().skip(i).step_by(inputs).copied()).collect(),
                false => values,
            };
            param.scatter(&dense, flat);
        }
        Ok(())
    }
}

/// Whether a name is that of a weight of recurrent layers, projections of an LSTM's state among them.
fn is_theirs(name: &str) -> bool {
    is_ours(name) || name.starts_with("weight_hr_l")
}

fn is_ours(name: &str) -> bool {
    ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"].iter().any(|start| name.starts_with(start))
}
