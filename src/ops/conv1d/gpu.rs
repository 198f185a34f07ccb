//! The convolution family on the GPU: which kernel, and its parameters (`shaders/shared/product.wgsl`).

use bytemuck::{Pod, Zeroable};

use super::geometry::RowMap;
use super::tiles::{Kernel, Problem};
use crate::device::{Capabilities, Choice};
use crate::error::Result;
use crate::graph::{Binding, Dispatch, Operand};
use crate::ops::Activation;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    src_time: u32,
    src_channels: u32,
    n: u32,
    step: i32,
    shift: i32,
    weight_offset4: u32,
    weight_stride4: u32,
    bias_offset4: u32,
    src_offset4: u32,
    src_stride4: u32,
    dst_offset4: u32,
    dst_stride4: u32,
    add_offset4: u32,
    add_stride4: u32,
    add_time: u32,
    pre_offset4: u32,
    pre_stride4: u32,
    weight_columns4: u32,
    slope: f32,
    taps: u32,
}

/// What happens to a sum, with bias and addend, before it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    Activation(Activation),
    /// The target gets the gated half of the sum `[a | b]`, and the operand, where somebody needs it, the sum.
    Gate(&'a Operand),
    /// The sum is the gradient of the gate of this operand, and the target gets that of the operand.
    GateGradient(&'a Operand),
}

/// One product of the family, for [`dispatch`](Product::dispatch).
pub(crate) struct Product<'a> {
    pub source: &'a Operand,
    pub weight: &'a Operand,
    pub target: &'a Operand,
    /// Channels of the result: the target's, but for the gate's gradient half of them.
    pub columns: usize,
    pub map: RowMap,
    pub taps: usize,
    pub transposed: bool,
    pub bias: Option<&'a Operand>,
    /// Added before the activation; of one position, it serves the whole sequence.
    pub add: Option<&'a Operand>,
    pub epilogue: Epilogue<'a>,
}

impl Product<'_> {
    pub fn dispatch(&self, capabilities: &Capabilities) -> Result<Dispatch> {
        Ok(self.dispatch_as(self.planned().kernel(capabilities)?))
    }

    /// What the kernel is chosen by.
    pub fn planned(&self) -> Problem {
        self.problem(self.target.planned.rows())
    }

    fn problem(&self, rows: usize) -> Problem {
        Problem {
            rows,
            columns: self.columns,
            gate: matches!(self.epilogue, Epilogue::Gate(_)),
            channels: self.source.shape.channels,
            transposed: self.transposed,
            half: self.source.half && self.weight.half && self.target.half,
        }
    }

    /// The same with a kernel already chosen.
    pub(super) fn dispatch_as(&self, choice: Choice<Kernel>) -> Dispatch {
        let (kernel, rows) = (choice.value, self.target.shape.rows());
        let problem = self.problem(rows);
        let place = |operand: Option<&Operand>| operand.map_or((0, 0), Operand::place4);
        let (pre, activation) = match self.epilogue {
            Epilogue::Activation(activation) => (None, activation),
            Epilogue::Gate(pre) | Epilogue::GateGradient(pre) => (Some(pre), Activation::Identity),
        };
        let (src_offset4, src_stride4) = self.source.place4();
        let (dst_offset4, dst_stride4) = self.target.place4();
        let (weight_offset4, weight_stride4) = self.weight.place4();
        let (add_offset4, add_stride4) = place(self.add);
        let (pre_offset4, pre_stride4) = place(pre);
        let workgroups = kernel.workgroups(&problem);
        let params = Params {
            workgroups: workgroups as u32,
            rows: rows as u32,
            time: self.target.shape.time as u32,
            src_time: self.source.shape.time as u32,
            src_channels: self.source.shape.channels as u32,
            n: self.columns as u32,
            step: self.map.step as i32,
            shift: self.map.shift as i32,
            weight_offset4,
            weight_stride4,
            bias_offset4: place(self.bias).0,
            src_offset4,
            src_stride4,
            dst_offset4,
            dst_stride4,
            add_offset4,
            add_stride4,
            add_time: self.add.map_or(0, |add| add.shape.time as u32),
            pre_offset4,
            pre_stride4,
            weight_columns4: if problem.gate { 2 } else { 1 } * self.columns.div_ceil(4) as u32,
            slope: activation.slope(),
            taps: self.taps as u32,
        };
        // Bindings have fixed places; one that a variant does not use is the weights once more.
        let or_weight = |operand: Option<&Operand>| operand.unwrap_or(self.weight).binding;
        let own = kernel.dispatch(&problem);
        // Divisions by what the compiler knows cost little. Without divisions by it, fewer pipelines are better.
        let own = match kernel {
            Kernel::Registers(_) => own,
            _ => own.constant("TAPS", self.taps as u32).constant("SRC4", self.source.channels4()),
        };
        let dispatch = own
            .define("BIAS", self.bias.is_some())
            .define("ADD", self.add.is_some())
            .define("TRANSPOSED", self.transposed)
            .define("GATE_GRADIENT", matches!(self.epilogue, Epilogue::GateGradient(_)))
            .define("GATE", problem.gate)
            .define("SAVE", problem.gate && pre.is_some_and(|pre| pre.needed))
            .constant("ACTIVATION", activation.code())
            .constant("MULTIPLY", self.map.multiply as u32)
            .constant("DIVIDE", self.map.divide as u32)
            .read(self.source.binding)
            .read(self.weight.binding)
            .write(self.target.binding)
            .read(or_weight(self.bias))
            .read(or_weight(self.add));
        let dispatch = match self.epilogue {
            Epilogue::Gate(pre) if pre.needed => dispatch.write(pre.binding),
            Epilogue::Gate(_) => dispatch.write(Binding::Scratch { index: 0, elements: 4 }),
            _ => dispatch.read(or_weight(pre)),
        };
        dispatch.params(&params).workgroups(workgroups).variant(choice)
    }
}
