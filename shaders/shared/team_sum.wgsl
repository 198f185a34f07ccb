// Sums over the threads of a team: 256 / COLUMNS teams of a workgroup, each of COLUMNS neighbouring threads, always in the same
// order; to be called by all of the workgroup.
override COLUMNS: u32 = 16u;   // a power of two

var<workgroup> team_sums: array<vec2<f32>, 256>;

fn team_sum(local: u32, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    team_sums[local] = value;
    workgroupBarrier();
    for (var half = COLUMNS / 2u; half > 0u; half /= 2u) {
        if (local % COLUMNS < half) {
            team_sums[local] += team_sums[local + half];
        }
        workgroupBarrier();
    }
    return team_sums[local - local % COLUMNS];
}
