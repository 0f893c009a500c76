//! The picture: connections per second over time, and below it on the same axis TIME-WAIT entries and free 4-tuples.

use super::number::{short, trimmed};
use super::scale::{Scale, ticks};
use super::svg::{Anchor, Svg, width_of};

/// What goes into the picture. Times are s.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Timeline {
    /// Where the time axis ends.
    pub seconds: f64,
    /// Stretches of time with a name each, in order.
    pub phases: Vec<Stretch>,
    /// What had been predicted for the first line: drawn behind as an area.
    pub predicted: Vec<(f64, f64)>,
    /// The panels from top to bottom; the first is the tall one.
    pub panels: Vec<Panel>,
}

/// A stretch of time with a name.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Stretch {
    pub name: String,
    pub from_s: f64,
    pub to_s: f64,
    /// What is predicted on average in it at most.
    pub ceiling: Option<f64>,
}

/// One quantity over time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Panel {
    /// The quantity with its unit.
    pub title: String,
    pub lines: Vec<Line>,
}

/// One line of a panel.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Line {
    /// Its name, written at its end; none is written if this is empty.
    pub name: String,
    /// Its colour: `synfin`, `kernel`; with ` dashed` behind it what was predicted.
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

/// Widths at which the picture is drawn, and the class that shows it at that width of the page.
pub(super) const WIDTHS: [(f64, &str); 3] = [(1080.0, "wide"), (680.0, "middle"), (360.0, "narrow")];

impl Timeline {
    /// The picture at each width; the page shows one of them.
    pub(super) fn draw(&self, title: &str, description: &str) -> String {
        let at = |(width, class): (f64, &str)| {
            self.at_width(width).finish(&format!("time-{class}"), class, title, description)
        };
        WIDTHS.map(at).concat()
    }

    fn at_width(&self, width: f64) -> Svg {
        let narrow = width < 500.0;
        let sides = (if narrow { 42.0 } else { 56.0 }, width - if narrow { 66.0 } else { 84.0 });
        let marks = ticks(self.seconds, if narrow { 5 } else { 10 });
        let marks: Vec<f64> = marks.into_iter().filter(|mark| *mark <= self.seconds * 1.0001).collect();
        let time = Scale::linear((0.0, self.seconds), sides);
        let heights = self.panels.iter().enumerate().map(|(index, _)| match (index, narrow) {
            (0, false) => 280.0,
            (0, true) => 200.0,
            (_, false) => 100.0,
            (_, true) => 80.0,
        });
        let heights: Vec<f64> = heights.collect();
        let names = self.name_rows(&time, sides.1);
        let above = names.iter().map(|(row, ..)| row + 1).max().unwrap_or(0) as f64 * ROW;
        let total = heights.iter().sum::<f64>() + GAP * heights.len() as f64 + above + BELOW;
        let mut frame = Frame { svg: Svg::new(width, total), time, sides, marks, notes: Vec::new() };
        let mut top = GAP + above;
        for (row, x, anchor, name) in &names {
            frame.svg.text("phase", *anchor, (*x, GAP + (*row as f64 + 0.72) * ROW), name);
        }
        for (index, (panel, height)) in self.panels.iter().zip(&heights).enumerate() {
            let title_at = if index == 0 { GAP - 10.0 } else { top - 10.0 };
            frame.svg.text("title", Anchor::Start, (2.0, title_at), &panel.title);
            self.bands(&mut frame, top, *height);
            self.panel(&mut frame, panel, index == 0, (top, top + height));
            top += height + GAP;
        }
        frame.time_axis(top - GAP);
        frame.svg
    }

