//! A step in an application's own encoder, on its own device, with its own commands before and after.

use std::sync::Arc;

use receptive::exec::{Executor, GpuExecutor, Store};
use receptive::graph::{Extent, Graph, StepArgs, TensorId};
use receptive::ops::{self, Activation, Reduction};
use receptive::{Device, wgpu};

use crate::support::gpu;

const EXTENT: Extent = Extent { batch: 2, time: 50 };
const CHANNELS: usize = 4;

struct Step {
    executor: GpuExecutor,
    input: TensorId,
    output: TensorId,
    _store: Store,
}

fn step(device: &Device) -> Step {
    let mut graph = Graph::new(EXTENT).unwrap();
    let input = graph.input("x", 0, CHANNELS).unwrap();
    let output = ops::activate(&mut graph, input, Activation::Tanh).unwrap();
    let loss = ops::mse(&mut graph, output, input, Reduction::Mean).unwrap();
    let store = Store::new(device);
    let program = Arc::new(graph.finish(&[output], &[loss]).unwrap());
    let Executor::Gpu(executor) = Executor::new(&program, &store).unwrap() else { panic!("not a GPU") };
    Step { executor: *executor, input, output, _store: store }
}

#[test]
fn a_step_records_into_the_applications_encoder() {
    let own = gpu();
    let own = own.as_gpu().unwrap();
    let device = Device::from_wgpu(own.device().clone(), own.queue().clone()).unwrap();
    let values = |number: usize| (0..400).map(|i| (i * (number + 1)) as f32 / 400.0 - 0.5).collect::<Vec<f32>>();

    let mut alone = step(&device);
    let mut recorded = step(&device);
    let bytes = recorded.executor.buffer(recorded.output).unwrap().size();
    let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    // More steps than the ring has slots.
    for number in 0..9 {
        let args = StepArgs { step: number as u64, ..Default::default() };
        alone.executor.write(alone.input, &values(number)).unwrap();
        alone.executor.run(&args).unwrap();

        recorded.executor.write(recorded.input, &values(number)).unwrap();
        let mut encoder = own.device().create_command_encoder(&Default::default());
        recorded.executor.record(&args, &mut encoder).unwrap();
        let copy = own.buffer("the application's own", bytes, usage).unwrap();
        let output = recorded.executor.buffer(recorded.output).unwrap();
        encoder.copy_buffer_to_buffer(output, 0, &copy, 0, bytes);
        let submission = own.queue().submit([encoder.finish()]);
        recorded.executor.submitted(&args, submission);

        let expected = alone.executor.read(alone.output).unwrap();
        let exact: Vec<f32> = values(number).iter().map(|x| x.tanh()).collect();
        crate::support::assert_close("tanh", &expected, &exact, 1e-6, 1e-5);
        assert_eq!(own.read(&copy, 0, 400 * 4).unwrap(), bytemuck::cast_slice::<f32, u8>(&expected), "step {number}");
    }
    let (alone, recorded) = (alone.executor.wait().unwrap(), recorded.executor.wait().unwrap());
    assert_eq!(recorded.last().map(|m| m.step), Some(8));
    assert_eq!(alone, recorded);
}
