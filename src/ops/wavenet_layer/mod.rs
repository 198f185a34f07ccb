//! WaveNet's residual layer (van den Oord et al. 2016, figure 4): dilated causal convolution, gate and residual in one.

mod cpu;
mod grad;

use bytemuck::{Pod, Zeroable};

use crate::device::{Capabilities, Choice, Variant, always, choose};
use crate::error::Result;
use crate::graph::{
    Binding, Cost, CpuRun, Dispatch, GpuPlan, Gradient, Graph, Kind, Op, Operand, Real, Shape, TensorId, cpu_reference,
    expect_kinds, shape_error,
};
use crate::ops::conv1d::{BUSY, Conv1dGradInput, Conv1dGradWeight, Conv1dGradWeightPair, Epilogue, Product};
use crate::ops::gate::{GateGrad, check_condition, give_condition};
use crate::ops::sum::Sum;
use crate::ops::{Activation, Case, CaseInput, Geometry, conv1d, gate};
use crate::random::Random;
use grad::GatedProjectionGrad;

/// `[a | b] = conv(x) + bias + condition`, `z = tanh(a) · σ(b)`, `h = x + z · W + bias`.
///
/// Inputs, those that the fields name: `x` `[batch, time, r]`; the convolution's weight `[kernel, r, 2g]` and bias `[2g]`;
/// the residual's weight `[1, g, r]` and bias `[r]`; the condition `[batch, time or 1, 2g]`.
/// Outputs: `z` `[batch, time, g]`; `[a | b]`, which the gradient reads; where `residual`, `h` `[batch, time, r]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaveNetLayer {
    /// Taps of the convolution.
    pub kernel: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Whether both convolutions have a bias.
    pub bias: bool,
    /// Whether there is a residual output; nothing reads that of the last layer.
    pub residual: bool,
    /// Whether there is a condition.
    pub conditioned: bool,
}

/// The tensors of a layer's weights; the biases are both there or both not.
#[derive(Debug, Clone, Copy)]
pub struct LayerWeights {
    /// `[kernel, r, 2g]`
    pub dilated: TensorId,
    /// `[2g]`
    pub dilated_bias: Option<TensorId>,
    /// `[1, g, r]`; nothing in a layer without residual.
    pub residual: Option<TensorId>,
    /// `[r]`
    pub residual_bias: Option<TensorId>,
}

/// Appends a layer; gives the gated output `z` and, where there are residual weights, `h`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn wavenet_layer(
    graph: &mut Graph,
    x: TensorId,
    weights: &LayerWeights,
    condition: Option<TensorId>,
    kernel: usize,
    dilation: usize,
) -> Result<(TensorId, Option<TensorId>)> {
    let inputs: Vec<TensorId> = [Some(x), Some(weights.dilated), weights.dilated_bias]
        .into_iter()
        .chain([weights.residual, weights.residual_bias, condition])
        .flatten()
        .collect();
    let op = WaveNetLayer {
        kernel,
        dilation,
        bias: weights.dilated_bias.is_some(),
        residual: weights.residual.is_some(),
        conditioned: condition.is_some(),
    };
    let outputs = graph.push(op, &inputs)?;
    Ok((outputs[0], outputs.get(2).copied()))
}

/// The inputs by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<T> {
    pub x: T,
    pub dilated: T,
    pub dilated_bias: Option<T>,
    pub residual: Option<T>,
    pub residual_bias: Option<T>,
    pub condition: Option<T>,
}

impl WaveNetLayer {
    fn geometry(&self) -> Geometry {
        Geometry::causal(self.kernel, self.dilation)
    }

    fn input_count(&self) -> usize {
        let count = |present: bool| usize::from(present);
        2 + count(self.bias) + count(self.residual) * (1 + count(self.bias)) + count(self.conditioned)
    }

    pub(super) fn sort<T: Copy>(&self, inputs: &[T]) -> Inputs<T> {
        let mut rest = inputs[2..].iter().copied();
        let mut next = |present: bool| if present { rest.next() } else { None };
        Inputs {
            x: inputs[0],
            dilated: inputs[1],
            dilated_bias: next(self.bias),
            residual: next(self.residual),
            residual_bias: next(self.residual && self.bias),
            condition: next(self.conditioned),
        }
    }
}

