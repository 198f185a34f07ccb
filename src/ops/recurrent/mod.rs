//! Recurrent layers: a walk through time of the part of a layer that depends on its own past.

mod cell;
mod cpu;
mod gpu;
mod grad;

use crate::error::{Error, Result};
use crate::graph::{
    Cost, CpuRun, Dispatch, FullPrecision, GpuPlan, Gradient, Graph, Op, Real, Shape, TensorId, cpu_reference,
    shape_error,
};
use crate::ops::conv1d::Conv1dGradWeight;
use crate::ops::{Case, CaseInput, Geometry, concat::Concat, concat::Slice};
use crate::random::Random;

pub use cell::Cell;
use cell::Layout;
pub(crate) use gpu::{GRAD_VARIANTS, VARIANTS};
use grad::RecurrentGrad;

/// The part of a recurrent layer that depends on its past; see [`recurrent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// The equations of a step.
    pub cell: Cell,
    /// Whether it walks from the end of each sequence to its start.
    pub reverse: bool,
    /// Whether there is an input with a bias of the recurrent products.
    pub bias: bool,
    /// Whether there is one with the state before the first step.
    pub initial: bool,
    /// Whether there is one with factors of the state in the recurrent products.
    pub mask: bool,
    /// Whether there is one with the lengths of the sequences.
    pub lengths: bool,
}

/// What [`recurrent`] may be given.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RecurrentInputs {
    /// A bias of the recurrent products, `[1, 1, gates · hidden]`.
    pub bias: Option<TensorId>,
    /// The state before the first step, `[batch, 1, states]`; zero where it is missing.
    pub initial: Option<TensorId>,
    /// Factors of the hidden state where it is multiplied by the weight, `[batch, 1, hidden]`, the same at all times:
    /// variational dropout (Gal and Ghahramani 2016). No gradient is taken.
    pub mask: Option<TensorId>,
    /// How many positions each sequence has, ids `[batch, 1]`, 0 to time; all where it is missing. The states beyond are
    /// zero, and reversed layers begin with the last that is there.
    pub lengths: Option<TensorId>,
    /// Whether to walk from the end to the start.
    pub reverse: bool,
}

/// Appends the recurrent part of a layer: `x` `[batch, time, gates · hidden]` is what the inputs add to the gates at each
/// step, biases included (a [`conv1d`](crate::ops::conv1d()) of one tap), `weight` `[1, hidden, gates · hidden]` multiplies the
/// state before. Gives the states after each step, `[batch, time, states]`, see [`Cell`].
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit.
pub fn recurrent(
    graph: &mut Graph,
    cell: Cell,
    x: TensorId,
    weight: TensorId,
    inputs: RecurrentInputs,
) -> Result<TensorId> {
    let RecurrentInputs { bias, initial, mask, lengths, reverse } = inputs;
    let op = Recurrent {
        cell,
        reverse,
        bias: bias.is_some(),
        initial: initial.is_some(),
        mask: mask.is_some(),
        lengths: lengths.is_some(),
    };
    let all: Vec<TensorId> = [Some(x), Some(weight), bias, initial, mask, lengths].into_iter().flatten().collect();
    Ok(graph.push(op, &all)?[0])
}

impl Recurrent {
    /// Positions of the optional inputs: bias, initial state, mask, lengths.
    fn positions(&self) -> [Option<usize>; 4] {
        let mut next = 2;
        [self.bias, self.initial, self.mask, self.lengths].map(|there| {
            let position = next;
            next += usize::from(there);
            there.then_some(position)
        })
    }

    fn layout(&self, hidden: usize) -> Layout {
        Layout::new(self.cell, hidden, self.mask)
    }
}

/// One of the optional operands.
fn optional<A>(all: &[A], position: Option<usize>) -> Option<&A> {
    position.and_then(|position| all.get(position))
}

