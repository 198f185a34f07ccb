//! A step on the GPU: what is recorded and submitted.

use std::sync::Arc;

use super::gpu::{GpuExecutor, STEP_BYTES};
use crate::error::Result;
use crate::graph::{Carry, Purpose, State, StepArgs};

impl GpuExecutor {
    /// Submits one step; waits only if the device is several steps behind.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Timeout`](crate::Error::Timeout),
    /// [`Error::Device`](crate::Error::Device).
    pub fn run(&mut self, step: &StepArgs) -> Result<()> {
        self.ring.wait_for_slot()?;
        let start = self.ring.log.now();
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        self.record_into(step, &mut encoder)?;
        let submission = self.gpu.scoped("step", || self.gpu.queue().submit([encoder.finish()]))?;
        self.submitted(step, submission);
        self.ring.log.add_host(start);
        Ok(())
    }

    /// Records one step into an application's own encoder. The application submits it and tells
    /// [`submitted`](Self::submitted) before it records the next.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn record(&mut self, step: &StepArgs, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.ring.wait_for_slot()?;
        let start = self.ring.log.now();
        self.record_into(step, encoder)?;
        self.ring.log.add_host(start);
        Ok(())
    }

    /// Tells that the step recorded last was submitted.
    pub fn submitted(&mut self, step: &StepArgs, submission: wgpu::SubmissionIndex) {
        self.ring.submitted(step.step, submission);
    }

    fn record_into(&mut self, step: &StepArgs, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        let words = step.words();
        let (params, inputs) = (&self.params, &self.inputs);
        let (upload, readback) = self.ring.begin(|view| {
            view.slice(..STEP_BYTES as usize).copy_from_slice(bytemuck::cast_slice(&words));
            for pending in inputs.values().chain([params]).filter(|p| p.dirty > 0) {
                let start = pending.upload_offset as usize;
                let bytes = bytemuck::cast_slice(&pending.words[..pending.dirty]);
                view.slice(start..start + bytes.len()).copy_from_slice(bytes);
            }
        })?;
        encoder.copy_buffer_to_buffer(&upload, 0, &self.step_buffer, 0, STEP_BYTES);
        for pending in self.inputs.values_mut().chain([&mut self.params]).filter(|p| p.dirty > 0) {
            let target = self.buffers.get(pending.allocation).unwrap_or(&self.params_buffer);
            encoder.copy_buffer_to_buffer(&upload, pending.upload_offset, target, 0, pending.dirty as u64 * 4);
            pending.dirty = 0;
        }
        self.record_poison(encoder);
        let dispatches = self.planned.len();
        match self.ring.stopwatch().filter(|stopwatch| stopwatch.by_dispatch()) {
            Some(_) => (0..dispatches).for_each(|index| self.record_pass(encoder, index, index + 1)),
            None => self.record_pass(encoder, 0, dispatches),
        }
        for (position, &metric) in self.program.metrics.iter().enumerate() {
            let place = self.program.place(metric)?;
            let (buffer, offset) = (&self.buffers[place.allocation], place.offset as u64 * 4);
            encoder.copy_buffer_to_buffer(buffer, offset, &readback, position as u64 * 4, 4);
        }
        self.record_carries(encoder)?;
        if let Some(stopwatch) = self.ring.stopwatch() {
            stopwatch.resolve(encoder, &readback, self.ring.ticks_offset());
        }
        self.ring.log.count_ops();
        Ok(())
    }

    /// Records the dispatches from `first` to before `end` as one pass.
    fn record_pass(&self, encoder: &mut wgpu::CommandEncoder, first: usize, end: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("step"),
            timestamp_writes: self
                .ring
                .stopwatch()
                .and_then(|stopwatch| stopwatch.writes(first, end, self.planned.len())),
        });
        let mut kernel = None;
        for planned in &self.planned[first..end] {
            // Equal keys are one kernel.
            if kernel.replace(Arc::as_ptr(&planned.kernel)) != Some(Arc::as_ptr(&planned.kernel)) {
                pass.set_pipeline(&planned.kernel.pipeline);
            }
            pass.set_bind_group(0, &planned.group, &[]);
            pass.dispatch_workgroups(planned.grid[0], planned.grid[1], 1);
        }
    }

    fn record_carries(&self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for &Carry { state, next } in &self.program.carries {
            let (to, from) = (self.program.place(state)?, self.program.place(next)?);
            let element = if self.program.allocations[to.allocation].half { 2 } else { 4 };
            let bytes = (self.shapes[state.index()].padded_len() * element) as u64;
            let (to, from) = (&self.buffers[to.allocation], &self.buffers[from.allocation]);
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
        }
        Ok(())
    }

    fn record_poison(&self, encoder: &mut wgpu::CommandEncoder) {
        let Some(poison) = &self.poison else { return };
        for (allocation, buffer) in self.program.allocations.iter().zip(&self.buffers) {
            if matches!(allocation.purpose, Purpose::Pool | Purpose::Output | Purpose::State(State::Grads)) {
                encoder.copy_buffer_to_buffer(poison, 0, buffer, 0, buffer.size());
            }
        }
    }
}
