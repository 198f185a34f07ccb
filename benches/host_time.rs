//! How long the host takes to record and submit a training step of WaveNet with 30 layers, which does not depend on the
//! length of the chunks: `cargo bench --bench host_time [-- DEVICE [STEPS]]`.

use std::time::Instant;

use receptive::exec::{Executor, Store, Timing, Timings};
use receptive::graph::{Extent, Graph, State, StepArgs};
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::optim::{self, OptimizerConfig};
use receptive::{Device, Error, Result, ops};

fn main() -> Result<()> {
    // Cargo says that this is a benchmark.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let device = match arguments.next() {
        Some(name) => Device::select(&name)?,
        None => Device::gpu().or_else(|_| Device::select("software"))?,
    };
    let steps = arguments.next().map_or(Ok(50), |text| text.parse::<u64>());
    let steps = steps.map_err(|error| Error::Config(format!("steps: {error}")))?;

    let config = WaveNetConfig::paper();
    let mut graph = Graph::new(Extent { batch: 1, time: 64 })?;
    let (input, logits) = WaveNet::new(config.clone())?.append(&mut graph, 0)?;
    let target = graph.input_ids("target", 0)?;
    let loss = ops::softmax_cross_entropy(&mut graph, logits, target)?.loss;
    let gradients = graph.backward(loss)?;
    optim::append(&mut graph, &gradients, &OptimizerConfig { clip_norm: None, ..OptimizerConfig::default() })?;
    let program = graph.finish(&[], &[loss])?.into();
    let store = Store::new(&device);
    let start = Instant::now();
    let mut executor = Executor::new(&program, &store)?;
    let planning = start.elapsed();
    store.write(State::Params, &program.params().initial(0))?;
    let dispatches = match &executor {
        Executor::Gpu(gpu) => gpu.dispatches(),
        Executor::Cpu(_) => return Err(Error::Config("nothing is submitted on the CPU: name a GPU".into())),
    };
    println!("{device}: {} layers, {dispatches} dispatches, planned in {planning:.1?}", config.dilations.len());

    let ids: Vec<u32> = (0..64).map(|t| t * 37 % 256).collect();
    let mut step = 0;
    for (timing, what) in [(Timing::Step, "each step waited for"), (Timing::Off, "several steps under way")] {
        executor.set_timing(timing)?;
        let start = Instant::now();
        for _ in 0..steps {
            executor.write_ids(input, &ids)?;
            executor.write_ids(target, &ids)?;
            executor.run(&StepArgs { learning_rate: 1e-4, step, seed: 0 })?;
            step += 1;
            if timing == Timing::Step {
                executor.wait()?;
            }
        }
        executor.wait()?;
        println!("{what}: {:.2?} a step by the clock", start.elapsed() / steps as u32);
        let Timings { steps, mut host, .. } = executor.timings()?;
        host.sort_unstable();
        if let [least, .., most] = host[..] {
            let median = Timings::median(&host);
            let each = median.as_secs_f64() * 1e6 / dispatches as f64;
            println!("host: {median:.0?} a step ({least:.0?} to {most:.0?}), {each:.2} µs a dispatch");
        }
        if !steps.is_empty() {
            println!("device: {:.2?} a step", Timings::median(&steps));
        }
    }
    Ok(())
}
