// Means and variances of channels over rows, four channels a thread, in a fixed order: of a slab in two passes over its rows, of all
// slabs by the formulas of Chan, Golub and LeVeque.
//
//   moments = mean, variance, count                    of the rows of x that there are
//   PARTIAL:   sums = mean, sum of squares about it, count   of the rows of a slab
//   MERGE:     the moments of all slabs
//   UPDATE:    running = (1 - momentum) running + momentum (mean, unbiased variance), where those are finite

#import grid
#import storage
#import lengths
#import channels

struct Params {
    workgroups: u32,
    rows: u32,          // or slabs
    time: u32,
    slab_rows: u32,
    channels4: u32,
    channels: u32,
    momentum: f32,
    x_offset4: u32,
    x_stride4: u32,
    moments_offset4: u32,
    moments_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#ifdef UPDATE
@group(0) @binding(1) var<storage, read_write> moments: array<vec4<f32>>;   // the running ones
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;               // those of the batch

@compute @workgroup_size(256)
fn update(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
    let c4 = workgroup_index(id, count) * 256u + local;
    if (c4 >= p.channels4) {
        return;
    }
    let n = x[p.x_offset4 + 2u * p.x_stride4 + c4];
    let mean = x[p.x_offset4 + c4];
    let variance = x[p.x_offset4 + p.x_stride4 + c4] * n / max(n - 1.0, vec4<f32>(1.0));
    // Of no rows there is nothing to learn, and of numbers too large for halves nothing that would pass.
    let learns = (n > vec4<f32>()) & is_finite(mean) & is_finite(variance);
    let to_mean = p.moments_offset4 + c4;
    let to_variance = to_mean + p.moments_stride4;
    let means = moments[to_mean];
    let variances = moments[to_variance];
    moments[to_mean] = select(means, means * (1.0 - p.momentum) + mean * p.momentum, learns);
    moments[to_variance] = select(variances, variances * (1.0 - p.momentum) + variance * p.momentum, learns);
}

// By their bits: compilers may take for granted that numbers are finite.
fn is_finite(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
}
#else
#ifdef MERGE
@group(0) @binding(1) var<storage, read_write> moments: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(256)
fn merge(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
         @builtin(local_invocation_index) local: u32) {
    let c4 = workgroup_index(id, count) * 256u + local;
    if (c4 >= p.channels4) {
        return;
    }
    var n = 0.0;
    var mean = vec4<f32>();
    var squares = vec4<f32>();
    for (var slab = 0u; slab < p.rows; slab += 1u) {
        let at = slab * 3u * p.channels4 + c4;
        let added = x[at + 2u * p.channels4].x;
        if (added > 0.0) {
            let all = n + added;
            let off = x[at] - mean;
            mean += off * (added / all);
            squares += x[at + p.channels4] + off * off * (n * added / all);
            n = all;
        }
    }
    let to = p.moments_offset4 + c4;
    moments[to] = mean;
    moments[to + p.moments_stride4] = squares / max(n, 1.0);
    moments[to + 2u * p.moments_stride4] = mask4(vec4<f32>(n), 4u * c4, p.channels);
}
#else
@group(0) @binding(1) var<storage, read_write> moments: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<act4>;
#ifdef LENGTHS
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
#endif

override COLUMNS: u32 = 16u;   // a power of two; 256 / COLUMNS threads share the rows of a slab

var<workgroup> sums: array<vec4<f32>, 256>;

fn is_there(row: u32) -> bool {
#ifdef LENGTHS
    return row % p.time < length_of(row / p.time);
#else
    return true;
#endif
}

fn add_up(local: u32, sum: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sums[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS; half /= 2u) {
        if (local < half) {
            sums[local] += sums[local + half];
        }
        workgroupBarrier();
    }
    return sums[local % COLUMNS];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let tiles = (p.channels4 + COLUMNS - 1u) / COLUMNS;
    let c4 = workgroup % tiles * COLUMNS + local % COLUMNS;
    let slab = workgroup / tiles;
    let there = workgroup < p.workgroups && c4 < p.channels4;
    let start = slab * p.slab_rows + local / COLUMNS;
    let end = select(0u, min((slab + 1u) * p.slab_rows, p.rows), there);

    var sum = vec4<f32>();
    var counted = 0.0;
    for (var row = start; row < end; row += 256u / COLUMNS) {
        if (is_there(row)) {
            sum += load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
            counted += 1.0;
        }
    }
    let n = add_up(local, vec4<f32>(counted)).x;
    let mean = add_up(local, sum) / max(n, 1.0);
    sum = vec4<f32>();
    for (var row = start; row < end; row += 256u / COLUMNS) {
        if (is_there(row)) {
            let off = load4(x[p.x_offset4 + row * p.x_stride4 + c4]) - mean;
            sum += off * off;
        }
    }
    let squares = add_up(local, sum);
    if (local < COLUMNS && there) {
#ifdef PARTIAL
        let to = slab * 3u * p.channels4 + c4;
        let stride4 = p.channels4;
        moments[to + stride4] = squares;
#else
        let to = p.moments_offset4 + c4;
        let stride4 = p.moments_stride4;
        moments[to + stride4] = squares / max(n, 1.0);
#endif
        moments[to] = mean;
        moments[to + 2u * stride4] = mask4(vec4<f32>(n), 4u * c4, p.channels);
    }
}
#endif
#endif
