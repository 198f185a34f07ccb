// Sums over the rows of a slab, four channels a thread, in a fixed order: of dy h and of dy, h being the normalised x.
//
//   PER_ROW:   h = (x - mean) rstd with the mean and rstd of the row; else with the mean and variance of the channel
//   LENGTHS:   only rows that there are
//   SLABS:     the sums of the sums of slabs

#import grid
#import storage
#import lengths

struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    slab_rows: u32,
    channels4: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    statistics_offset4: u32,
    statistics_stride4: u32,
    products_offset4: u32,
    sums_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> products: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>;
#ifdef SLABS
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;    // the products of slabs
@group(0) @binding(4) var<storage, read> dy: array<vec4<f32>>;   // the sums of slabs
#else
@group(0) @binding(3) var<storage, read> x: array<act4>;
@group(0) @binding(4) var<storage, read> dy: array<act4>;
@group(0) @binding(5) var<storage, read> statistics: array<vec4<f32>>;
#ifdef LENGTHS
@group(0) @binding(6) var<storage, read> lengths: array<u32>;
#endif
#endif

override COLUMNS: u32 = 16u;   // a power of two; 256 / COLUMNS threads share the rows of a slab

var<workgroup> shared_products: array<vec4<f32>, 256>;
var<workgroup> shared_sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let tiles = (p.channels4 + COLUMNS - 1u) / COLUMNS;
    let c4 = workgroup % tiles * COLUMNS + local % COLUMNS;
    let slab = workgroup / tiles;
    let there = workgroup < p.workgroups && c4 < p.channels4;
    let end = select(0u, min((slab + 1u) * p.slab_rows, p.rows), there);

    var product = vec4<f32>();
    var sum = vec4<f32>();
#ifndef SLABS
#ifndef PER_ROW
    var mean = vec4<f32>();
    var rstd = vec4<f32>();
    if (there) {
        mean = statistics[p.statistics_offset4 + c4];
        rstd = 1.0 / sqrt(statistics[p.statistics_offset4 + p.statistics_stride4 + c4] + p.eps);
    }
#endif
#endif
    for (var row = slab * p.slab_rows + local / COLUMNS; row < end; row += 256u / COLUMNS) {
#ifdef SLABS
        product += x[row * p.channels4 + c4];
        sum += dy[row * p.channels4 + c4];
#else
#ifdef LENGTHS
        if (row % p.time >= length_of(row / p.time)) {
            continue;
        }
#endif
#ifdef PER_ROW
        let mean = statistics[p.statistics_offset4 + row * p.statistics_stride4].x;
        let rstd = statistics[p.statistics_offset4 + row * p.statistics_stride4].y;
#endif
        let d = load4(dy[p.dy_offset4 + row * p.dy_stride4 + c4]);
        product += d * ((load4(x[p.x_offset4 + row * p.x_stride4 + c4]) - mean) * rstd);
        sum += d;
#endif
    }
    shared_products[local] = product;
    shared_sums[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS; half /= 2u) {
        if (local < half) {
            shared_products[local] += shared_products[local + half];
            shared_sums[local] += shared_sums[local + half];
        }
        workgroupBarrier();
    }
    if (local < COLUMNS && there) {
        products[p.products_offset4 + slab * p.channels4 + c4] = shared_products[local];
        sums[p.sums_offset4 + slab * p.channels4 + c4] = shared_sums[local];
    }
}
