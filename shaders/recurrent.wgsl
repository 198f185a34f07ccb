// A recurrent layer forward: a workgroup walks through time with a sequence, its state in workgroup memory. SLICES threads
// share the sums of a unit. REGISTERS: each keeps its DEPTH weights for the whole walk.

#import cell_forward
#import grid

override UNITS: u32 = 32u;      // side by side
override SLICES: u32 = 1u;
override THREADS: u32 = 32u;    // UNITS * SLICES
override DEPTH: u32 = 32u;      // of a slice
override STATE: u32 = 32u;      // SLICES * DEPTH, at least the padded units
override STATE_TWICE: u32 = 64u;
override MASKED: u32 = 1u;      // as STATE where MASK, LSTM, RESET_BEFORE; else 1
override CELLS: u32 = 1u;
override RESETS: u32 = 1u;
override PARTIALS: u32 = 1u;    // THREADS where there are slices

var<workgroup> inputs: array<f32, STATE_TWICE>;     // what the products multiply: now and after the step
var<workgroup> hidden: array<f32, MASKED>;          // the states themselves
var<workgroup> cells: array<f32, CELLS>;
var<workgroup> resets: array<f32, RESETS>;          // r times the input
var<workgroup> updates: array<f32, RESETS>;         // z
var<workgroup> hidden_reset: array<f32, RESETS>;    // r
var<workgroup> partials: array<vec4<f32>, PARTIALS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let sequence = workgroup_index(id, count);
    if (sequence >= p.workgroups) {
        return;
    }
    let length = length_of(sequence);
    let lane = local % UNITS;
    let first_k = local / UNITS * DEPTH;
    for (var j = local; j < STATE; j += THREADS) {
        let state = state_before(sequence, p.first, length, j);
        inputs[j] = masked(sequence, j, state.x);
        inputs[STATE + j] = 0.0;
#ifdef RESET_BEFORE
        resets[j] = 0.0;
#endif
#ifdef MASK
        hidden[j] = state.x;
#endif
#ifdef LSTM
        cells[j] = state.y;
#endif
    }
#ifdef REGISTERS
#for k DEPTH
    let weight$k = weights_at(first_k + $ku, lane);
#endfor
#endif
    workgroupBarrier();

    var now = 0u;
    for (var s = 0u; s < p.steps; s += 1u) {
        let step = p.first + s;
        let there = step < length;
        let position = position_of(step, length);
#ifdef RESET_BEFORE
        for (var first = 0u; first < p.block; first += UNITS) {
            let j = first + lane;
            var sum = vec4<f32>();
#ifdef REGISTERS
#for k DEPTH
            sum += inputs[now + $ku] * weight$k;
#endfor
#else
            for (var k = 0u; k < p.hidden; k += 1u) {
                sum += inputs[now + k] * weights_at(k, j);
            }
#endif
            sum += bias_at(j) + x_at(sequence * p.time + position, j);
            if (j < p.block) {
                resets[j] = gate(sum.x) * inputs[now + j];
                updates[j] = gate(sum.y);
                hidden_reset[j] = gate(sum.x);
            }
        }
        workgroupBarrier();
#endif
        for (var first = 0u; first < p.block; first += UNITS) {
            let j = first + lane;
            var product = vec4<f32>();
#ifdef RESET_BEFORE
#ifdef REGISTERS
#for k DEPTH
            product += resets[$ku] * weight$k;
#endfor
#else
            for (var k = 0u; k < p.hidden; k += 1u) {
                product += resets[k] * weights_at(k, j);
            }
#endif
#else
#ifdef REGISTERS
#for k DEPTH
            product += inputs[now + first_k + $ku] * weight$k;
#endfor
#else
            for (var k = first_k; k < min(first_k + DEPTH, p.hidden); k += 1u) {
                product += inputs[now + k] * weights_at(k, j);
            }
#endif
#endif
            if (SLICES > 1u) {
                // All units are side by side then.
                partials[local] = product;
                workgroupBarrier();
                product = partials[lane];
                for (var slice = 1u; slice < SLICES; slice += 1u) {
                    product += partials[slice * UNITS + lane];
                }
            }
            if (local < UNITS && j < p.block) {
#ifdef MASK
                var before = vec2<f32>(hidden[j], 0.0);
#else
                var before = vec2<f32>(inputs[now + j], 0.0);
#endif
#ifdef LSTM
                before.y = cells[j];
#endif
#ifdef RESET_BEFORE
                let early = vec2<f32>(hidden_reset[j], updates[j]);
#else
                let early = vec2<f32>();
#endif
                let after = advance(sequence, position, there, j, product + bias_at(j), before, inputs[now + j], early);
                if (there) {
                    inputs[STATE - now + j] = masked(sequence, j, after.x);
#ifdef MASK
                    hidden[j] = after.x;
#endif
#ifdef LSTM
                    cells[j] = after.y;
#endif
                }
            }
        }
        workgroupBarrier();
        now = STATE - now;
    }
}
