//! The ratios as a picture: bars grouped by workload, on a logarithmic axis.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::report::{CPU, Report};
use super::table::{cut, name, number, workloads};

/// Pixels painted for a pixel of the picture, in each direction, in a bitmap.
const SCALE: u32 = 2;

const INK: RGBColor = RGBColor(31, 41, 55);
const MUTED: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const GREY: RGBColor = RGBColor(156, 163, 175);
const BLUE: RGBColor = RGBColor(37, 99, 235);
/// Of other programs, in the order of their reports.
const PEERS: [RGBColor; 4] =
    [RGBColor(217, 87, 12), RGBColor(22, 163, 74), RGBColor(147, 51, 234), RGBColor(202, 138, 4)];

// In pixels of the picture.
const WIDTH: u32 = 1000;
const MARGIN: u32 = 24;
const HEAD: u32 = 84;
const HEADING: u32 = 26;
const BAR: u32 = 20;
const GAP: u32 = 12;
const AXIS: u32 = 56;
const SMALL: u32 = 13;
/// Characters of a bar's name at most.
const NAME: usize = 44;

struct Group {
    heading: String,
    bars: Vec<Bar>,
}

struct Bar {
    name: String,
    /// How many times as fast as the reference.
    ratio: f64,
    ms: f64,
    colour: RGBColor,
}

/// Draws the rows of this machine: how many times as fast each is as the CPU executor, or where that was not measured as
/// the slowest.
///
/// # Errors
/// If the file can't be written; the error names it.
pub fn plot(report: &Report, path: &Path) -> Result<()> {
    let name = || format!("could not write the picture {}", path.display());
    register()?;
    let groups = groups(report);
    let height = HEAD + groups.iter().map(|g| HEADING + g.bars.len() as u32 * BAR + GAP).sum::<u32>() + AXIS;
    if path.extension().is_some_and(|end| end == "svg") {
        let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
        Picture { area, scale: 1 }.draw(report, &groups).with_context(name)
    } else {
        let area = BitMapBackend::new(path, (WIDTH * SCALE, height * SCALE)).into_drawing_area();
        Picture { area, scale: SCALE }.draw(report, &groups).with_context(name)
    }
}

fn groups(report: &Report) -> Vec<Group> {
    let group = |(workload, size): (String, String)| {
        let mut bars = vec![];
        let mut reference: Option<f64> = None;
        for (place, of) in report.comparable().enumerate() {
            for row in of.rows.iter().filter(|row| row.workload == workload && row.size == size) {
                let Some(ms) = row.ms.map(|ms| ms.median) else { continue };
                let ours = place == 0;
                let colour = match (ours, row.device.as_str()) {
                    (true, CPU) => GREY,
                    (true, _) => BLUE,
                    (false, _) => PEERS[(place - 1) % PEERS.len()],
                };
                if ours && row.device == CPU {
                    reference = Some(ms);
                }
                let program = (!ours).then_some(of.program.as_str());
                bars.push(Bar { name: cut(&name(program, row), NAME), ratio: 1.0, ms, colour });
            }
        }
        let slowest = bars.iter().map(|bar| bar.ms).fold(0.0, f64::max);
        bars.iter_mut().for_each(|bar| bar.ratio = reference.unwrap_or(slowest) / bar.ms);
        // A logarithmic axis has no place for others.
        bars.retain(|bar| bar.ratio.is_finite() && bar.ratio > 0.0);
        Group { heading: format!("{workload}, {size}"), bars }
    };
    workloads(report).into_iter().map(group).filter(|group| !group.bars.is_empty()).collect()
}

fn register() -> Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What a viewer takes for the same family in an SVG is about as wide. A broken font shows below.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let measured = ("sans-serif", 20).into_font().box_size("0");
    measured.map(|_| ()).map_err(|error| anyhow!("the built-in font cannot be read: {error}"))
}

struct Picture<DB: DrawingBackend> {
    area: DrawingArea<DB, Shift>,
    scale: u32,
}

