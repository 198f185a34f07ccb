//! Losses that are sums over elements: squared and absolute error, binary cross-entropy.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, ROW_TILE, Real, Shape, TensorId,
    cpu_reference, expect_kinds, expect_same, for_row_tiles,
};
use crate::ops::norm_sums::is_there;
use crate::ops::reduce::{Total, reduce};
use crate::ops::softmax_cross_entropy::write_scalar;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// How the elements of a loss become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Divided by their number, `batch · time · channels`.
    #[default]
    Mean,
    /// Added up.
    Sum,
    /// Added up over channels, and divided by the number of positions, `batch · time`.
    MeanOfPositions,
}

impl Reduction {
    fn factor(self, shape: Shape) -> f64 {
        match self {
            Self::Mean => 1.0 / shape.len() as f64,
            Self::Sum => 1.0,
            Self::MeanOfPositions => 1.0 / shape.rows() as f64,
        }
    }

    /// What a position adds to the number that the sum is divided by.
    fn weight(self, shape: Shape) -> usize {
        match self {
            Self::Mean => shape.channels,
            Self::Sum => 0,
            Self::MeanOfPositions => 1,
        }
    }
}

/// What is taken of prediction `x` and target `y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    Squared,
    Absolute,
    /// `−y ln σ(x) − (1 − y) ln(1 − σ(x))`.
    BinaryCrossEntropy,
}

impl Distance {
    #[inline(always)]
    fn of<T: Real>(self, x: T, y: T) -> T {
        let difference = x - y;
        match self {
            Self::Squared => difference * difference,
            Self::Absolute => difference.abs(),
            // Without an exponential that overflows.
            Self::BinaryCrossEntropy => {
                let positive = if x > T::ZERO { x } else { T::ZERO };
                positive - x * y + (T::ONE + (-x.abs()).exp()).ln()
            }
        }
    }

    /// The derivative by `x`; for the absolute error 0 at 0.
    #[inline(always)]
    fn slope<T: Real>(self, x: T, y: T) -> T {
        let difference = x - y;
        match self {
            Self::Squared => difference + difference,
            Self::Absolute => {
                let positive = if difference > T::ZERO { T::ONE } else { T::ZERO };
                if difference < T::ZERO { -T::ONE } else { positive }
            }
            Self::BinaryCrossEntropy => x.sigmoid() - y,
        }
    }

    /// The derivative by `y`.
    #[inline(always)]
    fn slope_of_target<T: Real>(self, x: T, y: T) -> T {
        match self {
            Self::BinaryCrossEntropy => -x,
            _ => -self.slope(x, y),
        }
    }

    /// Tells the kernel which one it is.
    fn define(self, dispatch: Dispatch) -> Dispatch {
        dispatch.define("SQUARED", self == Self::Squared).define("CROSS_ENTROPY", self == Self::BinaryCrossEntropy)
    }
}

/// The sum over all elements of `(x − y)²`, `|x − y|` or the binary cross-entropy, or a mean.
///
/// Inputs: `x`, `y` of one shape, and where there are ids `[batch, 1]` with the lengths of the sequences, beyond which nothing counts.
/// Outputs: a scalar, and where there are lengths the number that the sum was divided by, 0 for a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ElementwiseLoss {
    pub distance: Distance,
    pub reduction: Reduction,
    pub lengths: bool,
}

/// Appends the squared error of `prediction`, `Σ (prediction − target)²` or its mean. Both may need a gradient.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ.
pub fn mse(graph: &mut Graph, prediction: TensorId, target: TensorId, reduction: Reduction) -> Result<TensorId> {
    graph.push_one(ElementwiseLoss { distance: Distance::Squared, reduction, lengths: false }, &[prediction, target])
}

/// Appends the absolute error of `prediction`, `Σ |prediction − target|` or its mean; its slope is 0 where they are equal.
/// Both may need a gradient.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ.
pub fn mae(graph: &mut Graph, prediction: TensorId, target: TensorId, reduction: Reduction) -> Result<TensorId> {
    graph.push_one(ElementwiseLoss { distance: Distance::Absolute, reduction, lengths: false }, &[prediction, target])
}

/// Appends the binary cross-entropy, in nats, of `logits` `[batch, time, channels]` and targets from 0 to 1 of the same shape:
/// `−y ln σ(x) − (1 − y) ln(1 − σ(x))`. With [`Reduction::MeanOfPositions`] it is the negative log-likelihood of a frame of
/// independent channels, such as the keys of a piano. Both may need a gradient.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ.
pub fn binary_cross_entropy(
    graph: &mut Graph,
    logits: TensorId,
    targets: TensorId,
    reduction: Reduction,
) -> Result<TensorId> {
    let op = ElementwiseLoss { distance: Distance::BinaryCrossEntropy, reduction, lengths: false };
    graph.push_one(op, &[logits, targets])
}

