// The k largest values over time of each channel, in the order in which they stand there, and their positions; where there
// are fewer, 0 and -1 follow. A workgroup has four channels of a sequence, each thread a stretch of its time.
//
//   GRADIENT   dx[t] = dy[i] where t is position i, else 0

#import grid
#import storage

struct Params {
    count: u32,       // of workgroups, or of the rows of dx
    time: u32,
    k: u32,
    channels: u32,
    x_offset4: u32,   // for GRADIENT, of dy
    x_stride4: u32,
    y_offset4: u32,   // for GRADIENT, of dx
    y_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

#ifdef GRADIENT
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<act4>;

@compute @workgroup_size(256)
fn gradient_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.channels + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.count) {
        return;
    }
    let at = f32(row % p.time);
    let first = row / p.time * p.k;
    var gradient = vec4<f32>();
    for (var lane = 0u; lane < 4u; lane += 1u) {
        // The positions rise up to the end, or to those of nothing.
        var low = 0u;
        var high = p.k;
        while (low < high) {
            let middle = (low + high) / 2u;
            let position = positions[p.positions_offset4 + (first + middle) * p.positions_stride4 + c4][lane];
            if (position >= 0.0 && position < at) {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        if (low < p.k && c4 * 4u + lane < p.channels) {
            let position = positions[p.positions_offset4 + (first + low) * p.positions_stride4 + c4][lane];
            if (position == at) {
                gradient[lane] = dy[p.x_offset4 + (first + low) * p.x_stride4 + c4][lane];
            }
        }
    }
    dx[p.y_offset4 + row * p.y_stride4 + c4] = pack4(gradient);
}
#else
#import order_key

// Something else, and never read, but for LENGTHS.
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<act4>;
@group(0) @binding(3) var<storage, read_write> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> positions: array<f32>;

// By thread: how many keys are above the threshold, and how many equal to it; then of all threads up to it.
var<workgroup> above: array<vec4<u32>, 256>;
var<workgroup> equal: array<vec4<u32>, 256>;

// The sum of all threads' numbers.
fn total(local: u32, number: vec4<u32>) -> vec4<u32> {
    workgroupBarrier();
    above[local] = number;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            above[local] += above[local + half];
        }
    }
    workgroupBarrier();
    return above[0];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let there = workgroup < p.count;
    let channels4 = (p.channels + 3u) / 4u;
    let sequence = workgroup / channels4;
    let c4 = workgroup % channels4;
    var length = 0u;
    if (there) {
        length = p.time;
#ifdef LENGTHS
        length = min(length, lengths[sequence]);
#endif
    }
    let taken = vec4<u32>(min(p.k, length));
    let stretch = (length + 255u) / 256u;
    let begin = min(local * stretch, length);
    let end = min(begin + stretch, length);
    let from_at = p.x_offset4 + sequence * p.time * p.x_stride4 + c4;

    // The key of the last value that is taken, bit by bit: the largest that as many keys reach as are taken.
    var threshold = vec4<u32>();
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        let candidate = threshold | vec4<u32>(bit);
        var reach = vec4<u32>();
        for (var at = begin; at < end; at += 1u) {
            let key = order_key(load4(x[from_at + at * p.x_stride4]));
            reach += select(vec4<u32>(), vec4<u32>(1u), key >= candidate);
        }
        threshold = select(threshold, candidate, total(local, reach) >= taken);
    }

    var larger = vec4<u32>();
    var same = vec4<u32>();
    for (var at = begin; at < end; at += 1u) {
        let key = order_key(load4(x[from_at + at * p.x_stride4]));
        larger += select(vec4<u32>(), vec4<u32>(1u), key > threshold);
        same += select(vec4<u32>(), vec4<u32>(1u), key == threshold);
    }
    // Of those equal to the threshold, the first ones fill up.
    let fill = taken - min(taken, total(local, larger));
    workgroupBarrier();
    above[local] = larger;
    equal[local] = same;
    for (var width = 1u; width < 256u; width *= 2u) {
        workgroupBarrier();
        var before_above = vec4<u32>();
        var before_equal = vec4<u32>();
        if (local >= width) {
            before_above = above[local - width];
            before_equal = equal[local - width];
        }
        workgroupBarrier();
        above[local] += before_above;
        equal[local] += before_equal;
    }
    if (!there) {
        return;
    }
    larger = above[local] - larger;
    same = equal[local] - same;
    let first = sequence * p.k;
    for (var at = begin; at < end; at += 1u) {
        let value = load4(x[from_at + at * p.x_stride4]);
        let key = order_key(value);
        for (var lane = 0u; lane < 4u; lane += 1u) {
            let is_larger = key[lane] > threshold[lane];
            let is_same = key[lane] == threshold[lane];
            if (is_larger || (is_same && same[lane] < fill[lane])) {
                write(first + larger[lane] + min(same[lane], fill[lane]), c4 * 4u + lane, value[lane], f32(at));
            }
            larger[lane] += select(0u, 1u, is_larger);
            same[lane] += select(0u, 1u, is_same);
        }
    }
    for (var slot = taken.x + local; slot < p.k; slot += 256u) {
        for (var lane = 0u; lane < 4u; lane += 1u) {
            write(first + slot, c4 * 4u + lane, 0.0, -1.0);
        }
    }
}

// The padding of a row is zero.
fn write(row: u32, channel: u32, value: f32, position: f32) {
    values[p.y_offset4 * 4u + row * p.y_stride4 * 4u + channel] = value;
    let padded = select(0.0, position, channel < p.channels);
    positions[p.positions_offset4 * 4u + row * p.positions_stride4 * 4u + channel] = padded;
}
#endif
