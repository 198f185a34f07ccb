// A step of a recurrent layer forward: bindings, and what becomes of the sums of a unit.

#import cell
#import lengths

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> states: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;
#ifdef BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
#endif
#ifdef INITIAL
@group(0) @binding(6) var<storage, read> initial: array<f32>;
#endif
#ifdef MASK
@group(0) @binding(7) var<storage, read> mask: array<f32>;
#endif
#ifdef LENGTHS
@group(0) @binding(8) var<storage, read> lengths: array<u32>;
#endif

// A unit's state before `step`, and its cell's.
fn state_before(sequence: u32, step: u32, length: u32, j: u32) -> vec2<f32> {
    if (j >= p.hidden || step > length) {
        return vec2<f32>();
    }
    if (step == 0u) {
#ifdef INITIAL
        let at = p.initial_offset + sequence * p.initial_stride + j;
#ifdef LSTM
        return vec2<f32>(initial[at], initial[at + p.block]);
#else
        return vec2<f32>(initial[at], 0.0);
#endif
#else
        return vec2<f32>();
#endif
    }
    let at = p.states_offset + (sequence * p.time + position_of(step - 1u, length)) * p.states_stride + j;
#ifdef LSTM
    return vec2<f32>(states[at], states[at + p.block]);
#else
    return vec2<f32>(states[at], 0.0);
#endif
}

// What the products multiply in place of a unit's state.
fn masked(sequence: u32, j: u32, h: f32) -> f32 {
#ifdef MASK
    return h * mask[p.mask_offset + sequence * p.mask_stride + min(j, p.hidden - 1u)];
#else
    return h;
#endif
}

// A unit's weights of the state of unit k; zero where there is no such unit.
fn weights_at(k: u32, j: u32) -> vec4<f32> {
    let there = k < p.hidden && j < p.hidden;
    let at = select(p.weight_offset, p.weight_offset + k * p.weight_stride + j, there);
#ifdef LSTM
    let value = vec4<f32>(weight[at], weight[at + p.hidden], weight[at + 2u * p.hidden], weight[at + 3u * p.hidden]);
#else
#ifdef GRU
    let value = vec4<f32>(weight[at], weight[at + p.hidden], weight[at + 2u * p.hidden], 0.0);
#else
    let value = vec4<f32>(weight[at], 0.0, 0.0, 0.0);
#endif
#endif
    return select(vec4<f32>(), value, there);
}

// What the inputs add to a unit's gates.
fn x_at(row: u32, j: u32) -> vec4<f32> {
    let at = p.x_offset + row * p.x_stride + min(j, p.hidden - 1u);
#ifdef LSTM
    return vec4<f32>(x[at], x[at + p.hidden], x[at + 2u * p.hidden], x[at + 3u * p.hidden]);
#else
#ifdef GRU
    return vec4<f32>(x[at], x[at + p.hidden], x[at + 2u * p.hidden], 0.0);
#else
    return vec4<f32>(x[at], 0.0, 0.0, 0.0);
#endif
#endif
}

fn bias_at(j: u32) -> vec4<f32> {
#ifdef BIAS
    let at = p.bias_offset + min(j, p.hidden - 1u);
#ifdef LSTM
    return vec4<f32>(bias[at], bias[at + p.hidden], bias[at + 2u * p.hidden], bias[at + 3u * p.hidden]);
#else
#ifdef GRU
    return vec4<f32>(bias[at], bias[at + p.hidden], bias[at + 2u * p.hidden], 0.0);
#else
    return vec4<f32>(bias[at], 0.0, 0.0, 0.0);
#endif
#endif
#else
    return vec4<f32>();
#endif
}

fn save(sequence: u32, position: u32, block: u32, j: u32, value: f32) {
    let row = select(sequence * p.time + position, sequence, p.saved_time == 1u);
    saved[p.saved_offset + row * p.saved_stride + block * p.block + j] = value;
}

// Ends a unit's step: its new state, and its cell's. `product` is U times the input, biases included; `before` the state and the
// cell's. Where RESET_BEFORE, `early` are the gates r and z, and only the candidate's product is new; KEPT: they are saved already,
// and other workgroups may be reading them.
fn advance(sequence: u32, position: u32, there: bool, j: u32, product: vec4<f32>, before: vec2<f32>, input: f32,
           early: vec2<f32>) -> vec2<f32> {
    let is_unit = there && j < p.hidden;
    let given = x_at(sequence * p.time + position, j);
    var after = vec2<f32>();
#ifdef ELMAN
    let sum = given.x + product.x;
#ifdef RELU
    after.x = select(sum, 0.0, sum <= 0.0);   // what is not a number stays so
#else
    after.x = safe_tanh(sum);
#endif
#endif
#ifdef GRU
#ifdef RESET_BEFORE
    let r = early.x;
    let z = early.y;
    let n = safe_tanh(given.z + product.z);
#else
    let r = gate(given.x + product.x);
    let z = gate(given.y + product.y);
    let n = safe_tanh(given.z + r * product.z);
#endif
    after.x = (1.0 - z) * n + z * before.x;
#endif
#ifdef LSTM
    let i = gate(given.x + product.x);
    let f = gate(given.y + product.y);
    let g = safe_tanh(given.z + product.z);
    let o = gate(given.w + product.w);
    after.y = f * before.y + i * g;
    after.x = o * safe_tanh(after.y);
#endif
    after = select(vec2<f32>(), after, is_unit);
    let at = p.states_offset + (sequence * p.time + position) * p.states_stride + j;
    states[at] = after.x;
#ifdef LSTM
    states[at + p.block] = after.y;
#endif
#ifdef SAVE
#ifdef ELMAN
    save(sequence, position, 0u, j, after.x);
    save(sequence, position, 1u, j, select(0.0, input, is_unit));
#endif
#ifdef GRU
#ifndef KEPT
    save(sequence, position, 0u, j, select(0.0, r, is_unit));
    save(sequence, position, 1u, j, select(0.0, z, is_unit));
#endif
    save(sequence, position, 2u, j, select(0.0, n, is_unit));
#ifdef RESET_BEFORE
    save(sequence, position, 3u, j, select(0.0, r * input, is_unit));
#else
    save(sequence, position, 3u, j, select(0.0, product.z, is_unit));
#endif
    save(sequence, position, 4u, j, select(0.0, before.x, is_unit));
#ifdef MASK
    save(sequence, position, 5u, j, select(0.0, input, is_unit));
#endif
#endif
#ifdef LSTM
    save(sequence, position, 0u, j, select(0.0, i, is_unit));
    save(sequence, position, 1u, j, select(0.0, f, is_unit));
    save(sequence, position, 2u, j, select(0.0, g, is_unit));
    save(sequence, position, 3u, j, select(0.0, o, is_unit));
    save(sequence, position, 4u, j, select(0.0, before.y, is_unit));
    save(sequence, position, 5u, j, select(0.0, input, is_unit));
#endif
#endif
    return after;
}
