// Layer normalisation: a team of threads takes a row.
//
//   y = w (x - mean) rstd + b, and (mean, rstd) of each row
//   GRADIENT:   dx = rstd (g - mean of g - h mean of (g h))   with g = w dy and h = (x - mean) rstd

#import grid
#import storage
#import channels
#import team_sum

struct Params {
    rows: u32,
    channels: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,         // or dx
    y_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    statistics_offset4: u32,
    statistics_stride4: u32,
    weight_offset4: u32,
    bias_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
@group(0) @binding(3) var<storage, read> weight: array<act4>;
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> dy: array<act4>;
#else
@group(0) @binding(4) var<storage, read_write> statistics: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> bias: array<act4>;
#endif

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * (256u / COLUMNS) + local / COLUMNS;
    let there = row < p.rows;
    let channels4 = select(0u, (p.channels + 3u) / 4u, there);
    let lane = local % COLUMNS;
    let from_x = p.x_offset4 + row * p.x_stride4;
    let to_y = p.y_offset4 + row * p.y_stride4;
    let at_statistics = p.statistics_offset4 + row * p.statistics_stride4;
    let scale = 1.0 / f32(p.channels);
#ifdef GRADIENT
    let from_dy = p.dy_offset4 + row * p.dy_stride4;
    var moments = vec2<f32>();
    if (there) {
        moments = statistics[at_statistics].xy;
    }
    var sums = vec2<f32>();
    for (var c4 = lane; c4 < channels4; c4 += COLUMNS) {
        let g = load4(weight[p.weight_offset4 + c4]) * load4(dy[from_dy + c4]);
        let h = (load4(x[from_x + c4]) - moments.x) * moments.y;
        sums += vec2<f32>(total(g), total(g * h));
    }
    let means = team_sum(local, sums) * scale;
    for (var c4 = lane; c4 < channels4; c4 += COLUMNS) {
        let g = load4(weight[p.weight_offset4 + c4]) * load4(dy[from_dy + c4]);
        let h = (load4(x[from_x + c4]) - moments.x) * moments.y;
        y[to_y + c4] = pack4(mask4(moments.y * (g - means.x - h * means.y), 4u * c4, p.channels));
    }
#else
    var sum = 0.0;
    for (var c4 = lane; c4 < channels4; c4 += COLUMNS) {
        sum += total(load4(x[from_x + c4]));
    }
    let mean = team_sum(local, vec2<f32>(sum, 0.0)).x * scale;
    var squares = 0.0;
    for (var c4 = lane; c4 < channels4; c4 += COLUMNS) {
        let off = mask4(load4(x[from_x + c4]) - mean, 4u * c4, p.channels);
        squares += dot(off, off);
    }
    let variance = team_sum(local, vec2<f32>(squares, 0.0)).x * scale;
    let rstd = 1.0 / sqrt(variance + p.eps);
    for (var c4 = lane; c4 < channels4; c4 += COLUMNS) {
        let h = (load4(x[from_x + c4]) - mean) * rstd;
        let value = load4(weight[p.weight_offset4 + c4]) * h + load4(bias[p.bias_offset4 + c4]);
        y[to_y + c4] = pack4(mask4(value, 4u * c4, p.channels));
    }
    if (there && lane == 0u) {
        statistics[at_statistics] = vec4<f32>(mean, rstd, 0.0, 0.0);
    }
#endif
}
