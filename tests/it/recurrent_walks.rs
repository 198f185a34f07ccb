//! Walks with more steps than a dispatch takes: they are several walks, each of which goes on where the one before ended, bit for
//! bit, and agree with the CPU executor.

use std::sync::Arc;

use receptive::Device;
use receptive::device::Capabilities;
use receptive::exec::{Executor, Store};
use receptive::graph::{Extent, Graph, Init, Program, Shape, State, TensorId};
use receptive::ops::{self, Cell, RecurrentInputs};
use receptive::random::Random;

use crate::support::{assert_close, gpu};

const BATCH: usize = 2;

/// A walk and its gradients, given those of its states and of the last one.
struct Walk {
    program: Arc<Program>,
    x: TensorId,
    initial: TensorId,
    inputs: [TensorId; 3],
    lengths: TensorId,
    /// States, the last one, and the gradients of `x`, the weight and the state before the first step.
    results: [TensorId; 5],
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    cell: Cell,
    hidden: usize,
    reverse: bool,
}

impl Kind {
    fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    fn states(&self) -> usize {
        self.cell.states(self.hidden)
    }

    fn walk(&self, time: usize) -> Walk {
        let mut graph = Graph::new(Extent { batch: BATCH, time }).unwrap();
        let mut param = |name: &str, shape, init| graph.param(name, shape, init, false).unwrap();
        let bound = 1.0 / (self.hidden as f32).sqrt();
        let weight = param("weight", Shape::new(1, self.hidden, self.width()), Init::Uniform { bound });
        let x = param("x", Shape::new(BATCH, time, self.width()), Init::Zeros);
        let initial = param("initial", Shape::new(BATCH, 1, self.states()), Init::Zeros);
        let mask = graph.input_fixed("mask", 1, self.hidden).unwrap();
        let lengths = graph.input_ids_fixed("lengths", 1).unwrap();
        let given = RecurrentInputs {
            bias: None,
            initial: Some(initial),
            mask: Some(mask),
            lengths: Some(lengths),
            reverse: self.reverse,
        };
        let states = ops::recurrent(&mut graph, self.cell, x, weight, given).unwrap();
        let last = ops::final_state(&mut graph, states, Some(initial), Some(lengths), self.reverse).unwrap();
        let dstates = graph.input("dstates", 0, self.states()).unwrap();
        let dlast = graph.input_fixed("dlast", 1, self.states()).unwrap();
        let gradients = graph.backward_from(&[(states, dstates), (last, dlast)]).unwrap();
        let [dx, dweight, dinitial] = [x, weight, initial].map(|tensor| gradients.of(tensor).unwrap());
        let program = Arc::new(graph.finish(&[states, last], &[]).unwrap());
        let results = [states, last, dx, dweight, dinitial];
        Walk { program, x, initial, inputs: [mask, dstates, dlast], lengths, results }
    }
}

/// What a walk is given.
#[derive(Clone)]
struct Given {
    x: Vec<f32>,
    initial: Vec<f32>,
    mask: Vec<f32>,
    dstates: Vec<f32>,
    dlast: Vec<f32>,
    lengths: Vec<u32>,
}

impl Given {
    fn new(kind: &Kind, time: usize, lengths: &[u32]) -> Self {
        let normal = |seed, count| {
            let mut random = Random::new(seed, 0, 0);
            (0..count).map(|_| random.normal()).collect::<Vec<f32>>()
        };
        let mut random = Random::new(9, 0, 0);
        Self {
            x: normal(1, BATCH * time * kind.width()),
            initial: normal(2, BATCH * kind.states()),
            mask: (0..BATCH * kind.hidden).map(|_| [0.0, 1.25][usize::from(random.below(5) > 0)]).collect(),
            dstates: normal(3, BATCH * time * kind.states()),
            dlast: normal(4, BATCH * kind.states()),
            lengths: lengths.to_vec(),
        }
    }
}

impl Walk {
    fn dispatches(&self, capabilities: &Capabilities, shader: &str) -> usize {
        let dispatches = receptive::exec::dispatches(&self.program, capabilities).unwrap();
        dispatches.iter().filter(|dispatch| dispatch.kernel.shader == shader).count()
    }

    fn run(&self, device: &Device, capabilities: Option<&Capabilities>, given: &Given) -> [Vec<f32>; 5] {
        let store = Store::new(device);
        let layout = self.program.params();
        let mut flat = layout.initial(3);
        for (tensor, values) in [(self.x, &given.x), (self.initial, &given.initial)] {
            layout.iter().find(|param| param.tensor == tensor).unwrap().scatter(values, &mut flat);
        }
        store.write(State::Params, &flat).unwrap();
        let mut executor = match capabilities {
            Some(capabilities) => Executor::with_capabilities(&self.program, &store, capabilities).unwrap(),
            None => Executor::new(&self.program, &store).unwrap(),
        };
        executor.set_poison(true).unwrap();
        for (tensor, values) in self.inputs.into_iter().zip([&given.mask, &given.dstates, &given.dlast]) {
            executor.write(tensor, values).unwrap();
        }
        executor.write_ids(self.lengths, &given.lengths).unwrap();
        executor.run(&Default::default()).unwrap();
        self.results.map(|tensor| executor.read(tensor).unwrap())
    }
}

