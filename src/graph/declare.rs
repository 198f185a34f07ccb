//! What a graph is given from outside: inputs and parameters.

use crate::error::{Error, Result};
use crate::graph::builder::check_size;
use crate::graph::{Extent, Graph, Init, InputTime, Kind, Param, Role, Shape, TensorId};

impl Graph {
    /// Real input `[batch, time + slack, channels]`.
    ///
    /// # Errors
    /// [`Error::Graph`] if the time would not be positive or there are no channels.
    pub fn input(&mut self, name: &str, slack: isize, channels: usize) -> Result<TensorId> {
        self.any_input(name, InputTime::Slack(slack), channels, Kind::Real)
    }

    /// Real input `[batch, time, channels]` of which `time` does not follow the extent: a state, a target for each sequence.
    ///
    /// # Errors
    /// [`Error::Graph`] if time or channels are 0.
    pub fn input_fixed(&mut self, name: &str, time: usize, channels: usize) -> Result<TensorId> {
        self.any_input(name, InputTime::Fixed(time), channels, Kind::Real)
    }

    /// Input of class ids, `[batch, time + slack]`.
    ///
    /// # Errors
    /// [`Error::Graph`] if the time would not be positive.
    pub fn input_ids(&mut self, name: &str, slack: isize) -> Result<TensorId> {
        self.any_input(name, InputTime::Slack(slack), 1, Kind::Ids)
    }

    /// Input of class ids or counts, `[batch, time]`, of which `time` does not follow the extent: the lengths of sequences.
    ///
    /// # Errors
    /// [`Error::Graph`] if time is 0.
    pub fn input_ids_fixed(&mut self, name: &str, time: usize) -> Result<TensorId> {
        self.any_input(name, InputTime::Fixed(time), 1, Kind::Ids)
    }

    fn any_input(&mut self, name: &str, time: InputTime, channels: usize, kind: Kind) -> Result<TensorId> {
        let shape = input_shape(self.extent, time, channels, kind).ok_or_else(|| {
            let time = match time {
                InputTime::Slack(slack) => format!("time {} with slack {slack}", self.extent.time),
                InputTime::Fixed(time) => format!("time {time}"),
            };
            Error::Graph(format!("input {name}: {time} and {channels} channels is empty"))
        })?;
        check_size(name, &shape)?;
        Ok(self.new_tensor(name, shape, Role::Input(time), false))
    }

    /// A parameter of `shape` `[taps or blocks, channels in, channels out]`; `decay` says whether weight decay applies.
    ///
    /// # Errors
    /// [`Error::Graph`] if the name is taken or the shape is empty.
    pub fn param(&mut self, name: &str, shape: Shape, init: Init, decay: bool) -> Result<TensorId> {
        self.any_param(name, shape, init, decay, true)
    }

    /// What lies among the parameters, in checkpoints and model files too, but gets no gradient and is not trained: word vectors made
    /// elsewhere, or running moments, which operators update.
    ///
    /// # Errors
    /// As [`param`](Self::param).
    pub fn untrained(&mut self, name: &str, shape: Shape, init: Init) -> Result<TensorId> {
        self.any_param(name, shape, init, false, false)
    }

    fn any_param(&mut self, name: &str, shape: Shape, init: Init, decay: bool, trained: bool) -> Result<TensorId> {
        if self.params.find(name).is_some() {
            return Err(Error::Graph(format!("there is a parameter {name} already")));
        }
        if shape.is_empty() || shape.kind != Kind::Real {
            return Err(Error::Graph(format!("parameter {name} can't have the shape {shape}")));
        }
        check_size(name, &shape)?;
        let tensor = self.new_tensor(name, shape, Role::Value, trained);
        let index = self.params.push(Param {
            name: name.into(),
            shape,
            offset: 0,
            init,
            decay,
            trained,
            max_norm: None,
            sparse: false,
            tensor,
        });
        self.tensors[tensor.index()].role = Role::Param(index);
        Ok(tensor)
    }

    /// Holds a parameter to a largest norm: after each update, every channel whose numbers (over batch and time; of a dense layer the
    /// weights of one output) have an L2 norm above `max_norm` is scaled by `max_norm / (norm + 1e-7)` (Hinton et al. 2012, as
    /// `torch.renorm`).
    ///
    /// # Errors
    /// [`Error::Config`] if `max_norm` is not positive; [`Error::Graph`] if the tensor is no parameter of the graph, or is frozen.
    pub fn constrain(&mut self, param: TensorId, max_norm: f32) -> Result<()> {
        if !(max_norm > 0.0 && max_norm.is_finite()) {
            return Err(Error::Config(format!("max_norm must be positive, got {max_norm}")));
        }
        self.trained(param, "be held to a norm")?.max_norm = Some(max_norm);
        Ok(())
    }

    /// Gives an embedding's table a gradient of the rows alone that a step reads
    /// ([`Gradients::sparse`](crate::autodiff::Gradients::sparse)): computing it, its norm and the update cost as much as those rows, not
    /// as much as the table, where all that is trained is declared before it or all behind it. In the flat vector of gradients its place
    /// stays zero. For optimizers that
    /// [leave the others as they are](crate::optim::Method::keeps_still); one [`embedding`](crate::ops::embedding()) and nothing else may read
    /// the table.
    ///
    /// # Errors
    /// [`Error::Graph`] if the tensor is no parameter of the graph or is frozen, or if the gradients were taken already.
    pub fn sparse(&mut self, table: TensorId) -> Result<()> {
        if self.tensors.iter().any(|tensor| matches!(tensor.role, Role::Grad(_))) {
            return Err(Error::Graph("the gradients were taken already: make a parameter sparse before".into()));
        }
        self.trained(table, "have a sparse gradient")?.sparse = true;
        Ok(())
    }

    fn trained(&mut self, param: TensorId, to: &str) -> Result<&mut Param> {
        self.check_owned(&[param])?;
        let param = self.params.of_mut(param).filter(|param| param.trained);
        param.ok_or_else(|| Error::Graph(format!("only a parameter that is trained can {to}")))
    }
}

/// The size of an input at an extent; nothing if it would be empty.
pub(crate) fn input_shape(extent: Extent, time: InputTime, channels: usize, kind: Kind) -> Option<Shape> {
    let time = match time {
        InputTime::Slack(slack) => extent.time.checked_add_signed(slack)?,
        InputTime::Fixed(time) => time,
    };
    (time > 0 && channels > 0 && extent.batch > 0).then_some(Shape { batch: extent.batch, time, channels, kind })
}
