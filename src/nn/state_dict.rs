//! State dicts: weights as PyTorch's modules name and lay them out, in safetensors files.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::graph::{Param, ParamLayout, Shape};

/// How PyTorch lays out what is `[taps, inputs, outputs]` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[outputs, inputs, taps]`: a convolution, and the lengths of weight normalisation, `[outputs, 1, 1]`.
    Convolution,
    /// `[outputs, inputs]`, the taps being one: a dense layer.
    Matrix,
    /// `[inputs, outputs]` as here: an embedding.
    Table,
    /// `[outputs]`: a bias.
    Vector,
    /// `[outputs]`: a row of several.
    Row(usize),
}

impl Form {
    /// The dimensions there of a shape here.
    fn dims(self, shape: Shape) -> Vec<usize> {
        let Shape { batch: taps, time: inputs, channels: outputs, .. } = shape;
        match self {
            Self::Convolution => vec![outputs, inputs, taps],
            Self::Matrix => vec![outputs, inputs],
            Self::Table => vec![inputs, outputs],
            Self::Vector | Self::Row(_) => vec![outputs],
        }
    }

    /// Where the elements there lie in the dense values here, in their order.
    fn places(self, shape: Shape) -> Vec<usize> {
        let Shape { batch: taps, time: inputs, channels: outputs, .. } = shape;
        match self {
            Self::Table | Self::Vector => (0..shape.len()).collect(),
            Self::Row(row) => (row * outputs..(row + 1) * outputs).collect(),
            Self::Convolution | Self::Matrix => {
                let rows = (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)));
                rows.flat_map(|(output, input)| (0..taps).map(move |tap| (tap * inputs + input) * outputs + output))
                    .collect()
            }
        }
    }
}

/// A parameter and what it is called there.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub param: &'a Param,
    /// The name that is written, and others that are read.
    pub names: Vec<String>,
    pub form: Form,
}

fn unusable(message: String) -> Error {
    Error::Checkpoint { path: "state dict".into(), message }
}

fn check_flat(layout: &ParamLayout, flat: &[f32]) -> Result<()> {
    let (given, expected) = (flat.len(), layout.flat_len());
    match given == expected {
        true => Ok(()),
        false => Err(Error::Graph(format!("{given} elements are not the flat vector of a model with {expected}"))),
    }
}

/// Puts the tensors of a safetensors file into the flat vector of a model's parameters. Of the names in the file, `claims` says
/// which ones there must be an entry for.
///
/// # Errors
/// [`Error::Checkpoint`], naming the tensor, if one is missing, is not `f32`, of another shape or without an entry, or the
/// bytes are no safetensors file; [`Error::Graph`] if `flat` is not of this layout.
pub(super) fn load(
    bytes: &[u8],
    entries: &[Entry<'_>],
    claims: impl Fn(&str) -> bool,
    layout: &ParamLayout,
    flat: &mut [f32],
) -> Result<()> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| unusable(format!("not a safetensors file ({error}); save the state dict again")))?;
    check_flat(layout, flat)?;
    let known = |name: &str| entries.iter().any(|entry| entry.names.iter().any(|known| known == name));
    if let Some(name) = file.names().into_iter().find(|name| claims(name) && !known(name)) {
        return Err(unusable(format!("there is no room for {name}: the model has other layers, directions or biases")));
    }
    for Entry { param, names, form } in entries {
        let Some((name, tensor)) = names.iter().find_map(|name| Some((name, file.tensor(name).ok()?))) else {
            return Err(unusable(format!("there is no tensor {}", names.join(" or "))));
        };
        let expected = form.dims(param.shape);
        if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
            let (dtype, shape) = (tensor.dtype(), tensor.shape());
            return Err(unusable(format!("{name} must be f32 {expected:?}, got {dtype:?} {shape:?}")));
        }
        let mut dense = param.gather(flat);
        let values = tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes);
        form.places(param.shape).into_iter().zip(values).for_each(|(place, value)| dense[place] = value);
        param.scatter(&dense, flat);
    }
    Ok(())
}

/// The bytes of a safetensors file of these parameters, out of the flat vector.
///
/// # Errors
/// [`Error::Graph`] if `flat` is not of this layout.
pub(super) fn save(entries: &[Entry<'_>], layout: &ParamLayout, flat: &[f32]) -> Result<Vec<u8>> {
    check_flat(layout, flat)?;
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = entries
        .iter()
        .filter_map(|Entry { param, names, form }| {
            let dense = param.gather(flat);
            let data = form.places(param.shape).into_iter().flat_map(|place| dense[place].to_le_bytes()).collect();
            Some((names.first()?.as_str(), form.dims(param.shape), data))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, dims, data)| {
            let view = TensorView::new(Dtype::F32, dims.clone(), data);
            view.map(|view| (*name, view)).map_err(|error| unusable(format!("{name} can't be saved: {error}")))
        })
        .collect::<Result<Vec<_>>>()?;
    // PyTorch's own files say so, and some readers insist on it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| unusable(format!("it can't be saved: {error}")))
}
