//! Constants.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Graph, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
};
use crate::ops::Case;
use crate::ops::random_shape;
use crate::random::Random;

/// A tensor of one fixed shape, all elements the same. No inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    /// The size.
    pub shape: Shape,
    /// The value.
    pub value: f32,
}

/// Appends a constant.
///
/// # Errors
/// None that a shape of reals can cause.
pub fn constant(graph: &mut Graph, shape: Shape, value: f32) -> Result<TensorId> {
    graph.push_one(Constant { shape, value }, &[])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels: u32,
    value: f32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[])?;
        Ok(vec![self.shape])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::AsInputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let y = &plan.outputs[0];
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            rows: self.shape.rows() as u32,
            channels: self.shape.channels as u32,
            value: self.value,
            y_offset4,
            y_stride4,
        };
        let elements4 = self.shape.padded_len() / 4;
        Ok(vec![Dispatch::new("constant", "main").write(y.binding).params(&params).workgroups(elements4.div_ceil(256))])
    }
}

impl Constant {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let y = &mut run.outputs[0];
        for row in 0..y.shape.rows() {
            let channels = y.shape.channels;
            let values = y.row(row);
            values.fill(T::ZERO);
            values[..channels].fill(T::of(f64::from(self.value)));
        }
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    Case::new(Constant { shape, value: -2.5 }, vec![])
}
