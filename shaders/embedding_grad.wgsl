// Gradient of an embedding's table, in two passes of fixed order and without atomics.
//
//   dtable[k, c, :] = sum over rows m with ids[row(m, k)] = c of dy[m, :]
//
// `partial_main`: a workgroup sums one slab of rows, for one tap and GROUPS groups of 4 channels. A thread owns one group
// of channels of every class whose number leaves its remainder, so no two threads touch an element and rows come in order.
// The sums lie in workgroup memory. `reduce_main`: sums the slabs.

#import grid
#import storage

struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    slab_rows: u32,
    slabs: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    table_offset4: u32,
    table_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

#ifdef PARTIAL
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<act4>;
@group(0) @binding(3) var<storage, read_write> partial_sums: array<vec4<f32>>;   // [slab][tap][class][channels4]

override GROUPS: u32 = 4u;   // a power of two
override SUMS: u32 = 1024u;  // classes * GROUPS
var<workgroup> sums: array<vec4<f32>, SUMS>;

// No barriers: nothing is shared between threads.
@compute @workgroup_size(256)
fn partial_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let tiles = (p.channels4 + GROUPS - 1u) / GROUPS;
    let c4 = workgroup % tiles * GROUPS + local % GROUPS;
    if (workgroup >= p.workgroups || c4 >= p.channels4) {
        return;
    }
    let tap = workgroup / tiles % p.taps;
    let slab = workgroup / tiles / p.taps;
    let remainders = 256u / GROUPS;
    let remainder = local / GROUPS;
    let stored = (slab * p.taps + tap) * p.classes * p.channels4 + c4;

    for (var number = remainder; number < p.classes; number += remainders) {
        sums[number * GROUPS + local % GROUPS] = vec4<f32>();
    }

    let end = min((slab + 1u) * p.slab_rows, p.rows);
    var row = slab * p.slab_rows;
    var first = row / p.time * p.ids_time;
    var t = row % p.time;
    for (; row < end; row += 1u) {
        let at = i32(t) * p.multiply + i32(tap) * p.step + p.shift;
        if (at >= 0 && u32(at) < p.ids_time) {
            let label = ids[first + u32(at)];
            if (label % remainders == remainder && label < p.classes) {
                let value = load4(dy[p.dy_offset4 + row * p.dy_stride4 + c4]);
                sums[label * GROUPS + local % GROUPS] += value;
            }
        }
        t += 1u;
        if (t == p.time) {
            t = 0u;
            first += p.ids_time;
        }
    }

    for (var number = remainder; number < p.classes; number += remainders) {
        partial_sums[stored + number * p.channels4] = sums[number * GROUPS + local % GROUPS];
    }
}
#endif

#ifdef REDUCE
@group(0) @binding(1) var<storage, read> partial_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dtable: array<vec4<f32>>;

@compute @workgroup_size(64)
fn reduce_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let row = index / p.channels4;
    let table_rows = p.taps * p.classes;
    if (row >= table_rows) {
        return;
    }
    var sum = vec4<f32>();
    for (var slab = 0u; slab < p.slabs; slab += 1u) {
        sum += partial_sums[slab * table_rows * p.channels4 + index];
    }
    dtable[p.table_offset4 + row * p.table_stride4 + index % p.channels4] = sum;
}
#endif
