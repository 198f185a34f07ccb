// What a step's update needs, computed in one workgroup, which counts updates too:
//
//   x  the learning rate, for Adam divided by 1 - beta1^t, for Adagrad by 1 + (t - 1) lr_decay
//   y  the square root of 1 - beta2^t; 0 leaves the step out
//   z  the factor that clips the gradients, and where SCALED undoes the loss scale
//   w  the factor of decoupled weight decay

#import step

struct Params {
    partials: u32,
    clip_norm: f32,
    log_beta1: f32,
    log_beta2: f32,
    weight_decay: f32,
    lr_decay: f32,
    coefficients_offset4: u32,
    norm_offset4: u32,
    skipped_offset4: u32,
    // Of the loss scale: as in LossScale.
    first_exponent: f32,
    smallest_exponent: f32,
    largest_exponent: f32,
    patience: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> numbers: Step;
// Updates applied: the low 20 bits and the rest, both exact.
@group(0) @binding(2) var<storage, read_write> counters: array<f32>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<vec4<f32>>;
#ifdef NORM
@group(0) @binding(4) var<storage, read_write> norms: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> partials: array<f32>;

var<workgroup> sums: array<f32, 256>;
#ifdef SCALED
#import loss_scale

// The scale's exponent, counted from the first; finite steps since it changed; steps left out.
@group(0) @binding(6) var<storage, read_write> loss_scale: array<f32>;
@group(0) @binding(7) var<storage, read_write> skipped: array<vec4<f32>>;
#endif
#endif

// 1 - e^x for x <= 0, without cancellation near 0: there the Taylor series, whose first term left out is below 2^-28.
fn one_minus_exp(x: f32) -> f32 {
    var series = 1.0;
    for (var n = 11.0; n > 1.5; n -= 1.0) {
        series = 1.0 + x / n * series;
    }
    return select(1.0 - exp(x), -x * series, x > -1.0);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    var clip = 1.0;
#ifdef NORM
    var sum = 0.0;
    for (var index = local; index < p.partials; index += 256u) {
        sum += partials[index];
    }
    sums[local] = sum;
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local < width) {
            sums[local] += sums[local + width];
        }
    }
#endif
    if (local > 0u) {
        return;
    }
#ifdef NORM
#ifdef SCALED
    let exponent = loss_scale[0];
    let unscale = power_of_2(-(p.first_exponent + exponent));
#else
    let unscale = 1.0;
#endif
    let norm = sqrt(sums[0]) * unscale;
    norms[p.norm_offset4] = vec4<f32>(norm, 0.0, 0.0, 0.0);
#ifdef CLIP
    // Not by `min`, which may hide a norm that is NaN.
    clip = select(p.clip_norm / (norm + 1e-6), 1.0, norm + 1e-6 < p.clip_norm);
#endif
    clip *= unscale;
#endif
#ifdef SCALED
    // By its bits: compilers may take for granted that numbers are finite.
    let finite = (bitcast<u32>(sums[0]) & 0x7f800000u) != 0x7f800000u;
    let steps = loss_scale[1] + 1.0;
    let rises = steps >= p.patience;
    let left_out = loss_scale[2] + select(1.0, 0.0, finite);
    skipped[p.skipped_offset4] = vec4<f32>(left_out, 0.0, 0.0, 0.0);
    loss_scale[2] = left_out;
    if (!finite) {
        loss_scale[0] = max(exponent - 1.0, p.smallest_exponent);
        loss_scale[1] = 0.0;
        coefficients[p.coefficients_offset4] = vec4<f32>();
        return;
    }
    loss_scale[0] = select(exponent, min(exponent + 1.0, p.largest_exponent), rises);
    loss_scale[1] = select(steps, 0.0, rises);
#endif
    var low = counters[0] + 1.0;
    var high = counters[1];
    if (low >= 1048576.0) {
        low = 0.0;
        high += 1.0;
    }
    counters[0] = low;
    counters[1] = high;
    let rate = numbers.learning_rate;
#ifdef ADAM
    // An error in the exponent is not magnified, so that one rounding of t does no harm.
    let t = high * 1048576.0 + low;
    let first = one_minus_exp(t * p.log_beta1);
    let second = one_minus_exp(t * p.log_beta2);
    let result = vec4<f32>(rate / first, sqrt(second), clip, 1.0 - rate * p.weight_decay);
#else
#ifdef ADAGRAD
    let earlier = high * 1048576.0 + (low - 1.0);
    let result = vec4<f32>(rate / (1.0 + earlier * p.lr_decay), 1.0, clip, 1.0);
#else
    let result = vec4<f32>(rate, 1.0, clip, 1.0);
#endif
#endif
    coefficients[p.coefficients_offset4] = result;
}
