//! Operators, a file each: shape rule, gradient rule, CPU reference and GPU dispatch; their kernels are in `shaders/`.

pub mod activation;
pub mod concat;
pub mod constant;
pub mod conv1d;
pub mod dropout;
pub mod elementwise_loss;
pub mod embedding;
pub mod final_state;
pub mod gate;
pub(crate) mod loss_scale;
pub mod pool;
pub mod recurrent;
mod reduce;
pub mod residual;
pub mod softmax_cross_entropy;
pub mod split;
pub mod sum;
pub mod sum_time;
pub mod table;
pub mod wavenet_layer;
pub mod weight_norm;

pub(crate) use activation::ActivationGrad;
pub use activation::{Activation, activate};
pub use concat::{concat, slice};
pub use constant::constant;
pub use conv1d::{Geometry, conv1d, conv1d_add, conv1d_grad_input, conv1d_grad_weight};
pub use dropout::{dropout, dropout_mask, spatial_dropout};
pub use elementwise_loss::{Reduction, binary_cross_entropy, mae, mse};
pub use embedding::embedding;
pub use final_state::final_state;
pub use gate::gate;
pub(crate) use loss_scale::loss_scale;
pub use pool::{
    Pooled, Window, adaptive_avg_pool, adaptive_max_pool, avg_pool, dynamic_k, global_avg_pool, global_max_pool,
    k_max_pool, max_pool,
};
pub use recurrent::{Cell, Recurrent, RecurrentInputs, recurrent};
pub use residual::residual;
pub use softmax_cross_entropy::{CrossEntropy, softmax_cross_entropy};
pub use split::split;
pub use sum::{add, scale};
pub use sum_time::{sum_rows, sum_time};
pub(crate) use table::random_shape;
pub use table::{Case, CaseInput};
pub use wavenet_layer::wavenet_layer;
pub use weight_norm::weight_norm;
