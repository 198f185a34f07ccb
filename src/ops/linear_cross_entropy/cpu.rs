//! On the CPU: tiles of rows by groups of classes.

use rayon::prelude::*;

use super::grad::LinearCrossEntropyGrad;
use super::{ELEMENTS, LinearCrossEntropy, TILE, groups};
use crate::error::Result;
use crate::graph::{CpuRun, Epilogue, Matrix, Panels, Real, Rows, Shape, View, ViewMut, multiply, shape_error};
use crate::ops::Geometry;
use crate::ops::conv1d::{add_to, weight_gradient};
use crate::ops::softmax_cross_entropy::{softmax_denominator, softmax_gradient_row, write_scalar};

/// Classes of a group, at most: the logits of a tile of rows stay in the cache.
const GROUP: usize = 2048;
/// Rows of a tile.
const ROWS: usize = 64;
/// Columns of a matrix that are packed by one task.
const PACKED: usize = 256;

/// A bias, where there is one.
struct Bias<'a, T>(Option<&'a [T]>);

impl<T: Real> Epilogue<T> for Bias<'_, T> {
    #[inline(always)]
    fn apply(&self, _row: usize, values: &mut [T]) {
        if let Some(bias) = self.0 {
            add_to(values, bias);
        }
    }
}

/// A matrix of `[depth, columns]`, packed in parts on several threads.
struct Packed<T> {
    parts: Vec<Panels<T>>,
    columns: usize,
}

impl<T: Real> Packed<T> {
    fn new(depth: usize, columns: usize, matrix: Matrix<'_, T>) -> Self {
        let part = |part: usize| {
            let first = part * PACKED;
            let of_part = |_| Matrix { data: &matrix.data[first * matrix.column_stride..], ..matrix };
            Panels::new(1, depth, PACKED.min(columns - first), of_part)
        };
        Self { parts: (0..columns.div_ceil(PACKED)).into_par_iter().map(part).collect(), columns }
    }

    /// `target = rows · matrix + bias`, rows of the target as long as the matrix is wide.
    fn multiply(&self, rows: &Rows<'_, T>, target: &mut [T], bias: Option<&[T]>) {
        for (part, panels) in self.parts.iter().enumerate() {
            let first = part * PACKED;
            let bias = Bias(bias.map(|bias| &bias[first..]));
            multiply(rows, panels, &mut target[first..], self.columns, 0, &bias);
        }
    }
}

/// What both passes read.
struct Layer<'a, 'b, T> {
    x: &'b View<'a, T>,
    weight: &'b View<'a, T>,
    bias: Option<&'b View<'a, T>>,
    targets: &'a [u32],
    groups: Vec<(usize, usize)>,
}

impl<'a, 'b, T: Real> Layer<'a, 'b, T> {
    fn new(op: &LinearCrossEntropy, inputs: &'b [View<'a, T>]) -> Self {
        let (x, weight) = (&inputs[0], &inputs[1]);
        let most = op.group.unwrap_or_else(|| (ELEMENTS / x.shape.rows()).clamp(TILE, GROUP));
        Self {
            x,
            weight,
            bias: op.bias.then(|| &inputs[2]),
            targets: inputs[2 + usize::from(op.bias)].ids,
            groups: groups(weight.shape, x.shape.rows(), Some(most)),
        }
    }

    /// The weights of a group, a class a column.
    fn pack(&self, (first, count): (usize, usize)) -> Packed<T> {
        let rows = Matrix::rows(&self.weight.data[first * self.weight.stride..], self.weight.stride);
        Packed::new(self.x.shape.channels, count, rows.transposed())
    }

    /// The logits of a group for the rows of a tile, which are as many as fill `logits`.
    fn logits(&self, (first, count): (usize, usize), packed: &Packed<T>, tile: usize, logits: &mut [T]) {
        let start = &self.x.data[tile * ROWS * self.x.stride..];
        let rows = Rows::dense(start, self.x.shape.channels, logits.len() / count, self.x.stride);
        packed.multiply(&rows, logits, self.bias.map(|bias| &bias.row(0)[first..first + count]));
    }
}

/// Of a row of a group: the largest logit, the sum of exponentials of what is below it, the target's logit.
type Part<T> = (T, T, T);

