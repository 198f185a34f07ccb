//! `forecast.png`: what came, what was forecast, and the difference.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::shared::canvas::{Area, BLUE, INK, MUTED, ORANGE, paint, px};
use crate::shared::plot::{Chart, header, mesh_with_ticks};
use crate::shared::terminal::grouped;

const SIZE: (u32, u32) = (1200, 720);
/// Labels below the picture at most.
const MOST_TICKS: usize = 9;

/// A forecast and what came, in the column's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The row that was forecast.
    pub row: usize,
    pub truth: f64,
    pub forecast: f64,
    /// The last value known when the forecast was made.
    pub naive: f64,
}

/// Forecasts in the order of time.
pub struct ForecastPlot<'a> {
    pub title: &'a str,
    /// The name of the model.
    pub model: &'a str,
    /// The column's name, with its unit if that is known.
    pub column: &'a str,
    pub points: &'a [Point],
    /// What the file says of the time of each point, if it does.
    pub times: Option<&'a [&'a str]>,
    /// Whether to show the naive forecast beside the model's.
    pub naive: bool,
}

/// The stretch of `count` points, without a gap, whose mean absolute error is nearest to that of all: neither the best
/// nor the worst. The longest there is, if none has as many.
pub fn typical(points: &[Point], count: usize) -> Range<usize> {
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, point| {
        *sum += (point.forecast - point.truth).abs();
        Some(*sum)
    }));
    let mean = |range: &Range<usize>| (sums[range.end] - sums[range.start]) / range.len().max(1) as f64;
    let off = |range: &Range<usize>| (mean(range) - mean(&(0..points.len()))).abs();
    let runs = runs(points);
    let count = runs.iter().map(ExactSizeIterator::len).max().unwrap_or(0).min(count);
    let starts = |run: Range<usize>| run.start..(run.end + 1).saturating_sub(count);
    let stretches = runs.into_iter().flat_map(starts).map(|start| start..start + count);
    stretches.min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0..0)
}

/// Paints forecasts as PNG: forecast, naive forecast and truth above, their differences from the truth below. Lines break
/// where rows are missing.
///
/// # Errors
/// If the file cannot be written.
pub fn picture(path: &Path, plot: &ForecastPlot<'_>) -> Result<()> {
    let runs = runs(plot.points);
    let first = plot.points.first().map_or(0, |point| point.row) as f64;
    let last = plot.points.last().map_or(0, |point| point.row) as f64;
    let rows = first..last.max(first + 1.0);
    let values = |point: &Point| {
        if plot.naive { vec![point.truth, point.forecast, point.naive] } else { vec![point.truth, point.forecast] }
    };
    let differences =
        |point: &Point| values(point).into_iter().skip(1).map(|value| value - point.truth).collect::<Vec<f64>>();
    let ticks = ticks(plot);
    let (x, below) = if plot.times.is_some() { ("", px(34)) } else { ("row of the table", px(58)) };
    paint(path, SIZE, |area| {
        let label = |name: &str, of: &dyn Fn(&Point) -> f64| {
            let sum: f64 = plot.points.iter().map(|point| (of(point) - point.truth).abs()).sum();
            format!("{name}, off by {} on average", short(sum / plot.points.len().max(1) as f64))
        };
        let forecast = label(plot.model, &|point| point.forecast);
        let naive = label("naive", &|point| point.naive);
        let mut key = vec![("what came", INK, 255), (forecast.as_str(), BLUE, 255)];
        if plot.naive {
            key.insert(1, (naive.as_str(), ORANGE, 190));
        }
        header(area, plot.title, &key)?;
        let (_, panels) = area.split_vertically(px(58));
        let (upper, lower) = panels.split_vertically(px(400));

        let mut chart = panel(&upper, px(12), rows.clone(), span(plot.points.iter().flat_map(values), false))?;
        let unlabelled: Vec<(f64, String)> = ticks.iter().map(|(at, _)| (*at, String::new())).collect();
        mesh_with_ticks(&mut chart, "", (plot.column, 8), &unlabelled)?;
        if plot.naive {
            lines(&mut chart, &runs, plot.points, ORANGE.mix(0.55).stroke_width(px(1) + 1), |point| point.naive)?;
        }
        lines(&mut chart, &runs, plot.points, INK.stroke_width(px(2)), |point| point.truth)?;
        lines(&mut chart, &runs, plot.points, BLUE.stroke_width(px(2)), |point| point.forecast)?;

        let mut chart = panel(&lower, below, rows.clone(), span(plot.points.iter().flat_map(differences), true))?;
        mesh_with_ticks(&mut chart, x, ("forecast − truth", 6), &ticks)?;
        chart.draw_series(LineSeries::new([(rows.start, 0.0), (rows.end, 0.0)], MUTED.stroke_width(px(1))))?;
        if plot.naive {
            let style = ORANGE.mix(0.55).stroke_width(px(1) + 1);
            lines(&mut chart, &runs, plot.points, style, |point| point.naive - point.truth)?;
        }
        lines(&mut chart, &runs, plot.points, BLUE.stroke_width(px(2)), |point| point.forecast - point.truth)
    })
}

fn panel<'a, 'b>(area: &'a Area<'b>, below: u32, x: Range<f64>, y: Range<f64>) -> Result<Chart<'a, 'b>> {
    Ok(ChartBuilder::on(area)
        .margin_top(px(8))
        .margin_left(px(16))
        .margin_right(px(28))
        .margin_bottom(px(6))
        .x_label_area_size(below)
        .y_label_area_size(px(84))
        .build_cartesian_2d(x, y)?)
}