/// As [`binary_cross_entropy`], over the positions that there are by `lengths`, ids `[batch, 1]`; 0 where there are none.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn binary_cross_entropy_with_lengths(
    graph: &mut Graph,
    logits: TensorId,
    targets: TensorId,
    lengths: TensorId,
    reduction: Reduction,
) -> Result<TensorId> {
    let op = ElementwiseLoss { distance: Distance::BinaryCrossEntropy, reduction, lengths: true };
    Ok(graph.push(op, &[logits, targets, lengths])?[0])
}

/// Groups of 4 channels that a workgroup sums.
const CHUNK4: usize = 4096;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    channels: u32,
    chunk4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    d_offset4: u32,
    d_stride4: u32,
    dloss_offset4: u32,
    factor: f32,
    time: u32,
    weight: f32,
    count_offset4: u32,
}

fn params(plan: &GpuPlan<'_>) -> Params {
    let (x, y) = (&plan.inputs[0], &plan.inputs[1]);
    let (x_offset4, x_stride4) = x.place4();
    let (y_offset4, y_stride4) = y.place4();
    Params {
        rows: x.shape.rows() as u32,
        channels: x.shape.channels as u32,
        chunk4: CHUNK4 as u32,
        x_offset4,
        x_stride4,
        y_offset4,
        y_stride4,
        time: x.shape.time as u32,
        ..Params::zeroed()
    }
}

/// Checks `x`, `y` and the lengths where there are.
fn check(op: &dyn Op, [x, y]: [Shape; 2], lengths: Option<&Shape>) -> Result<()> {
    expect_same(op, x, y)?;
    lengths.map_or(Ok(()), |&lengths| expect_same(op, lengths, Shape::ids(x.batch, 1)))
}

impl Op for ElementwiseLoss {
    fn name(&self) -> &'static str {
        "elementwise_loss"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let kinds = [Kind::Real, Kind::Real, Kind::Ids];
        expect_kinds(self, inputs, &kinds[..2 + usize::from(self.lengths)])?;
        check(self, [inputs[0], inputs[1]], inputs.get(2))?;
        Ok(vec![Shape::scalar(); 1 + usize::from(self.lengths)])
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dloss) = gradient.of_output(0) else { return Ok(()) };
        let mut inputs = vec![gradient.input(0), gradient.input(1), dloss];
        if self.lengths {
            inputs.extend([gradient.output(1), gradient.input(2)]);
        }
        for (position, of_target) in [false, true].into_iter().enumerate() {
            if gradient.wanted(position) {
                let d = gradient.push_one(ElementwiseLossGrad { loss: *self, of_target }, &inputs)?;
                gradient.give(position, d);
            }
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.inputs[1]);
        let (planned, count) = (x.planned.padded_len() / 4, x.shape.padded_len() / 4);
        let (planned, count) = (planned.div_ceil(CHUNK4), count.div_ceil(CHUNK4));
        let sums = Binding::Scratch { index: 0, elements: 2 * planned };
        let dispatch = self
            .distance
            .define(Dispatch::new("elementwise_loss", "main").define("SUMS", true).define("LENGTHS", self.lengths))
            .read(x.binding)
            .read(y.binding)
            .write(sums)
            .params(&Params { workgroups: count as u32, weight: self.reduction.weight(x.shape) as f32, ..params(plan) })
            .workgroups(count);
        let (dispatch, total) = match plan.inputs.get(2) {
            Some(lengths) => {
                (dispatch.read(lengths.binding), Total::Mean { y: &plan.outputs[0], weight: &plan.outputs[1] })
            }
            None => {
                let factor = self.reduction.factor(x.shape) as f32;
                (dispatch, Total::Scaled { factor, y: &plan.outputs[0] })
            }
        };
        Ok(std::iter::once(dispatch).chain(reduce(sums, planned, count, 1, total)).collect())
    }
}

