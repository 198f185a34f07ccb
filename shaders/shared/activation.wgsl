// Activations that neither overflow nor hide a NaN. The built-in tanh gives NaN for large arguments on some drivers
// (it divides sums of exponentials), and clamping the argument could turn a NaN into a number.

// tanh(x) = (1 - e) / (1 + e) with e = exp(-2|x|), which underflows to 0 where the other forms overflow. Near 0, where
// 1 - e cancels, the Taylor series to x^7: its first term left out is below 2^-25 of the result.
fn safe_tanh(x: f32) -> f32 {
    let e = exp(-2.0 * abs(x));
    let large = sign(x) * (1.0 - e) / (1.0 + e);
    let s = x * x;
    let small = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0))));
    return select(large, small, s < 0.03);
}

fn safe_tanh4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * abs(x));
    let large = sign(x) * (1.0 - e) / (1.0 + e);
    let s = x * x;
    let small = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0))));
    return select(large, small, s < vec4<f32>(0.03));
}

// 1 / (1 + exp(-x)), with the exponential of a negative number in both branches.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn sigmoid4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

// The activation of a number in `Activation::code`: 0 identity, 1 (leaky) rectifier, 2 tanh, 3 logistic function.
fn activate4(x: vec4<f32>, kind: u32, slope: f32) -> vec4<f32> {
    switch kind {
        case 1u: { return select(slope * x, x, x > vec4<f32>(0.0)); }
        case 2u: { return safe_tanh4(x); }
        case 3u: { return sigmoid4(x); }
        default: { return x; }
    }
}

// Its derivative where its value is y.
fn derivative4(y: vec4<f32>, kind: u32, slope: f32) -> vec4<f32> {
    switch kind {
        case 1u: { return select(vec4<f32>(slope), vec4<f32>(1.0), y > vec4<f32>(0.0)); }
        case 2u: { return 1.0 - y * y; }
        case 3u: { return y * (1.0 - y); }
        default: { return vec4<f32>(1.0); }
    }
}
