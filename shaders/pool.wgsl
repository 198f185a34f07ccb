// Pooling of windows over time, four channels a thread.
//
//   FORWARD    y[i] = the largest, or the mean, of x[t] over the positions t of window i; 0 if it holds none
//   WINNERS    winners[i] = the first position with the largest value
//   GRADIENT   dx[t] = the sum of dy[i] over the windows i that t won, or of dy[i] / positions over those that hold it

#import grid
#import lengths
#import storage

struct Params {
    rows: u32,        // of what is written
    time: u32,        // of x
    windows: u32,     // of a sequence
    channels4: u32,
    size: u32,        // of a window, and what follows, but for ADAPTIVE
    stride: u32,
    pad_left: u32,
    divisor: u32,     // of a mean; 0 for the number of positions
    x_offset4: u32,   // of what is read
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Something else, and never read, but for LENGTHS.
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<act4>;

// The first position of a window, and the one after its last.
fn positions_of(window: u32, length: u32) -> vec2<u32> {
#ifdef ADAPTIVE
    return vec2<u32>(window * length / p.windows, ((window + 1u) * length + p.windows - 1u) / p.windows);
#else
    let first = window * p.stride;
    let padded = vec2<u32>(first, first + p.size);
    return min(max(padded, vec2<u32>(p.pad_left)) - p.pad_left, vec2<u32>(length));
#endif
}

#ifndef MAX
// What the sum over so many positions is multiplied by.
fn factor_of(positions: vec2<u32>) -> f32 {
    let count = positions.y - positions.x;
    let divisor = select(p.divisor, count, p.divisor == 0u);
    return select(0.0, 1.0 / f32(max(divisor, 1u)), count > 0u);
}
#endif

#ifdef GRADIENT
@group(0) @binding(3) var<storage, read_write> dx: array<act4>;
#ifdef MAX
@group(0) @binding(4) var<storage, read> winners: array<vec4<u32>>;
#endif

// The first window that holds a position of the sequence, and the one after the last.
fn windows_of(at: u32, length: u32) -> vec2<u32> {
#ifdef ADAPTIVE
    let first = at * p.windows / length;
    let end = ((at + 1u) * p.windows + length - 1u) / length;
#else
    let padded = at + p.pad_left;
    let first = select((padded - min(padded, p.size)) / p.stride + 1u, 0u, padded < p.size);
    let end = padded / p.stride + 1u;
#endif
    return vec2<u32>(first, min(end, p.windows));
}

@compute @workgroup_size(256)
fn gradient_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.time;
    let at = row % p.time;
    let length = length_of(sequence);
    var sum = vec4<f32>();
    if (at < length) {
        let windows = windows_of(at, length);
        for (var window = windows.x; window < windows.y; window += 1u) {
            let from_row = sequence * p.windows + window;
            let dy = load4(x[p.x_offset4 + from_row * p.x_stride4 + c4]);
#ifdef MAX
            sum += select(vec4<f32>(), dy, winners[from_row * p.channels4 + c4] == vec4<u32>(at));
#else
            sum += dy * factor_of(positions_of(window, length));
#endif
        }
    }
    dx[p.y_offset4 + row * p.y_stride4 + c4] = pack4(sum);
}
#else
#ifdef WINNERS
@group(0) @binding(3) var<storage, read_write> winners: array<vec4<u32>>;
#else
@group(0) @binding(3) var<storage, read_write> y: array<act4>;
#endif
#ifdef MAX
#import order_key
#endif

@compute @workgroup_size(256)
#ifdef WINNERS
fn winners_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
#else
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
#endif
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.windows;
    let positions = positions_of(row % p.windows, length_of(sequence));
    let first = p.x_offset4 + sequence * p.time * p.x_stride4 + c4;
    var value = vec4<f32>();
#ifdef MAX
    var best = vec4<u32>();
    var winner = vec4<u32>(0xffffffffu);
    for (var at = positions.x; at < positions.y; at += 1u) {
        let next = load4(x[first + at * p.x_stride4]);
        let key = order_key(next);
        let wins = key > best;
        best = select(best, key, wins);
        winner = select(winner, vec4<u32>(at), wins);
        value = select(value, next, wins);
    }
#else
    for (var at = positions.x; at < positions.y; at += 1u) {
        value += load4(x[first + at * p.x_stride4]);
    }
    value *= factor_of(positions);
#endif
#ifdef WINNERS
    winners[index] = winner;
#else
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(value);
#endif
}
#endif
