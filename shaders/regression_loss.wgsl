// Squared or absolute differences of two tensors, four channels a thread.
//
//   SUMS:       sums[w] = (sum over chunk w of |x - y|^2 or |x - y|, 0)
//   otherwise:  the gradient,   d = factor * dloss * (x - y)   or   factor * dloss * sign(x - y)

#import grid
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
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> y: array<act4>;
#ifdef SUMS
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;
#else
@group(0) @binding(3) var<storage, read> dloss: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d: array<act4>;
#endif

fn difference(row: u32, c4: u32) -> vec4<f32> {
    return load4(x[p.x_offset4 + row * p.x_stride4 + c4]) - load4(y[p.y_offset4 + row * p.y_stride4 + c4]);
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
    for (var i = first + local; i < end; i += 256u) {
        let delta = difference(i / channels4, i % channels4);
#ifdef SQUARED
        sum += delta * delta;
#else
        sum += abs(delta);
#endif
    }
    let total = workgroup_sum(local, vec2<f32>((sum.x + sum.y) + (sum.z + sum.w), 0.0));
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
    var slope = difference(row, c4);
#ifndef SQUARED
    slope = sign(slope);
#endif
    d[p.d_offset4 + row * p.d_stride4 + c4] = pack4(p.factor * dloss[p.dloss_offset4].x * slope);
}
#endif
