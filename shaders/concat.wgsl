// Copies channels to other places in the row, four channels a thread: what concatenation, slices and their gradients do
// where the planner can't have them for nothing.
//
//   y[row, c] = x[row, c - place] where that is one of the n channels of x, else 0,   for width channels c from first on

#import grid
#import storage

struct Params {
    rows: u32,
    first: u32,
    width: u32,
    place: u32,
    n: u32,
    x_offset: u32,
    x_stride: u32,
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
    // The groups of four that hold the channels from first on; the rest of the first and the last of them is kept.
    let first4 = p.first / 4u;
    let groups = (p.first + p.width + 3u) / 4u - first4;
    let row = index / groups;
    let c4 = first4 + index % groups;
    if (row >= p.rows) {
        return;
    }
    let from_row = p.x_offset + row * p.x_stride;
    let to = p.y_offset4 + row * p.y_stride4 + c4;
    var value = load4(y[to]);
    for (var lane = 0u; lane < 4u; lane += 1u) {
        let c = c4 * 4u + lane;
        if (c >= p.first && c < p.first + p.width) {
            value[lane] = 0.0;
            if (c >= p.place && c - p.place < p.n) {
                let at = from_row + c - p.place;
                value[lane] = load4(x[at / 4u])[at % 4u];
            }
        }
    }
    y[to] = pack4(value);
}
