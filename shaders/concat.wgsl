// Copies channels to other places in the row, one element a thread: what concatenation, slices and their gradients do
// where the planner can't have them for nothing.
//
//   y[row, c] = x[row, c - place] where that is one of the n channels of x, else 0,   for width channels c from first on

#import grid

struct Params {
    rows: u32,
    first: u32,
    width: u32,
    place: u32,
    n: u32,
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
    let row = index / p.width;
    let c = p.first + index % p.width;
    if (row >= p.rows) {
        return;
    }
    var value = 0.0;
    if (c >= p.place && c - p.place < p.n) {
        value = x[p.x_offset + row * p.x_stride + (c - p.place)];
    }
    y[p.y_offset + row * p.y_stride + c] = value;
}
