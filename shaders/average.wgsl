// Averages of the parameters over updates: a + max(1 - decay, 1 / t) (w - a) after the t-th.

#import grid

struct Params {
    elements4: u32,
    coefficients_offset4: u32,
    rest: f32,  // 1 - decay
}

@group(0) @binding(0) var<uniform> p: Params;
// As in optimizer_prepare.wgsl, the counters too.
@group(0) @binding(1) var<storage, read> coefficients: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> counters: array<f32>;
@group(0) @binding(3) var<storage, read> params: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> averages: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    // 0: the step is left out.
    if (index >= p.elements4 || coefficients[p.coefficients_offset4].y == 0.0) {
        return;
    }
    let share = max(p.rest, 1.0 / (counters[1] * 1048576.0 + counters[0]));
    let a = averages[index];
    let w = params[index];
    averages[index] = select(w, a + share * (w - a), share < 1.0);
}
