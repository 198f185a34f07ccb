//! A WaveNet's weights out of the flat vector, as the products that one sample needs.

use crate::data::MuLaw;
use crate::error::{Error, Result};
use crate::graph::{Extent, ParamLayout};
use crate::nn::{WaveNet, WaveNetConfig, WaveNetInput};

/// `y = x · weights + bias`.
#[derive(Debug)]
pub(super) struct Affine {
    pub inputs: usize,
    pub outputs: usize,
    /// `[inputs, outputs]`, dense.
    pub weights: Vec<f32>,
    /// `[outputs]`; zeros where the network has none.
    pub bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub dilation: usize,
    /// Inputs: the taps, oldest first, with their channels; outputs: `[a | b]`.
    pub dilated: Affine,
    /// Nothing in the last layer: nothing reads its residual.
    pub residual: Option<Affine>,
    /// Its bias is part of [`Network::skip_bias`].
    pub skip: Affine,
}

#[derive(Debug)]
pub(super) struct Network {
    pub config: WaveNetConfig,
    /// `[taps, channels, residual]`
    pub input: Vec<f32>,
    pub input_bias: Vec<f32>,
    pub layers: Vec<Layer>,
    /// The sum of all layers' skip biases.
    pub skip_bias: Vec<f32>,
    pub head: [Affine; 2],
    pub mu_law: MuLaw,
}

impl Network {
    /// # Errors
    /// [`Error::Graph`] if `flat` is not the parameters of this model.
    pub fn new(model: &WaveNet, flat: &[f32]) -> Result<Self> {
        let program = model.logits(Extent { batch: 1, time: 1 })?.program;
        let layout = program.params();
        if flat.len() != layout.flat_len() {
            return Err(Error::Graph(format!(
                "the store holds {} parameters, the model has {}: load or initialise the model's first",
                flat.len(),
                layout.flat_len()
            )));
        }
        let read = Reader { layout, flat };
        let config = model.config().clone();
        let depth = config.dilations.len();
        let (residual, gate, skip) = (config.residual, config.gate, config.skip);
        let skip_weights = read.needed("skip.weight")?;
        let mut layers = Vec::with_capacity(depth);
        for (layer, &dilation) in config.dilations.iter().enumerate() {
            let part = |part: &str| format!("layers.{layer}.{part}");
            let weights = skip_weights[layer * gate * skip..][..gate * skip].to_vec();
            layers.push(Layer {
                dilation,
                dilated: read.affine(&part("dilated"), config.kernel * residual, 2 * gate)?,
                residual: match layer + 1 < depth {
                    true => Some(read.affine(&part("residual"), gate, residual)?),
                    false => None,
                },
                skip: Affine { inputs: gate, outputs: skip, weights, bias: vec![0.0; skip] },
            });
        }
        let mut skip_bias = vec![0.0; skip];
        for bias in read.optional("skip.bias").unwrap_or_default().chunks_exact(skip) {
            skip_bias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
        }
        Ok(Self {
            input: read.needed("input.weight")?,
            input_bias: read.optional("input.bias").unwrap_or_else(|| vec![0.0; residual]),
            layers,
            skip_bias,
            head: [read.affine("head.0", skip, config.head)?, read.affine("head.1", config.head, config.classes)?],
            mu_law: MuLaw::new(config.classes).map_err(|error| Error::Config(error.to_string()))?,
            config,
        })
    }

    /// What is fed for a class: one word, so that memory of zeros is the padding before the sequence. For classes the
    /// class + 1, for scalar input the bits of the sample.
    pub fn word(&self, class: u32) -> u32 {
        match self.config.input {
            WaveNetInput::Classes => class + 1,
            WaveNetInput::Scalar => self.mu_law.decode(class).to_bits(),
        }
    }

    /// Steps that a layer's input is kept for.
    pub fn queue_length(&self, layer: usize) -> usize {
        (self.config.kernel - 1) * self.config.dilations[layer]
    }

    /// Multiplications for one sample.
    pub fn products(&self) -> usize {
        let of = |affine: &Affine| affine.weights.len();
        let layers = self.layers.iter().map(|l| of(&l.dilated) + l.residual.as_ref().map_or(0, of) + of(&l.skip));
        layers.sum::<usize>() + self.head.iter().map(of).sum::<usize>()
    }
}

/// Channels of the first convolution's input.
pub(super) fn input_channels(config: &WaveNetConfig) -> usize {
    match config.input {
        WaveNetInput::Classes => config.classes,
        WaveNetInput::Scalar => 1,
    }
}

struct Reader<'a> {
    layout: &'a ParamLayout,
    flat: &'a [f32],
}

impl Reader<'_> {
    fn optional(&self, name: &str) -> Option<Vec<f32>> {
        self.layout.find(name).map(|param| param.gather(self.flat))
    }

    fn needed(&self, name: &str) -> Result<Vec<f32>> {
        self.optional(name).ok_or_else(|| Error::Graph(format!("the model has no parameter {name}")))
    }

    fn affine(&self, name: &str, inputs: usize, outputs: usize) -> Result<Affine> {
        let weights = self.needed(&format!("{name}.weight"))?;
        let bias = self.optional(&format!("{name}.bias")).unwrap_or_else(|| vec![0.0; outputs]);
        Ok(Affine { inputs, outputs, weights, bias })
    }
}
