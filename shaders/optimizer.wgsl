// Updates the flat vector of parameters, four elements a thread, by the coefficients of optimizer_prepare.wgsl.
//
// A parameter that is held to a norm has workgroups of its own, one for each four channels, which scale them afterwards. ROWS: of a
// parameter whose gradient is sparse, the rows that it tells of.

#import grid

struct Params {
    first4: u32,    // of what is updated
    end4: u32,
    coefficients_offset4: u32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    momentum: f32,
    weight_decay: f32,
    initial: f32,   // what the sums of squares begin with
    workgroups: u32,    // of those without a norm
    constraints: u32,   // where the others' numbers begin in `blocks`
    columns: u32,       // how many there are
#ifdef ROWS
    count: u32,     // of rows, some of which are none
    channels4: u32,
    rows_offset: u32,
    grads_offset4: u32,
    grads_stride4: u32,
    params_offset4: u32,
    params_stride4: u32,
#endif
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> coefficients: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grads: array<vec4<f32>>;
#ifdef ROWS
// Of the parameter; -1 for none.
@group(0) @binding(3) var<storage, read> rows: array<f32>;
#else
// As in grad_norm.wgsl.
@group(0) @binding(3) var<storage, read> blocks: array<u32>;
#endif
@group(0) @binding(4) var<storage, read_write> params: array<vec4<f32>>;
#ifdef ADAM
@group(0) @binding(5) var<storage, read_write> first: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> second: array<vec4<f32>>;
#endif
#ifdef RMSPROP
@group(0) @binding(5) var<storage, read_write> second: array<vec4<f32>>;
#ifdef MOMENTUM
@group(0) @binding(6) var<storage, read_write> first: array<vec4<f32>>;
#ifdef CENTERED
@group(0) @binding(7) var<storage, read_write> mean: array<vec4<f32>>;
#endif
#else
#ifdef CENTERED
@group(0) @binding(6) var<storage, read_write> mean: array<vec4<f32>>;
#endif
#endif
#else
#ifdef MOMENTUM
@group(0) @binding(5) var<storage, read_write> first: array<vec4<f32>>;
#endif
#endif
#ifdef ADAGRAD
@group(0) @binding(5) var<storage, read_write> second: array<vec4<f32>>;
#endif
#ifdef ADADELTA
@group(0) @binding(5) var<storage, read_write> second: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> first: array<vec4<f32>>;
#endif

// Updates four elements and the optimizer's state of them; gives the elements.
fn updated(index: u32, grad: vec4<f32>, decays: bool, c: vec4<f32>) -> vec4<f32> {
    var w = params[index];
    var g = grad * c.z;
#ifdef ADAM
    w *= select(1.0, c.w, decays);
    let m = p.beta1 * first[index] + p.rest1 * g;
    let v = p.beta2 * second[index] + p.rest2 * g * g;
    first[index] = m;
    second[index] = v;
    w -= c.x * m / (sqrt(v) / c.y + p.eps);
#else
    g += select(0.0, p.weight_decay, decays) * w;
#ifdef RMSPROP
    let v = p.beta2 * second[index] + p.rest2 * g * g;
    second[index] = v;
#ifdef CENTERED
    let a = p.beta2 * mean[index] + p.rest2 * g;
    mean[index] = a;
    // By rounding it may be below 0.
    g /= sqrt(max(v - a * a, vec4<f32>())) + p.eps;
#else
    g /= sqrt(v) + p.eps;
#endif
#endif
#ifdef ADAGRAD
    // The padding within rows stays zero: what the sums begin with is not stored.
    let v = second[index] + g * g;
    second[index] = v;
    g /= sqrt(v + p.initial) + p.eps;
#endif
#ifdef ADADELTA
    let v = p.beta2 * second[index] + p.rest2 * g * g;
    second[index] = v;
    let s = first[index];
    g *= sqrt(s + p.eps) / sqrt(v + p.eps);
    first[index] = p.beta2 * s + p.rest2 * g * g;
#endif
#ifdef MOMENTUM
    let m = p.momentum * first[index] + g;
    first[index] = m;
#ifdef NESTEROV
    g += p.momentum * m;
#else
    g = m;
#endif
#endif
    w -= c.x * g;
#endif
    return w;
}

#ifdef CONSTRAINED
var<workgroup> squares: array<vec4<f32>, 256>;

// Updates four channels of a parameter and holds them to its norm.
fn update_channels(column: u32, local: u32, c: vec4<f32>) {
    let at = p.constraints + 4u * column;
    let first = blocks[at];
    let stride4 = blocks[at + 1u];
    let rows = blocks[at + 2u];
    let limit = bitcast<f32>(blocks[at + 3u]);
    var sum = vec4<f32>();
    for (var row = local; row < rows; row += 256u) {
        let index = first + row * stride4;
        let w = updated(index, grads[index], (blocks[index / 16u] >> 31u) == 1u, c);
        params[index] = w;
        sum += w * w;
    }
    squares[local] = sum;
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local < width) {
            squares[local] += squares[local + width];
        }
    }
    workgroupBarrier();
    let norm = sqrt(squares[0]);
    let factor = select(vec4<f32>(1.0), limit / (norm + 1e-7), norm > vec4<f32>(limit));
    for (var row = local; row < rows; row += 256u) {
        params[first + row * stride4] *= factor;
    }
}
#endif

#ifdef ROWS
@compute @workgroup_size(256)
fn rows_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(id, count) * 256u + local;
    let c = coefficients[p.coefficients_offset4];
    let entry = at / p.channels4;
    if (c.y == 0.0 || entry >= p.count) {
        return;
    }
    let row = rows[p.rows_offset + entry];
    if (row < 0.0) {
        return;
    }
    let c4 = at % p.channels4;
    let index = p.params_offset4 + u32(row) * p.params_stride4 + c4;
    params[index] = updated(index, grads[p.grads_offset4 + entry * p.grads_stride4 + c4], false, c);
}
#else
@compute @workgroup_size(256)
fn update_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    let group = workgroup_index(id, count);
    let c = coefficients[p.coefficients_offset4];
    if (c.y == 0.0) {
        return;
    }
#ifdef CONSTRAINED
    if (group >= p.workgroups) {
        let column = group - p.workgroups;
        // The grid may be a little larger than what was asked for.
        if (column < p.columns) {
            update_channels(column, local, c);
        }
        return;
    }
#endif
    let index = p.first4 + group * 256u + local;
    if (index >= p.end4) {
        return;
    }
    let block = blocks[index / 16u];
#ifdef CONSTRAINED
    if ((block & 0x40000000u) != 0u) {
        return;
    }
#endif
    if ((index % 16u) * 4u >= (block & 0x3fffffffu)) {
        return;
    }
    params[index] = updated(index, grads[index], (block >> 31u) == 1u, c);
}
#endif
