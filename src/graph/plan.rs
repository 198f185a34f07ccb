//! Planning memory: which tensors lie inside others, and which share a buffer because they never live together.
//!
//! WebGPU tracks usage per buffer, so one buffer must not be read and written in the same dispatch: activations get
//! separate buffers from a pool, coloured by lifetime.

use std::collections::HashMap;

use crate::graph::{Graph, Kind, Node, Role, State, Tensor, TensorId, pad4};

/// What an allocation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Pool,
    Input,
    Output,
    State(State),
}

/// One piece of memory.
#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub label: String,
    pub kind: Kind,
    pub elements: usize,
    /// Whether devices store its elements as `f16`.
    pub half: bool,
    pub purpose: Purpose,
}

impl Allocation {
    /// Bytes on a device.
    pub fn bytes(&self) -> u64 {
        self.elements as u64 * if self.half { 2 } else { 4 }
    }

    pub fn is_pool(&self) -> bool {
        self.purpose == Purpose::Pool
    }
}

/// Where a tensor lies in an allocation, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub allocation: usize,
    pub offset: usize,
    pub stride: usize,
}

/// How an operator that only rearranges channels may be had for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aliasing {
    /// The output is the inputs side by side.
    Concat,
    /// The output is the input's channels from `start` on.
    Slice {
        /// First channel.
        start: usize,
    },
}

struct Planner<'g> {
    graph: &'g Graph,
    steps: Vec<Step>,
    /// Tensors that lie inside another, at a channel.
    parents: HashMap<TensorId, (TensorId, usize)>,
    kept: Vec<TensorId>,
}

/// One operator of a program.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub node: Node,
    /// A concatenation or slice that costs nothing, because its parts lie inside the whole.
    pub elided: bool,
}

/// What runs, and where everything lies.
#[derive(Debug)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    pub allocations: Vec<Allocation>,
    /// By tensor; nothing for those that no step uses.
    pub placements: Vec<Option<Placement>>,
    /// By tensor: whether anybody reads it.
    pub needed: Vec<bool>,
}

/// Plans a graph of which the tensors `kept` are to be read after a step.
pub(super) fn plan(graph: &Graph, kept: Vec<TensorId>) -> Plan {
    let steps = live(graph, &kept).into_iter().map(|node| Step { node, elided: false }).collect();
    let mut planner = Planner { graph, steps, parents: within(graph), kept };
    planner.alias();
    let (allocations, placements) = planner.allocate();
    let mut needed = vec![false; graph.tensors.len()];
    for tensor in planner.steps.iter().flat_map(|s| &s.node.inputs).chain(&planner.kept) {
        needed[tensor.index()] = true;
    }
    for (tensor, information) in graph.tensors.iter().enumerate() {
        needed[tensor] |= !matches!(information.role, Role::Value);
    }
    Plan { steps: planner.steps, allocations, placements, needed }
}

/// The nodes that something kept or persistent depends on.
fn live(graph: &Graph, kept: &[TensorId]) -> Vec<Node> {
    let lies_in = |t: TensorId| match graph.tensor(t).role {
        Role::Within { of, .. } => of,
        _ => t,
    };
    let mut wanted = vec![false; graph.tensors.len()];
    for tensor in kept {
        wanted[lies_in(*tensor).index()] = true;
    }
    let persistent = |t: TensorId| matches!(graph.tensor(t).role, Role::Grad(_) | Role::State(_) | Role::Param(_));
    let mut nodes: Vec<Node> = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|&t| wanted[lies_in(t).index()] || persistent(t)) {
            for &input in &node.inputs {
                wanted[lies_in(input).index()] = true;
            }
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    nodes
}

/// What lies inside another tensor from the start.
fn within(graph: &Graph) -> HashMap<TensorId, (TensorId, usize)> {
    let of = |(index, tensor): (usize, &Tensor)| match tensor.role {
        Role::Within { of, offset } => Some((TensorId::new(graph.id, index), (of, offset))),
        _ => None,
    };
    graph.tensors.iter().enumerate().filter_map(of).collect()
}

