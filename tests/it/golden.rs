//! Reads the golden files (`tests/golden/README.md` says what they hold) and runs cases on every executor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use receptive::exec::{CpuExecutor, Element, Executor, Store};
use receptive::graph::{Extent, Graph, Init, Shape, State, TensorId};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::support::{assert_close, gpu};

/// The golden file of a name: where the tests run, or else where they were built. So they also run on a machine that has
/// no sources, from a folder with `tests/golden`.
pub fn path(name: &str) -> PathBuf {
    let file = PathBuf::from(format!("tests/golden/{name}.safetensors"));
    if file.exists() { file } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(file) }
}

/// A golden file: a description and named tensors.
pub struct Golden {
    bytes: Vec<u8>,
    /// What the file says of its cases.
    pub config: Value,
}

impl Golden {
    /// The file `tests/golden/NAME.safetensors`.
    pub fn read(name: &str) -> Self {
        let path = path(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["config"];
        Self { config: serde_json::from_str(config).unwrap(), bytes }
    }

    /// The cases of a file whose description is a list, with their numbers.
    pub fn cases(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.config.as_array().unwrap().iter().enumerate()
    }

    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.bytes).unwrap().names().into_iter().map(String::from).collect()
    }

    /// The dimensions of a tensor.
    pub fn dims(&self, name: &str) -> Vec<usize> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).shape().to_vec()
    }

    /// The size as the crate has it: missing dimensions are 1, in front.
    pub fn shape(&self, name: &str) -> Shape {
        match *self.dims(name) {
            [channels] => Shape::vector(channels),
            [time, channels] => Shape::new(1, time, channels),
            [batch, time, channels] => Shape::new(batch, time, channels),
            ref dims => panic!("{name} has dimensions {dims:?}"),
        }
    }

    /// Real values.
    pub fn reals(&self, name: &str) -> Vec<f32> {
        self.words(name, Dtype::F32, f32::from_le_bytes)
    }

    /// Ids; −1 becomes [`Shape::MASKED`].
    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name, Dtype::I32, i32::from_le_bytes)
            .into_iter()
            .map(|id| u32::try_from(id).unwrap_or(Shape::MASKED))
            .collect()
    }

    /// Checks that all tensors of a safetensors file are as those of this one.
    pub fn assert_holds(&self, bytes: &[u8]) {
        let (theirs, ours) = (SafeTensors::deserialize(&self.bytes).unwrap(), SafeTensors::deserialize(bytes).unwrap());
        assert!(!ours.is_empty());
        for (name, tensor) in ours.iter() {
            assert_eq!(tensor, theirs.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")), "{name}");
        }
    }

    fn words<T>(&self, name: &str, dtype: Dtype, read: fn([u8; 4]) -> T) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().as_chunks().0.iter().copied().map(read).collect()
    }
}

/// A number of a description.
#[track_caller]
pub fn number(config: &Value, key: &str) -> usize {
    config[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {config}")) as usize
}

/// One case under construction: a graph whose real inputs are parameters, their values, and what must come out.
pub struct GoldenCase<'g> {
    file: &'g Golden,
    number: usize,
    what: String,
    pub graph: Graph,
    reals: Vec<(TensorId, String)>,
    ids: Vec<(TensorId, String)>,
    expected: Vec<(TensorId, String)>,
}

