// Sums over time, in two passes of fixed order, and their gradient. Four channels a thread.
//
// `partial`: one slab of positions of one sequence.   `reduce`: its slabs in order.   `broadcast`: the gradient.

#import grid

struct Params {
    batch: u32,
    time: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    slabs: u32,
    slab_time: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

#ifdef PARTIAL
@compute @workgroup_size(64)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let c4 = index % p.channels4;
    let slab = index / p.channels4 % p.slabs;
    let sequence = index / p.channels4 / p.slabs;
    if (sequence >= p.batch) {
        return;
    }
    let end = min((slab + 1u) * p.slab_time, p.time);
    var sum = vec4<f32>();
    for (var time = slab * p.slab_time; time < end; time += 1u) {
        sum += x[p.x_offset4 + (sequence * p.time + time) * p.x_stride4 + c4];
    }
    y[index] = sum;
}
#endif

#ifdef REDUCE
@compute @workgroup_size(64)
fn reduce_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let c4 = index % p.channels4;
    let sequence = index / p.channels4;
    if (sequence >= p.batch) {
        return;
    }
    var sum = vec4<f32>();
    for (var slab = 0u; slab < p.slabs; slab += 1u) {
        sum += x[(sequence * p.slabs + slab) * p.channels4 + c4];
    }
    y[p.y_offset4 + sequence * p.y_stride4 + c4] = sum;
}
#endif

#ifdef BROADCAST
@compute @workgroup_size(64)
fn broadcast_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let c4 = index % p.channels4;
    let row = index / p.channels4;
    if (row >= p.batch * p.time) {
        return;
    }
    y[p.y_offset4 + row * p.y_stride4 + c4] = x[p.x_offset4 + row / p.time * p.x_stride4 + c4];
}
#endif
