// Gradients of convolutions' weights and biases: matrix products over time, in two passes of fixed order.
//
//   dW[k, c, n] = sum over rows m of src[row(m, k), c] * dy[m, n],   db[n] = sum over rows m of dy[m, n]
//
// PARTIAL: each workgroup sums one slab of rows for a tile of TILE_K x TILE_N of [K, N]; those of the first tile along K
// also sum the bias. REDUCE: sums the slabs in order. With PAIR both do so for two convolutions of the same rows at once.
//
// A thread makes 4 THREAD_K4 x 4 THREAD_N4 in registers, in pieces of 4 x 4 that lie TILE_K / THREAD_K4 and
// TILE_N / THREAD_N4 apart. Where SUBGROUPS, a workgroup is one subgroup of 8 lanes without workgroup memory, for the
// adapters of conv1d_registers.wgsl: each lane loads 4 THREAD_K4 channels of src, which it gives to the others, and makes
// 32 THREAD_K4 x 4 THREAD_N4.

#import grid
#import storage
#import weight_sum

struct Params {
    sums: array<Sum, 2>,
}

@group(0) @binding(0) var<uniform> p: Params;

#ifdef PARTIAL
@group(0) @binding(1) var<storage, read> src_0: array<act4>;
@group(0) @binding(2) var<storage, read> dy_0: array<act4>;
@group(0) @binding(3) var<storage, read_write> partial_0: array<vec4<f32>>;
#ifdef PAIR
@group(0) @binding(4) var<storage, read> src_1: array<act4>;
@group(0) @binding(5) var<storage, read> dy_1: array<act4>;
@group(0) @binding(6) var<storage, read_write> partial_1: array<vec4<f32>>;
#endif

fn load_src(which: u32, at: u32) -> vec4<f32> {
#ifdef PAIR
    if (which == 1u) {
        return load4(src_1[at]);
    }
#endif
    return load4(src_0[at]);
}

fn load_dy(which: u32, at: u32) -> vec4<f32> {
#ifdef PAIR
    if (which == 1u) {
        return load4(dy_1[at]);
    }
#endif
    return load4(dy_0[at]);
}

fn store_partial(which: u32, at: u32, value: vec4<f32>) {
#ifdef PAIR
    if (which == 1u) {
        partial_1[at] = value;
        return;
    }
#endif
    partial_0[at] = value;
}

// Where a row lies: its position, and its sequence's first row in src.
struct Place {
    at: u32,
    base: u32,
}

fn place_of(sum: Sum, m: u32) -> Place {
    let sequence = m / sum.time;
    return Place(m - sequence * sum.time, sequence * sum.src_time);
}

fn advance(sum: Sum, place: Place, rows: u32) -> Place {
    let at = place.at + rows;
    if (at < sum.time) {
        return Place(at, place.base);
    }
    let sequences = at / sum.time;
    return Place(at - sequences * sum.time, place.base + sequences * sum.src_time);
}

// Four channels of src at a place for a tap whose step and shift make `offset`; zero beyond the sequence.
fn source(which: u32, sum: Sum, place: Place, offset: i32, channel4: u32, there: bool) -> vec4<f32> {
    // A place before the sequence is huge.
    let at = u32(i32(place.at) * sum.multiply + offset);
    if (!there || at >= sum.src_time) {
        return vec4<f32>();
    }
    return load_src(which, sum.src_offset4 + (place.base + at) * sum.src_stride4 + channel4);
}

override TILE_K: u32 = 64u;
override TILE_N: u32 = 64u;
override THREAD_K4: u32 = 2u;
override THREAD_N4: u32 = 1u;

// The work of a workgroup: which of the sums, which slab of its rows, which tile of its result.
struct Tile {
    which: u32,
    slab: u32,
    k: u32,
    n: u32,
    is_there: bool,
}

fn tile_of(index: u32) -> Tile {
    var workgroup = index;
    var which = 0u;
#ifdef PAIR
    if (workgroup >= p.sums[0].workgroups) {
        workgroup -= p.sums[0].workgroups;
        which = 1u;
    }
#endif
    let sum = p.sums[which];
    let tiles_n = (sum.n + TILE_N - 1u) / TILE_N;
    let tiles_k = (sum.taps * ((sum.src_channels + 3u) / 4u) * 4u + TILE_K - 1u) / TILE_K;
    return Tile(which, workgroup / (tiles_n * tiles_k), workgroup / tiles_n % tiles_k, workgroup % tiles_n,
                workgroup < sum.workgroups);
}

