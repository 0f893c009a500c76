//! From the moments of a result to the picture over time and the table beside it.

use super::number::grouped;
use super::table::Table;
use super::timeline::{Line, Panel, Stretch, Timeline};
use crate::cps::report::Report;
use crate::cps::result::{Moment, Phases, Run};

/// The picture and its table as HTML; `None` where nothing was recorded over time.
pub(super) fn section(report: &Report) -> Option<String> {
    let (timeline, source) = match &report.phases {
        Some(phases) => (of_phases(phases), Source::of_phases(phases)),
        None => {
            let source = Source::of_rounds(report);
            (of_rounds(&source, report.prediction.expected), source)
        }
    };
    if timeline.panels.is_empty() || timeline.seconds <= 0.0 {
        return None;
    }
    let description = describe(report);
    let picture = timeline.draw("Connections per second over time", &description);
    let table = source.table(&timeline);
    Some(format!(
        "<figure>{picture}<figcaption>{}</figcaption></figure>\n<details><summary>The same as a table</summary>\n{}</details>\n",
        super::escape::html(&description),
        table.html()
    ))
}

/// A figure of a moment.
type Figure = fn(&Moment) -> f64;

/// Who was recorded.
struct Source<'a> {
    synfin: Option<&'a Run>,
    kernel: Option<&'a Run>,
}

