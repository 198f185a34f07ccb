// Activations and their gradients, four channels a thread.
//
//   y = act(x)        or, where GRADIENT, with x holding act's value:   y = dy * act'
//
// Where GELU, act(x) is x times the normal distribution function, and x is its argument in both.

#import grid
#ifdef GELU
#import normal_cdf
#else
#import activation
#endif
#import channels
#import storage

struct Params {
    rows: u32,
    channels: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    dy_offset4: u32,
    dy_stride4: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#ifdef GRADIENT
@group(0) @binding(3) var<storage, read> dy: array<act4>;
#endif

#ifdef GELU
fn value4(x: vec4<f32>) -> vec4<f32> {
    return x * normal_cdf4(x);
}

fn slope4(x: vec4<f32>) -> vec4<f32> {
    return normal_cdf4(x) + x * (0.398942280 * exp(-0.5 * x * x));
}
#else
override ACTIVATION: u32 = 0u;

fn value4(x: vec4<f32>) -> vec4<f32> {
    return activate4(x, ACTIVATION, p.slope);
}

fn slope4(y: vec4<f32>) -> vec4<f32> {
    return derivative4(y, ACTIVATION, p.slope);
}
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
    let value = load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
#ifdef GRADIENT
    let result = load4(dy[p.dy_offset4 + row * p.dy_stride4 + c4]) * slope4(value);
#else
    let result = mask4(value4(value), c4 * 4u, p.channels);
#endif
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(result);
}
