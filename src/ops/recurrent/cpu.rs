//! Recurrent layers on the CPU: a task walks through time with a few sequences, whose products are made together.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{Cell, Layout};
use super::grad::RecurrentGrad;
use super::{Recurrent, optional};
use crate::graph::{CpuRun, Epilogue, Matrix, Panels, Real, Rows, View, multiply, vector_kernel};

/// Sequences of a task: a block of rows of the products.
const SEQUENCES: usize = 8;

/// Gradients that have faded to less on their way back through time count as none: what is made of them would be too small for normal
/// numbers, and at last they themselves.
const FADED: f32 = 1.0 / (1_u128 << 100) as f32;

/// Where the steps of the sequences lie.
#[derive(Clone, Copy)]
struct Walk<'a> {
    time: usize,
    reverse: bool,
    lengths: Option<&'a [u32]>,
}

impl<'a> Walk<'a> {
    fn new<T>(time: usize, reverse: bool, lengths: Option<&View<'a, T>>) -> Self {
        Self { time, reverse, lengths: lengths.map(|lengths| lengths.ids) }
    }

    /// The position of a step of a sequence, and whether the sequence has it.
    fn position(&self, sequence: usize, step: usize) -> (usize, bool) {
        let length = self.lengths.map_or(self.time, |lengths| self.time.min(lengths[sequence] as usize));
        match step < length {
            true if self.reverse => (length - 1 - step, true),
            there => (step, there),
        }
    }
}

/// A bias, or nothing.
struct Add<'a, T>(&'a [T]);

impl<T: Real> Epilogue<T> for Add<'_, T> {
    #[inline(always)]
    fn apply(&self, _row: usize, values: &mut [T]) {
        values.iter_mut().zip(self.0).for_each(|(value, &bias)| *value += bias);
    }
}

/// The columns of the weight that are multiplied at once: a candidate that is reset before its product comes after the gates.
fn stages(cell: Cell, hidden: usize) -> Vec<Range<usize>> {
    let width = cell.gates() * hidden;
    let first = if cell.resets_before() { 2 * hidden } else { width };
    [0..first, first..width].into_iter().filter(|columns| !columns.is_empty()).collect()
}

pub(super) fn forward<T: Real>(op: &Recurrent, run: &mut CpuRun<'_, T>) {
    let [bias, initial, mask, lengths] = op.positions().map(|position| optional(&run.inputs, position));
    let (x, weight) = (&run.inputs[0], &run.inputs[1]);
    let layout = op.layout(weight.shape.time);
    let (hidden, width, time) = (layout.hidden, layout.width(), x.shape.time);
    let walk = Walk::new(time, op.reverse, lengths);
    let stages = stages(op.cell, hidden);
    let panel = |columns: &Range<usize>| {
        Panels::new(1, hidden, columns.len(), |_| Matrix::rows(&weight.data[columns.start..], weight.stride))
    };
    let panels: Vec<Panels<T>> = stages.iter().map(panel).collect();
    let biases: Vec<Add<'_, T>> =
        stages.iter().map(|columns| Add(bias.map_or(&[], |bias| &bias.row(0)[columns.clone()]))).collect();

    let [states, saved] = run.outputs.as_mut_slice() else { return };
    let (stride, padded) = (states.stride, states.shape.stride());
    let (saved_stride, saved_padded) = (saved.stride, saved.shape.stride());
    let cell_at = layout.cell_state();
    let tasks = x.shape.batch.div_ceil(SEQUENCES);
    let chunks = states.data.par_chunks_mut(SEQUENCES * time * stride);
    chunks.zip(saved.data.par_chunks_mut(SEQUENCES * time * saved_stride)).enumerate().take(tasks).for_each(
        |(task, (states, saved))| {
            let first = task * SEQUENCES;
            let count = SEQUENCES.min(x.shape.batch - first);
            let mut now = vec![T::ZERO; count * padded];
            for (i, now) in now.chunks_mut(padded).enumerate() {
                let Some(initial) = initial.map(|initial| initial.row(first + i)) else { continue };
                // Not what may lie between the hidden state and the cell's.
                for at in [Some(0), cell_at].into_iter().flatten() {
                    now[at..at + hidden].copy_from_slice(&initial[at..at + hidden]);
                }
            }
            let mut input = vec![T::ZERO; count * hidden];
            let mut products = vec![T::ZERO; count * width];
            for step in 0..time {
                for (i, (input, now)) in input.chunks_mut(hidden).zip(now.chunks(padded)).enumerate() {
                    input.copy_from_slice(&now[..hidden]);
                    if let Some(mask) = mask {
                        scale_by(input, mask.row(first + i));
                    }
                    let (position, there) = walk.position(first + i, step);
                    let saved = &mut saved[(i * time + position) * saved_stride..][..saved_padded];
                    saved.fill(T::ZERO);
                    if there {
                        saved[layout.input_block()..][..hidden].copy_from_slice(input);
                    } else {
                        states[(i * time + position) * stride..][..padded].fill(T::ZERO);
                    }
                }
                for (stage, columns) in stages.iter().enumerate() {
                    let target = &mut products[columns.start..];
                    multiply(
                        &Rows::dense(&input, hidden, count, hidden),
                        &panels[stage],
                        target,
                        width,
                        0,
                        &biases[stage],
                    );
                    for i in 0..count {
                        let (position, true) = walk.position(first + i, step) else { continue };
                        let x = &x.row((first + i) * time + position)[..width];
                        let product = &products[i * width..][..width];
                        let saved = &mut saved[(i * time + position) * saved_stride..][..saved_padded];
                        let (h, c) = now[i * padded..][..padded].split_at_mut(cell_at.unwrap_or(hidden));
                        let input = &mut input[i * hidden..][..hidden];
                        advance(&layout, stage, x, product, &mut h[..hidden], c, input, saved);
                        states[(i * time + position) * stride..][..padded]
                            .copy_from_slice(&now[i * padded..][..padded]);
                    }
                }
            }
        },
    );
}

