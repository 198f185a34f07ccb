//! On the GPU: the products of the convolution family, group by group, and the kernels between them.

use bytemuck::{Pod, Zeroable};

use super::grad::LinearCrossEntropyGrad;
use super::{LinearCrossEntropy, groups};
use crate::device::Capabilities;
use crate::error::Result;
use crate::graph::{Binding, Dispatch, GpuPlan, Op, Operand, Shape};
use crate::ops::conv1d::{Conv1dGradWeight, Epilogue, Product};
use crate::ops::reduce::{Total, reduce};
use crate::ops::softmax_cross_entropy::lanes;
use crate::ops::sum_time::SumTime;
use crate::ops::{Activation, Geometry};

/// The scratch buffers.
const LOGITS: usize = 0;
const PARTS: usize = 1;
const LOSSES: usize = 2;
const SUMS: usize = 3;
/// The sum so far of the input's gradient.
const INPUT_GRADIENT: usize = 1;
/// The first of an operator that runs within this one, whose own numbers are below `OUTER`.
const INNER: usize = 2;
/// What is added to the number of a buffer of this operator that one within reads.
const OUTER: usize = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    planned_rows: u32,
    classes: u32,
    first: u32,
    group: u32,
    groups: u32,
    group_classes: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    count_offset4: u32,
    dloss_offset4: u32,
    not_a_number: f32,
}

/// What both passes read.
struct Layer<'a> {
    x: &'a Operand,
    weight: &'a Operand,
    bias: Option<&'a Operand>,
    targets: &'a Operand,
    groups: Vec<(usize, usize)>,
    capabilities: &'a Capabilities,
}

impl<'a> Layer<'a> {
    fn new(op: &LinearCrossEntropy, plan: &'a GpuPlan<'_>) -> Self {
        let (x, weight) = (&plan.inputs[0], &plan.inputs[1]);
        Self {
            x,
            weight,
            bias: op.bias.then(|| &plan.inputs[2]),
            targets: &plan.inputs[2 + usize::from(op.bias)],
            groups: groups(weight.shape, x.planned.rows(), op.group),
            capabilities: plan.capabilities,
        }
    }

    fn params(&self, group: usize) -> Params {
        let (first, count) = self.groups[group];
        Params {
            rows: self.x.shape.rows() as u32,
            planned_rows: self.x.planned.rows() as u32,
            classes: self.weight.shape.time as u32,
            first: first as u32,
            group: group as u32,
            groups: self.groups.len() as u32,
            group_classes: count as u32,
            x_stride4: (self.logits(group).stride / 4) as u32,
            not_a_number: f32::NAN,
            ..Params::zeroed()
        }
    }

    /// Where the logits of a group lie.
    fn logits(&self, group: usize) -> Operand {
        let of = |shape: Shape| shape.with_channels(self.groups[group].1);
        Operand::scratch(LOGITS, of(self.x.planned), of(self.x.shape), self.x)
    }

    /// The rows of a group of something shaped as the weight.
    fn rows(&self, of: &Operand, group: usize) -> Operand {
        let (first, count) = self.groups[group];
        let part = |shape: Shape| shape.with_time(count);
        Operand { shape: part(of.shape), planned: part(of.planned), offset: of.offset + first * of.stride, ..*of }
    }

    /// The elements of a group of something shaped as the bias.
    fn elements(&self, of: &Operand, group: usize) -> Operand {
        let (first, count) = self.groups[group];
        let part = Shape::vector(count);
        Operand { shape: part, planned: part, offset: of.offset + first, ..*of }
    }

    fn product<'b>(&self, source: &'b Operand, weight: &'b Operand, target: &'b Operand) -> Product<'b> {
        Product {
            source,
            weight,
            target,
            columns: target.shape.channels,
            map: Geometry::pointwise().forward(source.shape.time),
            taps: 1,
            transposed: false,
            bias: None,
            add: None,
            epilogue: Epilogue::Activation(Activation::Identity),
        }
    }

    fn logits_of(&self, group: usize) -> Result<Dispatch> {
        let (weight, logits) = (self.rows(self.weight, group), self.logits(group));
        let bias = self.bias.map(|bias| self.elements(bias, group));
        let product = Product { transposed: true, bias: bias.as_ref(), ..self.product(self.x, &weight, &logits) };
        product.dispatch(self.capabilities)
    }
}

