// Cached generation with a WaveNet (Paine et al. 2016): a workgroup is a stream and walks all layers for each sample.
// Each layer's past inputs lie in a ring in storage, all vectors of the present sample in workgroup memory.
//
// A product x * W is shared out among the threads: a thread takes four output channels and every SLICES-th input, with
// SLICES = THREADS / (outputs / 4); then one thread an output adds up the slices' sums.
//
// The order of everything is fixed. Atomics are of integers, and their results do not depend on the order.

#import grid
#import activation
#import philox

struct Params {
    streams: u32,
    // Samples of this dispatch.
    count: u32,
    // Samples since the cursors in `layers` were set.
    position: u32,
    // 1: classes are drawn; 0: they are read from `io`.
    drawing: u32,
    // 1: the logits of every sample are written.
    every: u32,
    // 1: the likeliest class is taken.
    greedy: u32,
    inverse_temperature: f32,
    seed_low: u32,
    seed_high: u32,
    // Number of the first sample drawn.
    draw_low: u32,
    draw_high: u32,
    depth: u32,
    taps: u32,
    residual: u32,
    gate: u32,
    skip: u32,
    head: u32,
    classes: u32,
    input_taps: u32,
    input_channels: u32,
    // 1: the network reads samples, not classes.
    scalar: u32,
    input_cursor: u32,
    // f32s of a stream's rings.
    queue_stride: u32,
    // Where things lie in `weights`; of layer 0, the next is `layer_stride4` further.
    layer_stride4: u32,
    input_weight4: u32,
    input_bias4: u32,
    dilated_weight4: u32,
    dilated_bias4: u32,
    residual_weight4: u32,
    residual_bias4: u32,
    skip_weight4: u32,
    skip_bias4: u32,
    head_weight4: u32,
    head_bias4: u32,
    logits_weight4: u32,
    logits_bias4: u32,
}