fn scale_by<T: Real>(values: &mut [T], factors: &[T]) {
    values.iter_mut().zip(factors).for_each(|(value, &factor)| *value *= factor);
}

#[inline(always)]
fn gate<T: Real>(x: T, hard: bool) -> T {
    if !hard {
        return x.sigmoid();
    }
    let line = T::of(0.2) * x + T::of(0.5);
    let zero_or_more = if line < T::ZERO { T::ZERO } else { line };
    if zero_or_more > T::ONE { T::ONE } else { zero_or_more }
}

/// The derivative of a gate where its value is `y`.
#[inline(always)]
fn gate_slope<T: Real>(y: T, hard: bool) -> T {
    match hard {
        false => y * (T::ONE - y),
        true if y > T::ZERO && y < T::ONE => T::of(0.2),
        true => T::ZERO,
    }
}

vector_kernel! {
    /// One stage of a step of a sequence: the gates, and with the last the state. A first stage leaves in `input` what the
    /// second multiplies.
    #[allow(clippy::too_many_arguments)]
    fn advance<'a, T: Real>(
        layout: &'a Layout,
        stage: usize,
        x: &'a [T],
        product: &'a [T],
        h: &'a mut [T],
        c: &'a mut [T],
        input: &'a mut [T],
        saved: &'a mut [T],
    ) -> () {
        let (hidden, block, hard) = (layout.hidden, layout.block(), layout.cell.is_hard());
        match layout.cell {
            Cell::Elman { relu } => {
                for (j, h) in h.iter_mut().enumerate() {
                    let sum = x[j] + product[j];
                    *h = match relu {
                        true if sum <= T::ZERO => T::ZERO,
                        true => sum,
                        false => sum.tanh(),
                    };
                    saved[j] = *h;
                }
            }
            Cell::Gru { reset_after, .. } => {
                let (x, [px, pz, pn]) = (thirds(x), thirds(product));
                let (r, rest) = saved.split_at_mut(block);
                let (z, rest) = rest.split_at_mut(block);
                let (n, rest) = rest.split_at_mut(block);
                let (extra, rest) = rest.split_at_mut(block);
                if stage == 0 {
                    for j in 0..hidden {
                        r[j] = gate(x[0][j] + px[j], hard);
                        z[j] = gate(x[1][j] + pz[j], hard);
                    }
                    if layout.mask {
                        rest[..hidden].copy_from_slice(h);
                    }
                    if !reset_after {
                        for j in 0..hidden {
                            extra[j] = r[j] * input[j];
                            input[j] = extra[j];
                        }
                        return;
                    }
                    extra[..hidden].copy_from_slice(pn);
                }
                for j in 0..hidden {
                    let factor = if reset_after { r[j] } else { T::ONE };
                    n[j] = (x[2][j] + factor * pn[j]).tanh();
                    h[j] = (T::ONE - z[j]) * n[j] + z[j] * h[j];
                }
            }
            Cell::Lstm { .. } => {
                for j in 0..hidden {
                    let sum = |gate: usize| x[gate * hidden + j] + product[gate * hidden + j];
                    let (i, f) = (gate(sum(0), hard), gate(sum(1), hard));
                    let (g, o) = (sum(2).tanh(), gate(sum(3), hard));
                    let before = c[j];
                    c[j] = f * before + i * g;
                    h[j] = o * c[j].tanh();
                    for (at, value) in [i, f, g, o, before].into_iter().enumerate() {
                        saved[at * block + j] = value;
                    }
                }
            }
        }
    }
}

