//! Where the time of a training goes, for who asks with `RECEPTIVE_TIMING`.

use receptive::Result;
use receptive::exec::Timing;
use receptive::train::{Task, Trainer};

use super::terminal::say;

const HEADING: &str = "the time of the training steps but the first, in which kernels may have been compiled:";

/// Trains by `run`; if `RECEPTIVE_TIMING` asks for it, shows where the time of the steps went.
pub fn timed<T: Task, O, E: From<receptive::Error>>(
    trainer: &mut Trainer<T>,
    run: impl FnOnce(&mut Trainer<T>) -> Result<O, E>,
) -> Result<O, E> {
    let timing = Timing::from_env()?;
    if timing == Timing::Off {
        return run(trainer);
    }
    trainer.set_timing(timing)?;
    let outcome = run(trainer)?;
    say(&format!("\n{HEADING}\n{}\n", trainer.timings()?));
    trainer.set_timing(Timing::Off)?;
    Ok(outcome)
}
