// A sequence behind the positions before it, four channels a thread.
//
//   join: joined = [past; x] over time, and the last positions of that, as many as past has
//   part: the other way round: past and x from joined

#import grid
#import storage

struct Params {
    rows: u32,        // of joined
    channels4: u32,
    before: u32,      // positions of past
    time: u32,        // positions of x
    joined_offset4: u32,
    joined_stride4: u32,
    past_offset4: u32,
    past_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    last_offset4: u32,
    last_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#ifdef PART
@group(0) @binding(1) var<storage, read> joined: array<act4>;
@group(0) @binding(2) var<storage, read_write> past: array<act4>;
@group(0) @binding(3) var<storage, read_write> x: array<act4>;
#else
@group(0) @binding(1) var<storage, read> past: array<act4>;
@group(0) @binding(2) var<storage, read> x: array<act4>;
@group(0) @binding(3) var<storage, read_write> joined: array<act4>;
@group(0) @binding(4) var<storage, read_write> last: array<act4>;
#endif

fn past_at(sequence: u32, position: u32, c4: u32) -> u32 {
    return p.past_offset4 + (sequence * p.before + position) * p.past_stride4 + c4;
}

fn x_at(sequence: u32, position: u32, c4: u32) -> u32 {
    return p.x_offset4 + (sequence * p.time + position - p.before) * p.x_stride4 + c4;
}

#ifdef PART
@compute @workgroup_size(256)
fn part(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / (p.before + p.time);
    let position = row % (p.before + p.time);
    let value = joined[p.joined_offset4 + row * p.joined_stride4 + c4];
    if (position < p.before) {
        past[past_at(sequence, position, c4)] = value;
    } else {
        x[x_at(sequence, position, c4)] = value;
    }
}
#else
@compute @workgroup_size(256)
fn join(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / (p.before + p.time);
    let position = row % (p.before + p.time);
    var value: act4;
    if (position < p.before) {
        value = past[past_at(sequence, position, c4)];
    } else {
        value = x[x_at(sequence, position, c4)];
    }
    joined[p.joined_offset4 + row * p.joined_stride4 + c4] = value;
    if (position >= p.time) {
        let kept = sequence * p.before + position - p.time;
        last[p.last_offset4 + kept * p.last_stride4 + c4] = value;
    }
}
#endif
