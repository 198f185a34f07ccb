// conv1d.wgsl on cooperative matrices: the same sum and epilogue, f16 storage, f32 sums.
//
// A workgroup makes a tile of TILE_M x TILE_N. Both operands pass through workgroup memory in slabs of 32 along K, zero
// where there is nothing, so that the matrices need no edges. The sums go back through workgroup memory, because only
// there can a thread reach single elements. All threads stay to the end: cooperative operations are in uniform control
// flow. Only with HALF.

enable wgpu_cooperative_matrix;

#import coop
#import grid
#import product

override TILE_M: u32 = 128u;    // SUBGROUPS_M * 2 * SIDE
override TILE_N: u32 = 64u;     // SUBGROUPS_N * 4 * SIDE
override THREADS: u32 = 128u;
override A_SIZE: u32 = 1280u;   // TILE_M * A_STRIDE4
override B_SIZE: u32 = 576u;    // 32 * (TILE_N / 4 + PADDING4), TRANSPOSED: TILE_N * A_STRIDE4
override SUMS_SIZE: u32 = 576u; // SUBGROUPS_M * SUBGROUPS_N * SIDE * SUMS_STRIDE4

const SLAB: u32 = 32u;
const SLAB4: u32 = SLAB / 4u;
const A_STRIDE4: u32 = SLAB4 + PADDING4;
const SUMS_STRIDE4: u32 = SIDE / 2u + 1u;

var<workgroup> places: array<Row, TILE_M>;
var<workgroup> a_tile: array<act4, A_SIZE>;     // [m][k4]
// Forward: [k][n4]. TRANSPOSED: [n][k4], since the weights are contiguous along K then.
var<workgroup> b_tile: array<act4, B_SIZE>;
var<workgroup> sums: array<vec4<f32>, SUMS_SIZE>;    // two matrices side by side of each subgroup

fn source(row: Row, tap: u32, channel4: u32) -> act4 {
    if (tap >= TAPS || !is_there(row, tap)) {
        return act4();
    }
    return src[place(row, tap) + channel4];
}

