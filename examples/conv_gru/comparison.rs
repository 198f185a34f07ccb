//! How several models do on the same forecasts: a table, a file for programs and a picture.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use receptive::data::series::{ForecastError, WindowOptions};
use serde::{Deserialize, Serialize};

use crate::forecast::short;
use crate::shared::canvas::{Area, BLUE, INK, LABEL_DROP, MUTED, ORANGE, anchored, paint, px};
use crate::shared::record;
use crate::shared::terminal::grouped;

/// What a model achieved with one seed. Errors are in the column's own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub seed: u64,
    /// On the validation part, in the epoch that was kept.
    pub valid: ForecastError,
    pub test: ForecastError,
    /// Of the fastest epoch; nothing for a model that isn't trained.
    pub seconds_per_epoch: Option<f64>,
    pub epochs: u64,
    /// The epoch that was kept, counted from 1; the one with the least error on the validation part.
    pub best_epoch: Option<u64>,
}

/// What a model achieved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelResult {
    pub model: String,
    pub parameters: usize,
    /// One for each seed; the model with the least error on the validation part was kept.
    pub runs: Vec<RunResult>,
}

impl ModelResult {
    fn spread(&self, of: impl Fn(&RunResult) -> f64) -> Spread {
        let (mean, deviation) = record::spread(&self.runs.iter().map(of).collect::<Vec<_>>());
        Spread { mean, deviation }
    }

    fn test(&self) -> Spread {
        self.spread(|run| run.test.mae)
    }

    /// Of the fastest epoch of all.
    fn seconds_per_epoch(&self) -> Option<f64> {
        self.runs.iter().filter_map(|run| run.seconds_per_epoch).min_by(f64::total_cmp)
    }

    /// Such as "3 of 5", or "2–4 of 5" where seeds differ.
    fn best_epochs(&self) -> Option<String> {
        let best = || self.runs.iter().filter_map(|run| run.best_epoch);
        let (first, last, epochs) = (best().min()?, best().max()?, self.runs.first()?.epochs);
        Some(if first == last { format!("{first} of {epochs}") } else { format!("{first}–{last} of {epochs}") })
    }
}

/// Mean and standard deviation over seeds; the deviation is nothing for one seed.
#[derive(Debug, Clone, Copy)]
struct Spread {
    mean: f64,
    deviation: Option<f64>,
}

impl fmt::Display for Spread {
    /// The deviation to as many decimals as the mean.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = short(self.mean);
        let decimals = mean.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        f.write_str(&mean)?;
        self.deviation.map_or(Ok(()), |deviation| write!(f, " ± {deviation:.decimals$}"))
    }
}

/// Models on the same forecasts of the same series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The file's name.
    pub data: String,
    pub target: String,
    /// The unit of the column, if it is known.
    pub unit: Option<String>,
    pub windows: WindowOptions,
    pub batch: usize,
    pub steps_per_epoch: u64,
    /// Where the models ran.
    pub device: String,
    pub results: Vec<ModelResult>,
}

impl Comparison {
    /// "OT in °C, 24 rows ahead".
    pub fn title(&self) -> String {
        let unit = self.unit.as_ref().map_or(String::new(), |unit| format!(" in {unit}"));
        format!("{}{unit}, {} rows ahead", self.target, grouped(self.windows.delay + self.windows.step))
    }

    fn naive(&self) -> Option<&ModelResult> {
        self.results.iter().find(|result| result.model == "naive")
    }

    /// The best first.
    fn sorted(&self) -> Vec<&ModelResult> {
        let mut sorted: Vec<&ModelResult> = self.results.iter().collect();
        sorted.sort_by(|a, b| a.test().mean.total_cmp(&b.test().mean));
        sorted
    }

    /// The table for people, the best model first.
    pub fn table(&self) -> String {
        let header = ["model", "parameters", "s an epoch", "epoch", "valid MAE", "test MAE", "test RMSE", "÷naive"];
        let naive = self.naive().map(|naive| naive.test().mean);
        let none = || "–".to_owned();
        let cells = |result: &ModelResult| {
            [
                result.model.clone(),
                grouped(result.parameters),
                result.seconds_per_epoch().map_or_else(none, short),
                result.best_epochs().unwrap_or_else(none),
                result.spread(|run| run.valid.mae).to_string(),
                result.test().to_string(),
                result.spread(|run| run.test.rmse).to_string(),
                naive
                    .filter(|naive| *naive > 0.0)
                    .map_or_else(none, |naive| format!("{:.3}", result.test().mean / naive)),
            ]
        };
        let rows = std::iter::once(header.map(str::to_owned)).chain(self.sorted().into_iter().map(cells));
        laid_out(&rows.collect::<Vec<_>>())
    }

