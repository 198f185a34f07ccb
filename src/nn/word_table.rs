//! Tables of many classes of which a step reads few.

use crate::error::Result;
use crate::graph::Graph;
use crate::ops::embedding::MAX_SPARSE_ROWS;
use crate::optim::Method;

/// Makes the gradient of a table that an embedding reads sparse, where the optimizer allows it and a step reads fewer rows than the
/// table has. To be called before gradients are taken.
pub(super) fn read_by_rows(graph: &mut Graph, name: &str, method: &Method) -> Result<()> {
    let fewer = graph.extent().batch * graph.extent().time + 1..=MAX_SPARSE_ROWS;
    match graph.params().find(name) {
        Some(table) if table.trained && method.keeps_still() && fewer.contains(&table.shape.rows()) => {
            let table = table.tensor;
            graph.sparse(table)
        }
        _ => Ok(()),
    }
}
