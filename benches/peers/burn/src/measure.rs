//! Checks and times a workload.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::module::conv1d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use crate::models::Training;
use crate::workload::{Size, Spread, Timing};

const BATCHES: usize = 4;
const WARM_UP: usize = 2;

#[derive(Clone, Copy)]
pub struct Limits {
    pub runs: usize,
    pub seconds: f64,
}

impl Limits {
    /// How many runs of `ms` each: at least three.
    fn runs(self, ms: f64) -> usize {
        ((self.seconds * 1e3 / ms) as usize).clamp(3, self.runs.max(3))
    }
}

fn synchronize(device: &Device) -> Result<()> {
    device.sync().map_err(|error| anyhow::anyhow!("the device failed: {error:?}"))
}

fn timed(device: &Device, call: impl FnOnce()) -> Result<f64> {
    synchronize(device)?;
    let started = Instant::now();
    call();
    synchronize(device)?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn value(loss: Tensor<1>) -> f32 {
    loss.into_scalar()
}

/// Training steps over batches in rotation; nothing is read back within the timed ones.
pub fn training<M: Training>(size: &Size, device: &Device, limits: Limits) -> Result<Timing> {
    device.seed(1);
    let mut model = M::new(size, device);
    let parameters = model.num_params();
    ensure!(parameters == size.parameters, "the model has {parameters} parameters, the workload {}", size.parameters);
    let batches: Vec<_> = (0..BATCHES).map(|_| M::batch(size, device)).collect();
    let mut optimizer = AdamConfig::new().with_beta_1(0.9).with_beta_2(0.999).with_epsilon(1e-8).init();
    let before = value(model.loss(batches[0].clone()));

    let mut next = 0;
    let mut step = || {
        let gradients = model.loss(batches[next % BATCHES].clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(size.lr, model.clone(), gradients);
        next += 1;
    };
    let first_ms = timed(device, &mut step)?;
    let mut ms = first_ms;
    for _ in 0..WARM_UP {
        ms = timed(device, &mut step)?;
    }
    let times = (0..limits.runs(ms)).map(|_| timed(device, &mut step)).collect::<Result<Vec<_>>>()?;

    let steps = next;
    let after = value(model.loss(batches[0].clone()));
    if !(after < before) {
        bail!("the loss of the first batch went from {before} to {after} in {steps} steps: it should fall");
    }
    Ok(Timing {
        checked: format!("loss of the first batch fell from {before:.5} to {after:.5} in {steps} steps"),
        first_ms,
        runs: times.len(),
        ms: Spread::of(times),
        peak_bytes: None,
    })
}

/// A dilated convolution alone. A gradient cannot be had without its forward pass, which is done before the clock
/// starts; the sum that makes the gradient of the output random is a little work more than the workload asks for.
pub fn convolution(name: &str, size: &Size, device: &Device, limits: Limits) -> Result<Timing> {
    let forward = name.starts_with("conv_forward_");
    let by_input = name.starts_with("conv_grad_input_");
    ensure!(forward || by_input || name.starts_with("conv_grad_weight_"), "{name} names no pass");
    device.seed(1);
    let device = if forward { device.clone().inner() } else { device.clone() };
    let (kernel, dilation) = (size.kernel, size.dilation);
    let padded = size.time + (kernel - 1) * dilation;
    let normal = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let mut sets = Vec::new();
    for _ in 0..BATCHES {
        let x = normal([size.batch, size.in_channels, padded]);
        let w = normal([size.out_channels, size.in_channels, kernel]);
        let b = Tensor::<1>::random([size.out_channels], Distribution::Normal(0.0, 1.0), &device);
        let dy = normal([size.batch, size.out_channels, size.time]);
        let (x, w) = match (forward, by_input) {
            (true, _) => (x, w),
            (_, true) => (x.require_grad(), w),
            _ => (x, w.require_grad()),
        };
        sets.push((x, w, b, dy));
    }
    let parameters = sets[0].1.shape().num_elements() + sets[0].2.shape().num_elements();
    ensure!(parameters == size.parameters, "weights and biases are {parameters}, the workload {}", size.parameters);

    let mut next = 0;
    let mut one = || -> Result<(f64, Tensor<3>)> {
        let (x, w, b, dy) = &sets[next % BATCHES];
        next += 1;
        let options = || ConvOptions::new([1], [0], [dilation], 1);
        let convolve = || conv1d(x.clone(), w.clone(), Some(b.clone()), options());
        let mut result = None;
        let ms = if forward {
            timed(&device, || result = Some(convolve()))?
        } else {
            let sum = (convolve() * dy.clone()).sum();
            timed(&device, || {
                let gradients = sum.backward();
                result = if by_input { x.grad(&gradients) } else { w.grad(&gradients) };
            })?
        };
        Ok((ms, result.ok_or_else(|| anyhow::anyhow!("burn gave no gradient"))?))
    };
    let (first_ms, result) = one()?;
    let (x, w, b, dy) = &sets[0];
    let data = |tensor: &Tensor<3>| tensor.clone().into_data();
    let pass = if forward { Pass::Forward } else { Pass::of(by_input) };
    let deviation = check(size, pass, data(x), data(w), b.clone().into_data(), data(dy), result.into_data())?;
    ensure!(deviation <= 1e-3, "the largest relative deviation from float64 is {deviation:.1e}");
    let mut ms = first_ms;
    for _ in 0..WARM_UP {
        ms = one()?.0;
    }
    let times = (0..limits.runs(ms)).map(|_| Ok(one()?.0)).collect::<Result<Vec<_>>>()?;
    Ok(Timing {
        checked: format!("{CHECKED} elements with float64's: largest relative deviation {deviation:.1e}"),
        first_ms,
        runs: times.len(),
        ms: Spread::of(times),
        peak_bytes: None,
    })
}

/// Elements of a result that are computed again in float64.
const CHECKED: usize = 500;

#[derive(Clone, Copy)]
enum Pass {
    Forward,
    GradInput,
    GradWeight,
}

impl Pass {
    fn of(by_input: bool) -> Self {
        if by_input { Pass::GradInput } else { Pass::GradWeight }
    }
}

/// The largest deviation of elements spread over the result, relative to the largest of them.
fn check(
    size: &Size,
    pass: Pass,
    x: TensorData,
    w: TensorData,
    b: TensorData,
    dy: TensorData,
    result: TensorData,
) -> Result<f64> {
    let floats = |data: TensorData| -> Result<Vec<f64>> {
        let values = data.try_to_vec::<f32>().map_err(|error| anyhow::anyhow!("no f32 values: {error:?}"))?;
        Ok(values.into_iter().map(f64::from).collect())
    };
    let (x, w, b, dy, result) = (floats(x)?, floats(w)?, floats(b)?, floats(dy)?, floats(result)?);
    let (c_in, c_out, taps, time, d) = (size.in_channels, size.out_channels, size.kernel, size.time, size.dilation);
    let padded = time + (taps - 1) * d;
    let x_at = |n: usize, c: usize, t: usize| x[(n * c_in + c) * padded + t];
    let dy_at = |n: usize, o: usize, t: usize| dy[(n * c_out + o) * time + t];
    let w_at = |o: usize, c: usize, k: usize| w[(o * c_in + c) * taps + k];
    let exact = |index: usize| -> f64 {
        match pass {
            Pass::Forward => {
                let (n, o, t) = (index / (c_out * time), index / time % c_out, index % time);
                let products = (0..c_in).flat_map(|c| (0..taps).map(move |k| (c, k)));
                b[o] + products.map(|(c, k)| x_at(n, c, t + k * d) * w_at(o, c, k)).sum::<f64>()
            }
            Pass::GradInput => {
                let (n, c, t) = (index / (c_in * padded), index / padded % c_in, index % padded);
                let inside = (0..taps).filter(|k| t >= k * d && t - k * d < time);
                inside.map(|k| (0..c_out).map(|o| dy_at(n, o, t - k * d) * w_at(o, c, k)).sum::<f64>()).sum()
            }
            Pass::GradWeight => {
                let (o, c, k) = (index / (c_in * taps), index / taps % c_in, index % taps);
                let rows = |n: usize| (0..time).map(move |t| dy_at(n, o, t) * x_at(n, c, t + k * d)).sum::<f64>();
                (0..size.batch).map(rows).sum()
            }
        }
    };
    // A stride without a common factor with the sizes, so that all channels and times are met.
    let indices = (0..CHECKED).map(|i| i * 7919 % result.len());
    let (mut deviation, mut largest) = (0f64, 0f64);
    for index in indices {
        let expected = exact(index);
        let difference = (result[index] - expected).abs();
        ensure!(difference.is_finite(), "the result is not finite at {index}");
        deviation = deviation.max(difference);
        largest = largest.max(expected.abs());
    }
    Ok(deviation / largest)
}
