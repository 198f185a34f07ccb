//! Recurrent layers on the GPU: a workgroup walks through time with a sequence, or, where a layer is too wide for that, a step is
//! a dispatch.

use bytemuck::{Pod, Zeroable};

use super::cell::{Cell, Layout};
use super::grad::RecurrentGrad;
use super::{Recurrent, optional};
use crate::device::{Capabilities, Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{Binding, Dispatch, GpuPlan, Operand, Shape};
use crate::ops::transpose::Transpose;

/// What a kernel is chosen by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    layout: Layout,
    backward: bool,
}

/// How a layer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// A workgroup a sequence, of `units` by `slices` threads; each sums `depth` weights of a unit, from registers or from memory.
    Walk { units: usize, slices: usize, depth: usize, registers: bool },
    /// A dispatch a step.
    Step,
}

/// Weights that a thread can keep: a GPU has 255 registers for it at most.
const REGISTERS: usize = 192;
/// Units of a layer for which a workgroup's walk is faster than a dispatch a step, by estimate: beyond, reading the weights once
/// for each sequence takes longer than a dispatch.
const WALK: usize = 256;
/// Threads of a workgroup.
const THREADS: usize = 256;
/// Multiply-adds of a sequence in a dispatch, about: none may hold a GPU for long.
const WORK: usize = 1 << 23;
/// Steps of a dispatch at most, however little each does: a step takes as long as its barriers and loads at least.
const STEPS: usize = 1 << 12;
/// Units and sequences of a workgroup of a single step.
const TILE: [usize; 2] = [32, 8];

impl Problem {
    fn walk(&self, capabilities: &Capabilities, registers: bool) -> Result<Kernel, String> {
        let (block, gates) = (self.layout.block(), self.layout.cell.gates());
        let split = |slices: usize| block.div_ceil(slices).next_multiple_of(4);
        let slices = match registers {
            true => [1, 2, 4].into_iter().find(|&slices| gates * split(slices) <= REGISTERS),
            // Enough threads to hide how long memory takes; on a CPU there is nothing to hide.
            false if capabilities.software => Some(1),
            false => {
                [8, 4, 2, 1].into_iter().find(|&slices| block * slices <= THREADS && split(slices) >= 8 || slices == 1)
            }
        };
        let slices = slices.ok_or_else(|| format!("{} units are too many for registers", self.layout.hidden))?;
        let slices = match self.layout.cell.resets_before() {
            true if registers && slices > 1 => return Err(format!("{} units need slices", self.layout.hidden)),
            true => 1,
            false => slices,
        };
        let kernel = Kernel::Walk { units: block.min(THREADS / slices), slices, depth: split(slices), registers };
        if block * slices > THREADS && (slices > 1 || registers) {
            return Err(format!("{} threads", block * slices));
        }
        let bytes = self.workgroup_bytes(&kernel);
        match bytes <= capabilities.workgroup_bytes as usize {
            true => Ok(kernel),
            false => Err(format!("{bytes} bytes of workgroup memory")),
        }
    }

    fn workgroup_bytes(&self, kernel: &Kernel) -> usize {
        let Kernel::Walk { units, slices, depth, .. } = *kernel else { return 8192 };
        let partials = if slices > 1 { units * slices } else { 1 };
        let (state, cell, layout) = (slices * depth, self.layout.cell, self.layout);
        let one = usize::from;
        if self.backward {
            let arrays = 5 + one(layout.cell_state().is_some()) + one(cell.resets_before());
            return 4 * (arrays * state + partials + 2);
        }
        let arrays = 2 + one(layout.mask) + one(layout.cell_state().is_some()) + 3 * one(cell.resets_before());
        4 * (arrays * state + 4 * partials + 5)
    }

    /// Steps of a dispatch.
    fn steps(&self) -> usize {
        (WORK / (self.layout.width() * self.layout.hidden)).clamp(1, STEPS)
    }
}

macro_rules! variants {
    () => {
        &[
            Variant {
                name: "registers",
                admits: |problem, capabilities| problem.walk(capabilities, true),
                suits: always,
            },
            Variant {
                name: "walk",
                admits: |problem, capabilities| problem.walk(capabilities, false),
                suits: |problem, _| match problem.layout.hidden {
                    hidden if hidden <= WALK => Ok(()),
                    hidden => Err(format!("{hidden} units are more than {WALK}")),
                },
            },
            Variant { name: "step", admits: |_, _| Ok(Kernel::Step), suits: always },
        ]
    };
}

/// In order of preference.
pub(crate) const VARIANTS: &[Variant<Problem, Kernel>] = variants!();
/// The same of the gradient.
pub(crate) const GRAD_VARIANTS: &[Variant<Problem, Kernel>] = variants!();

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    batch: u32,
    time: u32,
    hidden: u32,
    block: u32,
    first: u32,
    steps: u32,
    resumed: u32,
    x_offset: u32,
    x_stride: u32,
    weight_offset: u32,
    weight_stride: u32,
    bias_offset: u32,
    initial_offset: u32,
    initial_stride: u32,
    mask_offset: u32,
    mask_stride: u32,
    states_offset: u32,
    states_stride: u32,
    saved_offset: u32,
    saved_stride: u32,
    saved_time: u32,
    product: u32,
}

