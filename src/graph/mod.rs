//! Graph, automatic differentiation and the program they become.
//!
//! A model is described once into a [`Graph`] of typed operators; [`Graph::backward`] appends gradient operators, an
//! optimizer its updates. [`Graph::finish`] freezes it into a [`Program`], which both executors run.

mod builder;
mod carry;
mod cast;
mod cost;
mod declare;
mod gemm;
mod gradient;
mod op;
mod pack;
mod params;
mod plan;
mod precision;
mod program;
mod real;
mod shape;

pub use builder::{Graph, InputTime, Node, Role, State, Tensor, TensorId};
pub(crate) use carry::Carry;
pub use cost::Cost;
pub(crate) use declare::input_shape;
pub(crate) use gemm::{Epilogue, Matrix, OuterSums, Panels, Rows, multiply};
pub use gradient::{Gradient, SparseGradient};
pub use op::{Binding, CpuRun, Dispatch, GpuPlan, Op, Operand, StepArgs, View, ViewMut};
pub(crate) use op::{cpu_reference, expect_kinds, expect_same, shape_error};
pub use pack::Packing;
pub use params::{Init, PARAM_ALIGN, Param, ParamLayout};
pub use plan::Aliasing;
pub(crate) use plan::{Allocation, Placement, Purpose};
pub use precision::{FullPrecision, Precision};
pub use program::Program;
pub use real::Real;
pub(crate) use real::{ROW_TILE, for_row_tiles, vector_kernel};
pub use shape::{Extent, Kind, Shape, pad4};
