//! Between `f32` and `f16`: the one operator that a graph appends by itself, where a tensor of an `f16` program is stored
//! in one and read in the other.

use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::error::Result;
use crate::graph::carry::Carry;
use crate::graph::{
    CpuRun, Dispatch, FullPrecision, GpuPlan, Graph, Kind, Node, Op, Precision, Real, Role, Shape, State, Tensor,
    TensorId, cpu_reference, expect_kinds, for_row_tiles,
};

/// A copy in the other precision; just a copy on the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cast;

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    channels4: u32,
    x_offset4: u32,
    x_stride4: u32,
    y_offset4: u32,
    y_stride4: u32,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &[Kind::Real])?;
        Ok(inputs.to_vec())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let (x, y) = (&plan.inputs[0], &plan.outputs[0]);
        let (x_offset4, x_stride4) = x.place4();
        let (y_offset4, y_stride4) = y.place4();
        let (rows, channels4) = (x.shape.rows(), x.channels4());
        let params = Params { rows: rows as u32, channels4, x_offset4, x_stride4, y_offset4, y_stride4 };
        Ok(vec![
            Dispatch::new("cast", "main")
                .define("TO_HALF", y.half)
                .read(x.binding)
                .write(y.binding)
                .params(&params)
                .workgroups((rows * channels4 as usize).div_ceil(256)),
        ])
    }
}

impl Cast {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        let (x, y) = (&run.inputs[0], &mut run.outputs[0]);
        let (rows, stride, padded) = (y.shape.rows(), y.stride, y.shape.stride());
        for_row_tiles(y.data, stride, rows, |first, chunk| {
            for (row, values) in chunk.chunks_mut(stride).enumerate() {
                values[..padded].copy_from_slice(x.row(first + row));
            }
        });
        Ok(())
    }
}

/// What a graph has been rewritten to so far.
#[derive(Default)]
struct Rewritten {
    nodes: Vec<Node>,
    /// The copies of tensors in the other precision.
    copies: HashMap<TensorId, TensorId>,
    /// The copy of all parameters.
    params: Option<TensorId>,
}

impl Graph {
    /// Decides which tensors of an `f16` program devices store as `f16`, and appends copies where an operator needs the
    /// other precision. Metrics come back as `f32`; what is carried is stored as the input that it becomes.
    ///
    /// Operators read parameters from a copy of the whole vector, made anew in every step: so it is right whoever wrote
    /// the parameters, and neither stores nor checkpoints know of it.
    pub(super) fn store_halves(&mut self, metrics: &mut [TensorId], carries: &mut [Carry]) -> Result<()> {
        if self.precision == Precision::F32 {
            return Ok(());
        }
        for tensor in &mut self.tensors {
            tensor.half = matches!(tensor.role, Role::Input(_)) && tensor.shape.kind == Kind::Real;
        }
        let mut rewritten = Rewritten::default();
        for node in std::mem::take(&mut self.nodes) {
            self.rewrite(node, &mut rewritten)?;
        }
        for metric in metrics {
            *metric = self.stored(*metric, true, &mut rewritten)?;
        }
        for carry in carries {
            carry.next = self.stored(carry.next, !self.tensor(carry.state).half, &mut rewritten)?;
        }
        self.nodes = rewritten.nodes;
        Ok(())
    }

    fn rewrite(&mut self, mut node: Node, rewritten: &mut Rewritten) -> Result<()> {
        let full = node.op.full_precision();
        let is_real = |graph: &Self, t: TensorId| graph.shape(t).kind == Kind::Real;
        let is_param = |graph: &Self, t: TensorId| matches!(graph.tensor(t).role, Role::Param(_));
        let is_full = |graph: &Self, t: TensorId| is_real(graph, t) && !graph.tensor(t).half;
        let is_grad = |graph: &Self, t: TensorId| matches!(graph.tensor(t).role, Role::Grad(_));
        let everywhere = match full {
            FullPrecision::Everywhere => true,
            // Parameters are there in both.
            FullPrecision::AsInputs if !node.inputs.is_empty() => {
                node.inputs.iter().any(|&t| is_full(self, t) && !is_param(self, t))
            }
            FullPrecision::AsInputs => node.outputs.iter().any(|&t| is_grad(self, t)),
            _ => false,
        };
        for (position, input) in node.inputs.iter_mut().enumerate() {
            if is_real(self, *input) {
                let from = match full {
                    FullPrecision::InputsFrom(first) | FullPrecision::From { inputs: first, .. } => position >= first,
                    _ => false,
                };
                *input = self.stored(*input, everywhere || from, rewritten)?;
            }
        }
        let mut casts = vec![];
        for (position, output) in node.outputs.iter_mut().enumerate() {
            let gives_full = match full {
                FullPrecision::Outputs => true,
                FullPrecision::From { outputs, .. } => position >= outputs,
                _ => everywhere,
            };
            match self.tensor(*output).role {
                Role::Value => self.tensors[output.index()].half = is_real(self, *output) && !gives_full,
                Role::Grad(_) if !gives_full => {
                    let gradient = *output;
                    *output = self.new_tensor("", self.shape(gradient), Role::Value, false);
                    self.tensors[output.index()].half = true;
                    casts.push(Node { op: Arc::new(Cast), inputs: vec![*output], outputs: vec![gradient] });
                }
                // The copies of what it updates in place are old now.
                Role::State(State::Params) => {
                    rewritten.params = None;
                    rewritten.copies.clear();
                }
                _ => {}
            }
        }
        rewritten.nodes.push(node);
        rewritten.nodes.extend(casts);
        Ok(())
    }

    /// A real tensor in the precision that is asked for: itself, or a copy.
    fn stored(&mut self, tensor: TensorId, full: bool, rewritten: &mut Rewritten) -> Result<TensorId> {
        let Role::Param(param) = self.tensor(tensor).role else {
            return match self.tensor(tensor).half == full {
                true => self.copied(tensor, rewritten),
                false => Ok(tensor),
            };
        };
        if full {
            return Ok(tensor);
        }
        if let Some(&half) = rewritten.copies.get(&tensor) {
            return Ok(half);
        }
        let of = match rewritten.params {
            Some(params) => params,
            None => {
                let flat = self.state(State::Params, self.params.flat_len());
                let params = self.copied(flat, rewritten)?;
                self.set_name(params, "params as f16");
                *rewritten.params.insert(params)
            }
        };
        let Tensor { name, shape, .. } = self.tensor(tensor).clone();
        let offset = self.params.get(param).map_or(0, |param| param.offset);
        let half = self.new_tensor(&name, shape, Role::Within { of, offset }, false);
        self.tensors[half.index()].half = true;
        rewritten.copies.insert(tensor, half);
        Ok(half)
    }

    fn copied(&mut self, tensor: TensorId, rewritten: &mut Rewritten) -> Result<TensorId> {
        if let Some(&copy) = rewritten.copies.get(&tensor) {
            return Ok(copy);
        }
        let copy = self.new_tensor("", self.shape(tensor), Role::Value, false);
        self.tensors[copy.index()].half = !self.tensor(tensor).half;
        rewritten.nodes.push(Node { op: Arc::new(Cast), inputs: vec![tensor], outputs: vec![copy] });
        rewritten.copies.insert(tensor, copy);
        Ok(copy)
    }
}