/// Rows `from..to` of each sequence.
fn rows(values: &[f32], time: usize, from: usize, to: usize) -> Vec<f32> {
    let channels = values.len() / BATCH / time;
    values.chunks(time * channels).flat_map(|sequence| sequence[from * channels..to * channels].to_vec()).collect()
}

/// A walk over `time` steps, and the same as one over `first` of them and one over the others.
fn both(kind: &Kind, device: &Device, capabilities: Option<&Capabilities>, time: usize, first: usize) {
    let what = format!("{kind:?} on {device}");
    let given = Given::new(kind, time, &[time as u32; BATCH]);
    let [states, last, dx, dweight, dinitial] = kind.walk(time).run(device, capabilities, &given);
    // In the order of the walk.
    let halves = match kind.reverse {
        true => [(time - first, time), (0, time - first)],
        false => [(0, first), (first, time)],
    };
    let part = |(from, to): (usize, usize), initial: &[f32], dlast: &[f32]| {
        let given = Given {
            x: rows(&given.x, time, from, to),
            dstates: rows(&given.dstates, time, from, to),
            initial: initial.to_vec(),
            dlast: dlast.to_vec(),
            lengths: vec![(to - from) as u32; BATCH],
            ..given.clone()
        };
        kind.walk(to - from).run(device, capabilities, &given)
    };
    let none = vec![0.0; given.dlast.len()];
    let [_, between, ..] = part(halves[0], &given.initial, &none);
    let second = part(halves[1], &between, &given.dlast);
    let first = part(halves[0], &given.initial, &second[4]);
    assert!(second[1] == last, "the last state, {what}");
    assert!(first[4] == dinitial, "the gradient of the first state, {what}");
    for (name, whole, at) in [("states", &states, 0), ("the gradient of x", &dx, 2)] {
        for ((from, to), half) in halves.into_iter().zip([&first, &second]) {
            assert!(rows(whole, time, from, to) == half[at], "{name} from {from}, {what}");
        }
    }
    // Its sum over time has another order.
    let sum: Vec<f32> = first[3].iter().zip(&second[3]).map(|(a, b)| a + b).collect();
    let scale = dweight.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    assert_close(&format!("the gradient of the weight, {what}"), &dweight, &sum, 1e-5 * scale, 1e-5);
}

const LSTM: Cell = Cell::Lstm { hard: false };
const RESET_BEFORE: Cell = Cell::Gru { reset_after: false, hard: true };

/// Each with the kernel that its size is for, and a few more steps than a dispatch takes.
fn cases() -> [(&'static str, Kind, usize); 4] {
    let kind = |cell, hidden, reverse| Kind { cell, hidden, reverse };
    [
        ("registers", kind(LSTM, 64, true), 520),
        ("walk", kind(LSTM, 257, false), 40),
        ("walk", kind(RESET_BEFORE, 250, true), 52),
        ("step", kind(RESET_BEFORE, 12, true), 9),
    ]
}

#[test]
fn several_dispatches_are_one_walk() {
    let capabilities = gpu().as_gpu().expect("not a GPU").capabilities().clone();
    for (variant, kind, time) in cases() {
        let forcing = capabilities.clone().forcing("recurrent", variant).forcing("recurrent_grad", variant);
        let (whole, half) = (kind.walk(time), kind.walk(time / 2));
        for shader in ["recurrent", "recurrent_grad"].map(|name| match variant {
            "step" => format!("{name}_step"),
            _ => name.to_owned(),
        }) {
            let [whole, half] = [&whole, &half].map(|walk| walk.dispatches(&forcing, &shader));
            assert!(whole > half && half > 0, "{shader}, {variant}, {kind:?}: {whole} and {half} dispatches");
        }
        both(&kind, &gpu(), Some(&forcing), time, time / 2);
        both(&kind, &Device::cpu(), None, time, time / 2);

        // Sequences that end within the first dispatch and within the last.
        let given = Given::new(&kind, time, &[3, time as u32 - 1]);
        let expected = whole.run(&Device::cpu(), None, &given);
        let actual = whole.run(&gpu(), Some(&forcing), &given);
        for (position, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            let scale = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
            let what = format!("{variant}, {kind:?}, lengths {:?}, result {position}", given.lengths);
            assert_close(&what, actual, expected, 2e-5 * scale, 2e-5);
        }
    }
}
