// Copies channels of rows to other channels: y[first..end] = x[first - shift..] where x has that channel, else 0.
// For channels that don't fall on multiples of 4; the others need no copy.

#import grid

struct Params {
    rows: u32,
    first: u32,
    end: u32,
    shift: i32,
    x_channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let width = p.end - p.first;
    let row = index / width;
    let channel = p.first + index % width;
    if (row >= p.rows) {
        return;
    }
    let source = i32(channel) - p.shift;
    var value = 0.0;
    if (source >= 0 && source < i32(p.x_channels)) {
        value = x[p.x_offset + row * p.x_stride + u32(source)];
    }
    y[p.y_offset + row * p.y_stride + channel] = value;
}
