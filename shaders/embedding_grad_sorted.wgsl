// Gradient of the table of an embedding of many classes, in a fixed order and without atomics.
//
//   dtable[k, c, :] = sum over rows m with ids[row(m, k)] = c of dy[m, :]
//
// An entry is a pair (row of the table, row of dy), taps after one another. `sort_main`: a workgroup sorts a block of them (Batcher
// 1968). `merge_main`: makes one run of 16; an entry's place is what comes before it in each run, by bisection. `piece_main`: sums
// what a piece of the sorted entries begins with, where that goes on from the piece before. `sum_main`: a row of the table adds up
// its entries as far as their piece goes, then those sums. `rows_main`: the same for the rows that come, at their first entries.

#import grid
#import storage

struct Params {
    entries: u32,      // a multiple of BLOCK
    run: u32,
    rows: u32,
    time: u32,
    ids_time: u32,
    taps: u32,
    classes: u32,
    channels4: u32,
    multiply: i32,
    step: i32,
    shift: i32,
    dy_offset4: u32,
    dy_stride4: u32,
    table_offset4: u32,   // in `rows_main` of the values
    table_stride4: u32,
    rows_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

const BLOCK = 1024u;
const RUNS = 16u;
const PIECE = 64u;
// Of no class: comes last.
const NOTHING = 0xffffffffu;

#ifdef SORT
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> sorted: array<vec2<u32>>;

var<workgroup> block: array<vec2<u32>, BLOCK>;

fn entry(index: u32) -> vec2<u32> {
    let tap = index / p.rows;
    let row = index % p.rows;
    let at = i32(row % p.time) * p.multiply + i32(tap) * p.step + p.shift;
    if (tap < p.taps && at >= 0 && u32(at) < p.ids_time) {
        let label = ids[row / p.time * p.ids_time + u32(at)];
        if (label < p.classes) {
            return vec2<u32>(tap * p.classes + label, row);
        }
    }
    return vec2<u32>(NOTHING, row);
}

@compute @workgroup_size(256)
fn sort_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let first = workgroup_index(id, count) * BLOCK;
    for (var at = local; at < BLOCK; at += 256u) {
        block[at] = entry(first + at);
    }
    for (var size = 2u; size <= BLOCK; size *= 2u) {
        for (var half = size / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            for (var pair = local; pair < BLOCK / 2u; pair += 256u) {
                let low = pair / half * half * 2u + pair % half;
                let a = block[low];
                let b = block[low + half];
                let swapped = a.x > b.x || (a.x == b.x && a.y > b.y);
                let ascending = (low & size) == 0u;
                if (swapped == ascending) {
                    block[low] = b;
                    block[low + half] = a;
                }
            }
        }
    }
    workgroupBarrier();
    for (var at = local; at < BLOCK; at += 256u) {
        if (first + at < p.entries) {
            sorted[first + at] = block[at];
        }
    }
}
#endif

#ifdef MERGE
@group(0) @binding(1) var<storage, read> runs: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> merged: array<vec2<u32>>;

@compute @workgroup_size(256)
fn merge_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 256u + local;
    if (index >= p.entries) {
        return;
    }
    let mine = runs[index];
    let own = index / p.run;
    let group = own / RUNS * RUNS;
    var place = group * p.run + index % p.run;
    for (var other = group; other < group + RUNS; other += 1u) {
        let first = min(other * p.run, p.entries);
        // Of a class, earlier runs have the earlier rows.
        let bound = mine.x + select(0u, 1u, other < own && mine.x != NOTHING);
        let whole = other < own && mine.x == NOTHING;
        var low = first;
        var high = min(first + p.run, p.entries);
        let end = high;
        while (low < high) {
            let middle = (low + high) / 2u;
            if (runs[middle].x < bound) {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        if (other != own) {
            place += select(low, end, whole) - first;
        }
    }
    merged[place] = mine;
}
#endif

#ifdef PIECES
@group(0) @binding(1) var<storage, read> sorted: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> dy: array<act4>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec4<f32>>;   // [piece][channels4]

@compute @workgroup_size(64)
fn piece_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(id, count) * 64u + local;
    let first = index / p.channels4 * PIECE;
    let c4 = index % p.channels4;
    // The first piece goes on from nothing.
    if (first == 0u || first >= p.entries) {
        return;
    }
    let class_row = sorted[first].x;
    if (class_row == NOTHING || sorted[first - 1u].x != class_row) {
        return;
    }
    var sum = vec4<f32>();
    for (var at = first; at < first + PIECE; at += 1u) {
        let entry = sorted[at];
        if (entry.x != class_row) {
            break;
        }
        sum += load4(dy[p.dy_offset4 + entry.y * p.dy_stride4 + c4]);
    }
    sums[index] = sum;
}
#endif

#ifdef SUMS
@group(0) @binding(1) var<storage, read> sorted: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> dy: array<act4>;
@group(0) @binding(3) var<storage, read> sums: array<vec4<f32>>;

override LANES: u32 = 16u;   // threads of a row of the table

// Of the class whose entries begin at `first`; of none if there `row` is not.
fn class_sum(row: u32, first: u32, c4: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    var at = first;
    let end = (first / PIECE + 1u) * PIECE;
    while (at < min(end, p.entries)) {
        let entry = sorted[at];
        if (entry.x != row) {
            break;
        }
        sum += load4(dy[p.dy_offset4 + entry.y * p.dy_stride4 + c4]);
        at += 1u;
    }
    if (at == end) {
        while (at < p.entries) {
            if (sorted[at].x != row) {
                break;
            }
            sum += sums[at / PIECE * p.channels4 + c4];
            at += PIECE;
        }
    }
    return sum;
}

#ifdef ROWS
@group(0) @binding(4) var<storage, read_write> rows: array<f32>;
@group(0) @binding(5) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(256)
fn rows_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(id, count) * (256u / LANES) + local / LANES;
    let positions = p.taps * p.rows;
    // The padding of `rows` too.
    if (at >= (positions + 3u) / 4u * 4u) {
        return;
    }
    let row = sorted[at].x;
    var comes = row != NOTHING;
    if (at > 0u) {
        comes = comes && sorted[at - 1u].x != row;
    }
    if (local % LANES == 0u) {
        rows[p.rows_offset + at] = select(-1.0, f32(row), comes);
    }
    for (var c4 = local % LANES; at < positions && c4 < p.channels4; c4 += LANES) {
        var sum = vec4<f32>();
        if (comes) {
            sum = class_sum(row, at, c4);
        }
        values[p.table_offset4 + at * p.table_stride4 + c4] = sum;
    }
}
#else
@group(0) @binding(4) var<storage, read_write> dtable: array<vec4<f32>>;

@compute @workgroup_size(256)
fn sum_main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
            @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(id, count) * (256u / LANES) + local / LANES;
    if (row >= p.taps * p.classes) {
        return;
    }
    var low = 0u;
    var high = p.entries;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (sorted[middle].x < row) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    for (var c4 = local % LANES; c4 < p.channels4; c4 += LANES) {
        dtable[p.table_offset4 + row * p.table_stride4 + c4] = class_sum(row, low, c4);
    }
}
#endif
#endif
