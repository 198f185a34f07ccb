//! A sequence behind the positions before it: what a convolution reads that goes on where the last block ended.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference,
    expect_kinds, expect_same, for_row_tiles, shape_error,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `joined = [past; x]` over time, and the last positions of that, as many as `past` has.
///
/// Inputs: `past` `[batch, before, channels]`, `x` `[batch, time, channels]`. Outputs: `joined` `[batch, before + time,
/// channels]`, and what is the past of the positions after `x`, shaped as `past`, through which no gradient flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JoinTime;

/// Appends `x` behind the positions before it; gives the whole and its last positions, shaped as `past`: with
/// [`Graph::carry`] the past of the next step. No gradient flows through those.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if batch or channels differ.
pub fn join_time(graph: &mut Graph, past: TensorId, x: TensorId) -> Result<(TensorId, TensorId)> {
    let outputs = graph.push(JoinTime, &[past, x])?;
    Ok((outputs[0], outputs[1]))
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels4: u32,
    before: u32,
    time: u32,
    joined_offset4: u32,
    joined_stride4: u32,
    past_offset4: u32,
    past_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    last_offset4: u32,
    last_stride4: u32,
}

impl Params {
    fn new(joined: &Operand, past: &Operand, x: &Operand, last: &Operand) -> Self {
        let ((joined_offset4, joined_stride4), (past_offset4, past_stride4)) = (joined.place4(), past.place4());
        let ((x_offset4, x_stride4), (last_offset4, last_stride4)) = (x.place4(), last.place4());
        Self {
            rows: joined.shape.rows() as u32,
            channels4: joined.channels4(),
            before: past.shape.time as u32,
            time: x.shape.time as u32,
            joined_offset4,
            joined_stride4,
            past_offset4,
            past_stride4,
            x_offset4,
            x_stride4,
            last_offset4,
            last_stride4,
        }
    }
}

impl Op for JoinTime {
    fn name(&self) -> &'static str {
        "join_time"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        let (past, x) = (inputs[0], inputs[1]);
        if past != x.with_time(past.time) {
            return Err(shape_error(self, format!("{x} can't follow {past}: batch and channels must be equal")));
        }
        Ok(vec![x.with_time(past.time + x.time), past])
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        // past and x tell only the shapes.
        let (past, x) = (gradient.input(0), gradient.input(1));
        let parts = gradient.push(PartTime, &[dy, past, x])?;
        for (input, &part) in parts.iter().enumerate() {
            if gradient.wanted(input) {
                gradient.give(input, part);
            }
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (past, x, joined, last) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0], &plan.outputs[1]);
        Ok(vec![
            Dispatch::new("join_time", "join")
                .read(past.binding)
                .read(x.binding)
                .write(joined.binding)
                .write(last.binding)
                .params(&Params::new(joined, past, x, last))
                .workgroups((joined.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl JoinTime {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (past, x) = (&run.inputs[0], &run.inputs[1]);
        let (before, time) = (past.shape.time, x.shape.time);
        let row_of = |sequence: usize, position: usize| match position.checked_sub(before) {
            Some(position) => x.row(sequence * time + position),
            None => past.row(sequence * before + position),
        };
        // The first output begins with the past, the second ends with x.
        for (output, skipped) in run.outputs.iter_mut().zip([0, time]) {
            let (rows, stride, positions) = (output.shape.rows(), output.stride, output.shape.time);
            let padded = output.shape.stride();
            for_row_tiles(output.data, stride, rows, |first, chunk| {
                for (row, values) in chunk.chunks_mut(stride).enumerate() {
                    let (sequence, position) = ((first + row) / positions, (first + row) % positions);
                    values[..padded].copy_from_slice(row_of(sequence, skipped + position));
                }
            });
        }
        Ok(())
    }
}

/// The parts of a joined sequence: the gradient of [`JoinTime`]. Inputs: `dy` `[batch, before + time, channels]`, and `past` and
/// `x` for their shapes. Outputs: shaped as `past` and `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct PartTime;

impl Op for PartTime {
    fn name(&self) -> &'static str {
        "part_time"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 3])?;
        let (dy, past, x) = (inputs[0], inputs[1], inputs[2]);
        expect_same(self, dy, x.with_time(past.time + x.time))?;
        Ok(vec![past, x])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (dy, past, x) = (&plan.inputs[0], &plan.outputs[0], &plan.outputs[1]);
        Ok(vec![
            Dispatch::new("join_time", "part")
                .define("PART", true)
                .read(dy.binding)
                .write(past.binding)
                .write(x.binding)
                .params(&Params::new(dy, past, x, past))
                .workgroups((dy.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl PartTime {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let dy = &run.inputs[0];
        let before = run.outputs[0].shape.time;
        for (output, skipped) in run.outputs.iter_mut().zip([0, before]) {
            let (rows, stride, positions) = (output.shape.rows(), output.stride, output.shape.time);
            let padded = output.shape.stride();
            for_row_tiles(output.data, stride, rows, |first, chunk| {
                for (row, values) in chunk.chunks_mut(stride).enumerate() {
                    let (sequence, position) = ((first + row) / positions, (first + row) % positions);
                    values[..padded].copy_from_slice(dy.row(sequence * dy.shape.time + skipped + position));
                }
            });
        }
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let x = random_shape(random);
    let past = x.with_time(1 + random.below(2 * x.time as u32) as usize);
    Case::new(JoinTime, vec![CaseInput::real(past), CaseInput::real(x)])
}
