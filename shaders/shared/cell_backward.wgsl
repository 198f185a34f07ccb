// A step of a recurrent layer backward: bindings, and the gradients of a unit's sums.

#import cell
#import lengths

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dstates: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> d: array<f32>;
@group(0) @binding(4) var<storage, read_write> carry: array<f32>;   // the gradient of the state, between dispatches and at the end
@group(0) @binding(5) var<storage, read> saved: array<f32>;
#ifdef MASK
@group(0) @binding(6) var<storage, read> mask: array<f32>;
#endif
#ifdef LENGTHS
@group(0) @binding(7) var<storage, read> lengths: array<u32>;
#endif

fn mask_at(sequence: u32, j: u32) -> f32 {
#ifdef MASK
    return mask[p.mask_offset + sequence * p.mask_stride + min(j, p.hidden - 1u)];
#else
    return 1.0;
#endif
}

// The weights of unit j's gates of the state of unit k; zero where there is no such unit. TRANSPOSED: the weights lie as
// [gates * hidden, block].
fn weights_at(j: u32, k: u32) -> vec4<f32> {
    let there = k < p.hidden && j < p.hidden;
#ifdef TRANSPOSED
    let at = select(0u, j * p.block + k, there);
    let step = p.hidden * p.block;
#else
    let at = select(p.weight_offset, p.weight_offset + k * p.weight_stride + j, there);
    let step = p.hidden;
#endif
#ifdef LSTM
    let value = vec4<f32>(weight[at], weight[at + step], weight[at + 2u * step], weight[at + 3u * step]);
#else
#ifdef GRU
    let value = vec4<f32>(weight[at], weight[at + step], weight[at + 2u * step], 0.0);
#else
    let value = vec4<f32>(weight[at], 0.0, 0.0, 0.0);
#endif
#endif
    return select(vec4<f32>(), value, there);
}

fn saved_at(row: u32, block: u32, j: u32) -> f32 {
    return saved[p.saved_offset + row * p.saved_stride + block * p.block + j];
}

// What a unit of a step gives: the gradients of its products, and what reaches the state before past them.
struct Retreat {
    product: vec4<f32>,
    before: vec2<f32>,
}

// Writes the gradients of a unit's sums; `after` is the gradient of its state and its cell's that later steps gave. Where
// RESET_BEFORE that of r is still missing.
fn retreat(row: u32, j: u32, after: vec2<f32>) -> Retreat {
    let source = p.x_offset + row * p.x_stride + j;
    let to = p.states_offset + row * p.states_stride + j;
    let dh = dstates[source] + after.x;
    var result: Retreat;
#ifdef ELMAN
    let h = saved_at(row, 0u, j);
#ifdef RELU
    result.product.x = select(0.0, dh, h > 0.0);
#else
    result.product.x = dh * (1.0 - h * h);
#endif
    d[to] = result.product.x;
#endif
#ifdef GRU
    let r = saved_at(row, 0u, j);
    let z = saved_at(row, 1u, j);
    let n = saved_at(row, 2u, j);
    let dn = dh * (1.0 - z) * (1.0 - n * n);
    let dz = dh * (saved_at(row, 4u, j) - n) * gate_slope(z);
    d[to + p.hidden] = dz;
    d[to + 2u * p.hidden] = dn;
    result.before.x = dh * z;
#ifdef RESET_BEFORE
    result.product = vec4<f32>(0.0, dz, dn, 0.0);
#else
    let dr = dn * saved_at(row, 3u, j) * gate_slope(r);
    result.product = vec4<f32>(dr, dz, dn * r, 0.0);
    d[to] = dr;
    d[to + p.product] = dr;
    d[to + p.product + p.hidden] = dz;
    d[to + p.product + 2u * p.hidden] = dn * r;
#endif
#endif
#ifdef LSTM
    let i = saved_at(row, 0u, j);
    let f = saved_at(row, 1u, j);
    let g = saved_at(row, 2u, j);
    let o = saved_at(row, 3u, j);
    let c = saved_at(row, 4u, j);
    let t = safe_tanh(f * c + i * g);
    let dc = dstates[source + p.block] + after.y + dh * o * (1.0 - t * t);
    result.product = vec4<f32>(dc * g * gate_slope(i), dc * c * gate_slope(f), dc * i * (1.0 - g * g),
                               dh * t * gate_slope(o));
    d[to] = result.product.x;
    d[to + p.hidden] = result.product.y;
    d[to + 2u * p.hidden] = result.product.z;
    d[to + 3u * p.hidden] = result.product.w;
    result.before.y = dc * f;
#endif
    return result;
}

// The gradient of r where RESET_BEFORE, from that of what the candidate's weights multiplied.
fn reset_gradient(row: u32, j: u32, dreset: f32) -> f32 {
#ifdef MASK
    let input = saved_at(row, 5u, j);
#else
    let input = saved_at(row, 4u, j);
#endif
    let dr = dreset * input * gate_slope(saved_at(row, 0u, j));
    d[p.states_offset + row * p.states_stride + j] = dr;
    return dr;
}

// A row of gradients is dense but for its padding, and where the sequence has no such step all of it is zero.
fn clear(row: u32, first: u32, step: u32, there: bool) {
    let gates = p.hidden *
#ifdef LSTM
        4u;
#else
#ifdef GRU
        3u;
#else
        1u;
#endif
#endif
    let end = p.product + gates;
    for (var at = first; at < p.states_stride; at += step) {
        let is_gap = (at >= gates && at < p.product) || (at >= end && at < (end + 3u) / 4u * 4u);
        if (is_gap || (!there && at < end)) {
            d[p.states_offset + row * p.states_stride + at] = 0.0;
        }
    }
}

fn carried(sequence: u32, j: u32) -> vec2<f32> {
    let at = p.initial_offset + sequence * p.initial_stride + j;
#ifdef LSTM
    return vec2<f32>(carry[at], carry[at + p.block]);
#else
    return vec2<f32>(carry[at], 0.0);
#endif
}

fn carry_on(sequence: u32, j: u32, value: vec2<f32>) {
    let at = p.initial_offset + sequence * p.initial_stride + j;
    carry[at] = value.x;
#ifdef LSTM
    carry[at + p.block] = value.y;
#endif
}
