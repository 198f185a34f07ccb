//! Locks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A lock that outlives a panic elsewhere: what these locks guard is whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A table of kernels in which each key has a lock of its own, so that different kernels compile in parallel.
pub(super) type Slots<K, V> = Mutex<HashMap<K, Arc<Mutex<Option<V>>>>>;
