// Workgroups are counted in one line, laid out in two dimensions where one dimension does not hold them.
fn workgroup_index(id: vec3<u32>, count: vec3<u32>) -> u32 {
    return id.y * count.x + id.x;
}
