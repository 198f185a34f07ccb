//! Ctrl-C: a training saves what it has and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

/// What Ctrl-C sets; asked twice, the process ends at once.
pub fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // The last checkpoint is whole, for it was renamed into its place.
            std::process::exit(130);
        }
    })
    .context("Ctrl-C")?;
    Ok(stop)
}
