//! The picture of a clip: its waveform above its spectrogram.

use super::canvas::{Area, BLUE, GRID, INK, LABEL_DROP, MUTED, SCALE, anchored, numbers, paint, px, text};
use anyhow::Result;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use realfft::RealFftPlanner;
use std::f64::consts::TAU;
use std::path::Path;

const SIZE: (u32, u32) = (1200, 720);
/// From the loudest place in the clip down to black.
const RANGE_DB: f64 = 70.0;
/// Frames averaged into a column of pixels at most; of a long clip, the rest between them is left out.
const MOST_FRAMES: usize = 8;

type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Paints a clip as PNG: the waveform, and below it the spectrogram over the same time (Hann windows of about 30 ms, 70 dB
/// from the loudest place down). `rate` is in Hz, samples in −1 to 1.
///
/// # Errors
/// If the file cannot be written.
pub fn sample(path: &Path, samples: &[f32], rate: u32, title: &str) -> Result<()> {
    let rate = f64::from(rate.max(1));
    let seconds = (samples.len() as f64 / rate).max(1.0 / rate);
    paint(path, SIZE, |area| {
        let at = (px(28) as i32, px(34) as i32);
        area.draw(&Text::new(title.to_owned(), at, anchored(24, INK, HPos::Left, VPos::Center)))?;
        let (_, panels) = area.split_vertically(px(58));
        let (upper, lower) = panels.split_vertically(px(200));

        let peak = samples.iter().fold(0.0, |peak: f64, sample| peak.max(f64::from(*sample).abs()));
        let reach = if peak > 0.0 { 1.1 * peak } else { 1.0 };
        let mut chart = panel(&upper, px(12), seconds, -reach..reach)?;
        mesh(&mut chart, "", "amplitude", 5, true)?;
        waveform(&mut chart, samples, rate, seconds)?;

        let mut chart = panel(&lower, px(58), seconds, 0.0..rate / 2000.0)?;
        spectrogram(&mut chart, samples, rate)?;
        mesh(&mut chart, "time (s)", "frequency (kHz)", 8, false)?;
        colour_bar(&lower, &chart)
    })
}

fn panel<'a, 'b>(area: &'a Area<'b>, below: u32, seconds: f64, y: std::ops::Range<f64>) -> Result<Chart<'a, 'b>> {
    Ok(ChartBuilder::on(area)
        .margin_top(px(4))
        .margin_left(px(16))
        .margin_right(px(110))
        .margin_bottom(px(6))
        .x_label_area_size(below)
        .y_label_area_size(px(76))
        .build_cartesian_2d(0.0..seconds, y)?)
}

fn mesh(chart: &mut Chart<'_, '_>, x: &str, y: &str, y_labels: usize, lines: bool) -> Result<()> {
    let (x_range, y_range) = (chart.x_range(), chart.y_range());
    let (x_numbers, y_numbers) = (numbers(x_range.start, x_range.end), numbers(y_range.start, y_range.end));
    let mut mesh = chart.configure_mesh();
    if !lines {
        mesh.disable_mesh();
    }
    if x.is_empty() {
        // The spectrogram below has the same seconds under it.
        mesh.x_label_formatter(&|_| String::new());
    } else {
        mesh.x_desc(x).x_label_formatter(&x_numbers);
    }
    mesh.y_desc(y)
        .y_labels(y_labels)
        .y_label_offset(LABEL_DROP)
        .y_label_formatter(&y_numbers)
        .axis_desc_style(text(18, INK))
        .label_style(text(16, INK))
        .axis_style(MUTED.stroke_width(px(1)))
        .bold_line_style(GRID.stroke_width(px(1)))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// From the lowest to the highest sample of each pixel of the picture's width, so that no peak is lost.
fn waveform(chart: &mut Chart<'_, '_>, samples: &[f32], rate: f64, seconds: f64) -> Result<()> {
    let columns = (chart.plotting_area().dim_in_pixel().0 / SCALE) as usize;
    if samples.len() <= 4 * columns {
        let points = samples.iter().enumerate().map(|(i, &sample)| (i as f64 / rate, f64::from(sample)));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(px(1))))?;
        return Ok(());
    }
    // Where all samples of a column are equal there is nothing to draw between them.
    chart.draw_series(LineSeries::new([(0.0, 0.0), (seconds, 0.0)], BLUE.stroke_width(SCALE)))?;
    let extremes = (0..columns).map(|column| {
        // One sample more than the column has, so that neighbours touch.
        let from = column * samples.len() / columns;
        let to = ((column + 1) * samples.len() / columns + 1).min(samples.len());
        let part = &samples[from..to];
        let low = part.iter().copied().fold(f32::INFINITY, f32::min);
        let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Placed by column, not by sample: two columns must not fall on one pixel.
        let at = (column as f64 + 0.5) / columns as f64 * seconds;
        PathElement::new(vec![(at, f64::from(low)), (at, f64::from(high))], BLUE.stroke_width(SCALE))
    });
    chart.draw_series(extremes)?;
    Ok(())
}

