//! Pooling over time: of windows, of whole sequences, and of the largest values.
//!
//! Every kind takes lengths, ids `[batch, 1]` (see [`Graph::input_ids_fixed`]): how many positions of each sequence there are, from
//! 0 on; more than the time counts as all of it. What lies beyond does not exist: the maximum and the average of nothing are 0.
//!
//! The maximum of values of which one is not a number is not a number. Of equal values the first one counts.

mod global;
mod k_max;
mod local;
mod window;

pub use global::{GlobalAvgPool, GlobalMaxPool};
pub(crate) use global::{average_case, dispatches as global_dispatches, max_case};
pub use k_max::KMaxPool;
pub(crate) use k_max::case as k_max_case;
pub(crate) use local::case;
pub use local::{Pool, Pooling};
pub use window::{Window, Windows};

use std::ops::Range;

use crate::error::Result;
use crate::graph::{
    Graph, Kind, Op, Operand, Real, Shape, TensorId, View, expect_kinds, expect_same, shape_error, vector_kernel,
};
use crate::ops::CaseInput;
use crate::random::Random;

/// What [`global_max_pool`] and [`k_max_pool`] append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooled {
    /// The values.
    pub values: TensorId,
    /// The position in the sequence that each value comes from, as a real number, of the same shape; −1 where there is none.
    pub positions: TensorId,
}

/// Appends the maximum of each window over `x` `[batch, time, channels]`: `[batch, windows, channels]` with
/// `windows = ⌊(time + pad_left + pad_right − size) / stride⌋ + 1` (`torch.nn.MaxPool1d`).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a window is longer than the padded sequence, a number of it is out of its range, or
/// `lengths` are no ids `[batch, 1]`.
pub fn max_pool(graph: &mut Graph, x: TensorId, window: Window, lengths: Option<TensorId>) -> Result<TensorId> {
    local(graph, x, Windows::Moving(window), Pooling::Max, lengths)
}

/// Appends the average of each window over `x` `[batch, time, channels]`, as [`max_pool`] (`torch.nn.AvgPool1d` with
/// `count_include_pad=False`, or with [`Window::counting_padding`] its default).
///
/// # Errors
/// As [`max_pool`].
pub fn avg_pool(graph: &mut Graph, x: TensorId, window: Window, lengths: Option<TensorId>) -> Result<TensorId> {
    local(graph, x, Windows::Moving(window), Pooling::Average, lengths)
}

/// Appends the maxima of `time` windows that cover `x` `[batch, time', channels]` evenly: `[batch, time, channels]`
/// (`torch.nn.AdaptiveMaxPool1d`). With `lengths`, the windows cover what there is of each sequence.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `time` is 0, or 2³² / time' and more, or `lengths` are no ids `[batch, 1]`.
pub fn adaptive_max_pool(graph: &mut Graph, x: TensorId, time: usize, lengths: Option<TensorId>) -> Result<TensorId> {
    local(graph, x, Windows::Adaptive(time), Pooling::Max, lengths)
}

/// Appends the averages of `time` windows that cover `x` evenly, as [`adaptive_max_pool`] (`torch.nn.AdaptiveAvgPool1d`).
///
/// # Errors
/// As [`adaptive_max_pool`].
pub fn adaptive_avg_pool(graph: &mut Graph, x: TensorId, time: usize, lengths: Option<TensorId>) -> Result<TensorId> {
    local(graph, x, Windows::Adaptive(time), Pooling::Average, lengths)
}

/// Appends the maximum of `x` `[batch, time, channels]` over time, `[batch, 1, channels]`, and where it is.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if there are more than 2²⁴ positions, or `lengths` are no ids `[batch, 1]`.
pub fn global_max_pool(graph: &mut Graph, x: TensorId, lengths: Option<TensorId>) -> Result<Pooled> {
    pooled(graph, GlobalMaxPool { lengths: lengths.is_some() }, x, lengths)
}

/// Appends the average of `x` `[batch, time, channels]` over time, `[batch, 1, channels]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` holds ids, or `lengths` are no ids `[batch, 1]`.
pub fn global_avg_pool(graph: &mut Graph, x: TensorId, lengths: Option<TensorId>) -> Result<TensorId> {
    graph.push_one(GlobalAvgPool { lengths: lengths.is_some() }, &inputs(x, lengths))
}

/// Appends the `k` largest values of each channel of `x` `[batch, time, channels]`, in the order in which they stand there,
/// `[batch, k, channels]`, and where they are (Kalchbrenner et al. 2014). Of equal values the first ones are taken. A sequence of
/// fewer than `k` positions is followed by zeros. [`dynamic_k`] gives the `k` of their dynamic pooling.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `k` is 0 or more than the time, there are more than 2²⁴ positions, or `lengths` are no ids
/// `[batch, 1]`.
pub fn k_max_pool(graph: &mut Graph, x: TensorId, k: usize, lengths: Option<TensorId>) -> Result<Pooled> {
    pooled(graph, KMaxPool { k, lengths: lengths.is_some() }, x, lengths)
}

/// The `k` of convolution `layer` of `layers`, counted from 1, over a sequence of `time` positions: `max(top, ⌈(layers − layer) /
/// layers · time⌉)`, at most `time`; `top` is the last layer's (Kalchbrenner et al. 2014, section 3.4).
pub fn dynamic_k(top: usize, layer: usize, layers: usize, time: usize) -> usize {
    (layers.saturating_sub(layer) * time).div_ceil(layers.max(1)).max(top).min(time)
}

