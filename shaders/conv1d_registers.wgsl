// The convolution of conv1d.wgsl without workgroup memory, for adapters whose threads are the lanes of a CPU's vectors:
// there a load of four channels is as dear as a hundred multiplications, whatever memory it reads.
//
// A workgroup is one subgroup of 8 lanes. A lane makes 8 rows x COLUMNS4 groups of 4 channels; the lanes have the same rows
// and different channels. Where SUBGROUPS, each lane loads one of the rows and gives it to the others.

#import grid
#import product

override COLUMNS4: u32 = 2u;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
#ifdef SUBGROUPS
        @builtin(subgroup_invocation_id) lane: u32) {
#else
        @builtin(local_invocation_index) lane: u32) {
#endif
    let tile = workgroup_index(id, count);
    if (tile >= p.workgroups) {
        return;
    }
#ifdef GATE
    // Channels of a and, half of the channels further on, of b.
    let tiles_n = (p.n + 31u) / 32u;
    let first_n4 = tile % tiles_n * 8u + lane;
    let step4 = p.n / 4u;
#else
    let tiles_n = (p.n + 32u * COLUMNS4 - 1u) / (32u * COLUMNS4);
    let first_n4 = tile % tiles_n * (8u * COLUMNS4) + lane;
    let step4 = 8u;
#endif
    let first_m = tile / tiles_n * 8u;
#for c COLUMNS4
    let bias$c = bias4(first_n4 + $cu * step4);
#endfor
#ifdef SUBGROUPS
    let row = row_of(first_m + lane);
#else
#for r 8
    let row$r = row_of(first_m + $ru);
#endfor
#endif
#for r 8
#for c COLUMNS4
    var sum$r_$c = bias$c;
#endfor
#endfor

    let src4 = (p.src_channels + 3u) / 4u;
    for (var tap = 0u; tap < p.taps; tap += 1u) {
#ifdef SUBGROUPS
        let there = is_there(row, tap);
        let start = place(row, tap);
#else
#for r 8
        let there$r = is_there(row$r, tap);
        let from$r = place(row$r, tap);
#endfor
#endif
        for (var c4 = 0u; c4 < src4; c4 += 1u) {
#ifdef SUBGROUPS
            let own = select(vec4<f32>(), load4(src[start + c4]), there);
#else
#for r 8
            let a$r = select(vec4<f32>(), load4(src[from$r + c4]), there$r);
#endfor
#endif
            // Weights of channels that are not there meet zeros of the source.
#for c COLUMNS4
            let n4_$c = min(first_n4 + $cu * step4, p.weight_columns4 - 1u);
#ifdef TRANSPOSED
            let at$c = p.weight_offset4 + (tap * p.n + n4_$c * 4u) * p.weight_stride4 + c4;
            let last$c = p.n - 1u - n4_$c * 4u;
            let w$c = transpose(mat4x4<f32>(
                load4(weight[at$c]),
                load4(weight[at$c + min(1u, last$c) * p.weight_stride4]),
                load4(weight[at$c + min(2u, last$c) * p.weight_stride4]),
                load4(weight[at$c + min(3u, last$c) * p.weight_stride4]),
            ));
#endif
#endfor
#for k 4
            {
#for c COLUMNS4
#ifdef TRANSPOSED
                let b$c = w$c[$k];
#else
                let channel$c = tap * p.src_channels + min(c4 * 4u + $ku, p.src_channels - 1u);
                let b$c = load4(weight[p.weight_offset4 + channel$c * p.weight_stride4 + n4_$c]);
#endif
#endfor
#for r 8
                {
#ifdef SUBGROUPS
                    let a = subgroupBroadcast(own[$k], $ru);
#else
                    let a = a$r[$k];
#endif
#for c COLUMNS4
                    sum$r_$c += a * b$c;
#endfor
                }
#endfor
            }
#endfor
        }
    }

#for r 8
#ifdef GATE
    store_gate(first_m + $ru, first_n4, sum$r_0, sum$r_1);
#else
#for c COLUMNS4
    store(first_m + $ru, first_n4 + 8u * $cu, sum$r_$c);
#endfor
#endif
#endfor
}