impl Op for WaveNetLayer {
    fn name(&self) -> &'static str {
        "wavenet_layer"
    }

    fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        expect_kinds(self, inputs, &vec![Kind::Real; self.input_count()])?;
        let shapes = self.sort(inputs);
        let (x, dilated) = (shapes.x, shapes.dilated);
        if self.kernel == 0 || self.dilation == 0 {
            return Err(shape_error(self, "kernel and dilation must be positive"));
        }
        if dilated.rows() != self.kernel * x.channels || dilated.channels % 2 != 0 {
            return Err(shape_error(
                self,
                format!("weight {dilated} must be [{}, {}, 2 · gate] for input {x}", self.kernel, x.channels),
            ));
        }
        let gate = dilated.channels / 2;
        if shapes.dilated_bias.is_some_and(|bias| bias != Shape::vector(2 * gate)) {
            return Err(shape_error(self, format!("a bias does not fit weight {dilated}")));
        }
        if let Some(residual) = shapes.residual
            && (residual.rows() != gate || residual.channels != x.channels)
        {
            return Err(shape_error(self, format!("residual weight {residual} must be [1, {gate}, {}]", x.channels)));
        }
        if shapes.residual_bias.is_some_and(|bias| bias != Shape::vector(x.channels)) {
            return Err(shape_error(self, format!("the residual's bias does not fit input {x}")));
        }
        if let Some(condition) = shapes.condition {
            check_condition(self, x.with_channels(2 * gate), condition)?;
        }
        let mut outputs = vec![x.with_channels(gate), x.with_channels(2 * gate)];
        if self.residual {
            outputs.push(x);
        }
        Ok(outputs)
    }

    fn gradient(&self, gradient: &mut Gradient<'_>) -> Result<()> {
        let positions: Vec<usize> = (0..gradient.inputs().len()).collect();
        let at = self.sort(&positions);
        let inputs = self.sort(gradient.inputs());
        let (z, pre) = (gradient.output(0), gradient.output(1));
        let dz = gradient.of_output(0);
        let dh = if self.residual { gradient.of_output(2) } else { None };
        let through_gate = match (dh, inputs.residual, dz) {
            (Some(dh), Some(weight), _) => {
                let tensors: Vec<TensorId> = [dh, weight, pre].into_iter().chain(dz).collect();
                Some(gradient.push_one(GatedProjectionGrad { add: dz.is_some() }, &tensors)?)
            }
            (_, _, Some(dz)) => Some(gradient.push_one(GateGrad { conditioned: false }, &[pre, dz])?),
            _ => None,
        };
        let dpre = match (through_gate, gradient.of_output(1)) {
            (Some(a), Some(b)) => gradient.push_one(Sum { first: 1.0, second: Some(1.0) }, &[a, b])?,
            (Some(dpre), None) | (None, Some(dpre)) => dpre,
            (None, None) => return Ok(()),
        };
        if gradient.wanted(at.x) {
            let op = Conv1dGradInput { geometry: self.geometry(), add: dh.is_some() };
            let tensors: Vec<TensorId> = [dpre, inputs.dilated, inputs.x].into_iter().chain(dh).collect();
            let dx = gradient.push_one(op, &tensors)?;
            gradient.give(at.x, dx);
        }
        let weight = gradient.shape(inputs.dilated);
        let dilated = Conv1dGradWeight { geometry: self.geometry(), weight, bias: self.bias };
        let sums = match (dh, inputs.residual) {
            (Some(dh), Some(weight)) => {
                let weight = gradient.shape(weight);
                let residual = Conv1dGradWeight { geometry: Geometry::pointwise(), weight, bias: self.bias };
                let op = Conv1dGradWeightPair { first: dilated, second: residual };
                gradient.push(op, &[inputs.x, dpre, z, dh])?
            }
            _ => gradient.push(dilated, &[inputs.x, dpre])?,
        };
        let residual = dh.and(at.residual).into_iter().chain(dh.and(at.residual_bias));
        let positions = std::iter::once(at.dilated).chain(at.dilated_bias).chain(residual);
        for (position, sum) in positions.zip(sums) {
            gradient.give(position, sum);
        }
        if let Some(condition) = at.condition.filter(|&position| gradient.wanted(position)) {
            give_condition(gradient, condition, dpre)?;
        }
        Ok(())
    }

    cpu_reference!();

    fn gpu(&self, plan: &GpuPlan<'_>) -> Result<Vec<Dispatch>> {
        let references: Vec<&Operand> = plan.inputs.iter().collect();
        let inputs = self.sort(&references);
        let problem = Problem::new(self, &inputs, plan.outputs);
        let choice: Choice<Variation> = choose("wavenet_layer", VARIANTS, &problem, plan.capabilities)?;
        match choice.value {
            Variation::TwoProducts => {
                let mut dispatches = self.parts(&inputs, plan, true)?;
                dispatches[0].variant = Some(choice.without_value());
                Ok(dispatches)
            }
            Variation::Fused(tile) => Ok(vec![self.fused(&inputs, plan.outputs, tile).variant(choice)]),
            Variation::Parts => {
                let mut dispatches = self.parts(&inputs, plan, false)?;
                dispatches[0].variant = Some(choice.without_value());
                Ok(dispatches)
            }
        }
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let rows = outputs[0].rows();
        let Inputs { dilated, residual, .. } = self.sort(inputs);
        let cost = Cost::moving(inputs.iter().chain(outputs)).with_product(rows, dilated);
        residual.map_or(cost, |residual| cost.with_product(rows, residual))
    }
}

