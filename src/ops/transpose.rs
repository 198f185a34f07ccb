//! A copy of a matrix with rows and columns exchanged, for kernels that read columns many times.

use bytemuck::{Pod, Zeroable};

use crate::graph::{Binding, Dispatch, Operand};

/// `y[column, row] = x[row, column]`; `group` rows lie together, and groups `group_stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transpose {
    pub rows: usize,
    pub columns: usize,
    /// Elements of `y` from one column of `x` to the next.
    pub y_stride: usize,
    pub group: usize,
    pub group_stride: usize,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
    x_offset: u32,
    x_stride: u32,
    y_stride: u32,
    group: u32,
    group_stride: u32,
}

impl Transpose {
    /// The dispatch; `x` is `f32`.
    pub fn dispatch(&self, x: &Operand, y: Binding) -> Dispatch {
        let params = Params {
            rows: self.rows as u32,
            columns: self.columns as u32,
            x_offset: x.offset as u32,
            x_stride: x.stride as u32,
            y_stride: self.y_stride as u32,
            group: self.group as u32,
            group_stride: self.group_stride as u32,
        };
        let dispatch = Dispatch::new("transpose", "main").read(x.binding).write(y).params(&params);
        dispatch.workgroups((self.rows * self.columns).div_ceil(256))
    }
}