impl Planner<'_> {
    fn alias(&mut self) {
        for index in 0..self.steps.len() {
            let node = self.steps[index].node.clone();
            let Some(links) = node.op.aliasing().and_then(|aliasing| self.links(&node, aliasing)) else { continue };
            for &(child, parent, channel) in &links {
                self.parents.insert(child, (parent, channel));
            }
            self.steps[index].elided = true;
            if self.conflicts() {
                for (child, ..) in &links {
                    self.parents.remove(child);
                }
                self.steps[index].elided = false;
            }
        }
    }

    /// The (child, parent, channel) that would make a node free, if its channels fall on multiples of 4.
    fn links(&self, node: &Node, aliasing: Aliasing) -> Option<Vec<(TensorId, TensorId, usize)>> {
        let whole_value = |t: TensorId| {
            // What is kept stands alone, so that an application can read its buffer.
            self.graph.tensor(t).role == Role::Value && !self.parents.contains_key(&t) && !self.kept.contains(&t)
        };
        match aliasing {
            Aliasing::Concat => {
                let whole = node.outputs[0];
                let mut links = Vec::new();
                let mut channel = 0;
                for (position, &part) in node.inputs.iter().enumerate() {
                    let distinct = !node.inputs[..position].contains(&part);
                    if channel % 4 != 0 || !whole_value(part) || !distinct {
                        return None;
                    }
                    links.push((part, whole, channel));
                    channel += self.graph.shape(part).channels;
                }
                (self.graph.tensor(whole).role == Role::Value).then_some(links)
            }
            Aliasing::Slice { start } => {
                let (whole, part) = (node.inputs[0], node.outputs[0]);
                let end = start + self.graph.shape(part).channels;
                let aligned = start % 4 == 0 && (end.is_multiple_of(4) || end == self.graph.shape(whole).channels);
                let roles = whole_value(part) && matches!(self.graph.tensor(whole).role, Role::Value | Role::Input(_));
                (aligned && roles).then(|| vec![(part, whole, start)])
            }
        }
    }

    fn root(&self, tensor: TensorId) -> (TensorId, usize) {
        let (mut root, mut channel) = (tensor, 0);
        while let Some(&(parent, at)) = self.parents.get(&root) {
            root = parent;
            channel += at;
        }
        (root, channel)
    }

    /// Whether some operator would read and write, or write twice, the same activation buffer.
    fn conflicts(&self) -> bool {
        self.steps.iter().filter(|step| !step.elided).any(|step| {
            let mut written = Vec::new();
            for &output in &step.node.outputs {
                let (root, _) = self.root(output);
                let packed = matches!(self.graph.tensor(output).role, Role::Within { .. });
                if written.contains(&root) && !packed {
                    return true;
                }
                written.push(root);
            }
            step.node.inputs.iter().any(|&input| written.contains(&self.root(input).0))
        })
    }

    fn allocate(&self) -> (Vec<Allocation>, Vec<Option<Placement>>) {
        let mut memory =
            Memory { allocations: vec![], placements: vec![None; self.graph.tensors.len()], states: HashMap::new() };
        for (index, tensor) in self.graph.tensors.iter().enumerate() {
            let id = TensorId::new(self.graph.id, index);
            match tensor.role {
                Role::Input(_) => memory.own(id, tensor.name.clone(), self, Purpose::Input),
                Role::Param(param) => memory.flat(id, State::Params, param, self.graph),
                Role::Grad(param) => memory.flat(id, State::Grads, param, self.graph),
                Role::State(state) => memory.state(id, state, self.graph.shape(id).channels),
                Role::Value | Role::Within { .. } => {}
            }
        }
        for &kept in &self.kept {
            let (root, _) = self.root(kept);
            if memory.placements[root.index()].is_none() {
                let label = &self.graph.tensor(root).name;
                let label = if label.is_empty() { format!("output %{}", root.index()) } else { label.clone() };
                memory.own(root, label, self, Purpose::Output);
            }
        }
        self.colour(&mut memory);
        for index in 0..self.graph.tensors.len() {
            let tensor = TensorId::new(self.graph.id, index);
            let (root, channel) = self.root(tensor);
            if root != tensor {
                let own_stride = matches!(self.graph.tensor(tensor).role, Role::Within { .. });
                memory.placements[index] = memory.placements[root.index()].map(|p| Placement {
                    offset: p.offset + channel,
                    stride: if own_stride { self.graph.shape(tensor).stride() } else { p.stride },
                    ..p
                });
            }
        }
        (memory.allocations, memory.placements)
    }

    /// Gives the remaining roots buffers from a pool: a buffer is free again after its tensor's last use.
    fn colour(&self, memory: &mut Memory) {
        let mut last_use: HashMap<TensorId, usize> = HashMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            for &tensor in step.node.inputs.iter().chain(&step.node.outputs) {
                last_use.insert(self.root(tensor).0, index);
            }
        }
        let mut free: Vec<usize> = Vec::new();
        let mut pools = 0;
        for (index, step) in self.steps.iter().enumerate() {
            for &output in &step.node.outputs {
                let (root, _) = self.root(output);
                if memory.placements[root.index()].is_some() {
                    continue;
                }
                let shape = self.graph.shape(root);
                let elements = shape.padded_len();
                let half = self.graph.tensor(root).half;
                let of_kind = |&&slot: &&usize| {
                    memory.allocations[slot].kind == shape.kind && memory.allocations[slot].half == half
                };
                // The smallest that holds it, else the largest there is, grown.
                let fitting = free
                    .iter()
                    .filter(of_kind)
                    .filter(|&&slot| memory.allocations[slot].elements >= elements)
                    .min_by_key(|&&slot| memory.allocations[slot].elements)
                    .or_else(|| free.iter().filter(of_kind).max_by_key(|&&slot| memory.allocations[slot].elements))
                    .copied();
                let allocation = match fitting {
                    Some(slot) => {
                        free.retain(|&other| other != slot);
                        let allocation = &mut memory.allocations[slot];
                        allocation.elements = allocation.elements.max(elements);
                        slot
                    }
                    None => {
                        pools += 1;
                        memory.add(format!("pool {pools}"), shape.kind, elements, half, Purpose::Pool)
                    }
                };
                memory.placements[root.index()] = Some(Placement { allocation, offset: 0, stride: shape.stride() });
            }
            let mut ended: Vec<usize> = step
                .node
                .inputs
                .iter()
                .chain(&step.node.outputs)
                .map(|&t| self.root(t).0)
                .filter(|root| last_use[root] == index)
                .filter_map(|root| memory.placements[root.index()].map(|p| p.allocation))
                .filter(|&slot| memory.allocations[slot].is_pool() && !free.contains(&slot))
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended);
        }
    }
}

