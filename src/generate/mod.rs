//! Cached autoregressive generation: what each layer read before is kept in queues, so that a sample costs one product
//! with every weight, however long the receptive field is (Paine et al. 2016, "Fast Wavenet Generation Algorithm",
//! arXiv 1611.09482; here for any kernel size).

mod draw;
mod gpu;
mod host;
mod network;

pub use draw::Sampling;

use crate::device::{Capabilities, Device, KernelKey};
use crate::error::{Error, Result};
use crate::exec::Store;
use crate::graph::State;
use crate::nn::{WaveNet, WaveNetInput};
use gpu::{OnGpu, Problem};
use host::Host;
use network::Network;

/// Continues sequences with a WaveNet, one class at a time.
///
/// A generator holds `streams` independent sequences. Before the first sample lie zeros at every layer, exactly as in
/// [`WaveNet::logits`]; after the samples `x[..n]` its logits are those of the full network at position `n - 1`, up to
/// rounding. Classes are µ-law classes ([`MuLaw`](crate::data::MuLaw)); a network of scalar input is fed the sample that
/// the class stands for.
///
/// On a GPU each stream is one workgroup, and one dispatch makes many samples; models too wide for a workgroup's memory
/// are generated on the CPU ([`variant`](Self::variant) says which and why). Results depend on the device, the model
/// and the number of threads in a workgroup, but not on how a sequence is divided among calls or dispatches.
#[derive(Debug)]
pub struct Generator {
    engine: Engine,
    input: WaveNetInput,
    classes: usize,
    streams: usize,
    silence: u32,
    variant: String,
    /// Whether anything was fed since the start.
    begun: bool,
    drawn: u64,
    /// After an error the streams may have come to different lengths.
    failed: bool,
}

#[derive(Debug)]
enum Engine {
    Host(Box<Host>),
    Gpu(Box<OnGpu>),
}

fn not_finite(stream: usize) -> Error {
    Error::Data(format!(
        "the model's logits of stream {stream} are not finite: nothing can be drawn from them; make a generator \
         of an earlier checkpoint"
    ))
}

/// The kernel that generates on a device with these capabilities; nothing where the host does.
///
/// # Errors
/// None that a valid model can cause.
pub fn kernel(model: &WaveNet, streams: usize, capabilities: &Capabilities) -> Result<Option<KernelKey>> {
    let choice = gpu::choice(&Problem::new(model.config(), streams), capabilities)?;
    Ok(choice.value.map(|plan| plan.kernel()))
}

impl Generator {
    /// A generator on the store's device, with the parameters that the store holds now; later changes don't reach it.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no streams; [`Error::Graph`] if the store does not hold this model's parameters;
    /// [`Error::OutOfMemory`], [`Error::Shader`] and what else the device gives.
    pub fn new(model: &WaveNet, store: &Store, streams: usize) -> Result<Self> {
        if !(1..=1 << 20).contains(&streams) {
            return Err(Error::Config(format!("a generator can have 1 to {} streams, not {streams}", 1 << 20)));
        }
        let network = Network::new(model, &store.read(State::Params)?)?;
        let config = model.config();
        let silence = network.mu_law.encode(0.0);
        let (engine, variant) = match store.device() {
            Device::Cpu => (Engine::Host(Box::new(Host::new(network, streams))), "wavenet_generate: the host".into()),
            Device::Gpu(gpu) => {
                let choice = gpu::choice(&Problem::new(config, streams), gpu.capabilities())?;
                log::info!("{choice}");
                let engine = match &choice.value {
                    Some(plan) => Engine::Gpu(Box::new(OnGpu::new(gpu, network, streams, plan)?)),
                    None => Engine::Host(Box::new(Host::new(network, streams))),
                };
                (engine, choice.to_string())
            }
        };
        let (input, classes) = (config.input, config.classes);
        Ok(Self { engine, input, classes, streams, silence, variant, begun: false, drawn: 0, failed: false })
    }

    /// Independent sequences.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// How the samples are made, and why not in a faster way.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Forgets the past: the next sample is the first again, and with the same seed the draws are the same again.
    pub fn reset(&mut self) {
        match &mut self.engine {
            Engine::Host(host) => host.reset(),
            Engine::Gpu(gpu) => gpu.reset(),
        }
        (self.begun, self.drawn, self.failed) = (false, 0, false);
    }

    /// Feeds known classes, the same to every stream.
    ///
    /// # Errors
    /// [`Error::Data`] if a class is out of range; what the device gives.
    pub fn prime(&mut self, classes: &[u32]) -> Result<()> {
        let words = self.words(classes)?.repeat(self.streams);
        self.feed(&words, classes.len(), false).map(drop)
    }

