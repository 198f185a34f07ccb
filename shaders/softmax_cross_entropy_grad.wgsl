// Gradient of softmax cross-entropy, four classes a thread; zero on masked rows.
//
//   dx = dloss / count * (softmax - onehot)  +  dlse * softmax,   softmax = exp(x - log_sum_exp)

#import grid
#import channels
#import storage

struct Params {
    rows: u32,
    classes: u32,
    x_offset4: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    dx_offset4: u32,
    dx_stride4: u32,
    count_offset4: u32,
    dloss_offset4: u32,
    dlse_offset4: u32,
    dlse_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> unmasked: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<act4>;
// What is not given is the count once more, unused.
@group(0) @binding(6) var<storage, read> dloss: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> dlse: array<vec4<f32>>;

const MASKED = 0xffffffffu;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.classes + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.rows) {
        return;
    }
    let label = targets[row];
    var result = vec4<f32>();
    if (label != MASKED) {
        let logits = load4(x[p.x_offset4 + row * p.x_stride4 + c4]);
        let softmax = exp(logits - log_sum_exp[p.lse_offset4 + row * p.lse_stride4].x);
#ifdef DLOSS
        let channel = vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let onehot = select(vec4<f32>(), vec4<f32>(1.0), channel == vec4<u32>(label));
        result += dloss[p.dloss_offset4].x / unmasked[p.count_offset4].x * (softmax - onehot);
#endif
#ifdef DLSE
        result += dlse[p.dlse_offset4 + row * p.dlse_stride4].x * softmax;
#endif
    }
    dx[p.dx_offset4 + row * p.dx_stride4 + c4] = pack4(mask4(result, c4 * 4u, p.classes));
}