fn spectrogram(chart: &mut Chart<'_, '_>, samples: &[f32], rate: f64) -> Result<()> {
    let (columns, rows) = chart.plotting_area().dim_in_pixel();
    let levels = decibels(samples, rate, columns as usize);
    let loudest = levels.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut pixels = vec![0u8; (3 * columns * rows) as usize];
    for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (row, column) = (i / columns as usize, &levels[i % columns as usize]);
        // The bottom row is 0 Hz, the top one half the sampling rate.
        let bin = (rows as usize - 1 - row) as f64 / (rows.max(2) - 1) as f64 * (column.len() - 1) as f64;
        let (below, part) = (bin as usize, bin.fract());
        let level = column[below] * (1.0 - part) + column[(below + 1).min(column.len() - 1)] * part;
        // Silence throughout has no loudest place: all of it is black.
        let height = if loudest.is_finite() { 1.0 + (level - loudest) / RANGE_DB } else { 0.0 };
        pixel.copy_from_slice(&magma(height));
    }
    let corner = (0.0, chart.y_range().end);
    let picture = BitMapElement::with_owned_buffer(corner, (columns, rows), pixels);
    chart.draw_series(picture)?;
    Ok(())
}

/// Power in dB for each column of pixels and each frequency from 0 to half the rate.
fn decibels(samples: &[f32], rate: f64, columns: usize) -> Vec<Vec<f64>> {
    let window_len = ((rate * 0.024) as usize).next_power_of_two().max(32);
    // Zeros after the window draw the spectrum more finely between its bins.
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(4 * window_len);
    let window: Vec<f64> =
        (0..window_len).map(|i| 0.5 - 0.5 * (TAU * (i as f64 + 0.5) / window_len as f64).cos()).collect();
    let (mut input, mut output) = (fft.make_input_vec(), fft.make_output_vec());
    let per_column = samples.len() as f64 / columns as f64;
    let frames = ((2.0 * per_column / window_len as f64).ceil() as usize).clamp(1, MOST_FRAMES);
    let column = |column: usize| {
        let mut power = vec![0.0; output.len()];
        for frame in 0..frames {
            let centre = (column as f64 + (frame as f64 + 0.5) / frames as f64) * per_column;
            let start = centre as isize - window_len as isize / 2;
            input.fill(0.0);
            for (i, (value, weight)) in input.iter_mut().zip(&window).enumerate() {
                let sample = usize::try_from(start + i as isize).ok().and_then(|at| samples.get(at));
                *value = sample.map_or(0.0, |sample| f64::from(*sample) * weight);
            }
            // Fails only for buffers of the wrong length, which come from the plan itself.
            if fft.process(&mut input, &mut output).is_ok() {
                power.iter_mut().zip(&output).for_each(|(power, value)| *power += value.norm_sqr());
            }
        }
        power.iter().map(|power| 10.0 * power.log10()).collect()
    };
    (0..columns).map(column).collect()
}

/// A strip of the colours at the right of the spectrogram, with their levels.
fn colour_bar(area: &Area<'_>, chart: &Chart<'_, '_>) -> Result<()> {
    let (x, y) = chart.plotting_area().get_pixel_range();
    let (left, top) = area.get_base_pixel();
    let (x, y) = (x.end - left + px(18) as i32, y.start - top..y.end - top);
    let height = (y.end - y.start).max(1);
    for row in y.clone() {
        let [r, g, b] = magma(f64::from(y.end - row) / f64::from(height));
        area.draw(&Rectangle::new([(x, row), (x + px(14) as i32, row + 1)], RGBColor(r, g, b).filled()))?;
    }
    for level in [0, -10, -20, -30, -40, -50, -60, -70] {
        let row = y.start + (f64::from(-level) / RANGE_DB * f64::from(height)) as i32;
        let at = (x + px(22) as i32, row);
        let label = if level == 0 { "0 dB".to_owned() } else { format!("−{}", -level) };
        area.draw(&Text::new(label, at, anchored(16, INK, HPos::Left, VPos::Center)))?;
    }
    Ok(())
}

/// The colour map "magma" (Smith and van der Walt 2015): even steps to the eye, in grey as well. From 0 to 1.
fn magma(height: f64) -> [u8; 3] {
    const TABLE: [[u8; 3]; 17] = [
        [0, 0, 4],
        [11, 9, 36],
        [32, 17, 75],
        [59, 15, 112],
        [87, 21, 126],
        [114, 31, 129],
        [140, 41, 129],
        [168, 50, 125],
        [196, 60, 117],
        [222, 73, 104],
        [241, 96, 93],
        [250, 127, 94],
        [254, 159, 109],
        [254, 191, 132],
        [253, 222, 160],
        [252, 240, 178],
        [252, 253, 191],
    ];
    let place = if height.is_nan() { 0.0 } else { height.clamp(0.0, 1.0) * (TABLE.len() - 1) as f64 };
    let below = (place as usize).min(TABLE.len() - 2);
    let part = place - below as f64;
    [0, 1, 2].map(|c| (f64::from(TABLE[below][c]) * (1.0 - part) + f64::from(TABLE[below + 1][c]) * part).round() as u8)
}
