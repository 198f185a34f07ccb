// One step of a recurrent layer backward, for layers too wide for a workgroup: a thread makes a unit of a sequence. First what the
// step after gives for the state by its products, then the gradients of this step's sums; `carry` holds the rest between.
//
// RESET_BEFORE: PHASE 0 is that but for the gate r, PHASE 1 makes r from the candidate's product of the same step.

#import cell_backward
#import grid

override PHASE: u32 = 0u;
override LAST: u32 = 0u;        // 1: there is no step left, only the gradient of the initial state

const UNITS: u32 = 32u;
const SEQUENCES: u32 = 8u;

var<workgroup> products: array<array<vec4<f32>, UNITS>, SEQUENCES>;

@compute @workgroup_size(UNITS, SEQUENCES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_id) local: vec3<u32>) {
    let index = workgroup_index(id, count);
    if (index >= p.workgroups) {
        return;
    }
    let tiles = (p.block + UNITS - 1u) / UNITS;
    let k = index % tiles * UNITS + local.x;
    let sequence = index / tiles * SEQUENCES + local.y;
    let is_sequence = sequence < p.batch;
    let length = length_of(min(sequence, p.batch - 1u));
    // The step whose products are taken, and whether the sequence has it.
    let step = p.first + select(1u, 0u, PHASE == 1u || LAST == 1u);
    let there = is_sequence && step < length;
    let row = sequence * p.time + position_of(step, length);

    var sum = 0.0;
    // Of the first dispatch the step after is beyond all sequences.
    let end = select(0u, p.hidden, step < p.time);
    for (var first = 0u; first < end; first += UNITS) {
        let j = first + local.x;
        var product = vec4<f32>();
        if (there && j < p.hidden) {
            product = product_gradients(row, j);
        }
        products[local.y][local.x] = product;
        workgroupBarrier();
        for (var j = 0u; j < min(UNITS, p.hidden - first); j += 1u) {
            sum += dot(products[local.y][j], weights_at(first + j, k));
        }
        workgroupBarrier();
    }
    if (!is_sequence || k >= p.block) {
        return;
    }
    if (PHASE == 1u) {
#ifdef RESET_BEFORE
        if (there && k < p.hidden) {
            let dr = reset_gradient(row, k, sum);
            var after = carried(sequence, k);
            after.x += sum * saved_at(row, 0u, k) * mask_at(sequence, k);
            carry_on(sequence, k, after);
        }
#endif
        return;
    }
    var after = vec2<f32>();
    if (k < p.hidden && p.resumed == 1u) {
        after = carried(sequence, k);
        after.x += sum * mask_at(sequence, k);
    }
    if (LAST == 0u) {
        let is_now = p.first < length;
        let now = sequence * p.time + position_of(p.first, length);
        if (k == 0u) {
            clear(now, 0u, 1u, is_now);
        }
        if (is_now && k < p.hidden) {
            after = retreat(now, k, after).before;
        }
    }
    carry_on(sequence, k, after);
}

// What the products of a step were found to have as gradients.
fn product_gradients(row: u32, j: u32) -> vec4<f32> {
    let at = p.states_offset + row * p.states_stride + p.product + j;
#ifdef LSTM
    return vec4<f32>(d[at], d[at + p.hidden], d[at + 2u * p.hidden], d[at + 3u * p.hidden]);
#else
#ifdef GRU
#ifdef RESET_BEFORE
    // The candidate's product is taken alone.
    return select(vec4<f32>(d[at], d[at + p.hidden], 0.0, 0.0), vec4<f32>(0.0, 0.0, d[at + 2u * p.hidden], 0.0), PHASE == 1u);
#else
    return vec4<f32>(d[at], d[at + p.hidden], d[at + 2u * p.hidden], 0.0);
#endif
#else
    return vec4<f32>(d[at], 0.0, 0.0, 0.0);
#endif
#endif
}
