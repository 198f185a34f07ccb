//! The last state of each sequence.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Op, Operand, Real, Shape, TensorId, View, cpu_reference,
    expect_same, for_row_tiles, shape_error,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y[b] = x[b, length[b] − 1]`, or `x[b, 0]` where reversed; of an empty sequence `initial[b]`, or zero.
///
/// Inputs: `x` `[batch, time, channels]`, and those that there are of the initial state `[batch, 1, channels]` and lengths, ids
/// `[batch, 1]`. Output: `[batch, 1, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FinalState {
    /// Whether the first position was the last step.
    pub reverse: bool,
    /// Whether there is an input with the initial state.
    pub initial: bool,
    /// Whether there is one with the lengths of the sequences.
    pub lengths: bool,
}

/// Appends the last of the states `x` `[batch, time, channels]` of each sequence, `[batch, 1, channels]`: that of the first
/// position for a reversed layer, and `initial`, or zero, for a sequence of length 0.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn final_state(
    graph: &mut Graph,
    x: TensorId,
    initial: Option<TensorId>,
    lengths: Option<TensorId>,
    reverse: bool,
) -> Result<TensorId> {
    let op = FinalState { reverse, initial: initial.is_some(), lengths: lengths.is_some() };
    let inputs: Vec<TensorId> = [Some(x), initial, lengths].into_iter().flatten().collect();
    graph.push_one(op, &inputs)
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    initial_offset4: u32,
    initial_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl FinalState {
    fn of<'a, A>(&self, all: &'a [A], first: usize) -> [Option<&'a A>; 2] {
        let initial = self.initial.then(|| &all[first]);
        [initial, self.lengths.then(|| &all[first + usize::from(self.initial)])]
    }

    fn check(&self, op: &dyn Op, x: Shape, rest: &[Shape]) -> Result<()> {
        if rest.len() != usize::from(self.initial) + usize::from(self.lengths) {
            return Err(shape_error(op, format!("takes other inputs than {}", rest.len() + 1)));
        }
        let [initial, lengths] = self.of(rest, 0);
        expect_same(op, x, x.with_channels(x.channels))?;
        initial.map_or(Ok(()), |&initial| expect_same(op, initial, x.with_time(1)))?;
        lengths.map_or(Ok(()), |&lengths| expect_same(op, lengths, Shape::ids(x.batch, 1)))
    }

    /// The position of a sequence's last state; nothing if it is empty.
    fn position<T>(&self, time: usize, lengths: Option<&View<'_, T>>, sequence: usize) -> Option<usize> {
        let length = lengths.map_or(time, |lengths| time.min(lengths.ids[sequence] as usize));
        length.checked_sub(1).map(|last| if self.reverse { 0 } else { last })
    }

    fn dispatch(&self, entry: &'static str, x: &Operand, y: &Operand, initial: Option<&Operand>) -> Dispatch {
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let (initial_offset4, initial_stride4) = initial.map_or((0, 0), Operand::place4);
        let params = Params {
            rows: 0,
            time: 0,
            channels4: x.channels4(),
            x_offset4,
            x_stride4,
            initial_offset4,
            initial_stride4,
            y_offset4,
            y_stride4,
        };
        Dispatch::new("final_state", entry)
            .define("INITIAL", self.initial)
            .define("LENGTHS", self.lengths)
            .constant("REVERSE", u32::from(self.reverse))
            .params(&params)
    }
}

