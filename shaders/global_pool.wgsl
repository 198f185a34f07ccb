// Pooling of whole sequences, four channels a thread, in a fixed order.
//
//   MAX         values[sequence] = the largest of x over time, positions[sequence] = the first position that has it
//   otherwise   values[sequence] = the mean of x over time
//   GRADIENT    dx[t] = dy where t is the position of the maximum, else 0; or dy / positions
//
// FIRST reads x, a slab of time a workgroup; LAST writes the results. Where a sequence is more than a slab, the one gives to the
// other for each slab a sum, or a key (shared/order_key.wgsl) and a position.

#import grid
#import lengths
#import storage

struct Params {
    workgroups: u32,
    rows: u32,        // of what is written
    time: u32,
    slab_rows: u32,   // of time, or slabs where it is not FIRST
    slabs: u32,       // of a sequence
    channels: u32,
    x_offset4: u32,   // for GRADIENT, of dy
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
    positions_offset4: u32,
    positions_stride4: u32,
    first_sequence: u32,   // of those that there are lengths of
}

@group(0) @binding(0) var<uniform> p: Params;

#ifdef GRADIENT
#ifdef MAX
@group(0) @binding(1) var<storage, read> positions: array<vec4<f32>>;
#else
// Something else, and never read, but for LENGTHS.
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
#endif
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<act4>;
#else
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<act4>;
#ifdef MAX
alias Partial = vec4<u32>;
#else
alias Partial = vec4<f32>;
#endif
#ifdef LAST
#ifdef FIRST
@group(0) @binding(3) var<storage, read_write> values: array<vec4<f32>>;
#ifdef MAX
@group(0) @binding(4) var<storage, read_write> positions: array<vec4<f32>>;
#endif
#else
@group(0) @binding(3) var<storage, read> partials: array<Partial>;
@group(0) @binding(4) var<storage, read_write> values: array<vec4<f32>>;
#ifdef MAX
@group(0) @binding(5) var<storage, read_write> positions: array<vec4<f32>>;
#endif
#endif
#else
@group(0) @binding(3) var<storage, read_write> partials: array<Partial>;
#endif
#endif

#ifdef GRADIENT
@compute @workgroup_size(256)
fn gradient_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    let channels4 = (p.channels + 3u) / 4u;
    let row = index / channels4;
    let c4 = index % channels4;
    if (row >= p.rows) {
        return;
    }
    let sequence = row / p.time;
    let at = row % p.time;
    let value = dy[p.x_offset4 + sequence * p.x_stride4 + c4];
#ifdef MAX
    let wins = positions[p.positions_offset4 + sequence * p.positions_stride4 + c4] == vec4<f32>(f32(at));
    let gradient = select(vec4<f32>(), value, wins);
#else
    let length = length_of(sequence);
    let gradient = value * select(0.0, 1.0 / f32(max(length, 1u)), at < length);
#endif
    dx[p.y_offset4 + row * p.y_stride4 + c4] = pack4(gradient);
}
#else
#import channels

override COLUMNS: u32 = 16u;   // a power of two; 256 / COLUMNS threads share the rows of a slab

#ifdef MAX
#ifdef FIRST
#import order_key
#endif
const NOWHERE = 0xffffffffu;

var<workgroup> keys: array<vec4<u32>, 256>;
var<workgroup> places: array<vec4<u32>, 256>;

// Whether a key at a position comes before another.
fn comes_first(key: vec4<u32>, place: vec4<u32>, other_key: vec4<u32>, other_place: vec4<u32>) -> vec4<bool> {
    return (key > other_key) | ((key == other_key) & (place < other_place));
}
#else
var<workgroup> sums: array<vec4<f32>, 256>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(id, count);
    let channels4 = (p.channels + 3u) / 4u;
    let tiles = (channels4 + COLUMNS - 1u) / COLUMNS;
    let c4 = workgroup % tiles * COLUMNS + local % COLUMNS;
    let slab = workgroup / tiles % p.slabs;
    let sequence = workgroup / tiles / p.slabs;
    let there = workgroup < p.workgroups && c4 < channels4;
    var end = 0u;
    if (there) {
        end = (slab + 1u) * p.slab_rows;
#ifdef FIRST
        end = min(end, length_of(p.first_sequence + sequence));
#endif
    }

#ifdef MAX
    var key = vec4<u32>();
    var place = vec4<u32>(NOWHERE);
#else
    var sum = vec4<f32>();
#endif
    for (var row = slab * p.slab_rows + local / COLUMNS; row < end; row += 256u / COLUMNS) {
#ifdef FIRST
        let next = load4(x[p.x_offset4 + (sequence * p.time + row) * p.x_stride4 + c4]);
#ifdef MAX
        let next_key = order_key(next);
        let wins = next_key > key;
        key = select(key, next_key, wins);
        place = select(place, vec4<u32>(row), wins);
#else
        sum += next;
#endif
#else
        let at = (sequence * p.slab_rows + row) * channels4 + c4;
#ifdef MAX
        let next_key = partials[2u * at];
        let next_place = partials[2u * at + 1u];
        let wins = comes_first(next_key, next_place, key, place);
        key = select(key, next_key, wins);
        place = select(place, next_place, wins);
#else
        sum += partials[at];
#endif
#endif
    }
#ifdef MAX
    keys[local] = key;
    places[local] = place;
#else
    sums[local] = sum;
#endif
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS; half /= 2u) {
        if (local < half) {
#ifdef MAX
            let wins = comes_first(keys[local + half], places[local + half], keys[local], places[local]);
            keys[local] = select(keys[local], keys[local + half], wins);
            places[local] = select(places[local], places[local + half], wins);
#else
            sums[local] += sums[local + half];
#endif
        }
        workgroupBarrier();
    }
    if (local >= COLUMNS || !there) {
        return;
    }
#ifdef LAST
    let to = p.y_offset4 + sequence * p.y_stride4 + c4;
#ifdef MAX
    let winner = places[local];
    let nowhere = winner == vec4<u32>(NOWHERE);
    let row = select(winner, vec4<u32>(), nowhere) + vec4<u32>(sequence * p.time);
    let at = p.x_offset4 + row * p.x_stride4 + c4;
    let value = vec4<f32>(load4(x[at.x]).x, load4(x[at.y]).y, load4(x[at.z]).z, load4(x[at.w]).w);
    values[to] = select(value, vec4<f32>(), nowhere);
    let position = select(vec4<f32>(winner), vec4<f32>(-1.0), nowhere);
    positions[p.positions_offset4 + sequence * p.positions_stride4 + c4] = mask4(position, c4 * 4u, p.channels);
#else
    values[to] = sums[local] * (1.0 / f32(max(length_of(p.first_sequence + sequence), 1u)));
#endif
#else
    let to = (sequence * p.slabs + slab) * channels4 + c4;
#ifdef MAX
    partials[2u * to] = keys[local];
    partials[2u * to + 1u] = places[local];
#else
    partials[to] = sums[local];
#endif
#endif
}
#endif
