// Keeps the channels below `count` of the four from `first` on; the padding of a row is zero.
fn mask4(value: vec4<f32>, first: u32, count: u32) -> vec4<f32> {
    let channel = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
    return select(vec4<f32>(), value, channel < vec4<u32>(count));
}
