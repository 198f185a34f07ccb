// The end of a residual block, four channels a thread: y[j] = act(h[j] + x[first + j * stride]), counted from the end of x.
//
//   SPREAD:   y[first + j * stride] = h[j], 0 between

#import grid
#import activation
#import channels
#import storage

struct Params {
    rows: u32,        // of y
    channels: u32,
    short: u32,       // positions of h
    long: u32,        // positions of x
    stride: u32,
    slope: f32,
    h_offset4: u32,
    h_stride4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> h: array<act4>;
@group(0) @binding(2) var<storage, read_write> y: array<act4>;
#ifdef SPREAD
#else
@group(0) @binding(3) var<storage, read> x: array<act4>;
#endif

override ACTIVATION: u32 = 0u;

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
    let first = (p.long - 1u) % p.stride;
#ifdef SPREAD
    let at = row % p.long;
    var result = vec4<f32>();
    if (at >= first && (at - first) % p.stride == 0u) {
        let source = row / p.long * p.short + (at - first) / p.stride;
        result = load4(h[p.h_offset4 + source * p.h_stride4 + c4]);
    }
#else
    let source = row / p.short * p.long + first + row % p.short * p.stride;
    let sum = load4(h[p.h_offset4 + row * p.h_stride4 + c4]) + load4(x[p.x_offset4 + source * p.x_stride4 + c4]);
    let result = mask4(activate4(sum, ACTIVATION, p.slope), c4 * 4u, p.channels);
#endif
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(result);
}
