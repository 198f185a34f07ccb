// The partial sums of conv1d_grad_weight.wgsl on cooperative matrices: f16 storage, f32 sums. The reduction over the
// slabs is that file's.
//
// A workgroup makes a tile of TILE_K x TILE_N of [K + 1, N]; M of the sum is time, in steps of 32 rows, zero where there
// is nothing. All threads stay to the end: cooperative operations are in uniform control flow. Only with HALF.

enable wgpu_cooperative_matrix;

#import grid
#import coop
#import storage
#import weight_sum

@group(0) @binding(0) var<uniform> p: Sum;
@group(0) @binding(1) var<storage, read> src: array<act4>;
@group(0) @binding(2) var<storage, read> dy: array<act4>;
@group(0) @binding(3) var<storage, read_write> partial_sums: array<vec4<f32>>;

override TILE_K: u32 = 128u;    // SUBGROUPS_M * 2 * SIDE
override TILE_N: u32 = 64u;     // SUBGROUPS_N * 4 * SIDE
override THREADS: u32 = 128u;   // a multiple of TILE_K / 4 and of TILE_N / 4
override A_SIZE: u32 = 1088u;   // 32 * (TILE_K / 4 + PADDING4)
override B_SIZE: u32 = 576u;    // 32 * (TILE_N / 4 + PADDING4)
override SUMS_SIZE: u32 = 576u; // SUBGROUPS_M * SUBGROUPS_N * SIDE * SUMS_STRIDE4

const STEP: u32 = 32u;
const SUMS_STRIDE4: u32 = SIDE / 2u + 1u;
const NOWHERE: i32 = -0x40000000;

// Of each row of the step: where tap 0 reads in its sequence, and the sequence's first source row.
var<workgroup> places: array<vec2<i32>, STEP>;
var<workgroup> a_tile: array<act4, A_SIZE>;     // [row][k4]
var<workgroup> b_tile: array<act4, B_SIZE>;     // [row][n4]
var<workgroup> sums: array<vec4<f32>, SUMS_SIZE>;    // two matrices side by side of each subgroup

fn place(m: u32, end_row: u32) -> vec2<i32> {
    let at = i32(m % p.time) * p.multiply + p.shift;
    return vec2<i32>(select(NOWHERE, at, m < end_row), i32(m / p.time * p.src_time));
}

fn source(place: vec2<i32>, tap: u32, channel4: u32) -> act4 {
    let at = place.x + i32(tap) * p.step;
    if (at < 0 || u32(at) >= p.src_time) {
        return act4();
    }
    return src[p.src_offset4 + (u32(place.y) + u32(at)) * p.src_stride4 + channel4];
}

// Stores what the subgroups left in `sums`: of the 2 x 4 matrices of each, row `i` and half `j`.
fn store_sums(slab: u32, first_k: u32, first_n4: u32, i: u32, j: u32, local: u32) {
    let columns = SIDE / 2u;
    let n4_end = (p.n + 3u) / 4u;
    for (var e = local; e < SUBGROUPS_M * SUBGROUPS_N * SIDE * columns; e += THREADS) {
        let row = e / columns;
        let subgroup = row / SIDE;
        let k = first_k + (subgroup / SUBGROUPS_N * 2u + i) * SIDE + row % SIDE;
        let n4 = first_n4 + (subgroup % SUBGROUPS_N * 2u + j) * columns + e % columns;
        if (slab < p.slabs && k < p.partial_rows && n4 < n4_end) {
            partial_sums[(slab * p.partial_rows + k) * n4_end + n4] = sums[row * SUMS_STRIDE4 + e % columns];
        }
    }
}

