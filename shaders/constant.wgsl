// A tensor with all elements the same, four channels a thread; the padding is zero.

#import grid
#import channels
#import storage

struct Params {
    rows: u32,
    channels: u32,
    value: f32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<act4>;

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
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(mask4(vec4<f32>(p.value), c4 * 4u, p.channels));
}