struct Memory {
    allocations: Vec<Allocation>,
    placements: Vec<Option<Placement>>,
    states: HashMap<State, usize>,
}

impl Memory {
    fn add(&mut self, label: String, kind: Kind, elements: usize, half: bool, purpose: Purpose) -> usize {
        self.allocations.push(Allocation { label, kind, elements: pad4(elements), half, purpose });
        self.allocations.len() - 1
    }

    fn own(&mut self, tensor: TensorId, label: String, planner: &Planner<'_>, purpose: Purpose) {
        let &Tensor { shape, half, .. } = planner.graph.tensor(tensor);
        let allocation = self.add(label, shape.kind, shape.padded_len(), half, purpose);
        self.placements[tensor.index()] = Some(Placement { allocation, offset: 0, stride: shape.stride() });
    }

    fn flat(&mut self, tensor: TensorId, state: State, param: usize, graph: &Graph) {
        let allocation = self.state_allocation(state, graph.params.flat_len());
        let offset = graph.params.get(param).map_or(0, |p| p.offset);
        self.placements[tensor.index()] = Some(Placement { allocation, offset, stride: graph.shape(tensor).stride() });
    }

    fn state(&mut self, tensor: TensorId, state: State, elements: usize) {
        let allocation = self.state_allocation(state, elements);
        self.placements[tensor.index()] = Some(Placement { allocation, offset: 0, stride: pad4(elements) });
    }

    fn state_allocation(&mut self, state: State, elements: usize) -> usize {
        if let Some(&allocation) = self.states.get(&state) {
            return allocation;
        }
        let allocation = self.add(state.name().into(), Kind::Real, elements, false, Purpose::State(state));
        self.states.insert(state, allocation);
        allocation
    }
}
