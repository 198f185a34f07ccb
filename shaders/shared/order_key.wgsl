// Whole numbers in the order of the numbers, all above 0; both zeros are one, and what is not a number is the largest. Compared in
// their place because compilers may take for granted that numbers are finite.
fn order_key(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let negative = bits > vec4<u32>(0x80000000u);
    let key = select(magnitude | vec4<u32>(0x80000000u), ~bits, negative);
    return select(key, vec4<u32>(0xffffffffu), magnitude > vec4<u32>(0x7f800000u));
}
