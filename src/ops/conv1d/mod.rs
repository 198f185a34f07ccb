//! Dilated 1-D convolution, and dense layers as its case of one tap.

mod coop;
#[cfg(test)]
mod coop_tests;
mod cpu;
mod geometry;
mod gpu;
mod grad_input;
mod grad_weight;
mod grad_weight_gpu;
mod tiles;

use cpu::convolve;
pub(crate) use cpu::{Finish, add_to, backward_panels, forward_panels, weight_gradient};
pub use geometry::Geometry;
pub(crate) use gpu::{Epilogue, Product};
pub(crate) use grad_input::Conv1dGradInput;
pub use grad_input::conv1d_grad_input;
pub use grad_weight::conv1d_grad_weight;
pub(crate) use grad_weight::{Conv1dGradWeight, Conv1dGradWeightPair};
pub(crate) use grad_weight_gpu::VARIANTS as GRAD_WEIGHT_VARIANTS;
pub(crate) use tiles::{BUSY, Problem, VARIANTS};

use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
    shape_error,
};
use crate::ops::{Activation, ActivationGrad, Case, CaseInput};
use crate::random::Random;

/// `y[t] = act(b + add[t] + Σ_k x[t · stride + k · dilation − pad_left] · W[k])`.
///
/// Inputs: `x` `[batch, time, c_in]`, `W` of `taps · c_in` rows by `c_out` (`[taps, c_in, c_out]`), where `bias` a vector
/// `[c_out]`, and where `add` a tensor shaped as the output. Output: `[batch, time', c_out]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv1d {
    /// Where the taps lie.
    pub geometry: Geometry,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether there is a tensor to add.
    pub add: bool,
    /// What is applied to the sum.
    pub activation: Activation,
}

/// Appends a convolution of `x` with `weight`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn conv1d(
    graph: &mut Graph,
    x: TensorId,
    weight: TensorId,
    bias: Option<TensorId>,
    geometry: Geometry,
    activation: Activation,
) -> Result<TensorId> {
    let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).collect();
    graph.push_one(Conv1d { geometry, bias: bias.is_some(), add: false, activation }, &inputs)
}

/// Appends a convolution of `x` with `weight` to whose sum `add`, shaped as the output, is added before the activation.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn conv1d_add(
    graph: &mut Graph,
    x: TensorId,
    weight: TensorId,
    bias: Option<TensorId>,
    add: TensorId,
    geometry: Geometry,
    activation: Activation,
) -> Result<TensorId> {
    let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).chain([add]).collect();
    graph.push_one(Conv1d { geometry, bias: bias.is_some(), add: true, activation }, &inputs)
}

impl Conv1d {
    fn bias_position(&self) -> Option<usize> {
        self.bias.then_some(2)
    }

    fn add_position(&self) -> Option<usize> {
        self.add.then_some(2 + usize::from(self.bias))
    }
}