impl Op for FinalState {
    fn name(&self) -> &'static str {
        "final_state"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, rest @ ..] = inputs else { return Err(shape_error(self, "takes an input")) };
        self.check(self, *x, rest)?;
        Ok(vec![x.with_time(1)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let inputs = gradient.inputs();
        let lengths = self.of(inputs, 1)[1];
        // x tells only the shape.
        let all: Vec<TensorId> = [Some(dy), Some(inputs[0]), lengths.copied()].into_iter().flatten().collect();
        let parts = gradient.push(FinalStateGrad { forward: *self }, &all)?;
        gradient.give(0, parts[0]);
        if self.initial && gradient.wanted(1) {
            gradient.give(1, parts[1]);
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let [initial, lengths] = self.of(plan.inputs, 1);
        let mut dispatch = self
            .dispatch("main", x, y, initial)
            .read(x.binding)
            .write(y.binding)
            .read(initial.unwrap_or(x).binding)
            .read(lengths.unwrap_or(x).binding)
            .workgroups((y.shape.padded_len() / 4).div_ceil(256));
        dispatch.params[0] = y.shape.rows() as u32;
        dispatch.params[1] = x.shape.time as u32;
        Ok(vec![dispatch])
    }
}

impl FinalState {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [initial, lengths] = self.of(&run.inputs, 1);
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        for sequence in 0..y.shape.batch {
            let row = self.position(x.shape.time, lengths, sequence);
            let to = y.row(sequence);
            match (row, initial) {
                (Some(row), _) => to.copy_from_slice(x.row(sequence * x.shape.time + row)),
                (None, Some(initial)) => to.copy_from_slice(initial.row(sequence)),
                (None, None) => to.fill(T::ZERO),
            }
        }
        Ok(())
    }
}

/// The gradients of the states, `dy` in one row of each sequence, and of the initial state. Inputs: `dy`, `x` for its shape, and
/// the lengths where there are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FinalStateGrad {
    forward: FinalState,
}

impl FinalStateGrad {
    fn lengths<'a, A>(&self, all: &'a [A]) -> Option<&'a A> {
        self.forward.lengths.then(|| &all[2])
    }
}

impl Op for FinalStateGrad {
    fn name(&self) -> &'static str {
        "final_state_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_same(self, inputs[0], inputs[1].with_time(1))?;
        Ok(vec![inputs[1], inputs[0]])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dy, dx, dinitial) = (&plan.inputs[0], &plan.outputs[0], &plan.outputs[1]);
        let lengths = self.lengths(plan.inputs);
        let mut dispatch = self
            .forward
            .dispatch("spread", dy, dx, Some(dinitial))
            .define("SPREAD", true)
            .read(dy.binding)
            .write(dx.binding)
            .write(dinitial.binding)
            .read(lengths.unwrap_or(dy).binding)
            .workgroups((dx.shape.padded_len() / 4).div_ceil(256));
        dispatch.params[0] = dx.shape.rows() as u32;
        dispatch.params[1] = dx.shape.time as u32;
        Ok(vec![dispatch])
    }
}

impl FinalStateGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (dy, lengths) = (&run.inputs[0], self.lengths(&run.inputs));
        let [dx, dinitial] = run.outputs.as_mut_slice() else { return Ok(()) };
        let (rows, time, stride, padded) = (dx.shape.rows(), dx.shape.time, dx.stride, dx.shape.stride());
        let position = |sequence| self.forward.position(time, lengths, sequence);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                match position(sequence) == Some(at) {
                    true => values[..padded].copy_from_slice(dy.row(sequence)),
                    false => values[..padded].fill(T::ZERO),
                }
            }
        });
        for sequence in 0..dinitial.shape.batch {
            match position(sequence) {
                None => dinitial.row(sequence).copy_from_slice(dy.row(sequence)),
                Some(_) => dinitial.row(sequence).fill(T::ZERO),
            }
        }
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let x = random_shape(random);
    let mut flag = || random.below(2) == 0;
    let op = FinalState { reverse: flag(), initial: flag(), lengths: flag() };
    let mut inputs = vec![CaseInput::real(x)];
    if op.initial {
        inputs.push(CaseInput::real(x.with_time(1)));
    }
    if op.lengths {
        inputs.push(CaseInput::Ids { shape: Shape::ids(x.batch, 1), classes: 3.min(x.time) + 1, masked: false });
    }
    Case::new(op, inputs)
}
