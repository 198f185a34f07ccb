// Sums over the rows of each group, four channels a thread, in a fixed order; or the reverse.
//
//   y[group * slabs + slab, c] = sum over the slab's rows of x[group * group_rows + row, c]
//   BROADCAST:   y[row, c] = x[row / group_rows, c]

#import grid
#import storage

struct Params {
    workgroups: u32,
    rows: u32,        // of all groups
    group_rows: u32,
    slab_rows: u32,
    slabs: u32,       // of a group
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#ifdef BROADCAST
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;

@compute @workgroup_size(256)
fn broadcast(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    y[p.y_offset4 + row * p.y_stride4 + c4] = x[p.x_offset4 + row / p.group_rows * p.x_stride4 + c4];
}
#else
#ifdef SLABS
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;   // the sums of slabs

fn addend(at: u32) -> vec4<f32> {
    return x[at];
}
#else
@group(0) @binding(1) var<storage, read> x: array<act4>;

fn addend(at: u32) -> vec4<f32> {
    return load4(x[at]);
}
#endif
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

override COLUMNS: u32 = 16u;   // a power of two; 256 / COLUMNS threads share the rows of a slab

var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let tiles = (p.channels4 + COLUMNS - 1u) / COLUMNS;
    let c4 = workgroup % tiles * COLUMNS + local % COLUMNS;
    let slab = workgroup / tiles % p.slabs;
    let group = workgroup / tiles / p.slabs;
    let there = workgroup < p.workgroups && c4 < p.channels4;
    let end = select(0u, min((slab + 1u) * p.slab_rows, p.group_rows), there);

    var sum = vec4<f32>();
    for (var row = slab * p.slab_rows + local / COLUMNS; row < end; row += 256u / COLUMNS) {
        sum += addend(p.x_offset4 + (group * p.group_rows + row) * p.x_stride4 + c4);
    }
    sums[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS; half /= 2u) {
        if (local < half) {
            sums[local] += sums[local + half];
        }
        workgroupBarrier();
    }
    if (local < COLUMNS && there) {
        y[p.y_offset4 + (group * p.slabs + slab) * p.y_stride4 + c4] = sums[local];
    }
}
#endif
