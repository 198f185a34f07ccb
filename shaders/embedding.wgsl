// A convolution over class ids: the table's rows are added up, no one-hot vector is made.
//
//   y[t, :] = bias + sum over taps k of table[k, ids[t * multiply + k * step + shift], :]
//
// What lies outside the sequence, and an id that is no class, adds nothing.

#import grid
#import storage

struct Params {
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    table_offset4: u32,
    table_stride4: u32,
    bias_offset4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<act4>;
@group(0) @binding(3) var<storage, read_write> y: array<act4>;
#ifdef BIAS
@group(0) @binding(4) var<storage, read> bias: array<act4>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let first = row / p.time * p.ids_time;
    var at = i32(row % p.time) * p.multiply + p.shift;
#ifdef BIAS
    var sum = load4(bias[p.bias_offset4 + c4]);
#else
    var sum = vec4<f32>();
#endif
    for (var tap = 0u; tap < p.taps; tap += 1u) {
        if (at >= 0 && u32(at) < p.ids_time) {
            let label = ids[first + u32(at)];
            if (label < p.classes) {
                sum += load4(table[p.table_offset4 + (tap * p.classes + label) * p.table_stride4 + c4]);
            }
        }
        at += p.step;
    }
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(sum);
}