impl Params {
    fn new(layout: &Layout, shape: Shape, x: &Operand, weight: &Operand, states: &Operand, saved: &Operand) -> Self {
        Self {
            batch: shape.batch as u32,
            time: shape.time as u32,
            hidden: layout.hidden as u32,
            block: layout.block() as u32,
            x_offset: x.offset as u32,
            x_stride: x.stride as u32,
            weight_offset: weight.offset as u32,
            weight_stride: weight.stride as u32,
            states_offset: states.offset as u32,
            states_stride: states.stride as u32,
            saved_offset: saved.offset as u32,
            saved_stride: saved.stride as u32,
            product: layout.product_gradient() as u32,
            ..Self::zeroed()
        }
    }

    fn with_mask(self, mask: Option<&Operand>) -> Self {
        let (mask_offset, mask_stride) = mask.map_or((0, 0), |mask| (mask.offset as u32, mask.stride as u32));
        Self { mask_offset, mask_stride, ..self }
    }

    fn with_initial(self, initial: Option<&Operand>) -> Self {
        let (initial_offset, initial_stride) =
            initial.map_or((0, 0), |state| (state.offset as u32, state.stride as u32));
        Self { initial_offset, initial_stride, ..self }
    }
}

/// One dispatch of the walk: its first step, how many, and of which phase.
#[derive(Debug, Clone, Copy)]
struct Part {
    first: usize,
    steps: usize,
    phase: u32,
    /// Beyond the last step backward.
    last: bool,
}

impl Kernel {
    fn workgroups(&self, layout: &Layout, batch: usize) -> usize {
        match self {
            Self::Walk { .. } => batch,
            Self::Step => layout.block().div_ceil(TILE[0]) * batch.div_ceil(TILE[1]),
        }
    }

    /// The dispatches of `planned` steps, in the order of time.
    fn parts(&self, problem: &Problem, planned: usize) -> Vec<Part> {
        let steps = if *self == Self::Step { 1 } else { problem.steps().min(planned) };
        let phases = if *self == Self::Step && problem.layout.cell.resets_before() { 2 } else { 1 };
        let firsts = (0..planned).step_by(steps);
        firsts.flat_map(|first| (0..phases).map(move |phase| Part { first, steps, phase, last: false })).collect()
    }

    /// A dispatch without its operands.
    fn dispatch(&self, problem: &Problem, forward: &Recurrent) -> Dispatch {
        let layout = &problem.layout;
        let shader = match (self, problem.backward) {
            (Self::Walk { .. }, false) => "recurrent",
            (Self::Walk { .. }, true) => "recurrent_grad",
            (Self::Step, false) => "recurrent_step",
            (Self::Step, true) => "recurrent_grad_step",
        };
        let cell = forward.cell;
        let dispatch = Dispatch::new(shader, "main")
            .define("ELMAN", matches!(cell, Cell::Elman { .. }))
            .define("RELU", cell == Cell::Elman { relu: true })
            .define("GRU", matches!(cell, Cell::Gru { .. }))
            .define("RESET_BEFORE", cell.resets_before())
            .define("LSTM", matches!(cell, Cell::Lstm { .. }))
            .define("HARD", cell.is_hard())
            .define("MASK", forward.mask)
            .define("LENGTHS", forward.lengths)
            .constant("REVERSE", u32::from(forward.reverse));
        let Self::Walk { units, slices, depth, registers } = *self else { return dispatch };
        let state = slices * depth;
        let size = |there: bool, size: usize| if there { size as u32 } else { 1 };
        let dispatch = dispatch
            .define("REGISTERS", registers)
            .constant("UNITS", units as u32)
            .constant("SLICES", slices as u32)
            .constant("THREADS", (units * slices) as u32)
            .constant("DEPTH", depth as u32)
            .constant("STATE", state as u32)
            .constant("CELLS", size(layout.cell_state().is_some(), state))
            .constant("RESETS", size(cell.resets_before(), state))
            .constant("PARTIALS", size(slices > 1, units * slices));
        match problem.backward {
            true => dispatch,
            false => dispatch.constant("STATE_TWICE", 2 * state as u32).constant("MASKED", size(forward.mask, state)),
        }
    }
}

