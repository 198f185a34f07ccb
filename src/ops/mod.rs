//! Operators, a file each: shape rule, gradient rule, CPU reference and GPU dispatch; their kernels are in `shaders/`.

pub mod activation;
pub mod batch_norm;
pub mod concat;
pub mod constant;
pub mod conv1d;
pub mod conv1d_max;
pub mod crop;
pub mod dropout;
pub mod elementwise_loss;
pub mod embedding;
pub mod final_state;
pub mod gate;
pub mod gelu;
pub mod glu;
pub mod join_time;
pub mod layer_norm;
pub mod linear_cross_entropy;
pub(crate) mod loss_scale;
mod moments;
mod norm_sums;
pub mod pad;
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
pub use batch_norm::{BatchNormInputs, batch_norm};
pub use concat::{concat, slice};
pub use constant::constant;
pub use conv1d::{Geometry, conv1d, conv1d_add, conv1d_grad_input, conv1d_grad_weight};
pub use conv1d_max::conv1d_max;
pub use crop::crop;
pub use dropout::{dropout, dropout_mask, spatial_dropout};
pub use elementwise_loss::{Reduction, binary_cross_entropy, binary_cross_entropy_with_lengths, mae, mse};
pub use embedding::embedding;
pub use final_state::final_state;
pub use gate::gate;
pub use gelu::gelu;
pub use glu::glu;
pub use join_time::join_time;
pub use layer_norm::layer_norm;
pub use linear_cross_entropy::linear_cross_entropy;
pub(crate) use loss_scale::loss_scale;
pub use pad::{Padding, mask, pad};
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