// A layer's ring: `length` steps of all residual channels, from `first` on. Length 0 where a layer has one tap.
struct Ring {
    first: u32,
    length: u32,
    dilation: u32,
    cursor: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> rings: array<Ring>;
// The sample of each class, for scalar input.
@group(0) @binding(3) var<storage, read> samples: array<f32>;
@group(0) @binding(4) var<storage, read_write> queues: array<f32>;
// Per stream: not 0 once a logit was not finite; then the ring of the words that were fed, `input_taps - 1` long.
@group(0) @binding(5) var<storage, read_write> state: array<u32>;
// Words to feed or classes drawn, [streams][count]; then each stream's first word of `state`.
@group(0) @binding(6) var<storage, read_write> io: array<u32>;
// [streams][classes] of the last sample, then [streams][count][classes] where those of every sample are written.
@group(0) @binding(7) var<storage, read_write> logits: array<f32>;

override THREADS: u32 = 256u;
override BLOCKS: u32 = 16u;      // THREADS / 16
override MEMORY: u32 = 1024u;    // all vectors below
// Where the vectors begin in `memory`; taps are followed by the present input.
override GATED: u32 = 64u;       // the gate's output, later the skip sum
override LOGITS: u32 = 128u;
const TAPS: u32 = 0u;            // a layer's input at all taps, later the head's hidden vector

var<workgroup> memory: array<f32, MEMORY>;
var<workgroup> slices: array<vec4<f32>, THREADS>;
var<workgroup> parts: array<f32, THREADS>;
var<workgroup> blocks: array<f32, BLOCKS>;
var<workgroup> largest: atomic<u32>;
var<workgroup> lowest: atomic<u32>;
var<workgroup> highest: atomic<u32>;
var<workgroup> broken: atomic<u32>;
var<workgroup> chosen: u32;

const NONE: u32 = 0xffffffffu;

// This thread's part of the product of `inputs` numbers at `x` with a matrix whose rows are `width4` long, for the four
// outputs at `column4`.
fn product(local: u32, x: u32, inputs: u32, matrix4: u32, width4: u32, first4: u32, columns4: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    let step = THREADS / columns4;
    var k = local / columns4;
    if (k >= step) {
        return sum;
    }
    let at = matrix4 + first4 + local % columns4;
    // Four loads under way at a time.
    for (; k + 3u * step < inputs; k += 4u * step) {
        let w0 = weights[at + k * width4];
        let w1 = weights[at + (k + step) * width4];
        let w2 = weights[at + (k + 2u * step) * width4];
        let w3 = weights[at + (k + 3u * step) * width4];
        sum += memory[x + k] * w0;
        sum += memory[x + k + step] * w1;
        sum += memory[x + k + 2u * step] * w2;
        sum += memory[x + k + 3u * step] * w3;
    }
    for (; k < inputs; k += step) {
        sum += memory[x + k] * weights[at + k * width4];
    }
    return sum;
}

// Adds up the slices of one output, and its bias.
fn total(output: u32, columns4: u32, bias4: u32, first4: u32) -> f32 {
    var sum = weights[bias4 + first4 + output / 4u][output % 4u];
    let end = THREADS / columns4 * columns4;
    for (var i = output / 4u; i < end; i += columns4) {
        sum += slices[i][output % 4u];
    }
    return sum;
}

// 0 for what is negative. By the bits: NaN must stay, which compilers don't promise for comparisons and products.
fn rectify(x: f32) -> f32 {
    return select(x, 0.0, bitcast<u32>(x) - 0x80000000u <= 0x7f800000u);
}

// y = act(x * W + b), where there may be more outputs than threads take at once.
fn dense(local: u32, x: u32, inputs: u32, y: u32, outputs: u32, matrix4: u32, bias4: u32, rectified: bool) {
    let width4 = (outputs + 3u) / 4u;
    for (var first4 = 0u; first4 < width4; first4 += THREADS) {
        let columns4 = min(width4 - first4, THREADS);
        slices[local] = product(local, x, inputs, matrix4, width4, first4, columns4);
        workgroupBarrier();
        let count = min(outputs - first4 * 4u, columns4 * 4u);
        for (var i = local; i < count; i += THREADS) {
            let sum = total(i, columns4, bias4, first4);
            memory[y + first4 * 4u + i] = select(sum, rectify(sum), rectified);
        }
        workgroupBarrier();
    }
}

// Fetches the past inputs of a layer.
fn fetch(local: u32, layer: u32, queue: u32, sample: u32) {
    let ring = rings[layer];
    if (ring.length == 0u) {
        return;
    }
    let now = (ring.cursor + p.position + sample) % ring.length;
    for (var i = local; i < (p.taps - 1u) * p.residual; i += THREADS) {
        let slot = (now + i / p.residual * ring.dilation) % ring.length;
        memory[TAPS + i] = queues[queue + ring.first + slot * p.residual + i % p.residual];
    }
}

// Puts the present input of a layer where the oldest was.
fn keep(local: u32, layer: u32, queue: u32, sample: u32, x: u32) {
    let ring = rings[layer];
    if (ring.length == 0u) {
        return;
    }
    let now = (ring.cursor + p.position + sample) % ring.length;
    for (var i = local; i < p.residual; i += THREADS) {
        queues[queue + ring.first + now * p.residual + i] = memory[x + i];
    }
}

// The first convolution; leaves its output at `x`.
fn embed(local: u32, stream: u32, word: u32, sample: u32, x: u32) {
    let past = p.input_taps - 1u;
    let ring = stream * p.input_taps + 1u;
    let width4 = (p.residual + 3u) / 4u;
    for (var i = local; i < p.residual; i += THREADS) {
        var sum = weights[p.input_bias4 + i / 4u][i % 4u];
        for (var tap = 0u; tap < p.input_taps; tap += 1u) {
            var value = word;
            if (tap < past) {
                value = state[ring + (p.input_cursor + p.position + sample + tap) % past];
            }
            // Zero words are from before the start.
            if (value != 0u) {
                let row = tap * p.input_channels + select(value - 1u, 0u, p.scalar == 1u);
                let scale = select(1.0, bitcast<f32>(value), p.scalar == 1u);
                sum += scale * weights[p.input_weight4 + row * width4 + i / 4u][i % 4u];
            }
        }
        memory[x + i] = sum;
    }
}

// Maps floats to integers in the same order.
fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn float_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn weight_of(class_id: u32, maximum: f32) -> f32 {
    let x = (memory[LOGITS + class_id] - maximum) * p.inverse_temperature;
    return select(exp(x), 0.0, x < -80.0);
}

// Draws a class: the first whose cumulative weight exceeds a uniform part of the whole.
fn draw(local: u32, stream: u32, sample: u32) -> u32 {
    if (local == 0u) {
        atomicStore(&largest, 0u);
        atomicStore(&lowest, NONE);
        atomicStore(&highest, 0u);
        chosen = 0u;
    }
    workgroupBarrier();
    let each = (p.classes + THREADS - 1u) / THREADS;
    let begin = min(local * each, p.classes);
    let end = min(begin + each, p.classes);
    var key = 0u;
    for (var i = begin; i < end; i += 1u) {
        let logit = memory[LOGITS + i];
        // By its bits: compilers may take it that nothing is infinite or NaN.
        if ((bitcast<u32>(logit) & 0x7f800000u) == 0x7f800000u) {
            atomicOr(&broken, 1u);
        }
        key = max(key, key_of(logit));
    }
    atomicMax(&largest, key);
    workgroupBarrier();
    let maximum = float_of(atomicLoad(&largest));

    if (p.greedy == 1u) {
        for (var i = begin; i < end; i += 1u) {
            if (memory[LOGITS + i] == maximum) {
                atomicMin(&lowest, i);
            }
        }
        workgroupBarrier();
        if (local == 0u) {
            chosen = atomicLoad(&lowest);
        }
        return min(workgroupUniformLoad(&chosen), p.classes - 1u);
    }

    // The sums of 16 threads, then of all before this one.
    var part = 0.0;
    for (var i = begin; i < end; i += 1u) {
        part += weight_of(i, maximum);
    }
    parts[local] = part;
    workgroupBarrier();
    if (local < BLOCKS) {
        var sum = 0.0;
        for (var i = 0u; i < 16u; i += 1u) {
            sum += parts[local * 16u + i];
        }
        blocks[local] = sum;
    }
    workgroupBarrier();
    var whole = 0.0;
    var before = 0.0;
    for (var i = 0u; i < BLOCKS; i += 1u) {
        if (i == local / 16u) {
            before = whole;
        }
        whole += blocks[i];
    }
    for (var i = local / 16u * 16u; i < local; i += 1u) {
        before += parts[i];
    }
    let draw_low = p.draw_low + sample;
    let draw_high = p.draw_high + select(0u, 1u, draw_low < p.draw_low);
    // The last word of the counter says what the number is for.
    let bits = philox(vec4<u32>(draw_low, draw_high, stream, 0xD4A3u), vec2<u32>(p.seed_low, p.seed_high)).x;
    let goal = unit_f32(bits) * whole;
    if (part > 0.0) {
        atomicMax(&highest, local);
        if (before + part > goal) {
            atomicMin(&lowest, local);
        }
    }
    workgroupBarrier();
    // Rounding may leave the goal beyond the last sum.
    let first = atomicLoad(&lowest);
    if (local == select(first, atomicLoad(&highest), first == NONE)) {
        var sum = before;
        var found = begin;
        for (var i = begin; i < end && sum <= goal; i += 1u) {
            let weight = weight_of(i, maximum);
            sum += weight;
            found = select(found, i, weight > 0.0);
        }
        chosen = found;
    }
    return min(workgroupUniformLoad(&chosen), p.classes - 1u);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let stream = workgroup_index(id, count);
    if (stream >= p.streams) {
        return;
    }
    let queue = stream * p.queue_stride;
    let x = TAPS + (p.taps - 1u) * p.residual;
    let dilated4 = (2u * p.gate + 3u) / 4u;
    let residual4 = (p.residual + 3u) / 4u;
    let skip4 = (p.skip + 3u) / 4u;

    if (local == 0u) {
        atomicStore(&broken, state[stream * p.input_taps]);
    }
    for (var i = local; i < p.classes; i += THREADS) {
        memory[LOGITS + i] = logits[stream * p.classes + i];
    }
    workgroupBarrier();

    for (var sample = 0u; sample < p.count; sample += 1u) {
        var word: u32;
        if (p.drawing == 1u) {
            let class_id = draw(local, stream, sample);
            if (local == 0u) {
                io[stream * p.count + sample] = class_id;
            }
            word = class_id + 1u;
            if (p.scalar == 1u) {
                word = bitcast<u32>(samples[class_id]);
            }
        } else {
            word = io[stream * p.count + sample];
        }

        embed(local, stream, word, sample, x);
        fetch(local, 0u, queue, sample);
        workgroupBarrier();
        storageBarrier();
        if (local == 0u && p.input_taps > 1u) {
            let past = p.input_taps - 1u;
            state[stream * p.input_taps + 1u + (p.input_cursor + p.position + sample) % past] = word;
        }

        let with_logits = p.drawing == 1u || p.every == 1u || sample + 1u == p.count;
        var skips = vec4<f32>();
        for (var layer = 0u; layer < p.depth; layer += 1u) {
            let base4 = layer * p.layer_stride4;
            keep(local, layer, queue, sample, x);
            slices[local] = product(local, TAPS, p.taps * p.residual, p.dilated_weight4 + base4, dilated4, 0u, dilated4);
            workgroupBarrier();
            for (var i = local; i < p.gate; i += THREADS) {
                let a = total(i, dilated4, p.dilated_bias4 + base4, 0u);
                let b = total(p.gate + i, dilated4, p.dilated_bias4 + base4, 0u);
                memory[GATED + i] = safe_tanh(a) * sigmoid(b);
            }
            let last = layer + 1u == p.depth;
            if (!last) {
                fetch(local, layer + 1u, queue, sample);
            }
            workgroupBarrier();
            if (with_logits) {
                skips += product(local, GATED, p.gate, p.skip_weight4 + base4, skip4, 0u, skip4);
            }
            if (!last) {
                slices[local] = product(local, GATED, p.gate, p.residual_weight4 + base4, residual4, 0u, residual4);
                workgroupBarrier();
                for (var i = local; i < p.residual; i += THREADS) {
                    memory[x + i] += total(i, residual4, p.residual_bias4 + base4, 0u);
                }
                workgroupBarrier();
            }
        }

        if (with_logits) {
            slices[local] = skips;
            workgroupBarrier();
            for (var i = local; i < p.skip; i += THREADS) {
                memory[GATED + i] = rectify(total(i, skip4, p.skip_bias4, 0u));
            }
            workgroupBarrier();
            dense(local, GATED, p.skip, TAPS, p.head, p.head_weight4, p.head_bias4, true);
            dense(local, TAPS, p.head, LOGITS, p.classes, p.logits_weight4, p.logits_bias4, false);
            if (p.every == 1u) {
                let row = p.streams + stream * p.count + sample;
                for (var i = local; i < p.classes; i += THREADS) {
                    logits[row * p.classes + i] = memory[LOGITS + i];
                }
            }
        }
        // What this sample wrote, other threads read at the next.
        workgroupBarrier();
        storageBarrier();
    }

    for (var i = local; i < p.classes; i += THREADS) {
        logits[stream * p.classes + i] = memory[LOGITS + i];
    }
    if (local == 0u) {
        let status = atomicLoad(&broken);
        state[stream * p.input_taps] = status;
        io[p.streams * p.count + stream] = status;
    }
}
