// The loss scale is a power of 2, kept as its exponent, so that scaling rounds nothing.
fn power_of_2(exponent: f32) -> f32 {
    return bitcast<f32>(u32(i32(exponent) + 127) << 23u);
}