    /// Row, place and name of each phase: in the middle of its stretch if every name fits; otherwise where it begins,
    /// in the first row with room.
    fn name_rows(&self, time: &Scale, right: f64) -> Vec<(usize, f64, Anchor, &str)> {
        let span = |phase: &Stretch| (time.at(phase.from_s), time.at(phase.to_s));
        let fits = |phase: &Stretch| width_of(&phase.name) + 8.0 <= span(phase).1 - span(phase).0;
        if self.phases.iter().all(fits) {
            let middle = |phase: &Stretch| (span(phase).0 + span(phase).1) / 2.0;
            return self.phases.iter().map(|phase| (0, middle(phase), Anchor::Middle, phase.name.as_str())).collect();
        }
        // Where the last name of each row ends.
        let mut rows: Vec<f64> = Vec::new();
        let mut placed = Vec::new();
        for phase in &self.phases {
            let width = width_of(&phase.name) * BOLD;
            let x = (span(phase).0 + 3.0).min(right - width);
            let row = rows.iter().position(|end| end + 8.0 <= x).unwrap_or(rows.len());
            rows.resize(rows.len().max(row + 1), 0.0);
            rows[row] = x + width;
            placed.push((row, x, Anchor::Start, phase.name.as_str()));
        }
        placed
    }

    /// Every second phase is shaded, and a line stands where a phase begins.
    fn bands(&self, frame: &mut Frame, top: f64, height: f64) {
        for (index, phase) in self.phases.iter().enumerate() {
            let (from, to) = (frame.time.at(phase.from_s), frame.time.at(phase.to_s));
            if index % 2 == 1 {
                frame.svg.rect("band", (from, top), (to - from, height));
            }
            if index > 0 {
                frame.svg.line("border", (from, top), (from, top + height));
            }
        }
    }

    fn panel(&self, frame: &mut Frame, panel: &Panel, first: bool, (top, bottom): (f64, f64)) {
        let predicted: &[(f64, f64)] = if first { &self.predicted } else { &[] };
        let figures = panel.lines.iter().flat_map(|line| &line.points).chain(predicted).map(|point| point.1);
        let max = figures.fold(0.0, f64::max);
        let marks = ticks(max, if first { 5 } else { 2 });
        let value = Scale::linear((0.0, marks.last().copied().unwrap_or(1.0)), (bottom, top));
        let sides = frame.sides;
        for mark in &marks {
            let y = value.at(*mark);
            frame.svg.line(if *mark == 0.0 { "axis" } else { "grid" }, (sides.0, y), (sides.1, y));
            frame.svg.text("tick", Anchor::End, (sides.0 - 6.0, y + 4.0), &short(*mark));
        }
        for mark in frame.marks.clone() {
            let x = frame.time.at(mark);
            frame.svg.line("grid", (x, top), (x, bottom));
        }
        let mut ends = Vec::new();
        if let Some(last) = predicted.last() {
            let points = frame.places(predicted, &value);
            frame.svg.area("predicted-area", &points, bottom);
            frame.svg.polyline("predicted dashed", &points);
            ends.push((value.at(last.1), "predicted", "predicted"));
        }
        if first {
            self.ceilings(frame, &value, max);
            self.closed(frame, bottom);
        }
        for line in &panel.lines {
            let points = frame.places(&line.points, &value);
            frame.svg.polyline(&format!("line {}", line.class), &points);
            if let (Some(last), false) = (points.last(), line.name.is_empty()) {
                ends.push((last.1, line.name.as_str(), line.class.as_str()));
            }
        }
        frame.names(ends, (top, bottom));
    }

    /// The average that a policy allows, where it is a limit at all.
    fn ceilings(&self, frame: &mut Frame, value: &Scale, max: f64) {
        for phase in &self.phases {
            let Some(ceiling) = phase.ceiling.filter(|ceiling| *ceiling < max) else { continue };
            let (from, to, y) = (frame.time.at(phase.from_s), frame.time.at(phase.to_s), value.at(ceiling));
            frame.svg.line("ceiling", (from, y), (to, y));
            let words =
                [format!("average at most {}/s", short(ceiling.round())), format!("<= {}/s", short(ceiling.round()))];
            if let Some(words) = words.iter().find(|words| width_of(words) + 8.0 <= to - from) {
                frame.note(words, (to - 4.0 - width_of(words), y - 5.0));
            }
        }
    }
}

