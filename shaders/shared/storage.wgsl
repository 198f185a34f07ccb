// How four channels of an activation or a weight lie in memory; kernels compute with f32 whatever it is.
//
//   HALF:         f16
//   HALF_PACKED:  the same bits where a device has no f16 in shaders
//   otherwise:    f32
//
// What is beyond the range of f16 must become infinite, by which the optimizer knows that the loss was scaled too much;
// what is not a number must not become one.

#ifdef HALF
alias act4 = vec4<f16>;

fn load4(value: act4) -> vec4<f32> {
    return vec4<f32>(value);
}

// Some devices round towards zero here, so that nothing would become infinite. A constant infinity is an error in WGSL.
fn pack4(value: vec4<f32>) -> act4 {
    let word = bitcast<vec4<u32>>(value);
    let size = word & vec4<u32>(0x7fffffffu);
    let infinity = bitcast<vec4<f32>>((word ^ size) | vec4<u32>(0x7f800000u));
    // From 65520 (0x477ff000) to infinity in one comparison; what is not a number stays.
    let too_large = size - vec4<u32>(0x477ff000u) <= vec4<u32>(0x7f800000u - 0x477ff000u);
    return vec4<f16>(select(value, infinity, too_large));
}
#else
#ifdef HALF_PACKED
alias act4 = vec2<u32>;

fn load4(value: act4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(value.x), unpack2x16float(value.y));
}

// Some devices round towards zero here, so that nothing would become infinite.
fn pack2(value: vec2<f32>) -> u32 {
    let word = bitcast<vec2<u32>>(value);
    let size = word & vec2<u32>(0x7fffffffu);
    let bits = pack2x16float(clamp(value, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
    let finite = vec2<u32>(bits & 0xffffu, bits >> 16u);
    let infinity = ((word ^ size) >> vec2<u32>(16u)) | vec2<u32>(0x7c00u);
    // By the bits, since what is not a number need not compare as such. 0x477ff000 is 65520.
    let rounded = select(finite, infinity, size >= vec2<u32>(0x477ff000u));
    let halves = select(rounded, vec2<u32>(0x7e00u), size > vec2<u32>(0x7f800000u));
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
