//! Softmax cross-entropy with class ids as targets.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, ROW_TILE, Real, Shape,
    TensorId, cpu_reference, expect_kinds, for_row_tiles, shape_error, vector_kernel,
};
use crate::ops::reduce::{Total, reduce};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// The mean of `ln Σ_c exp(x_c) − x_target`, in nats, over the positions whose target is not [`Shape::MASKED`].
///
/// Inputs: logits `[batch, time, classes]`, targets `[batch, time]`. Outputs: the loss, a scalar (0 if every position is
/// masked); `ln Σ_c exp(x_c)` of each position `[batch, time, 1]`, 0 where masked; how many positions count, a scalar.
///
/// An id that is no class and not masked is the caller's mistake: it makes the loss NaN, and the position's gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftmaxCrossEntropy;

/// What [`softmax_cross_entropy`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossEntropy {
    /// The mean over the positions that count, in nats; a scalar.
    pub loss: TensorId,
    /// The logarithm of the softmax's denominator at each position, `[batch, time, 1]`; differentiable too.
    pub log_sum_exp: TensorId,
    /// How many positions count; a scalar without gradient.
    pub count: TensorId,
}

/// Appends the softmax cross-entropy of `logits` `[batch, time, classes]` and `targets` `[batch, time]`: the mean over the
/// positions whose target is not [`Shape::MASKED`], 0 if there is none. A target that is no class makes the loss NaN.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if batch or time differ, or if `logits` are ids or `targets` are not.
pub fn softmax_cross_entropy(graph: &mut Graph, logits: TensorId, targets: TensorId) -> Result<CrossEntropy> {
    let outputs = graph.push(SoftmaxCrossEntropy, &[logits, targets])?;
    Ok(CrossEntropy { loss: outputs[0], log_sum_exp: outputs[1], count: outputs[2] })
}

fn check_rows(op: &dyn Op, logits: Shape, targets: Shape) -> Result<()> {
    if (logits.batch, logits.time) == (targets.batch, targets.time) {
        return Ok(());
    }
    Err(shape_error(op, format!("logits {logits} and targets {targets} must have the same batch and time")))
}

/// Threads of a row: each then has about 4 loads of 4 classes, and all of them together enough to do.
pub(super) fn lanes(planned: Shape) -> u32 {
    let channels4 = planned.channels.div_ceil(4);
    let mut lanes = channels4.div_ceil(4).next_power_of_two().min(256);
    while lanes < channels4.min(256) && lanes * planned.rows() < 1 << 15 {
        lanes *= 2;
    }
    lanes as u32
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
    x_offset4: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    not_a_number: f32,
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Ids])?;
        check_rows(self, inputs[0], inputs[1])?;
        Ok(vec![Shape::scalar(), inputs[0].with_channels(1), Shape::scalar()])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let (dloss, dlse) = (gradient.of_output(0), gradient.of_output(1));
        if dloss.is_none() && dlse.is_none() {
            return Ok(());
        }
        let mut inputs = vec![gradient.input(0), gradient.input(1), gradient.output(1), gradient.output(2)];
        inputs.extend(dloss.into_iter().chain(dlse));
        let op = SoftmaxCrossEntropyGrad { loss: dloss.is_some(), log_sum_exp: dlse.is_some() };
        let dlogits = gradient.push_one(op, &inputs)?;
        gradient.give(0, dlogits);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, targets, lse) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[1]);
        let lanes = lanes(x.planned);
        let rows = x.shape.rows();
        let (x_offset4, x_stride4) = x.place4();
        let (lse_offset4, lse_stride4) = lse.place4();
        let params = Params {
            rows: rows as u32,
            classes: x.shape.channels as u32,
            x_offset4,
            x_stride4,
            lse_offset4,
            lse_stride4,
            not_a_number: f32::NAN,
        };
        let losses = Binding::Scratch { index: 0, elements: 2 * x.planned.rows() };
        let mut dispatches = vec![
            Dispatch::new("softmax_cross_entropy", "main")
                .constant("LANES", lanes)
                .read(x.binding)
                .read(targets.binding)
                .write(losses)
                .write(lse.binding)
                .params(&params)
                .workgroups(rows.div_ceil(256 / lanes as usize)),
        ];
        let total = Total::Mean { y: &plan.outputs[0], weight: &plan.outputs[2] };
        dispatches.extend(reduce(losses, x.planned.rows(), rows, 1, total));
        Ok(dispatches)
    }
}

