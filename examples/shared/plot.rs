//! Pictures for people: learning curves, long-term spectra, and (from a file of its own) waveform and spectrogram.

use super::canvas::{Area, BLUE, GREEN, GRID, INK, LABEL_DROP, MUTED, ORANGE, anchored, numbers, paint, px, text};
use super::measure;
pub use super::spectrogram::sample;
use anyhow::Result;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (1200, 620);
/// More raw points than this only make one grey patch.
const MOST_POINTS: usize = 4000;

pub type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A learning curve and what to measure it against.
#[derive(Debug, Clone, Copy)]
pub struct LossPlot<'a> {
    pub title: &'a str,
    /// (step, loss) of training, as many as there are.
    pub train: &'a [(u64, f32)],
    /// What a point of it is of: a `step` or an `epoch`.
    pub each: &'a str,
    /// (step, loss) on the part that is not trained with, and its name.
    pub valid: &'a [(u64, f32)],
    pub valid_name: &'a str,
    /// Lines to beat, by name, in the unit of the loss.
    pub baselines: &'a [(&'a str, f64)],
    /// Such as "nats a sample".
    pub unit: &'a str,
}

/// Paints a learning curve as PNG: the training losses as points with their running mean over them, the validation
/// losses, and the baselines. Losses that are not finite are left out.
///
/// # Errors
/// If the file cannot be written.
pub fn losses(path: &Path, plot: &LossPlot<'_>) -> Result<()> {
    let finite = |points: &[(u64, f32)]| -> Vec<(f64, f64)> {
        points.iter().filter(|(_, loss)| loss.is_finite()).map(|&(step, loss)| (step as f64, loss.into())).collect()
    };
    let (train, valid) = (finite(plot.train), finite(plot.valid));
    let mean = running_mean(&train);
    let last_step = train.iter().chain(&valid).map(|(step, _)| *step).fold(1.0, f64::max);
    let losses = loss_range(&train, &mean, &valid, plot.baselines);

    paint(path, SIZE, |area| {
        let last = valid.last().map(|(_, loss)| format!("{}, {loss:.3} at the end", plot.valid_name));
        let points = format!("training, each {}", plot.each);
        let mut key = vec![(points.as_str(), BLUE, 90), ("its running mean", BLUE, 255)];
        key.extend(last.as_ref().map(|label| (label.as_str(), ORANGE, 255)));
        header(area, plot.title, &key)?;
        let mut chart = axes(area, 0.0..last_step * 1.02, losses.clone())?;
        mesh(&mut chart, "training step", plot.unit)?;

        let grey = ShapeStyle { color: MUTED.to_rgba(), filled: false, stroke_width: px(1) + 1 };
        for (_, level) in plot.baselines {
            let line = [(0.0, *level), (last_step * 1.02, *level)];
            chart.draw_series(DashedLineSeries::new(line, px(7), px(4), grey))?;
        }
        let every = train.len().div_ceil(MOST_POINTS).max(1);
        let shown = train.iter().step_by(every).filter(|(_, loss)| losses.contains(loss));
        let faint = (30.0 / (train.len() as f64 + 1.0).sqrt()).clamp(0.16, 0.5);
        chart.draw_series(shown.map(|&point| Circle::new(point, px(2), BLUE.mix(faint).filled())))?;
        let thick = ShapeStyle { color: BLUE.to_rgba(), filled: false, stroke_width: px(2) };
        for part in inside(&mean, &losses) {
            chart.draw_series(LineSeries::new(part, thick))?;
        }
        for part in inside(&valid, &losses) {
            chart.draw_series(LineSeries::new(part, ORANGE.stroke_width(px(2))))?;
        }
        let markers = valid.iter().filter(|(_, loss)| losses.contains(loss));
        chart.draw_series(markers.map(|&point| Circle::new(point, px(4), ORANGE.filled())))?;
        baseline_labels(&chart, plot.baselines)
    })
}

