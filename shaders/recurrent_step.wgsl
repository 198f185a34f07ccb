// One step of a recurrent layer forward, for layers too wide for a workgroup: a thread makes a unit of a sequence. Sums are in
// the same order as in recurrent.wgsl without slices. RESET_BEFORE: PHASE 0 makes the gates, PHASE 1 the candidate.

#import cell_forward
#import grid

override PHASE: u32 = 1u;

const UNITS: u32 = 32u;
const SEQUENCES: u32 = 8u;

// A part of what the weights multiply, for all threads.
var<workgroup> inputs: array<array<f32, UNITS>, SEQUENCES>;

@compute @workgroup_size(UNITS, SEQUENCES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_id) local: vec3<u32>) {
    let index = workgroup_index(id, count);
    if (index >= p.workgroups) {
        return;
    }
    let tiles = (p.block + UNITS - 1u) / UNITS;
    let j = index % tiles * UNITS + local.x;
    let sequence = index / tiles * SEQUENCES + local.y;
    let is_sequence = sequence < p.batch;
    let length = length_of(min(sequence, p.batch - 1u));
    let step = p.first;
    let there = step < length;
    let position = position_of(step, length);

    var product = vec4<f32>();
    for (var first = 0u; first < p.hidden; first += UNITS) {
        var input = 0.0;
        if (is_sequence) {
            input = input_of(sequence, step, position, length, first + local.x);
        }
        inputs[local.y][local.x] = input;
        workgroupBarrier();
        for (var k = 0u; k < min(UNITS, p.hidden - first); k += 1u) {
            product += inputs[local.y][k] * weights_at(first + k, j);
        }
        workgroupBarrier();
    }
    product += bias_at(j);
    if (!is_sequence || j >= p.block) {
        return;
    }
    let before = state_before(sequence, step, length, j);
    let input = masked(sequence, j, before.x);
    var early = vec2<f32>();
#ifdef RESET_BEFORE
    if (PHASE == 0u) {
        let sum = product + x_at(sequence * p.time + position, j);
        let is_unit = there && j < p.hidden;
        save(sequence, position, 0u, j, select(0.0, gate(sum.x), is_unit));
        save(sequence, position, 1u, j, select(0.0, gate(sum.y), is_unit));
        return;
    }
    early = vec2<f32>(saved_early(sequence, position, 0u, j), saved_early(sequence, position, 1u, j));
#endif
    let after = advance(sequence, position, there, j, product, before, input, early);
}

// What the weights of a product multiply.
fn input_of(sequence: u32, step: u32, position: u32, length: u32, k: u32) -> f32 {
    let input = masked(sequence, k, state_before(sequence, step, length, k).x);
#ifdef RESET_BEFORE
    if (PHASE == 1u && k < p.block) {
        return saved_early(sequence, position, 0u, k) * input;
    }
#endif
    return input;
}

#ifdef RESET_BEFORE
fn saved_early(sequence: u32, position: u32, block: u32, j: u32) -> f32 {
    let row = select(sequence * p.time + position, sequence, p.saved_time == 1u);
    return saved[p.saved_offset + row * p.saved_stride + block * p.block + j];
}
#endif