// Stores what the subgroups left in `sums`: of the 2 x 4 matrices of each, row `i` and pair `j`. With GATE a pair is one of
// a and one of b.
fn store_sums(first_m: u32, first_n: u32, i: u32, j: u32, local: u32) {
#ifdef GATE
    let columns = SIDE / 4u;
#else
    let columns = SIDE / 2u;
#endif
    for (var e = local; e < SUBGROUPS_M * SUBGROUPS_N * SIDE * columns; e += THREADS) {
        let row = e / columns;
        let subgroup = row / SIDE;
        let m = first_m + (subgroup / SUBGROUPS_N * 2u + i) * SIDE + row % SIDE;
        let n4 = first_n / 4u + (subgroup % SUBGROUPS_N * 2u + j) * columns + e % columns;
        let at = row * SUMS_STRIDE4 + e % columns;
#ifdef GATE
        store_gate(m, n4, bias4(n4) + sums[at], bias4(n4 + p.n / 4u) + sums[at + columns]);
#else
        store(m, n4, bias4(n4) + sums[at]);
#endif
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_id) subgroup: u32) {
    // A workgroup beyond the last has no rows.
    let tile = workgroup_index(id, count);
#ifdef GATE
    let tile_n = TILE_N / 2u;       // a column of z takes one of a and one of b
#else
    let tile_n = TILE_N;
#endif
    let tiles_n = (p.n + tile_n - 1u) / tile_n;
    let first_m = tile / tiles_n * TILE_M;
    let first_n = tile % tiles_n * tile_n;
    let k_end = TAPS * SRC4 * 4u;

    for (var i = local; i < TILE_M; i += THREADS) {
        places[i] = row_of(first_m + i);
    }
    workgroupBarrier();

    let thread_k4 = local % SLAB4;
    var tap = thread_k4 / SRC4;
    var channel4 = thread_k4 % SRC4;

    // The subgroup's first matrices in workgroup memory.
    let subgroup_m = subgroup / SUBGROUPS_N;
    let subgroup_n = subgroup % SUBGROUPS_N;
    let a_first = subgroup_m * 2u * SIDE * A_STRIDE4;
#ifdef TRANSPOSED
    let b_stride4 = A_STRIDE4;
    let b_first = subgroup_n * 4u * SIDE * b_stride4;
    let b_step = SIDE * b_stride4;
#else
    let b_stride4 = TILE_N / 4u + PADDING4;
    let b_first = subgroup_n * SIDE;
    let b_step = SIDE / 4u;
#endif

#for i 2
#for j 4
    var sum$i$j: sum_matrix;
#endfor
#endfor

    for (var k = 0u; k < k_end; k += SLAB) {
        for (var m = local / SLAB4; m < TILE_M; m += THREADS / SLAB4) {
            a_tile[m * A_STRIDE4 + thread_k4] = source(places[m], tap, channel4);
        }
#ifdef TRANSPOSED
        for (var i = local / SLAB4; i < TILE_N; i += THREADS / SLAB4) {
            let n = first_n + i;
            var value = act4();
            if (n < p.n && tap < TAPS) {
                value = weight[p.weight_offset4 + (tap * p.n + n) * p.weight_stride4 + channel4];
            }
            b_tile[i * b_stride4 + thread_k4] = value;
        }
#else
        // Channels in are a multiple of 4 here: the weights' rows are K.
        for (var i = local; i < SLAB * (TILE_N / 4u); i += THREADS) {
            let row = i / (TILE_N / 4u);
            let column4 = i % (TILE_N / 4u);
#ifdef GATE
            // Of a subgroup's 4 matrices side by side two are of a, two of b.
            let n4 = first_n / 4u + column4 / SIDE * (SIDE / 2u) + column4 % (SIDE / 2u);
            let from4 = n4 + select(0u, p.n / 4u, column4 % SIDE >= SIDE / 2u);
#else
            let n4 = first_n / 4u + column4;
            let from4 = n4;
#endif
            var value = act4();
            if (k + row < k_end && n4 * 4u < p.n) {
                value = weight[p.weight_offset4 + (k + row) * p.weight_stride4 + from4];
            }
            b_tile[row * b_stride4 + column4] = value;
        }
#endif
        channel4 += SLAB4;
        while (channel4 >= SRC4) {
            channel4 -= SRC4;
            tap += 1u;
        }
        workgroupBarrier();
        for (var s = 0u; s < SLAB; s += SIDE) {
            let a_at = a_first + s / 4u;
#for i 2
            let a$i = coopLoadT<left_matrix>(&a_tile[a_at + $iu * SIDE * A_STRIDE4], A_STRIDE4);
#endfor
#ifdef TRANSPOSED
            let b_at = b_first + s / 4u;
#for j 4
            let b$j = coopLoad<right_matrix>(&b_tile[b_at + $ju * b_step], b_stride4);
#endfor
#else
            let b_at = b_first + s * b_stride4;
#for j 4
            let b$j = coopLoadT<right_matrix>(&b_tile[b_at + $ju * b_step], b_stride4);
#endfor
#endif
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
    let right = left + SIDE / 4u;
    let stride4 = SUMS_STRIDE4;
#for i 2
#ifdef GATE
    coopStoreT(sum$i0, &sums[left], stride4);
    coopStoreT(sum$i2, &sums[right], stride4);
#else
    coopStoreT(sum$i0, &sums[left], stride4);
    coopStoreT(sum$i1, &sums[right], stride4);
#endif
    workgroupBarrier();
    store_sums(first_m, first_n, $iu, 0u, local);
    workgroupBarrier();
#ifdef GATE
    coopStoreT(sum$i1, &sums[left], stride4);
    coopStoreT(sum$i3, &sums[right], stride4);
#else
    coopStoreT(sum$i2, &sums[left], stride4);
    coopStoreT(sum$i3, &sums[right], stride4);
#endif
    workgroupBarrier();
    store_sums(first_m, first_n, $iu, 1u, local);
    workgroupBarrier();
#endfor
}
