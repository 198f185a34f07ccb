// Weights of length g in the direction of v, by output channel; four channels a thread, sums in a fixed order.
//
//   w[r, c] = g[c] · v[r, c] / |v[., c]|
//   GRADIENT:  dg[c] = sum of dw · v / |v|,  dv[r, c] = g / |v| · (dw - v · (sum of dw · v) / |v|²)
//   APART:     dv and dg are in buffers of their own
//
// A workgroup takes 16 channels of one weight.

#import grid
#import storage

struct Tile {
    rows: u32,
    c4: u32,
    columns4: u32,
    v_offset4: u32,
    v_stride4: u32,
    g_offset4: u32,
    w_offset4: u32,
    w_stride4: u32,
    dv_offset4: u32,
    dv_stride4: u32,
    dg_offset4: u32,
    unused: u32,
}

struct Params {
    tiles: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> tiles: array<Tile>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> g: array<vec4<f32>>;
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read> dw: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dv: array<vec4<f32>>;
#ifdef APART
@group(0) @binding(6) var<storage, read_write> dg: array<vec4<f32>>;
#endif
#else
@group(0) @binding(4) var<storage, read_write> w: array<act4>;
#endif

const COLUMNS4 = 4u;
const LANES = 256u / COLUMNS4;

var<workgroup> squares: array<vec4<f32>, 256>;
#ifdef GRADIENT
var<workgroup> products: array<vec4<f32>, 256>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let tile = tiles[min(workgroup, p.tiles - 1u)];
    let c4 = tile.c4 + local % COLUMNS4;
    let there = workgroup < p.tiles && c4 < tile.columns4;
    let first = local / COLUMNS4;
    let rows = select(0u, tile.rows, there);

    var square = vec4<f32>();
#ifdef GRADIENT
    var product = vec4<f32>();
#endif
    for (var row = first; row < rows; row += LANES) {
        let direction = v[tile.v_offset4 + row * tile.v_stride4 + c4];
        square += direction * direction;
#ifdef GRADIENT
        product += dw[tile.w_offset4 + row * tile.w_stride4 + c4] * direction;
#endif
    }
    squares[local] = square;
#ifdef GRADIENT
    products[local] = product;
#endif
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS4; half /= 2u) {
        if (local < half) {
            squares[local] += squares[local + half];
#ifdef GRADIENT
            products[local] += products[local + half];
#endif
        }
        workgroupBarrier();
    }
    square = squares[local % COLUMNS4];
    let is_zero = square <= vec4<f32>();
    let norm = sqrt(select(square, vec4<f32>(1.0), is_zero));
    var scale = vec4<f32>();
    if (there) {
        scale = select(g[tile.g_offset4 + c4] / norm, vec4<f32>(), is_zero);
    }
#ifdef GRADIENT
    product = products[local % COLUMNS4];
    let along = select(product / (norm * norm), vec4<f32>(), is_zero);
    if (there && first == 0u) {
#ifdef APART
        dg[tile.dg_offset4 + c4] = product / norm;
#else
        dv[tile.dg_offset4 + c4] = product / norm;
#endif
    }
#endif
    for (var row = first; row < rows; row += LANES) {
        let direction = v[tile.v_offset4 + row * tile.v_stride4 + c4];
#ifdef GRADIENT
        let change = dw[tile.w_offset4 + row * tile.w_stride4 + c4];
        dv[tile.dv_offset4 + row * tile.dv_stride4 + c4] = scale * (change - direction * along);
#else
        w[tile.w_offset4 + row * tile.w_stride4 + c4] = pack4(scale * direction);
#endif
    }
}
