//! Persistent memory on a GPU, shared by the programs of a store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::wrong_length;
use crate::device::Gpu;
use crate::error::Result;
use crate::graph::State;

/// A persistent vector.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub buffer: wgpu::Buffer,
    pub elements: usize,
}

/// Persistent memory of programs on a GPU.
#[derive(Debug)]
pub(crate) struct GpuStates {
    gpu: Arc<Gpu>,
    vectors: Mutex<HashMap<State, Vector>>,
}

/// Buffers that kernels, copies and applications use.
pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

impl GpuStates {
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self { gpu, vectors: Mutex::default() }
    }

    pub fn get(&self, state: State) -> Option<Vector> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).get(&state).cloned()
    }

    pub fn get_or_create(&self, state: State, elements: usize) -> Result<Vector> {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vector) = vectors.get(&state) {
            if vector.elements != elements {
                return Err(wrong_length(state, vector.elements, elements));
            }
            return Ok(vector.clone());
        }
        let vector = Vector { buffer: self.gpu.buffer(state.name(), elements as u64 * 4, STORAGE)?, elements };
        vectors.insert(state, vector.clone());
        Ok(vector)
    }

    pub fn write(&self, state: State, values: &[f32]) -> Result<()> {
        let vector = self.get_or_create(state, values.len())?;
        self.gpu.write(&vector.buffer, 0, bytemuck::cast_slice(values))
    }

    pub fn read(&self, state: State) -> Result<Vec<f32>> {
        match self.get(state) {
            Some(vector) => {
                let bytes = self.gpu.read(&vector.buffer, 0, vector.elements as u64 * 4)?;
                Ok(bytemuck::pod_collect_to_vec(&bytes))
            }
            None => Ok(vec![]),
        }
    }
}