impl WaveNetLayer {
    fn cpu<T: Real>(&self, run: &mut CpuRun<'_, T>) -> Result<()> {
        cpu::forward(self, run);
        Ok(())
    }

    /// The dilated convolution, with the gate as its epilogue or without it.
    fn convolution<'a>(&self, inputs: &Inputs<&'a Operand>, outputs: &'a [Operand], gated: bool) -> Product<'a> {
        let (z, pre) = (&outputs[0], &outputs[1]);
        let target = if gated { z } else { pre };
        Product {
            source: inputs.x,
            weight: inputs.dilated,
            target,
            columns: target.shape.channels,
            map: self.geometry().forward(0),
            taps: self.kernel,
            transposed: false,
            bias: inputs.dilated_bias,
            add: inputs.condition,
            epilogue: if gated { Epilogue::Gate(pre) } else { Epilogue::Activation(Activation::Identity) },
        }
    }

    /// The layer as separate kernels, with the gate as the first one's epilogue or alone.
    fn parts(&self, inputs: &Inputs<&Operand>, plan: &GpuPlan<'_>, gated: bool) -> Result<Vec<Dispatch>> {
        let (z, pre) = (&plan.outputs[0], &plan.outputs[1]);
        let convolution = self.convolution(inputs, plan.outputs, gated);
        let mut dispatches = vec![convolution.dispatch(plan.capabilities)?];
        if !gated {
            dispatches.push(gate::dispatch(pre, None, None, z));
        }
        if let (Some(weight), Some(h)) = (inputs.residual, plan.outputs.get(2)) {
            let residual = Product {
                source: z,
                weight,
                target: h,
                columns: h.shape.channels,
                map: Geometry::pointwise().forward(0),
                taps: 1,
                bias: inputs.residual_bias,
                add: Some(inputs.x),
                epilogue: Epilogue::Activation(Activation::Identity),
                ..convolution
            };
            dispatches.push(residual.dispatch(plan.capabilities)?);
        }
        Ok(dispatches)
    }