impl LinearCrossEntropy {
    pub(super) fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let layer = Layer::new(self, &run.inputs);
        let [loss, lse, count] = run.outputs.as_mut_slice() else {
            return Err(shape_error(self, "takes three outputs"));
        };
        let (rows, classes) = (layer.x.shape.rows(), layer.weight.shape.time);
        let mut parts: Vec<Part<T>> = vec![(T::of(-3e38), T::ZERO, T::ZERO); rows];
        for &group in &layer.groups {
            let packed = layer.pack(group);
            let (first, size) = group;
            parts.par_chunks_mut(ROWS).enumerate().for_each(|(tile, parts)| {
                let mut logits = vec![T::ZERO; parts.len() * size];
                layer.logits(group, &packed, tile, &mut logits);
                for (row, (part, logits)) in parts.iter_mut().zip(logits.chunks_exact(size)).enumerate() {
                    let (largest, sum) = softmax_denominator(logits);
                    let next = part.0.larger(largest);
                    part.1 = part.1 * shrink(part.0, next) + sum * shrink(largest, next);
                    part.0 = next;
                    let target = (layer.targets[tile * ROWS + row] as usize).checked_sub(first);
                    if let Some(&logit) = target.and_then(|target| logits.get(target)) {
                        part.2 = logit;
                    }
                }
            });
        }
        let (mut sum, mut counted) = (T::ZERO, 0_usize);
        for (row, &(largest, denominator, logit)) in parts.iter().enumerate() {
            let target = layer.targets[row];
            let mut log_sum_exp = T::ZERO;
            if target != Shape::MASKED {
                counted += 1;
                let tail = denominator.ln();
                // Not the difference to the sum: that loses the digits of a small loss of large logits.
                let of_row = if (target as usize) < classes { (largest - logit) + tail } else { T::of(f64::NAN) };
                log_sum_exp = if (target as usize) < classes { largest + tail } else { of_row };
                sum += of_row;
            }
            write_scalar(lse.row(row), log_sum_exp);
        }
        write_scalar(loss.row(0), sum / T::of(counted.max(1) as f64));
        write_scalar(count.row(0), T::of(counted as f64));
        Ok(())
    }
}

/// What a sum of exponentials is multiplied by when there is a larger logit; below e^-87 nothing is left of it.
fn shrink<T: Real>(old: T, next: T) -> T {
    (old - next).larger(T::of(-87.0)).exp()
}

impl LinearCrossEntropyGrad {
    pub(super) fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let inputs = &run.inputs;
        let layer = Layer::new(&self.of, inputs);
        let first_statistic = self.first_statistic();
        let (lse, count) = (&inputs[first_statistic], &inputs[first_statistic + 1]);
        let scale = inputs[first_statistic + 2].scalar() / count.scalar().larger(T::ONE);
        let (dx, others) = run.outputs.split_at_mut(1);
        let dx = &mut dx[0];
        let (dweight, dbias) = others.split_at_mut(1);
        let (x, rows, channels) = (layer.x, layer.x.shape.rows(), layer.x.shape.channels);
        let (stride, padded) = (dx.stride, dx.shape.stride());
        let end = dx.data.len().min(rows * stride);
        let mut gradients = Vec::new();
        for &group in &layer.groups {
            let (first, size) = group;
            let packed = layer.pack(group);
            let of_group = Matrix::rows(&layer.weight.data[first * layer.weight.stride..], layer.weight.stride);
            let transposed = Packed::new(size, channels, of_group);
            gradients.resize(rows * size, T::ZERO);
            let tile = |(tile, (logits, dx)): (usize, (&mut [T], &mut [T]))| {
                layer.logits(group, &packed, tile, logits);
                let mut sums = vec![T::ZERO; size];
                for (row, logits) in logits.chunks_exact_mut(size).enumerate() {
                    let row = tile * ROWS + row;
                    let target = layer.targets[row];
                    if target == Shape::MASKED {
                        logits.fill(T::ZERO);
                        continue;
                    }
                    softmax_gradient_row(logits, lse.row(row)[0], scale);
                    if let Some(of_target) =
                        (target as usize).checked_sub(first).and_then(|target| logits.get_mut(target))
                    {
                        *of_target -= scale;
                    }
                    add_to(&mut sums, logits);
                }
                let count = logits.len() / size;
                let mut product = vec![T::ZERO; count * channels];
                transposed.multiply(&Rows::dense(logits, size, count, size), &mut product, None);
                for (dx, product) in dx.chunks_mut(stride).zip(product.chunks_exact(channels)) {
                    if first == 0 {
                        dx[..padded].fill(T::ZERO);
                    }
                    add_to(dx, product);
                }
                sums
            };
            let tiles = gradients.par_chunks_mut(ROWS * size).zip(dx.data[..end].par_chunks_mut(ROWS * stride));
            let sums: Vec<Vec<T>> = tiles.enumerate().map(tile).collect();
            if let Some(dbias) = dbias.first_mut() {
                let dbias = dbias.row(0);
                if first == 0 {
                    dbias.fill(T::ZERO);
                }
                sums.iter().for_each(|sums| add_to(&mut dbias[first..first + size], sums));
            }
            let source = View { data: &gradients, ids: &[], shape: x.shape.with_channels(size), stride: size };
            let shape = dweight[0].shape.with_time(size);
            let mut dweight =
                ViewMut { data: &mut dweight[0].data[first * dweight[0].stride..], shape, stride: dweight[0].stride };
            weight_gradient(&source, Geometry::pointwise().forward(x.shape.time), 1, x, &mut dweight, None);
        }
        Ok(())
    }
}