impl<DB: DrawingBackend> Picture<DB>
where
    DB::ErrorType: 'static,
{
    fn draw(&self, report: &Report, groups: &[Group]) -> Result<()> {
        self.area.fill(&WHITE)?;
        let bars = || groups.iter().flat_map(|group| &group.bars);
        let values: Vec<String> = bars().map(|bar| format!("{}×  {} ms", number(bar.ratio), number(bar.ms))).collect();
        let names = self.widest(bars().map(|bar| bar.name.as_str()))?;
        let (left, right) = (
            (MARGIN + names + 12) as i32,
            (WIDTH - MARGIN).saturating_sub(self.widest(values.iter().map(String::as_str))? + 8) as i32,
        );
        let axis = Axis::over(bars().map(|bar| bar.ratio), left, right);

        let title = "Speed, as a multiple of the CPU executor's (of the slowest, where that was not measured)";
        self.text(title, MARGIN as i32, 28, 18, INK, HPos::Left)?;
        let subtitle = format!("{}; {}", cut(&report.machine.to_string(), 100), report.date);
        self.text(&subtitle, MARGIN as i32, 54, SMALL, MUTED, HPos::Left)?;

        let bottom = self.area.dim_in_pixel().1 / self.scale - AXIS;
        for tick in axis.ticks() {
            let (x, colour) = (axis.place(tick), if tick == 1.0 { MUTED } else { GRID });
            self.line([(x, HEAD as i32 - 8), (x, bottom as i32)], colour)?;
            self.text(&format!("{tick}×"), x, bottom as i32 + 16, SMALL, MUTED, HPos::Center)?;
        }
        let mut y = HEAD;
        let mut values = values.iter();
        for group in groups {
            self.text(&group.heading, MARGIN as i32, (y + HEADING / 2) as i32, 15, INK, HPos::Left)?;
            y += HEADING;
            for (bar, value) in group.bars.iter().zip(&mut values) {
                let (one, end, middle) = (axis.place(1.0), axis.place(bar.ratio), (y + BAR / 2) as i32);
                self.text(&bar.name, left - 12, middle, SMALL, INK, HPos::Right)?;
                // What is as fast as the reference still shows.
                let (from, to) = (one.min(end), one.max(end).max(one.min(end) + 2));
                self.rectangle([(from, y as i32 + 3), (to, (y + BAR) as i32 - 3)], bar.colour)?;
                self.text(value, to + 8, middle, SMALL, INK, HPos::Left)?;
                y += BAR;
            }
            y += GAP;
        }
        self.area.present()?;
        Ok(())
    }

    fn style(&self, size: u32, colour: RGBColor, horizontal: HPos) -> TextStyle<'static> {
        let style = TextStyle::from(("sans-serif", size * self.scale).into_font());
        TextStyle { color: colour.to_backend_color(), ..style }.pos(Pos::new(horizontal, VPos::Center))
    }

    fn text(&self, text: &str, x: i32, y: i32, size: u32, colour: RGBColor, horizontal: HPos) -> Result<()> {
        let style = self.style(size, colour, horizontal);
        let (x, y) = self.at((x, y));
        if let HPos::Left = horizontal {
            // Paper behind it, so that no line of the grid crosses it.
            let (wide, high) = self.area.estimate_text_size(text, &style)?;
            let corners = [(x, y - high as i32 / 2), (x + wide as i32, y + high as i32 / 2)];
            self.area.draw(&Rectangle::new(corners, WHITE.filled()))?;
        }
        self.area.draw(&Text::new(text.to_owned(), (x, y), style))?;
        Ok(())
    }

    fn line(&self, ends: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
        self.area.draw(&PathElement::new(ends.map(|end| self.at(end)), colour.stroke_width(self.scale)))?;
        Ok(())
    }

    fn rectangle(&self, corners: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
        self.area.draw(&Rectangle::new(corners.map(|corner| self.at(corner)), colour.filled()))?;
        Ok(())
    }

    fn at(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (x * self.scale as i32, y * self.scale as i32)
    }

    /// The width of the widest text, in pixels of the picture.
    fn widest<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Result<u32> {
        let style = self.style(SMALL, INK, HPos::Left);
        let mut widest = 0;
        for text in texts {
            widest = widest.max(self.area.estimate_text_size(text, &style)?.0.div_ceil(self.scale));
        }
        Ok(widest)
    }
}

/// Where ratios lie between two edges.
struct Axis {
    low: f64,
    high: f64,
    left: i32,
    right: i32,
}

