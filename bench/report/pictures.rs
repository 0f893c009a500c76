//! The smaller pictures: what each round gave, latencies, and gain beside risk.

use super::number::{latency_us, rate, short, time_us};
use super::scale::{Scale, decades, ticks};
use super::svg::{Anchor, Svg, width_of};
use super::timeline::WIDTHS;

/// A row of dots: a stack and what each round gave.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Dots {
    pub name: String,
    /// Colour.
    pub class: String,
    pub values: Vec<f64>,
    pub median: f64,
}

/// A latency of a stack.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Percentile {
    /// `p50`, `max`.
    pub name: &'static str,
    pub stack: String,
    /// Colour.
    pub class: String,
    pub us: f64,
}

/// A policy: what it gains, and what it risks.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct GainAndRisk {
    pub name: String,
    /// Connections per second; `None` where it was simulated.
    pub gain: Option<f64>,
    /// Share of incarnations that took old bytes; `None` where nothing was aimed.
    pub risk: Option<Interval>,
    /// The risk in words.
    pub words: String,
    /// The positive control.
    pub control: bool,
}

/// Where a share lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Interval {
    /// Lower end; `None` if it never happened, like `measured`.
    pub low: Option<f64>,
    pub measured: Option<f64>,
    pub high: f64,
}

/// Connections per second of each round, the median as a bar across.
pub(super) fn rounds(rows: &[Dots], description: &str) -> String {
    let max = rows
        .iter()
        .flat_map(|row| row.values.iter().chain([&row.median]))
        .fold(0.0, |max, value| f64::max(max, *value));
    let names = rows.iter().map(|row| width_of(&row.name) * 1.1).fold(50.0, f64::max) + 12.0;
    each_width("rounds", "Connections per second of each round", description, |width| {
        let marks = ticks(max, if width < 500.0 { 4 } else { 8 });
        let scale = Scale::linear((0.0, marks.last().copied().unwrap_or(1.0)), (names, width - 68.0));
        let bottom = 10.0 + ROW * rows.len() as f64;
        let mut svg = Svg::new(width, bottom + 44.0);
        axis(&mut svg, &scale, &marks, (6.0, bottom), short);
        svg.text("title", Anchor::Middle, ((names + width - 68.0) / 2.0, bottom + 36.0), "connections per second");
        for (index, row) in rows.iter().enumerate() {
            let y = 10.0 + ROW * (index as f64 + 0.5);
            svg.text(&format!("name {}", row.class), Anchor::Start, (2.0, y + 4.0), &row.name);
            svg.rect(&format!("bar {}", row.class), (names, y - 7.0), (scale.at(row.median) - names, 14.0));
            let most = row.values.iter().fold(row.median, |most, value| f64::max(most, *value));
            for value in &row.values {
                svg.dot(&format!("dot {}", row.class), (scale.at(*value), y), 4.0);
            }
            svg.text("value", Anchor::Start, (scale.at(most) + 8.0, y + 4.0), &rate(row.median));
        }
        svg
    })
}

/// Latencies on a logarithmic axis, grouped by percentile.
pub(super) fn latencies(rows: &[Percentile], description: &str) -> String {
    let known = || rows.iter().map(|row| row.us).filter(|us| *us > 0.0);
    let (min, max) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    each_width("latency", "Connect latency", description, |width| {
        let (names, right) = (112.0, width - 66.0);
        let marks = decades(min.min(1e9), max);
        let scale = Scale::logarithmic((marks[0], marks[marks.len() - 1]), (names, right));
        let bottom = 10.0 + LOW_ROW * rows.len() as f64;
        let mut svg = Svg::new(width, bottom + 44.0);
        let shown = thinned(&marks, right - names);
        axis(&mut svg, &scale, &shown, (6.0, bottom), time_us);
        svg.text("title", Anchor::Middle, ((names + right) / 2.0, bottom + 36.0), "connect latency, logarithmic");
        let mut before = "";
        for (index, row) in rows.iter().enumerate() {
            let y = 10.0 + LOW_ROW * (index as f64 + 0.5);
            if row.name != before {
                svg.text("name", Anchor::Start, (2.0, y + 4.0), row.name);
                before = row.name;
            }
            svg.text(&format!("name {}", row.class), Anchor::End, (names - 8.0, y + 4.0), &row.stack);
            let x = scale.at(row.us);
            svg.line(&format!("stem {}", row.class), (names, y), (x, y));
            svg.dot(&format!("dot {}", row.class), (x, y), 4.5);
            svg.text("value", Anchor::Start, (x + 9.0, y + 4.0), &latency_us(row.us));
        }
        svg
    })
}

