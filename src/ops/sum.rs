//! Weighted sums of tensors: addition and scaling.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference,
    expect_kinds, expect_same, for_row_tiles,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y = a · x₀`, or `y = a · x₀ + b · x₁` of tensors of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// The factor of the first input.
    pub first: f32,
    /// The factor of the second, if there is one.
    pub second: Option<f32>,
}

/// Appends `a + b`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ.
pub fn add(graph: &mut Graph, a: TensorId, b: TensorId) -> Result<TensorId> {
    graph.push_one(Sum { first: 1.0, second: Some(1.0) }, &[a, b])
}

/// Appends `factor · x`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn scale(graph: &mut Graph, x: TensorId, factor: f32) -> Result<TensorId> {
    graph.push_one(Sum { first: factor, second: None }, &[x])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    other_offset4: u32,
    other_stride4: u32,
    first: f32,
    second: f32,
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 1 + usize::from(self.second.is_some())])?;
        if let Some(&other) = inputs.get(1) {
            expect_same(self, inputs[0], other)?;
        }
        Ok(vec![inputs[0]])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        for (position, factor) in [Some(self.first), self.second].into_iter().flatten().enumerate() {
            if gradient.wanted(position) {
                let dx =
                    if factor == 1.0 { dy } else { gradient.push_one(Self { first: factor, second: None }, &[dy])? };
                gradient.give(position, dx);
            }
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, other, y) = (&plan.inputs[0], plan.inputs.get(1), &plan.outputs[0]);
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let (other_offset4, other_stride4) = other.map_or((0, 0), Operand::place4);
        let params = Params {
            rows: x.shape.rows() as u32,
            channels: x.shape.channels as u32,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            other_offset4,
            other_stride4,
            first: self.first,
            second: self.second.unwrap_or(0.0),
        };
        let dispatch = Dispatch::new("sum", "main").define("SECOND", other.is_some()).read(x.binding).write(y.binding);
        let dispatch = match other {
            Some(other) => dispatch.read(other.binding),
            None => dispatch,
        };
        let elements4 = x.shape.rows() * x.shape.stride() / 4;
        Ok(vec![dispatch.params(&params).workgroups(elements4.div_ceil(256))])
    }
}

impl Sum {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, other, y) = (&run.inputs[0], run.inputs.get(1), &mut run.outputs[0]);
        let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
        let (first_factor, second_factor) =
            (T::of(f64::from(self.first)), T::of(f64::from(self.second.unwrap_or(0.0))));
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                for (y, &x) in values[..padded].iter_mut().zip(x.row(row)) {
                    *y = first_factor * x;
                }
                if let Some(other) = other {
                    for (y, &x) in values[..padded].iter_mut().zip(other.row(row)) {
                        *y += second_factor * x;
                    }
                }
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    let second = (random.below(2) == 0).then_some(-0.7);
    let inputs = vec![CaseInput::real(shape); 1 + usize::from(second.is_some())];
    Case::new(Sum { first: 1.3, second }, inputs)
}