impl Op for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; 2 + usize::from(self.bias) + usize::from(self.add)])?;
        let (x, weight) = (inputs[0], inputs[1]);
        if weight.rows() != self.geometry.kernel * x.channels {
            return Err(shape_error(
                self,
                format!("weight {weight} must have {} taps × {} rows for input {x}", self.geometry.kernel, x.channels),
            ));
        }
        if let Some(bias) = self.bias_position().map(|at| inputs[at])
            && bias != Shape::vector(weight.channels)
        {
            return Err(shape_error(self, format!("bias {bias} does not fit weight {weight}")));
        }
        let time = self.geometry.out_time(x.time).ok_or_else(|| {
            shape_error(self, format!("input {x} is too short for {:?} with weight {weight}", self.geometry))
        })?;
        let y = x.with_time(time).with_channels(weight.channels);
        if let Some(add) = self.add_position().map(|at| inputs[at])
            && add != y
        {
            return Err(shape_error(self, format!("{add} can't be added to the output {y}")));
        }
        Ok(vec![y])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(mut dy) = gradient.of_output(0) else { return Ok(()) };
        if self.activation != Activation::Identity {
            let y = gradient.output(0);
            dy = gradient.push_one(ActivationGrad { activation: self.activation }, &[y, dy])?;
        }
        if let Some(add) = self.add_position().filter(|&at| gradient.wanted(at)) {
            gradient.give(add, dy);
        }
        let (x, weight) = (gradient.input(0), gradient.input(1));
        if gradient.wanted(0) {
            let op = Conv1dGradInput { geometry: self.geometry, add: false };
            let dx = gradient.push_one(op, &[dy, weight, x])?;
            gradient.give(0, dx);
        }
        let bias = self.bias && gradient.wanted(2);
        if gradient.wanted(1) || bias {
            let op = Conv1dGradWeight { geometry: self.geometry, weight: gradient.shape(weight), bias };
            let sums = gradient.push(op, &[x, dy])?;
            gradient.give(1, sums[0]);
            if bias {
                gradient.give(2, sums[1]);
            }
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let product = Product {
            source: &plan.inputs[0],
            weight: &plan.inputs[1],
            target: &plan.outputs[0],
            columns: plan.outputs[0].shape.channels,
            map: self.geometry.forward(plan.inputs[0].shape.time),
            taps: self.geometry.kernel,
            transposed: false,
            bias: self.bias_position().map(|at| &plan.inputs[at]),
            add: self.add_position().map(|at| &plan.inputs[at]),
            epilogue: Epilogue::Activation(self.activation),
        };
        Ok(vec![product.dispatch(plan.capabilities)?])
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(outputs[0].rows(), inputs[1])
    }
}

impl Conv1d {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let finish = Finish {
            bias: self.bias_position().map(|at| &run.inputs[at]),
            add: self.add_position().map(|at| &run.inputs[at]),
            activation: self.activation,
        };
        let taps = self.geometry.kernel;
        let weight = forward_panels(&run.inputs[1], taps);
        convolve(
            &run.inputs[0],
            self.geometry.forward(run.inputs[0].shape.time),
            &weight,
            taps,
            &mut run.outputs[0],
            &finish,
        );
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let kernel = 1 + random.below(4) as usize;
    let dilation = 1 + random.below(5) as usize;
    let reach = (kernel - 1) * dilation;
    let geometry = match random.below(6) {
        0 => Geometry::same(kernel, dilation),
        1 => Geometry::valid(kernel, dilation),
        2 => Geometry::causal(kernel, dilation).with_stride(1 + random.below(3) as usize),
        3 => Geometry::causal(kernel, dilation).with_stride(1 + random.below(3) as usize).counted_from_end(),
        4 => Geometry::causal(kernel, dilation).cropped(random.below(3) as usize),
        _ => Geometry::causal(kernel, dilation),
    };
    let batch = 1 + random.below(3) as usize;
    let time = reach + 3 + random.below(60) as usize;
    let sizes = [1, 3, 4, 5, 8, 16, 17, 25, 40, 68];
    let mut size = || sizes[random.below(sizes.len() as u32) as usize];
    let (c_in, c_out) = (size(), size());
    let (bias, add) = (random.below(2) == 0, random.below(3) == 0);
    let activation = Activation::ALL[random.below(Activation::ALL.len() as u32) as usize];
    let mut inputs = vec![
        CaseInput::real(Shape::new(batch, time, c_in)),
        CaseInput::scaled(Shape::new(kernel, c_in, c_out), 1.0 / ((kernel * c_in) as f32).sqrt()),
    ];
    if bias {
        inputs.push(CaseInput::real(Shape::vector(c_out)));
    }
    if let Some(time) = geometry.out_time(time).filter(|_| add) {
        inputs.push(CaseInput::real(Shape::new(batch, time, c_out)));
    }
    let add = inputs.len() > 2 + usize::from(bias);
    Case::new(Conv1d { geometry, bias, add, activation }, inputs)
}
