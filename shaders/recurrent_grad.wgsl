// A recurrent layer backward through time: a workgroup walks with a sequence, as in recurrent.wgsl, from its last step to its
// first. A thread makes the gradients of a unit's sums, then, from those of all units, that of the unit's state before.

#import cell_backward
#import grid

override UNITS: u32 = 32u;      // side by side
override SLICES: u32 = 1u;
override THREADS: u32 = 32u;    // UNITS * SLICES
override DEPTH: u32 = 32u;      // of a slice
override STATE: u32 = 32u;      // SLICES * DEPTH, at least the padded units
override CELLS: u32 = 1u;       // as STATE where LSTM, RESET_BEFORE; else 1
override RESETS: u32 = 1u;
override PARTIALS: u32 = 1u;    // THREADS where there are slices

var<workgroup> products: array<vec4<f32>, STATE>;   // gradients of the products
var<workgroup> resets: array<f32, RESETS>;          // that of r where RESET_BEFORE
var<workgroup> hidden: array<f32, STATE>;           // the gradient of the state
var<workgroup> cells: array<f32, CELLS>;
var<workgroup> partials: array<f32, PARTIALS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let sequence = workgroup_index(id, count);
    if (sequence >= p.workgroups) {
        return;
    }
    let length = length_of(sequence);
    let lane = local % UNITS;
    let first_j = local / UNITS * DEPTH;
    for (var j = local; j < STATE; j += THREADS) {
        var state = vec2<f32>();
        if (p.resumed == 1u && j < p.hidden) {
            state = carried(sequence, j);
        }
        hidden[j] = state.x;
#ifdef LSTM
        cells[j] = state.y;
#endif
        products[j] = vec4<f32>();
#ifdef RESET_BEFORE
        resets[j] = 0.0;
#endif
    }
#ifdef REGISTERS
#for k DEPTH
    let weight$k = weights_at(first_j + $ku, lane);
#endfor
#endif
    workgroupBarrier();

    for (var s = 0u; s < p.steps; s += 1u) {
        let step = p.first + p.steps - 1u - s;
        let there = step < length;
        let position = position_of(step, length);
        let row = sequence * p.time + position;
        clear(row, local, THREADS, there);
        for (var j = local; j < p.hidden; j += THREADS) {
            if (there) {
#ifdef LSTM
                let part = retreat(row, j, vec2<f32>(hidden[j], cells[j]));
                cells[j] = part.before.y;
#else
                let part = retreat(row, j, vec2<f32>(hidden[j], 0.0));
#endif
                products[j] = part.product;
                hidden[j] = part.before.x;
            } else {
                products[j] = vec4<f32>();
            }
        }
        workgroupBarrier();
#ifdef RESET_BEFORE
        for (var first = 0u; first < p.block; first += UNITS) {
            let k = first + lane;
            var sum = 0.0;
#ifdef REGISTERS
#for k DEPTH
            sum += products[$ku].z * weight$k.z;
#endfor
#else
            for (var j = 0u; j < p.hidden; j += 1u) {
                sum += products[j].z * weights_at(j, k).z;
            }
#endif
            if (there && k < p.hidden) {
                resets[k] = reset_gradient(row, k, sum);
                hidden[k] += sum * saved_at(row, 0u, k) * mask_at(sequence, k);
            } else if (k < p.block) {
                resets[k] = 0.0;
            }
        }
        workgroupBarrier();
#endif
        for (var first = 0u; first < p.block; first += UNITS) {
            let k = first + lane;
            var sum = 0.0;
#ifdef RESET_BEFORE
#ifdef REGISTERS
#for k DEPTH
            sum += resets[$ku] * weight$k.x + products[$ku].y * weight$k.y;
#endfor
#else
            for (var j = 0u; j < p.hidden; j += 1u) {
                let factors = weights_at(j, k);
                sum += resets[j] * factors.x + products[j].y * factors.y;
            }
#endif
#else
#ifdef REGISTERS
#for k DEPTH
            sum += dot(products[first_j + $ku], weight$k);
#endfor
#else
            for (var j = first_j; j < min(first_j + DEPTH, p.hidden); j += 1u) {
                sum += dot(products[j], weights_at(j, k));
            }
#endif
#endif
            if (SLICES > 1u) {
                // All units are side by side then.
                partials[local] = sum;
                workgroupBarrier();
                sum = partials[lane];
                for (var slice = 1u; slice < SLICES; slice += 1u) {
                    sum += partials[slice * UNITS + lane];
                }
            }
            if (local < UNITS && k < p.hidden) {
                hidden[k] += sum * mask_at(sequence, k);
            }
        }
        workgroupBarrier();
    }
    for (var j = local; j < p.block; j += THREADS) {
#ifdef LSTM
        carry_on(sequence, j, select(vec2<f32>(), vec2<f32>(hidden[j], cells[j]), j < p.hidden));
#else
        carry_on(sequence, j, select(vec2<f32>(), vec2<f32>(hidden[j], 0.0), j < p.hidden));
#endif
    }
}
