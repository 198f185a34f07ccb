//! Embeddings: convolutions over class ids, which add up rows of a table instead of multiplying one-hot vectors.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{
    Binding, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference,
    expect_kinds, for_row_tiles, pad4, shape_error,
};
use crate::ops::conv1d::add_to;
use crate::ops::sum_time::SumTime;
use crate::ops::{Case, CaseInput, Geometry};
use crate::random::Random;

/// `y[t] = b + Σ_k E[k, ids[t · stride + k · dilation − pad_left]]`: a convolution of one-hot vectors.
///
/// Inputs: ids `[batch, time]`, `E` `[taps, classes, channels]`, and where `bias` a vector `[channels]`. Output:
/// `[batch, time', channels]`. What lies outside the sequence, and an id that is no class ([`Shape::MASKED`] too), adds
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embedding {
    /// Where the taps lie; one tap makes an ordinary embedding.
    pub geometry: Geometry,
    /// Whether there is a bias.
    pub bias: bool,
}

/// Appends the embedding of `ids` `[batch, time]` by `table` `[taps, classes, channels]`: as [`conv1d`](crate::ops::conv1d())
/// of one-hot vectors. With [`Geometry::pointwise`] it is a look-up.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn embedding(
    graph: &mut Graph,
    ids: TensorId,
    table: TensorId,
    bias: Option<TensorId>,
    geometry: Geometry,
) -> Result<TensorId> {
    let inputs: Vec<TensorId> = [ids, table].into_iter().chain(bias).collect();
    graph.push_one(Embedding { geometry, bias: bias.is_some() }, &inputs)
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    table_offset4: u32,
    table_stride4: u32,
    bias_offset4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let kinds = [Kind::Ids, Kind::Real, Kind::Real];
        expect_kinds(self, inputs, &kinds[..2 + usize::from(self.bias)])?;
        let (ids, table) = (inputs[0], inputs[1]);
        if table.batch != self.geometry.kernel {
            return Err(shape_error(
                self,
                format!("table {table} must be [taps, classes, channels] with {} taps", self.geometry.kernel),
            ));
        }
        if let Some(bias) = inputs.get(2).filter(|&&bias| bias != Shape::vector(table.channels)) {
            return Err(shape_error(self, format!("bias {bias} does not fit table {table}")));
        }
        let time = self
            .geometry
            .out_time(ids.time)
            .ok_or_else(|| shape_error(self, format!("input {ids} is too short for {:?}", self.geometry)))?;
        Ok(vec![ids.with_time(time).with_channels(table.channels)])
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dy) = gradient.of_output(0) else { return Ok(()) };
        let (ids, table) = (gradient.input(0), gradient.input(1));
        if gradient.wanted(1) {
            let op = EmbeddingGrad { geometry: self.geometry, table: gradient.shape(table) };
            let dtable = gradient.push_one(op, &[ids, dy])?;
            gradient.give(1, dtable);
        }
        if self.bias && gradient.wanted(2) {
            let dbias = gradient.push_one(SumTime { over_batch: true }, &[dy])?;
            gradient.give(2, dbias);
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (ids, table, bias, y) = (&plan.inputs[0], &plan.inputs[1], plan.inputs.get(2), &plan.outputs[0]);
        let map = self.geometry.forward(ids.shape.time);
        let (table_offset4, table_stride4) = table.place4();
        let (y_offset4, y_stride4) = y.place4();
        let params = Params {
            rows: y.shape.rows() as u32,
            time: y.shape.time as u32,
            ids_time: ids.shape.time as u32,
            taps: self.geometry.kernel as u32,
            classes: table.shape.time as u32,
            channels4: y.channels4(),
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            table_offset4,
            table_stride4,
            bias_offset4: bias.map_or(0, |bias| bias.place4().0),
            y_offset4,
            y_stride4,
        };
        let dispatch = Dispatch::new("embedding", "main")
            .define("BIAS", bias.is_some())
            .read(ids.binding)
            .read(table.binding)
            .write(y.binding);
        let dispatch = match bias {
            Some(bias) => dispatch.read(bias.binding),
            None => dispatch,
        };
        Ok(vec![dispatch.params(&params).workgroups((y.shape.padded_len() / 4).div_ceil(256))])
    }
}

impl Embedding {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (ids, table, bias) = (&run.inputs[0], &run.inputs[1], run.inputs.get(2));
        let y = &mut run.outputs[0];
        let (map, classes) = (self.geometry.forward(ids.shape.time), table.shape.time);
        let (rows, time, stride, padded) = (y.shape.rows(), y.shape.time, y.stride, y.shape.stride());
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                let (sequence, at) = ((first + row) / time, (first + row) % time);
                let values = &mut values[..padded];
                match bias {
                    Some(bias) => values.copy_from_slice(bias.row(0)),
                    None => values.fill(T::ZERO),
                }
                for tap in 0..self.geometry.kernel {
                    let Some(from) = map.source(at, tap, ids.shape.time) else { continue };
                    let id = ids.ids[sequence * ids.shape.time + from] as usize;
                    if id < classes {
                        add_to(values, table.row(tap * classes + id));
                    }
                }
            }
        });
        Ok(())
    }
}

