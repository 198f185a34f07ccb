// Gradient of a convolution's weights and bias: a GEMM over time, in two passes of fixed order.
//
//   dW[k, c, n] = sum over rows m of src[row(m, k), c] * dy[m, n],   db[n] = sum over rows m of dy[m, n]
//
// `partial`: each workgroup sums one slab of rows for a tile of TILE x TILE of [K + 1, N]; row K is the bias, for which
// the source is 1. `reduce`: sums the slabs in order.

#import grid
#import storage

struct Params {
    workgroups: u32,
    rows: u32,          // batch * time of dy
    time: u32,          // of dy
    src_time: u32,
    taps: u32,
    src_channels: u32,
    n: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    src_offset4: u32,
    src_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    slab_rows: u32,
    slabs: u32,
    out_offset4: u32,   // of dW or db
    out_stride4: u32,
    partial_rows: u32,  // taps * channels in, each tap padded to 4, and 4 for the bias
}

override TILE: u32 = 64u;
override THREADS: u32 = 256u;   // (TILE / 4)^2
override TILE_SIZE: u32 = 256u; // 16 rows * TILE / 4

#ifdef PARTIAL
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<act4>;
@group(0) @binding(2) var<storage, read> dy: array<act4>;
@group(0) @binding(3) var<storage, read_write> partial_sums: array<vec4<f32>>;

var<workgroup> a_tile: array<vec4<f32>, TILE_SIZE>;   // [row][k4]
var<workgroup> b_tile: array<vec4<f32>, TILE_SIZE>;   // [row][n4]

fn source(m: u32, k4: u32, src4: u32) -> vec4<f32> {
    let tap = k4 / src4;
    if (tap >= p.taps) {
        // The bias reads 1, once.
        return vec4<f32>(select(0.0, 1.0, k4 == p.taps * src4), 0.0, 0.0, 0.0);
    }
    let sequence = m / p.time;
    let at = i32(m % p.time) * p.multiply + i32(tap) * p.step + p.shift;
    if (at < 0 || u32(at) >= p.src_time) {
        return vec4<f32>();
    }
    return load4(src[p.src_offset4 + (sequence * p.src_time + u32(at)) * p.src_stride4 + k4 % src4]);
}

@compute @workgroup_size(THREADS)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    if (workgroup >= p.workgroups) {
        return;
    }
    let columns = TILE / 4u;
    let n4_end = (p.n + 3u) / 4u;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tiles_k = (p.partial_rows + TILE - 1u) / TILE;
    let slab = workgroup / (tiles_n * tiles_k);
    let first_k4 = workgroup / tiles_n % tiles_k * columns;
    let first_n4 = workgroup % tiles_n * columns;
    let thread_k4 = local / columns;
    let thread_n4 = local % columns;
    let src4 = (p.src_channels + 3u) / 4u;
    let first_row = slab * p.slab_rows;
    let end_row = min(first_row + p.slab_rows, p.rows);

    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var row = first_row; row < end_row; row += 16u) {
        for (var i = local; i < TILE_SIZE; i += THREADS) {
            let m = row + i / columns;
            let k4 = first_k4 + i % columns;
            let n4 = first_n4 + i % columns;
            var a = vec4<f32>();
            var b = vec4<f32>();
            if (m < end_row) {
                a = source(m, k4, src4);
                if (n4 < n4_end) {
                    b = load4(dy[p.dy_offset4 + m * p.dy_stride4 + n4]);
                }
            }
            a_tile[i] = a;
            b_tile[i] = b;
        }
        workgroupBarrier();
        for (var r = 0u; r < 16u; r += 1u) {
            let a = a_tile[r * columns + thread_k4];
            let b = b_tile[r * columns + thread_n4];
            sum0 += a.x * b;
            sum1 += a.y * b;
            sum2 += a.z * b;
            sum3 += a.w * b;
        }
        workgroupBarrier();
    }

    let k = (first_k4 + thread_k4) * 4u;
    let n4 = first_n4 + thread_n4;
    if (k < p.partial_rows && n4 < n4_end) {
        let to = (slab * p.partial_rows + k) * n4_end + n4;
        partial_sums[to] = sum0;
        partial_sums[to + n4_end] = sum1;
        partial_sums[to + 2u * n4_end] = sum2;
        partial_sums[to + 3u * n4_end] = sum3;
    }
}
#endif

#ifdef REDUCE
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;   // dW, or db where BIAS_ROW

@compute @workgroup_size(64)
fn reduce_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    let n4_end = (p.n + 3u) / 4u;
    let index = workgroup_index(id, count) * 64u + local;
#ifdef BIAS_ROW
    let row = p.partial_rows - 4u;
    if (index >= n4_end) {
        return;
    }
#else
    let dense_row = index / n4_end;
    if (dense_row >= p.taps * p.src_channels) {
        return;
    }
    let row = dense_row / p.src_channels * ((p.src_channels + 3u) / 4u * 4u) + dense_row % p.src_channels;
#endif
    let n4 = index % n4_end;
    var sum = vec4<f32>();
    for (var slab = 0u; slab < p.slabs; slab += 1u) {
        sum += partial_sums[(slab * p.partial_rows + row) * n4_end + n4];
    }
#ifdef BIAS_ROW
    weight[p.out_offset4 + n4] = sum;
#else
    weight[p.out_offset4 + dense_row * p.out_stride4 + n4] = sum;
#endif
}
#endif
