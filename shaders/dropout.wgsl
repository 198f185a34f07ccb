// Dropout, four channels a thread:
//
//   y[row, c] = x[row, c] * scale where random number (row / group_rows) * channels + c of the step is kept, else 0; ONES: without x

#import grid
#import storage
#import channels
#import step
#import philox

struct Params {
    rows: u32,
    group_rows: u32,   // that share their numbers
    channels: u32,
    threshold: u32,    // bits below it are zero
    stream: u32,
    scale: f32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> numbers: Step;
@group(0) @binding(2) var<storage, read> x: array<act4>;
@group(0) @binding(3) var<storage, read_write> y: array<act4>;

// There are fewer than 2^32 elements, so the counter's second word is free for the rest of the step.
fn block(index: u32) -> vec4<u32> {
    let counter = vec4<u32>(index, numbers.step_high, numbers.step_low, p.stream);
    return philox(counter, vec2<u32>(numbers.seed_low, numbers.seed_high));
}

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
    let first = row / p.group_rows * p.channels + c4 * 4u;
    var bits = block(first / 4u);
    // A row of odd channels begins within a block, so that four channels lie in two.
    let at = first % 4u;
    if (at != 0u) {
        let next = block(first / 4u + 1u);
        if (at == 1u) {
            bits = vec4<u32>(bits.yzw, next.x);
        } else if (at == 2u) {
            bits = vec4<u32>(bits.zw, next.xy);
        } else {
            bits = vec4<u32>(bits.w, next.xyz);
        }
    }
#ifdef ONES
    let value = vec4<f32>(p.scale);
#else
    let value = load4(x[p.x_offset4 + row * p.x_stride4 + c4]) * p.scale;
#endif
    let kept = select(value, vec4<f32>(), bits < vec4<u32>(p.threshold));
    y[p.y_offset4 + row * p.y_stride4 + c4] = pack4(mask4(kept, c4 * 4u, p.channels));
}
