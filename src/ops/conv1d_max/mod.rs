//! A convolution of which only the maxima over time are wanted (Kim 2014, arXiv:1408.5882).
//!
//! Each filter's maximum comes from one place of a sequence, so that the gradients are sums over the places that won instead of
//! products over all.

mod cpu;
mod grad;

use crate::error::Result;
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId,
    cpu_reference, expect_kinds, expect_same, shape_error,
};
use crate::ops::conv1d::{Epilogue, Product};
use crate::ops::pool::{Pooling, check_positions, global_dispatches};
use crate::ops::{Activation, Case, CaseInput, Geometry, Pooled};
use crate::random::Random;

use grad::{Conv1dMaxGradInput, Conv1dMaxGradWeight};

/// `y = max over t of b + Σ_k x[t · stride + k · dilation − pad_left] · W[k]`, and the first `t` that has it.
///
/// Inputs: `x` `[batch, time, c_in]`, `W` of `taps · c_in` rows by `filters` (`[taps, c_in, filters]`), a vector `[filters]`, and
/// where `lengths`, ids `[batch, 1]`: how many places of the filters count. Outputs: values and positions, both
/// `[batch, 1, filters]`; of a sequence without places 0 and −1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv1dMax {
    /// Where the taps lie.
    pub geometry: Geometry,
    /// Whether there are lengths.
    pub lengths: bool,
}

/// Appends the maximum over time of a convolution of `x` `[batch, time, c_in]` with `weight` `[taps, c_in, filters]`, and where it
/// is: as [`conv1d`](crate::ops::conv1d()) and [`global_max_pool`](crate::ops::global_max_pool) of its output, with gradients at a
/// fraction of the arithmetic. The `lengths` are those of the convolution's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit, a filter has more than 2²⁴ places, or `lengths` are no ids
/// `[batch, 1]`.
pub fn conv1d_max(
    graph: &mut Graph,
    x: TensorId,
    weight: TensorId,
    bias: TensorId,
    geometry: Geometry,
    lengths: Option<TensorId>,
) -> Result<Pooled> {
    let inputs: Vec<TensorId> = [x, weight, bias].into_iter().chain(lengths).collect();
    let outputs = graph.push(Conv1dMax { geometry, lengths: lengths.is_some() }, &inputs)?;
    Ok(Pooled { values: outputs[0], positions: outputs[1] })
}

/// Elements of the convolution's output that are there at a time on a GPU: 32 MiB.
const ELEMENTS: usize = 1 << 23;

impl Conv1dMax {
    /// The shape of the convolution's output.
    fn features(&self, x: Shape, weight: Shape) -> Result<Shape> {
        features(self, &self.geometry, x, weight)
    }
}

fn features(op: &dyn Op, geometry: &Geometry, x: Shape, weight: Shape) -> Result<Shape> {
    if weight.rows() != geometry.kernel * x.channels {
        return Err(shape_error(
            op,
            format!("weight {weight} must have {} taps × {} rows for input {x}", geometry.kernel, x.channels),
        ));
    }
    let time = geometry
        .out_time(x.time)
        .ok_or_else(|| shape_error(op, format!("input {x} is too short for {geometry:?} with weight {weight}")))?;
    Ok(x.with_time(time).with_channels(weight.channels))
}

/// Some sequences of a tensor: `batch` of them from `first` on, of at most `planned`.
fn sequences(of: &Operand, first: usize, batch: usize, planned: usize) -> Operand {
    Operand {
        shape: Shape { batch, ..of.shape },
        planned: Shape { batch: planned, ..of.planned },
        offset: of.offset + first * of.shape.time * of.stride,
        ..*of
    }
}

