// Batch normalisation with the means and variances of channels, four channels a thread; 0 in rows that there are not.
//
//   y = w (x - mean) rstd + b      with rstd = 1 / sqrt(variance + eps)
//   GRADIENT:   dx = w rstd (dy - (sum of dy + h sum of dy h) / count)      with h = (x - mean) rstd

#import grid
#import storage
#import channels
#import lengths

struct Params {
    rows: u32,
    time: u32,
    channels: u32,
    eps: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,         // or dx
    y_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    moments_offset4: u32,
    moments_stride4: u32,
    weight_offset4: u32,
    bias_offset4: u32,      // or the sums of dy h
    sums_offset4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
@group(0) @binding(3) var<storage, read> weight: array<act4>;
@group(0) @binding(4) var<storage, read> moments: array<vec4<f32>>;
#ifdef GRADIENT
@group(0) @binding(5) var<storage, read> products: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> dy: array<act4>;
@group(0) @binding(7) var<storage, read> sums: array<vec4<f32>>;
#ifdef LENGTHS
@group(0) @binding(8) var<storage, read> lengths: array<u32>;
#endif
#else
@group(0) @binding(5) var<storage, read> bias: array<act4>;
#ifdef LENGTHS
@group(0) @binding(6) var<storage, read> lengths: array<u32>;
#endif
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.channels + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.rows) {
        return;
    }
    let to_y = p.y_offset4 + row * p.y_stride4 + c4;
#ifdef LENGTHS
    if (row % p.time >= length_of(row / p.time)) {
        y[to_y] = pack4(vec4<f32>());
        return;
    }
#endif
    let at = p.moments_offset4 + c4;
    let rstd = 1.0 / sqrt(moments[at + p.moments_stride4] + p.eps);
    let h = (load4(x[p.x_offset4 + row * p.x_stride4 + c4]) - moments[at]) * rstd;
    let w = load4(weight[p.weight_offset4 + c4]);
#ifdef GRADIENT
    let d = load4(dy[p.dy_offset4 + row * p.dy_stride4 + c4]);
    let n = max(moments[at + 2u * p.moments_stride4].x, 1.0);
    let value = w * rstd * (d - (sums[p.sums_offset4 + c4] + h * products[p.bias_offset4 + c4]) / n);
#else
    let value = w * h + load4(bias[p.bias_offset4 + c4]);
#endif
    y[to_y] = pack4(mask4(value, 4u * c4, p.channels));
}
