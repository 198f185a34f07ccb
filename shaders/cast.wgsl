// Copies an f32 tensor as f16 (TO_HALF) or an f16 tensor as f32, four channels a thread.

#import grid
#import storage

struct Params {
    rows: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#ifdef TO_HALF
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#else
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let value = x[p.x_offset4 + row * p.x_stride4 + c4];
#ifdef TO_HALF
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(value);
#else
    y[p.y_offset4 + row * p.y_stride4 + c4] = load4(value);
#endif
}