#ifdef SUBGROUPS
@compute @workgroup_size(8)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(subgroup_invocation_id) lane: u32) {
    let tile = tile_of(workgroup_index(id, count));
    if (!tile.is_there) {
        return;
    }
    let which = tile.which;
    let sum = p.sums[which];
    let src4 = (sum.src_channels + 3u) / 4u;
    let k4_end = sum.taps * src4;
    let n4_end = (sum.n + 3u) / 4u;
    let first_k4 = tile.k * (TILE_K / 4u);
    let first_n4 = tile.n * (TILE_N / 4u) + lane;
    let first_row = tile.slab * sum.slab_rows;
    let end_row = min(first_row + sum.slab_rows, sum.rows);

#for g THREAD_K4
    let k4_$g = first_k4 + 8u * $gu + lane;
    let offset$g = i32(k4_$g / src4) * sum.step + sum.shift;
    let channel$g = k4_$g % src4;
#for l 8
#for k 4
#for h THREAD_N4
    var sum$g_$l_$k_$h = vec4<f32>();
#endfor
#endfor
#endfor
#endfor
#for h THREAD_N4
    var bias$h = vec4<f32>();
    let n4_$h = min(first_n4 + 8u * $hu, n4_end - 1u);
#endfor
    var place = place_of(sum, first_row);
    for (var m = first_row; m < end_row; m += 1u) {
#for g THREAD_K4
        let a$g = source(which, sum, place, offset$g, channel$g, k4_$g < k4_end);
#endfor
#for h THREAD_N4
        let b$h = load_dy(which, sum.dy_offset4 + m * sum.dy_stride4 + n4_$h);
        bias$h += b$h;
#endfor
#for g THREAD_K4
#for l 8
#for k 4
        {
            let a = subgroupBroadcast(a$g[$k], $lu);
#for h THREAD_N4
            sum$g_$l_$k_$h += a * b$h;
#endfor
        }
#endfor
#endfor
#endfor
        place = advance(sum, place, 1u);
    }

    let to = tile.slab * sum.partial_rows * n4_end + first_n4;
#for h THREAD_N4
    if (first_n4 + 8u * $hu < n4_end) {
        if (tile.k == 0u) {
            store_partial(which, to + 8u * $hu + 4u * k4_end * n4_end, bias$h);
        }
#for g THREAD_K4
#for l 8
        if (first_k4 + 8u * $gu + $lu < k4_end) {
#for k 4
            store_partial(which, to + 8u * $hu + ((first_k4 + 8u * $gu + $lu) * 4u + $ku) * n4_end, sum$g_$l_$k_$h);
#endfor
        }
#endfor
#endfor
    }
#endfor
}
#else
override THREADS: u32 = 128u;   // TILE_K / 4 / THREAD_K4 * TILE_N / 4 / THREAD_N4
override A_SIZE: u32 = 256u;    // 16 rows * TILE_K / 4
override B_SIZE: u32 = 256u;    // 16 rows * TILE_N / 4, at least THREADS
override A_LOADS: u32 = 2u;     // A_SIZE / THREADS
override B_LOADS: u32 = 2u;     // B_SIZE / THREADS

var<workgroup> a_tile: array<vec4<f32>, A_SIZE>;   // [row][k4]
var<workgroup> b_tile: array<vec4<f32>, B_SIZE>;   // [row][n4]

@compute @workgroup_size(THREADS)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(workgroup_index(id, count));
    if (!tile.is_there) {
        return;
    }
    let which = tile.which;
    let sum = p.sums[which];
    let columns_k = TILE_K / 4u;
    let columns_n = TILE_N / 4u;
    let src4 = (sum.src_channels + 3u) / 4u;
    let k4_end = sum.taps * src4;
    let n4_end = (sum.n + 3u) / 4u;
    let first_k4 = tile.k * columns_k;
    let first_n4 = tile.n * columns_n;
    let first_row = tile.slab * sum.slab_rows;
    let end_row = min(first_row + sum.slab_rows, sum.rows);

    // What this thread brings: the same column of several rows of a slab.
    let bring_k4 = first_k4 + local % columns_k;
    let bring_n4 = first_n4 + local % columns_n;
    let offset = i32(bring_k4 / src4) * sum.step + sum.shift;
    let channel4 = bring_k4 % src4;
#for l A_LOADS
    let row_a$l = local / columns_k + $lu * (THREADS / columns_k);
    var place$l = place_of(sum, first_row + row_a$l);
#endfor

    let thread_k = local / (columns_n / THREAD_N4);
    let thread_n = local % (columns_n / THREAD_N4);
    var bias = vec4<f32>();
#for g THREAD_K4
#for k 4
#for h THREAD_N4
    var sum$g_$k_$h = vec4<f32>();
