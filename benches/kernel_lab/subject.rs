//! The operators of the lab as programs. A new one is a function and a line in [`OPS`].

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use receptive::device::Capabilities;
use receptive::exec::dispatches;
use receptive::graph::{self, Extent, Graph, Init, Precision, Program, TensorId};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::ops::wavenet_layer::LayerWeights;
use receptive::ops::{self, Activation, Geometry};
use receptive::optim::{self, Adam, Method, OptimizerConfig};
use receptive::random::Random;

/// What an operator is measured on: `64x128,k2,d64,b1,t4096` is 64 channels to 128, 2 taps, dilation 64, batch 1 and
/// 4096 outputs of each sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub dilation: usize,
    pub batch: usize,
    pub time: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inputs, outputs, kernel, dilation, batch, time } = self;
        write!(f, "{inputs}x{outputs},k{kernel},d{dilation},b{batch},t{time}")
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: a shape is written as 64x128,k2,d64,b1,t4096");
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(wrong);
        let (channels, rest) = text.split_once(',').unwrap_or((text, ""));
        let (inputs, outputs) = channels.split_once('x').ok_or_else(wrong)?;
        let mut shape =
            Self { inputs: number(inputs)?, outputs: number(outputs)?, kernel: 1, dilation: 1, batch: 1, time: 4096 };
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            let value = number(part.get(1..).unwrap_or_default())?;
            match &part[..1] {
                "k" => shape.kernel = value,
                "d" => shape.dilation = value,
                "b" => shape.batch = value,
                "t" => shape.time = value,
                _ => return Err(wrong()),
            }
        }
        Ok(shape)
    }
}

/// An operator as a program with its data.
pub struct Subject {
    pub program: Arc<Program>,
    /// The parameters.
    pub flat: Vec<f32>,
    pub inputs: Vec<(TensorId, Vec<f32>)>,
    pub ids: Vec<(TensorId, Vec<u32>)>,
    pub outputs: Vec<TensorId>,
    /// Multiply-adds times two.
    pub flops: u64,
    /// What has to move if every operand moves once.
    pub bytes: u64,
    /// The outputs as they should be, once something has asked for them.
    pub expected: OnceLock<Vec<Vec<f64>>>,
}

impl Subject {
    fn new(graph: Graph, inputs: &[TensorId], outputs: &[TensorId], flops: usize, elements: usize) -> Result<Self> {
        let mut random = Random::new(7, 0, 0);
        let mut normal = |tensor: &TensorId| {
            let values = (0..graph.shape(*tensor).len()).map(|_| random.normal()).collect();
            (*tensor, values)
        };
        let inputs = inputs.iter().map(&mut normal).collect();
        let program = Arc::new(graph.finish(outputs, &[])?);
        let element_bytes = match program.precision() {
            Precision::F32 => 4,
            Precision::F16 => 2,
        };
        let flat = program.params().initial(7);
        Ok(Self {
            program,
            flat,
            inputs,
            ids: vec![],
            outputs: outputs.to_vec(),
            flops: flops as u64,
            bytes: elements as u64 * element_bytes,
            expected: OnceLock::new(),
        })
    }

    /// The variant that is chosen where none is forced.
    pub fn chosen(&self, family: &str, capabilities: &Capabilities) -> Result<Option<&'static str>> {
        let all = dispatches(&self.program, capabilities)?;
        Ok(all.iter().filter_map(|d| d.variant.as_ref()).find(|v| v.family == family).map(|v| v.name))
    }
}

/// The names of a family's variants.
pub fn variants(family: &str) -> Vec<&'static str> {
    ops::table::FAMILIES.iter().find(|f| f.name == family).map(|f| (f.variants)()).unwrap_or_default()
}

/// An operator of the lab.
pub struct Op {
    pub name: &'static str,
    /// Whose variants are compared.
    pub family: &'static str,
    pub build: fn(&Shape, Precision) -> Result<Subject>,
}

