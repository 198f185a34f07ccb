//! Embeddings: convolutions over class ids, which add up rows of a table instead of multiplying one-hot vectors.

mod grad;
mod rows;
mod sorted;

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::{
    CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Real, Shape, TensorId, cpu_reference, expect_kinds,
    for_row_tiles, shape_error,
};
use crate::ops::conv1d::add_to;
use crate::ops::sum_time::SumTime;
use crate::ops::{Case, CaseInput, Geometry};
use crate::random::Random;

use grad::EmbeddingGrad;
pub(crate) use grad::WAYS;
use rows::EmbeddingGradRows;
pub(crate) use rows::MAX_SPARSE_ROWS;

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
            if gradient.wants_sparse(1) {
                let given = gradient.push(EmbeddingGradRows(op), &[ids, dy])?;
                gradient.give_sparse(1, given[0], given[1]);
            } else {
                let dtable = gradient.push_one(op, &[ids, dy])?;
                gradient.give(1, dtable);
            }
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
    let (classes, channels) =
        (pick(&[1, 2, 7, 16, 65, 256, 300, 700, 1100, 3000]), pick(&[1, 3, 4, 5, 16, 17, 25, 40]));
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