fn thirds<T>(values: &[T]) -> [&[T]; 3] {
    let third = values.len() / 3;
    [&values[..third], &values[third..2 * third], &values[2 * third..]]
}

pub(super) fn backward<T: Real>(op: &RecurrentGrad, run: &mut CpuRun<'_, T>) {
    let [mask, lengths] = op.positions().map(|position| optional(&run.inputs, position));
    let (dstates, saved, weight) = (&run.inputs[0], &run.inputs[1], &run.inputs[2]);
    let layout = op.forward.layout(weight.shape.time);
    let (hidden, width, time, batch) = (layout.hidden, layout.width(), saved.shape.time, saved.shape.batch);
    let walk = Walk::new(time, op.forward.reverse, lengths);
    // The candidate's gradient comes before that of the gate that resets its input.
    let stages: Vec<Range<usize>> = stages(op.forward.cell, hidden).into_iter().rev().collect();
    let panel = |columns: &Range<usize>| {
        Panels::new(1, columns.len(), hidden, |_| {
            Matrix::rows(&weight.data[columns.start..], weight.stride).transposed()
        })
    };
    let panels: Vec<Panels<T>> = stages.iter().map(panel).collect();
    let ones = vec![T::ONE; hidden];
    let mask_of = |sequence: usize| mask.map_or(&ones[..], |mask| &mask.row(sequence)[..hidden]);

    let [d, dinitial] = run.outputs.as_mut_slice() else { return };
    let (stride, padded, states) = (d.stride, d.shape.stride(), dinitial.shape.stride());
    let (dinitial_stride, from) = (dinitial.stride, layout.product_gradient());
    let tasks = batch.div_ceil(SEQUENCES);
    let chunks = d.data.par_chunks_mut(SEQUENCES * time * stride);
    chunks.zip(dinitial.data.par_chunks_mut(SEQUENCES * dinitial_stride)).enumerate().take(tasks).for_each(
        |(task, (d, dinitial))| {
            let first = task * SEQUENCES;
            let count = SEQUENCES.min(batch - first);
            let mut carry = vec![T::ZERO; count * states];
            // The gradients of the products, and what they give for the inputs.
            let mut dproducts = vec![T::ZERO; count * width];
            let mut dinputs = vec![T::ZERO; count * hidden];
            for step in (0..time).rev() {
                for (stage, columns) in stages.iter().enumerate() {
                    for i in 0..count {
                        let (position, there) = walk.position(first + i, step);
                        let row = (first + i) * time + position;
                        let d = &mut d[(i * time + position) * stride..][..padded];
                        let dproduct = &mut dproducts[i * width..][..width];
                        let dinput = &dinputs[i * hidden..][..hidden];
                        if stage == 0 {
                            d.fill(T::ZERO);
                        }
                        if there {
                            let carry = &mut carry[i * states..][..states];
                            retreat(
                                &layout,
                                stage,
                                dstates.row(row),
                                saved.row(row),
                                mask_of(first + i),
                                dinput,
                                carry,
                                d,
                            );
                            dproduct.copy_from_slice(&d[from..][..width]);
                        } else {
                            dproduct.fill(T::ZERO);
                        }
                    }
                    let source = Rows::dense(&dproducts[columns.start..], columns.len(), count, width);
                    multiply(&source, &panels[stage], &mut dinputs, hidden, 0, &Add(&[]));
                }
                for (i, (dinput, carry)) in dinputs.chunks_mut(hidden).zip(carry.chunks_mut(states)).enumerate() {
                    if !walk.position(first + i, step).1 {
                        continue;
                    }
                    scale_by(dinput, mask_of(first + i));
                    carry.iter_mut().zip(dinput).for_each(|(carry, &mut dinput)| *carry += dinput);
                    carry.iter_mut().for_each(|carry| *carry = carry.faded(FADED));
                }
            }
            for (dinitial, carry) in dinitial.chunks_mut(dinitial_stride).zip(carry.chunks(states)) {
                dinitial[..states].copy_from_slice(carry);
            }
        },
    );
}