pub const OPS: &[Op] = &[
    Op { name: "conv1d", family: "conv1d", build: forward },
    Op { name: "conv1d_grad_input", family: "conv1d", build: grad_input },
    Op { name: "conv1d_grad_weight", family: "conv1d_grad_weight", build: grad_weight },
    Op { name: "embedding_grad", family: "embedding_grad", build: embedding_grad },
    Op { name: "wavenet_layer", family: "wavenet_layer", build: |shape, precision| layer(shape, precision, false) },
    Op {
        name: "wavenet_layer_and_back",
        family: "wavenet_layer",
        build: |shape, precision| layer(shape, precision, true),
    },
    Op { name: "wavenet_step", family: "wavenet_layer", build: wavenet_step },
];

struct Convolution {
    graph: Graph,
    x: TensorId,
    weight: TensorId,
    bias: TensorId,
    geometry: Geometry,
    flops: usize,
    /// Elements of x, y and the weights.
    elements: usize,
}

/// The input is there with what lies before it.
fn convolution(shape: &Shape, precision: Precision) -> Result<Convolution> {
    let Shape { inputs, outputs, kernel, dilation, batch, time } = *shape;
    let geometry = Geometry::valid(kernel, dilation);
    let mut graph = Graph::new(Extent { batch, time })?.with_precision(precision);
    let x = graph.input("x", geometry.reach() as isize, inputs)?;
    let std = 1.0 / ((kernel * inputs) as f32).sqrt();
    let weight = graph.param("weight", graph::Shape::new(kernel, inputs, outputs), Init::Normal { std }, true)?;
    let bias = graph.param("bias", graph::Shape::vector(outputs), Init::Normal { std: 1.0 }, false)?;
    let flops = 2 * batch * time * kernel * inputs * outputs;
    let elements = batch * (time + geometry.reach()) * inputs + batch * time * outputs + kernel * inputs * outputs;
    Ok(Convolution { graph, x, weight, bias, geometry, flops, elements })
}

fn forward(shape: &Shape, precision: Precision) -> Result<Subject> {
    let Convolution { mut graph, x, weight, bias, geometry, flops, elements } = convolution(shape, precision)?;
    let y = ops::conv1d(&mut graph, x, weight, Some(bias), geometry, Activation::Identity)?;
    Subject::new(graph, &[x], &[y], flops, elements)
}

fn grad_input(shape: &Shape, precision: Precision) -> Result<Subject> {
    let Convolution { mut graph, x, weight, geometry, flops, elements, .. } = convolution(shape, precision)?;
    let dy = graph.input("dy", 0, shape.outputs)?;
    let dx = ops::conv1d_grad_input(&mut graph, dy, weight, x, geometry)?;
    Subject::new(graph, &[x, dy], &[dx], flops, elements)
}

fn grad_weight(shape: &Shape, precision: Precision) -> Result<Subject> {
    let Convolution { mut graph, x, weight, geometry, flops, elements, .. } = convolution(shape, precision)?;
    let dy = graph.input("dy", 0, shape.outputs)?;
    let weight = graph.shape(weight);
    let dw = ops::conv1d_grad_weight(&mut graph, x, dy, weight, geometry)?;
    Subject::new(graph, &[x, dy], &[dw], flops, elements)
}

/// Of a table of as many classes as the shape has inputs, which come as words do: the n-th with a probability of about 1/n.
fn embedding_grad(shape: &Shape, precision: Precision) -> Result<Subject> {
    let Shape { inputs: classes, outputs, kernel, dilation, batch, time } = *shape;
    let mut graph = Graph::new(Extent { batch, time })?.with_precision(precision);
    let ids = graph.input_ids("ids", 0)?;
    let table = graph.param("table", graph::Shape::new(kernel, classes, outputs), Init::Zeros, true)?;
    let y = ops::embedding(&mut graph, ids, table, None, Geometry::causal(kernel, dilation))?;
    let dy = graph.input("dy", 0, outputs)?;
    let gradient = graph.backward_from(&[(y, dy)])?.of(table).context("a table has a gradient")?;
    let elements = kernel * classes * outputs + batch * time * outputs;
    let mut subject = Subject::new(graph, &[dy], &[gradient], 0, elements)?;
    let mut random = Random::new(7, 1, 0);
    let word = |_| (classes as f32).powf(random.uniform()) as u32 - 1;
    subject.ids = vec![(ids, (0..batch * time).map(word).collect())];
    Ok(subject)
}

