//! Layer normalisation (Ba, Kiros and Hinton 2016, arXiv:1607.06450), over the channels of each position.

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference,
    expect_kinds, expect_same, for_row_tiles,
};
use crate::ops::norm_sums::NormSums;
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y = w (x − μ) / √(σ² + eps) + b` with the mean `μ` and the variance `σ²` of a position's channels.
///
/// Inputs: `x` `[batch, time, channels]`, `w` and `b`, vectors. Outputs: `y`, shaped as `x`, and for the gradient rule `μ` and
/// `1 / √(σ² + eps)` of each position, `[batch, time, 2]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// What is added to the variance.
    pub eps: f32,
}

/// Appends the layer normalisation of `x` `[batch, time, channels]` with `weight` and `bias`, vectors of its channels, as
/// `torch.nn.LayerNorm` of the channels; there `eps` is 1e-5.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn layer_norm(graph: &mut Graph, x: TensorId, weight: TensorId, bias: TensorId, eps: f32) -> Result<TensorId> {
    Ok(graph.push(LayerNorm { eps }, &[x, weight, bias])?[0])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    statistics_offset4: u32,
    statistics_stride4: u32,
    weight_offset4: u32,
    bias_offset4: u32,
}

/// The normalisation of `x`, with a bias, or where there is `dy` its gradient, in `y`.
fn dispatch(
    eps: f32,
    [x, weight, statistics]: [&Operand; 3],
    other: &Operand,
    y: &Operand,
    gradient: bool,
) -> Dispatch {
    let ((x_offset4, x_stride4), (y_offset4, y_stride4)) = (x.place4(), y.place4());
    let (statistics_offset4, statistics_stride4) = statistics.place4();
    let (dy_offset4, dy_stride4) = other.place4();
    let params = Params {
        rows: x.shape.rows() as u32,
        channels: x.shape.channels as u32,
        eps,
        x_offset4,
        x_stride4,
        y_offset4,
        y_stride4,
        dy_offset4,
        dy_stride4,
        statistics_offset4,
        statistics_stride4,
        weight_offset4: weight.place4().0,
        bias_offset4: other.place4().0,
    };
    let columns = x.channels4().next_power_of_two().min(64);
    let dispatch = Dispatch::new("layer_norm", "main")
        .define("GRADIENT", gradient)
        .constant("COLUMNS", columns)
        .read(x.binding)
        .write(y.binding)
        .read(weight.binding);
    let dispatch = match gradient {
        true => dispatch.read(statistics.binding),
        false => dispatch.write(statistics.binding),
    };
    dispatch.read(other.binding).params(&params).workgroups(x.shape.rows().div_ceil((256 / columns) as usize))
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 3])?;
        let x = inputs[0];
        inputs[1..].iter().try_for_each(|&vector| expect_same(self, vector, Shape::vector(x.channels)))?;
        Ok(vec![x, x.with_channels(2)])
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let (x, weight, statistics) = (gradient.input(0), gradient.input(1), gradient.output(1));
        if gradient.wanted(0) {
            let dx = gradient.push_one(LayerNormGrad, &[x, weight, dy, statistics])?;
            gradient.give(0, dx);
        }
        if gradient.wanted(1) || gradient.wanted(2) {
            let op = NormSums { per_row: true, eps: self.eps, lengths: false };
            let sums = gradient.push(op, &[x, dy, statistics])?;
            gradient.give(1, sums[0]);
            gradient.give(2, sums[1]);
        }
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::From { inputs: 3, outputs: 1 }
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, weight, bias] = [0, 1, 2].map(|input| &plan.inputs[input]);
        let (y, statistics) = (&plan.outputs[0], &plan.outputs[1]);
        Ok(vec![dispatch(self.eps, [x, weight, statistics], bias, y, false)])
    }
}

/// The sum of some numbers, in their order.
fn sum<T: Real>(values: impl Iterator<Item = T>) -> T {
    values.fold(T::ZERO, |sum, value| sum + value)
}

