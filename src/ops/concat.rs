//! Concatenation of channels and slices of them. The planner has both for nothing where channels fall on multiples of 4.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    Aliasing, CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference,
    expect_kinds, for_row_tiles, shape_error,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// The inputs' channels side by side: `parts` tensors `[batch, time, c_i]` to `[batch, time, Σ c_i]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concat {
    /// How many.
    pub parts: usize,
}

/// The channels from `start` on, `count` of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// First channel.
    pub start: usize,
    /// How many.
    pub count: usize,
}

/// Appends the concatenation of the channels of `parts`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if there are none or they differ in batch or time.
pub fn concat(graph: &mut Graph, parts: &[TensorId]) -> Result<TensorId> {
    graph.push_one(Concat { parts: parts.len() }, parts)
}

/// Appends the slice of channels `start..start + count` of `x`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` has not so many.
pub fn slice(graph: &mut Graph, x: TensorId, start: usize, count: usize) -> Result<TensorId> {
    graph.push_one(Slice { start, count }, &[x])
}

/// A copy of channels: `out[first..end] = source[first − shift..]` where the source has that channel, else 0.
#[derive(Debug, Clone, Copy)]
struct Copy {
    first: usize,
    end: usize,
    shift: isize,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    first: u32,
    end: u32,
    shift: i32,
    x_channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

impl Copy {
    fn dispatch(&self, x: &Operand, y: &Operand) -> Dispatch {
        let params = Params {
            rows: x.shape.rows() as u32,
            first: self.first as u32,
            end: self.end as u32,
            shift: self.shift as i32,
            x_channels: x.shape.channels as u32,
            x_offset: x.offset as u32,
            x_stride: x.stride as u32,
            y_offset: y.offset as u32,
            y_stride: y.stride as u32,
        };
        let elements = x.shape.rows() * (self.end - self.first);
        Dispatch::new("concat", "main")
            .read(x.binding)
            .write(y.binding)
            .params(&params)
            .workgroups(elements.div_ceil(256))
    }

    fn row<T: Real>(&self, x: &[T], y: &mut [T]) {
        for (channel, y) in y[self.first..self.end].iter_mut().enumerate() {
            let from = (self.first + channel) as isize - self.shift;
            *y = usize::try_from(from).ok().and_then(|from| x.get(from)).copied().unwrap_or(T::ZERO);
        }
    }
}

impl Concat {
    /// The copy of each part; the last also clears the padding.
    fn copies(&self, inputs: &[Shape], output: Shape) -> Vec<Copy> {
        let mut first = 0;
        let last = inputs.len().saturating_sub(1);
        let copy = |(position, part): (usize, &Shape)| {
            let end = if position == last { output.stride() } else { first + part.channels };
            let copy = Copy { first, end, shift: first as isize };
            first += part.channels;
            copy
        };
        inputs.iter().enumerate().map(copy).collect()
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let shapes: Vec<Shape> = run.inputs.iter().map(|x| x.shape).collect();
        let (inputs, y) = (&run.inputs, &mut run.outputs[0]);
        let copies = self.copies(&shapes, y.shape);
        let (rows, stride) = (y.shape.rows(), y.stride);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                for (x, copy) in inputs.iter().zip(&copies) {
                    copy.row(&x.row(first + row)[..x.shape.channels], values);
                }
            }
        });
        Ok(())
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; self.parts])?;
        let Some(first) = inputs.first() else { return Err(shape_error(self, "there is nothing to concatenate")) };
        if let Some(other) = inputs.iter().find(|part| part.with_channels(first.channels) != *first) {
            return Err(shape_error(self, format!("{first} and {other} differ in batch or time")));
        }
        Ok(vec![first.with_channels(inputs.iter().map(|part| part.channels).sum())])
    }

    fn aliasing(&self) -> Option<Aliasing> {
        Some(Aliasing::Concat)
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let mut start = 0;
        for position in 0..self.parts {
            let count = gradient.shape(gradient.input(position)).channels;
            if gradient.wanted(position) {
                let part = gradient.push_one(Slice { start, count }, &[dy])?;
                gradient.give(position, part)?;
            }
            start += count;
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let shapes: Vec<Shape> = plan.inputs.iter().map(|x| x.shape).collect();
        let y = &plan.outputs[0];
        let copies = self.copies(&shapes, y.shape);
        Ok(plan.inputs.iter().zip(copies).map(|(x, copy)| copy.dispatch(x, y)).collect())
    }
}

impl Slice {
    fn copy(&self, output: Shape) -> Copy {
        Copy { first: 0, end: output.stride(), shift: -(self.start as isize) }
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let copy = self.copy(y.shape);
        // Beyond the slice the source goes on: only its own channels are visible.
        let (rows, stride, end) = (y.shape.rows(), y.stride, self.start + self.count);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                copy.row(&x.row(first + row)[..end], values);
            }
        });
        Ok(())
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        let x = inputs[0];
        if self.count == 0 || self.start + self.count > x.channels {
            let end = self.start + self.count;
            return Err(shape_error(self, format!("{x} has no channels {}..{end}", self.start)));
        }
        Ok(vec![x.with_channels(self.count)])
    }

    fn aliasing(&self) -> Option<Aliasing> {
        Some(Aliasing::Slice { start: self.start })
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let channels = gradient.shape(gradient.input(0)).channels;
        let dx = gradient.push_one(Place { start: self.start, channels }, &[dy])?;
        gradient.give(0, dx)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (mut x, y) = (plan.inputs[0], &plan.outputs[0]);
        x.shape.channels = self.start + self.count;
        Ok(vec![self.copy(y.shape).dispatch(&x, y)])
    }
}

/// Zeros but for the channels from `start` on, which are those of the input: the gradient of [`Slice`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub start: usize,
    pub channels: usize,
}

impl Place {
    fn copy(&self, output: Shape) -> Copy {
        Copy { first: 0, end: output.stride(), shift: self.start as isize }
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let copy = self.copy(y.shape);
        let (rows, stride) = (y.shape.rows(), y.stride);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                copy.row(&x.row(first + row)[..x.shape.channels], values);
            }
        });
        Ok(())
    }
}

impl Op for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        if self.start + inputs[0].channels > self.channels {
            let (x, start, channels) = (inputs[0], self.start, self.channels);
            return Err(shape_error(self, format!("{x} does not fit at channel {start} of {channels}")));
        }
        Ok(vec![inputs[0].with_channels(self.channels)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let count = gradient.shape(gradient.input(0)).channels;
        let dx = gradient.push_one(Slice { start: self.start, count }, &[dy])?;
        gradient.give(0, dx)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        Ok(vec![self.copy(y.shape).dispatch(x, y)])
    }
}

pub(super) fn concat_case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let parts = 1 + random.below(4) as usize;
    let inputs = (0..parts).map(|_| CaseInput::real(shape.with_channels(1 + random.below(12) as usize))).collect();
    Case::new(Concat { parts }, inputs)
}

pub(super) fn slice_case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let start = random.below(shape.channels as u32) as usize;
    let count = 1 + random.below((shape.channels - start) as u32) as usize;
    Case::new(Slice { start, count }, vec![CaseInput::real(shape)])
}
