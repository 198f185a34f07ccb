//! Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), over batch and time.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Op, Operand, Real, Shape, TensorId, View, ViewMut,
    cpu_reference, expect_same, for_row_tiles, shape_error,
};
use crate::ops::moments::{self, UpdateRunning};
use crate::ops::norm_sums::{NormSums, is_there};
use crate::ops::{Case, CaseInput, random_shape};
use crate::random::Random;

/// `y = w (x − μ) / √(σ² + eps) + b` with the mean `μ` and the variance `σ²` of each channel over all rows that there are; 0 in the
/// others.
///
/// Inputs: `x` `[batch, time, channels]`, `w` and `b`, vectors, and where there are ids `[batch, 1]` with the lengths of the
/// sequences. Outputs: `y`, shaped as `x`, and `μ`, `σ²` and the count of rows, `[1, 3, channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// What is added to the variance.
    pub eps: f32,
    /// Whether there is an input with the lengths of the sequences.
    pub lengths: bool,
}

/// What a batch normalisation is made of besides its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormInputs {
    /// What the normalised channels are multiplied by, a vector.
    pub weight: TensorId,
    /// What is added then, a vector.
    pub bias: TensorId,
    /// The mean and the variance of each channel over the steps so far, `[1, 2, channels]`, from [`Graph::untrained`]. They start
    /// as [`Init::Moments`](crate::graph::Init::Moments).
    pub running: TensorId,
    /// How many positions of each sequence there are, ids `[batch, 1]`.
    pub lengths: Option<TensorId>,
}

/// Appends the batch normalisation of `x` `[batch, time, channels]` as `torch.nn.BatchNorm1d` has it, where `eps` is 1e-5 and
/// `momentum` 0.1. With `training` the moments are those of the batch, and the running ones are moved by a share of `momentum` towards
/// them, the variance being the unbiased one, where both are finite; else the running ones are used. What lies beyond the end of a
/// sequence counts for nothing and becomes 0.
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit; [`Error::Graph`] if `running` is no parameter.
pub fn batch_norm(
    graph: &mut Graph,
    x: TensorId,
    inputs: &BatchNormInputs,
    eps: f32,
    momentum: f32,
    training: bool,
) -> Result<TensorId> {
    let BatchNormInputs { weight, bias, running, lengths } = *inputs;
    let channels = graph.shape(x).channels;
    let given = graph.shape(running);
    if given != Shape::new(1, 2, channels) {
        let message = format!("running moments {given} are not those of {}", graph.shape(x));
        return Err(Error::Shape { op: "batch_norm".into(), message });
    }
    let op = BatchNorm { eps, lengths: lengths.is_some() };
    if !training {
        let all: Vec<TensorId> = [x, weight, bias, running].into_iter().chain(lengths).collect();
        return graph.push_one(BatchNormRunning { of: op }, &all);
    }
    let all: Vec<TensorId> = [x, weight, bias].into_iter().chain(lengths).collect();
    let outputs = graph.push(op, &all)?;
    graph.push_in_place(UpdateRunning { momentum }, &[outputs[1]], &[running])?;
    Ok(outputs[0])
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    channels: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    moments_offset4: u32,
    moments_stride4: u32,
    weight_offset4: u32,
    bias_offset4: u32,
    sums_offset4: u32,
}

impl BatchNorm {
    fn check(&self, op: &dyn Op, x: Shape, vectors: &[Shape], lengths: &[Shape]) -> Result<()> {
        if lengths.len() != usize::from(self.lengths) {
            return Err(shape_error(op, format!("got {} lengths", lengths.len())));
        }
        expect_same(op, x, x.with_channels(x.channels))?;
        vectors.iter().try_for_each(|&vector| expect_same(op, vector, Shape::vector(x.channels)))?;
        lengths.iter().try_for_each(|&lengths| expect_same(op, lengths, Shape::ids(x.batch, 1)))
    }

