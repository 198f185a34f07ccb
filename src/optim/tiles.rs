//! The updates on the CPU, a tile of the flat vectors each. Coefficients are those of `shaders/optimizer_prepare.wgsl`.

use super::blocks::unpack;
use super::{Adadelta, Adagrad, Adam, RmsProp, Sgd};
use crate::graph::{PARAM_ALIGN, Real, vector_kernel};

/// The least magnitude of a mean: that of what has no gradient any more shrinks without end.
const LEAST: f32 = f32::MIN_POSITIVE;

vector_kernel! {
pub(super) fn adam_tile<'a, T: Real>(
    adam: &'a Adam,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
) -> () {
    let &[rate, root, clip, shrink] = coefficients else { return };
    let (beta1, rest1) = (T::of(adam.beta1), T::of(1.0 - adam.beta1));
    let (beta2, rest2) = (T::of(adam.beta2), T::of(1.0 - adam.beta2));
    let eps = T::of(f64::from(adam.eps));
    let tiles = params.chunks_mut(PARAM_ALIGN).zip(first.chunks_mut(PARAM_ALIGN));
    let tiles = tiles.zip(second.chunks_mut(PARAM_ALIGN)).zip(grads.chunks(PARAM_ALIGN)).zip(blocks);
    for ((((params, first), second), grads), &word) in tiles {
        let (count, decays) = unpack(word);
        let shrink = if decays { shrink } else { T::ONE };
        let elements =
            params[..count].iter_mut().zip(&mut first[..count]).zip(&mut second[..count]).zip(&grads[..count]);
        for (((w, m), v), &g) in elements {
            let g = g * clip;
            *m = (beta1 * *m + rest1 * g).faded(LEAST);
            *v = (beta2 * *v + rest2 * g * g).faded(LEAST);
            *w = *w * shrink - rate * *m / (v.sqrt() / root + eps);
        }
    }
}
}

vector_kernel! {
pub(super) fn sgd_tile<'a, T: Real>(
    sgd: &'a Sgd,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    first: Option<&'a mut [T]>,
) -> () {
    let &[rate, _, clip, _] = coefficients else { return };
    let momentum = T::of(f64::from(sgd.momentum));
    let weight_decay = T::of(f64::from(sgd.weight_decay));
    let mut first = first.map(|first| first.chunks_mut(PARAM_ALIGN));
    for ((params, grads), &word) in params.chunks_mut(PARAM_ALIGN).zip(grads.chunks(PARAM_ALIGN)).zip(blocks) {
        let (count, decays) = unpack(word);
        let decay = if decays { weight_decay } else { T::ZERO };
        let elements = params[..count].iter_mut().zip(&grads[..count]);
        match first.as_mut().and_then(Iterator::next) {
            Some(first) => {
                for ((w, &g), m) in elements.zip(&mut first[..count]) {
                    let g = g * clip + decay * *w;
                    *m = (momentum * *m + g).faded(LEAST);
                    let step = if sgd.nesterov { g + momentum * *m } else { *m };
                    *w -= rate * step;
                }
            }
            None => elements.for_each(|(w, &g)| *w -= rate * (g * clip + decay * *w)),
        }
    }
}
}

/// Clipped gradients with the weight decay of a block added.
#[inline(always)]
fn decayed<T: Real>(clip: T, weight_decay: f32, word: u32, grads: &[T], params: &[T]) -> ([T; PARAM_ALIGN], usize) {
    let (count, decays) = unpack(word);
    let decay = if decays { T::of(f64::from(weight_decay)) } else { T::ZERO };
    let mut sums = [T::ZERO; PARAM_ALIGN];
    for ((sum, &g), &w) in sums[..count].iter_mut().zip(&grads[..count]).zip(&params[..count]) {
        *sum = g * clip + decay * w;
    }
    (sums, count)
}