/// Numbers that are folded side by side: lets the compiler use vectors without changing the order from call to call.
const LANES: usize = 16;

#[inline(always)]
fn fold_lanes<T: Real>(values: &[T], start: T, fold: impl Fn(T, T) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = fold(*lane, value);
        }
    }
    let rest = rest.iter().fold(start, |folded, &value| fold(folded, value));
    lanes.into_iter().fold(rest, join)
}

vector_kernel! {
/// The largest value and `Σ exp(x − largest)`.
pub(super) fn softmax_denominator<'a, T: Real>(logits: &'a [T]) -> (T, T) {
    let largest = fold_lanes(logits, T::of(-3e38), T::larger, T::larger);
    (largest, fold_lanes(logits, T::ZERO, |sum, x| sum + (x - largest).exp(), |a, b| a + b))
}
}

vector_kernel! {
/// `factor · exp(x − log_sum_exp)` in place of the logits `x` of one row.
pub(super) fn softmax_gradient_row<'a, T: Real>(x: &'a mut [T], log_sum_exp: T, factor: T) -> () {
    for x in x {
        *x = factor * (*x - log_sum_exp).exp();
    }
}
}

impl SoftmaxCrossEntropy {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, targets) = (&run.inputs[0], run.inputs[1].ids);
        let classes = x.shape.channels;
        let [loss, lse, count] = run.outputs.as_mut_slice() else {
            return Err(shape_error(self, "takes three outputs"));
        };
        let (rows, stride, padded) = (x.shape.rows(), lse.stride, lse.shape.stride());
        let end = lse.data.len().min(rows * stride);
        let tile = |(tile, chunk): (usize, &mut [T])| {
            let (mut sum, mut counted) = (T::ZERO, 0);
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = tile * ROW_TILE + row;
                values[..padded].fill(T::ZERO);
                let target = targets[row];
                if target == Shape::MASKED {
                    continue;
                }
                counted += 1;
                let logits = &x.row(row)[..classes];
                let (largest, denominator) = softmax_denominator(logits);
                let tail = denominator.ln();
                // Not the difference to the sum: that loses the digits of a small loss of large logits.
                (values[0], sum) = match logits.get(target as usize) {
                    Some(&logit) => (largest + tail, sum + ((largest - logit) + tail)),
                    None => (T::of(f64::NAN), T::of(f64::NAN)),
                };
            }
            (sum, counted)
        };
        let tiles: Vec<(T, usize)> = lse.data[..end].par_chunks_mut(ROW_TILE * stride).enumerate().map(tile).collect();
        let counted: usize = tiles.iter().map(|(_, counted)| counted).sum();
        let sum = tiles.into_iter().fold(T::ZERO, |sum, (tile, _)| sum + tile);
        write_scalar(loss.row(0), sum / T::of(counted.max(1) as f64));
        write_scalar(count.row(0), T::of(counted as f64));
        Ok(())
    }
}

/// A scalar and its padding.
pub(super) fn write_scalar<T: Real>(row: &mut [T], value: T) {
    row.fill(T::ZERO);
    row[0] = value;
}

/// `dx = dloss / count · (softmax − onehot) + dlse · softmax`, 0 where masked.
///
/// Inputs: logits, targets, log-sum-exp, count, and as the fields say `dloss` and `dlse`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SoftmaxCrossEntropyGrad {
    pub loss: bool,
    pub log_sum_exp: bool,
}

