//! What normalisations need of a gradient: for each channel the sums over all rows of `dy`, and of `dy` times the normalised input.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Kind, Op, Operand, ROW_TILE, Real, Shape, View, cpu_reference,
    expect_same, pad4, shape_error,
};
use crate::ops::conv1d::add_to;

/// `Σ dy · x̂` and `Σ dy` over all rows that there are, the gradients of a normalisation's weight and bias.
///
/// Inputs: `x` and `dy` `[batch, time, channels]`, then the statistics, and where there are ids `[batch, 1]` with the lengths of the
/// sequences. Outputs: two vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NormSums {
    /// Whether the statistics are mean and 1/σ of each row, `[batch, time, 2]`; else a row with the means and one with the variances
    /// of the channels.
    pub per_row: bool,
    /// What is added to the variance of a channel.
    pub eps: f32,
    /// Whether there is an input with lengths.
    pub lengths: bool,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    slab_rows: u32,
    channels4: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    statistics_offset4: u32,
    statistics_stride4: u32,
    products_offset4: u32,
    sums_offset4: u32,
}

/// Rows of a slab, at least.
const MIN_SLAB: usize = 256;
/// Slabs, at most: a second pass adds them up.
const MAX_SLABS: usize = 256;

/// How sums over the rows of a tensor are split: rows of a slab, slabs at most, columns of 4 channels of a workgroup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slabs {
    pub rows: usize,
    pub planned: usize,
    pub columns: usize,
}

impl Slabs {
    pub fn of(planned: Shape) -> Self {
        let rows = planned.rows().div_ceil(MAX_SLABS).max(MIN_SLAB);
        let columns = planned.channels.div_ceil(4).next_power_of_two().min(16);
        Self { rows, planned: planned.rows().div_ceil(rows), columns }
    }
}

impl Op for NormSums {
    fn name(&self) -> &'static str {
        "norm_sums"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [x, dy, statistics, lengths @ ..] = inputs else { return Err(shape_error(self, "takes three inputs")) };
        expect_same(self, *x, *dy)?;
        let fits = match self.per_row {
            true => *statistics == x.with_channels(2),
            false => statistics.batch == 1 && statistics.time >= 2 && statistics.channels == x.channels,
        };
        if !fits || x.kind != Kind::Real || lengths.len() != usize::from(self.lengths) {
            return Err(shape_error(self, format!("statistics {statistics} are not those of {x}")));
        }
        lengths.iter().try_for_each(|&lengths| expect_same(self, lengths, Shape::ids(x.batch, 1)))?;
        Ok(vec![Shape::vector(x.channels); 2])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::From { inputs: 2, outputs: 0 }
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [x, dy, statistics] = [0, 1, 2].map(|input| &plan.inputs[input]);
        let slabs = Slabs::of(x.planned);
        let channels4 = x.channels4() as usize;
        let tiles = channels4.div_ceil(slabs.columns);
        let ((x_offset4, x_stride4), (dy_offset4, dy_stride4)) = (x.place4(), dy.place4());
        let (statistics_offset4, statistics_stride4) = statistics.place4();
        let pass = |rows: usize, slab_rows: usize, to: [(Binding, u32); 2]| {
            let workgroups = rows.div_ceil(slab_rows) * tiles;
            let params = Params {
                workgroups: workgroups as u32,
                rows: rows as u32,
                time: x.shape.time as u32,
                slab_rows: slab_rows as u32,
                channels4: channels4 as u32,
                eps: self.eps,
                x_offset4,
                x_stride4,
                dy_offset4,
                dy_stride4,
                statistics_offset4,
                statistics_stride4,
                products_offset4: to[0].1,
                sums_offset4: to[1].1,
            };
            Dispatch::new("norm_sums", "main")
                .constant("COLUMNS", slabs.columns as u32)
                .write(to[0].0)
                .write(to[1].0)
                .params(&params)
                .workgroups(workgroups)
        };
        let first = |to: [(Binding, u32); 2]| {
            let dispatch = pass(x.shape.rows(), slabs.rows, to)
                .define("PER_ROW", self.per_row)
                .define("LENGTHS", self.lengths)
                .read(x.binding)
                .read(dy.binding)
                .read(statistics.binding);
            match plan.inputs.get(3) {
                Some(lengths) => dispatch.read(lengths.binding),
                None => dispatch,
            }
        };
        let outputs = [0, 1].map(|output: usize| {
            let output: &Operand = &plan.outputs[output];
            (output.binding, output.place4().0)
        });
        if slabs.planned == 1 {
            return Ok(vec![first(outputs)]);
        }
        let elements = slabs.planned * pad4(x.shape.channels);
        let scratch = [0, 1].map(|index| (Binding::Scratch { index, elements }, 0));
        let count = x.shape.rows().div_ceil(slabs.rows);
        let second = pass(count, count, outputs).define("SLABS", true).read(scratch[0].0).read(scratch[1].0);
        Ok(vec![first(scratch), second])
    }
}

/// Whether a row is one that there is.
pub(super) fn is_there<T>(lengths: Option<&View<'_, T>>, time: usize, row: usize) -> bool {
    lengths.is_none_or(|lengths| row % time < lengths.ids[row / time] as usize)
}

impl NormSums {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let [x, dy, statistics] = [0, 1, 2].map(|input| &run.inputs[input]);
        let lengths = run.inputs.get(3);
        let (rows, padded, time) = (x.shape.rows(), x.shape.stride(), x.shape.time);
        let of_channels: Option<(&[T], Vec<T>)> = (!self.per_row).then(|| {
            let eps = T::of(f64::from(self.eps));
            (statistics.row(0), statistics.row(1).iter().map(|&variance| T::ONE / (variance + eps).sqrt()).collect())
        });
        let tiles: Vec<[Vec<T>; 2]> = (0..rows.div_ceil(ROW_TILE))
            .into_par_iter()
            .map(|tile| {
                let mut sums = [vec![T::ZERO; padded], vec![T::ZERO; padded]];
                for row in tile * ROW_TILE..rows.min((tile + 1) * ROW_TILE) {
                    if !is_there(lengths, time, row) {
                        continue;
                    }
                    let (x, dy) = (x.row(row), dy.row(row));
                    let of_row = statistics.data.get(row * statistics.stride..).filter(|_| self.per_row);
                    for (c, (&x, &dy)) in x.iter().zip(dy).enumerate() {
                        let (mean, rstd) = match (&of_channels, of_row) {
                            (Some((means, rstds)), _) => (means[c], rstds[c]),
                            (None, Some(row)) => (row[0], row[1]),
                            (None, None) => (T::ZERO, T::ZERO),
                        };
                        sums[0][c] += dy * ((x - mean) * rstd);
                    }
                    add_to(&mut sums[1], dy);
                }
                sums
            })
            .collect();
        for (which, output) in run.outputs.iter_mut().enumerate() {
            let output = output.row(0);
            output.fill(T::ZERO);
            tiles.iter().for_each(|tile| add_to(output, &tile[which]));
        }
        Ok(())
    }
}