/// `dE[k, c] = Σ_{t: ids[t · stride + k · dilation − pad_left] = c} dy[t]`. Inputs: ids, `dy`. Output: shaped as the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EmbeddingGrad {
    pub geometry: Geometry,
    pub table: Shape,
}

/// Slabs of rows that are summed apart, at most: on threads of their own, and a class that comes often loses fewer digits.
const SLABS: usize = 16;
/// Rows of a slab, at least.
const MIN_SLAB: usize = 1024;

impl EmbeddingGrad {
    /// Each slab of rows has a table of its own; the tables are added in order.
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (ids, dy, dtable) = (&run.inputs[0], &run.inputs[1], &mut run.outputs[0]);
        let (map, classes, time) = (self.geometry.forward(ids.shape.time), self.table.time, dy.shape.time);
        let (rows, stride, padded) = (dy.shape.rows(), dtable.stride, self.table.stride());
        let table_rows = self.table.rows();
        // A table costs as much as its rows, however few are used.
        let slab_rows = rows.div_ceil(SLABS).max(MIN_SLAB).max(table_rows);
        let sum_slab = |first: usize, sums: &mut [T]| {
            sums.fill(T::ZERO);
            for row in first..rows.min(first + slab_rows) {
                let (sequence, at) = (row / time, row % time);
                for tap in 0..self.geometry.kernel {
                    let Some(from) = map.source(at, tap, ids.shape.time) else { continue };
                    let id = ids.ids[sequence * ids.shape.time + from] as usize;
                    if id < classes {
                        add_to(&mut sums[(tap * classes + id) * stride..][..padded], dy.row(row));
                    }
                }
            }
        };
        let sums = &mut dtable.data[..table_rows * stride];
        let starts: Vec<usize> = (slab_rows..rows).step_by(slab_rows).collect();
        let (_, others) = rayon::join(
            || sum_slab(0, sums),
            || {
                let table = |&first: &usize| {
                    let mut table = vec![T::ZERO; table_rows * stride];
                    sum_slab(first, &mut table);
                    table
                };
                starts.par_iter().map(table).collect::<Vec<Vec<T>>>()
            },
        );
        let others = &others;
        sums.par_chunks_mut(PART).enumerate().for_each(|(part, sums)| {
            for table in others {
                add_to(sums, &table[part * PART..][..sums.len()]);
            }
        });
        Ok(())
    }
}

/// Elements of the table that one task adds up.
const PART: usize = 4096;

/// How the sum is split on the GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    /// Groups of 4 channels of a workgroup.
    groups: usize,
    /// Whether a workgroup's sums lie in workgroup memory.
    shared: bool,
}

/// Sums that fit in workgroup memory: 16 KiB of 4 channels.
const SHARED_SUMS: usize = 1024;

fn shared(table: &Shape, groups: usize) -> Result<Split, String> {
    let sums = table.time * groups;
    if sums <= SHARED_SUMS {
        Ok(Split { groups, shared: true })
    } else {
        Err(format!("{} classes of {groups} × 4 channels don't fit in workgroup memory", table.time))
    }
}

/// 4 groups make reads of 64 bytes.
pub(crate) const SPLITS: &[Variant<Shape, Split>] = &[
    Variant { name: "sums of 16 channels in workgroup memory", admits: |table, _| shared(table, 4), suits: always },
    Variant { name: "sums of 8 channels in workgroup memory", admits: |table, _| shared(table, 2), suits: always },
    Variant { name: "sums of 4 channels in workgroup memory", admits: |table, _| shared(table, 1), suits: always },
    Variant { name: "sums in storage", admits: |_, _| Ok(Split { groups: 4, shared: false }), suits: always },
];

/// Workgroups to aim for: the time is split no finer than it must be.
const WORKGROUPS: usize = 512;
/// Elements of scratch memory, at most: 64 MB.
const MAX_SCRATCH: usize = 1 << 24;

