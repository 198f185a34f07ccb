//! The gated activation unit of PixelCNN and WaveNet: `z = tanh(a) · σ(b)`.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, View, cpu_reference,
    expect_kinds, for_row_tiles, shape_error, vector_kernel,
};
use crate::ops::sum_time::SumTime;
use crate::ops::{Case, CaseInput};
use crate::random::Random;

/// `z = tanh(a) · σ(b)` with `[a | b] = x + condition`, the halves of the channels.
///
/// Inputs: `x` `[batch, time, 2c]` and, where `conditioned`, a condition `[batch, time or 1, 2c]`, of which one position
/// serves the whole sequence. Output: `[batch, time, c]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// Whether there is a condition.
    pub conditioned: bool,
}

/// Appends a gate of `x`, with a condition added before if there is one.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the channels are odd or the condition does not fit.
pub fn gate(graph: &mut Graph, x: TensorId, condition: Option<TensorId>) -> Result<TensorId> {
    let inputs: Vec<TensorId> = [x].into_iter().chain(condition).collect();
    graph.push_one(Gate { conditioned: condition.is_some() }, &inputs)
}

/// Whether `condition` can be added to `x`.
pub(crate) fn check_condition(op: &dyn Op, x: Shape, condition: Shape) -> Result<()> {
    let time = condition.time == x.time || condition.time == 1;
    if time && condition.batch == x.batch && condition.channels == x.channels {
        return Ok(());
    }
    Err(shape_error(op, format!("condition {condition} can't be added to {x}")))
}

/// The row of a condition that belongs to a row of `x`.
#[inline(always)]
pub(crate) fn condition_row(condition: &Shape, time: usize, row: usize) -> usize {
    if condition.time == 1 { row / time } else { row }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    condition_offset: u32,
    condition_stride: u32,
    condition_time: u32,
    dz_offset: u32,
    dz_stride: u32,
    out_offset4: u32,
    out_stride4: u32,
}

/// The gate of `x`, or where there is `dz` its gradient, in `out`.
pub(crate) fn dispatch(x: &Operand, condition: Option<&Operand>, dz: Option<&Operand>, out: &Operand) -> Dispatch {
    let place = |operand: Option<&Operand>| operand.map_or((0, 0), |o| (o.offset as u32, o.stride as u32));
    let (x_offset, x_stride) = place(Some(x));
    let (condition_offset, condition_stride) = place(condition);
    let (dz_offset, dz_stride) = place(dz);
    let (out_offset4, out_stride4) = out.place4();
    let params = Params {
        rows: x.shape.rows() as u32,
        time: x.shape.time as u32,
        channels: (x.shape.channels / 2) as u32,
        x_offset,
        x_stride,
        condition_offset,
        condition_stride,
        condition_time: condition.map_or(0, |c| c.shape.time as u32),
        dz_offset,
        dz_stride,
        out_offset4,
        out_stride4,
    };
    let elements4 = out.shape.rows() * out.shape.stride() / 4;
    Dispatch::new("gate", "main")
        .define("CONDITION", condition.is_some())
        .define("GRADIENT", dz.is_some())
        .read(x.binding)
        .write(out.binding)
        .read(condition.unwrap_or(x).binding)
        .read(dz.unwrap_or(x).binding)
        .params(&params)
        .workgroups(elements4.div_ceil(256))
}

impl Op for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 1 + usize::from(self.conditioned)])?;
        let x = inputs[0];
        if !x.channels.is_multiple_of(2) {
            return Err(shape_error(self, format!("the channels of {x} are not two halves")));
        }
        if let Some(&condition) = inputs.get(1) {
            check_condition(self, x, condition)?;
        }
        Ok(vec![x.with_channels(x.channels / 2)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dz) = gradient.of_output(0) else { return Ok(()) };
        let inputs: Vec<TensorId> = gradient.inputs().iter().copied().chain([dz]).collect();
        let dx = gradient.push_one(GateGrad { conditioned: self.conditioned }, &inputs)?;
        gradient.give(0, dx);
        if self.conditioned && gradient.wanted(1) {
            give_condition(gradient, 1, dx)?;
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(&plan.inputs[0], plan.inputs.get(1), None, &plan.outputs[0])])
    }
}