vector_kernel! {
    /// One stage of a step of a sequence backward: adds to `carry`, the gradient of the state, what `dstates` says of this
    /// step, turns it into the gradients `d` of the sums, and leaves in `carry` what reaches the state before past the products.
    /// The second stage is given the gradient of what the first multiplied.
    #[allow(clippy::too_many_arguments)]
    fn retreat<'a, T: Real>(
        layout: &'a Layout,
        stage: usize,
        dstates: &'a [T],
        saved: &'a [T],
        mask: &'a [T],
        dinput: &'a [T],
        carry: &'a mut [T],
        d: &'a mut [T],
    ) -> () {
        let (hidden, block, hard) = (layout.hidden, layout.block(), layout.cell.is_hard());
        let blocks = |at: usize| &saved[at * block..][..hidden];
        match layout.cell {
            Cell::Elman { relu } => {
                let h = blocks(0);
                for j in 0..hidden {
                    let slope = match relu {
                        true if h[j] > T::ZERO => T::ONE,
                        true => T::ZERO,
                        false => T::ONE - h[j] * h[j],
                    };
                    d[j] = (dstates[j] + carry[j]) * slope;
                    carry[j] = T::ZERO;
                }
            }
            Cell::Gru { .. } if stage == 1 => {
                let (r, input) = (blocks(0), &saved[layout.input_block()..][..hidden]);
                for j in 0..hidden {
                    d[j] = dinput[j] * input[j] * gate_slope(r[j], hard);
                    carry[j] += dinput[j] * r[j] * mask[j];
                }
            }
            Cell::Gru { reset_after, .. } => {
                let (r, z, n, product) = (blocks(0), blocks(1), blocks(2), blocks(3));
                let before = blocks(4);
                for j in 0..hidden {
                    let dh = dstates[j] + carry[j];
                    let dn = dh * (T::ONE - z[j]) * (T::ONE - n[j] * n[j]);
                    let dz = dh * (before[j] - n[j]) * gate_slope(z[j], hard);
                    d[hidden + j] = dz;
                    d[2 * hidden + j] = dn;
                    carry[j] = dh * z[j];
                    if reset_after {
                        let dr = dn * product[j] * gate_slope(r[j], hard);
                        let of_product = &mut d[layout.product_gradient()..];
                        of_product[j] = dr;
                        of_product[hidden + j] = dz;
                        of_product[2 * hidden + j] = dn * r[j];
                        d[j] = dr;
                    }
                }
            }
            Cell::Lstm { .. } => {
                let (i, f, g, o, before) = (blocks(0), blocks(1), blocks(2), blocks(3), blocks(4));
                for j in 0..hidden {
                    let dh = dstates[j] + carry[j];
                    let tanh = (f[j] * before[j] + i[j] * g[j]).tanh();
                    let dc = dstates[block + j] + carry[block + j] + dh * o[j] * (T::ONE - tanh * tanh);
                    d[j] = dc * g[j] * gate_slope(i[j], hard);
                    d[hidden + j] = dc * before[j] * gate_slope(f[j], hard);
                    d[2 * hidden + j] = dc * i[j] * (T::ONE - g[j] * g[j]);
                    d[3 * hidden + j] = dh * tanh * gate_slope(o[j], hard);
                    carry[j] = T::ZERO;
                    carry[block + j] = dc * f[j];
                }
            }
        }
    }
}