/// Names the baselines at the right end of their lines, above them; below where the next line is close above.
fn baseline_labels(chart: &Chart<'_, '_>, baselines: &[(&str, f64)]) -> Result<()> {
    let area = chart.plotting_area();
    let right = area.get_x_range().end;
    let paper = area.strip_coord_spec();
    for (name, level) in baselines {
        let (x, y) = area.map_coordinate(&(right, *level));
        let (left, top) = paper.get_base_pixel();
        let (x, y) = (x - left - px(8) as i32, y - top);
        let crowded = baselines.iter().any(|(_, other)| {
            let distance = y - (area.map_coordinate(&(right, *other)).1 - top);
            (1..px(26) as i32).contains(&distance)
        });
        let label = format!("{name}: {level:.3}");
        let (vertical, y) = if crowded { (VPos::Top, y + px(5) as i32) } else { (VPos::Bottom, y - px(3) as i32) };
        let style = anchored(16, MUTED, HPos::Right, vertical);
        let (wide, high) = paper.estimate_text_size(&label, &style)?;
        let upper = if crowded { y } else { y - high as i32 };
        let paper_behind = [(x - wide as i32 - 6, upper - 2), (x + 6, upper + high as i32 + 2)];
        paper.draw(&Rectangle::new(paper_behind, WHITE.mix(0.8).filled()))?;
        paper.draw(&Text::new(label, (x, y), style))?;
    }
    Ok(())
}

/// Paints the long-term average spectra of several clips (name, samples) as PNG, each relative to its clip's power, with
/// that of white noise beside them. The first is the reference.
///
/// # Errors
/// If the file cannot be written.
pub fn spectra(path: &Path, title: &str, rate: u32, clips: &[(&str, &[f32])]) -> Result<()> {
    const COLOURS: [RGBColor; 4] = [INK, BLUE, ORANGE, GREEN];
    let highest = f64::from(rate.max(1)) / 2.0;
    let (from, to) = (50.0f64.min(highest / 4.0), highest / 2f64.powf(1.0 / 6.0));
    let points = 240;
    let centres: Vec<f64> =
        (0..points).map(|i| from * (to / from).powf(f64::from(i) / f64::from(points - 1))).collect();
    let curve = |samples: &[f32]| -> Vec<(f64, f64)> {
        let total: f64 = measure::power_spectrum(samples, 1024).iter().sum();
        let levels = measure::third_octaves(samples, rate, &centres);
        let relative = levels.iter().map(|level| f64::from(*level) - 10.0 * total.log10());
        centres.iter().map(|centre| centre.log10()).zip(relative).filter(|(_, level)| level.is_finite()).collect()
    };
    let curves: Vec<Vec<(f64, f64)>> = clips.iter().map(|(_, samples)| curve(samples)).collect();
    // A third of an octave is 0.2316 of its centre wide.
    let white: Vec<(f64, f64)> =
        centres.iter().map(|centre| (centre.log10(), 10.0 * (0.2316 * centre / highest).log10())).collect();
    let levels = curves.iter().chain([&white]).flatten().map(|(_, level)| *level);
    let (low, high) = levels.fold((0.0, -30.0), |(low, high), level| (f64::min(low, level), f64::max(high, level)));
    let levels = low.max(high - 70.0) - 2.0..high + 3.0;

    paint(path, SIZE, |area| {
        let colour = |i: usize| COLOURS[i % COLOURS.len()];
        let mut key: Vec<_> = clips.iter().enumerate().map(|(i, (name, _))| (*name, colour(i), 255)).collect();
        key.push(("white noise", MUTED, 255));
        header(area, title, &key)?;
        let mut chart = axes(area, from.log10()..to.log10(), levels.clone())?;
        log_mesh(&mut chart, "dB in a third of an octave, of the clip's power")?;
        let grey = ShapeStyle { color: MUTED.to_rgba(), filled: false, stroke_width: px(1) + 1 };
        for part in inside(&white, &levels) {
            chart.draw_series(DashedLineSeries::new(part, px(7), px(4), grey))?;
        }
        for (i, curve) in curves.iter().enumerate() {
            for part in inside(curve, &levels) {
                chart.draw_series(LineSeries::new(part, colour(i).stroke_width(px(2) + 1)))?;
            }
        }
        Ok(())
    })
}

/// Title at the left, key of the curves (name, colour, opacity) at the right.
pub fn header(area: &Area<'_>, title: &str, key: &[(&str, RGBColor, u8)]) -> Result<()> {
    let style = |size, colour| anchored(size, colour, HPos::Left, VPos::Center);
    let middle = px(34) as i32;
    area.draw(&Text::new(title.to_owned(), (px(28) as i32, middle), style(24, INK)))?;
    let mut x = (area.dim_in_pixel().0 - px(28)) as i32;
    for (name, colour, opacity) in key.iter().rev() {
        let style = style(16, INK);
        x -= area.estimate_text_size(name, &style)?.0 as i32;
        area.draw(&Text::new((*name).to_owned(), (x, middle), style))?;
        x -= px(14) as i32;
        let dot = colour.mix(f64::from(*opacity) / 255.0).filled();
        area.draw(&Circle::new((x + px(3) as i32, middle - LABEL_DROP), px(5), dot))?;
        x -= px(24) as i32;
    }
    Ok(())
}

