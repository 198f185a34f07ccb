//! Buffers, waiting, and moving bytes between the host and a device. All of it returns typed errors, waits included.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::gpu::Gpu;
use crate::{Error, Result};

/// Bindings begin at multiples of this on every WebGPU device, so buffers end there too.
const ALIGNMENT: u64 = 256;

/// Transfers between host and device go in pieces of at most this size, so that staging memory stays small.
const CHUNK_BYTES: u64 = 64 << 20;

/// Staging memory of at most this size is kept for the next read, so that reading a little after each step creates nothing.
const KEPT_BYTES: u64 = 1 << 20;

impl Gpu {
    /// A buffer of at least `bytes`, rounded up to a multiple of 256 and never empty. Its contents are zero.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the device has no buffers of that size, [`Error::OutOfMemory`] if it has none left,
    /// [`Error::Device`] if the usages do not go together.
    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let limit = self.capabilities().max_buffer_bytes;
        let size = bytes.max(1).checked_next_multiple_of(ALIGNMENT).filter(|size| *size <= limit);
        let Some(size) = size else {
            return Err(Error::TooLarge {
                what: format!("buffer \"{label}\" on {}", self.name()),
                bytes,
                limit,
                hint: "use a smaller batch, a shorter sequence or fewer channels".to_owned(),
            });
        };
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let what = format!("buffer \"{label}\"");
        let buffer = self.scoped_bytes(&what, size, || self.device().create_buffer(&descriptor))?;
        self.buffers_created.fetch_add(1, Ordering::Relaxed);
        self.bytes_created.fetch_add(size, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Waits until a submission has finished, at most 60 s or what `RECEPTIVE_TIMEOUT` says.
    ///
    /// `what` names the work in the error.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::DeviceLost`], or what [`Gpu::check`] finds afterwards.
    pub fn wait(&self, index: wgpu::SubmissionIndex, what: &str) -> Result<()> {
        self.poll_for(Some(index), what)
    }

    /// Waits until everything submitted so far has finished; otherwise as [`Gpu::wait`].
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn wait_idle(&self, what: &str) -> Result<()> {
        self.poll_for(None, what)
    }

    fn poll_for(&self, submission_index: Option<wgpu::SubmissionIndex>, what: &str) -> Result<()> {
        let timeout = self.timeout();
        match self.poll_type(wgpu::PollType::Wait { submission_index, timeout: Some(timeout) })? {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => Err(Error::Timeout {
                adapter: self.name().to_owned(),
                what: what.to_owned(),
                seconds: timeout.as_secs(),
            }),
            // The submission never reached the device: it was refused, or the device is gone.
            Err(error @ wgpu::PollError::WrongSubmissionIndex(..)) => {
                self.check()?;
                self.probe()?;
                Err(Error::Device { adapter: self.name().to_owned(), message: format!("{what}: {error}") })
            }
        }
    }

    /// Waits until a callback of finished work has run. Where several threads poll, one takes the callbacks of all and
    /// calls them after the others' polls have returned.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub(crate) fn wait_for_callback(&self, what: &str, mut has_run: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !has_run() {
            let timeout = self.timeout();
            if start.elapsed() > timeout {
                let (adapter, seconds) = (self.name().to_owned(), timeout.as_secs());
                return Err(Error::Timeout { adapter, what: what.to_owned(), seconds });
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Whether the device still takes work. wgpu tells of a loss only through the callback, which an application's own
    /// device keeps to itself; but a lost device refuses even an empty submission.
    pub(super) fn probe(&self) -> Result<()> {
        let (index, _) = self.capture(|| self.queue().submit([]));
        let no_wait = Some(Duration::ZERO);
        match self.poll_type(wgpu::PollType::Wait { submission_index: Some(index), timeout: no_wait })? {
            Err(wgpu::PollError::WrongSubmissionIndex(..)) => Err(self.lost("the device takes no more work")),
            Ok(_) | Err(wgpu::PollError::Timeout) => Ok(()),
        }
    }

    /// Runs the callbacks of whatever has finished, without waiting.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what [`Gpu::check`] finds.
    pub fn poll(&self) -> Result<()> {
        match self.poll_type(wgpu::PollType::Poll)? {
            Ok(_) => self.check(),
            Err(error) => Err(Error::Device { adapter: self.name().to_owned(), message: error.to_string() }),
        }
    }

    /// wgpu 30 panics in `Device::poll` if it finds the device lost; here that is an error like any other. (A program
    /// built with `panic = "abort"` still ends there.)
    fn poll_type(&self, poll_type: wgpu::PollType) -> Result<Result<wgpu::PollStatus, wgpu::PollError>> {
        self.check_lost()?;
        catch_unwind(AssertUnwindSafe(|| self.device().poll(poll_type))).map_err(|payload| {
            match payload.downcast_ref::<String>().filter(|text| text.contains("Device::poll")) {
                Some(message) => self.lost(message),
                // A panic of somebody's callback, which is not ours to hide.
                None => resume_unwind(payload),
            }
        })
    }

    /// Copies `bytes` at `offset` of a buffer with usage `COPY_SRC` to the host, after everything submitted before.
    /// Blocks; needs staging memory of at most 64 MiB.
    ///
    /// # Errors
    /// [`Error::Device`] if the range is not within the buffer or the buffer cannot be copied from, otherwise as
    /// [`Gpu::buffer`] and [`Gpu::wait`].
    pub fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.check_range("read", buffer, offset, bytes)?;
        let mut data = Vec::with_capacity(bytes as usize);
        if bytes == 0 {
            return Ok(data);
        }
        // Copies are in units of 4 bytes: take the words that hold the range, then leave out its edges.
        let (start, end) = (offset / 4 * 4, (offset + bytes).next_multiple_of(4));
        let chunk = CHUNK_BYTES.min(self.capabilities().max_buffer_bytes / ALIGNMENT * ALIGNMENT).min(end - start);
        let staging = self.staging(chunk)?;
        let mut at = start;
        while at < end {
            let size = chunk.min(end - at);
            self.read_chunk(buffer, at, size, &staging, |view| {
                let skip = offset.saturating_sub(at) as usize;
                let keep = (offset + bytes - at).min(size) as usize;
                data.extend_from_slice(&view[skip..keep]);
            })?;
            at += size;
        }
        if staging.size() <= KEPT_BYTES {
            *self.staging.lock().unwrap_or_else(PoisonError::into_inner) = Some(staging);
        }
        Ok(data)
    }

    /// The staging memory that is kept, where it is large enough and no other thread reads through it, or new memory.
    fn staging(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let kept = self.staging.lock().unwrap_or_else(PoisonError::into_inner).take_if(|kept| kept.size() >= bytes);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        kept.map_or_else(|| self.buffer("read staging", bytes, usage), Ok)
    }

    fn read_chunk(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        size: u64,
        staging: &wgpu::Buffer,
        mut take: impl FnMut(&[u8]),
    ) -> Result<()> {
        let (sender, receiver) = mpsc::channel();
        let index = self.scoped("read", || {
            let mut encoder =
                self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read") });
            encoder.copy_buffer_to_buffer(buffer, offset, staging, 0, size);
            let index = self.queue().submit([encoder.finish()]);
            // The receiver may be gone after a timeout.
            staging.map_async(wgpu::MapMode::Read, 0..size, move |result| drop(sender.send(result)));
            index
        })?;
        self.wait(index, "read")?;
        let failed = |message: String| Error::Device { adapter: self.name().to_owned(), message };
        let mut mapped = Err(mpsc::TryRecvError::Empty);
        self.wait_for_callback("read", || {
            mapped = receiver.try_recv();
            mapped != Err(mpsc::TryRecvError::Empty)
        })?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(format!("read: {error}"))),
            Err(error) => return Err(failed(format!("read: the staging buffer was not mapped: {error}"))),
        }
        let view = staging.get_mapped_range(0..size).map_err(|error| failed(format!("read: {error}")))?;
        take(&view);
        drop(view);
        staging.unmap();
        Ok(())
    }

    /// Writes `data` at `offset` of a buffer with usage `COPY_DST`, before whatever is submitted next. Offset and
    /// length are multiples of 4. Data of more than 64 MiB goes in pieces with a wait after each, to bound staging.
    ///
    /// # Errors
    /// [`Error::Device`] if the range is not within the buffer, is no multiple of 4, or the buffer cannot be copied to;
    /// for long data as [`Gpu::wait`].
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        self.check_range("write", buffer, offset, data.len() as u64)?;
        let chunks = data.chunks(CHUNK_BYTES as usize);
        let wait = chunks.len() > 1;
        for (chunk, at) in chunks.zip((offset..).step_by(CHUNK_BYTES as usize)) {
            self.scoped("write", || self.queue().write_buffer(buffer, at, chunk))?;
            if wait {
                let index = self.scoped("write", || self.queue().submit([]))?;
                self.wait(index, "write")?;
            }
        }
        Ok(())
    }

    fn check_range(&self, what: &str, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<()> {
        if offset.checked_add(bytes).is_some_and(|end| end.next_multiple_of(4) <= buffer.size()) {
            return Ok(());
        }
        let message = format!("{what} of {bytes} bytes at {offset} in a buffer of {} bytes", buffer.size());
        Err(Error::Device { adapter: self.name().to_owned(), message })
    }
}
