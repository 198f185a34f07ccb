// One WaveNet layer, forward, in one kernel:
//
//   [a | b] = dilated causal convolution of x + bias (+ condition)      GEMM over taps * channels
//   z       = tanh(a) * sigmoid(b)                                      in registers
//   h       = x + z * W_residual + bias                                 GEMM from workgroup memory
//
// A workgroup makes TILE_M rows of everything; a thread makes 4 rows by 4 channels of a and of b, so that the gate needs
// no exchange. GATE4 is the gate's channels / 4.

#import grid
#import activation
#import channels
#import storage

struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    taps: u32,
    dilation: u32,
    residual: u32,
    x_offset4: u32,
    x_stride4: u32,
    z_offset4: u32,
    z_stride4: u32,
    pre_offset4: u32,
    pre_stride4: u32,
    h_offset4: u32,
    h_stride4: u32,
    condition_offset4: u32,
    condition_stride4: u32,
    condition_time: u32,
    // Where each parameter begins in `weights`.
    dilated_weight4: u32,
    dilated_bias4: u32,
    residual_weight4: u32,
    residual_bias4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> weights: array<act4>;
@group(0) @binding(3) var<storage, read_write> z: array<act4>;
#ifdef SAVE
@group(0) @binding(4) var<storage, read_write> pre: array<act4>;
#endif
#ifdef RESIDUAL
@group(0) @binding(5) var<storage, read_write> h: array<act4>;
#endif
#ifdef CONDITION
@group(0) @binding(6) var<storage, read> condition: array<act4>;
#endif

override TILE_M: u32 = 64u;
override GATE4: u32 = 8u;
override SLAB4: u32 = 4u;       // groups of 4 along K in a slab
override THREADS: u32 = 128u;   // TILE_M / 4 * GATE4
override A_SIZE: u32 = 256u;    // TILE_M * SLAB4
override B_SIZE: u32 = 256u;    // 4 * SLAB4 * 2 * GATE4
override Z_SIZE: u32 = 512u;    // TILE_M * GATE4

var<workgroup> a_tile: array<vec4<f32>, A_SIZE>;   // [m][k4]
var<workgroup> b_tile: array<vec4<f32>, B_SIZE>;   // [k][n4]
var<workgroup> z_tile: array<vec4<f32>, Z_SIZE>;   // [m][g4]

fn source(m: u32, k4: u32, residual4: u32) -> vec4<f32> {
    let tap = k4 / residual4;
    if (m >= p.rows || tap >= p.taps) {
        return vec4<f32>();
    }
    let back = (p.taps - 1u - tap) * p.dilation;
    if (m % p.time < back) {
        return vec4<f32>();
    }
    return load4(x[p.x_offset4 + (m - back) * p.x_stride4 + k4 % residual4]);
}

fn weight(k: u32, n4: u32, residual4: u32) -> vec4<f32> {
    let tap = k / 4u / residual4;
    let channel = k / 4u % residual4 * 4u + k % 4u;
    if (tap >= p.taps || channel >= p.residual) {
        return vec4<f32>();
    }
    return load4(weights[p.dilated_weight4 + (tap * p.residual + channel) * 2u * GATE4 + n4]);
}

// Adds bias and condition, keeps [a | b] where the backward pass wants it, and gates.
fn gate(m: u32, g4: u32, a_sum: vec4<f32>, b_sum: vec4<f32>) -> vec4<f32> {
    var a = a_sum;
    var b = b_sum;
#ifdef BIAS
    a += load4(weights[p.dilated_bias4 + g4]);
    b += load4(weights[p.dilated_bias4 + GATE4 + g4]);
#endif
    if (m >= p.rows) {
        return vec4<f32>();
    }
#ifdef CONDITION
    let at = p.condition_offset4 + select(m, m / p.time, p.condition_time == 1u) * p.condition_stride4;
    a += load4(condition[at + g4]);
    b += load4(condition[at + GATE4 + g4]);
#endif
#ifdef SAVE
    pre[p.pre_offset4 + m * p.pre_stride4 + g4] = pack4(a);
    pre[p.pre_offset4 + m * p.pre_stride4 + GATE4 + g4] = pack4(b);
#endif
    let value = safe_tanh4(a) * sigmoid4(b);
    z[p.z_offset4 + m * p.z_stride4 + g4] = pack4(value);
    return value;
}