impl<'g> GoldenCase<'g> {
    /// Case `number` of a file, with inputs of ids of the size of `ids`, if that is given.
    pub fn new(file: &'g Golden, number: usize, config: &Value, ids: Option<&str>) -> Self {
        let extent = ids.map_or(Extent { batch: 1, time: 1 }, |ids| {
            let dims = file.dims(&format!("{number}.{ids}"));
            Extent { batch: dims[0], time: dims[1] }
        });
        let graph = Graph::new(extent).unwrap();
        let what = format!("case {number} {config}");
        Self { file, number, what, graph, reals: vec![], ids: vec![], expected: vec![] }
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.number)
    }

    pub fn has(&self, name: &str) -> bool {
        self.file.names().contains(&self.name(name))
    }

    /// A real input.
    pub fn real(&mut self, name: &str) -> TensorId {
        self.real_shaped(name, self.file.shape(&self.name(name)))
    }

    pub fn real_shaped(&mut self, name: &str, shape: Shape) -> TensorId {
        let tensor = self.graph.param(name, shape, Init::Zeros, false).unwrap();
        self.reals.push((tensor, self.name(name)));
        tensor
    }

    /// An input of ids.
    pub fn ids(&mut self, name: &str) -> TensorId {
        let tensor = self.graph.input_ids(name, 0).unwrap();
        self.ids.push((tensor, self.name(name)));
        tensor
    }

    /// Says that `output` must have the values of tensor `name`.
    pub fn expect(&mut self, output: TensorId, name: &str) {
        self.expected.push((output, self.name(name)));
    }

    /// Appends the gradients of `y` for the case's `dy`, or of a loss; those of `inputs` must be what the file has.
    pub fn expect_gradients(&mut self, y: TensorId, dy: Option<&str>, inputs: &[(TensorId, &str)]) {
        let gradients = match dy {
            Some(dy) => {
                let dy = self.real(dy);
                self.graph.backward_from(&[(y, dy)]).unwrap()
            }
            None => self.graph.backward(y).unwrap(),
        };
        for &(input, name) in inputs {
            self.expect(gradients.of(input).unwrap(), name);
        }
    }

    /// Runs the case on the CPU in both precisions and on the GPU.
    pub fn check(self) {
        let Self { file, what, graph, reals, ids, expected, .. } = self;
        let outputs: Vec<TensorId> = expected.iter().map(|(tensor, _)| *tensor).collect();
        let program = Arc::new(graph.finish(&outputs, &[]).unwrap());

        fn on_cpu<T: Element>(
            program: &Arc<receptive::graph::Program>,
            reals: &[(TensorId, Vec<f32>)],
            ids: &[(TensorId, Vec<u32>)],
            outputs: &[TensorId],
        ) -> Vec<Vec<f32>> {
            let mut cpu = CpuExecutor::<T>::new(Arc::clone(program)).unwrap();
            cpu.set_poison(true);
            for (tensor, values) in reals {
                let values: Vec<T> = values.iter().map(|&v| T::of(f64::from(v))).collect();
                cpu.write(*tensor, &values).unwrap();
            }
            for (tensor, values) in ids {
                cpu.write_ids(*tensor, values).unwrap();
            }
            cpu.run(&Default::default()).unwrap();
            let read = |&t: &TensorId| cpu.read(t).unwrap().into_iter().map(|v| v.to_f64() as f32).collect();
            outputs.iter().map(read).collect()
        }
        let reals: Vec<_> = reals.into_iter().map(|(tensor, name)| (tensor, file.reals(&name))).collect();
        let ids: Vec<_> = ids.into_iter().map(|(tensor, name)| (tensor, file.ids(&name))).collect();

        let store = Store::new(&gpu());
        let mut flat = vec![0.0; program.params().flat_len()];
        for (tensor, values) in &reals {
            program.params().iter().find(|p| p.tensor == *tensor).unwrap().scatter(values, &mut flat);
        }
        store.write(State::Params, &flat).unwrap();
        let mut executor = Executor::new(&program, &store).unwrap();
        executor.set_poison(true).unwrap();
        for (tensor, values) in &ids {
            executor.write_ids(*tensor, values).unwrap();
        }
        executor.run(&Default::default()).unwrap();
        let on_gpu: Vec<Vec<f32>> = outputs.iter().map(|&t| executor.read(t).unwrap()).collect();

        for (device, tolerance, actual) in [
            ("CPU f64", 1e-6, on_cpu::<f64>(&program, &reals, &ids, &outputs)),
            ("CPU", 1e-5, on_cpu::<f32>(&program, &reals, &ids, &outputs)),
            ("GPU", 1e-5, on_gpu),
        ] {
            for ((_, name), actual) in expected.iter().zip(&actual) {
                let values = file.reals(name);
                let largest = values.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
                assert_close(&format!("{what}: {name} on the {device}"), actual, &values, tolerance * largest, 0.0);
            }
        }
    }
}
