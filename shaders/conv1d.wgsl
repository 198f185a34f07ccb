// Dilated 1-D convolution as an implicit GEMM, and its gradient to the input.
//
//   dst[m, n] = act(bias[n] + add[m, n] + sum over taps k and channels c of src[row(m, k), c] * W[k, c, n])
//
// M = batch * time rows, N = channels out, K = taps * channels in. A tap is the same rows shifted, so there is no
// im2col and the cost does not depend on the dilation. The gradient to the input is the same sum with the shift
// reversed and the weights transposed (TRANSPOSED).
//
// A workgroup makes a tile of TILE_M x TILE_N; a thread makes 4 x 4 of it in registers. Both operands pass through
// workgroup memory in slabs of 16 along K.

#import grid
#import activation
#import channels
#import storage

struct Params {
    workgroups: u32,
    rows: u32,          // batch * time of dst
    time: u32,          // of dst
    src_time: u32,
    taps: u32,
    src_channels: u32,
    n: u32,             // channels of dst
    // source row of tap k at position t: (t * multiply + k * step + shift) / divide, where it divides
    multiply: i32,
    step: i32,
    shift: i32,
    divide: i32,
    weight_offset4: u32,
    weight_stride4: u32,
    bias_offset4: u32,
    src_offset4: u32,
    src_stride4: u32,
    dst_offset4: u32,
    dst_stride4: u32,
    add_offset4: u32,
    add_stride4: u32,
    add_time: u32,      // 1: one position serves the whole sequence
    pre_offset4: u32,
    pre_stride4: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<act4>;
@group(0) @binding(2) var<storage, read> weight: array<act4>;
@group(0) @binding(3) var<storage, read_write> dst: array<act4>;
#ifdef BIAS
@group(0) @binding(4) var<storage, read> bias: array<act4>;
#endif
#ifdef ADD
@group(0) @binding(5) var<storage, read> addend: array<act4>;
#endif
#ifdef GATE_GRADIENT
@group(0) @binding(6) var<storage, read> pre: array<act4>;
#endif

override TILE_M: u32 = 64u;
override TILE_N: u32 = 64u;
override ACTIVATION: u32 = 0u;
override THREADS: u32 = 256u;   // TILE_M / 4 * TILE_N / 4
override A_SIZE: u32 = 256u;    // TILE_M * 4
override B_SIZE: u32 = 256u;    // TILE_N * 4

var<workgroup> a_tile: array<vec4<f32>, A_SIZE>;   // [m][k4]
// Forward: [k][n4]. TRANSPOSED: [n][k4], since the weights are contiguous along K then.
var<workgroup> b_tile: array<vec4<f32>, B_SIZE>;

fn source(m: u32, k4: u32, src4: u32) -> vec4<f32> {
    let tap = k4 / src4;
    if (m >= p.rows || tap >= p.taps) {
        return vec4<f32>();
    }
    let sequence = m / p.time;
    let at = i32(m % p.time) * p.multiply + i32(tap) * p.step + p.shift;
    if (at < 0 || at % p.divide != 0) {
        return vec4<f32>();
    }
    let row = u32(at / p.divide);
    if (row >= p.src_time) {
        return vec4<f32>();
    }
    return load4(src[p.src_offset4 + (sequence * p.src_time + row) * p.src_stride4 + k4 % src4]);
}

fn store(m: u32, n4: u32, sum: vec4<f32>) {
    if (m >= p.rows || n4 * 4u >= p.n) {
        return;
    }
    var value = sum;
#ifdef BIAS
    value += load4(bias[p.bias_offset4 + n4]);
#endif
#ifdef ADD
    value += load4(addend[p.add_offset4 + select(m, m / p.time, p.add_time == 1u) * p.add_stride4 + n4]);
#endif
    let to = p.dst_offset4 + m * p.dst_stride4 + n4;
#ifdef GATE_GRADIENT
    // value is the gradient of z = tanh(a) * sigmoid(b); a and b lie n channels apart, as do their gradients.
    let at = p.pre_offset4 + m * p.pre_stride4 + n4;
    let half4 = p.n / 4u;
    let a = safe_tanh4(load4(pre[at]));
    let b = sigmoid4(load4(pre[at + half4]));
    dst[to] = pack4(value * b * (vec4<f32>(1.0) - a * a));
    dst[to + half4] = pack4(value * a * b * (vec4<f32>(1.0) - b));
#else
    // The padding stays zero, whatever the activation makes of it.
    dst[to] = pack4(mask4(activate4(value, ACTIVATION, p.slope), n4 * 4u, p.n));
#endif
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
    let first_n = tile % tiles_n * TILE_N;
    let columns = TILE_N / 4u;
    let thread_m = local / columns * 4u;
    let thread_n4 = local % columns;
    let src4 = (p.src_channels + 3u) / 4u;
    let k4_end = p.taps * src4;

    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();

    for (var k4 = 0u; k4 < k4_end; k4 += 4u) {
        for (var i = local; i < A_SIZE; i += THREADS) {
            a_tile[i] = source(first_m + i / 4u, k4 + i % 4u, src4);
        }
        for (var i = local; i < B_SIZE; i += THREADS) {
#ifdef TRANSPOSED
            let n = first_n + i / 4u;
            let k = k4 + i % 4u;
            let tap = k / src4;
            var value = vec4<f32>();
            if (n < p.n && tap < p.taps) {
                value = load4(weight[p.weight_offset4 + (tap * p.n + n) * p.weight_stride4 + k % src4]);
            }
            b_tile[i] = value;
#else
            let n4 = first_n / 4u + i % columns;
            let k = k4 + i / columns / 4u;
            let tap = k / src4;
            let channel = k % src4 * 4u + i / columns % 4u;
            var value = vec4<f32>();
            if (n4 * 4u < p.n && tap < p.taps && channel < p.src_channels) {
                value = load4(weight[p.weight_offset4 + (tap * p.src_channels + channel) * p.weight_stride4 + n4]);
            }
            b_tile[i] = value;
#endif
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u; k += 1u) {
            let a0 = a_tile[(thread_m + 0u) * 4u + k];
            let a1 = a_tile[(thread_m + 1u) * 4u + k];
            let a2 = a_tile[(thread_m + 2u) * 4u + k];
            let a3 = a_tile[(thread_m + 3u) * 4u + k];
#ifdef TRANSPOSED
            let b0 = b_tile[(thread_n4 * 4u + 0u) * 4u + k];
            let b1 = b_tile[(thread_n4 * 4u + 1u) * 4u + k];
            let b2 = b_tile[(thread_n4 * 4u + 2u) * 4u + k];
            let b3 = b_tile[(thread_n4 * 4u + 3u) * 4u + k];
            sum0 += vec4<f32>(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
            sum1 += vec4<f32>(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
            sum2 += vec4<f32>(dot(a2, b0), dot(a2, b1), dot(a2, b2), dot(a2, b3));
            sum3 += vec4<f32>(dot(a3, b0), dot(a3, b1), dot(a3, b2), dot(a3, b3));
#else
            let b0 = b_tile[(k * 4u + 0u) * columns + thread_n4];
            let b1 = b_tile[(k * 4u + 1u) * columns + thread_n4];
            let b2 = b_tile[(k * 4u + 2u) * columns + thread_n4];
            let b3 = b_tile[(k * 4u + 3u) * columns + thread_n4];
            sum0 += a0.x * b0 + a0.y * b1 + a0.z * b2 + a0.w * b3;
            sum1 += a1.x * b0 + a1.y * b1 + a1.z * b2 + a1.w * b3;
            sum2 += a2.x * b0 + a2.y * b1 + a2.z * b2 + a2.w * b3;
            sum3 += a3.x * b0 + a3.y * b1 + a3.z * b2 + a3.w * b3;
#endif
        }
        workgroupBarrier();
    }

    let m = first_m + thread_m;
    let n4 = first_n / 4u + thread_n4;
    store(m, n4, sum0);
    store(m + 1u, n4, sum1);
    store(m + 2u, n4, sum2);
    store(m + 3u, n4, sum3);
}
