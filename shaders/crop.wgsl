// Sequences without their first positions, and where GRADIENT the way back: zeros before them. Four channels a thread.

#import grid
#import storage

struct Params {
    rows: u32,       // of y
    channels4: u32,
    short: u32,      // positions with and without the first
    long: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let left_out = p.long - p.short;
#ifdef GRADIENT
    let t = row % p.long;
    var value = pack4(vec4<f32>());
    if (t >= left_out) {
        value = x[p.x_offset4 + (row / p.long * p.short + t - left_out) * p.x_stride4 + c4];
    }
#else
    let value = x[p.x_offset4 + (row / p.short * p.long + row % p.short + left_out) * p.x_stride4 + c4];
#endif
    y[p.y_offset4 + row * p.y_stride4 + c4] = value;
}
