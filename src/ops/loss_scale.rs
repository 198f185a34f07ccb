//! The factor by which the loss of an `f16` program is multiplied, so that small gradients are not lost.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Graph, Kind, Op, Real, Shape, State, TensorId, cpu_reference,
    expect_kinds,
};

/// The loss scale of a training in `f16`: what [`State::LossScale`] holds. All zero is how it starts.
///
/// It is a power of 2. A step whose gradients are not finite halves it, and is left out: parameters, moments and the
/// count of updates stay as they are. After [`PATIENCE`](Self::PATIENCE) steps without it doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossScale {
    /// The scale's exponent, counted from [`FIRST`](Self::FIRST).
    pub exponent: i32,
    /// Finite steps since it last changed.
    pub steps: u32,
    /// Steps left out.
    pub skipped: u32,
}

impl LossScale {
    /// Elements of the state.
    pub const ELEMENTS: usize = 4;
    /// The first scale is 2 to this.
    pub const FIRST: i32 = 16;
    /// The smallest exponent, counted from [`FIRST`](Self::FIRST). A gradient that is not finite even so means that the
    /// training has diverged.
    pub const SMALLEST: i32 = -32;
    /// The largest exponent, counted from [`FIRST`](Self::FIRST).
    pub const LARGEST: i32 = 8;
    /// Finite steps after which the scale doubles.
    pub const PATIENCE: u32 = 2000;

    /// From the state as read from a store.
    pub fn of(state: &[f32]) -> Self {
        match *state {
            [exponent, steps, skipped, ..] => {
                Self { exponent: exponent as i32, steps: steps as u32, skipped: skipped as u32 }
            }
            _ => Self::default(),
        }
    }

    /// The state, to be written to a store.
    pub fn state(&self) -> [f32; Self::ELEMENTS] {
        [self.exponent as f32, self.steps as f32, self.skipped as f32, 0.0]
    }

    /// The scale.
    pub fn scale(&self) -> f32 {
        2.0_f32.powi(Self::FIRST + self.exponent)
    }

    /// The scale after a step whose gradients are finite or not.
    #[must_use]
    pub(crate) fn after(self, finite: bool) -> Self {
        match (finite, self.steps + 1 >= Self::PATIENCE) {
            (false, _) => {
                Self { exponent: (self.exponent - 1).max(Self::SMALLEST), steps: 0, skipped: self.skipped + 1 }
            }
            (true, true) => Self { exponent: (self.exponent + 1).min(Self::LARGEST), steps: 0, ..self },
            (true, false) => Self { steps: self.steps + 1, ..self },
        }
    }
}

/// The scale of the next step, a scalar. Input: [`State::LossScale`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct ReadLossScale;

/// Appends the loss scale, a scalar.
pub(crate) fn loss_scale(graph: &mut Graph) -> Result<TensorId> {
    let state = graph.state(State::LossScale, LossScale::ELEMENTS);
    let scale = graph.push_one(ReadLossScale, &[state])?;
    graph.set_name(scale, "loss_scale");
    Ok(scale)
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    first: f32,
    y_offset4: u32,
}

impl Op for ReadLossScale {
    fn name(&self) -> &'static str {
        "loss_scale"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(vec![Shape::scalar()])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (state, scale) = (&plan.inputs[0], &plan.outputs[0]);
        let params = Params { first: LossScale::FIRST as f32, y_offset4: scale.place4().0 };
        let dispatch = Dispatch::new("loss_scale", "main").read(state.binding).write(scale.binding);
        Ok(vec![dispatch.params(&params).workgroups(1)])
    }
}

impl ReadLossScale {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let exponent = run.inputs[0].row(0)[0].to_f64();
        let scale = run.outputs[0].row(0);
        scale.fill(T::ZERO);
        scale[0] = T::of((f64::from(LossScale::FIRST) + exponent).exp2());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_at_once_and_rises_slowly() {
        let first = LossScale::default();
        assert_eq!(first.scale(), 65536.0);
        let fallen = first.after(true).after(false);
        assert_eq!(fallen, LossScale { exponent: -1, steps: 0, skipped: 1 });
        let mut risen = fallen;
        for step in 1..LossScale::PATIENCE {
            risen = risen.after(true);
            assert_eq!(risen, LossScale { steps: step, ..fallen });
        }
        risen = risen.after(true);
        assert_eq!(risen, LossScale { exponent: 0, ..fallen });
        let far = |exponent, finite| LossScale { exponent, steps: LossScale::PATIENCE, skipped: 0 }.after(finite);
        assert_eq!(far(LossScale::LARGEST, true).exponent, LossScale::LARGEST);
        assert_eq!(far(LossScale::SMALLEST, false).scale(), 2.0_f32.powi(-16));
        assert_eq!(LossScale::of(&fallen.state()), fallen);
        assert_eq!(LossScale::of(&[0.0; 4]), first);
    }
}