    /// The normalisation of `x` with a bias, or where there are `dy` and its sums its gradient, with the sums of products for a bias.
    fn dispatch(
        &self,
        [x, weight, moments, bias]: [&Operand; 4],
        gradient: Option<[&Operand; 2]>,
        lengths: Option<&Operand>,
        y: &Operand,
    ) -> Dispatch {
        let ((x_offset4, x_stride4), (y_offset4, y_stride4)) = (x.place4(), y.place4());
        let (moments_offset4, moments_stride4) = moments.place4();
        let (dy_offset4, dy_stride4) = gradient.map_or((0, 0), |[dy, _]| dy.place4());
        let params = Params {
            rows: x.shape.rows() as u32,
            time: x.shape.time as u32,
            channels: x.shape.channels as u32,
            eps: self.eps,
            x_offset4,
            x_stride4,
            y_offset4,
            y_stride4,
            dy_offset4,
            dy_stride4,
            moments_offset4,
            moments_stride4,
            weight_offset4: weight.place4().0,
            bias_offset4: bias.place4().0,
            sums_offset4: gradient.map_or(0, |[_, sums]| sums.place4().0),
        };
        let mut dispatch = Dispatch::new("batch_norm", "main")
            .define("GRADIENT", gradient.is_some())
            .define("LENGTHS", lengths.is_some())
            .read(x.binding)
            .write(y.binding)
            .read(weight.binding)
            .read(moments.binding)
            .read(bias.binding);
        for operand in gradient.into_iter().flatten().chain(lengths) {
            dispatch = dispatch.read(operand.binding);
        }
        dispatch.params(&params).workgroups((y.shape.padded_len() / 4).div_ceil(256))
    }

    /// 1/σ of each channel.
    fn rstds<T: Real>(&self, variances: &[T]) -> Vec<T> {
        let eps = T::of(f64::from(self.eps));
        variances.iter().map(|&variance| T::ONE / (variance + eps).sqrt()).collect()
    }

    fn normalise<T: Real>(
        &self,
        [x, weight, bias]: [&View<'_, T>; 3],
        [means, variances]: [&[T]; 2],
        lengths: Option<&View<'_, T>>,
        y: &mut ViewMut<'_, T>,
    ) {
        let rstds = self.rstds(variances);
        let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
        let (channels, time) = (y.shape.channels, y.shape.time);
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                values[..padded].fill(T::ZERO);
                if !is_there(lengths, time, row) {
                    continue;
                }
                let parameters = weight.row(0).iter().zip(bias.row(0)).zip(means.iter().zip(&rstds));
                for ((y, &x), ((&weight, &bias), (&mean, &rstd))) in
                    values[..channels].iter_mut().zip(x.row(row)).zip(parameters)
                {
                    *y = weight * ((x - mean) * rstd) + bias;
                }
            }
        });
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, weight, bias, lengths @ ..] = inputs else { return Err(shape_error(self, "takes three inputs")) };
        self.check(self, *x, &[*weight, *bias], lengths)?;
        Ok(vec![*x, moments::shape(x.channels)])
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let (x, weight, moments) = (gradient.input(0), gradient.input(1), gradient.output(1));
        let lengths = gradient.inputs().get(3).copied();
        let op = NormSums { per_row: false, eps: self.eps, lengths: self.lengths };
        let inputs: Vec<TensorId> = [x, dy, moments].into_iter().chain(lengths).collect();
        let sums = gradient.push(op, &inputs)?;
        if gradient.wanted(0) {
            let inputs: Vec<TensorId> = [x, weight, dy, moments, sums[0], sums[1]].into_iter().chain(lengths).collect();
            let dx = gradient.push_one(BatchNormGrad { of: *self }, &inputs)?;
            gradient.give(0, dx);
        }
        gradient.give(1, sums[0]);
        gradient.give(2, sums[1]);
        Ok(())
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::From { inputs: 3, outputs: 1 }
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, weight, bias] = [0, 1, 2].map(|input| &plan.inputs[input]);
        let (lengths, y, moments) = (plan.inputs.get(3), &plan.outputs[0], &plan.outputs[1]);
        let mut dispatches = moments::dispatches(x, lengths, moments);
        dispatches.push(self.dispatch([x, weight, moments, bias], None, lengths, y));
        Ok(dispatches)
    }
}

impl BatchNorm {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, weight, bias] = [0, 1, 2].map(|input| &run.inputs[input]);
        let lengths = run.inputs.get(3);
        let [y, moments] = run.outputs.as_mut_slice() else { return Ok(()) };
        moments::cpu(x, lengths, moments);
        let of = [moments.row(0).to_vec(), moments.row(1).to_vec()];
        self.normalise([x, weight, bias], [&of[0], &of[1]], lengths, y);
        Ok(())
    }
}

