// Softmax cross-entropy, LANES threads a row: the largest logit and the sum of exponentials in one pass (Milakov and
// Gimelshein 2018), then a tree over the row's threads.
//
//   log_sum_exp[row] = max + ln(sum exp(x - max)),   losses[row] = (log_sum_exp - x[target], 1), or (0, 0) where masked

#import grid
#import online_softmax
#import storage

struct Params {
    rows: u32,
    classes: u32,
    x_offset4: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    not_a_number: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> log_sum_exp: array<vec4<f32>>;

override LANES: u32 = 16u;

const MASKED = 0xffffffffu;

// (largest, sum of exp(x - largest)) of each thread.
var<workgroup> parts: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * (256u / LANES) + local / LANES;
    let lane = local % LANES;
    let start = p.x_offset4 + row * p.x_stride4;
    let channels4 = select(0u, (p.classes + 3u) / 4u, row < p.rows);

    var part = vec2<f32>(LOWEST, 0.0);
    for (var c4 = lane; c4 < channels4; c4 += LANES) {
        let channel = vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        part = include4(part, load4(x[start + c4]), channel < vec4<u32>(p.classes));
    }

    parts[local] = part;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) {
            parts[local] = join(parts[local], parts[local + half]);
        }
        workgroupBarrier();
    }

    if (lane == 0u && row < p.rows) {
        let whole = parts[local];
        let tail = log(whole.y);
        let label = targets[row];
        var loss = vec2<f32>();
        var lse = 0.0;
        if (label < p.classes) {
            lse = whole.x + tail;
            // Not lse - x: that loses the digits of a small loss of large logits.
            loss = vec2<f32>((whole.x - load4(x[start + label / 4u])[label % 4u]) + tail, 1.0);
        } else if (label != MASKED) {
            lse = p.not_a_number;
            loss = vec2<f32>(p.not_a_number, 1.0);
        }
        losses[row] = loss;
        log_sum_exp[p.lse_offset4 + row * p.lse_stride4] = vec4<f32>(lse, 0.0, 0.0, 0.0);
    }
}
