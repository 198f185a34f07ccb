//! Autoregressive generation with the network of `wavenet_train`: a step is a call that makes many samples.

use std::sync::Arc;

use anyhow::Result;
use receptive::Device;
use receptive::exec::{CpuExecutor, Store};
use receptive::generate::{Generator, Sampling};
use receptive::graph::{Extent, State};
use receptive::nn::WaveNet;
use receptive::random::Random;

use super::models::wavenet;
use super::subject::{Observed, Outcome, Subject};
use super::workloads::Case;

pub const KIND: &str = "wavenet_generate";

/// Samples whose logits and draws are compared.
const COMPARED: usize = 64;
const SAMPLING: Sampling = Sampling { temperature: 1.0, seed: 0 };

/// Generation of one size: the network and its weights.
#[derive(Debug)]
pub struct Generation {
    network: WaveNet,
    params: Vec<f32>,
    streams: usize,
    steps: usize,
    classes: usize,
    pub parameters: usize,
    /// Bytes that a time step must move: each weight once, and each stream's queues, which it reads and writes.
    pub bytes: u64,
}

impl Generation {
    /// # Errors
    /// If the workload lacks a number, or what the library gives.
    pub fn new(case: &Case) -> Result<Self> {
        let network = wavenet::network(case)?;
        let program = network.logits(Extent { batch: 1, time: 1 })?.program;
        let parameters = program.params().count();
        let streams = case.size.count("batch")?;
        let queues = 2 * streams * network.config().dilations.len() * network.config().residual;
        Ok(Self {
            params: program.params().initial(0),
            streams,
            steps: case.size.count("steps")?,
            classes: case.classes,
            parameters,
            bytes: (parameters + queues) as u64 * 4,
            network,
        })
    }

    fn given(&self) -> Vec<u32> {
        let mut random = Random::new(0, 1, 0);
        (0..COMPARED).map(|_| random.below(self.classes as u32)).collect()
    }

    /// The logits of the whole network, in double precision.
    ///
    /// # Errors
    /// What the library gives.
    pub fn oracle(&self) -> Result<Vec<Observed>> {
        let made = self.network.logits(Extent { batch: 1, time: COMPARED })?;
        let mut cpu = CpuExecutor::<f64>::new(Arc::clone(&made.program))?;
        for param in made.program.params().iter() {
            let values: Vec<f64> = param.gather(&self.params).into_iter().map(f64::from).collect();
            cpu.write(param.tensor, &values)?;
        }
        cpu.write_ids(made.input, &self.given())?;
        cpu.run(&Default::default())?;
        let logits = made.logits.map(|logits| cpu.read(logits)).transpose()?.unwrap_or_default();
        let logits = logits.into_iter().map(|logit| logit as f32).collect::<Vec<_>>();
        Ok(vec![Observed::reals("logits", logits.repeat(self.streams))])
    }

    /// # Errors
    /// What the library gives.
    pub fn on(&self, device: &Device) -> Result<GenerateSubject<'_>> {
        let store = Store::new(device);
        store.write(State::Params, &self.params)?;
        let generator = Generator::new(&self.network, &store, self.streams)?;
        Ok(GenerateSubject { generation: self, generator })
    }
}

#[derive(Debug)]
pub struct GenerateSubject<'g> {
    generation: &'g Generation,
    generator: Generator,
}

impl Subject for GenerateSubject<'_> {
    fn prepare(&mut self, _number: u64) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, _number: u64) -> Result<()> {
        self.generator.generate(self.generation.steps, &SAMPLING)?;
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn observe(&mut self) -> Result<Vec<Observed>> {
        self.generator.reset();
        let logits = self.generator.logits(&self.generation.given())?;
        let draws = self.generator.generate(COMPARED, &SAMPLING)?;
        Ok(vec![Observed::reals("logits", logits), Observed { name: "draws".into(), values: Outcome::Draws(draws) }])
    }

    fn synchronous(&self) -> bool {
        true
    }

    fn units(&self) -> u32 {
        self.generation.steps as u32
    }
}