/// A chart below the header.
fn axes<'a, 'b>(area: &'a Area<'b>, x: Range<f64>, y: Range<f64>) -> Result<Chart<'a, 'b>> {
    Ok(ChartBuilder::on(area)
        .margin_top(px(64))
        .margin_bottom(px(10))
        .margin_left(px(16))
        .margin_right(px(28))
        .x_label_area_size(px(54))
        .y_label_area_size(px(72))
        .build_cartesian_2d(x, y)?)
}

fn mesh(chart: &mut Chart<'_, '_>, x: &str, y: &str) -> Result<()> {
    let (x_range, y_range) = (chart.x_range(), chart.y_range());
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style(text(18, INK))
        .label_style(text(16, INK))
        .x_label_formatter(&numbers(x_range.start, x_range.end))
        .y_label_formatter(&numbers(y_range.start, y_range.end))
        .y_label_offset(LABEL_DROP)
        .axis_style(MUTED.stroke_width(px(1)))
        .bold_line_style(GRID.stroke_width(px(1)))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// The mesh over log₁₀ of frequency: lines and labels at 50, 100, 200, 500 … Hz.
fn log_mesh(chart: &mut Chart<'_, '_>, y: &str) -> Result<()> {
    let ticks = (0..6).flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
    let label = numbers(0.0, 100.0);
    let ticks: Vec<(f64, String)> = ticks.map(|hz| (hz.log10(), label(&hz))).collect();
    mesh_with_ticks(chart, "frequency (Hz)", (y, 10), &ticks)
}

/// A mesh with these ticks and labels below; `y` is the text at the left and how many labels there are at most.
pub fn mesh_with_ticks(chart: &mut Chart<'_, '_>, x: &str, y: (&str, usize), ticks: &[(f64, String)]) -> Result<()> {
    let (x_range, y_range) = (chart.x_range(), chart.y_range());
    let y_numbers = numbers(y_range.start, y_range.end);
    let mut mesh = chart.configure_mesh();
    if !x.is_empty() {
        mesh.x_desc(x);
    }
    mesh.disable_x_mesh()
        .x_labels(0)
        .y_desc(y.0)
        .y_labels(y.1)
        .y_label_formatter(&y_numbers)
        .y_label_offset(LABEL_DROP)
        .axis_desc_style(text(18, INK))
        .label_style(text(16, INK))
        .axis_style(MUTED.stroke_width(px(1)))
        .bold_line_style(GRID.stroke_width(px(1)))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (at, label) in ticks.iter().filter(|(at, _)| x_range.contains(at)) {
        chart.draw_series(LineSeries::new([(*at, y_range.start), (*at, y_range.end)], GRID.stroke_width(px(1))))?;
        let area = chart.plotting_area();
        let tick = EmptyElement::at((*at, y_range.start))
            + Text::new(label.clone(), (0, px(7) as i32), anchored(16, INK, HPos::Center, VPos::Top));
        area.draw(&tick)?;
    }
    Ok(())
}

/// Running mean over a fortieth of the points to each side. At the start it reaches no further ahead than back, so that
/// a steep fall is not flattened.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 40;
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, (_, value)| {
        *sum += value;
        Some(*sum)
    }));
    let mean = |i: usize| {
        let from = i - reach.min(i);
        let to = (i + reach.min(i) + 1).min(points.len());
        (sums[to] - sums[from]) / (to - from) as f64
    };
    points.iter().enumerate().map(|(i, (step, _))| (*step, mean(i))).collect()
}

