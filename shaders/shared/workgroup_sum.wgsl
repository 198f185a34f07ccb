// The sum over the 256 threads of a workgroup, always in the same order; to be called once, by all of them.
var<workgroup> workgroup_sums: array<vec2<f32>, 256>;

fn workgroup_sum(local: u32, value: vec2<f32>) -> vec2<f32> {
    workgroup_sums[local] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (local < half) {
            workgroup_sums[local] += workgroup_sums[local + half];
        }
        workgroupBarrier();
    }
    return workgroup_sums[0];
}