    /// Writes all of it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Paints a bar for each model's error and one for its time as PNG, the best model first.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn picture(&self, path: &Path) -> Result<()> {
        let results = self.sorted();
        let size = (1200, 118 + ROW * results.len().max(1) as u32);
        paint(path, size, |area| {
            let title = anchored(24, INK, HPos::Left, VPos::Center);
            area.draw(&Text::new(self.title(), (px(28) as i32, px(34) as i32), title))?;
            let data = format!("{}, windows of {} rows", self.data, grouped(self.windows.lookback));
            let right = (area.dim_in_pixel().0 - px(28)) as i32;
            area.draw(&Text::new(data, (right, px(34) as i32), anchored(16, MUTED, HPos::Right, VPos::Center)))?;
            names(area, &results)?;
            let unit = self.unit.as_ref().map_or(String::new(), |unit| format!(" ({unit})"));
            let errors: Vec<Option<Spread>> = results.iter().map(|result| Some(result.test())).collect();
            let time = |result: &&ModelResult| result.seconds_per_epoch().map(|mean| Spread { mean, deviation: None });
            let times: Vec<Option<Spread>> = results.iter().map(time).collect();
            let naive = self.naive().map(|naive| naive.test().mean);
            let panel = Panel {
                from: 232,
                to: 690,
                title: format!("mean absolute error on the test part{unit}"),
                colour: BLUE,
            };
            panel.draw(area, &errors, naive)?;
            let panel = Panel { from: 790, to: 1172, title: "seconds an epoch".to_owned(), colour: ORANGE };
            panel.draw(area, &times, None)
        })
    }
}

/// Pixels from one model to the next.
const ROW: u32 = 54;
/// Pixels above the first model.
const TOP: u32 = 106;

fn middle(row: usize) -> i32 {
    px(TOP + ROW * row as u32 + ROW / 2 - 8) as i32
}

fn names(area: &Area<'_>, results: &[&ModelResult]) -> Result<()> {
    for (row, result) in results.iter().enumerate() {
        let (x, y) = (px(216) as i32, middle(row));
        let parameters = match result.parameters {
            0 => "no parameters".to_owned(),
            parameters => format!("{} parameters", grouped(parameters)),
        };
        let style = |size, colour| anchored(size, colour, HPos::Right, VPos::Center);
        area.draw(&Text::new(result.model.clone(), (x, y - px(9) as i32), style(18, INK)))?;
        area.draw(&Text::new(parameters, (x, y + px(10) as i32), style(14, MUTED)))?;
    }
    Ok(())
}

/// Bars from `from` to at most `to`, in pixels of the picture.
struct Panel {
    from: u32,
    to: u32,
    title: String,
    colour: RGBColor,
}

impl Panel {
    /// A bar for each value, its number beside it and, over its end, its deviation to both sides; a dashed line at `level`.
    fn draw(&self, area: &Area<'_>, values: &[Option<Spread>], level: Option<f64>) -> Result<()> {
        let finite = |value: &f64| value.is_finite() && *value >= 0.0;
        let ends = values.iter().flatten().map(|value| value.mean + value.deviation.unwrap_or(0.0));
        let most = ends.filter(finite).fold(0.0, f64::max);
        // Room for a number beside a short bar, and for the dashed line.
        let room = f64::from(px(self.to - self.from - 8));
        let left = px(self.from) as i32;
        let at = |value: f64| left + if most > 0.0 { (value / most * room).round() as i32 } else { 0 };
        let top = px(TOP - 6) as i32;
        let bottom = middle(values.len()) - px(ROW / 2 - 2) as i32;
        let title = anchored(16, MUTED, HPos::Left, VPos::Center);
        area.draw(&Text::new(self.title.clone(), (left, px(TOP - 24) as i32), title))?;
        for (row, value) in values.iter().enumerate() {
            let (y, half) = (middle(row), px(13) as i32);
            let (end, label) = match value {
                Some(value) if finite(&value.mean) => (at(value.mean), value.to_string()),
                Some(_) => (left, "not a number".to_owned()),
                None => (left, "not trained".to_owned()),
            };
            area.draw(&Rectangle::new([(left, y - half), (end, y + half)], self.colour.mix(0.85).filled()))?;
            // In its bar if there is room, so that it does not meet the dashed line.
            let inside = end - left > px(64) as i32;
            let whisker = value.and_then(|value| value.deviation).filter(finite).map_or(0, |d| at(d) - left);
            if whisker > 0 {
                let (from, to, cap) = ((end - whisker).max(left), end + whisker, px(5) as i32);
                let style = INK.stroke_width(px(2));
                area.draw(&PathElement::new([(from, y), (to, y)], style))?;
                for x in [from, to] {
                    area.draw(&PathElement::new([(x, y - cap), (x, y + cap)], style))?;
                }
            }
            let (x, colour, side) = match value {
                Some(_) if inside => (end - whisker - px(8) as i32, WHITE, HPos::Right),
                Some(_) => (end + whisker + px(8) as i32, INK, HPos::Left),
                None => (end + px(8) as i32, MUTED, HPos::Left),
            };
            let style = anchored(16, colour, side, VPos::Center);
            area.draw(&Text::new(label, (x, y + LABEL_DROP), style))?;
        }
        if let Some(level) = level.filter(finite) {
            let (x, dash) = (at(level), px(5) as i32);
            for y in (top..bottom).step_by(2 * dash as usize) {
                area.draw(&PathElement::new([(x, y), (x, (y + dash).min(bottom))], INK.mix(0.55).stroke_width(px(1))))?;
            }
        }
        area.draw(&PathElement::new([(left, top), (left, bottom)], MUTED.stroke_width(px(1))))?;
        Ok(())
    }
}

