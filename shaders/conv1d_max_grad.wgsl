// Gradients of a convolution of which only the maxima over time are wanted: what a filter gives comes from one place of each
// sequence. Sequences and filters are added up in ascending order.
//
//   WEIGHT  dw[k, c, f] = sum over sequences of x[position[f] * multiply + k * step + shift, c] * dy[f], db[f] = sum of dy[f];
//           a thread for four channels of four filters
//   INPUT   dx[t, c] = sum over filters f of w[k, c, f] * dy[f], where t = position[f] * multiply + k * step + shift;
//           a thread for four times four channels: looking for the filters that reach a place costs more than adding them up

#import channels
#import grid

struct Params {
    batch: u32,
    time: u32,             // of x
    channels: u32,
    filters: u32,
    taps: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    dy_offset4: u32,
    dy_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    sum_offset4: u32,      // of dw or dx
    sum_stride4: u32,
    bias_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<vec4<f32>>;   // -1 where there is none

#ifdef WEIGHT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dw: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> db: array<vec4<f32>>;

// What one filter's place in one sequence gives.
fn part(sequence: u32, tap: u32, c4: u32, position: f32, factor: f32) -> vec4<f32> {
    let at = i32(position) * p.multiply + i32(tap) * p.step + p.shift;
    if (factor == 0.0 || position < 0.0 || at < 0 || u32(at) >= p.time) {
        return vec4<f32>();
    }
    return x[p.x_offset4 + (sequence * p.time + u32(at)) * p.x_stride4 + c4] * factor;
}

fn store(tap: u32, channel: u32, f4: u32, value: vec4<f32>) {
    if (channel < p.channels) {
        let row = tap * p.channels + channel;
        dw[p.sum_offset4 + row * p.sum_stride4 + f4] = mask4(value, f4 * 4u, p.filters);
    }
}

@compute @workgroup_size(64)
fn weight_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let channels4 = (p.channels + 3u) / 4u;
    let c4 = index % channels4;
    let tap = index / channels4 % p.taps;
    let f4 = index / channels4 / p.taps;
    if (f4 * 4u >= p.filters) {
        return;
    }
    var a = vec4<f32>();
    var b = vec4<f32>();
    var c = vec4<f32>();
    var d = vec4<f32>();
    var bias = vec4<f32>();
    for (var sequence = 0u; sequence < p.batch; sequence += 1u) {
        let factor = dy[p.dy_offset4 + sequence * p.dy_stride4 + f4];
        let position = positions[p.positions_offset4 + sequence * p.positions_stride4 + f4];
        a += part(sequence, tap, c4, position.x, factor.x);
        b += part(sequence, tap, c4, position.y, factor.y);
        c += part(sequence, tap, c4, position.z, factor.z);
        d += part(sequence, tap, c4, position.w, factor.w);
        bias += select(factor, vec4<f32>(), position < vec4<f32>());
    }
    store(tap, c4 * 4u, f4, vec4<f32>(a.x, b.x, c.x, d.x));
    store(tap, c4 * 4u + 1u, f4, vec4<f32>(a.y, b.y, c.y, d.y));
    store(tap, c4 * 4u + 2u, f4, vec4<f32>(a.z, b.z, c.z, d.z));
    store(tap, c4 * 4u + 3u, f4, vec4<f32>(a.w, b.w, c.w, d.w));
    if (tap == 0u && c4 == 0u) {
        db[p.bias_offset4 + f4] = mask4(bias, f4 * 4u, p.filters);
    }
}
#endif

#ifdef INPUT
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;   // [filters][taps][channels4]
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(64)
fn input_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let channels4 = (p.channels + 3u) / 4u;
    // Of each quarter of the channels four.
    let quarter = (channels4 + 3u) / 4u;
    let row = index / quarter;
    if (row >= p.batch * p.time) {
        return;
    }
    let sequence = row / p.time;
    let at = i32(row % p.time);
    let c4 = index % quarter + quarter * vec4<u32>(0u, 1u, 2u, 3u);
    // Beyond the last channel its own weights, which nobody keeps.
    let source = min(c4, vec4<u32>(channels4 - 1u));
    var a = vec4<f32>();
    var b = vec4<f32>();
    var c = vec4<f32>();
    var d = vec4<f32>();
    for (var f4 = 0u; f4 * 4u < p.filters; f4 += 1u) {
        let factor = mask4(dy[p.dy_offset4 + sequence * p.dy_stride4 + f4], f4 * 4u, p.filters);
        let position = positions[p.positions_offset4 + sequence * p.positions_stride4 + f4];
        // Behind the place of the first tap.
        let rest = vec4<i32>(at - p.shift) - vec4<i32>(position) * p.multiply;
        let reaches = (rest >= vec4<i32>()) & (rest < vec4<i32>(i32(p.taps) * p.step)) & (rest % p.step == vec4<i32>());
        let gives = reaches & (position >= vec4<f32>()) & (factor != vec4<f32>());
        // A loop over those few that give something: software devices run both sides of a branch.
        let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), gives);
        for (var left = bits.x | bits.y | bits.z | bits.w; left != 0u; left &= left - 1u) {
            let lane = firstTrailingBit(left);
            let first = ((f4 * 4u + lane) * p.taps + u32(rest[lane] / p.step)) * channels4;
            let share = factor[lane];
            a += w[first + source.x] * share;
            b += w[first + source.y] * share;
            c += w[first + source.z] * share;
            d += w[first + source.w] * share;
        }
    }
    store(row, c4.x, a);
    store(row, c4.y, b);
    store(row, c4.z, c);
    store(row, c4.w, d);
}

fn store(row: u32, c4: u32, sum: vec4<f32>) {
    if (c4 * 4u < p.channels) {
        dx[p.sum_offset4 + row * p.sum_stride4 + c4] = mask4(sum, c4 * 4u, p.channels);
    }
}
#endif
