//! The picture of what a model looks at.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::shared::canvas::{Area, BLUE, INK, MUTED, ORANGE, anchored, paint, px, text_width};
use crate::shared::plot::header;
use crate::shown::Shown;

/// In pixels of the picture, as all below.
const WIDTH: u32 = 1100;
const MARGIN: u32 = 28;
const TOP: u32 = 72;
const LINE: u32 = 40;
const BAR: u32 = 30;
const WORD: u32 = 20;
/// Where bars begin that speak for nothing.
const MIDDLE: u32 = 640;

/// Paints a sentence, its words the darker the more they speak for the class that is told (blue) or against it (orange), and below
/// the phrases that do.
///
/// # Errors
/// If the file can't be written.
pub fn paint_explanation(path: &Path, shown: &Shown) -> Result<()> {
    let lines = lines(shown)?;
    let height = TOP + LINE * lines.len().max(1) as u32 + 40 + BAR * shown.phrases.len() as u32 + MARGIN;
    paint(path, (WIDTH, height), |area| {
        let title = format!("{} ({:.1} %)", shown.label, shown.probability * 100.0);
        header(area, &title, &[("speaks for it", BLUE, 255), ("against it", ORANGE, 255)])?;
        let most = shown.words.iter().map(|(_, weight)| weight.abs()).fold(f32::MIN_POSITIVE, f32::max);
        for (line, words) in lines.iter().enumerate() {
            let top = (px(TOP) + px(LINE) * line as u32) as i32;
            for &(word, left, wide) in words {
                let (text, weight) = &shown.words[word];
                let box_of = [(left, top), (left + wide, top + px(LINE - 8) as i32)];
                area.draw(&Rectangle::new(
                    box_of,
                    colour(*weight).mix(f64::from(weight.abs() / most) * 0.75).filled(),
                ))?;
                let style = anchored(WORD, INK, HPos::Left, VPos::Center);
                area.draw(&Text::new(text.clone(), (left + px(6) as i32, top + px(LINE - 8) as i32 / 2), style))?;
            }
        }
        bars(area, shown, px(TOP + LINE * lines.len().max(1) as u32 + 24) as i32)
    })
}

fn colour(weight: f32) -> RGBColor {
    if weight >= 0.0 { BLUE } else { ORANGE }
}

/// The words of each line, with their left ends and widths in painted pixels.
fn lines(shown: &Shown) -> Result<Vec<Vec<(usize, i32, i32)>>> {
    let (margin, end) = (px(MARGIN) as i32, px(WIDTH - MARGIN) as i32);
    let mut lines: Vec<Vec<(usize, i32, i32)>> = Vec::new();
    let mut left = end;
    for (index, (word, _)) in shown.words.iter().enumerate() {
        let wide = (text_width(word, WORD)? + px(12)) as i32;
        if left + wide > end {
            lines.push(Vec::new());
            left = margin;
        }
        if let Some(line) = lines.last_mut() {
            line.push((index, left, wide));
        }
        left += wide + px(4) as i32;
    }
    Ok(lines)
}

fn bars(area: &Area<'_>, shown: &Shown, top: i32) -> Result<()> {
    let most = shown.phrases.iter().map(|phrase| phrase.weight.abs()).fold(f32::MIN_POSITIVE, f32::max);
    let middle = px(MIDDLE) as i32;
    let room = px(WIDTH - MIDDLE - MARGIN - 130) as f32;
    for (row, phrase) in shown.phrases.iter().enumerate() {
        let y = top + (px(BAR) * row as u32) as i32;
        let centre = y + px(BAR) as i32 / 2;
        let words = anchored(16, INK, HPos::Left, VPos::Center);
        area.draw(&Text::new(phrase.words.clone(), (px(MARGIN) as i32, centre), words))?;
        let wide = (room * phrase.weight.abs() / most) as i32;
        let bar = [(middle, y + px(6) as i32), (middle + wide, y + px(BAR - 6) as i32)];
        area.draw(&Rectangle::new(bar, colour(phrase.weight).filled()))?;
        let number = anchored(14, MUTED, HPos::Left, VPos::Center);
        let told = format!("{:+.2}, {} filters", phrase.weight, phrase.filters).replace('-', "−");
        area.draw(&Text::new(told, (middle + wide + px(8) as i32, centre), number))?;
    }
    Ok(())
}
