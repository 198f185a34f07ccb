// What the kernels of the convolution family share: parameters, bindings, and what happens to a sum before it is stored.
//
//   dst[m, n] = act(bias[n] + add[m, n] + sum over taps k and channels c of src[row(m, k), c] * W[k, c, n])
//
// GATE_GRADIENT: the sum is the gradient of z = tanh(a) * sigmoid(b), and dst gets those of [a | b].
// GATE: the sum is [a | b], dst gets z, and where SAVE pre gets [a | b].

#import activation
#import channels
#import storage

struct Params {
    workgroups: u32,
    rows: u32,          // batch * time of dst
    time: u32,          // of dst
    src_time: u32,
    src_channels: u32,
    n: u32,             // channels of dst; where GATE_GRADIENT or GATE, of z
    // source row of tap k at position t: (t * MULTIPLY + k * step + shift) / DIVIDE, where it divides
    step: i32,
    shift: i32,
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
    weight_columns4: u32, // groups of 4 columns of the product
    slope: f32,
    taps: u32,
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
#ifdef SAVE
@group(0) @binding(6) var<storage, read_write> pre: array<act4>;
#endif

override ACTIVATION: u32 = 0u;
override TAPS: u32 = 1u;
override SRC4: u32 = 1u;        // groups of 4 channels of src
override MULTIPLY: u32 = 1u;
override DIVIDE: u32 = 1u;

// Where a row of dst reads src: its first source row's sequence, its place in it before the tap's step, and the first
// place beyond the sequence, 0 for a row that is not there.
struct Row {
    base: u32,
    at: i32,
    limit: u32,
}

fn row_of(m: u32) -> Row {
    let sequence = m / p.time;
    let at = i32((m - sequence * p.time) * MULTIPLY) + p.shift;
    return Row(sequence * p.src_time, at, select(0u, p.src_time * DIVIDE, m < p.rows));
}

// Whether tap `tap` of a row lies in its sequence: a place before it is huge as an unsigned number.
fn is_there(row: Row, tap: u32) -> bool {
    let at = u32(row.at + i32(tap) * p.step);
    return at < row.limit && at % DIVIDE == 0u;
}

// Where it begins in src; somewhere in src if it does not lie in its sequence.
fn place(row: Row, tap: u32) -> u32 {
    let at = u32(row.at + i32(tap) * p.step);
    return p.src_offset4 + select(0u, row.base + at / DIVIDE, at < row.limit) * p.src_stride4;
}

// The bias of channels n4, zero where there is none; beyond the last channels that of the last.
fn bias4(n4: u32) -> vec4<f32> {
#ifdef BIAS
    return load4(bias[p.bias_offset4 + min(n4, p.weight_columns4 - 1u)]);
#else
    return vec4<f32>();
#endif
}

// A sum, its bias included, with what is added to it.
fn added(m: u32, n4: u32, sum: vec4<f32>) -> vec4<f32> {
#ifdef ADD
    return sum + load4(addend[p.add_offset4 + select(m, m / p.time, p.add_time == 1u) * p.add_stride4 + n4]);
#else
    return sum;
#endif
}

fn store(m: u32, n4: u32, sum: vec4<f32>) {
    if (m >= p.rows || n4 * 4u >= p.n) {
        return;
    }
    let value = added(m, n4, sum);
    let to = p.dst_offset4 + m * p.dst_stride4 + n4;
#ifdef GATE_GRADIENT
    // a and b lie n channels apart, as do their gradients.
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

#ifdef GATE
fn store_gate(m: u32, n4: u32, a_sum: vec4<f32>, b_sum: vec4<f32>) {
    if (m >= p.rows || n4 * 4u >= p.n) {
        return;
    }
    let half4 = p.n / 4u;
    let a = added(m, n4, a_sum);
    let b = added(m, n4 + half4, b_sum);
#ifdef SAVE
    let at = p.pre_offset4 + m * p.pre_stride4 + n4;
    pre[at] = pack4(a);
    pre[at + half4] = pack4(b);
#endif
    dst[p.dst_offset4 + m * p.dst_stride4 + n4] = pack4(safe_tanh4(a) * sigmoid4(b));
}
#endif
