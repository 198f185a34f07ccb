// Softmax cross-entropy of many classes, whose logits come in groups.
//
// `part_main`: of a row of a group, LANES threads a row, the largest logit, the sum of exp(x - largest), and the label's logit.
// `join_main`: a row's groups, one after the other:
//
//   log_sum_exp[row] = max + ln(sum exp(x - max)),   losses[row] = (log_sum_exp - x[target], 1), or (0, 0) where masked
//
// `gradient_main`: the gradient of a group's logits takes their place, zero on masked rows, four classes a thread:
//
//   dloss / count * (softmax - onehot),   softmax = exp(x - log_sum_exp)

#import grid

struct Params {
    rows: u32,
    planned_rows: u32,
    classes: u32,
    first: u32,          // the group's first class
    group: u32,
    groups: u32,
    group_classes: u32,
    x_stride4: u32,
    lse_offset4: u32,
    lse_stride4: u32,
    count_offset4: u32,
    dloss_offset4: u32,
    not_a_number: f32,
}

@group(0) @binding(0) var<uniform> p: Params;

const MASKED = 0xffffffffu;

#ifdef PART
#import softmax_row

@group(0) @binding(1) var<storage, read> x: array<act4>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;   // [group][row]

@compute @workgroup_size(256)
fn part_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * (256u / LANES) + local / LANES;
    let start = row * p.x_stride4;
    let part = row_part(start, select(0u, p.group_classes, row < p.rows), local);

    if (local % LANES == 0u && row < p.rows) {
        // Beyond all classes of the group where it is another's.
        let label = targets[row] - p.first;
        var logit = 0.0;
        if (targets[row] >= p.first && label < p.group_classes) {
            logit = load4(x[start + label / 4u])[label % 4u];
        }
        parts[p.group * p.planned_rows + row] = vec4<f32>(part, logit, 0.0);
    }
}
#endif

#ifdef JOIN
#import online_softmax

@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> losses: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> log_sum_exp: array<vec4<f32>>;

@compute @workgroup_size(64)
fn join_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * 64u + local;
    if (row >= p.rows) {
        return;
    }
    var whole = vec2<f32>(LOWEST, 0.0);
    var logit = 0.0;
    for (var group = 0u; group < p.groups; group += 1u) {
        let part = parts[group * p.planned_rows + row];
        whole = join(whole, part.xy);
        // One group has the label, the others zero.
        logit += part.z;
    }
    let tail = log(whole.y);
    let label = targets[row];
    var loss = vec2<f32>();
    var lse = 0.0;
    if (label < p.classes) {
        lse = whole.x + tail;
        // Not lse - x: that loses the digits of a small loss of large logits.
        loss = vec2<f32>((whole.x - logit) + tail, 1.0);
    } else if (label != MASKED) {
        lse = p.not_a_number;
        loss = vec2<f32>(p.not_a_number, 1.0);
    }
    losses[row] = loss;
    log_sum_exp[p.lse_offset4 + row * p.lse_stride4] = vec4<f32>(lse, 0.0, 0.0, 0.0);
}
#endif

#ifdef GRADIENT
#import channels
#import storage

@group(0) @binding(1) var<storage, read_write> x: array<act4>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> unmasked: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> dloss: array<vec4<f32>>;

@compute @workgroup_size(256)
fn gradient_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.group_classes + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.rows) {
        return;
    }
    let label = targets[row];
    let at = row * p.x_stride4 + c4;
    var result = vec4<f32>();
    if (label != MASKED) {
        let softmax = exp(load4(x[at]) - log_sum_exp[p.lse_offset4 + row * p.lse_stride4].x);
        let class4 = vec4<u32>(p.first + c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let onehot = select(vec4<f32>(), vec4<f32>(1.0), class4 == vec4<u32>(label));
        result = dloss[p.dloss_offset4].x / unmasked[p.count_offset4].x * (softmax - onehot);
    }
    x[at] = pack4(mask4(result, c4 * 4u, p.group_classes));
}
#endif