/// [`BatchNorm`] with moments that are given. Inputs: `x`, `w`, `b`, means and variances `[1, 2, channels]`, and lengths where there
/// are. Output: `y`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct BatchNormRunning {
    of: BatchNorm,
}

impl Op for BatchNormRunning {
    fn name(&self) -> &'static str {
        "batch_norm_running"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, weight, bias, running, lengths @ ..] = inputs else {
            return Err(shape_error(self, "takes four inputs"));
        };
        self.of.check(self, *x, &[*weight, *bias], lengths)?;
        expect_same(self, *running, Shape::new(1, 2, x.channels))?;
        Ok(vec![*x])
    }

    fn gradient(&self, _: &mut Gradient<'_>) -> Result<()> {
        Err(Error::Graph("batch_norm of running moments has no gradient: differentiate it as it is in training".into()))
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(3)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, weight, bias, running] = [0, 1, 2, 3].map(|input| &plan.inputs[input]);
        Ok(vec![self.of.dispatch([x, weight, running, bias], None, plan.inputs.get(4), &plan.outputs[0])])
    }
}

impl BatchNormRunning {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, weight, bias, running] = [0, 1, 2, 3].map(|input| &run.inputs[input]);
        let moments = [running.row(0), running.row(1)];
        self.of.normalise([x, weight, bias], moments, run.inputs.get(4), &mut run.outputs[0]);
        Ok(())
    }
}

/// `dx = w (dy − (Σ dy + x̂ Σ dy x̂) / n) / √(σ² + eps)`. Inputs: `x`, `w`, `dy`, the moments, `Σ dy x̂`, `Σ dy`, and lengths where there are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct BatchNormGrad {
    of: BatchNorm,
}

impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, weight, dy, moments, products, sums, lengths @ ..] = inputs else {
            return Err(shape_error(self, "takes six inputs"));
        };
        self.of.check(self, *x, &[*weight, *products, *sums], lengths)?;
        expect_same(self, *dy, *x)?;
        expect_same(self, *moments, moments::shape(x.channels))?;
        Ok(vec![*x])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::InputsFrom(3)
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, weight, dy, moments, products, sums] = [0, 1, 2, 3, 4, 5].map(|input| &plan.inputs[input]);
        let all = [x, weight, moments, products];
        Ok(vec![self.of.dispatch(all, Some([dy, sums]), plan.inputs.get(6), &plan.outputs[0])])
    }
}

impl BatchNormGrad {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, weight, dy, moments, products, sums] = [0, 1, 2, 3, 4, 5].map(|input| &run.inputs[input]);
        let (lengths, dx) = (run.inputs.get(6), &mut run.outputs[0]);
        let (means, rstds) = (moments.row(0), self.of.rstds(moments.row(1)));
        let scale = moments.row(2).first().map_or(T::ONE, |count| T::ONE / count.larger(T::ONE));
        let (rows, stride, padded) = (dx.shape.rows(), dx.stride, dx.shape.stride());
        let (channels, time) = (dx.shape.channels, dx.shape.time);
        for_row_tiles(dx.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let row = first + row;
                values[..padded].fill(T::ZERO);
                if !is_there(lengths, time, row) {
                    continue;
                }
                let (x, dy) = (x.row(row), dy.row(row));
                for (c, dx) in values[..channels].iter_mut().enumerate() {
                    let h = (x[c] - means[c]) * rstds[c];
                    let mean = (sums.row(0)[c] + h * products.row(0)[c]) * scale;
                    *dx = weight.row(0)[c] * rstds[c] * (dy[c] - mean);
                }
            }
        });
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let x = random_shape(random);
    // Some have more rows than a slab. Of one or two rows all would be 0 or ±1, by whatever little there is between them.
    let x = x.with_time((x.time + 5) * [1, 1, 9][random.below(3) as usize]);
    let lengths = random.below(2) == 0;
    // There may be few rows then.
    let op = BatchNorm { eps: if lengths { 0.1 } else { 1e-5 }, lengths };
    let vector = CaseInput::real(Shape::vector(x.channels));
    let mut inputs = vec![CaseInput::real(x), vector, vector];
    if op.lengths {
        inputs.push(CaseInput::Ids { shape: Shape::ids(x.batch, 1), classes: x.time + 2, masked: false });
    }
    Case::new(op, inputs)
}