@compute @workgroup_size(THREADS)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32, @builtin(subgroup_id) subgroup: u32) {
    // A workgroup beyond the last has no rows.
    let workgroup = workgroup_index(id, count);
    let tiles_n = (p.n + TILE_N - 1u) / TILE_N;
    let tiles_k = (p.partial_rows + TILE_K - 1u) / TILE_K;
    let slab = workgroup / (tiles_n * tiles_k);
    let first_k = workgroup / tiles_n % tiles_k * TILE_K;
    let first_n4 = workgroup % tiles_n * (TILE_N / 4u);
    let first_row = min(slab, p.slabs) * p.slab_rows;
    let end_row = min(first_row + p.slab_rows, p.rows);
    let src4 = (p.src_channels + 3u) / 4u;
    let n4_end = (p.n + 3u) / 4u;

    // A thread reads the same channels of every row.
    let a_columns = TILE_K / 4u;
    let b_columns = TILE_N / 4u;
    let a_stride4 = a_columns + PADDING4;
    let b_stride4 = b_columns + PADDING4;
    let a_column = local % a_columns;
    let b_column = local % b_columns;
    let k4 = first_k / 4u + a_column;
    let tap = k4 / src4;
    let channel4 = k4 % src4;
    let bias = act4(select(0.0h, 1.0h, k4 == p.taps * src4), 0.0h, 0.0h, 0.0h);
    let n4 = first_n4 + b_column;

    // The subgroup's first matrices in workgroup memory.
    let a_first = subgroup / SUBGROUPS_N * (SIDE / 2u);
    let b_first = subgroup % SUBGROUPS_N * SIDE;
    let side4 = SIDE / 4u;

#for i 2
#for j 4
    var sum$i$j: sum_matrix;
#endfor
#endfor

    for (var i = local; i < STEP; i += THREADS) {
        places[i] = place(first_row + i, end_row);
    }
    workgroupBarrier();
    for (var row = first_row; row < end_row; row += STEP) {
        for (var i = local / a_columns; i < STEP; i += THREADS / a_columns) {
            var value = bias;
            if (tap < p.taps) {
                value = source(places[i], tap, channel4);
            }
            a_tile[i * a_stride4 + a_column] = value;
        }
        for (var i = local / b_columns; i < STEP; i += THREADS / b_columns) {
            var value = act4();
            if (row + i < end_row && n4 < n4_end) {
                value = dy[p.dy_offset4 + (row + i) * p.dy_stride4 + n4];
            }
            b_tile[i * b_stride4 + b_column] = value;
        }
        workgroupBarrier();
        for (var i = local; i < STEP; i += THREADS) {
            places[i] = place(row + STEP + i, end_row);
        }
        for (var s = 0u; s < STEP; s += SIDE) {
            // Columns of the left matrices are rows of the tile.
            let a_at = a_first + s * a_stride4;
            let b_at = b_first + s * b_stride4;
#for i 2
            let a$i = coopLoad<left_matrix>(&a_tile[a_at + $iu * side4], a_stride4);
#endfor
#for j 4
            let b$j = coopLoadT<right_matrix>(&b_tile[b_at + $ju * side4], b_stride4);
#endfor
#for i 2
#for j 4
            sum$i$j = coopMultiplyAdd(a$i, b$j, sum$i$j);
#endfor
#endfor
        }
        workgroupBarrier();
    }

    // Operands of coopStore are in variables: naga 30 fails on expressions.
    let left = subgroup * SIDE * SUMS_STRIDE4;
    let right = left + side4;
    let stride4 = SUMS_STRIDE4;
#for i 2
    coopStoreT(sum$i0, &sums[left], stride4);
    coopStoreT(sum$i1, &sums[right], stride4);
    workgroupBarrier();
    store_sums(slab, first_k, first_n4, $iu, 0u, local);
    workgroupBarrier();
    coopStoreT(sum$i2, &sums[left], stride4);
    coopStoreT(sum$i3, &sums[right], stride4);
    workgroupBarrier();
    store_sums(slab, first_k, first_n4, $iu, 1u, local);
    workgroupBarrier();
#endfor
}
