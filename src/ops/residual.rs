//! The end of a residual block: the sum of what the block made and what it was given, and an activation.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, View,
    cpu_reference, expect_kinds, for_row_tiles, shape_error,
};
use crate::ops::{Activation, ActivationGrad, Case, CaseInput, random_shape};
use crate::random::Random;

/// `y[j] = act(h[j] + x[first + j · stride])`, the positions of `x` counted from its end: `first = (time − 1) mod stride`.
///
/// Inputs: `h` `[batch, ⌈time / stride⌉, channels]`, `x` `[batch, time, channels]`. Output: shaped as `h`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// Positions of `x` from one that is added to the next.
    pub stride: usize,
    /// What is applied to the sum; a function whose derivative follows from its value.
    pub activation: Activation,
}

/// Appends the sum of `h` and every `stride`-th position of `x`, counted from the end, and an activation of it. With a stride of 1
/// it is the end of an ordinary residual block (He et al. 2016).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `h` has not as many positions as are taken of `x`, or other channels.
pub fn residual(
    graph: &mut Graph,
    h: TensorId,
    x: TensorId,
    stride: usize,
    activation: Activation,
) -> Result<TensorId> {
    graph.push_one(Residual { stride, activation }, &[h, x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels: u32,
    short: u32,
    long: u32,
    stride: u32,
    slope: f32,
    h_offset4: u32,
    h_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

/// Positions that are taken, and the first of them.
fn taken(time: usize, stride: usize) -> (usize, usize) {
    ((time - 1) / stride + 1, (time - 1) % stride)
}

fn dispatch(h: &Operand, x: &Operand, y: &Operand, long: usize, stride: usize, activation: Activation) -> Dispatch {
    let ((h_offset4, h_stride4), (x_offset4, x_stride4)) = (h.place4(), x.place4());
    let (y_offset4, y_stride4) = y.place4();
    let params = Params {
        rows: y.shape.rows() as u32,
        channels: y.shape.channels as u32,
        short: taken(long, stride).0 as u32,
        long: long as u32,
        stride: stride as u32,
        slope: activation.slope(),
        h_offset4,
        h_stride4,
        x_offset4,
        x_stride4,
        y_offset4,
        y_stride4,
    };
    Dispatch::new("residual", "main")
        .constant("ACTIVATION", activation.code())
        .read(h.binding)
        .write(y.binding)
        .params(&params)
        .workgroups((y.shape.padded_len() / 4).div_ceil(256))
}

impl Op for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (h, x) = (inputs[0], inputs[1]);
        if self.stride == 0 || x.time == 0 || h != x.with_time(taken(x.time, self.stride).0) {
            let stride = self.stride;
            return Err(shape_error(
                self,
                format!("{h} and every position of {x} at a stride of {stride} don't add up"),
            ));
        }
        Ok(vec![h])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(mut dy) = gradient.of_output(0) else { return Ok(()) };
        if self.activation != Activation::Identity {
            let y = gradient.output(0);
            dy = gradient.push_one(ActivationGrad { activation: self.activation }, &[y, dy])?;
        }
        if gradient.wanted(0) {
            gradient.give(0, dy);
        }
        if gradient.wanted(1) {
            let dx = match self.stride {
                1 => dy,
                stride => gradient.push_one(Spread { stride }, &[dy, gradient.input(1)])?,
            };
            gradient.give(1, dx);
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (h, x, y) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        Ok(vec![dispatch(h, x, y, x.shape.time, self.stride, self.activation).read(x.binding)])
    }
}

/// The row of `x` for a row of `h`.
fn source<T: Real>(x: &View<'_, T>, stride: usize, row: usize) -> usize {
    let (short, first) = taken(x.shape.time, stride);
    row / short * x.shape.time + first + row % short * stride
}

impl Residual {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (h, x, y) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (rows, stride, channels, padded) = (y.shape.rows(), y.stride, y.shape.channels, y.shape.stride());
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (h, x) = (h.row(first + row), x.row(source(x, self.stride, first + row)));
                for ((y, &h), &x) in values[..padded].iter_mut().zip(h).zip(x) {
                    *y = h + x;
                }
                self.activation.apply(&mut values[..channels]);
            }
        });
        Ok(())
    }
}

/// `dx[first + j · stride] = dy[j]`, 0 between. Inputs: `dy`, and `x` for its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    stride: usize,
}

impl Op for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (dy, x) = (inputs[0], inputs[1]);
        if dy != x.with_time(taken(x.time, self.stride).0) {
            return Err(shape_error(self, format!("gradient {dy} is not that of every {}-th of {x}", self.stride)));
        }
        Ok(vec![x])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dy, x, dx) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        let dispatch = dispatch(dy, dy, dx, x.shape.time, self.stride, Activation::Identity);
        Ok(vec![dispatch.define("SPREAD", true)])
    }
}

impl Spread {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, dx) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, row_stride, padded, time) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dx.shape.time);
        let (short, start) = taken(time, self.stride);
        for_row_tiles(dx.data, row_stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(row_stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                match at.checked_sub(start).filter(|from| from.is_multiple_of(self.stride)) {
                    Some(from) => {
                        values[..padded].copy_from_slice(dy.row(sequence * short + from / self.stride));
                    }
                    None => values[..padded].fill(T::ZERO),
                }
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let x = random_shape(random);
    let stride = 1 + random.below(4) as usize;
    let h = x.with_time(taken(x.time, stride).0);
    let activation = Activation::ALL[random.below(Activation::ALL.len() as u32) as usize];
    Case::new(Residual { stride, activation }, vec![CaseInput::real(h), CaseInput::real(x)])
}
