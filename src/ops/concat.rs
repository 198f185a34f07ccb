//! Channels side by side, and parts of them: free where they fall on multiples of 4, copies elsewhere.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    Aliasing, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId,
    View, ViewMut, cpu_reference, expect_kinds, for_row_tiles, shape_error,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// The channels of all inputs side by side. Inputs: `[batch, time, c_i]`. Output: `[batch, time, Σ c_i]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concat;

/// The channels from `start` on, `channels` of them. Input: `[batch, time, c]`. Output: `[batch, time, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// First channel.
    pub start: usize,
    /// How many.
    pub channels: usize,
}

/// Appends the channels of `parts` side by side. Costs nothing where every part is an operator's output, belongs to no
/// other concatenation and starts at a multiple of 4 channels.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if there are no parts, or batch or time differ.
pub fn concat(graph: &mut Graph, parts: &[TensorId]) -> Result<TensorId> {
    graph.push_one(Concat, parts)
}

/// Appends `channels` channels of `x` from `start` on. Costs nothing where `x` is no parameter and both ends fall on
/// multiples of 4 channels, or the second on the end of `x`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` has not so many channels, or none are asked for.
pub fn slice(graph: &mut Graph, x: TensorId, start: usize, channels: usize) -> Result<TensorId> {
    graph.push_one(Slice { start, channels }, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    first: u32,
    width: u32,
    place: u32,
    n: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset4: u32,
    y_stride4: u32,
}

/// `y[.., c] = x[.., from + c − place]` where `c − place` is in `0..n`, else 0, for `width` channels `c` from `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    first: usize,
    width: usize,
    place: usize,
    from: usize,
    n: usize,
}

impl Move {
    /// Whole rows of `channels` channels, padding included.
    pub fn rows(channels: usize) -> Self {
        Self { first: 0, width: channels.next_multiple_of(4), place: 0, from: 0, n: channels }
    }

    pub fn dispatch(self, x: &Operand, y: &Operand) -> Dispatch {
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            rows: y.shape.rows() as u32,
            first: self.first as u32,
            width: self.width as u32,
            place: self.place as u32,
            n: self.n as u32,
            x_offset: (x.offset + self.from) as u32,
            x_stride: x.stride as u32,
            y_offset4,
            y_stride4,
        };
        let groups = (self.first + self.width).div_ceil(4) - self.first / 4;
        Dispatch::new("concat", "main")
            .read(x.binding)
            .write(y.binding)
            .params(&params)
            .workgroups((y.shape.rows() * groups).div_ceil(256))
    }

    pub fn run<T: Real>(self, x: &View<'_, T>, y: &mut ViewMut<'_, T>) {
        let (rows, stride) = (y.shape.rows(), y.stride);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                values[self.first..self.first + self.width].fill(T::ZERO);
                let source = &x.row(first + row)[self.from..self.from + self.n];
                values[self.place..self.place + self.n].copy_from_slice(source);
            }
        });
    }
}

impl Concat {
    /// One copy a part; the last writes the padding too.
    fn moves(parts: &[usize]) -> Vec<Move> {
        let mut place = 0;
        let mut moves = Vec::with_capacity(parts.len());
        for &n in parts {
            moves.push(Move { first: place, width: n, place, from: 0, n });
            place += n;
        }
        if let Some(last) = moves.last_mut() {
            last.width += place.next_multiple_of(4) - place;
        }
        moves
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let channels: Vec<usize> = run.inputs.iter().map(|x| x.shape.channels).collect();
        for (movement, x) in Self::moves(&channels).into_iter().zip(&run.inputs) {
            movement.run(x, &mut run.outputs[0]);
        }
        Ok(())
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; inputs.len().max(1)])?;
        let first = inputs[0];
        if let Some(other) = inputs.iter().find(|x| (x.batch, x.time) != (first.batch, first.time)) {
            return Err(shape_error(self, format!("{first} and {other} must have the same batch and time")));
        }
        Ok(vec![first.with_channels(inputs.iter().map(|x| x.channels).sum())])
    }

    fn aliasing(&self) -> Option<Aliasing> {
        Some(Aliasing::Concat)
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let mut start = 0;
        for position in 0..gradient.inputs().len() {
            let channels = gradient.shape(gradient.input(position)).channels;
            if gradient.wanted(position) {
                let dx = gradient.push_one(Slice { start, channels }, &[dy])?;
                gradient.give(position, dx);
            }
            start += channels;
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let channels: Vec<usize> = plan.inputs.iter().map(|x| x.shape.channels).collect();
        let moves = Self::moves(&channels).into_iter().zip(plan.inputs);
        Ok(moves.map(|(movement, x)| movement.dispatch(x, &plan.outputs[0])).collect())
    }
}

impl Slice {
    fn movement(&self) -> Move {
        let (width, n) = (self.channels.next_multiple_of(4), self.channels);
        Move { first: 0, width, place: 0, from: self.start, n }
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        self.movement().run(&run.inputs[0], &mut run.outputs[0]);
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
        let fits = self.start.checked_add(self.channels).is_some_and(|end| end <= x.channels);
        if self.channels == 0 || !fits {
            let message = format!("{x} has no {} channels from channel {} on", self.channels, self.start);
            return Err(shape_error(self, message));
        }
        Ok(vec![x.with_channels(self.channels)])
    }

    fn aliasing(&self) -> Option<Aliasing> {
        Some(Aliasing::Slice { start: self.start })
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let channels = gradient.shape(gradient.input(0)).channels;
        let dx = gradient.push_one(Place { start: self.start, channels }, &[dy])?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![self.movement().dispatch(&plan.inputs[0], &plan.outputs[0])])
    }
}

/// The gradient of a slice: the input's channels from channel `start` of `channels` on, all others 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub start: usize,
    pub channels: usize,
}

impl Place {
    fn movement(&self, n: usize) -> Move {
        Move { first: 0, width: self.channels.next_multiple_of(4), place: self.start, from: 0, n }
    }

    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        self.movement(run.inputs[0].shape.channels).run(&run.inputs[0], &mut run.outputs[0]);
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
            let message = format!("{} does not fit in {} channels from {} on", inputs[0], self.channels, self.start);
            return Err(shape_error(self, message));
        }
        Ok(vec![inputs[0].with_channels(self.channels)])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let x = &plan.inputs[0];
        Ok(vec![self.movement(x.shape.channels).dispatch(x, &plan.outputs[0])])
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let parts = (0..1 + random.below(4)).map(|_| shape.with_channels(random_shape(random).channels));
    Case::new(Concat, parts.map(CaseInput::real).collect())
}

pub(super) fn slice_case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let start = random.below(shape.channels as u32) as usize;
    let channels = 1 + random.below((shape.channels - start) as u32) as usize;
    Case::new(Slice { start, channels }, vec![CaseInput::real(shape)])
}
