//! Sequences with positions before and after them, and without what lies beyond their ends.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, View,
    cpu_reference, expect_same, for_row_tiles, shape_error,
};
use crate::ops::conv1d::add_to;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// What stands before and after a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Zeros.
    #[default]
    Zeros,
    /// Its first and its last position, again and again.
    Replicate,
    /// The sequence mirrored at its first and its last position, which are not repeated; as often as it takes.
    Reflect,
}

/// `y[b, t] = x[b, source(t − left)]`, zero beyond `length[b] + right`.
///
/// Inputs: `x` `[batch, time, channels]`, and where there are ids `[batch, 1]` with the lengths of the sequences. Output:
/// `[batch, left + time + right, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pad {
    /// What stands before and after a sequence.
    pub padding: Padding,
    /// Positions before.
    pub left: usize,
    /// Positions after.
    pub right: usize,
    /// Whether there is an input with the lengths of the sequences.
    pub lengths: bool,
}

/// Appends `x` `[batch, time, channels]` with `left` positions before each sequence and `right` after it, as
/// `torch.nn.functional.pad` has them. Where `lengths`, ids `[batch, 1]`, say how many positions there are, a sequence ends there:
/// what is after it stands behind its last position, and the rest is zero.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids or the lengths are not those of its sequences.
pub fn pad(
    graph: &mut Graph,
    x: TensorId,
    padding: Padding,
    [left, right]: [usize; 2],
    lengths: Option<TensorId>,
) -> Result<TensorId> {
    let inputs: Vec<TensorId> = [x].into_iter().chain(lengths).collect();
    graph.push_one(Pad { padding, left, right, lengths: lengths.is_some() }, &inputs)
}

/// Appends `x` `[batch, time, channels]` with zeros for what lies beyond the `lengths`, ids `[batch, 1]`.
///
/// # Errors
/// As [`pad`].
pub fn mask(graph: &mut Graph, x: TensorId, lengths: TensorId) -> Result<TensorId> {
    pad(graph, x, Padding::Zeros, [0, 0], Some(lengths))
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    padded: u32,
    left: u32,
    right: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Pad {
    fn check(&self, op: &dyn Op, x: Shape, lengths: &[Shape]) -> Result<()> {
        if x.kind != Kind::Real || lengths.len() != usize::from(self.lengths) {
            return Err(shape_error(op, format!("{x} and {} lengths can't be padded", lengths.len())));
        }
        lengths.iter().try_for_each(|&lengths| expect_same(op, lengths, Shape::ids(x.batch, 1)))
    }

    fn padded(&self, x: Shape) -> Shape {
        x.with_time(self.left + x.time + self.right)
    }

    /// Where the position at `at` of a sequence of `length` comes from.
    fn source(&self, at: isize, length: usize) -> Option<usize> {
        let end = length as isize;
        if length == 0 || at < -(self.left as isize) || at >= end + self.right as isize {
            return None;
        }
        match self.padding {
            Padding::Zeros => (0..end).contains(&at).then_some(at as usize),
            Padding::Reflect if length > 1 => {
                let period = 2 * (end - 1);
                let folded = at.rem_euclid(period);
                Some(folded.min(period - folded) as usize)
            }
            Padding::Replicate | Padding::Reflect => Some(at.clamp(0, end - 1) as usize),
        }
    }

    /// The positions, counted from the sequence's first, whose source is `at`: every so many from these first ones on, below an end.
    fn targets(&self, at: usize, length: usize) -> ([isize; 2], usize, isize) {
        let (at, left, end) = (at as isize, self.left as isize, (length + self.right) as isize);
        match self.padding {
            Padding::Zeros => ([at, end], 1, at + 1),
            Padding::Reflect if length > 1 => {
                let period = 2 * (length as isize - 1);
                let first = |at: isize| (at + left).rem_euclid(period) - left;
                let mirrored = if at == 0 || at == length as isize - 1 { end } else { first(-at) };
                ([first(at), mirrored], period as usize, end)
            }
            Padding::Replicate | Padding::Reflect => {
                let last = at == length as isize - 1;
                ([if at == 0 { -left } else { at }, end], 1, if last { end } else { at + 1 })
            }
        }
    }

    fn dispatch(&self, x: &Operand, y: &Operand, lengths: Option<&Operand>, gradient: bool) -> Dispatch {
        let ((x_offset4, x_stride4), (y_offset4, y_stride4)) = (x.place4(), y.place4());
        let written = if gradient { x.shape } else { y.shape };
        let params = Params {
            rows: written.rows() as u32,
            time: x.shape.time as u32,
            padded: y.shape.time as u32,
            left: self.left as u32,
            right: self.right as u32,
            channels4: x.channels4(),
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
        };
        let dispatch = Dispatch::new("pad", "main")
            .define("GRADIENT", gradient)
            .define("LENGTHS", self.lengths)
            .constant("MODE", self.padding as u32)
            .params(&params)
            .workgroups((written.padded_len() / 4).div_ceil(256));
        let dispatch = match gradient {
            true => dispatch.write(x.binding).read(y.binding),
            false => dispatch.read(x.binding).write(y.binding),
        };
        match lengths {
            Some(lengths) => dispatch.read(lengths.binding),
            None => dispatch,
        }
    }
}

fn length_of<T>(lengths: Option<&View<'_, T>>, time: usize, sequence: usize) -> usize {
    lengths.map_or(time, |lengths| time.min(lengths.ids[sequence] as usize))
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, lengths @ ..] = inputs else { return Err(shape_error(self, "takes an input")) };
        self.check(self, *x, lengths)?;
        Ok(vec![self.padded(*x)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // x tells only the shape.
        let inputs: Vec<TensorId> = [dy].into_iter().chain(gradient.inputs().iter().copied()).collect();
        let dx = gradient.push_one(PadGrad { forward: *self }, &inputs)?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![self.dispatch(&plan.inputs[0], &plan.outputs[0], plan.inputs.get(1), false)])
    }
}

