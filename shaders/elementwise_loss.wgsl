// Losses of prediction x and target y that are sums over elements, four channels a thread.
//
//   SQUARED:         (x - y)^2
//   CROSS_ENTROPY:   -y ln s(x) - (1 - y) ln(1 - s(x)), s the logistic function
//   otherwise:       |x - y|
//
//   SUMS:       sums[w] = (sum over chunk w, 0)
//   otherwise:  the gradient by x, or TARGET by y,   d = factor * dloss * slope
//
// Where LENGTHS, nothing beyond the end of a sequence counts: the second of a pair of sums is the weight of the positions that do, and
// gradients are divided by that of all.

#import grid
#import activation
#import channels
#import lengths
#import storage
#ifdef SUMS
#import workgroup_sum
#endif

struct Params {
    workgroups: u32,
    rows: u32,
    channels: u32,
    chunk4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    d_offset4: u32,
    d_stride4: u32,
    dloss_offset4: u32,
    factor: f32,
    time: u32,
    weight: f32,         // of a position
    count_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> y: array<act4>;
#ifdef SUMS
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;
#ifdef LENGTHS
@group(0) @binding(4) var<storage, read> lengths: array<u32>;
#endif
#else
@group(0) @binding(3) var<storage, read> dloss: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d: array<act4>;
#ifdef LENGTHS
@group(0) @binding(5) var<storage, read> count_of_all: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> lengths: array<u32>;
#endif
#endif

fn is_there(row: u32) -> bool {
    return row % p.time < length_of(row / p.time);
}

fn x_at(row: u32, c4: u32) -> vec4<f32> {
    return load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
}

fn y_at(row: u32, c4: u32) -> vec4<f32> {
    return load4(y[p.y_offset4 + row * p.y_stride4 + c4]);
}

#ifdef SUMS
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let channels4 = (p.channels + 3u) / 4u;
    let first = workgroup * p.chunk4;
    let end = min(first + p.chunk4, p.rows * channels4);
    var sum = vec4<f32>();
    var weight = 0.0;
    for (var i = first + local; i < end; i += 256u) {
#ifdef LENGTHS
        if (!is_there(i / channels4)) {
            continue;
        }
        weight += select(0.0, p.weight, i % channels4 == 0u);
#endif
        let value = x_at(i / channels4, i % channels4);
        let goal = y_at(i / channels4, i % channels4);
        let delta = value - goal;
#ifdef SQUARED
        sum += delta * delta;
#else
#ifdef CROSS_ENTROPY
        // Without an exponential that overflows; what is not a number stays so.
        let positive = select(vec4<f32>(), value, value > vec4<f32>());
        let loss = positive - value * goal + log(1.0 + exp(-abs(value)));
        sum += mask4(loss, i % channels4 * 4u, p.channels);
#else
        sum += abs(delta);
#endif
#endif
    }
    let total = workgroup_sum(local, vec2<f32>((sum.x + sum.y) + (sum.z + sum.w), weight));
    if (local == 0u && workgroup < p.workgroups) {
        sums[workgroup] = total;
    }
}
#else
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.channels + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.rows) {
        return;
    }
    var factor = p.factor;
#ifdef LENGTHS
    factor /= max(count_of_all[p.count_offset4].x, 1.0);
    if (!is_there(row)) {
        d[p.d_offset4 + row * p.d_stride4 + c4] = pack4(vec4<f32>());
        return;
    }
#endif
    let value = x_at(row, c4);
    let goal = y_at(row, c4);
#ifdef SQUARED
    var slope = 2.0 * (value - goal);
#else
#ifdef CROSS_ENTROPY
    var slope = mask4(sigmoid4(value) - goal, c4 * 4u, p.channels);
#else
    var slope = sign(value - goal);
#endif
#endif
#ifdef TARGET
#ifdef CROSS_ENTROPY
    slope = -value;
#else
    slope = -slope;
#endif
#endif
    d[p.d_offset4 + row * p.d_stride4 + c4] = pack4(factor * dloss[p.dloss_offset4].x * slope);
}
#endif
