//! Activations, alone or as the end of a convolution.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference, expect_kinds,
    expect_same, for_row_tiles, vector_kernel,
};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope · x`.
    LeakyRelu {
        /// The slope below 0; positive.
        slope: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

impl Activation {
    pub(crate) const ALL: [Self; 5] =
        [Self::Identity, Self::Relu, Self::LeakyRelu { slope: 0.2 }, Self::Tanh, Self::Sigmoid];

    /// Its number in `shaders/shared/activation.wgsl`.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Identity => 0,
            Self::Relu | Self::LeakyRelu { .. } => 1,
            Self::Tanh => 2,
            Self::Sigmoid => 3,
        }
    }

    /// The slope below 0 of the rectifiers.
    pub(crate) fn slope(self) -> f32 {
        match self {
            Self::LeakyRelu { slope } => slope,
            _ => 0.0,
        }
    }

    #[inline(always)]
    pub(crate) fn apply<T: Real>(self, values: &mut [T]) {
        let slope = T::of(f64::from(self.slope()));
        match self {
            Self::Identity => {}
            Self::Relu | Self::LeakyRelu { .. } => {
                values.iter_mut().for_each(|v| *v = if *v > T::ZERO { *v } else { *v * slope });
            }
            Self::Tanh => tanh_row(values),
            Self::Sigmoid => sigmoid_row(values),
        }
    }

    /// The derivative where the function's value is `y`.
    #[inline(always)]
    fn derivative<T: Real>(self, y: T) -> T {
        match self {
            Self::Identity => T::ONE,
            Self::Relu | Self::LeakyRelu { .. } => {
                if y > T::ZERO {
                    T::ONE
                } else {
                    T::of(f64::from(self.slope()))
                }
            }
            Self::Tanh => T::ONE - y * y,
            Self::Sigmoid => y * (T::ONE - y),
        }
    }
}

vector_kernel! {
fn tanh_row<'a, T: Real>(values: &'a mut [T]) -> () {
    values.iter_mut().for_each(|v| *v = v.tanh());
}
}

vector_kernel! {
fn sigmoid_row<'a, T: Real>(values: &'a mut [T]) -> () {
    values.iter_mut().for_each(|v| *v = v.sigmoid());
}
}

vector_kernel! {
fn activation_gradient_row<'a, T: Real>(activation: Activation, y: &'a [T], dy: &'a [T], dx: &'a mut [T]) -> () {
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = dy * activation.derivative(y);
    }
}
}

/// `y = act(x)`, each element on its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activate {
    /// Which function.
    pub activation: Activation,
}

/// Appends an activation of `x`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids.
pub fn activate(graph: &mut Graph, x: TensorId, activation: Activation) -> Result<TensorId> {
    graph.push_one(Activate { activation }, &[x])
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
    dy_offset4: u32,
    dy_stride4: u32,
    slope: f32,
}

/// An activation of `x`, or where there is `dy` its gradient, in `out`; without an activation the Gaussian error linear unit.
pub(super) fn dispatch(activation: Option<Activation>, x: &Operand, dy: Option<&Operand>, out: &Operand) -> Dispatch {
    let (x_offset4, x_stride4) = x.place4();
    let (y_offset4, y_stride4) = out.place4();
    let (dy_offset4, dy_stride4) = dy.map_or((0, 0), Operand::place4);
    let params = Params {
        rows: x.shape.rows() as u32,
        channels: x.shape.channels as u32,
        x_offset4,
        x_stride4,
        y_offset4,
        y_stride4,
        dy_offset4,
        dy_stride4,
        slope: activation.map_or(0.0, Activation::slope),
    };
    let dispatch = Dispatch::new("activation", "main")
        .define("GRADIENT", dy.is_some())
        .define("GELU", activation.is_none())
        .read(x.binding)
        .write(out.binding);
    let dispatch = match activation {
        Some(activation) => dispatch.constant("ACTIVATION", activation.code()),
        None => dispatch,
    };
    let dispatch = match dy {
        Some(dy) => dispatch.read(dy.binding),
        None => dispatch,
    };
    let elements4 = x.shape.rows() * x.shape.stride() / 4;
    dispatch.params(&params).workgroups(elements4.div_ceil(256))
}

impl Op for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(inputs.to_vec())
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let y = gradient.output(0);
        let dx = gradient.push_one(ActivationGrad { activation: self.activation }, &[y, dy])?;
        gradient.give(0, dx);
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(Some(self.activation), &plan.inputs[0], None, &plan.outputs[0])])
    }
}

impl Activate {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, channels) = (y.shape.rows(), y.stride, y.shape.channels);
        let padded = y.shape.stride();
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                values[..padded].copy_from_slice(x.row(first + row));
                self.activation.apply(&mut values[..channels]);
            }
        });
        Ok(())
    }
}

/// `dx = dy · act'(x)`, told by `y = act(x)`. Inputs: `y`, `dy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ActivationGrad {
    pub activation: Activation,
}

impl Op for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real, Kind::Real])?;
        expect_same(self, inputs[0], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(vec![dispatch(Some(self.activation), &plan.inputs[0], Some(&plan.inputs[1]), &plan.outputs[0])])
    }
}

impl ActivationGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (y, dy, dx) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (rows, stride, activation) = (dx.shape.rows(), dx.stride, self.activation);
        let padded = dx.shape.stride();
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                activation_gradient_row(activation, y.row(row), dy.row(row), &mut values[..padded]);
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let activation = Activation::ALL[random.below(Activation::ALL.len() as u32) as usize];
    Case::new(Activate { activation }, vec![CaseInput::scaled(random_shape(random), 3.0)])
}