/// Columns next to each other: the first to the left, numbers to the right.
fn laid_out<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Models with their parameters, errors for each seed, and seconds.
    type Row<'a> = (&'a str, usize, &'a [f64], Option<f64>);

    fn comparison(results: &[Row<'_>]) -> Comparison {
        let error = |mae: f64| ForecastError { mae, rmse: 1.3 * mae, count: 100 };
        let run = |seconds: Option<f64>| {
            move |(seed, &mae): (usize, &f64)| RunResult {
                seed: seed as u64,
                valid: error(0.9 * mae),
                test: error(mae),
                seconds_per_epoch: seconds.map(|seconds| seconds + seed as f64),
                epochs: if seconds.is_some() { 20 } else { 0 },
                best_epoch: seconds.map(|_| 12 + seed as u64),
            }
        };
        let result = |&(model, parameters, errors, seconds): &Row<'_>| ModelResult {
            model: model.to_owned(),
            parameters,
            runs: errors.iter().enumerate().map(run(seconds)).collect(),
        };
        Comparison {
            data: "table.csv".to_owned(),
            target: "OT".to_owned(),
            unit: Some("°C".to_owned()),
            windows: WindowOptions { lookback: 240, step: 1, delay: 24, stride: 1 },
            batch: 128,
            steps_per_epoch: 65,
            device: "cpu".to_owned(),
            results: results.iter().map(result).collect(),
        }
    }

    #[test]
    fn the_table_has_the_best_model_first() {
        let text = comparison(&[("naive", 0, &[4.0], None), ("gru", 3_489, &[2.0], Some(12.345))]).table();
        let expected = "\
model  parameters  s an epoch     epoch  valid MAE  test MAE  test RMSE  ÷naive
gru         3,489        12.3  12 of 20       1.80      2.00       2.60   0.500
naive           0           –         –       3.60      4.00       5.20   1.000
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_table_has_mean_and_spread_of_several_seeds() {
        let text = comparison(&[("naive", 0, &[4.0], None), ("gru", 3_489, &[2.0, 2.2, 2.4], Some(12.345))]).table();
        let expected = "\
model  parameters  s an epoch        epoch    valid MAE     test MAE    test RMSE  ÷naive
gru         3,489        12.3  12–14 of 20  1.98 ± 0.18  2.20 ± 0.20  2.86 ± 0.26   0.550
naive           0           –            –         3.60         4.00         5.20   1.000
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_written_is_read_again_and_pictures_take_anything() {
        let folder = tempfile::tempdir().unwrap();
        let (json, png) = (folder.path().join("compare.json"), folder.path().join("compare.png"));
        let whole = comparison(&[("naive", 0, &[4.0], None), ("gru", 3_489, &[2.0, 2.5], Some(12.0))]);
        whole.write(&json).unwrap();
        let again: Comparison = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!(again, whole);
        let strange: &[Row<'_>] =
            &[("a", 1, &[f64::NAN], Some(f64::INFINITY)), ("b", 2, &[1.0, f64::INFINITY], None), ("c", 3, &[], None)];
        let naive: &[Row<'_>] = &[("naive", 0, &[0.0], None)];
        for results in [&[], naive, strange] {
            comparison(results).picture(&png).unwrap();
            assert_eq!(std::fs::read(&png).unwrap()[1..4], *b"PNG");
        }
    }
}
