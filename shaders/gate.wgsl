// The gate z = tanh(a) * sigmoid(b), or where LINEAR a * sigmoid(b), [a | b] = x + condition, and where GRADIENT its gradient [da | db] from dz.
// The halves need not begin at a multiple of 4, so x is read one channel at a time; a thread writes four.

#import grid
#import activation
#import storage

struct Params {
    rows: u32,
    time: u32,
    channels: u32,          // of z
    x_offset: u32,
    x_stride: u32,
    condition_offset: u32,
    condition_stride: u32,
    condition_time: u32,    // 1: one position serves the whole sequence
    dz_offset: u32,
    dz_stride: u32,
    out_offset4: u32,
    out_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> out: array<act4>;
#ifdef CONDITION
@group(0) @binding(3) var<storage, read> condition: array<act4>;
#endif
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read> dz: array<act4>;
#endif

fn input(row: u32, channel: u32) -> f32 {
    let from_x = p.x_offset + row * p.x_stride + channel;
    var value = load4(x[from_x / 4u])[from_x % 4u];
#ifdef CONDITION
    let at = select(row, row / p.time, p.condition_time == 1u);
    let from_condition = p.condition_offset + at * p.condition_stride + channel;
    value += load4(condition[from_condition / 4u])[from_condition % 4u];
#endif
    return value;
}

#ifdef LINEAR
fn squashed(a: f32) -> f32 {
    return a;
}

fn squashed_slope(t: f32) -> f32 {
    return 1.0;
}
#else
fn squashed(a: f32) -> f32 {
    return safe_tanh(a);
}

// Where its value is t.
fn squashed_slope(t: f32) -> f32 {
    return 1.0 - t * t;
}
#endif

fn result(row: u32, channel: u32) -> f32 {
#ifdef GRADIENT
    if (channel >= 2u * p.channels) {
        return 0.0;
    }
    let c = select(channel, channel - p.channels, channel >= p.channels);
    let t = squashed(input(row, c));
    let s = sigmoid(input(row, p.channels + c));
    let slope = select(s * squashed_slope(t), t * s * (1.0 - s), channel >= p.channels);
    let from_dz = p.dz_offset + row * p.dz_stride + c;
    return load4(dz[from_dz / 4u])[from_dz % 4u] * slope;
#else
    if (channel >= p.channels) {
        return 0.0;
    }
    return squashed(input(row, channel)) * sigmoid(input(row, p.channels + channel));
#endif
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
#ifdef GRADIENT
    let channels4 = (2u * p.channels + 3u) / 4u;
#else
    let channels4 = (p.channels + 3u) / 4u;
#endif
    let row = index / channels4;
    let c = index % channels4 * 4u;
    if (row >= p.rows) {
        return;
    }
    out[p.out_offset4 + row * p.out_stride4 + c / 4u] =
        pack4(vec4<f32>(result(row, c), result(row, c + 1u), result(row, c + 2u), result(row, c + 3u)));
}
