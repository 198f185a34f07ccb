//! The gradient of an embedding's table as that of the rows that come.

use super::grad::EmbeddingGrad;
use crate::error::Result;
use crate::graph::{CpuRun, Dispatch, FullPrecision, GpuPlan, Op, Real, Shape, cpu_reference, shape_error};

/// As [`EmbeddingGrad`], of the rows that come alone. Outputs: which rows those are and their gradients, as
/// [`SparseGradient`](crate::graph::SparseGradient) has it; there are as many as positions times taps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EmbeddingGradRows(pub EmbeddingGrad);

/// Rows of a table with a sparse gradient, at most: their numbers are `f32`.
pub(crate) const MAX_SPARSE_ROWS: usize = 1 << 24;

impl Op for EmbeddingGradRows {
    fn name(&self) -> &'static str {
        "embedding_grad_rows"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let table = self.0.shapes(inputs)?[0];
        if table.rows() > MAX_SPARSE_ROWS {
            return Err(shape_error(self, format!("table {table} has more than 2^24 rows: don't make it sparse")));
        }
        let rows = self.0.geometry.kernel * inputs[1].rows();
        Ok(vec![Shape::vector(rows), Shape::new(1, rows, table.channels)])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        Ok(self.0.row_dispatches(plan))
    }
}

impl EmbeddingGradRows {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        self.0.sum_rows(run);
        Ok(())
    }
}
