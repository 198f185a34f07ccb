//! What goes from one step to the next on the device: states of recurrent layers, the past that convolutions reach into.

use crate::error::{Error, Result};
use crate::graph::{Graph, InputTime, Kind, Role, TensorId};

/// An input whose next value a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carry {
    /// The input.
    pub state: TensorId,
    /// What an operator makes of it.
    pub next: TensorId,
}

impl Graph {
    /// Lets a state outlive its step: once a step has run, what it made of `next` is the value of the input `state` in the step
    /// after it, without a way through the host. Before the first step the state is zero; writing the input sets it, and reading
    /// it from an executor gives what the step after would see.
    ///
    /// No gradient flows from one step to the one before: that is truncated back-propagation through time.
    ///
    /// # Errors
    /// [`Error::Graph`] if `state` is no real input of fixed time or is carried already, `next` is not made by an operator, or
    /// the two are not of the same shape.
    pub fn carry(&mut self, state: TensorId, next: TensorId) -> Result<()> {
        self.check_owned(&[state, next])?;
        let (to, from) = (self.tensor(state), self.tensor(next));
        let problem = if !matches!(to.role, Role::Input(InputTime::Fixed(_))) || to.shape.kind != Kind::Real {
            "is no real input of fixed time".to_owned()
        } else if self.carries.iter().any(|carry| carry.state == state) {
            "is carried already".to_owned()
        } else if from.role != Role::Value {
            "can't be taken from an input or a parameter: an operator must make its next value".to_owned()
        } else if from.shape != to.shape {
            format!("is {}, its next value {}", to.shape, from.shape)
        } else {
            self.carries.push(Carry { state, next });
            return Ok(());
        };
        Err(Error::Graph(format!("state {}: it {problem}", to.name)))
    }
}