#ifdef RESIDUAL
fn store(m: u32, n4: u32, sum: vec4<f32>) {
    if (m >= p.rows) {
        return;
    }
    var value = sum + load4(x[p.x_offset4 + m * p.x_stride4 + n4]);
#ifdef BIAS
    value += load4(weights[p.residual_bias4 + n4]);
#endif
    h[p.h_offset4 + m * p.h_stride4 + n4] = pack4(value);
}
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = workgroup_index(id, count);
    if (tile >= p.workgroups) {
        return;
    }
    let first_m = tile * TILE_M;
    let thread_m = local / GATE4 * 4u;
    let g4 = local % GATE4;
    let residual4 = (p.residual + 3u) / 4u;
    let k4_end = p.taps * residual4;

    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var b0 = vec4<f32>();
    var b1 = vec4<f32>();
    var b2 = vec4<f32>();
    var b3 = vec4<f32>();
    for (var k4 = 0u; k4 < k4_end; k4 += SLAB4) {
        for (var i = local; i < A_SIZE; i += THREADS) {
            a_tile[i] = source(first_m + i / SLAB4, k4 + i % SLAB4, residual4);
        }
        for (var i = local; i < B_SIZE; i += THREADS) {
            b_tile[i] = weight(k4 * 4u + i / (2u * GATE4), i % (2u * GATE4), residual4);
        }
        workgroupBarrier();
        for (var k = 0u; k < SLAB4; k += 1u) {
            let x0 = a_tile[(thread_m + 0u) * SLAB4 + k];
            let x1 = a_tile[(thread_m + 1u) * SLAB4 + k];
            let x2 = a_tile[(thread_m + 2u) * SLAB4 + k];
            let x3 = a_tile[(thread_m + 3u) * SLAB4 + k];
            for (var j = 0u; j < 4u; j += 1u) {
                let row = (k * 4u + j) * 2u * GATE4 + g4;
                let wa = b_tile[row];
                let wb = b_tile[row + GATE4];
                a0 += x0[j] * wa;
                b0 += x0[j] * wb;
                a1 += x1[j] * wa;
                b1 += x1[j] * wb;
                a2 += x2[j] * wa;
                b2 += x2[j] * wb;
                a3 += x3[j] * wa;
                b3 += x3[j] * wb;
            }
        }
        workgroupBarrier();
    }

    let m = first_m + thread_m;
    let z0 = gate(m, g4, a0, b0);
    let z1 = gate(m + 1u, g4, a1, b1);
    let z2 = gate(m + 2u, g4, a2, b2);
    let z3 = gate(m + 3u, g4, a3, b3);
#ifdef RESIDUAL
    z_tile[(thread_m + 0u) * GATE4 + g4] = z0;
    z_tile[(thread_m + 1u) * GATE4 + g4] = z1;
    z_tile[(thread_m + 2u) * GATE4 + g4] = z2;
    z_tile[(thread_m + 3u) * GATE4 + g4] = z3;
    workgroupBarrier();
    for (var n4 = g4; n4 < residual4; n4 += GATE4) {
        var sum0 = vec4<f32>();
        var sum1 = vec4<f32>();
        var sum2 = vec4<f32>();
        var sum3 = vec4<f32>();
        for (var k4 = 0u; k4 < GATE4; k4 += 1u) {
            let v0 = z_tile[(thread_m + 0u) * GATE4 + k4];
            let v1 = z_tile[(thread_m + 1u) * GATE4 + k4];
            let v2 = z_tile[(thread_m + 2u) * GATE4 + k4];
            let v3 = z_tile[(thread_m + 3u) * GATE4 + k4];
            for (var j = 0u; j < 4u; j += 1u) {
                let w = load4(weights[p.residual_weight4 + (k4 * 4u + j) * residual4 + n4]);
                sum0 += v0[j] * w;
                sum1 += v1[j] * w;
                sum2 += v2[j] * w;
                sum3 += v3[j] * w;
            }
        }
        store(m, n4, sum0);
        store(m + 1u, n4, sum1);
        store(m + 2u, n4, sum2);
        store(m + 3u, n4, sum3);
    }
#endif
}
