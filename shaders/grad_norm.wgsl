// The first pass of the gradients' norm: each workgroup sums the squares of a slab, in a fixed order. SPARSE: of the values of a
// sparse gradient, all of which count.

#import grid

struct Params {
    elements4: u32,
    slab4: u32,
    workgroups: u32,
    elements_offset4: u32,
    partials_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
#ifndef SPARSE
// For each block of 64 elements how many are a parameter's (the rest is never written), in bit 31
// whether they decay, and in bit 30 whether the parameter is held to a norm.
@group(0) @binding(3) var<storage, read> blocks: array<u32>;
#endif

fn counts(index: u32) -> bool {
#ifdef SPARSE
    return true;
#else
    return (index % 16u) * 4u < (blocks[(p.elements_offset4 + index) / 16u] & 0x3fffffffu);
#endif
}

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let slab = workgroup_index(id, count);
    if (slab >= p.workgroups) {
        return;
    }
    let end = min((slab + 1u) * p.slab4, p.elements4);
    var sum = 0.0;
    for (var index = slab * p.slab4 + local; index < end; index += 256u) {
        if (counts(index)) {
            let g = grads[p.elements_offset4 + index];
            sum += dot(g, g);
        }
    }
    sums[local] = sum;
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local < width) {
            sums[local] += sums[local + width];
        }
    }
    if (local == 0u) {
        partials[p.partials_offset + slab] = sums[0];
    }
}
