// The last state of each sequence, that of the first position where REVERSE; of an empty one the initial state.
//
//   main:    y[b] = x[b, last(b)]
//   spread:  y[b, t] = x[b] where t is last(b), else 0; and initial[b] = x[b] where there is no last

#import grid
#import lengths
#import storage

struct Params {
    rows: u32,          // of y
    time: u32,          // of the states
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    initial_offset4: u32,
    initial_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

override REVERSE: u32 = 0u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#ifdef SPREAD
@group(0) @binding(3) var<storage, read_write> initial: array<act4>;
#else
#ifdef INITIAL
@group(0) @binding(3) var<storage, read> initial: array<act4>;
#endif
#endif
#ifdef LENGTHS
@group(0) @binding(4) var<storage, read> lengths: array<u32>;
#endif

// Meaningless for an empty sequence.
fn last_of(length: u32) -> u32 {
    return select(length - 1u, 0u, REVERSE == 1u);
}

#ifdef SPREAD
@compute @workgroup_size(256)
fn spread(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.time;
    let length = length_of(sequence);
    let value = x[p.x_offset4 + sequence * p.x_stride4 + c4];
    let zero = pack4(vec4<f32>());
    let is_last = length > 0u && row % p.time == last_of(length);
    y[p.y_offset4 + row * p.y_stride4 + c4] = select(zero, value, is_last);
    if (row % p.time == 0u) {
        initial[p.initial_offset4 + sequence * p.initial_stride4 + c4] = select(zero, value, length == 0u);
    }
}
#else
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let sequence = index / p.channels4;
    let c4 = index % p.channels4;
    if (sequence >= p.rows) {
        return;
    }
    let length = length_of(sequence);
    var value = pack4(vec4<f32>());
    if (length > 0u) {
        value = x[p.x_offset4 + (sequence * p.time + last_of(length)) * p.x_stride4 + c4];
    } else {
#ifdef INITIAL
        value = initial[p.initial_offset4 + sequence * p.initial_stride4 + c4];
#endif
    }
    y[p.y_offset4 + sequence * p.y_stride4 + c4] = value;
}
#endif