pub(super) fn forward(op: &LinearCrossEntropy, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
    let layer = Layer::new(op, plan);
    let (loss, lse, count) = (&plan.outputs[0], &plan.outputs[1], &plan.outputs[2]);
    let (rows, planned) = (layer.x.shape.rows(), layer.x.planned.rows());
    let parts = Binding::Scratch { index: PARTS, elements: 4 * planned * layer.groups.len() };
    let losses = Binding::Scratch { index: LOSSES, elements: 2 * planned };
    let mut dispatches = Vec::new();
    for group in 0..layer.groups.len() {
        let logits = layer.logits(group);
        dispatches.push(layer.logits_of(group)?);
        let lanes = lanes(logits.planned);
        dispatches.push(
            Dispatch::new("linear_cross_entropy", "part_main")
                .define("PART", true)
                .constant("LANES", lanes)
                .read(logits.binding)
                .read(layer.targets.binding)
                .write(parts)
                .params(&layer.params(group))
                .workgroups(rows.div_ceil(256 / lanes as usize)),
        );
    }
    let (lse_offset4, lse_stride4) = lse.place4();
    dispatches.push(
        Dispatch::new("linear_cross_entropy", "join_main")
            .define("JOIN", true)
            .read(layer.targets.binding)
            .read(parts)
            .write(losses)
            .write(lse.binding)
            .params(&Params { lse_offset4, lse_stride4, ..layer.params(0) })
            .workgroups(rows.div_ceil(64)),
    );
    dispatches.extend(reduce(losses, planned, rows, SUMS, Total::Mean { y: loss, weight: count }));
    Ok(dispatches)
}

pub(super) fn backward(op: &LinearCrossEntropyGrad, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
    let layer = Layer::new(&op.of, plan);
    let first = op.first_statistic();
    let (lse, count, dloss) = (&plan.inputs[first], &plan.inputs[first + 1], &plan.inputs[first + 2]);
    let (dx, dweight) = (&plan.outputs[0], &plan.outputs[1]);
    let (lse_offset4, lse_stride4) = lse.place4();
    let places = |params| Params {
        lse_offset4,
        lse_stride4,
        count_offset4: count.place4().0,
        dloss_offset4: dloss.place4().0,
        ..params
    };
    let sum = Operand::scratch(INPUT_GRADIENT, dx.planned, dx.shape, dx);
    let last = layer.groups.len() - 1;
    let mut dispatches = Vec::new();
    for group in 0..=last {
        let logits = layer.logits(group);
        dispatches.push(layer.logits_of(group)?);
        dispatches.push(
            Dispatch::new("linear_cross_entropy", "gradient_main")
                .define("GRADIENT", true)
                .write(logits.binding)
                .read(layer.targets.binding)
                .read(lse.binding)
                .read(count.binding)
                .read(dloss.binding)
                .params(&places(layer.params(group)))
                .workgroups((logits.shape.rows() * logits.channels4() as usize).div_ceil(256)),
        );
        // To and fro: what is written can't be read too.
        let (target, before) = if (last - group).is_multiple_of(2) { (dx, &sum) } else { (&sum, dx) };
        let weight = layer.rows(layer.weight, group);
        let product = Product { add: (group > 0).then_some(before), ..layer.product(&logits, &weight, target) };
        dispatches.push(product.dispatch(layer.capabilities)?);

        let dweight = layer.rows(dweight, group);
        let sums = Conv1dGradWeight { geometry: Geometry::pointwise(), weight: dweight.shape, bias: false };
        let elements = logits.planned.padded_len() / if logits.half { 2 } else { 1 };
        let inputs = [Operand { binding: Binding::Scratch { index: OUTER + LOGITS, elements }, ..logits }, *layer.x];
        let inner = GpuPlan { inputs: &inputs, outputs: &[dweight], capabilities: layer.capabilities };
        dispatches.extend(sums.gpu(&inner)?.into_iter().map(within));
        if let Some(dbias) = plan.outputs.get(2) {
            let dbias = layer.elements(dbias, group);
            let inner = GpuPlan { inputs: &inputs[..1], outputs: &[dbias], capabilities: layer.capabilities };
            dispatches.extend(SumTime { over_batch: true }.gpu(&inner)?.into_iter().map(within));
        }
    }
    Ok(dispatches)
}

/// The dispatch of an operator within this one, with scratch buffers of its own.
fn within(mut dispatch: Dispatch) -> Dispatch {
    for binding in &mut dispatch.bindings {
        if let Binding::Scratch { index, .. } = binding {
            *index = index.checked_sub(OUTER).unwrap_or(*index + INNER);
        }
    }
    dispatch
}
