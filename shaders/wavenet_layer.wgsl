// One WaveNet layer, forward, in one kernel:
//
//   [a | b] = dilated causal convolution of x + bias (+ condition)      GEMM over taps * channels
//   z       = tanh(a) * sigmoid(b)                                      in registers
//   h       = x + z * W_residual + bias                                 GEMM from workgroup memory
//
// A workgroup makes TILE_M rows of everything; a thread makes 4 THREAD_M4 rows by 4 channels of a and of b, so that the gate
// needs no exchange. GATE4 is the gate's channels / 4. Both operands of the first product pass through workgroup memory in
// slabs of 4 SLAB4 along K; then z takes their place.

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
override THREAD_M4: u32 = 2u;
override GATE4: u32 = 8u;
override SLAB4: u32 = 4u;       // groups of 4 along K in a slab
override TAPS: u32 = 2u;
override RESIDUAL4: u32 = 8u;   // groups of 4 channels of x
override THREADS: u32 = 64u;    // TILE_M / 4 / THREAD_M4 * GATE4, at least TILE_M / 4 * SLAB4
override B_TILE: u32 = 256u;    // TILE_M * SLAB4
override MEMORY: u32 = 512u;    // the larger of TILE_M * SLAB4 + 8 * SLAB4 * GATE4 and TILE_M * GATE4

// [k][m4] of the source, and from B_TILE on [k][n4] of the weights; in the end [g][m4] of z.
var<workgroup> memory: array<vec4<f32>, MEMORY>;

// Columns are exchanged with the row, so that the blocks that neighbours write fall on different banks.
fn swizzle(k4: u32, m4: u32) -> u32 {
    return m4 ^ ((k4 * 2u) & (TILE_M / 4u - 1u));
}

fn weight(k: u32, n4: u32) -> vec4<f32> {
    let tap = k / 4u / RESIDUAL4;
    let channel = k / 4u % RESIDUAL4 * 4u + k % 4u;
    if (tap >= TAPS || channel >= p.residual) {
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
    let rows4 = TILE_M / 4u;
    let first_m = tile * TILE_M;
    let thread_m = local / GATE4;
    let g4 = local % GATE4;

    // The block of 4 rows by 4 channels of the source that this thread brings to each slab, if any: its rows, and their
    // positions, negative where there is no row.
    let brings = local < rows4 * SLAB4;
    let bring_k4 = local % SLAB4;
    let bring_m4 = local / SLAB4;
    let bring_m = first_m + bring_m4 * 4u;
    var at: vec4<i32>;
#for i 4
    at[$i] = select(-1, i32((bring_m + $iu) % p.time), bring_m + $iu < p.rows);
#endfor
#for g THREAD_M4
#for r 4
    var a$g_$r = vec4<f32>();
    var b$g_$r = vec4<f32>();
#endfor
#endfor

    for (var first_k4 = 0u; first_k4 < TAPS * RESIDUAL4; first_k4 += SLAB4) {
        if (brings) {
            let k4 = first_k4 + bring_k4;
            let tap = k4 / RESIDUAL4;
            var block = mat4x4<f32>();
            if (tap < TAPS) {
                let back = (TAPS - 1u - tap) * p.dilation;
#for i 4
                if (at[$i] >= i32(back)) {
                    block[$i] = load4(x[p.x_offset4 + (bring_m + $iu - back) * p.x_stride4 + k4 % RESIDUAL4]);
                }
#endfor
            }
            block = transpose(block);
            let column = swizzle(bring_k4, bring_m4);
#for i 4
            memory[(bring_k4 * 4u + $iu) * rows4 + column] = block[$i];
#endfor
        }
        for (var i = local; i < 8u * SLAB4 * GATE4; i += THREADS) {
            memory[B_TILE + i] = weight(first_k4 * 4u + i / (2u * GATE4), i % (2u * GATE4));
        }
        workgroupBarrier();
        for (var k4 = 0u; k4 < SLAB4; k4 += 1u) {
#for g THREAD_M4
            let m$g = k4 * 4u * rows4 + swizzle(k4, thread_m + $gu * (rows4 / THREAD_M4));
#endfor
            let n = B_TILE + k4 * 8u * GATE4 + g4;
#for k 4
            {
                let wa = memory[n + $ku * 2u * GATE4];
                let wb = memory[n + ($ku * 2u + 1u) * GATE4];
#for g THREAD_M4
                {
                    let v = memory[m$g + $ku * rows4];
#for r 4
                    a$g_$r += v[$r] * wa;
                    b$g_$r += v[$r] * wb;
#endfor
                }
#endfor
            }
#endfor
        }
        workgroupBarrier();
    }

#for g THREAD_M4
    let first$g = first_m + (thread_m + $gu * (rows4 / THREAD_M4)) * 4u;
    {
        var z_block: mat4x4<f32>;
#for r 4
        z_block[$r] = gate(first$g + $ru, g4, a$g_$r, b$g_$r);
#endfor
#ifdef RESIDUAL
        z_block = transpose(z_block);
        let column = swizzle(g4, thread_m + $gu * (rows4 / THREAD_M4));
#for r 4
        memory[(g4 * 4u + $ru) * rows4 + column] = z_block[$r];
#endfor
#endif
    }
#endfor
#ifdef RESIDUAL
    workgroupBarrier();
    for (var n4 = g4; n4 < RESIDUAL4; n4 += GATE4) {
#for g THREAD_M4
#for r 4
        var sum$g_$r = vec4<f32>();
#endfor
#endfor
        for (var k4 = 0u; k4 < GATE4; k4 += 1u) {
#for g THREAD_M4
            let m$g = k4 * 4u * rows4 + swizzle(k4, thread_m + $gu * (rows4 / THREAD_M4));
#endfor
#for k 4
            {
                let w = load4(weights[p.residual_weight4 + (k4 * 4u + $ku) * RESIDUAL4 + n4]);
#for g THREAD_M4
                {
                    let v = memory[m$g + $ku * rows4];
#for r 4
                    sum$g_$r += v[$r] * w;
#endfor
                }
#endfor
            }
#endfor
        }
#for g THREAD_M4
#for r 4
        store(first$g + $ru, n4, sum$g_$r);
#endfor
#endfor
    }
#endif
}
