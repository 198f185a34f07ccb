// Weighted sums, four channels a thread:   y = first * x   or   y = first * x + second * other

#import grid
#import storage

struct Params {
    rows: u32,
    channels: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    other_offset4: u32,
    other_stride4: u32,
    first: f32,
    second: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#ifdef SECOND
@group(0) @binding(3) var<storage, read> other: array<act4>;
#endif

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
    var value = p.first * load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
#ifdef SECOND
    value += p.second * load4(other[p.other_offset4 + row * p.other_stride4 + c4]);
#endif
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(value);
}