    /// Feeds known classes, to each stream its own, all equally many.
    ///
    /// # Errors
    /// [`Error::Data`] if there is not one sequence a stream, their lengths differ or a class is out of range; what
    /// the device gives.
    pub fn prime_each<C: AsRef<[u32]>>(&mut self, classes: &[C]) -> Result<()> {
        let count = classes.first().map_or(0, |c| c.as_ref().len());
        if classes.len() != self.streams || classes.iter().any(|c| c.as_ref().len() != count) {
            let lengths: Vec<usize> = classes.iter().map(|c| c.as_ref().len()).collect();
            return Err(Error::Data(format!(
                "{} streams need as many sequences of one length, got lengths {lengths:?}",
                self.streams
            )));
        }
        let mut words = Vec::with_capacity(count * self.streams);
        for classes in classes {
            words.extend(self.words(classes.as_ref())?);
        }
        self.feed(&words, count, false).map(drop)
    }

    /// Feeds known samples, the same to every stream: unquantised if the network's input is scalar, else their classes.
    ///
    /// # Errors
    /// [`Error::Data`] if a sample is not finite; what the device gives.
    pub fn prime_samples(&mut self, samples: &[f32]) -> Result<()> {
        if let Some(at) = samples.iter().position(|s| !s.is_finite()) {
            return Err(Error::Data(format!("sample {at} to feed is {}", samples[at])));
        }
        let words: Vec<u32> = match self.input {
            WaveNetInput::Scalar => samples.iter().map(|s| s.to_bits()).collect(),
            WaveNetInput::Classes => {
                let network = self.network();
                samples.iter().map(|&s| network.word(network.mu_law.encode(s))).collect()
            }
        };
        self.feed(&words.repeat(self.streams), samples.len(), false).map(drop)
    }

    /// Feeds known classes, the same to every stream, and gives the logits after each: `[streams, count, classes]`.
    ///
    /// # Errors
    /// As [`prime`](Self::prime).
    pub fn logits(&mut self, classes: &[u32]) -> Result<Vec<f32>> {
        let words = self.words(classes)?.repeat(self.streams);
        self.feed(&words, classes.len(), true)
    }

    /// Draws the next `count` classes of every stream: `[streams][count]`. If nothing was fed yet, silence is.
    ///
    /// Calls follow on one another: two of 50 samples give what one of 100 gives. A stream's random numbers depend on
    /// the seed, the stream and how many samples were drawn before.
    ///
    /// # Errors
    /// [`Error::Config`] if the temperature is negative or not finite; [`Error::Data`] if the logits are not finite,
    /// after which only [`reset`](Self::reset) helps; what the device gives.
    pub fn generate(&mut self, count: usize, sampling: &Sampling) -> Result<Vec<Vec<u32>>> {
        sampling.validate()?;
        self.check()?;
        if count == 0 {
            return Ok(vec![vec![]; self.streams]);
        }
        if !self.begun {
            self.prime(&[self.silence])?;
        }
        let drawn = match &mut self.engine {
            Engine::Host(host) => host.generate(count, self.drawn, sampling),
            Engine::Gpu(gpu) => gpu.generate(count, self.drawn, sampling),
        };
        match drawn {
            Ok(classes) => {
                self.drawn += count as u64;
                Ok(classes)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn feed(&mut self, words: &[u32], count: usize, all: bool) -> Result<Vec<f32>> {
        self.check()?;
        if count == 0 {
            return Ok(vec![]);
        }
        self.begun = true;
        let fed = match &mut self.engine {
            Engine::Host(host) => Ok(host.feed(words, count, all)),
            Engine::Gpu(gpu) => gpu.feed(words, count, all),
        };
        fed.map_err(|error| self.fail(error))
    }

    fn check(&self) -> Result<()> {
        match self.failed {
            true => Err(Error::Data("this generator has failed before: reset it or make a new one".into())),
            false => Ok(()),
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = true;
        error
    }

    fn words(&self, classes: &[u32]) -> Result<Vec<u32>> {
        if let Some(at) = classes.iter().position(|&class| class as usize >= self.classes) {
            return Err(Error::Data(format!(
                "class {} at {at} is out of range: the model has {} classes",
                classes[at], self.classes
            )));
        }
        let network = self.network();
        Ok(classes.iter().map(|&class| network.word(class)).collect())
    }

    fn network(&self) -> &Network {
        match &self.engine {
            Engine::Host(host) => host.network(),
            Engine::Gpu(gpu) => gpu.network(),
        }
    }
}