fn lines(
    chart: &mut Chart<'_, '_>,
    runs: &[Range<usize>],
    points: &[Point],
    style: ShapeStyle,
    value: impl Fn(&Point) -> f64,
) -> Result<()> {
    for run in runs {
        let line = points[run.clone()]
            .iter()
            .map(|point| (point.row as f64, value(point)))
            .filter(|(_, value)| value.is_finite());
        chart.draw_series(LineSeries::new(line, style))?;
    }
    Ok(())
}

/// Points that follow each other at the usual distance.
fn runs(points: &[Point]) -> Vec<Range<usize>> {
    let stride = points.windows(2).map(|two| two[1].row.saturating_sub(two[0].row)).min().unwrap_or(1);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        match runs.last_mut().filter(|run| points[run.end - 1].row + stride == point.row) {
            Some(run) => run.end += 1,
            None => runs.push(at..at + 1),
        }
    }
    runs
}

/// From the lowest to the highest value, with a margin.
fn span(values: impl Iterator<Item = f64>, with_zero: bool) -> Range<f64> {
    let start = if with_zero { (0.0, 0.0) } else { (f64::INFINITY, f64::NEG_INFINITY) };
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold(start, |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return 0.0..1.0;
    }
    let margin = (0.06 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
    low - margin..high + margin
}

/// Where the day changes, if the file has dates and there are enough of them; else rows at round numbers.
fn ticks(plot: &ForecastPlot<'_>) -> Vec<(f64, String)> {
    let (points, times) = (plot.points, plot.times.unwrap_or_default());
    let day = |at: usize| times[at].split([' ', 'T']).next().unwrap_or_default();
    let days: Vec<usize> = (1..times.len()).filter(|&at| day(at) != day(at - 1)).collect();
    let row = |at: usize| points[at].row as f64;
    if days.len() >= 3 {
        let every = days.len().div_ceil(MOST_TICKS);
        return days.into_iter().step_by(every).map(|at| (row(at), day(at).to_owned())).collect();
    }
    if !times.is_empty() {
        // Such times are long.
        let every = points.len().div_ceil(MOST_TICKS / 2).max(1);
        return (every / 2..times.len()).step_by(every).map(|at| (row(at), times[at].to_owned())).collect();
    }
    let span = points.last().map_or(0, |last| last.row - points[0].row.min(last.row));
    let sizes = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
    let every = sizes.into_iter().find(|size| span / size < MOST_TICKS).unwrap_or(1);
    let from = points.first().map_or(0, |first| first.row.next_multiple_of(every));
    let rows = (from..).step_by(every).take_while(|row| points.last().is_some_and(|last| *row <= last.row));
    rows.map(|row| (row as f64, grouped(row))).collect()
}

/// A number with three digits that say something.
pub fn short(value: f64) -> String {
    let decimals = if value == 0.0 { 0.0 } else { (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) };
    format!("{value:.*}", decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(row: usize, truth: f64, forecast: f64) -> Point {
        Point { row, truth, forecast, naive: 0.0 }
    }

    #[test]
    fn lines_break_where_rows_are_missing() {
        let rows = |rows: &[usize]| rows.iter().map(|&row| point(row, 0.0, 0.0)).collect::<Vec<_>>();
        assert_eq!(runs(&rows(&[4, 5, 6, 9, 10, 20])), [0..3, 3..5, 5..6]);
        assert_eq!(runs(&rows(&[0, 3, 6, 12])), [0..3, 3..4]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn the_stretch_shown_is_a_typical_one() {
        let errors = [0.0, 0.0, 9.0, 9.0, 4.0, 5.0, 1.0, 8.0];
        let points: Vec<Point> = errors.iter().enumerate().map(|(row, error)| point(row, 1.0, 1.0 - error)).collect();
        assert_eq!(typical(&points, 2), 1..3, "4.5 as in all");
        assert_eq!(typical(&points, 100), 0..8);
        let mut broken = points.clone();
        broken[2..].iter_mut().for_each(|point| point.row += 5);
        assert_eq!(typical(&broken, 2), 4..6, "no stretch has a gap");
        assert_eq!(typical(&broken, 100), 2..8);
        assert_eq!(typical(&[], 3), 0..0);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.0, 2.5678, 48.213, 0.01234, 1234.5].map(short), ["0", "2.57", "48.2", "0.0123", "1234"]);
    }

    #[test]
    fn pictures_are_written_whatever_is_to_be_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forecast.png");
        let some: Vec<Point> = (0..30).map(|row| point(row, row as f64, 3.0)).collect();
        let strange = [point(0, f64::NAN, f64::INFINITY), point(7, 1.0, 1.0)];
        let times: Vec<String> = (0..30).map(|hour| format!("2020-01-0{} {:02}:00", 1 + hour / 6, hour % 6)).collect();
        let times: Vec<&str> = times.iter().map(String::as_str).collect();
        for points in [&some[..], &some[..1], &strange, &[]] {
            for times in [None, Some(&times[..points.len()])] {
                let naive = times.is_some();
                picture(&path, &ForecastPlot { title: "", model: "", column: "x", points, times, naive }).unwrap();
                assert_eq!(std::fs::read(&path).unwrap()[1..4], *b"PNG");
            }
        }
    }
}