/// Losses to show: from the best to the baselines and nearly all of the curve; the first steps fall from far above and
/// would press the rest flat.
fn loss_range(
    train: &[(f64, f64)],
    mean: &[(f64, f64)],
    valid: &[(f64, f64)],
    baselines: &[(&str, f64)],
) -> Range<f64> {
    let values = |points: &[(f64, f64)]| -> Vec<f64> {
        let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (train, mean, valid) = (values(train), values(mean), values(valid));
    let baselines = || baselines.iter().map(|(_, level)| *level).filter(|level| level.is_finite());
    let lowest = [train.get(train.len() / 50), mean.first(), valid.first()]
        .into_iter()
        .flatten()
        .copied()
        .chain(baselines())
        .fold(f64::INFINITY, f64::min);
    let most = mean.get(mean.len() * 97 / 100).or(valid.last());
    let highest = most.copied().into_iter().chain(baselines()).fold(f64::NEG_INFINITY, f64::max);
    if lowest > highest {
        return 0.0..1.0;
    }
    let span = (highest - lowest).max(1e-3 * highest.abs()).max(1e-6);
    lowest - 0.06 * span..highest + 0.12 * span
}

/// The parts of a curve within a range of values, cut where they cross its edges.
fn inside(points: &[(f64, f64)], range: &Range<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let crossing =
        |(x0, y0): (f64, f64), (x1, y1): (f64, f64), edge: f64| (x0 + (x1 - x0) * (edge - y0) / (y1 - y0), edge);
    let beyond = |y: f64| (y < range.start).then_some(range.start).or((y > range.end).then_some(range.end));
    let mut previous: Option<(f64, f64)> = None;
    for &point in points {
        let was = previous.map(|before| (before, beyond(before.1)));
        match (was, beyond(point.1)) {
            (Some((before, Some(edge))), None) => parts.push(vec![crossing(before, point, edge), point]),
            (Some((before, None)), Some(edge)) => {
                parts.last_mut().into_iter().for_each(|part| part.push(crossing(before, point, edge)))
            }
            (Some((before, Some(from))), Some(to)) if from != to => {
                parts.push(vec![crossing(before, point, from), crossing(before, point, to)]);
            }
            (_, None) => parts.last_mut().into_iter().for_each(|part| part.push(point)),
            _ => {}
        }
        previous = Some(point);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_cut_at_the_edges_of_the_range() {
        let curve = [(0.0, 9.0), (1.0, 1.0), (2.0, 2.0), (3.0, 6.0), (4.0, 6.0), (5.0, -2.0)];
        let parts = inside(&curve, &(0.0..5.0));
        assert_eq!(parts, [vec![(0.5, 5.0), (1.0, 1.0), (2.0, 2.0), (2.75, 5.0)], vec![(4.125, 5.0), (4.75, 0.0)]]);
        assert!(inside(&[(0.0, 9.0), (1.0, 8.0)], &(0.0..5.0)).is_empty());
    }

    #[test]
    fn the_first_steps_do_not_press_the_curve_flat() {
        let train: Vec<(f64, f64)> =
            (0..1000).map(|i| (f64::from(i), 2.0 + 50.0 * (-f64::from(i) / 5.0).exp())).collect();
        let range = loss_range(&train, &running_mean(&train), &[], &[("to beat", 3.0)]);
        assert!(range.contains(&2.0) && range.contains(&3.0), "{range:?}");
        assert!(range.end < 6.0, "{range:?}");
    }

    #[test]
    fn pictures_are_written_whatever_is_to_be_shown() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let strange = [(1, f32::NAN), (2, f32::INFINITY), (3, 1.0)];
        for (train, valid) in
            [(&strange[..0], &strange[..0]), (&strange[..], &strange[..0]), (&strange[..], &strange[2..])]
        {
            let path = folder.path().join("loss.png");
            let plot = LossPlot {
                title: "",
                train,
                each: "step",
                valid,
                valid_name: "validation",
                baselines: &[("none", f64::NAN), ("some", 1.0)],
                unit: "nats",
            };
            losses(&path, &plot)?;
            assert_eq!(dimensions(&path)?, (1200, 620));
        }
        for samples in [&[][..], &[0.5], &[0.0; 3000], &[f32::NAN; 300]] {
            let path = folder.path().join("sample.png");
            sample(&path, samples, 8000, "strange")?;
            assert_eq!(dimensions(&path)?, (1200, 720));
            spectra(&path, "strange", 8000, &[("clip", samples)])?;
        }
        assert!(
            losses(
                &folder.path().join("no/such/folder/loss.png"),
                &LossPlot { title: "", train: &[], each: "", valid: &[], valid_name: "", baselines: &[], unit: "" }
            )
            .is_err_and(|error| error.to_string().contains("loss.png"))
        );
        Ok(())
    }

    /// Width and height from the head of a PNG.
    fn dimensions(path: &Path) -> Result<(u32, u32)> {
        let bytes = std::fs::read(path)?;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        assert_eq!(&bytes[1..4], b"PNG");
        Ok((number(16), number(20)))
    }
}
