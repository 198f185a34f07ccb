//! What the plots are painted on: a bitmap at twice the size, scaled down at the end so that lines come out smooth, and
//! a font of its own, so that no font needs to be installed.

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::path::Path;
use std::sync::Once;

/// Pixels painted for a pixel of the picture, in each direction.
pub const SCALE: u32 = 2;

pub const INK: RGBColor = RGBColor(31, 41, 55);
pub const MUTED: RGBColor = RGBColor(107, 114, 128);
pub const GRID: RGBColor = RGBColor(229, 231, 235);
pub const BLUE: RGBColor = RGBColor(37, 99, 235);
pub const ORANGE: RGBColor = RGBColor(217, 87, 12);
pub const GREEN: RGBColor = RGBColor(22, 163, 74);

/// The font sits high in its line: labels centred at a tick are moved down by this many painted pixels.
pub const LABEL_DROP: i32 = px(2) as i32;

const FAMILY: &str = "receptive-sans";

/// The area that a picture is painted on, in painted pixels: [`SCALE`] of them to a pixel of the picture.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Lengths below are in pixels of the picture; this makes painted pixels of them.
pub const fn px(length: u32) -> u32 {
    length * SCALE
}

/// Text of a size in pixels of the picture.
pub fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((FAMILY, px(size)).into_font()) }
}

/// The same, placed by the given corner or edge.
pub fn anchored(size: u32, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    text(size, colour).pos(Pos::new(horizontal, vertical))
}

/// How wide a text of a size in pixels of the picture is, in painted pixels.
///
/// # Errors
/// If the built-in font can't be read.
pub fn text_width(words: &str, size: u32) -> Result<u32> {
    register()?;
    let (wide, _) = text(size, INK).font.box_size(words).map_err(|error| anyhow!("{words:?}: {error}"))?;
    Ok(wide)
}

/// How the numbers along an axis from `start` to `end` are written: as many decimals as its ticks need, commas between
/// thousands, a true minus.
pub fn numbers(start: f64, end: f64) -> impl Fn(&f64) -> String {
    // An axis has about eight ticks.
    let decimals = (-((end - start) / 8.0).log10()).ceil().clamp(0.0, 6.0) as usize;
    move |value| {
        let digits = format!("{:.decimals$}", value.abs());
        let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
        let minus = if *value < 0.0 && digits.contains(|digit| ('1'..='9').contains(&digit)) { "−" } else { "" };
        let with_commas = whole.chars().enumerate().flat_map(|(i, digit)| {
            let comma = i > 0 && (whole.len() - i).is_multiple_of(3);
            comma.then_some(',').into_iter().chain([digit])
        });
        minus.chars().chain(with_commas).chain(fraction.chars()).collect()
    }
}

/// Paints a PNG of `size` pixels and writes it whole or not at all.
///
/// # Errors
/// If painting fails or the file cannot be written; the error names the file.
pub fn paint(path: &Path, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<()> {
    let name = || format!("could not write the picture {}", path.display());
    register()?;
    let (width, height) = (px(size.0), px(size.1));
    let mut large = vec![255; (3 * width * height) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
        draw(&area).with_context(name)?;
        area.present().with_context(name)?;
    }
    let mut small = halved(&large, width as usize);
    let partial = path.with_extension("partial.png");
    // The backend would tell of a folder that is not there as programmers do.
    std::fs::File::create(&partial).with_context(name)?;
    {
        let area = BitMapBackend::new(&partial, size).into_drawing_area();
        let picture = BitMapElement::with_mut((0, 0), size, &mut small).context("the picture has the wrong size");
        area.draw(&picture.with_context(name)?).with_context(name)?;
        area.present().with_context(name)?;
    }
    std::fs::rename(&partial, path).with_context(name)
}

fn register() -> Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A broken font shows below, where text of this family has no size.
        let _ = register_font(FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let measured = (FAMILY, 20).into_font().box_size("0");
    measured.map(|_| ()).map_err(|error| anyhow!("the built-in font cannot be read: {error}"))
}

/// Each two by two pixels become one.
fn halved(large: &[u8], width: usize) -> Vec<u8> {
    let rows = large.chunks_exact(2 * 3 * width);
    rows.flat_map(|two_rows| {
        let (upper, lower) = two_rows.split_at(3 * width);
        upper.chunks_exact(6).zip(lower.chunks_exact(6)).flat_map(|(upper, lower)| {
            let channel = |c: usize| upper[c] as u16 + upper[c + 3] as u16 + lower[c] as u16 + lower[c + 3] as u16;
            [0, 1, 2].map(|c| ((channel(c) + 2) / 4) as u8)
        })
    })
    .collect()
}
