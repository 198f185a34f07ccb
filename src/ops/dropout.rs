//! Dropout: random elements, or random channels of whole sequences, are zero during training.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, StepArgs, TensorId,
    cpu_reference, expect_kinds, for_row_tiles,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::{Random, philox};

/// `y = x · mask / (1 − p)`, the mask 0 with probability `p`, else 1 (Srivastava et al. 2014, scaled in training).
///
/// Input and output: `[batch, time, channels]`. Element `i = (sequence · time + position) · channels + channel` has the `i`-th
/// number that [`Random`] draws for (the run's seed, `stream`, the step), whatever the program was planned for and wherever it
/// runs. Nothing is stored: the gradient draws the same numbers again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability of 0, in [0, 1).
    pub p: f32,
    /// Names the random numbers: [`Graph::random_stream`].
    pub stream: u32,
    /// Whether a channel is kept or zero at all positions of a sequence: then `i = sequence · channels + channel`.
    pub spatial: bool,
}

/// Appends dropout of `x` `[batch, time, channels]`: each element is 0 with probability `p`, in [0, 1), and is otherwise
/// divided by `1 − p`. With `p` of 0 it is `x` itself.
///
/// For training only: a program for validation or use is built without.
///
/// # Errors
/// [`Error::Config`] if `p` is out of its range; [`Error::Shape`] if `x` holds ids.
pub fn dropout(graph: &mut Graph, x: TensorId, p: f32) -> Result<TensorId> {
    append(graph, x, p, false)
}

/// Appends dropout of whole channels of `x` `[batch, time, channels]`: one draw for each sequence and channel serves all
/// positions (Tompson et al. 2015, `torch.nn.Dropout1d`). The mask of a recurrent layer that stays the same over time (Gal and
/// Ghahramani 2016) is one as well.
///
/// # Errors
/// As [`dropout`].
pub fn spatial_dropout(graph: &mut Graph, x: TensorId, p: f32) -> Result<TensorId> {
    append(graph, x, p, true)
}

fn append(graph: &mut Graph, x: TensorId, p: f32, spatial: bool) -> Result<TensorId> {
    graph.check_owned(&[x])?;
    let stream = graph.random_stream();
    let op = Dropout { p, stream, spatial };
    op.shapes(&[graph.shape(x)])?;
    if p == 0.0 { Ok(x) } else { graph.push_one(op, &[x]) }
}