impl LayerNorm {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, weight, bias] = [0, 1, 2].map(|input| &run.inputs[input]);
        let [y, statistics] = run.outputs.as_mut_slice() else { return Ok(()) };
        let (rows, channels) = (x.shape.rows(), x.shape.channels);
        let scale = T::of(1.0 / channels as f64);
        let moments = |row: usize| {
            let x = &x.row(row)[..channels];
            let mean = sum(x.iter().copied()) * scale;
            let variance = sum(x.iter().map(|&x| (x - mean) * (x - mean))) * scale;
            (mean, T::ONE / (variance + T::of(f64::from(self.eps))).sqrt())
        };
        let (statistics_stride, padded) = (statistics.stride, statistics.shape.stride());
        for_row_tiles(statistics.data, statistics_stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(statistics_stride).enumerate() {
                values[..padded].fill(T::ZERO);
                (values[0], values[1]) = moments(first + row);
            }
        });
        let (stride, padded, statistics) = (y.stride, y.shape.stride(), &*statistics.data);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                let (mean, rstd) = (statistics[row * statistics_stride], statistics[row * statistics_stride + 1]);
                let parameters = weight.row(0).iter().zip(bias.row(0));
                for ((y, &x), (&weight, &bias)) in values[..channels].iter_mut().zip(x.row(row)).zip(parameters) {
                    *y = weight * ((x - mean) * rstd) + bias;
                }
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

/// `dx = (g − mean(g) − x̂ mean(g x̂)) / √(σ² + eps)` with `g = w dy`, the means over the channels. Inputs: `x`, `w`, `dy`, the statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LayerNormGrad;

impl Op for LayerNormGrad {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real; 4])?;
        let x = inputs[0];
        expect_same(self, inputs[1], Shape::vector(x.channels))?;
        expect_same(self, inputs[2], x)?;
        expect_same(self, inputs[3], x.with_channels(2))?;
        Ok(vec![x])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(3)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, weight, dy, statistics] = [0, 1, 2, 3].map(|input| &plan.inputs[input]);
        Ok(vec![dispatch(0.0, [x, weight, statistics], dy, &plan.outputs[0], true)])
    }
}

impl LayerNormGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, weight, dy, statistics] = [0, 1, 2, 3].map(|input| &run.inputs[input]);
        let dx = &mut run.outputs[0];
        let (rows, stride, channels, padded) = (dx.shape.rows(), dx.stride, dx.shape.channels, dx.shape.stride());
        let scale = T::of(1.0 / channels as f64);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                let (mean, rstd) = (statistics.row(row)[0], statistics.row(row)[1]);
                let each = || {
                    let (x, dy) = (&x.row(row)[..channels], &dy.row(row)[..channels]);
                    let gradients = dy.iter().zip(weight.row(0)).map(|(&dy, &weight)| dy * weight);
                    x.iter().map(move |&x| (x - mean) * rstd).zip(gradients)
                };
                let mean_g = sum(each().map(|(_, g)| g)) * scale;
                let mean_gh = sum(each().map(|(h, g)| g * h)) * scale;
                for (dx, (h, g)) in values[..channels].iter_mut().zip(each()) {
                    *dx = rstd * (g - mean_g - h * mean_gh);
                }
                values[channels..padded].fill(T::ZERO);
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let shape = random_shape(random);
    // Some have more rows than a slab of the sums.
    let shape = shape.with_time(shape.time * [1, 1, 9][random.below(3) as usize]);
    // Of one channel all is the bias, and the fewer there are the more a position's may happen to be one another's equals.
    let channels = if shape.channels < 3 { 260 } else { shape.channels };
    let vector = CaseInput::real(Shape::vector(channels));
    let op = LayerNorm { eps: if channels < 8 { 0.1 } else { 1e-5 } };
    Case::new(op, vec![CaseInput::real(shape.with_channels(channels)), vector, vector])
}