/// For every policy a bar to show the gain, and beside it on a logarithmic axis the interval in which the risk lies.
pub(super) fn gain_and_risk(rows: &[GainAndRisk], description: &str) -> String {
    let max = rows.iter().filter_map(|row| row.gain).fold(0.0, f64::max);
    let intervals = rows.iter().filter_map(|row| row.risk);
    let lows = intervals.map(|risk| risk.low.unwrap_or(risk.high)).filter(|low| *low > 0.0);
    let least = lows.fold(0.1, f64::min);
    each_width("risk", "Gain and risk of each policy", description, |width| {
        let middle = if max > 0.0 { width * 0.42 } else { 0.0 };
        let gains = ticks(max, if width < 500.0 { 2 } else { 4 });
        let gain = Scale::linear((0.0, gains.last().copied().unwrap_or(1.0)), (10.0, middle - 64.0));
        let marks = decades(least / 2.0, 1.0);
        let sides = (middle + 14.0, width - 14.0);
        let risk = Scale::logarithmic((marks[0], 1.0), sides);
        let bottom = 8.0 + TALL_ROW * rows.len() as f64;
        let mut svg = Svg::new(width, bottom + 44.0);
        if max > 0.0 {
            axis(&mut svg, &gain, &gains, (8.0, bottom), short);
            svg.text("title", Anchor::Start, (2.0, bottom + 36.0), "connections/s");
        }
        axis(&mut svg, &risk, &thinned(&marks, sides.1 - sides.0), (8.0, bottom), power);
        let axis_name = if width < 500.0 {
            "old bytes taken (share)"
        } else {
            "share of incarnations that took old bytes, logarithmic"
        };
        svg.text("title", Anchor::End, (width - 2.0, bottom + 36.0), axis_name);
        for (index, row) in rows.iter().enumerate() {
            let top = 8.0 + TALL_ROW * index as f64;
            gain_and_risk_row(&mut svg, row, (top, &gain, &risk, sides));
        }
        svg
    })
}

fn gain_and_risk_row(svg: &mut Svg, row: &GainAndRisk, (top, gain, risk, sides): (f64, &Scale, &Scale, (f64, f64))) {
    let class = if row.control { "control" } else { "synfin" };
    let y = top + 30.0;
    let name = shortened(&row.name, svg.width() - 8.0);
    svg.text("name", Anchor::Start, (2.0, top + 15.0), &name);
    if let Some(value) = row.gain {
        svg.rect(&format!("bar {class}"), (10.0, y - 7.0), (gain.at(value) - 10.0, 14.0));
        svg.text("value", Anchor::Start, (gain.at(value) + 5.0, y + 4.0), &rate(value));
    }
    let Some(Interval { low, measured, high }) = row.risk else {
        return svg.text("value", Anchor::Start, (sides.0, y + 4.0), &row.words);
    };
    let x = risk.at(high);
    let from = low.map_or(sides.0, |low| risk.at(low));
    svg.line(&format!("interval {class}"), (from, y), (x, y));
    svg.line(&format!("interval {class}"), (x, y - 6.0), (x, y + 6.0));
    match measured {
        Some(measured) => svg.dot(&format!("dot {class}"), (risk.at(measured), y), 4.5),
        // No lower end: it may be anything below.
        None => {
            svg.line(&format!("interval {class}"), (from, y), (from + 6.0, y - 5.0));
            svg.line(&format!("interval {class}"), (from, y), (from + 6.0, y + 5.0));
        }
    }
    let room = sides.1 - x > width_of(&row.words) + 10.0;
    if room {
        svg.text("value", Anchor::Start, (x + 8.0, y + 4.0), &row.words);
    } else {
        svg.text("value", Anchor::End, (from.min(x) - 8.0, y + 4.0), &row.words);
    }
}

/// Vertical lines at the marks and their figures below.
fn axis(svg: &mut Svg, scale: &Scale, marks: &[f64], (top, bottom): (f64, f64), figure: fn(f64) -> String) {
    for mark in marks {
        let x = scale.at(*mark);
        svg.line("grid", (x, top), (x, bottom));
        svg.text("tick", Anchor::Middle, (x, bottom + 17.0), &figure(*mark));
    }
}

/// As many of the decades as find room, the last one always.
fn thinned(marks: &[f64], room: f64) -> Vec<f64> {
    let every = (marks.len() as f64 * 46.0 / room.max(1.0)).ceil().max(1.0) as usize;
    marks.iter().rev().step_by(every).rev().copied().collect()
}

fn power(value: f64) -> String {
    if value >= 1.0 { "1".into() } else { format!("1e{:.0}", value.log10()) }
}

/// What of `words` fits into `room`, with a mark where something is missing.
fn shortened(words: &str, room: f64) -> String {
    if width_of(words) <= room {
        return words.to_owned();
    }
    let fits = (room / width_of("x")) as usize;
    words.chars().take(fits.saturating_sub(3)).chain("...".chars()).collect()
}

fn each_width(id: &str, title: &str, description: &str, draw: impl Fn(f64) -> Svg) -> String {
    WIDTHS.map(|(width, class)| draw(width).finish(&format!("{id}-{class}"), class, title, description)).concat()
}

/// Heights of rows.
const ROW: f64 = 34.0;
const LOW_ROW: f64 = 24.0;
const TALL_ROW: f64 = 46.0;