impl ElementwiseLoss {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y, distance) = (&run.inputs[0], &run.inputs[1], self.distance);
        let (rows, channels, time) = (x.shape.rows(), x.shape.channels, x.shape.time);
        let lengths = run.inputs.get(2);
        let tiles: Vec<T> = (0..rows.div_ceil(ROW_TILE))
            .into_par_iter()
            .map(|tile| {
                // Channels apart, then added: loops over channels can use vectors.
                let mut sums = vec![T::ZERO; channels];
                let rows = tile * ROW_TILE..rows.min((tile + 1) * ROW_TILE);
                for row in rows.filter(|&row| is_there(lengths, time, row)) {
                    for ((sum, &x), &y) in sums.iter_mut().zip(x.row(row)).zip(y.row(row)) {
                        *sum += distance.of(x, y);
                    }
                }
                sums.into_iter().sum()
            })
            .collect();
        let sum: T = tiles.into_iter().sum();
        let factor = match lengths {
            None => self.reduction.factor(x.shape),
            Some(lengths) => {
                let positions: usize = lengths.ids.iter().map(|&length| time.min(length as usize)).sum();
                let count = positions * self.reduction.weight(x.shape);
                write_scalar(run.outputs[1].row(0), T::of(count as f64));
                1.0 / count.max(1) as f64
            }
        };
        write_scalar(run.outputs[0].row(0), sum * T::of(factor));
        Ok(())
    }
}

/// The gradient of `x` or of the target `y`. Inputs: `x`, `y`, `dloss`, and where there are lengths what the sum was divided by, and they.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ElementwiseLossGrad {
    pub loss: ElementwiseLoss,
    pub of_target: bool,
}

impl Op for ElementwiseLossGrad {
    fn name(&self) -> &'static str {
        "elementwise_loss_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let kinds = [Kind::Real, Kind::Real, Kind::Real, Kind::Real, Kind::Ids];
        expect_kinds(self, inputs, &kinds[..if self.loss.lengths { 5 } else { 3 }])?;
        check(self, [inputs[0], inputs[1]], inputs.get(4))?;
        inputs[2..].iter().take(2).try_for_each(|&scalar| expect_same(self, scalar, Shape::scalar()))?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(2)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y, dloss, d) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2], &plan.outputs[0]);
        let (d_offset4, d_stride4) = d.place4();
        let params = Params {
            d_offset4,
            d_stride4,
            dloss_offset4: dloss.place4().0,
            factor: if self.loss.lengths { 1.0 } else { self.loss.reduction.factor(x.shape) as f32 },
            count_offset4: plan.inputs.get(3).map_or(0, |count| count.place4().0),
            ..params(plan)
        };
        let mut dispatch = self
            .loss
            .distance
            .define(Dispatch::new("elementwise_loss", "main").define("TARGET", self.of_target))
            .define("LENGTHS", self.loss.lengths)
            .read(x.binding)
            .read(y.binding)
            .read(dloss.binding)
            .write(d.binding);
        for operand in plan.inputs.iter().skip(3) {
            dispatch = dispatch.read(operand.binding);
        }
        Ok(vec![dispatch.params(&params).workgroups((x.shape.padded_len() / 4).div_ceil(256))])
    }
}

impl ElementwiseLossGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y, d) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (lengths, time) = (run.inputs.get(4), x.shape.time);
        let factor = match run.inputs.get(3) {
            Some(count) => T::ONE / count.scalar().larger(T::ONE),
            None => T::of(self.loss.reduction.factor(x.shape)),
        };
        let factor = factor * run.inputs[2].scalar();
        let (rows, stride, padded, distance) = (d.shape.rows(), d.stride, d.shape.stride(), self.loss.distance);
        let channels = d.shape.channels;
        for_row_tiles(d.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                if !is_there(lengths, time, row) {
                    values[..padded].fill(T::ZERO);
                    continue;
                }
                for ((d, &x), &y) in values[..channels].iter_mut().zip(x.row(row)).zip(y.row(row)) {
                    let slope = if self.of_target { distance.slope_of_target(x, y) } else { distance.slope(x, y) };
                    *d = factor * slope;
                }
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let distances = [Distance::Squared, Distance::Absolute, Distance::BinaryCrossEntropy];
    let distance = distances[random.below(3) as usize];
    let reduction = [Reduction::Mean, Reduction::Sum, Reduction::MeanOfPositions][random.below(3) as usize];
    let (shape, lengths) = (random_shape(random), random.below(2) == 0);
    let mut inputs = vec![CaseInput::real(shape); 2];
    if lengths {
        inputs.push(CaseInput::Ids { shape: Shape::ids(shape.batch, 1), classes: shape.time + 2, masked: false });
    }
    Case::new(ElementwiseLoss { distance, reduction, lengths }, inputs)
}