/// Appends a mask for each sequence of `x`, `[batch, 1, channels]`: 0 with probability `p`, in [0, 1), else `1 / (1 − p)`. To be
/// used at all positions of a recurrent layer (Gal and Ghahramani 2016).
///
/// # Errors
/// As [`dropout`].
pub fn dropout_mask(graph: &mut Graph, x: TensorId, channels: usize, p: f32) -> Result<TensorId> {
    let stream = graph.random_stream();
    graph.push_one(DropoutMask { p, stream, channels }, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    group_rows: u32,
    channels: u32,
    threshold: u32,
    stream: u32,
    scale: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Dropout {
    /// Elements whose 32 bits are below this are zero.
    fn threshold(&self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }

    fn scale(&self) -> f64 {
        1.0 / (1.0 - f64::from(self.p))
    }

    /// Rows that share their draws.
    fn group_rows(&self, shape: Shape) -> usize {
        if self.spatial { shape.time } else { 1 }
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        if !(0.0..1.0).contains(&self.p) {
            return Err(Error::Config(format!("dropout: p must be at least 0 and below 1, got {}", self.p)));
        }
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(inputs.to_vec())
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let dx = gradient.push_one(*self, &[dy])?;
        gradient.give(0, dx);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            rows: x.shape.rows() as u32,
            group_rows: self.group_rows(x.shape) as u32,
            channels: x.shape.channels as u32,
            threshold: self.threshold(),
            stream: self.stream,
            scale: self.scale() as f32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
        };
        Ok(vec![
            Dispatch::new("dropout", "main")
                .read(Binding::Step)
                .read(x.binding)
                .write(y.binding)
                .params(&params)
                .workgroups((x.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl Dropout {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, padded, channels) = (y.shape.rows(), y.stride, y.shape.stride(), y.shape.channels);
        let (group_rows, threshold, scale) = (self.group_rows(y.shape), self.threshold(), T::of(self.scale()));
        let step = run.step;
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            let mut bits = vec![0; channels];
            let mut drawn = None;
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let group = (first + row) / group_rows;
                if drawn != Some(group) {
                    draw(&step, self.stream, group * channels, &mut bits);
                    drawn = Some(group);
                }
                let x = x.row(first + row);
                for ((y, &x), &bits) in values.iter_mut().zip(x).zip(&bits) {
                    *y = if bits < threshold { T::ZERO } else { x * scale };
                }
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

/// The factors of [`Dropout`] alone. Input: `[batch, time, _]`, of which only the batch is taken. Output: `[batch, 1, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DropoutMask {
    pub p: f32,
    pub stream: u32,
    pub channels: usize,
}

impl DropoutMask {
    fn dropout(&self) -> Dropout {
        Dropout { p: self.p, stream: self.stream, spatial: false }
    }
}

impl Op for DropoutMask {
    fn name(&self) -> &'static str {
        "dropout_mask"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        self.dropout().shapes(inputs)?;
        Ok(vec![Shape::new(inputs[0].batch, 1, self.channels)])
    }

    fn differentiable(&self, _output: usize) -> bool {
        false
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y, dropout) = (&plan.inputs[0], &plan.outputs[0], self.dropout());
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            rows: y.shape.rows() as u32,
            group_rows: 1,
            channels: self.channels as u32,
            threshold: dropout.threshold(),
            stream: self.stream,
            scale: dropout.scale() as f32,
            y_offset4,
            y_stride4,
            ..Params::zeroed()
        };
        Ok(vec![
            Dispatch::new("dropout", "main")
                .define("ONES", true)
                .read(Binding::Step)
                .read(x.binding)
                .write(y.binding)
                .params(&params)
                .workgroups((y.shape.padded_len() / 4).div_ceil(256)),
        ])
    }
}

impl DropoutMask {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (step, y, dropout) = (run.step, &mut run.outputs[0], self.dropout());
        let (threshold, scale) = (dropout.threshold(), T::of(dropout.scale()));
        let mut bits = vec![0; self.channels];
        for sequence in 0..y.shape.batch {
            draw(&step, self.stream, sequence * self.channels, &mut bits);
            let values = y.row(sequence);
            values.fill(T::ZERO);
            for (value, &bits) in values.iter_mut().zip(&bits) {
                *value = if bits < threshold { T::ZERO } else { scale };
            }
        }
        Ok(())
    }
}

pub(super) fn mask_case(random: &mut Random) -> Case {
    let p = [0.0, 0.1, 0.5][random.below(3) as usize];
    let op = DropoutMask { p, stream: random.bits(), channels: 1 + random.below(40) as usize };
    Case::new(op, vec![CaseInput::Constant { shape: random_shape(random) }])
}

/// The random bits of the elements from `first` on: those of [`Random`] for (seed, stream, step).
fn draw(step: &StepArgs, stream: u32, first: usize, bits: &mut [u32]) {
    let key = [step.seed as u32, (step.seed >> 32) as u32];
    let mut block = [0; 4];
    for (index, bits) in (first..).zip(bits.iter_mut()) {
        if index == first || index % 4 == 0 {
            // There are fewer than 2³² elements, so the counter's second word is free for the rest of the step.
            block = philox([(index / 4) as u32, (step.step >> 32) as u32, step.step as u32, stream], key);
        }
        *bits = block[index % 4];
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let p = [0.0, 0.1, 0.5, 0.9][random.below(4) as usize];
    let (stream, spatial) = (random.bits(), random.below(2) == 0);
    Case::new(Dropout { p, stream, spatial }, vec![CaseInput::real(random_shape(random))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_random() {
        let step = StepArgs { seed: 0x1234_5678_9abc, step: 77, ..StepArgs::default() };
        let mut random = Random::new(step.seed, 5, 77);
        let expected: Vec<u32> = (0..40).map(|_| random.bits()).collect();
        for first in 0..7 {
            let mut bits = vec![0; 25];
            draw(&step, 5, first, &mut bits);
            assert_eq!(bits, expected[first..][..25], "from {first}");
        }
        let late = StepArgs { step: 77 + (1 << 32), ..step };
        let mut bits = vec![0; 25];
        draw(&late, 5, 0, &mut bits);
        assert_ne!(bits, expected[..25], "steps beyond 2^32 have numbers of their own");
    }
}