vector_kernel! {
pub(super) fn rmsprop_tile<'a, T: Real>(
    rmsprop: &'a RmsProp,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    second: &'a mut [T],
    first_and_mean: (Option<&'a mut [T]>, Option<&'a mut [T]>),
) -> () {
    let &[rate, _, clip, _] = coefficients else { return };
    let (first, mean) = first_and_mean;
    let (alpha, rest) = (T::of(rmsprop.alpha), T::of(1.0 - rmsprop.alpha));
    let (eps, momentum) = (T::of(f64::from(rmsprop.eps)), T::of(f64::from(rmsprop.momentum)));
    let mut first = first.map(|first| first.chunks_mut(PARAM_ALIGN));
    let mut mean = mean.map(|mean| mean.chunks_mut(PARAM_ALIGN));
    let tiles = params.chunks_mut(PARAM_ALIGN).zip(second.chunks_mut(PARAM_ALIGN)).zip(grads.chunks(PARAM_ALIGN));
    for (((params, second), grads), &word) in tiles.zip(blocks) {
        let (mut updates, count) = decayed(clip, rmsprop.weight_decay, word, grads, params);
        for (v, &g) in second[..count].iter_mut().zip(&updates) {
            *v = (alpha * *v + rest * g * g).faded(LEAST);
        }
        let elements = updates[..count].iter_mut().zip(&*second);
        match mean.as_mut().and_then(Iterator::next) {
            Some(mean) => {
                for ((u, &v), a) in elements.zip(mean) {
                    *a = (alpha * *a + rest * *u).faded(LEAST);
                    // By rounding it may be below 0.
                    *u = *u / ((v - *a * *a).larger(T::ZERO).sqrt() + eps);
                }
            }
            None => elements.for_each(|(u, &v)| *u = *u / (v.sqrt() + eps)),
        }
        if let Some(first) = first.as_mut().and_then(Iterator::next) {
            for (m, u) in first[..count].iter_mut().zip(&mut updates) {
                *m = (momentum * *m + *u).faded(LEAST);
                *u = *m;
            }
        }
        for (w, &u) in params[..count].iter_mut().zip(&updates) {
            *w -= rate * u;
        }
    }
}
}

vector_kernel! {
pub(super) fn adagrad_tile<'a, T: Real>(
    adagrad: &'a Adagrad,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    second: &'a mut [T],
) -> () {
    let &[rate, _, clip, _] = coefficients else { return };
    let eps = T::of(f64::from(adagrad.eps));
    let initial = T::of(f64::from(adagrad.initial_accumulator_value));
    let tiles = params.chunks_mut(PARAM_ALIGN).zip(second.chunks_mut(PARAM_ALIGN)).zip(grads.chunks(PARAM_ALIGN));
    for (((params, second), grads), &word) in tiles.zip(blocks) {
        let (grads, count) = decayed(clip, adagrad.weight_decay, word, grads, params);
        for ((w, v), &g) in params[..count].iter_mut().zip(&mut second[..count]).zip(&grads) {
            // The padding within rows stays zero: what the sums begin with is not stored.
            *v += g * g;
            *w -= rate * (g / ((*v + initial).sqrt() + eps));
        }
    }
}
}

vector_kernel! {
pub(super) fn adadelta_tile<'a, T: Real>(
    adadelta: &'a Adadelta,
    coefficients: &'a [T],
    blocks: &'a [u32],
    grads: &'a [T],
    params: &'a mut [T],
    second: &'a mut [T],
    first: &'a mut [T],
) -> () {
    let &[rate, _, clip, _] = coefficients else { return };
    let (rho, rest) = (T::of(adadelta.rho), T::of(1.0 - adadelta.rho));
    let eps = T::of(f64::from(adadelta.eps));
    let tiles = params.chunks_mut(PARAM_ALIGN).zip(second.chunks_mut(PARAM_ALIGN)).zip(first.chunks_mut(PARAM_ALIGN));
    for ((((params, second), first), grads), &word) in tiles.zip(grads.chunks(PARAM_ALIGN)).zip(blocks) {
        let (grads, count) = decayed(clip, adadelta.weight_decay, word, grads, params);
        let elements = params[..count].iter_mut().zip(&mut second[..count]).zip(&mut first[..count]);
        for (((w, v), s), &g) in elements.zip(&grads) {
            *v = (rho * *v + rest * g * g).faded(LEAST);
            let update = (*s + eps).sqrt() / (*v + eps).sqrt() * g;
            *s = (rho * *s + rest * update * update).faded(LEAST);
            *w -= rate * update;
        }
    }
}
}
