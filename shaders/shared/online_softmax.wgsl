// The largest of some numbers and the sum of exp(x - largest), made in one pass (Milakov and Gimelshein 2018).

// Stands for minus infinity, which WGSL need not have.
const LOWEST = -3.0e38;

// Below e^-87 nothing is left of a sum that is at least 1.
fn shrink(old: f32, new_largest: f32) -> f32 {
    return exp(max(old - new_largest, -87.0));
}

// Of (largest, sum) and four numbers more, of which those count that are there.
fn include4(part: vec2<f32>, value: vec4<f32>, there: vec4<bool>) -> vec2<f32> {
    let bounded = select(vec4<f32>(LOWEST), value, there);
    let next = max(max(max(bounded.x, bounded.y), max(bounded.z, bounded.w)), part.x);
    let powers = select(vec4<f32>(), exp(value - next), there);
    return vec2<f32>(next, part.y * shrink(part.x, next) + (powers.x + powers.y) + (powers.z + powers.w));
}

fn join(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let next = max(a.x, b.x);
    return vec2<f32>(next, a.y * shrink(a.x, next) + b.y * shrink(b.x, next));
}
