//! Tensors that lie behind one another in one buffer, so that an operator over all of them binds it once.

use crate::error::Result;
use crate::graph::{Graph, Kind, PARAM_ALIGN, Role, Shape, TensorId};

/// Which tensors of an operator should lie behind one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The first inputs, so many.
    Inputs(usize),
    /// The first outputs, so many.
    Outputs(usize),
}

impl Graph {
    /// Lets tensors lie behind one another where operators ask for it; where it can't be, operators find them apart.
    pub(super) fn pack(&mut self, kept: &[TensorId]) -> Result<()> {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let members: Vec<TensorId> = match node.op.packing() {
                None => continue,
                Some(Packing::Inputs(count)) => node.inputs.iter().take(count).copied().collect(),
                Some(Packing::Outputs(count)) => node.outputs.iter().take(count).copied().collect(),
            };
            let alike = |t: TensorId| self.tensor(t).half == self.tensor(members[0]).half;
            let free = |t: TensorId| {
                let tensor = self.tensor(t);
                tensor.role == Role::Value && tensor.shape.kind == Kind::Real && !kept.contains(&t)
            };
            let distinct = members.iter().enumerate().all(|(at, t)| !members[..at].contains(t));
            // An operator can't read one part of a buffer and write another.
            let apart = self.nodes.iter().all(|node| {
                let reads = node.inputs.iter().any(|t| members.contains(t));
                !(reads && node.outputs.iter().any(|t| members.contains(t)))
            });
            if members.len() < 2 || !distinct || !apart || !members.iter().all(|&t| free(t) && alike(t)) {
                continue;
            }
            let mut places = Vec::with_capacity(members.len());
            let mut end = 0_usize;
            for &member in &members {
                places.push(end);
                end = (end + self.shape(member).padded_len()).next_multiple_of(PARAM_ALIGN);
            }
            let half = self.tensor(members[0]).half;
            let of = self.new_tensor("", Shape::vector(end), Role::Value, false);
            self.tensors[of.index()].half = half;
            for (member, offset) in members.into_iter().zip(places) {
                self.tensors[member.index()].role = Role::Within { of, offset };
            }
        }
        Ok(())
    }
}
