//! The crate's WGSL sources, compiled into the binary. A new shader is one line in a list below.

macro_rules! table {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../shaders/", $folder, $name, ".wgsl")))),*]
    };
}

/// `shaders/*.wgsl`
const SHADERS: &[(&str, &str)] = table! { "":
    "activation"
    "average"
    "batch_norm"
    "cast"
    "concat"
    "constant"
    "conv1d"
    "conv1d_coop"
    "conv1d_grad_weight"
    "conv1d_grad_weight_coop"
    "conv1d_max_grad"
    "conv1d_registers"
    "crop"
    "dropout"
    "elementwise_loss"
    "embedding"
    "embedding_grad"
    "embedding_grad_sorted"
    "final_state"
    "gate"
    "global_pool"
    "grad_norm"
    "join_time"
    "k_max_pool"
    "layer_norm"
    "linear_cross_entropy"
    "loss_scale"
    "moments"
    "norm_sums"
    "optimizer"
    "optimizer_prepare"
    "pad"
    "pool"
    "recurrent"
    "recurrent_grad"
    "recurrent_grad_step"
    "recurrent_step"
    "reduce"
    "residual"
    "softmax_cross_entropy"
    "softmax_cross_entropy_grad"
    "sum"
    "sum_time"
    "transpose"
    "wavenet_generate"
    "wavenet_layer"
    "weight_norm"
};

/// `shaders/shared/*.wgsl`, for `#import`
const SHARED: &[(&str, &str)] = table! { "shared/":
    "activation"
    "cell"
    "cell_backward"
    "cell_forward"
    "channels"
    "coop"
    "grid"
    "lengths"
    "loss_scale"
    "normal_cdf"
    "online_softmax"
    "order_key"
    "philox"
    "product"
    "softmax_row"
    "step"
    "storage"
    "team_sum"
    "weight_sum"
    "workgroup_sum"
};

/// The source of a shader in `shaders/`.
pub(crate) fn source(name: &str) -> Option<&'static str> {
    find(SHADERS, name)
}

/// The source of a shared piece in `shaders/shared/`.
pub(crate) fn shared(name: &str) -> Option<&'static str> {
    find(SHARED, name)
}

/// The names of all shaders in `shaders/`.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHADERS.iter().map(|(name, _)| *name)
}

fn find(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(other, _)| *other == name).map(|(_, source)| *source)
}
