//! Models that run as their input comes, any number of streams at once.

use crate::error::{Error, Result};
use crate::exec::{Executor, Store};
use crate::graph::{Extent, StepArgs};
use crate::nn::{SequenceModel, StreamProgram};

/// A [`SequenceModel`] that is fed its sequences in blocks of any size, of many streams side by side, and tells at each position
/// what it would tell of the whole sequence up to there. Its memory is fixed by the block and the receptive field.
///
/// ```
/// use receptive::exec::Store;
/// use receptive::graph::State;
/// use receptive::nn::{Body, Objective, SequenceConfig, SequenceInput, SequenceModel, TcnConfig};
/// use receptive::{Device, Stream};
///
/// let model = SequenceModel::new(SequenceConfig {
///     input: SequenceInput::Values { channels: 2 },
///     body: Body::Tcn(TcnConfig::new(2, &[16; 4], 3)),
///     outputs: 1,
///     objective: Objective::LastValues,
///     output_std: None,
/// })?;
/// let store = Store::new(&Device::Cpu);
/// let mut stream = Stream::new(&model, &store, 3, 256)?; // three streams, at most 256 positions at once
/// store.write(State::Params, &stream.program().program.params().initial(1))?;
/// let outputs = stream.push(&[0.5; 3 * 10 * 2])?; // ten positions of two channels of each
/// assert_eq!(outputs.len(), 3 * 10);
/// # Ok::<(), receptive::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    program: StreamProgram,
    executor: Executor,
}

impl Stream {
    /// `streams` streams at their start, with the parameters in `store`; of longer input than `block` positions at once, one block
    /// is run after the other.
    ///
    /// # Errors
    /// As [`SequenceModel::streaming`] and [`Executor::new`].
    pub fn new(model: &SequenceModel, store: &Store, streams: usize, block: usize) -> Result<Self> {
        let program = model.streaming(Extent { batch: streams, time: block })?;
        let executor = Executor::new(&program.program, store)?;
        Ok(Self { program, executor })
    }

    /// The program that a block runs, for applications with commands of their own.
    pub fn program(&self) -> &StreamProgram {
        &self.program
    }

    /// What runs it.
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.executor
    }

    /// Feeds the next positions of each stream, `[streams, time, channels]` of any time; gives what the model tells at them,
    /// `[streams, time, outputs]`. Waits for the device. Where a later block fails, the streams have gone on by those before it.
    ///
    /// # Errors
    /// [`Error::Graph`] if the model reads ids, or the numbers are not so many for each stream; what running a program gives.
    pub fn push(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        let channels = self.program.program.shape(self.program.input).channels;
        self.in_blocks(x, channels, |executor, input, block| executor.write(input, block))
    }

    /// As [`push`](Self::push), of a model that reads class ids, `[streams, time]`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_ids(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.in_blocks(ids, 1, |executor, input, block| executor.write_ids(input, block))
    }

    /// All streams start anew.
    ///
    /// # Errors
    /// As [`Executor::write`].
    pub fn reset(&mut self) -> Result<()> {
        self.executor.resize(self.program.program.extent())?;
        for &state in &self.program.states {
            self.executor.write(state, &vec![0.0; self.program.program.shape(state).len()])?;
        }
        Ok(())
    }

    /// These streams start anew, the others go on. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Graph`] if there is no such stream; what the device gives.
    pub fn reset_streams(&mut self, streams: &[usize]) -> Result<()> {
        let batch = self.program.program.extent().batch;
        if let Some(stream) = streams.iter().find(|&&stream| stream >= batch) {
            return Err(Error::Graph(format!("there is no stream {stream}: they are 0 to {}", batch - 1)));
        }
        self.executor.resize(self.program.program.extent())?;
        for &state in &self.program.states {
            let mut values = self.executor.read(state)?;
            let each = values.len() / batch;
            for &stream in streams {
                values[stream * each..][..each].fill(0.0);
            }
            self.executor.write(state, &values)?;
        }
        Ok(())
    }

    fn in_blocks<T: Copy>(
        &mut self,
        values: &[T],
        channels: usize,
        write: impl Fn(&mut Executor, crate::graph::TensorId, &[T]) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let Extent { batch, time: longest } = self.program.program.extent();
        if !values.len().is_multiple_of(batch * channels) {
            let count = values.len();
            return Err(Error::Graph(format!(
                "{count} numbers are not as many of {channels} channels for {batch} streams"
            )));
        }
        let time = values.len() / (batch * channels);
        let outputs = self.program.program.shape(self.program.output).channels;
        let mut told = vec![0.0; batch * time * outputs];
        let mut block = Vec::new();
        for first in (0..time).step_by(longest) {
            let positions = longest.min(time - first);
            self.executor.resize(Extent { batch, time: positions })?;
            block.clear();
            for stream in 0..batch {
                block.extend_from_slice(&values[(stream * time + first) * channels..][..positions * channels]);
            }
            write(&mut self.executor, self.program.input, &block)?;
            self.executor.run(&StepArgs::default())?;
            let output = self.executor.read(self.program.output)?;
            for (stream, output) in output.chunks_exact(positions * outputs).enumerate() {
                told[(stream * time + first) * outputs..][..positions * outputs].copy_from_slice(output);
            }
        }
        Ok(told)
    }
}