impl<'a> Source<'a> {
    fn of_phases(phases: &'a Phases) -> Source<'a> {
        Source { synfin: phases.synfin.as_ref(), kernel: phases.kernel.as_ref() }
    }

    fn of_rounds(report: &'a Report) -> Source<'a> {
        let first =
            |stack: &'a Option<crate::cps::report::StackReport>| stack.as_ref().and_then(|stack| stack.runs.first());
        Source { synfin: first(&report.stacks.synfin), kernel: first(&report.stacks.kernel) }
    }

    fn runs(&self) -> impl Iterator<Item = (&'static str, &'a Run)> {
        let named = [("synfin", self.synfin), ("kernel", self.kernel)];
        named.into_iter().filter_map(|(name, run)| run.filter(|run| !run.series.is_empty()).map(|run| (name, run)))
    }

    fn end(&self) -> f64 {
        self.runs().filter_map(|(_, run)| run.series.last()).map(|moment| moment.t).fold(0.0, f64::max)
    }

    fn panels(&self) -> Vec<Panel> {
        let panel = |title: &str, of: Figure| {
            let line =
                |(name, run): (&str, &Run)| Line { name: name.into(), class: name.into(), points: points(run, of) };
            Panel { title: title.into(), lines: self.runs().map(line).collect() }
        };
        let titles: [(&str, Figure); 3] = [
            ("connections per second", |moment| moment.cps),
            ("TIME-WAIT entries", |moment| moment.time_wait as f64),
            ("free 4-tuples (ports)", |moment| moment.free_ports as f64),
        ];
        if self.runs().next().is_none() { Vec::new() } else { titles.map(|(title, of)| panel(title, of)).to_vec() }
    }

    /// A row per second, or per so many seconds that a page holds them.
    fn table(&self, timeline: &Timeline) -> Table {
        let step = (timeline.seconds / ROWS_MAX).ceil().max(1.0);
        let mut table = Table::new(&["to s", "policy", "predicted/s"]);
        for (name, _) in self.runs() {
            for what in ["connections/s", "TIME-WAIT", "free"] {
                table.column(&format!("{name} {what}"));
            }
        }
        let mut from = 0.0;
        while from < timeline.seconds - 1e-6 {
            let to = from + step;
            let middle = (from + to) / 2.0;
            let phase = timeline.phases.iter().find(|phase| phase.from_s <= middle && middle < phase.to_s);
            let mut row = vec![grouped(to), phase.map_or("-".into(), |phase| phase.name.clone())];
            row.push(mean(
                timeline.predicted.iter().filter(|point| point.0 > from && point.0 <= to).map(|point| point.1),
            ));
            for (_, run) in self.runs() {
                let within: Vec<&Moment> =
                    run.series.iter().filter(|moment| moment.t > from && moment.t <= to + 1e-9).collect();
                row.push(mean(within.iter().map(|moment| moment.cps)));
                row.push(within.last().map_or("-".into(), |moment| grouped(moment.time_wait as f64)));
                row.push(within.last().map_or("-".into(), |moment| grouped(moment.free_ports as f64)));
            }
            table.row(row);
            from = to;
        }
        table
    }
}

fn of_phases(phases: &Phases) -> Timeline {
    let source = Source::of_phases(phases);
    let stretch = |phase: &crate::cps::result::Phase| Stretch {
        name: phase.policy.clone(),
        from_s: phase.from_s,
        to_s: phase.to_s,
        ceiling: held_s(phases, &phase.policy).map(|held_s| phases.tuples as f64 / held_s),
    };
    let mut panels = source.panels();
    if let Some(first) = panels.first_mut()
        && !phases.predicted_kernel.is_empty()
    {
        let points = phases.predicted_kernel.clone();
        first.lines.insert(0, Line { name: String::new(), class: "kernel dashed".into(), points });
    }
    let end = phases.phases.iter().map(|phase| phase.to_s).fold(0.0, f64::max);
    let end = if end > 0.0 { end } else { source.end() };
    // What comes after the last phase is the end of what had begun.
    for line in panels.iter_mut().flat_map(|panel| &mut panel.lines) {
        line.points.retain(|point| point.0 <= end);
    }
    Timeline {
        seconds: end,
        phases: phases.phases.iter().map(stretch).collect(),
        predicted: phases.predicted.clone(),
        panels,
    }
}

fn of_rounds(source: &Source<'_>, expected: Option<f64>) -> Timeline {
    let seconds = source.end();
    let predicted = expected.map(|expected| vec![(0.0, expected), (seconds, expected)]).unwrap_or_default();
    Timeline { seconds, phases: Vec::new(), predicted, panels: source.panels() }
}

/// How long a policy keeps a 4-tuple, s; `None` if not at all.
fn held_s(phases: &Phases, policy: &str) -> Option<f64> {
    let held_s = match policy {
        "strict" => phases.two_msl_s,
        "timestamp" | "timestamp-or-sequence" => phases.delay_s.min(phases.two_msl_s),
        _ => 0.0,
    };
    (held_s > 0.0).then_some(held_s)
}

/// The moments of a run as points, of a long run several together.
fn points(run: &Run, of: Figure) -> Vec<(f64, f64)> {
    let together = run.series.len().div_ceil(POINTS_MAX).max(1);
    let point = |moments: &[Moment]| {
        let sum: f64 = moments.iter().map(of).sum();
        (moments.last().map_or(0.0, |last| last.t), sum / moments.len() as f64)
    };
    run.series.chunks(together).map(point).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    if values.is_empty() { "-".into() } else { grouped(values.iter().sum::<f64>() / values.len() as f64) }
}

fn describe(report: &Report) -> String {
    let Some(phases) = &report.phases else {
        let predicted =
            report.prediction.expected.map_or("ports are no limit", |_| "the area behind is what the ports allow");
        return format!("The first round of each stack, warm-up and drain included; {predicted}.");
    };
    format!(
        "{} opens tried per second on {} 4-tuples; synfin keeps TIME-WAIT for {} s here, so that it fits on a page, Linux for its \
         fixed 60 s. The filled area is the prediction for synfin; the broken line that has the kernel's colour is the prediction \
         for the kernel. The thin line in a phase is the average that its policy allows. With the ports gone nothing opens until the first \
         TIME-WAIT is over; what is refused does not try again.",
        grouped(phases.rate),
        grouped(phases.tuples as f64),
        super::number::trimmed(phases.two_msl_s, 2)
    )
}

/// Rows of the table at most.
const ROWS_MAX: f64 = 120.0;
/// Points of a line at most: more than a screen shows.
const POINTS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_picture_has_every_part_or_is_not_there() {
        let section_of = |report: &Report| section(report).expect("there are moments");
        let full = section_of(&sample::full());
        for part in ["predicted-area", "line synfin", "line kernel", "TIME-WAIT entries", "free 4-tuples", "ceiling"] {
            assert!(full.contains(part), "{part}");
        }
        assert_eq!(full.matches("<svg").count(), 3, "one per width");
        assert_eq!(section(&sample::plain()), None);
    }

    #[test]
    fn a_long_run_is_thinned_to_means() {
        let moment =
            |index: u32| Moment { t: f64::from(index + 1), cps: f64::from(index % 2) * 10.0, ..Moment::default() };
        let run = Run { round: 1, series: (0..18_000).map(moment).collect(), ..Run::default() };
        let points = points(&run, |moment| moment.cps);
        assert!(points.len() <= POINTS_MAX && points.iter().all(|point| point.1 == 5.0));
        assert_eq!(points.last().map(|point| point.0), Some(18_000.0));
    }
}
