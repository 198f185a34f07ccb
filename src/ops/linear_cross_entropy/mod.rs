//! A linear layer and softmax cross-entropy in one, for many classes: their logits are never there as a whole.

mod cpu;
mod gpu;
mod grad;

use crate::error::Result;
use crate::graph::{
    Cost, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Kind, Op, Shape, TensorId, cpu_reference, expect_kinds,
    shape_error,
};
use crate::ops::{Case, CaseInput, CrossEntropy};
use crate::random::Random;

use grad::LinearCrossEntropyGrad;

/// [`softmax_cross_entropy`](crate::ops::softmax_cross_entropy()) of the logits `x · Wᵀ + b`.
///
/// Inputs: `x` `[batch, time, channels]`, `W` `[classes, channels]`, a row a class as in an embedding's table, where `bias` a vector
/// `[classes]`, targets `[batch, time]`. Outputs: as there; of the logarithms of the softmax's denominators no gradient is taken.
///
/// The classes are taken in groups, whose largest logits and sums of exponentials are then joined (Milakov and Gimelshein 2018). The
/// gradient computes the logits of a group once more. What takes most memory is a group's logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearCrossEntropy {
    /// Whether there is a bias.
    pub bias: bool,
    /// Classes of a group, at most, a multiple of 4; nothing for as many as have logits within 32 MiB.
    pub group: Option<usize>,
}

/// Appends the softmax cross-entropy of `x · weightᵀ + bias` and `targets` `[batch, time]`, where `x` is `[batch, time, channels]` and
/// `weight` `[classes, channels]`, such as the table of an embedding: the mean over the positions whose target is not
/// [`Shape::MASKED`], 0 if there is none. A target that is no class makes the loss NaN.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn linear_cross_entropy(
    graph: &mut Graph,
    x: TensorId,
    weight: TensorId,
    bias: Option<TensorId>,
    targets: TensorId,
) -> Result<CrossEntropy> {
    let inputs: Vec<TensorId> = [x, weight].into_iter().chain(bias).chain([targets]).collect();
    let outputs = graph.push(LinearCrossEntropy { bias: bias.is_some(), group: None }, &inputs)?;
    Ok(CrossEntropy { loss: outputs[0], log_sum_exp: outputs[1], count: outputs[2] })
}

/// Elements of the logits of a group, and of the partial sums of its weights' gradient: 32 MiB each.
const ELEMENTS: usize = 1 << 23;
/// Classes of a group, at least, and what it is a multiple of: whole tiles of products.
const TILE: usize = 128;

/// The classes of each group: first and count. By the planned number of rows.
fn groups(weight: Shape, rows: usize, most: Option<usize>) -> Vec<(usize, usize)> {
    let classes = weight.time;
    let size = match most {
        Some(most) => most.next_multiple_of(4).max(4),
        None => {
            let most = (ELEMENTS / rows.max(weight.stride()).max(1) / TILE * TILE).max(TILE);
            // Of about the same size.
            classes.div_ceil(classes.div_ceil(most)).next_multiple_of(TILE).min(most)
        }
    };
    (0..classes).step_by(size).map(|first| (first, size.min(classes - first))).collect()
}

fn check(op: &dyn Op, inputs: &[Shape], bias: bool) -> Result<()> {
    let (x, weight, targets) = (inputs[0], inputs[1], inputs[2 + usize::from(bias)]);
    if weight.batch != 1 || weight.channels != x.channels {
        return Err(shape_error(op, format!("weight {weight} must be [classes, channels] for input {x}")));
    }
    if bias && inputs[2] != Shape::vector(weight.time) {
        return Err(shape_error(op, format!("bias {} does not fit weight {weight}", inputs[2])));
    }
    if (x.batch, x.time) != (targets.batch, targets.time) {
        return Err(shape_error(op, format!("input {x} and targets {targets} must have the same batch and time")));
    }
    Ok(())
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let mut kinds = vec![Kind::Real; 2 + usize::from(self.bias)];
        kinds.push(Kind::Ids);
        expect_kinds(self, inputs, &kinds)?;
        check(self, inputs, self.bias)?;
        Ok(vec![Shape::scalar(), inputs[0].with_channels(1), Shape::scalar()])
    }

    fn full_precision(&self) -> FullPrecision {
        FullPrecision::Outputs
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dloss) = gradient.of_output(0) else { return Ok(()) };
        let mut inputs = gradient.inputs().to_vec();
        inputs.extend([gradient.output(1), gradient.output(2), dloss]);
        let parts = gradient.push(LinearCrossEntropyGrad { of: *self }, &inputs)?;
        for (position, part) in parts.into_iter().enumerate() {
            gradient.give(position, part);
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        gpu::forward(self, plan)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let weight = inputs[1];
        let product = Shape::new(1, weight.channels, weight.time);
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].rows(), product)
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let mut pick = |sizes: &[usize]| sizes[random.below(sizes.len() as u32) as usize];
    let (batch, time, channels) = (pick(&[1, 2, 3]), pick(&[1, 5, 33, 70]), pick(&[1, 3, 4, 8, 25, 33]));
    let classes = pick(&[1, 2, 5, 16, 33, 256, 300, 1030]);
    let (bias, group) = (pick(&[0, 1]) == 0, [None, Some(4), Some(32), Some(128)][pick(&[0, 1, 2, 3])]);
    // Few groups: each is some kernels.
    let group = group.filter(|group| classes <= 12 * group);
    let masked = pick(&[0, 1]) == 0;
    let mut inputs = vec![
        CaseInput::real(Shape::new(batch, time, channels)),
        // Large logits lose digits in half precision.
        CaseInput::scaled(Shape::new(1, classes, channels), [0.3, 1.0][pick(&[0, 1])] / (channels as f32).sqrt()),
    ];
    if bias {
        inputs.push(CaseInput::real(Shape::vector(classes)));
    }
    inputs.push(CaseInput::Ids { shape: Shape::ids(batch, time), classes, masked });
    Case::new(LinearCrossEntropy { bias, group }, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_within_the_memory_and_cover_all_classes() {
        for (rows, classes, channels, expected) in [
            // Penn Treebank, WikiText-103, LAMBADA, characters.
            (640, 10_000, 600, 1),
            (1280, 268_000, 400, 42),
            (1000, 112_746, 500, 14),
            (10_240, 100, 100, 1),
            (70_000, 1000, 64, 8),
        ] {
            let weight = Shape::new(1, classes, channels);
            let groups = groups(weight, rows, None);
            assert_eq!(groups.len(), expected, "{rows} rows, {classes} classes");
            let mut next = 0;
            for &(first, count) in &groups {
                assert_eq!(first, next);
                assert!(first.is_multiple_of(TILE) && count <= classes);
                assert!(count * rows <= ELEMENTS.max(rows * TILE) && count * channels <= ELEMENTS);
                next = first + count;
            }
            assert_eq!(next, classes);
        }
        let four = groups(Shape::new(1, 10, 8), 3, Some(3));
        assert_eq!(four, [(0, 4), (4, 4), (8, 2)]);
    }
}