fn inputs(x: TensorId, lengths: Option<TensorId>) -> Vec<TensorId> {
    [x].into_iter().chain(lengths).collect()
}

fn local(
    graph: &mut Graph,
    x: TensorId,
    windows: Windows,
    pooling: Pooling,
    lengths: Option<TensorId>,
) -> Result<TensorId> {
    graph.push_one(Pool { windows, pooling, lengths: lengths.is_some() }, &inputs(x, lengths))
}

fn pooled(graph: &mut Graph, op: impl Op + 'static, x: TensorId, lengths: Option<TensorId>) -> Result<Pooled> {
    let outputs = graph.push(op, &inputs(x, lengths))?;
    Ok(Pooled { values: outputs[0], positions: outputs[1] })
}

/// Positions are told as `f32`, which are exact up to here.
const MOST_POSITIONS: usize = 1 << 24;

pub(crate) fn check_positions(op: &dyn Op, x: Shape) -> Result<()> {
    if x.time <= MOST_POSITIONS {
        return Ok(());
    }
    Err(shape_error(op, format!("{x} has more than 2^24 positions; pool windows of it first")))
}

/// Checks that the inputs are `reals` tensors and, where there are `lengths`, those of the first.
fn check_inputs(op: &dyn Op, inputs: &[Shape], reals: usize, lengths: bool) -> Result<()> {
    let mut kinds = vec![Kind::Real; reals];
    kinds.extend(lengths.then_some(Kind::Ids));
    expect_kinds(op, inputs, &kinds)?;
    match (inputs, lengths) {
        ([x, .., lengths], true) => expect_same(op, *lengths, Shape::ids(x.batch, 1)),
        _ => Ok(()),
    }
}

/// How many positions of a sequence there are.
pub(crate) fn length<T>(lengths: Option<&View<'_, T>>, sequence: usize, time: usize) -> usize {
    lengths.map_or(time, |lengths| time.min(lengths.ids[sequence] as usize))
}

/// Whether a value comes before the largest so far; what is not a number is the largest of all.
#[inline(always)]
pub(crate) fn beats<T: Real>(value: T, best: T) -> bool {
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    value > best || (is_nan(value) && !is_nan(best))
}

/// The first of the largest values in `positions` of a sequence that begins at row `first`: the values, 0 if there are none, and
/// where they are, `u32::MAX` if nowhere.
fn winners<T: Real>(x: &View<'_, T>, first: usize, positions: Range<usize>, values: &mut [T], at: &mut [u32]) {
    values.fill(T::ZERO);
    at.fill(u32::MAX);
    for (number, position) in positions.enumerate() {
        let x = x.row(first + position);
        if number == 0 {
            values.copy_from_slice(x);
            at.fill(position as u32);
        } else {
            take_larger(x, position as u32, values, at);
        }
    }
}

vector_kernel! {
    /// Puts what beats the largest so far in its place.
    fn take_larger<'a, T: Real>(x: &'a [T], position: u32, values: &'a mut [T], at: &'a mut [u32]) -> () {
        for ((value, at), &x) in values.iter_mut().zip(at).zip(x) {
            let wins = beats(x, *value);
            *value = if wins { x } else { *value };
            *at = if wins { position } else { *at };
        }
    }
}

/// Where lengths lie, or something that is never read.
fn lengths_or<'a>(lengths: Option<&'a Operand>, x: &'a Operand) -> crate::graph::Binding {
    lengths.unwrap_or(x).binding
}

/// The inputs of a random case.
fn case_inputs(random: &mut Random, shape: Shape) -> (bool, Vec<CaseInput>) {
    let lengths = random.below(2) == 0;
    let mut inputs = vec![CaseInput::real(shape)];
    if lengths {
        // From none to more than there are.
        let classes = shape.time + 1 + random.below(2) as usize;
        inputs.push(CaseInput::Ids { shape: Shape::ids(shape.batch, 1), classes, masked: false });
    }
    (lengths, inputs)
}

/// A random size, of which few values are close to each other.
fn case_shape(random: &mut Random) -> Shape {
    let channels = [1, 2, 3, 4, 5, 8, 17][random.below(7) as usize];
    Shape::new(1 + random.below(3) as usize, 1 + random.below(40) as usize, channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_k_is_that_of_the_paper() {
        // The example of section 3.4: a sentence of 18 words, three layers, a top of 3.
        assert_eq!([1, 2, 3].map(|layer| dynamic_k(3, layer, 3, 18)), [12, 6, 3]);
        assert_eq!(dynamic_k(3, 1, 2, 7), 4);
        assert_eq!(dynamic_k(5, 2, 2, 4), 4);
        assert_eq!(dynamic_k(3, 1, 0, 9), 3);
    }

    #[test]
    fn what_is_not_a_number_wins_and_the_first_of_equals() {
        let data = [1.0, f64::NAN, 3.0, 3.0, f64::NAN, 0.0, f64::NEG_INFINITY, 0.0];
        let x = View { data: &data, ids: &[], shape: Shape::new(1, 2, 4), stride: 4 };
        let (mut values, mut at) = ([0.0; 4], [0; 4]);
        winners(&x, 0, 0..2, &mut values, &mut at);
        assert_eq!(at, [1, 0, 0, 0]);
        assert!(values[0].is_nan() && values[1].is_nan() && values[2..] == [3.0, 3.0]);
        winners(&x, 0, 1..1, &mut values, &mut at);
        assert_eq!((values, at), ([0.0; 4], [u32::MAX; 4]));
    }
}