impl SoftmaxCrossEntropyGrad {
    /// Which inputs `dloss` and `dlse` are.
    fn places(&self) -> (Option<usize>, Option<usize>) {
        (self.loss.then_some(4), self.log_sum_exp.then_some(4 + usize::from(self.loss)))
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (inputs, dx) = (&run.inputs, &mut run.outputs[0]);
        let (x, targets, lse) = (&inputs[0], inputs[1].ids, &inputs[2]);
        let (dloss, dlse) = self.places();
        let scale = dloss.map(|at| inputs[at].scalar() / inputs[3].scalar().larger(T::ONE));
        let (rows, stride, padded, classes) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dx.shape.channels);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                values[..padded].fill(T::ZERO);
                let target = targets[row];
                if target == Shape::MASKED {
                    continue;
                }
                let dlse = dlse.map_or(T::ZERO, |at| inputs[at].row(row)[0]);
                let factor = scale.unwrap_or(T::ZERO) + dlse;
                let log_sum_exp = lse.row(row)[0];
                values[..classes].copy_from_slice(&x.row(row)[..classes]);
                softmax_gradient_row(&mut values[..classes], log_sum_exp, factor);
                if let (Some(scale), Some(dx)) = (scale, values[..classes].get_mut(target as usize)) {
                    *dx -= scale;
                }
            }
        });
        Ok(())
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct GradParams {
    rows: u32,
    classes: u32,
    x_offset4: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    dx_offset4: u32,
    dx_stride4: u32,
    count_offset4: u32,
    dloss_offset4: u32,
    dlse_offset4: u32,
    dlse_stride4: u32,
}

impl Op for SoftmaxCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let mut kinds = vec![Kind::Real, Kind::Ids, Kind::Real, Kind::Real];
        kinds.resize(4 + usize::from(self.loss) + usize::from(self.log_sum_exp), Kind::Real);
        expect_kinds(self, inputs, &kinds)?;
        check_rows(self, inputs[0], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(2)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, targets, lse, count] = [0, 1, 2, 3].map(|at| &plan.inputs[at]);
        let (dloss, dlse) = self.places();
        let or_count = |at: Option<usize>| at.map_or(count, |at| &plan.inputs[at]);
        let (dloss, dlse, dx) = (or_count(dloss), or_count(dlse), &plan.outputs[0]);
        let (x_offset4, x_stride4) = x.place4();
        let (lse_offset4, lse_stride4) = lse.place4();
        let (dx_offset4, dx_stride4) = dx.place4();
        let (dlse_offset4, dlse_stride4) = dlse.place4();
        let params = GradParams {
            rows: x.shape.rows() as u32,
            classes: x.shape.channels as u32,
            x_offset4,
            x_stride4,
            lse_offset4,
            lse_stride4,
            dx_offset4,
            dx_stride4,
            count_offset4: count.place4().0,
            dloss_offset4: dloss.place4().0,
            dlse_offset4,
            dlse_stride4,
        };
        let elements4 = x.shape.rows() * Operand::channels4(x) as usize;
        Ok(vec![
            Dispatch::new("softmax_cross_entropy_grad", "main")
                .define("DLOSS", self.loss)
                .define("DLSE", self.log_sum_exp)
                .read(x.binding)
                .read(targets.binding)
                .read(lse.binding)
                .read(count.binding)
                .write(dx.binding)
                .read(dloss.binding)
                .read(dlse.binding)
                .params(&params)
                .workgroups(elements4.div_ceil(256)),
        ])
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let classes = [1, 2, 3, 5, 16, 33, 64, 256, 300, 1030, 4500];
    let classes = classes[random.below(classes.len() as u32) as usize];
    let shape = random_shape(random).with_channels(classes);
    let scale = [1.0, 3.0, 20.0][random.below(3) as usize];
    let targets = CaseInput::Ids { shape: Shape::ids(shape.batch, shape.time), classes, masked: random.below(3) > 0 };
    Case::new(SoftmaxCrossEntropy, vec![CaseInput::scaled(shape, scale), targets])
}
