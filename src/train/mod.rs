//! Training: the loop, its checkpoints, and trained models as files.
//!
//! A [`Task`] brings the programs and the data, such as [`WaveNetTask`]; the [`Trainer`] runs it on a device.

mod checkpoint;
mod classifier;
mod file;
mod forecast;
mod model;
mod progress;
mod sequence;
mod task;
mod text_cnn;
mod trainer;
mod wavenet;

pub use checkpoint::{Checkpoint, Validation};
pub use classifier::{Classifier, Explanation, Ngram};
pub use forecast::{ForecastTask, Predictor};
pub use model::{Model, load_model, save_model};
pub use progress::{Event, Limit, Outcome, Reason, Scaling, TrainerOptions};
pub use sequence::{Evaluation, Evaluator, SequenceTask};
pub use task::Task;
pub use text_cnn::TextCnnTask;
pub use trainer::Trainer;
pub use wavenet::{WaveNetTask, WaveNetTaskOptions};