    fn fused(&self, inputs: &Inputs<&Operand>, outputs: &[Operand], tile: Tile) -> Dispatch {
        let (z, pre, h) = (&outputs[0], &outputs[1], outputs.get(2));
        let place = |operand: Option<&Operand>| operand.map_or((0, 0), Operand::place4);
        let first = inputs.dilated.param.unwrap_or(0);
        let start4 = inputs.dilated.place4().0;
        let weight4 = |operand: Option<&Operand>| {
            operand.and_then(|o| o.param).map_or(0, |offset| start4 + (offset.saturating_sub(first) / 4) as u32)
        };
        let last = inputs.residual_bias.or(inputs.residual).or(inputs.dilated_bias).unwrap_or(inputs.dilated);
        let span = match (inputs.dilated.binding, last.binding) {
            (Binding::Tensor(first), Binding::Tensor(last)) => Binding::Span(first, last),
            (other, _) => other,
        };
        let rows = inputs.x.shape.rows();
        let workgroups = rows.div_ceil(tile.m as usize);
        let (x_offset4, x_stride4) = place(Some(inputs.x));
        let (z_offset4, z_stride4) = place(Some(z));
        let (pre_offset4, pre_stride4) = place(Some(pre));
        let (h_offset4, h_stride4) = place(h);
        let (condition_offset4, condition_stride4) = place(inputs.condition);
        let params = Params {
            workgroups: workgroups as u32,
            rows: rows as u32,
            time: inputs.x.shape.time as u32,
            taps: self.kernel as u32,
            dilation: self.dilation as u32,
            residual: inputs.x.shape.channels as u32,
            x_offset4,
            x_stride4,
            z_offset4,
            z_stride4,
            pre_offset4,
            pre_stride4,
            h_offset4,
            h_stride4,
            condition_offset4,
            condition_stride4,
            condition_time: inputs.condition.map_or(0, |c| c.shape.time as u32),
            dilated_weight4: start4,
            dilated_bias4: weight4(inputs.dilated_bias),
            residual_weight4: weight4(inputs.residual),
            residual_bias4: weight4(inputs.residual_bias),
        };
        let gate4 = z.channels4();
        // Bindings have fixed places; one that is not used is a scrap of scratch memory.
        let scrap = |index| Binding::Scratch { index, elements: 4 };
        Dispatch::new("wavenet_layer", "main")
            .define("BIAS", self.bias)
            .define("SAVE", pre.needed)
            .define("RESIDUAL", h.is_some())
            .define("CONDITION", inputs.condition.is_some())
            .constant("TILE_M", tile.m)
            .constant("THREAD_M4", tile.thread_m4)
            .constant("GATE4", gate4)
            .constant("SLAB4", tile.slab4)
            .constant("TAPS", self.kernel as u32)
            .constant("RESIDUAL4", inputs.x.channels4())
            .constant("THREADS", tile.threads(gate4))
            .constant("B_TILE", tile.m * tile.slab4)
            .constant("MEMORY", tile.memory(gate4))
            .read(inputs.x.binding)
            .read(span)
            .write(z.binding)
            .write(if pre.needed { pre.binding } else { scrap(0) })
            .write(h.map_or(scrap(1), |h| h.binding))
            .read(inputs.condition.unwrap_or(inputs.x).binding)
            .params(&params)
            .workgroups(workgroups)
    }
}

/// What decides which kernels a layer gets.
pub(crate) struct Problem {
    /// The dilated convolution with the gate as its epilogue.
    gated: conv1d::Problem,
    gate: usize,
    rows: usize,
    /// Whether all weights lie in the flat vector, in the order of the inputs.
    contiguous: bool,
}