/// Gives a condition its gradient: that of what it was added to, summed over time if one position serves all.
pub(crate) fn give_condition(gradient: &mut Gradient<'_>, position: usize, dx: TensorId) -> Result<()> {
    let condition = gradient.shape(gradient.input(position));
    let sum = if condition.time == gradient.shape(dx).time {
        dx
    } else {
        gradient.push_one(SumTime { over_batch: false }, &[dx])?
    };
    gradient.give(position, sum);
    Ok(())
}

/// `x + condition` of a row, all channels.
pub(crate) fn conditioned_row<T: Real>(x: &View<'_, T>, condition: Option<&View<'_, T>>, row: usize, sum: &mut [T]) {
    sum.copy_from_slice(&x.row(row)[..sum.len()]);
    if let Some(condition) = condition {
        let from = condition_row(&condition.shape, x.shape.time, row);
        for (sum, &value) in sum.iter_mut().zip(condition.row(from)) {
            *sum += value;
        }
    }
}

impl Gate {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, condition, z) = (&run.inputs[0], run.inputs.get(1), &mut run.outputs[0]);
        let (rows, stride, channels, padded) = (z.shape.rows(), z.stride, z.shape.channels, z.shape.stride());
        for_row_tiles(z.data, stride, rows, |first, chunk| {
            let mut sum = vec![T::ZERO; 2 * channels];
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                conditioned_row(x, condition, first + row, &mut sum);
                gate_row(&sum, &mut values[..channels]);
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

/// The gradient of [`Gate`] by `x + condition`. Inputs: `x`, the condition where there is one, `dz`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GateGrad {
    pub conditioned: bool,
}

impl Op for GateGrad {
    fn name(&self) -> &'static str {
        "gate_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 2 + usize::from(self.conditioned)])?;
        let (x, dz) = (inputs[0], inputs[inputs.len() - 1]);
        if x.channels != 2 * dz.channels || x.rows() != dz.rows() {
            return Err(shape_error(self, format!("gradient {dz} does not fit {x}")));
        }
        if self.conditioned {
            check_condition(self, x, inputs[1])?;
        }
        Ok(vec![x])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let condition = if self.conditioned { plan.inputs.get(1) } else { None };
        Ok(vec![dispatch(&plan.inputs[0], condition, plan.inputs.last(), &plan.outputs[0])])
    }
}

impl GateGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let condition = if self.conditioned { run.inputs.get(1) } else { None };
        let (x, dz, dx) = (&run.inputs[0], &run.inputs[run.inputs.len() - 1], &mut run.outputs[0]);
        let (rows, stride, padded) = (dx.shape.rows(), dx.stride, dx.shape.stride());
        let channels = dz.shape.channels;
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            let mut sum = vec![T::ZERO; 2 * channels];
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                conditioned_row(x, condition, first + row, &mut sum);
                gate_gradient_row(&sum, &dz.row(first + row)[..channels], &mut values[..2 * channels]);
                values[2 * channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

vector_kernel! {
/// `z = tanh(a) · σ(b)` of one row `[a | b]`.
pub(crate) fn gate_row<'a, T: Real>(pre: &'a [T], z: &'a mut [T]) -> () {
    gate_channels(pre, z);
}
}

vector_kernel! {
/// [`gate_row`] of rows of `channels` channels, `pre_stride` and `z_stride` apart.
pub(crate) fn gate_rows<'a, T: Real>(
    pre: &'a [T],
    pre_stride: usize,
    channels: usize,
    z: &'a mut [T],
    z_stride: usize,
) -> () {
    for (pre, z) in pre.chunks(pre_stride).zip(z.chunks_mut(z_stride)) {
        gate_channels(&pre[..2 * channels], &mut z[..channels]);
    }
}
}

