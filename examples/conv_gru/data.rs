//! The table as windows, and what to say of it.

use anyhow::Result;
use receptive::data::series::{LeftOut, Series, SeriesParts, Windows};

use crate::args::DataArgs;
use crate::forecast::short;
use crate::shared::terminal::{grouped, say};

/// A series and its parts.
pub struct Data {
    pub series: Series,
    pub parts: SeriesParts,
    /// The target column with its unit, if that is known.
    pub column: String,
}

impl Data {
    /// Reads and splits the table, and says what it is.
    pub fn open(args: &DataArgs) -> Result<Self> {
        let series = Series::read(&args.data, &args.reading())?;
        let parts = SeriesParts::new(&series, &args.target, &args.split, &args.windows())?;
        let column = match &args.unit {
            Some(unit) => format!("{} ({unit})", args.target),
            None => args.target.clone(),
        };
        let data = Self { series, parts, column };
        data.describe();
        Ok(data)
    }

    fn describe(&self) {
        let (series, parts) = (&self.series, &self.parts);
        let usable = match series.rows() - series.usable_rows() {
            0 => String::new(),
            lost => {
                let runs = series.segments().len();
                format!(" ({} of them not used, {} runs without a gap)", grouped(lost), grouped(runs))
            }
        };
        say(&format!("{}: {} rows{usable}", series.source().display(), grouped(series.rows())));
        say(&format!("columns: {}", series.names().join(", ")));
        for (name, why) in series.left_out() {
            match why {
                LeftOut::Text { line, text } => say(&format!("left out: {name}, for line {line} holds {text:?}")),
                LeftOut::Time => say(&format!("left out: {name}, which holds times")),
                _ => {}
            }
        }
        let count = |windows: &Windows| grouped(windows.len());
        let [train, valid, test] = [&parts.train, &parts.valid, &parts.test].map(count);
        say(&format!("windows: {train} to train on, {valid} to validate with, {test} to test with"));
        let naive = parts.test.naive_error();
        let own = naive.scaled(parts.test.deviation());
        let column = &self.column;
        say(&format!(
            "naive forecast of {column} on the test part: off by {} on average ({:.4} deviations)",
            short(own.mae),
            naive.mae
        ));
    }
}
