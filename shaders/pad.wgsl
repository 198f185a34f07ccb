// Sequences with positions before and after them, four channels a thread, or the gradient of that.
//
//   y[b, t] = x[b, source(t - left)], 0 where there is no source
//   GRADIENT:   x[b, s] = sum of y[b, t + left] over all t whose source is s, in a fixed order

#import grid
#import lengths
#import storage

struct Params {
    rows: u32,         // of what is written
    time: u32,         // of x
    padded: u32,       // of y
    left: u32,
    right: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

// 0 zeros, 1 replicate, 2 reflect.
override MODE: u32 = 0u;

@group(0) @binding(0) var<uniform> p: Params;
#ifdef GRADIENT
@group(0) @binding(1) var<storage, read_write> x: array<act4>;
@group(0) @binding(2) var<storage, read> y: array<act4>;
#else
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#endif
#ifdef LENGTHS
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
#endif

// Where the position at `at` of a sequence of `length` comes from; `length` where from nowhere. Meaningless without any positions.
fn source(at: i32, length: i32) -> i32 {
    if (at < -i32(p.left) || at >= length + i32(p.right)) {
        return length;
    }
    if (MODE == 1u || (MODE == 2u && length == 1)) {
        return clamp(at, 0, length - 1);
    }
    if (MODE == 2u) {
        let period = 2 * (length - 1);
        let folded = (at % period + period) % period;
        return min(folded, period - folded);
    }
    return select(length, at, at >= 0 && at < length);
}

#ifdef GRADIENT
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.time;
    let at = i32(row % p.time);
    let length = i32(length_of(sequence));
    let left = i32(p.left);
    let end = length + i32(p.right);
    let from_y = p.y_offset4 + sequence * p.padded * p.y_stride4 + c4;
    var sum = vec4<f32>();
    if (at < length) {
        // Every step-th position from the first on has this source, and where it reflects those from the mirrored one on.
        var first = at;
        var mirrored = end;
        var last = at;
        var step = 1;
        if (MODE == 1u || (MODE == 2u && length == 1)) {
            first = select(at, -left, at == 0);
            last = select(at, end - 1, at == length - 1);
        } else if (MODE == 2u) {
            step = 2 * (length - 1);
            first = (at + left) % step - left;
            last = end - 1;
            if (at != 0 && at != length - 1) {
                mirrored = (step - at + left) % step - left;
            }
        }
        for (var t = first; t <= last; t += step) {
            sum += load4(y[from_y + u32(t + left) * p.y_stride4]);
        }
        for (var t = mirrored; t < end; t += step) {
            sum += load4(y[from_y + u32(t + left) * p.y_stride4]);
        }
    }
    x[p.x_offset4 + row * p.x_stride4 + c4] = pack4(sum);
}
#else
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let row = index / p.channels4;
    let c4 = index % p.channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.padded;
    let length = i32(length_of(sequence));
    let from_x = source(i32(row % p.padded) - i32(p.left), length);
    var value = pack4(vec4<f32>());
    if (length > 0 && from_x < length) {
        value = x[p.x_offset4 + (sequence * p.time + u32(from_x)) * p.x_stride4 + c4];
    }
    y[p.y_offset4 + row * p.y_stride4 + c4] = value;
}
#endif