impl Problem {
    fn new(layer: &WaveNetLayer, inputs: &Inputs<&Operand>, outputs: &[Operand]) -> Self {
        let weights = [Some(inputs.dilated), inputs.dilated_bias, inputs.residual, inputs.residual_bias];
        let present = weights.iter().flatten().count();
        let offsets: Vec<usize> = weights.iter().flatten().filter_map(|w| w.param).collect();
        let expected = layer.input_count() - 1 - usize::from(layer.conditioned);
        Self {
            gated: layer.convolution(inputs, outputs, true).planned(),
            gate: outputs[0].shape.channels,
            rows: outputs[0].planned.rows(),
            contiguous: present == expected && offsets.len() == present && offsets.is_sorted(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    m: u32,
    /// Groups of 4 rows that a thread makes.
    thread_m4: u32,
    /// Groups of 4 along K that pass through workgroup memory at once.
    slab4: u32,
}

impl Tile {
    fn threads(&self, gate4: u32) -> u32 {
        self.m / (4 * self.thread_m4) * gate4
    }

    /// Groups of 4 numbers in workgroup memory: both operands, later z.
    fn memory(&self, gate4: u32) -> u32 {
        (self.m * self.slab4 + 8 * self.slab4 * gate4).max(self.m * gate4)
    }
}

/// Tiles for `gate4` groups of channels, in order of preference: as many rows as leave a large GPU busy.
fn tile(gate4: u32, rows: usize, capabilities: &Capabilities) -> Option<Tile> {
    let fits = |tile: &Tile| {
        let threads = tile.threads(gate4);
        tile.memory(gate4) * 16 <= capabilities.workgroup_bytes.min(16_384)
            && threads <= capabilities.max_invocations.min(256)
            && tile.m / 4 * tile.slab4 <= threads
    };
    let shapes = [(64, 2), (64, 1), (32, 2), (32, 1), (16, 1), (8, 1), (4, 1)];
    let all = shapes.map(|(m, thread_m4)| [4, 2, 1].map(|slab4| Tile { m, thread_m4, slab4 }));
    let fitting: Vec<Tile> = all.into_iter().flatten().filter(fits).collect();
    let busy = |tile: &&Tile| rows.div_ceil(tile.m as usize) >= BUSY;
    fitting.iter().find(busy).or_else(|| fitting.iter().find(|tile| tile.m <= 16)).or(fitting.last()).copied()
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Variation {
    /// The gate in the epilogue of the first.
    TwoProducts,
    Fused(Tile),
    Parts,
}

pub(crate) const VARIANTS: &[Variant<Problem, Variation>] = &[
    Variant {
        name: "two products",
        // The gate is an epilogue of the kernels for software adapters and on matrices, wherever those are worth it.
        admits: |problem, capabilities| match problem.gated.kernel(capabilities) {
            Ok(_) => Ok(Variation::TwoProducts),
            Err(error) => Err(error.to_string()),
        },
        suits: always,
    },
    Variant {
        name: "fused",
        admits: |problem, capabilities| {
            if problem.gate % 4 != 0 {
                return Err(format!("{} gate channels are no multiple of 4", problem.gate));
            }
            if !problem.contiguous {
                return Err("the weights are not parameters declared in order".into());
            }
            tile((problem.gate / 4) as u32, problem.rows, capabilities)
                .map(Variation::Fused)
                .ok_or_else(|| format!("{} gate channels don't fit in workgroup memory", problem.gate))
        },
        suits: always,
    },
    Variant { name: "parts", admits: |_, _| Ok(Variation::Parts), suits: always },
];

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
struct Params {
    workgroups: u32,
    rows: u32,
    time: u32,
    taps: u32,
    dilation: u32,
    residual: u32,
    x_offset4: u32,
    x_stride4: u32,
    z_offset4: u32,
    z_stride4: u32,
    pre_offset4: u32,
    pre_stride4: u32,
    h_offset4: u32,
    h_stride4: u32,
    condition_offset4: u32,
    condition_stride4: u32,
    condition_time: u32,
    dilated_weight4: u32,
    dilated_bias4: u32,
    residual_weight4: u32,
    residual_bias4: u32,
}

pub(super) fn case(random: &mut Random) -> Case {
    let mut pick = |sizes: &[usize]| sizes[random.below(sizes.len() as u32) as usize];
    let (residual, gate) = (pick(&[4, 5, 8, 32, 36]), pick(&[4, 7, 8, 20, 32, 64, 128, 260]));
    let (kernel, dilation) = (pick(&[1, 2, 3]), pick(&[1, 2, 5]));
    let shape = Shape::new(pick(&[1, 2]), pick(&[1, 9, 40, 70]), residual);
    let layer = WaveNetLayer {
        kernel,
        dilation,
        bias: pick(&[0, 1]) == 1,
        residual: pick(&[0, 1, 1]) == 1,
        conditioned: pick(&[0, 1]) == 1,
    };
    let mut inputs = vec![
        CaseInput::real(shape),
        CaseInput::scaled(Shape::new(kernel, residual, 2 * gate), 1.0 / ((kernel * residual) as f32).sqrt()),
    ];
    if layer.bias {
        inputs.push(CaseInput::real(Shape::vector(2 * gate)));
    }
    if layer.residual {
        inputs.push(CaseInput::scaled(Shape::new(1, gate, residual), 1.0 / (gate as f32).sqrt()));
        if layer.bias {
            inputs.push(CaseInput::real(Shape::vector(residual)));
        }
    }
    if layer.conditioned {
        let condition = shape.with_channels(2 * gate);
        inputs.push(CaseInput::real(if pick(&[0, 1]) == 0 { condition } else { condition.with_time(1) }));
    }
    Case::new(layer, inputs)
}
