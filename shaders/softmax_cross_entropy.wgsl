// Softmax cross-entropy, LANES threads a row: the largest logit and the sum of exponentials in one pass (Milakov and
// Gimelshein 2018), then a tree over the row's threads.
//
//   log_sum_exp[row] = max + ln(sum exp(x - max)),   losses[row] = (log_sum_exp - x[target], 1), or (0, 0) where masked

#import grid
#import softmax_row

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

const MASKED = 0xffffffffu;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * (256u / LANES) + local / LANES;
    let start = p.x_offset4 + row * p.x_stride4;
    let whole = row_part(start, select(0u, p.classes, row < p.rows), local);

    if (local % LANES == 0u && row < p.rows) {
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
