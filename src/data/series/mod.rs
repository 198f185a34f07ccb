//! Tables of numbers in time order as training data for forecasting: a file to a series, a series to windows.
//!
//! ```text
//! .csv .tsv .txt (.gz) ──Series::read──▶ Series ──SeriesSplit──▶ train │ valid │ test
//!                                          │ Normalisation of the training part
//!                                          ▼
//!              Order (seed, step) ──▶ Windows::fill ──▶ WindowBatch { input, target }   (ahead of time: Prefetch)
//! ```
//!
//! The windows are those of Chollet's weather example (Deep Learning with Python, first edition, 6.3): the window at row
//! `i` reads every `step`-th row of `i − lookback .. i`, and is to forecast the target column at row `i + delay`. What a
//! batch holds is a pure function of the series, the seed and the step number.
//!
//! Reading files needs the cargo feature `tables`; a series of columns in memory does without.
//!
//! ```
//! use receptive::data::Order;
//! use receptive::data::series::{Series, SeriesParts, SeriesSplit, WindowBatch, WindowOptions};
//!
//! let wave = |phase: f64| (0..1000).map(|hour| (f64::from(hour) * 0.26 + phase).sin()).collect();
//! let series = Series::from_columns("waves", vec![("wave".into(), wave(0.0)), ("later".into(), wave(1.0))], None)?;
//! let options = WindowOptions { lookback: 48, step: 2, delay: 12, stride: 1 };
//! let parts = SeriesParts::new(&series, "wave", &SeriesSplit::default(), &options)?;
//! let mut order = Order::new(7, parts.train.len(), true);
//! let mut batch = WindowBatch::default();
//! parts.train.fill(&order.units(0, 32), &mut batch);
//! assert_eq!((batch.input.len(), batch.target.len()), (32 * 24 * 2, 32));
//! let naive = parts.test.naive_error();
//! assert!(naive.mae > 0.5, "half a period later the last value is a bad forecast");
//! # Ok::<(), receptive::data::series::SeriesError>(())
//! ```

mod batch;
#[cfg(feature = "tables")]
mod columns;
mod error;
mod missing;
#[cfg(feature = "tables")]
mod read;
mod scale;
mod split;
mod table;
mod windows;

pub use batch::WindowBatch;
pub use error::SeriesError;
pub use missing::Missing;
pub use scale::{ForecastError, Normalisation};
pub use split::{Part, SeriesParts, SeriesSplit};
pub use table::{LeftOut, Series};
#[cfg(feature = "tables")]
pub use table::{ReadOptions, TextColumns};
pub use windows::{WindowInputs, WindowOptions, Windows};
