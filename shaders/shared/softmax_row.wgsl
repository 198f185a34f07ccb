// The largest of a row's numbers and the sum of exp(x - largest): LANES neighbouring threads a row, then a tree over them. Reads
// `x`, a buffer of the shader's.
#import online_softmax
#import storage

override LANES: u32 = 16u;   // a power of two

var<workgroup> parts_of_lanes: array<vec2<f32>, 256>;

// Of `channels` numbers from x[start] on, for the first of a row's threads; to be called by all of the workgroup.
fn row_part(start: u32, channels: u32, local: u32) -> vec2<f32> {
    let lane = local % LANES;
    var part = vec2<f32>(LOWEST, 0.0);
    for (var c4 = lane; c4 < (channels + 3u) / 4u; c4 += LANES) {
        let channel = vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        part = include4(part, load4(x[start + c4]), channel < vec4<u32>(channels));
    }
    parts_of_lanes[local] = part;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) {
            parts_of_lanes[local] = join(parts_of_lanes[local], parts_of_lanes[local + half]);
        }
        workgroupBarrier();
    }
    return parts_of_lanes[local];
}