impl Timeline {
    /// Says in words where nothing can open.
    fn closed(&self, frame: &mut Frame, bottom: f64) {
        let mut from = None;
        let end = self.predicted.last().map(|last| (last.0, f64::INFINITY));
        for (time, figure) in self.predicted.iter().copied().chain(end) {
            match (from, figure > 0.0) {
                (None, false) => from = Some(time),
                (Some(began), true) => {
                    let (left, right) = (frame.time.at(began), frame.time.at(time));
                    let words = ["no port is free", "no port"];
                    if let Some(words) = words.into_iter().find(|words| width_of(words) + 8.0 <= right - left) {
                        frame.note(words, ((left + right - width_of(words)) / 2.0, bottom - 12.0));
                    }
                    from = None;
                }
                (Some(_), false) | (None, true) => {}
            }
        }
    }
}

/// What all panels share while they are drawn.
struct Frame {
    svg: Svg,
    time: Scale,
    /// Left and right end of the plots.
    sides: (f64, f64),
    /// Round times.
    marks: Vec<f64>,
    /// Where notes stand: left, right and baseline.
    notes: Vec<(f64, f64, f64)>,
}

impl Frame {
    fn places(&self, points: &[(f64, f64)], value: &Scale) -> Vec<(f64, f64)> {
        points.iter().map(|(time, figure)| (self.time.at(*time), value.at(*figure))).collect()
    }

    /// Words in the plot, moved up until they meet no others.
    fn note(&mut self, words: &str, (x, y): (f64, f64)) {
        let right = x + width_of(words);
        let taken =
            |y: f64| self.notes.iter().any(|note| x < note.1 && note.0 < right && (y - note.2).abs() < NAME + 2.0);
        let free = (0..NOTE_ROWS).map(|row| y - f64::from(row) * NAME).find(|y| !taken(*y));
        if let Some(y) = free {
            self.notes.push((x, right, y));
            self.svg.text("note", Anchor::Start, (x, y), words);
        }
    }

    /// Names at the ends of their lines, moved apart where they would overlap, each joined to its line.
    fn names(&mut self, mut ends: Vec<(f64, &str, &str)>, (top, bottom): (f64, f64)) {
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let room = bottom - NAME * ends.len() as f64;
        let mut next = top;
        for (index, (y, name, class)) in ends.into_iter().enumerate() {
            let at = (y - NAME / 2.0).clamp(next, (room + NAME * index as f64).max(next));
            next = at + NAME;
            let middle = at + NAME / 2.0;
            self.svg.line(&format!("leader {class}"), (self.sides.1 + 1.0, y), (self.sides.1 + 8.0, middle));
            self.svg.text(&format!("name {class}"), Anchor::Start, (self.sides.1 + 10.0, middle + 4.0), name);
        }
    }

    fn time_axis(&mut self, bottom: f64) {
        for mark in self.marks.clone() {
            let x = self.time.at(mark);
            self.svg.text("tick", Anchor::Middle, (x, bottom + 16.0), &trimmed(mark, 2));
        }
        let middle = (self.sides.0 + self.sides.1) / 2.0;
        self.svg.text("title", Anchor::Middle, (middle, bottom + 34.0), "time since the start, s");
    }
}

/// Room above a panel, for its title.
const GAP: f64 = 34.0;
/// How much wider bold letters are.
const BOLD: f64 = 1.1;
/// Height of a row of names of phases.
const ROW: f64 = 18.0;
/// Height of a name at the end of a line.
const NAME: f64 = 15.0;
/// How many places are tried for words in a plot.
const NOTE_ROWS: u32 = 6;
/// Room below the last panel, for the time.
const BELOW: f64 = 40.0;