/// Inputs: `x`, weight, and those that there are of bias, initial state, mask and lengths. Outputs: the states, and what the
/// gradient needs of each step.
impl Op for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let [bias, initial, mask, lengths] = self.positions();
        let count = 2 + [self.bias, self.initial, self.mask, self.lengths].into_iter().filter(|&there| there).count();
        if inputs.len() != count {
            return Err(shape_error(self, format!("takes {count} inputs, got {}", inputs.len())));
        }
        let (x, weight) = (inputs[0], inputs[1]);
        let (gates, hidden) = (self.cell.gates(), weight.time);
        let expect = |what: &str, found: Option<&Shape>, wanted: Shape| match found {
            Some(&found) if found != wanted => {
                Err(shape_error(self, format!("{what} must be {wanted} for x {x} and weight {weight}, got {found}")))
            }
            _ => Ok(()),
        };
        expect("weight", Some(&weight), Shape::new(1, hidden, gates * hidden))?;
        expect("x", Some(&x), Shape::new(x.batch, x.time, gates * hidden))?;
        let layout = self.layout(hidden);
        expect("bias", optional(inputs, bias), Shape::vector(gates * hidden))?;
        expect("initial state", optional(inputs, initial), Shape::new(x.batch, 1, layout.states()))?;
        expect("mask", optional(inputs, mask), Shape::new(x.batch, 1, hidden))?;
        expect("lengths", optional(inputs, lengths), Shape::ids(x.batch, 1))?;
        Ok(vec![x.with_channels(layout.states()), x.with_channels(layout.saved())])
    }

    fn full_precision(&self) -> FullPrecision {
        // A state takes part in thousands of steps.
        FullPrecision::Everywhere
    }

    fn differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let Some(dstates) = gradient.of_output(0) else { return Ok(()) };
        let [bias, initial, mask, lengths] = self.positions();
        let saved = gradient.output(1);
        let hidden = gradient.shape(gradient.input(1)).time;
        let layout = self.layout(hidden);
        let all: Vec<TensorId> = [Some(dstates), Some(saved), Some(gradient.input(1))]
            .into_iter()
            .chain([mask, lengths].map(|position| position.map(|position| gradient.input(position))))
            .flatten()
            .collect();
        let sums = gradient.push(RecurrentGrad { forward: *self }, &all)?;
        if let Some(position) = initial.filter(|&position| gradient.wanted(position)) {
            gradient.give(position, sums[1]);
        }
        let width = self.cell.gates() * hidden;
        let part = |gradient: &mut Gradient<'_>, of: TensorId, start: usize, channels: usize| match gradient.shape(of) {
            shape if start == 0 && shape.channels == channels => Ok(of),
            _ => gradient.push_one(Slice { start, channels }, &[of]),
        };
        let dx = part(gradient, sums[0], 0, width)?;
        gradient.give(0, dx);

        let bias = bias.filter(|&position| gradient.wanted(position));
        if !gradient.wanted(1) && bias.is_none() {
            return Ok(());
        }
        // What the weights multiplied, and the gradient of the product.
        let mut sources = vec![(layout.input_block(), layout.product_gradient(), width)];
        if self.cell.resets_before() {
            let first = 2 * hidden;
            sources = vec![(layout.input_block(), 0, first), (layout.reset_block(), first, hidden)];
        }
        let (mut weights, mut biases) = (vec![], vec![]);
        for (block, start, channels) in sources {
            let source = part(gradient, saved, block, hidden)?;
            let dproduct = part(gradient, sums[0], start, channels)?;
            let weight = Shape::new(1, hidden, channels);
            let op = Conv1dGradWeight { geometry: Geometry::causal(1, 1), weight, bias: bias.is_some() };
            let parts = gradient.push(op, &[source, dproduct])?;
            weights.push(parts[0]);
            biases.extend(parts.get(1));
        }
        let mut joined = |parts: Vec<TensorId>| match parts[..] {
            [part] => Ok(part),
            _ => gradient.push_one(Concat, &parts),
        };
        let dweight = joined(weights)?;
        let dbias = bias.map(|position| Ok::<_, Error>((position, joined(biases)?))).transpose()?;
        gradient.give(1, dweight);
        if let Some((position, dbias)) = dbias {
            gradient.give(position, dbias);
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        self.dispatches(plan)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost::moving(inputs.iter().chain(outputs)).with_product(inputs[0].rows(), inputs[1])
    }
}

impl Recurrent {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        cpu::forward(self, run);
        Ok(())
    }
}

pub(super) fn case(random: &mut Random) -> Case {
    let hidden = [1, 2, 3, 5, 8, 13][random.below(6) as usize];
    let (batch, time) = (1 + random.below(4) as usize, 1 + random.below(12) as usize);
    let cell = Cell::ALL[random.below(Cell::ALL.len() as u32) as usize];
    let mut flag = || random.below(2) == 0;
    let op = Recurrent { cell, reverse: flag(), bias: flag(), initial: flag(), mask: flag(), lengths: flag() };
    let width = cell.gates() * hidden;
    let mut inputs = vec![
        CaseInput::real(Shape::new(batch, time, width)),
        CaseInput::scaled(Shape::new(1, hidden, width), 1.0 / (hidden as f32).sqrt()),
    ];
    if op.bias {
        inputs.push(CaseInput::real(Shape::vector(width)));
    }
    if op.initial {
        inputs.push(CaseInput::real(Shape::new(batch, 1, op.layout(hidden).states())));
    }
    if op.mask {
        inputs.push(CaseInput::Constant { shape: Shape::new(batch, 1, hidden) });
    }
    if op.lengths {
        // Also longer ones than there are: they end with the sequence.
        inputs.push(CaseInput::Ids { shape: Shape::ids(batch, 1), classes: time + 2, masked: false });
    }
    Case::new(op, inputs)
}