impl Op for Conv1dMax {
    fn name(&self) -> &'static str {
        "conv1d_max"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let kinds = [Kind::Real, Kind::Real, Kind::Real, Kind::Ids];
        expect_kinds(self, inputs, &kinds[..3 + usize::from(self.lengths)])?;
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let features = self.features(x, weight)?;
        if bias != Shape::vector(weight.channels) {
            return Err(shape_error(self, format!("bias {bias} does not fit weight {weight}")));
        }
        if let Some(&lengths) = inputs.get(3) {
            expect_same(self, lengths, Shape::ids(x.batch, 1))?;
        }
        check_positions(self, features)?;
        Ok(vec![features.with_time(1); 2])
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let (x, weight, positions) = (gradient.input(0), gradient.input(1), gradient.output(1));
        if gradient.wanted(0) {
            let op = Conv1dMaxGradInput { geometry: self.geometry };
            // x tells only the shape.
            let dx = gradient.push_one(op, &[dy, positions, weight, x])?;
            gradient.give(0, dx);
        }
        if gradient.wanted(1) || gradient.wanted(2) {
            let op = Conv1dMaxGradWeight { geometry: self.geometry, weight: gradient.shape(weight) };
            let sums = gradient.push(op, &[dy, positions, x])?;
            gradient.give(1, sums[0]);
            gradient.give(2, sums[1]);
        }
        Ok(())
    }

    // Of sums that were rounded before they are compared, too many would be equal.
    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Everywhere
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, weight, bias, lengths) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2], plan.inputs.get(3));
        let planned = self.features(x.planned, weight.planned)?;
        let shape = self.features(x.shape, weight.shape)?;
        // As many sequences at a time as there is memory for.
        let group = (ELEMENTS / (planned.time * planned.stride())).clamp(1, planned.batch);
        let mut dispatches = vec![];
        for first in (0..planned.batch).step_by(group) {
            let batch = shape.batch.saturating_sub(first).min(group);
            let part = |of: &Operand| sequences(of, first, batch, group);
            let (planned, shape) = (Shape { batch: group, ..planned }, Shape { batch, ..shape });
            let features = Operand::scratch(0, planned, shape, x);
            let product = Product {
                source: &part(x),
                weight,
                target: &features,
                columns: shape.channels,
                map: self.geometry.forward(x.shape.time),
                taps: self.geometry.kernel,
                transposed: false,
                bias: Some(bias),
                add: None,
                epilogue: Epilogue::Activation(Activation::Identity),
            };
            dispatches.push(product.dispatch(plan.capabilities)?);
            let outputs = [part(&plan.outputs[0]), part(&plan.outputs[1])];
            dispatches.extend(global_dispatches(Pooling::Max, &features, lengths, first, &outputs, 1));
        }
        Ok(dispatches)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let places = self.geometry.out_time(inputs[0].time).unwrap_or_default();
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].batch * places, inputs[1])
    }
}

impl Conv1dMax {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        cpu::forward(self, run);
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let mut pick = |sizes: &[usize]| sizes[random.below(sizes.len() as u32) as usize];
    let (kernel, dilation) = (pick(&[1, 2, 3, 5]), pick(&[1, 1, 1, 3]));
    let wide = (kernel - 1) as isize;
    let geometry = match pick(&[0, 1, 2, 3, 4]) {
        0 => Geometry { pad_left: wide, pad_right: wide, ..Geometry::valid(kernel, 1) },
        1 => Geometry::same(kernel, dilation),
        2 => Geometry::causal(kernel, dilation).with_stride(2),
        _ => Geometry::valid(kernel, dilation),
    };
    let (batch, time) = (pick(&[1, 2, 3, 7]), geometry.reach() + pick(&[1, 5, 20, 300]));
    let (channels, filters) = (pick(&[1, 3, 4, 8, 17, 33]), pick(&[1, 3, 4, 8, 25, 40]));
    let lengths = pick(&[0, 1]) == 0;
    // From none to more than there are.
    let classes = geometry.out_time(time).unwrap_or_default() + pick(&[1, 2]);
    let mut inputs = vec![
        CaseInput::real(Shape::new(batch, time, channels)),
        CaseInput::scaled(Shape::new(kernel, channels, filters), 1.0 / ((kernel * channels) as f32).sqrt()),
        CaseInput::real(Shape::vector(filters)),
    ];
    if lengths {
        inputs.push(CaseInput::Ids { shape: Shape::ids(batch, 1), classes, masked: false });
    }
    Case::new(Conv1dMax { geometry, lengths }, inputs)
}