vector_kernel! {
/// `[da | db]` from `[a | b]` and `dz` of `channels` channels, dense rows; the others' are `pre_stride` and `out_stride`
/// apart.
pub(crate) fn gate_gradient_rows<'a, T: Real>(
    pre: &'a [T],
    pre_stride: usize,
    dz: &'a [T],
    channels: usize,
    out: &'a mut [T],
    out_stride: usize,
) -> () {
    for ((pre, dz), out) in pre.chunks(pre_stride).zip(dz.chunks_exact(channels)).zip(out.chunks_mut(out_stride)) {
        gate_gradient_channels(&pre[..2 * channels], dz, &mut out[..2 * channels]);
    }
}
}

vector_kernel! {
/// `[da | db]` of one row from `[a | b]` and `dz`.
pub(crate) fn gate_gradient_row<'a, T: Real>(pre: &'a [T], dz: &'a [T], out: &'a mut [T]) -> () {
    gate_gradient_channels(pre, dz, out);
}
}

/// Channels that are worked on side by side, so that the compiler uses vectors.
const LANES: usize = 16;

#[inline(always)]
fn gate_channels<T: Real>(pre: &[T], z: &mut [T]) {
    let (a, b) = pre.split_at(z.len());
    let ((a, a_rest), (b, b_rest), (z, z_rest)) =
        (a.as_chunks::<LANES>(), b.as_chunks::<LANES>(), z.as_chunks_mut::<LANES>());
    for ((z, a), b) in z.iter_mut().zip(a).zip(b) {
        *z = std::array::from_fn(|lane| a[lane].tanh() * b[lane].sigmoid());
    }
    for ((z, &a), &b) in z_rest.iter_mut().zip(a_rest).zip(b_rest) {
        *z = a.tanh() * b.sigmoid();
    }
}

#[inline(always)]
fn gate_gradient_channels<T: Real>(pre: &[T], dz: &[T], out: &mut [T]) {
    let (a, b) = pre.split_at(dz.len());
    let (da, db) = out.split_at_mut(dz.len());
    let ((a, a_rest), (b, b_rest), (dz, dz_rest)) =
        (a.as_chunks::<LANES>(), b.as_chunks::<LANES>(), dz.as_chunks::<LANES>());
    let ((da, da_rest), (db, db_rest)) = (da.as_chunks_mut::<LANES>(), db.as_chunks_mut::<LANES>());
    for ((((da, db), a), b), dz) in da.iter_mut().zip(db).zip(a).zip(b).zip(dz) {
        let (mut new_a, mut new_b) = (*dz, *dz);
        for lane in 0..LANES {
            (new_a[lane], new_b[lane]) = gate_gradient(a[lane], b[lane], dz[lane]);
        }
        (*da, *db) = (new_a, new_b);
    }
    for ((((da, db), &a), &b), &dz) in da_rest.iter_mut().zip(db_rest).zip(a_rest).zip(b_rest).zip(dz_rest) {
        (*da, *db) = gate_gradient(a, b, dz);
    }
}

#[inline(always)]
fn gate_gradient<T: Real>(a: T, b: T, dz: T) -> (T, T) {
    let (t, s) = (a.tanh(), b.sigmoid());
    (dz * s * (T::ONE - t * t), dz * t * s * (T::ONE - s))
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = crate::ops::random_shape(random);
    let shape = shape.with_channels(2 * shape.channels);
    let mut inputs = vec![CaseInput::real(shape)];
    match random.below(3) {
        0 => inputs.push(CaseInput::real(shape)),
        1 => inputs.push(CaseInput::real(shape.with_time(1))),
        _ => {}
    }
    Case::new(Gate { conditioned: inputs.len() > 1 }, inputs)
}
