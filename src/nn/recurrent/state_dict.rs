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

fn is_ours(name: &str) -> bool {
    ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"].iter().any(|start| name.starts_with(start))
}
