// Activations and their gradients, four channels a thread.
//
//   y = act(x)        or, where GRADIENT, with x holding act's value:   y = dy * act'

#import grid
#import activation
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
    let value = load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
#ifdef GRADIENT
    let result = load4(dy[p.dy_offset4 + row * p.dy_stride4 + c4]) * derivative4(value, ACTIVATION, p.slope);
#else
    let result = mask4(activate4(value, ACTIVATION, p.slope), c4 * 4u, p.channels);
#endif
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(result);
}
