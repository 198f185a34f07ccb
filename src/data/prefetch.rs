//! Batches made ahead of time on a thread of their own.

use std::error::Error;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::DataError;

type Made<T> = Result<(u64, T), DataError>;

/// Calls a function for step `start`, `start + 1`, … on a thread, so that the next batches are ready when asked for.
///
/// The buffers given at the start go round and round: nothing is allocated later. Dropping it ends the thread, after
/// the batch it is at.
///
/// ```
/// use receptive::data::{DataError, Prefetch};
///
/// let square = |step: u64, buffer: &mut Vec<u64>| {
///     buffer.clear();
///     buffer.push(step * step);
///     Ok::<(), DataError>(())
/// };
/// let mut batches = Prefetch::new(5, vec![Vec::new(); 2], square)?;
/// assert_eq!(batches.next()?, (5, &vec![25]));
/// assert_eq!(batches.next()?, (6, &vec![36]));
/// # Ok::<(), DataError>(())
/// ```
#[derive(Debug)]
pub struct Prefetch<T> {
    /// `None` only while dropping.
    made: Option<Receiver<Made<T>>>,
    used: Option<SyncSender<T>>,
    thread: Option<JoinHandle<()>>,
    /// What `next` lent out last.
    lent: Option<(u64, T)>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts making batches from step `start` on. `buffers` are filled in turn: with two, one batch is made while the
    /// other is in use.
    ///
    /// # Errors
    /// [`DataError::Option`] if there is no buffer, [`DataError::Prefetch`] if the thread cannot be started.
    pub fn new<E: Into<Box<dyn Error + Send + Sync>>>(
        start: u64,
        buffers: Vec<T>,
        mut make: impl FnMut(u64, &mut T) -> Result<(), E> + Send + 'static,
    ) -> Result<Self, DataError> {
        let count = buffers.len();
        if count == 0 {
            return Err(DataError::Option { name: "buffers", value: 0.0, allowed: "at least 1" });
        }
        let (to_user, made) = sync_channel(count);
        let (used, from_user) = sync_channel(count);
        for buffer in buffers {
            // There is room for all of them.
            let _ = used.send(buffer);
        }
        let run = move || {
            for step in start.. {
                // Either end hanging up means that nobody wants more.
                let Ok(mut buffer) = from_user.recv() else { return };
                let result = make(step, &mut buffer)
                    .map(|()| (step, buffer))
                    .map_err(|error| DataError::Prefetch { step, source: error.into() });
                let failed = result.is_err();
                if to_user.send(result).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("prefetch".into())
            .spawn(run)
            .map_err(|error| DataError::Prefetch { step: start, source: error.into() })?;
        Ok(Self { made: Some(made), used: Some(used), thread: Some(thread), lent: None })
    }

    /// The next step and its batch, waiting for it if need be. The batch is lent until the next call.
    ///
    /// # Errors
    /// [`DataError::Prefetch`] with the error of the function, in the place of the batch that it could not make;
    /// [`DataError::PrefetchPanicked`] if it panicked; [`DataError::PrefetchEnded`] after one of these.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<(u64, &T), DataError> {
        if let (Some((_, buffer)), Some(used)) = (self.lent.take(), &self.used) {
            // A thread that has ended shows below.
            let _ = used.send(buffer);
        }
        match self.made.as_ref().map(Receiver::recv) {
            Some(Ok(result)) => {
                let (step, buffer) = self.lent.insert(result?);
                Ok((*step, buffer))
            }
            _ => Err(self.end()),
        }
    }

    fn end(&mut self) -> DataError {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
                let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
                DataError::PrefetchPanicked { message: message.unwrap_or_else(|| "no message".into()) }
            }
            _ => DataError::PrefetchEnded,
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // Hanging up both channels wakes the thread wherever it waits.
        self.made = None;
        self.used = None;
        if let Some(thread) = self.thread.take() {
            // A panic that nobody asked about stays with the panic hook's message.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn steps_come_in_order_and_buffers_go_round() {
        let buffers: Vec<Vec<u64>> = vec![Vec::with_capacity(1), Vec::with_capacity(1), Vec::with_capacity(1)];
        let mut addresses: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr() as usize).collect();
        let mut prefetch = Prefetch::new(100, buffers, |step, buffer: &mut Vec<u64>| {
            buffer.clear();
            buffer.push(step * 2);
            Ok::<(), DataError>(())
        })
        .unwrap();
        let mut seen = Vec::new();
        for expected in 100..200 {
            let (step, buffer) = prefetch.next().unwrap();
            assert_eq!((step, buffer.as_slice()), (expected, &[expected * 2][..]));
            seen.push(buffer.as_ptr() as usize);
        }
        seen.sort();
        seen.dedup();
        addresses.sort();
        assert_eq!(seen, addresses);
    }

    #[test]
    fn it_works_ahead_as_far_as_there_are_buffers_and_ends_on_drop() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let prefetch = Prefetch::new(0, vec![(), (), ()], move |_, ()| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<(), DataError>(())
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while made.load(Ordering::SeqCst) < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 3);
        drop(prefetch);
        assert_eq!(Arc::strong_count(&made), 1, "the thread and its closure are gone");
    }

    #[test]
    fn an_error_comes_in_the_place_of_its_batch() {
        let mut prefetch = Prefetch::new(0, vec![0u64; 4], |step, value| {
            *value = step;
            if step == 2 { Err(DataError::TooFewSamples { what: "this", needed: 2, found: 1 }) } else { Ok(()) }
        })
        .unwrap();
        assert_eq!(prefetch.next().unwrap(), (0, &0));
        assert_eq!(prefetch.next().unwrap(), (1, &1));
        let error = prefetch.next().unwrap_err();
        assert!(matches!(error, DataError::Prefetch { step: 2, .. }), "{error}");
        assert!(error.to_string().contains("this needs at least 2 samples"), "{error}");
        assert!(matches!(prefetch.next(), Err(DataError::PrefetchEnded)));
        assert!(matches!(prefetch.next(), Err(DataError::PrefetchEnded)));
    }

    #[test]
    fn a_panic_is_an_error() {
        let mut prefetch = Prefetch::new(0, vec![0u64; 2], |step, _| {
            assert!(step < 1, "no step {step}");
            Ok::<(), DataError>(())
        })
        .unwrap();
        assert_eq!(prefetch.next().unwrap().0, 0);
        match prefetch.next().unwrap_err() {
            DataError::PrefetchPanicked { message } => assert_eq!(message, "no step 1"),
            other => panic!("{other}"),
        }
        assert!(matches!(prefetch.next(), Err(DataError::PrefetchEnded)));
        let none = Prefetch::new(0, Vec::<u64>::new(), |_, _| Ok::<(), DataError>(()));
        assert!(matches!(none, Err(DataError::Option { name: "buffers", .. })));
    }
}
