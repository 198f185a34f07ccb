// Sums pairs of numbers in fixed order: each workgroup a chunk of them, or one workgroup all of them.
//
//   chunks (neither name defined):   target[w] = sum of chunk w
//   TOTAL:      y = factor * sum of the first numbers
//   MEAN:       y = sum of the first numbers / sum of the second, 0 if that is 0;   weight = sum of the second

#import grid
#import workgroup_sum

struct Params {
    workgroups: u32,
    count: u32,
    chunk: u32,
    factor: f32,
    y_offset4: u32,
    weight_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<vec2<f32>>;
#ifdef TOTAL
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#else
#ifdef MEAN
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> weight: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> sums: array<vec2<f32>>;
#endif
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let first = workgroup * p.chunk;
    let end = min(first + p.chunk, p.count);
    var own = vec2<f32>();
    for (var i = first + local; i < end; i += 256u) {
        own += source[i];
    }
    let sum = workgroup_sum(local, own);
    if (local == 0u && workgroup < p.workgroups) {
#ifdef TOTAL
        y[p.y_offset4] = vec4<f32>(p.factor * sum.x, 0.0, 0.0, 0.0);
#else
#ifdef MEAN
        y[p.y_offset4] = vec4<f32>(sum.x / max(sum.y, 1.0), 0.0, 0.0, 0.0);
        weight[p.weight_offset4] = vec4<f32>(sum.y, 0.0, 0.0, 0.0);
#else
        sums[workgroup] = sum;
#endif
#endif
    }
}