#endfor
#endfor
#endfor
    for (var row = first_row; row < end_row; row += 16u) {
#for l A_LOADS
        a_tile[local + $lu * THREADS] =
            source(which, sum, place$l, offset, channel4, bring_k4 < k4_end && row + row_a$l < end_row);
        place$l = advance(sum, place$l, 16u);
#endfor
#for l B_LOADS
        let m$l = row + local / columns_n + $lu * (THREADS / columns_n);
        var b$l = vec4<f32>();
        if (m$l < end_row && bring_n4 < n4_end) {
            b$l = load_dy(which, sum.dy_offset4 + m$l * sum.dy_stride4 + bring_n4);
        }
        b_tile[local + $lu * THREADS] = b$l;
        bias += b$l;
#endfor
        workgroupBarrier();
        for (var r = 0u; r < 16u; r += 1u) {
#for g THREAD_K4
            let a$g = a_tile[r * columns_k + thread_k + $gu * (columns_k / THREAD_K4)];
#endfor
#for h THREAD_N4
            let b$h = b_tile[r * columns_n + thread_n + $hu * (columns_n / THREAD_N4)];
#endfor
#for g THREAD_K4
#for k 4
#for h THREAD_N4
            sum$g_$k_$h += a$g[$k] * b$h;
#endfor
#endfor
#endfor
        }
        workgroupBarrier();
    }

    let to = tile.slab * sum.partial_rows * n4_end;
#for g THREAD_K4
#for h THREAD_N4
    {
        let k4 = first_k4 + thread_k + $gu * (columns_k / THREAD_K4);
        let n4 = first_n4 + thread_n + $hu * (columns_n / THREAD_N4);
        if (k4 < k4_end && n4 < n4_end) {
#for k 4
            store_partial(which, to + (k4 * 4u + $ku) * n4_end + n4, sum$g_$k_$h);
#endfor
        }
    }
#endfor
#endfor
    if (tile.k == 0u) {
        b_tile[local] = bias;
        workgroupBarrier();
        if (local < columns_n && bring_n4 < n4_end) {
            for (var row = 1u; row < THREADS / columns_n; row += 1u) {
                bias += b_tile[row * columns_n + local];
            }
            store_partial(which, to + 4u * k4_end * n4_end + bring_n4, bias);
        }
    }
}
#endif
#endif

#ifdef REDUCE
@group(0) @binding(1) var<storage, read> partial_0: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight_0: array<vec4<f32>>;
#ifdef BIAS
@group(0) @binding(3) var<storage, read_write> bias_0: array<vec4<f32>>;
#endif
#ifdef PAIR
@group(0) @binding(4) var<storage, read> partial_1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> weight_1: array<vec4<f32>>;
#ifdef BIAS
@group(0) @binding(6) var<storage, read_write> bias_1: array<vec4<f32>>;
#endif
#endif

// Groups of 4 columns in the outputs of a sum.
fn outputs(sum: Sum) -> u32 {
#ifdef BIAS
    return (sum.taps * sum.src_channels + 1u) * ((sum.n + 3u) / 4u);
#else
    return sum.taps * sum.src_channels * ((sum.n + 3u) / 4u);
#endif
}

fn load_partial(which: u32, at: u32) -> vec4<f32> {
#ifdef PAIR
    if (which == 1u) {
        return partial_1[at];
    }
#endif
    return partial_0[at];
}

fn store_weight(which: u32, at: u32, value: vec4<f32>) {
#ifdef PAIR
    if (which == 1u) {
        weight_1[at] = value;
        return;
    }
#endif
    weight_0[at] = value;
}

#ifdef BIAS
fn store_bias(which: u32, at: u32, value: vec4<f32>) {
#ifdef PAIR
    if (which == 1u) {
        bias_1[at] = value;
        return;
    }
#endif
    bias_0[at] = value;
}
#endif

var<workgroup> parts: array<vec4<f32>, 64>;

// 16 results of a workgroup; 4 threads sum every fourth slab of each.
@compute @workgroup_size(64)
fn reduce_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    var index = workgroup_index(id, count) * 16u + local % 16u;
    var which = 0u;
#ifdef PAIR
    let first = outputs(p.sums[0]);
    if (index >= first) {
        index -= first;
        which = 1u;
    }
#endif
    let sum = p.sums[which];
    let n4_end = (sum.n + 3u) / 4u;
    let is_there = index < outputs(sum);
    let weight_rows = sum.taps * sum.src_channels;
    let dense_row = index / n4_end;
    let n4 = index % n4_end;
    let tap_rows = (sum.src_channels + 3u) / 4u * 4u;
    var row = dense_row / sum.src_channels * tap_rows + dense_row % sum.src_channels;
    if (dense_row >= weight_rows) {
        row = sum.taps * tap_rows;
    }
    var own = vec4<f32>();
    if (is_there) {
        for (var slab = local / 16u; slab < sum.slabs; slab += 4u) {
            own += load_partial(which, (slab * sum.partial_rows + row) * n4_end + n4);
        }
    }
    parts[local] = own;
    workgroupBarrier();
    if (is_there && local < 16u) {
        let total = (own + parts[local + 16u]) + (parts[local + 32u] + parts[local + 48u]);
#ifdef BIAS
        if (dense_row == weight_rows) {
            store_bias(which, sum.bias_offset4 + n4, total);
            return;
        }
#endif
        store_weight(which, sum.out_offset4 + dense_row * sum.out_stride4 + n4, total);
    }
}
#endif
