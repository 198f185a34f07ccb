// How four channels of an activation or a weight lie in memory; kernels compute with f32 whatever it is.
//
//   HALF:         f16
//   HALF_PACKED:  the same bits where a device has no f16 in shaders
//   otherwise:    f32
//
// What is beyond the range of f16 must become infinite, by which the optimizer knows that the loss was scaled too much.

#ifdef HALF
alias act4 = vec4<f16>;

fn load4(value: act4) -> vec4<f32> {
    return vec4<f32>(value);
}

fn pack4(value: vec4<f32>) -> act4 {
    return vec4<f16>(value);
}
#else
#ifdef HALF_PACKED
alias act4 = vec2<u32>;

fn load4(value: act4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(value.x), unpack2x16float(value.y));
}

// Some devices round towards zero here, so that nothing would become infinite.
fn pack2(value: vec2<f32>) -> u32 {
    let infinity = select(vec2<u32>(0x7c00u), vec2<u32>(0xfc00u), value < vec2<f32>());
    let bits = pack2x16float(clamp(value, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
    let finite = vec2<u32>(bits & 0xffffu, bits >> 16u);
    // Compared so that what is not a number counts as too large.
    let halves = select(infinity, finite, abs(value) < vec2<f32>(65520.0));
    return halves.x | (halves.y << 16u);
}

fn pack4(value: vec4<f32>) -> act4 {
    return vec2<u32>(pack2(value.xy), pack2(value.zw));
}
#else
alias act4 = vec4<f32>;

fn load4(value: act4) -> vec4<f32> {
    return value;
}

fn pack4(value: vec4<f32>) -> act4 {
    return value;
}
#endif
#endif
