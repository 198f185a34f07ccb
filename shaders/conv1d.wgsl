// Dilated 1-D convolution as an implicit GEMM, and its gradient to the input.
//
// M = batch * time rows, N = channels out, K = taps * channels in. A tap is the same rows shifted, so there is no
// im2col and the cost does not depend on the dilation. The gradient to the input is the same sum with the shift
// reversed and the weights transposed (TRANSPOSED).
//
// A workgroup makes a tile of TILE_M x TILE_N; a thread makes 4 THREAD_M4 x 4 THREAD_N4 of it in registers, in pieces of
// 4 x 4 that lie TILE_M / THREAD_M4 rows and TILE_N / THREAD_N4 columns apart, so that neighbours read neighbours. Both
// operands pass through workgroup memory in slabs of 4 SLAB4 along K, K outermost, so that both are read four at once. Each
// thread brings one block of 4 x 4 of a slab, and has that of the next slab under way while it computes.

#import grid
#import product

override TILE_M: u32 = 64u;
override TILE_N: u32 = 64u;
override THREAD_M4: u32 = 2u;
override THREAD_N4: u32 = 1u;
override SLAB4: u32 = 4u;
override THREADS: u32 = 128u;   // TILE_M / 4 / THREAD_M4 * TILE_N / 4 / THREAD_N4
override A_SIZE: u32 = 256u;    // TILE_M * SLAB4
override B_SIZE: u32 = 256u;    // TILE_N * SLAB4

var<workgroup> a_tile: array<vec4<f32>, A_SIZE>;   // [k][m4], see `swizzle`
var<workgroup> b_tile: array<vec4<f32>, B_SIZE>;   // [k][n4]

// Columns of a tile are exchanged with the slab's row, so that the blocks that neighbours write fall on different banks.
fn swizzle(k4: u32, column: u32, columns: u32) -> u32 {
    return column ^ ((k4 * 2u) & (columns - 1u));
}

fn row_block(rows: array<Row, 4>, k4: u32) -> mat4x4<f32> {
    let tap = k4 / SRC4;
    var block = mat4x4<f32>();
    if (tap < TAPS) {
        let channel4 = k4 % SRC4;
#for i 4
        if (is_there(rows[$i], tap)) {
            block[$i] = load4(src[place(rows[$i], tap) + channel4]);
        }
#endfor
    }
    return transpose(block);
}

// Four rows of the weights along K at four columns.
fn weight_block(k4: u32, n4: u32) -> mat4x4<f32> {
    let tap = k4 / SRC4;
    let channel4 = k4 % SRC4;
    var block = mat4x4<f32>();
    if (tap < TAPS && n4 * 4u < p.n) {
#ifdef TRANSPOSED
        // The weights are contiguous along K.
#for i 4
        if (n4 * 4u + $iu < p.n) {
            block[$i] = load4(weight[p.weight_offset4 + (tap * p.n + n4 * 4u + $iu) * p.weight_stride4 + channel4]);
        }
#endfor
        block = transpose(block);
#else
#for i 4
        if (channel4 * 4u + $iu < p.src_channels) {
            let row = tap * p.src_channels + channel4 * 4u + $iu;
            block[$i] = load4(weight[p.weight_offset4 + row * p.weight_stride4 + n4]);
        }
#endfor
#endif
    }
    return block;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = workgroup_index(id, count);
    if (tile >= p.workgroups) {
        return;
    }
    let tiles_n = (p.n + TILE_N - 1u) / TILE_N;
    let first_m = tile / tiles_n * TILE_M;
    let first_n4 = tile % tiles_n * (TILE_N / 4u);
    let rows4 = TILE_M / 4u;
    let columns4 = TILE_N / 4u;

    // The block that this thread brings: of the source, of the weights, or none.
    let blocks_a = rows4 * SLAB4;
    let brings_a = local < blocks_a;
    let brings_b = !brings_a && local - blocks_a < columns4 * SLAB4;
    var bring_k4 = local % SLAB4;
    var bring_column = local / SLAB4;
    var rows: array<Row, 4>;
    if (brings_a) {
#for i 4
        rows[$i] = row_of(first_m + bring_column * 4u + $iu);
#endfor
    } else {
#ifdef TRANSPOSED
        bring_column = (local - blocks_a) / SLAB4;
        bring_k4 = (local - blocks_a) % SLAB4;
#else
        bring_column = (local - blocks_a) % columns4;
        bring_k4 = (local - blocks_a) / columns4;
#endif
    }
    var block: mat4x4<f32>;
    if (brings_a) {
        block = row_block(rows, bring_k4);
    } else if (brings_b) {
        block = weight_block(bring_k4, first_n4 + bring_column);
    }

    let thread_m = local / (columns4 / THREAD_N4);
    let thread_n = local % (columns4 / THREAD_N4);
#for g THREAD_M4
#for r 4
#for h THREAD_N4
    var sum$g_$r_$h = vec4<f32>();
#endfor
#endfor
#endfor

    let k4_end = TAPS * SRC4;
    for (var first_k4 = 0u; first_k4 < k4_end; first_k4 += SLAB4) {
        if (brings_a) {
            let column = swizzle(bring_k4, bring_column, rows4);
#for i 4
            a_tile[(bring_k4 * 4u + $iu) * rows4 + column] = block[$i];
#endfor
        } else if (brings_b) {
            let column = swizzle(bring_k4, bring_column, columns4);
#for i 4
            b_tile[(bring_k4 * 4u + $iu) * columns4 + column] = block[$i];
#endfor
        }
        workgroupBarrier();
        let next_k4 = first_k4 + SLAB4 + bring_k4;
        if (brings_a) {
            block = row_block(rows, next_k4);
        } else if (brings_b) {
            block = weight_block(next_k4, first_n4 + bring_column);
        }
        for (var k4 = 0u; k4 < SLAB4; k4 += 1u) {
#for g THREAD_M4
            let m$g = k4 * 4u * rows4 + swizzle(k4, thread_m + $gu * (rows4 / THREAD_M4), rows4);
#endfor
#for h THREAD_N4
            let n$h = k4 * 4u * columns4 + swizzle(k4, thread_n + $hu * (columns4 / THREAD_N4), columns4);
#endfor
#for k 4
            {
#for g THREAD_M4
                let a$g = a_tile[m$g + $ku * rows4];
#endfor
#for h THREAD_N4
                let b$h = b_tile[n$h + $ku * columns4];
#endfor
#for g THREAD_M4
#for r 4
#for h THREAD_N4
                sum$g_$r_$h += a$g[$r] * b$h;
#endfor
#endfor
#endfor
            }
#endfor
        }
        workgroupBarrier();
    }

#for h THREAD_N4
    let bias$h = bias4(first_n4 + thread_n + $hu * (columns4 / THREAD_N4));
#endfor
#for g THREAD_M4
#for r 4
#for h THREAD_N4
    store(first_m + (thread_m + $gu * (rows4 / THREAD_M4)) * 4u + $ru,
          first_n4 + thread_n + $hu * (columns4 / THREAD_N4), sum$g_$r_$h + bias$h);
#endfor
#endfor
#endfor
}
