// The parameters of a sum that is the gradient of a convolution's weights and bias.
struct Sum {
    workgroups: u32,
    rows: u32,          // batch * time of dy
    time: u32,          // of dy
    src_time: u32,
    taps: u32,
    src_channels: u32,
    n: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    src_offset4: u32,
    src_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    slab_rows: u32,     // a multiple of 32
    slabs: u32,
    out_offset4: u32,
    out_stride4: u32,
    partial_rows: u32,  // taps * channels in, each tap padded to 4, and 4 of which the first is the bias
    bias_offset4: u32,
}
