//! A picture as SVG text: shapes and words by class, colours and sizes are the page's.

use super::escape::html;
use std::fmt::Write;

/// A picture that is being drawn. Lengths are in its own units: pixels where it is shown at its width.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Which end of a text its position is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty picture.
    pub(super) fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    /// Its width.
    pub(super) fn width(&self) -> f64 {
        self.width
    }

    /// A rectangle; nothing is drawn of one without an area.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        if width > 0.0 && height > 0.0 {
            let shape = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#);
            self.element("rect", class, &shape);
        }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let shape = format!(r#"x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}""#, from.0, from.1, to.0, to.1);
        self.element("line", class, &shape);
    }

    /// A dot.
    pub(super) fn dot(&mut self, class: &str, at: (f64, f64), radius: f64) {
        self.element("circle", class, &format!(r#"cx="{:.1}" cy="{:.1}" r="{radius:.1}""#, at.0, at.1));
    }

    /// A line through all points.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() > 1 {
            self.element("path", class, &format!(r#"d="{}""#, path(points)));
        }
    }

    /// What lies between the points and `floor`.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)], floor: f64) {
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let shape = format!(r#"d="{}L{:.1},{floor:.1}L{:.1},{floor:.1}Z""#, path(points), last.0, first.0);
            self.element("path", class, &shape);
        }
    }

    /// Words on one line.
    pub(super) fn text(&mut self, class: &str, anchor: Anchor, (x, y): (f64, f64), words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let words = html(words);
        let _ =
            write!(self.body, r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{words}</text>"#);
    }

    /// The element, for those who see it (`class` says at which width of the page) and for those who hear it.
    ///
    /// `id` is unique in the page.
    pub(super) fn finish(self, id: &str, class: &str, title: &str, description: &str) -> String {
        format!(
            concat!(
                r#"<svg class="{class}" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-labelledby="{id}-title {id}-desc">"#,
                r#"<title id="{id}-title">{title}</title><desc id="{id}-desc">{description}</desc>{body}</svg>"#,
                "\n"
            ),
            class = class,
            width = self.width,
            height = self.height,
            id = id,
            title = html(title),
            description = html(description),
            body = self.body
        )
    }

    fn element(&mut self, name: &str, class: &str, shape: &str) {
        let _ = write!(self.body, r#"<{name} class="{class}" {shape}/>"#);
    }
}

/// How wide words are at most, at the size of the page's pictures.
pub(super) fn width_of(words: &str) -> f64 {
    words.chars().count() as f64 * LETTER
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1},{y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

/// Width of a letter of 12 px, rather too much: fonts differ.
const LETTER: f64 = 6.9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_and_shapes_without_area_left_out() {
        let mut svg = Svg::new(10.0, 20.0);
        svg.text("tick", Anchor::End, (1.0, 2.0), "<b>&");
        svg.rect("bar", (0.0, 0.0), (0.0, 5.0));
        svg.polyline("line", &[(0.0, 0.0)]);
        let text = svg.finish("a", "wide", "\"t\"", "d");
        assert!(text.contains(">&lt;b&gt;&amp;</text>") && text.contains("&quot;t&quot;"), "{text}");
        assert!(!text.contains("<rect") && !text.contains("<path"), "{text}");
    }
}
