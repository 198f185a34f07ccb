//! The crate's error type: every failure says what, where and what to do.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shapes given to an operation do not fit together.
    #[error("{op}: {message}")]
    Shape {
        /// The operation, and its name in the graph if it has one.
        op: String,
        /// What was expected and what was given, with both shapes.
        message: String,
    },

    /// A graph was put together in a way that has no meaning, such as a tensor of another graph.
    #[error("graph: {0}")]
    Graph(String),

    /// No device of the kind asked for.
    #[error("no device \"{asked}\": {message}")]
    NoDevice {
        /// What was asked for.
        asked: String,
        /// What there is, and what to do.
        message: String,
    },

    /// The driver or wgpu's validation refused an operation.
    #[error("{adapter}: {message}")]
    Device {
        /// Name and driver of the adapter.
        adapter: String,
        /// What was refused and why.
        message: String,
    },

    /// The device is gone: driver reset, watchdog, removed or destroyed. Everything on it is lost; open a device again
    /// and continue from the last checkpoint.
    #[error("{adapter}: the device was lost: {message}; open the device again and continue from the last checkpoint")]
    DeviceLost {
        /// Name and driver of the adapter.
        adapter: String,
        /// The driver's reason.
        message: String,
    },

    /// The device has no memory left for a buffer.
    #[error("{adapter}: out of memory for {what} ({}); use a smaller batch or a shorter sequence", bytes_text(*.bytes))]
    OutOfMemory {
        /// Name and driver of the adapter.
        adapter: String,
        /// What the memory was for.
        what: String,
        /// How many bytes were asked for; 0 where that is not known.
        bytes: u64,
    },

    /// Something is larger than the device allows at all, however much memory is free.
    #[error("{what} needs {}, the limit is {}; {hint}", bytes_text(*.bytes), bytes_text(*.limit))]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size allowed, in bytes.
        limit: u64,
        /// What to do.
        hint: String,
    },

    /// The device did not finish in time.
    #[error("{adapter}: {what} did not finish within {seconds} s; RECEPTIVE_TIMEOUT sets the limit in seconds")]
    Timeout {
        /// Name and driver of the adapter.
        adapter: String,
        /// What was waited for.
        what: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// A shader could not be built, or no variant of it suits the device.
    #[error("shader {shader} ({variant}): {message}")]
    Shader {
        /// The shader's file name without its ending, or the name of the kernel family.
        shader: String,
        /// Entry point, defines and constants.
        variant: String,
        /// The compiler's message.
        message: String,
    },

    /// The loss of a training step is infinite or not a number.
    #[error("the loss of step {step} is {loss}; {}", checkpoint_text(.checkpoint))]
    NonFiniteLoss {
        /// The step, counted from 0.
        step: u64,
        /// The loss.
        loss: f32,
        /// The last good checkpoint, if one was saved.
        checkpoint: Option<PathBuf>,
    },

    /// A parameter or a moment of the optimizer is infinite or not a number.
    #[error("after {step} steps, {what} holds {value}; {}", checkpoint_text(.checkpoint))]
    NonFiniteState {
        /// The steps made.
        step: u64,
        /// The parameter or moment.
        what: String,
        /// The first such number.
        value: f32,
        /// The last good checkpoint, if one was saved.
        checkpoint: Option<PathBuf>,
    },

    /// A hyperparameter or setting outside what is allowed; the text names it and what is allowed.
    #[error("{0}")]
    Config(String),

    /// A checkpoint that cannot be used.
    #[error("checkpoint {}: {message}", .path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// A file or folder could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// Training or input data that cannot be used.
    #[error("data: {0}")]
    Data(String),
}

/// A size for people: exact in bytes, and rounded in a larger unit.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    if bytes == 0 {
        return "size unknown".to_owned();
    }
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name} ({bytes} bytes)", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

fn checkpoint_text(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(path) => {
            format!("the last good checkpoint is {}; lower the learning rate or clip gradients", path.display())
        }
        None => "no checkpoint was saved; lower the learning rate or clip gradients".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + std::error::Error + 'static>() {}
        check::<Error>();
    }

    #[test]
    fn messages_say_what_and_what_to_do() {
        let error = Error::OutOfMemory { adapter: "A".to_owned(), what: "weights".to_owned(), bytes: 3 << 29 };
        assert_eq!(
            error.to_string(),
            "A: out of memory for weights (1.5 GiB (1610612736 bytes)); use a smaller batch or a shorter sequence"
        );
        let error = Error::TooLarge {
            what: "buffer x".to_owned(),
            bytes: 2048,
            limit: 1023,
            hint: "split the batch".to_owned(),
        };
        assert_eq!(error.to_string(), "buffer x needs 2.0 KiB (2048 bytes), the limit is 1023 bytes; split the batch");
        let error = Error::NonFiniteLoss { step: 7, loss: f32::NAN, checkpoint: Some(PathBuf::from("run/6")) };
        assert_eq!(
            error.to_string(),
            "the loss of step 7 is NaN; the last good checkpoint is run/6; lower the learning rate or clip gradients"
        );
    }
}
