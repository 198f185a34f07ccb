//! Networks that go on where their last step ended.

use crate::graph::TensorId;

/// A network whose states outlive a step ([`Graph::carry`](crate::graph::Graph::carry)): blocks of a sequence, one a step, give
/// what the whole sequence gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// What it makes of each position, `[batch, time, channels]`.
    pub sequence: TensorId,
    /// The inputs that hold its states, `[batch, positions, channels]` each; zero at the start of a sequence.
    pub states: Vec<TensorId>,
}