impl Recurrent {
    pub(super) fn dispatches(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [bias, initial, mask, lengths] = self.positions().map(|position| optional(plan.inputs, position));
        let (x, weight, states, saved) = (&plan.inputs[0], &plan.inputs[1], &plan.outputs[0], &plan.outputs[1]);
        let problem = Problem { layout: self.layout(weight.shape.time), backward: false };
        let layout = &problem.layout;
        let choice = choose("recurrent", VARIANTS, &problem, plan.capabilities)?;
        let kernel = choice.value;
        // A gate that is made in a dispatch of its own has to be kept until the next.
        let keeps = kernel == Kernel::Step && self.cell.resets_before();
        let row = Shape::new(x.planned.batch, 1, layout.saved());
        let kept = Operand::scratch(0, row, row, saved);
        let saved = if saved.needed || !keeps { *saved } else { kept };
        let params = Params {
            bias_offset: bias.map_or(0, |bias| bias.offset as u32),
            saved_time: u32::from(matches!(saved.binding, Binding::Scratch { .. })),
            ..Params::new(layout, x.shape, x, weight, states, &saved).with_mask(mask).with_initial(initial)
        };
        let or_weight = |operand: Option<&Operand>| operand.unwrap_or(weight).binding;
        let dispatch = |part: Part| {
            let steps = part.steps.min(x.shape.time.saturating_sub(part.first));
            let workgroups = if steps == 0 { 0 } else { kernel.workgroups(layout, x.shape.batch) };
            let (workgroups_of, first, steps) = (workgroups as u32, part.first as u32, steps as u32);
            let params = Params { workgroups: workgroups_of, first, steps, ..params };
            let own = kernel.dispatch(&problem, self);
            let own =
                if kernel == Kernel::Step { own.constant("PHASE", if keeps { part.phase } else { 1 }) } else { own };
            own.define("KEPT", keeps)
                .define("BIAS", self.bias)
                .define("INITIAL", self.initial)
                .define("SAVE", saved.needed)
                .read(x.binding)
                .read(weight.binding)
                .write(states.binding)
                .write(if saved.needed { saved.binding } else { Binding::Scratch { index: 1, elements: 4 } })
                .read(or_weight(bias))
                .read(or_weight(initial))
                .read(or_weight(mask))
                .read(or_weight(lengths))
                .params(&params)
                .workgroups(workgroups)
                .variant(named(&choice))
        };
        Ok(kernel.parts(&problem, x.planned.time).into_iter().map(dispatch).collect())
    }
}

fn named(choice: &Choice<Kernel>) -> Choice<()> {
    choice.clone().without_value()
}

impl RecurrentGrad {
    pub(super) fn dispatches(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let [mask, lengths] = self.positions().map(|position| optional(plan.inputs, position));
        let (dstates, saved, weight) = (&plan.inputs[0], &plan.inputs[1], &plan.inputs[2]);
        let (d, carry) = (&plan.outputs[0], &plan.outputs[1]);
        let problem = Problem { layout: self.forward.layout(weight.shape.time), backward: true };
        let layout = &problem.layout;
        let choice = choose("recurrent_grad", GRAD_VARIANTS, &problem, plan.capabilities)?;
        let kernel = choice.value;
        let params = Params::new(layout, d.shape, dstates, weight, d, saved).with_mask(mask).with_initial(Some(carry));
        // Units that lie side by side read weights that do, unless they read them once.
        let transposed = !matches!(kernel, Kernel::Walk { registers: true, .. });
        let transpose = Binding::Scratch { index: 0, elements: layout.width() * layout.block() };
        let weights = if transposed { transpose } else { weight.binding };
        let (time, batch) = (d.shape.time, d.shape.batch);
        let dispatch = |part: Part| {
            let steps = if part.last { 1 } else { part.steps.min(time.saturating_sub(part.first)) };
            let workgroups = if steps == 0 { 0 } else { kernel.workgroups(layout, batch) };
            let resumed = u32::from(part.last || part.first + steps < time);
            let (workgroups_of, first, steps) = (workgroups as u32, part.first as u32, steps as u32);
            let params = Params { workgroups: workgroups_of, first, steps, resumed, ..params };
            let own = kernel.dispatch(&problem, &self.forward).define("TRANSPOSED", transposed);
            let own = match kernel {
                Kernel::Step => own.constant("PHASE", part.phase).constant("LAST", u32::from(part.last)),
                Kernel::Walk { .. } => own,
            };
            own.read(dstates.binding)
                .read(weights)
                .write(d.binding)
                .write(carry.binding)
                .read(saved.binding)
                .read(mask.unwrap_or(weight).binding)
                .read(lengths.unwrap_or(weight).binding)
                .params(&params)
                .workgroups(workgroups)
                .variant(named(&choice))
        };
        let mut parts = kernel.parts(&problem, d.planned.time);
        parts.sort_by_key(|part| (std::cmp::Reverse(part.first), part.phase));
        if kernel == Kernel::Step {
            parts.push(Part { first: 0, steps: 1, phase: 0, last: true });
        }
        let mut dispatches = Vec::with_capacity(parts.len() + 1);
        if transposed {
            let (rows, columns) = (layout.hidden, layout.width());
            let copy = Transpose { rows, columns, y_stride: layout.block(), group: rows, group_stride: rows };
            dispatches.push(copy.dispatch(weight, transpose));
        }
        dispatches.extend(parts.into_iter().map(dispatch));
        Ok(dispatches)
    }
}