impl Axis {
    /// Over all the ratios and 1; at least a factor of 4.
    fn over(ratios: impl Iterator<Item = f64>, left: i32, right: i32) -> Self {
        let (low, high) = ratios.fold((1.0, 1.0), |(low, high), ratio| (f64::min(low, ratio), f64::max(high, ratio)));
        let widen = (4.0 * low / high).max(1.0).sqrt();
        Self { low: low / widen * 0.9, high: high * widen, left, right }
    }

    fn place(&self, ratio: f64) -> i32 {
        let share = (ratio / self.low).ln() / (self.high / self.low).ln();
        self.left + (share * f64::from(self.right - self.left)).round() as i32
    }

    /// 1, 2, 5, 10 …, or where these would crowd the powers of 10.
    fn ticks(&self) -> Vec<f64> {
        let digits: &[f64] = if self.high / self.low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        // Rounded, as 5 · 10⁻² is not 0.05.
        let tick = |decade: i32, digit: f64| format!("{digit}e{decade}").parse::<f64>().unwrap_or(f64::NAN);
        let all = decades.flat_map(|decade| digits.iter().map(move |&digit| tick(decade, digit)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

#[cfg(test)]
#[allow(unused, reason = "tests/it runs them: cargo builds benchmarks without their tests")]
mod tests {
    use super::super::report::Row;
    use super::super::time::Spread;
    use super::*;

    fn report(rows: &[(&str, f64)]) -> Report {
        let rows = rows.iter().map(|&(device, ms)| Row {
            workload: "wavenet_train".into(),
            size: "small".into(),
            device: device.into(),
            ms: Some(Spread { median: ms, min: ms, max: ms, iqr: None }),
            ..Row::default()
        });
        let empty = serde_json::json!({
            "program": "p", "machine": {"cpu": "Zen", "cores": 2, "gpu": null}, "date": "", "rows": []
        });
        Report { rows: rows.collect(), ..serde_json::from_value(empty).unwrap() }
    }

    #[test]
    fn ratios_are_to_the_cpu_or_to_the_slowest() {
        let ratios = |rows| groups(&report(rows))[0].bars.iter().map(|bar| bar.ratio).collect::<Vec<_>>();
        assert_eq!(ratios(&[("cpu", 10.0), ("A", 2.0), ("B", 40.0)]), [1.0, 5.0, 0.25]);
        assert_eq!(ratios(&[("A", 2.0), ("B", 40.0)]), [20.0, 1.0]);
        let bad = [("A", 2.0), ("B", 0.0), ("C", -1.0), ("D", f64::NAN), ("E", 1e-320), ("cpu", 10.0)];
        assert_eq!(ratios(&bad), [5.0, 1.0]);
    }

    #[test]
    fn everything_lies_on_the_axis() {
        for ratios in [vec![], vec![1.0], vec![0.03, 1.0, 250.0], vec![1.0, 1e6], vec![7.0]] {
            let axis = Axis::over(ratios.iter().copied(), 100, 900);
            assert!(ratios.iter().all(|&ratio| (100..=900).contains(&axis.place(ratio))), "{ratios:?}");
            let ticks: Vec<i32> = axis.ticks().into_iter().map(|tick| axis.place(tick)).collect();
            assert!(ticks.len() >= 2 && axis.ticks().contains(&1.0), "{ratios:?}: {:?}", axis.ticks());
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] > 50), "{ratios:?}: {ticks:?}");
        }
    }

    #[test]
    fn pictures_are_written_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let report = report(&[("cpu", 10.0), ("llvmpipe (LLVM 15)", 200.0), ("A", 0.01)]);
        let (png, svg) = (folder.path().join("a.png"), folder.path().join("a.svg"));
        plot(&report, &png).unwrap();
        plot(&report, &svg).unwrap();
        assert_eq!(&std::fs::read(&png).unwrap()[1..4], b"PNG");
        let text = std::fs::read_to_string(&svg).unwrap();
        assert!(text.contains("llvmpipe") && text.contains("1000×") && text.contains("wavenet_train, small"));
        assert!(
            plot(&report, &folder.path().join("none/a.png")).is_err_and(|error| error.to_string().contains("a.png"))
        );
    }
}