/// WaveNet's layer of half as many gate channels as the convolution has outputs.
fn layer(shape: &Shape, precision: Precision, backward: bool) -> Result<Subject> {
    let Shape { inputs: residual, outputs, kernel, dilation, batch, time } = *shape;
    let gate = outputs / 2;
    let mut graph = Graph::new(Extent { batch, time })?.with_precision(precision);
    let mut param = |name: &str, shape: graph::Shape| {
        let std = 1.0 / (shape.rows() as f32).sqrt();
        graph.param(name, shape, Init::Normal { std }, true)
    };
    let weights = LayerWeights {
        dilated: param("dilated", graph::Shape::new(kernel, residual, 2 * gate))?,
        dilated_bias: Some(param("dilated_bias", graph::Shape::vector(2 * gate))?),
        residual: Some(param("residual", graph::Shape::new(1, gate, residual))?),
        residual_bias: Some(param("residual_bias", graph::Shape::vector(residual))?),
    };
    let (x, mut inputs) = match backward {
        // The gradient of an input that is no parameter is not taken.
        true => (param("x", graph::Shape::new(batch, time, residual))?, vec![]),
        false => graph.input("x", 0, residual).map(|x| (x, vec![x]))?,
    };
    let (z, h) = ops::wavenet_layer(&mut graph, x, &weights, None, kernel, dilation)?;
    let h = h.context("a layer with residual weights has a residual output")?;
    let flops = 2 * batch * time * (kernel * residual * 2 * gate + gate * residual);
    let elements = batch * time * (2 * residual + gate);
    if !backward {
        return Subject::new(graph, &inputs, &[z, h], flops, elements);
    }
    let (dz, dh) = (graph.input("dz", 0, gate)?, graph.input("dh", 0, residual)?);
    inputs.extend([dz, dh]);
    let gradients = graph.backward_from(&[(z, dz), (h, dh)])?;
    let weights = [Some(weights.dilated), weights.dilated_bias, weights.residual, weights.residual_bias, Some(x)];
    let outputs: Vec<TensorId> = weights.into_iter().flatten().filter_map(|tensor| gradients.of(tensor)).collect();
    // Forward keeps [a | b]; backward reads everything once and writes the gradients of [a | b] and x.
    let elements = elements + batch * time * (2 * gate) + batch * time * (3 * residual + 2 * gate + 6 * gate);
    Subject::new(graph, &inputs, &outputs, 3 * flops, elements)
}

/// A whole training step: layers of dilation 1, 2, 4, … up to the shape's dilation, twice; `inputs` residual and gate
/// channels, `outputs` skip channels.
fn wavenet_step(shape: &Shape, precision: Precision) -> Result<Subject> {
    let Shape { inputs: residual, outputs: skip, kernel, dilation, batch, time } = *shape;
    let block = std::iter::successors(Some(1), |d| Some(d * 2)).take_while(|&d| d <= dilation);
    let dilations = block.collect::<Vec<_>>().repeat(2);
    let layers = dilations.len();
    let config =
        WaveNetConfig { residual, gate: residual, skip, head: skip, kernel, dilations, ..WaveNetConfig::small() };
    let classes = config.classes;
    let mut graph = Graph::new(Extent { batch, time })?.with_precision(precision);
    let (input, logits) = WaveNet::new(config)?.append(&mut graph, 0)?;
    let target = graph.input_ids("target", 0)?;
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target)?.loss;
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &OptimizerConfig::from(Method::Adam(Adam::default())))?;
    let rows = batch * time;
    let forward = (2 * kernel + 1) * residual * residual * layers - residual * residual
        + layers * residual * skip
        + skip * skip
        + skip * classes;
    let mut subject = Subject::new(graph, &[], &[loss], 6 * rows * forward, 0)?;
    let mut random = Random::new(7, 1, 0);
    subject.ids =
        [input, target].map(|tensor| (tensor, (0..rows).map(|_| random.below(classes as u32)).collect())).to_vec();
    Ok(subject)
}