impl Pad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, lengths, y) = (&run.inputs[0], run.inputs.get(1), &mut run.outputs[0]);
        let (rows, stride, padded, time) = (y.shape.rows(), y.stride, y.shape.stride(), y.shape.time);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                let length = length_of(lengths, x.shape.time, sequence);
                match self.source(at as isize - self.left as isize, length) {
                    Some(from) => values[..padded].copy_from_slice(x.row(sequence * x.shape.time + from)),
                    None => values[..padded].fill(T::ZERO),
                }
            }
        });
        Ok(())
    }
}

/// Each position's sum of the gradients of what came from it. Inputs: `dy`, `x` for its shape, and the lengths where there are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct PadGrad {
    forward: Pad,
}

impl Op for PadGrad {
    fn name(&self) -> &'static str {
        "pad_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [dy, x, lengths @ ..] = inputs else { return Err(shape_error(self, "takes two inputs")) };
        self.forward.check(self, *x, lengths)?;
        expect_same(self, *dy, self.forward.padded(*x))?;
        Ok(vec![*x])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![self.forward.dispatch(&plan.outputs[0], &plan.inputs[0], plan.inputs.get(2), true)])
    }
}

impl PadGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, lengths, dx) = (&run.inputs[0], run.inputs.get(2), &mut run.outputs[0]);
        let (rows, stride, padded, time) = (dx.shape.rows(), dx.stride, dx.shape.stride(), dx.shape.time);
        let left = self.forward.left as isize;
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                let length = length_of(lengths, time, sequence);
                values[..padded].fill(T::ZERO);
                if at >= length {
                    continue;
                }
                let (firsts, step, end) = self.forward.targets(at, length);
                for target in firsts.into_iter().flat_map(|first| (first..end).step_by(step)) {
                    let row = sequence * dy.shape.time + (target + left) as usize;
                    add_to(&mut values[..padded], dy.row(row));
                }
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let x = random_shape(random);
    let x = x.with_time([x.time, x.time, 1, 2][random.below(4) as usize]);
    let padding = [Padding::Zeros, Padding::Replicate, Padding::Reflect][random.below(3) as usize];
    // Often longer than the sequence.
    let [left, right] = [0, 0].map(|_: usize| random.below(12) as usize * [1, 1, 7][random.below(3) as usize]);
    let op = Pad { padding, left, right, lengths: random.below(2) == 0 };
    let mut inputs = vec![CaseInput::real(x)];
    if op.lengths {
        inputs.push(CaseInput::Ids { shape: Shape::ids(x.batch, 1), classes: x.time + 2, masked: false });
    }
    Case::new(op, inputs)
}
