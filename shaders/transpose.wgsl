// y[c, r] = x[r, c]: a matrix, once for many reads of its columns. Rows may be in groups, which lie `group_stride` apart in y.

#import grid

struct Params {
    rows: u32,
    columns: u32,
    x_offset: u32,
    x_stride: u32,
    y_stride: u32,
    group: u32,
    group_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let column = index / p.rows;
    let row = index % p.rows;
    if (column < p.columns) {
        y[column * p.y_stride + row / p.group * p.group_stride + row % p.group] = x[p.x_offset + row * p.x_stride + column];
    }
}