/// Slabs of rows, each with a whole table of its own: not more rows of tables than rows to sum, give or take.
fn slabs(table: &Shape, rows: usize, split: Split) -> usize {
    let tiles = table.batch * table.channels.div_ceil(4 * split.groups);
    let by_rows = rows / 64.max(table.time / 2);
    let by_memory = MAX_SCRATCH / table.padded_len();
    WORKGROUPS.div_ceil(tiles).min(by_rows).min(by_memory).max(1)
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct GradParams {
    workgroups: u32,
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    slab_rows: u32,
    slabs: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    table_offset4: u32,
    table_stride4: u32,
}

impl Op for EmbeddingGrad {
    fn name(&self) -> &'static str {
        "embedding_grad"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Ids, Kind::Real])?;
        let (ids, dy) = (inputs[0], inputs[1]);
        let fits = self.geometry.out_time(ids.time) == Some(dy.time)
            && ids.batch == dy.batch
            && self.table.channels == dy.channels;
        if fits {
            Ok(vec![self.table])
        } else {
            Err(shape_error(self, format!("input {ids}, gradient {dy} and table {} don't fit", self.table)))
        }
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (ids, dy, dtable) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0]);
        let choice: Choice<Split> = choose("embedding_grad", SPLITS, &self.table, plan.capabilities)?;
        let Split { groups, shared } = choice.value;
        let slab_rows = dy.planned.rows().div_ceil(slabs(&self.table, dy.planned.rows(), choice.value));
        let planned_slabs = dy.planned.rows().div_ceil(slab_rows);
        let slabs = dy.shape.rows().div_ceil(slab_rows);
        let channels4 = dy.channels4() as usize;
        let workgroups = slabs * self.table.batch * channels4.div_ceil(groups);
        let scratch =
            Binding::Scratch { index: 0, elements: planned_slabs * self.table.rows() * pad4(dy.shape.channels) };
        let map = self.geometry.forward(ids.shape.time);
        let (dy_offset4, dy_stride4) = dy.place4();
        let (table_offset4, table_stride4) = dtable.place4();
        let params = GradParams {
            workgroups: workgroups as u32,
            rows: dy.shape.rows() as u32,
            time: dy.shape.time as u32,
            ids_time: ids.shape.time as u32,
            taps: self.geometry.kernel as u32,
            classes: self.table.time as u32,
            channels4: channels4 as u32,
            multiply: map.multiply as i32,
            step: map.step as i32,
            shift: map.shift as i32,
            slab_rows: slab_rows as u32,
            slabs: slabs as u32,
            dy_offset4,
            dy_stride4,
            table_offset4,
            table_stride4,
        };
        let mut partial = Dispatch::new("embedding_grad", "partial_main")
            .define("PARTIAL", true)
            .define("SHARED", shared)
            .constant("GROUPS", groups as u32);
        if shared {
            partial = partial.constant("SUMS", (self.table.time * groups) as u32);
        }
        let partial = partial.read(ids.binding).read(dy.binding).write(scratch).params(&params);
        let reduce = Dispatch::new("embedding_grad", "reduce_main").define("REDUCE", true);
        let reduce = reduce.read(scratch).write(dtable.binding).params(&params);
        Ok(vec![
            partial.workgroups(workgroups).variant(choice),
            reduce.workgroups((self.table.rows() * channels4).div_ceil(64)),
        ])
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let mut pick = |sizes: &[usize]| sizes[random.below(sizes.len() as u32) as usize];
    let (kernel, dilation) = (pick(&[1, 2, 3]), pick(&[1, 2, 5]));
    let geometry = match pick(&[0, 1, 2, 3, 4]) {
        0 => Geometry::same(kernel, dilation),
        1 => Geometry::valid(kernel, dilation),
        2 => Geometry::causal(kernel, dilation).with_stride(2),
        3 => Geometry::causal(kernel, dilation).cropped(2),
        _ => Geometry::causal(kernel, dilation),
    };
    let (classes, channels) = (pick(&[1, 2, 7, 16, 65, 256, 300, 700, 1100]), pick(&[1, 3, 4, 5, 16, 17, 25, 40]));
    let bias = pick(&[0, 1]) == 0;
    let (batch, time) = (pick(&[1, 2, 3]), geometry.reach() + pick(&[3, 10, 63, 200]));
    // With some classes beyond the table.
    let beyond = pick(&[0, 0, 2]);
    let mut inputs = vec![
        CaseInput::Ids { shape: Shape::ids(batch, time), classes: classes + beyond, masked: pick(&[0, 1]) == 1 },
        CaseInput::real(Shape::new(kernel, classes, channels)),
    ];
    if bias {
        inputs.push(CaseInput::real(Shape::vector(channels)));
    }
    Case::new(Embedding { geometry, bias }, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Capabilities;

    #[test]
    fn the_split_keeps_a_gpu_busy_and_the_memory_bounded() {
        let split = |table: Shape, rows| {
            let split = choose("embedding_grad", SPLITS, &table, &Capabilities::floor()).unwrap().value;
            (split.groups, split.shared, slabs(&table, rows, split))
        };
        // WaveNet's input on 8-bit audio: 64 slabs × 2 taps × 4 tiles of 16 channels.
        assert_eq!(split(Shape::new(2, 256, 64), 65_536), (4, true, 64));
        assert_eq!(split(Shape::new(1, 512, 64), 65_536), (2, true, 64));
        assert_eq!(split(Shape::new(1, 1024, 64), 65_536), (1, true, 32));
        assert_eq!(split(Shape::new(1, 5, 1), 3), (4, true, 1));
        // Word vectors: three tables of 21.6 MB are what 64 MB hold.
        assert_eq!(split(Shape::new(1, 18_000, 300), 65_536), (4, false, 3));
        // One table that is larger still.
        assert_eq!(split(Shape::new(1, 100_000, 300), 1 << 20), (4, false, 1));
    }
}
