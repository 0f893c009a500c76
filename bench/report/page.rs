//! The page: one file that needs nothing else, from the verdict down to the raw result.

use super::claims::Standing;
use super::escape::{html, script};
use super::number::{bytes, grouped, latency_us, rate, trimmed};
use super::pictures::{self, Dots, Percentile};
use super::table::Table;
use super::{over_time, risk_section};
use crate::cps::report::{Report, StackReport};
use crate::cps::result::LimitedBy;
use std::fmt::Write;

/// The whole page. `raw` is the result as it was read or will be written: it goes into the page as it is.
pub(crate) fn page(report: &Report, raw: &str) -> String {
    let standing = Standing::of(report);
    let mut body = String::new();
    verdict(&mut body, report, &standing);
    if standing == Standing::Valid {
        tiles(&mut body, report);
    }
    section(&mut body, "Side by side", &side_by_side(report));
    let over_time = over_time::section(report)
        .unwrap_or_else(|| missing("Nothing was recorded over time; --phases switches the policy in a running stack."));
    let heading = if report.phases.is_some() { "The collapse and the recovery" } else { "Over time" };
    section(&mut body, heading, &over_time);
    section(&mut body, "Connect latency", &latency(report));
    section(&mut body, "Gain and risk of TIME-WAIT reuse", &risk_section::of_run(report));
    section(&mut body, "Memory of TIME-WAIT", &memory(report));
    section(&mut body, "The highest clean rate", &rate_search(report));
    section(&mut body, "Machine and options", &machine(report));
    section(&mut body, "Counters", &counters(report));
    document("synfin: connections per second", &body, raw)
}

/// A page around `body`, with the result inside.
pub(super) fn document(title: &str, body: &str, raw: &str) -> String {
    format!(
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
            "<meta name=\"color-scheme\" content=\"light dark\">\n{policy}\n",
            "<link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{style}</style>\n</head>\n",
            "<body>\n<main>\n<h1>{title}</h1>\n{body}",
            "<section><h2>Raw result</h2>\n<p class=\"muted\">The JSON of this run is in the page, in the element with the id ",
            "<code>result</code>.</p></section>\n</main>\n<script type=\"application/json\" id=\"result\">{raw}</script>\n",
            "</body>\n</html>\n"
        ),
        policy = CONTENT_POLICY,
        title = html(title),
        style = include_str!("style.css"),
        body = body,
        raw = script(raw.trim())
    )
}

/// A part of the page; none without content.
pub(super) fn section(body: &mut String, heading: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(body, "<section><h2>{}</h2>\n{content}</section>\n", html(heading));
    }
}

/// The line that stands first: the word, and the reason for it.
pub(super) fn banner(body: &mut String, class: &str, word: &str, text: &str) {
    let _ = writeln!(body, "<p class=\"verdict {class}\"><strong>{}</strong> {}</p>", html(word), html(text));
}

fn missing(text: &str) -> String {
    format!("<p class=\"muted\">{}</p>\n", html(text))
}

fn verdict(body: &mut String, report: &Report, standing: &Standing) {
    let class = match standing {
        Standing::Valid => "valid",
        Standing::NoHeadline(_) => "doubtful",
        Standing::Invalid(_) => "invalid",
    };
    let limited =
        report.verdict.as_ref().map(|verdict| format!("limited by {}: {}", word(verdict.limited_by), verdict.text));
    let text = match standing {
        Standing::Valid if report.is_without_time_wait() => {
            format!("WITHOUT TIME-WAIT; {}", limited.unwrap_or_else(|| "no errors, the mode as asked for".into()))
        }
        Standing::Valid => limited.unwrap_or_else(|| "no errors, every TIME-WAIT kept, the mode as asked for".into()),
        _ => standing.reasons().join("; "),
    };
    banner(body, class, standing.word(), &text);
    if !report.prediction.text.is_empty() {
        let _ = writeln!(body, "<p class=\"muted\">Predicted before the run: {}</p>", html(&report.prediction.text));
    }
}

/// The word for it in the result.
fn word(limited_by: LimitedBy) -> String {
    serde_json::to_value(limited_by).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The figures that the run is known by.
fn tiles(body: &mut String, report: &Report) {
    let Some(synfin) = &report.stacks.synfin else { return };
    let without = report.is_without_time_wait();
    let kept = if without { "WITHOUT TIME-WAIT" } else { "TIME-WAIT kept" };
    let mut tiles = vec![(rate(synfin.connections_per_second), format!("connections per second, {kept}"))];
    if let Some(ratio) = report.ratio_to_kernel() {
        let kernel = report.stacks.kernel.as_ref().map_or(0.0, |kernel| kernel.connections_per_second);
        tiles.push((
            format!("{} x", trimmed(ratio, 2)),
            format!("the kernel's TCP on the same wire ({})", rate(kernel)),
        ));
    }
    if let Some(ratio) = report.ratios.synfin_to_limit {
        tiles.push((trimmed(ratio, 2), "of the limit, a raw AF_XDP echo".to_owned()));
    }
    tiles.push((latency_us(synfin.connect_latency_us.p99), "to connect, 99 % of connections".to_owned()));
    body.push_str("<div class=\"tiles\">\n");
    for (figure, what) in tiles {
        let _ = writeln!(body, "<div><b>{}</b><span>{}</span></div>", html(&figure), html(&what));
    }
    body.push_str("</div>\n");
}

/// Every stack and policy that was run, with its name and the colour's.
fn stacks(report: &Report) -> Vec<(String, &'static str, &StackReport)> {
    let mut found = Vec::new();
    if let Some(synfin) = &report.stacks.synfin {
        let several = report.policies.first().filter(|_| report.policies.len() > 1);
        let name = several.map_or("synfin".into(), |first| format!("synfin, {}", first.policy));
        found.push((name, "synfin", synfin));
    }
    let others = report.policies.iter().skip(usize::from(report.stacks.synfin.is_some()));
    found.extend(others.map(|policy| (format!("synfin, {}", policy.policy), "synfin", &policy.stack)));
    let reuse = report.kernel_reuse.is_some();
    if let Some(kernel) = &report.stacks.kernel {
        found.push((if reuse { "kernel, tw_reuse 0".into() } else { "kernel".into() }, "kernel", kernel));
    }
    found.extend(report.kernel_reuse.iter().map(|kernel| ("kernel, tw_reuse 1".into(), "kernel", kernel)));
    found
}

fn side_by_side(report: &Report) -> String {
    let mut table = Table::new(&[
        "",
        "connections/s",
        "min..max",
        "p50",
        "p99",
        "p99.9",
        "max",
        "segments",
        "errors",
        "TIME-WAIT made",
        "ended early",
    ]);
    let mut dots = Vec::new();
    for (name, class, stack) in stacks(report) {
        let (spread, latency) = (stack.connections_per_second_spread, stack.connect_latency_us);
        let kept = !stack.time_wait_overflowed();
        table.row(vec![
            name.clone(),
            grouped(stack.connections_per_second),
            format!("{}..{}", grouped(spread.min), grouped(spread.max)),
            latency_us(latency.p50),
            latency_us(latency.p99),
            latency_us(latency.p999),
            if latency.max > 0.0 { latency_us(latency.max) } else { "-".into() },
            trimmed(stack.segments_per_connection, 2),
            grouped(stack.errors as f64),
            if kept { grouped(stack.time_wait_created as f64) } else { "not kept".into() },
            grouped(stack.time_wait_evicted as f64),
        ]);
        let (values, median) = (stack.connections_per_second_rounds.clone(), stack.connections_per_second);
        dots.push(Dots { name, class: class.into(), values, median });
    }
    if let Some((limit, connections)) =
        report.limit.as_ref().and_then(|limit| Some((limit, limit.connections_per_second?)))
    {
        let spread = limit.frames_per_second_spread;
        let each = connections / limit.frames_per_second.max(f64::MIN_POSITIVE);
        let mut row = vec![
            "limit".into(),
            grouped(connections),
            format!("{}..{}", grouped(spread.min * each), grouped(spread.max * each)),
        ];
        row.resize(11, "-".into());
        table.row(row);
        dots.push(Dots { name: "limit".into(), class: "limit".into(), values: Vec::new(), median: connections });
    }
    if table.is_empty() {
        return missing("Neither stack was run.");
    }
    let flags = &report.flags;
    let words = format!(
        "{} closes first, {} connections in flight, {} rounds of {} s, {}. Bars are medians, dots are rounds. The limit is what raw AF_XDP \
         frames reach on the same wire, divided by the segments of a connection.",
        flags.closer,
        grouped(f64::from(flags.conns)),
        flags.rounds,
        trimmed(flags.duration_s, 2),
        report.mode.as_deref().unwrap_or("no XDP")
    );
    let picture = pictures::rounds(&dots, &words);
    format!("<figure>{picture}<figcaption>{}</figcaption></figure>\n{}", html(&words), table.html())
}

fn latency(report: &Report) -> String {
    type Value = fn(&StackReport) -> f64;
    let names: [(&str, Value); 4] = [
        ("p50", |stack| stack.connect_latency_us.p50),
        ("p99", |stack| stack.connect_latency_us.p99),
        ("p99.9", |stack| stack.connect_latency_us.p999),
        ("max", |stack| stack.connect_latency_us.max),
    ];
    let of = |class: &str, stack: &Option<StackReport>| stack.as_ref().map(|stack| (class.to_owned(), stack.clone()));
    let both: Vec<_> =
        [of("synfin", &report.stacks.synfin), of("kernel", &report.stacks.kernel)].into_iter().flatten().collect();
    let mut rows = Vec::new();
    for (name, value) in names {
        for (class, stack) in &both {
            if value(stack) > 0.0 {
                rows.push(Percentile { name, stack: class.clone(), class: class.clone(), us: value(stack) });
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let words = "From the call that opens, or in an open loop from the moment that was scheduled, to the moment when the application is told; \
                 medians over the rounds of each percentile, and the largest of all. The table above has the same figures.";
    format!("<figure>{}<figcaption>{}</figcaption></figure>\n", pictures::latencies(&rows, words), html(words))
}

fn memory(report: &Report) -> String {
    let memory = &report.memory;
    let mut table = Table::new(&["", "value"]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row(vec![name.to_owned(), value]);
        }
    };
    row("synfin, per TIME-WAIT entry", memory.synfin_bytes_per_time_wait.map(bytes));
    row("kernel, per TIME-WAIT entry (slab object)", memory.kernel_bytes_per_time_wait.map(bytes));
    if let (Some(synfin), Some(kernel)) = (memory.synfin_bytes_per_time_wait, memory.kernel_bytes_per_time_wait) {
        row("kernel / synfin", (synfin > 0.0).then(|| format!("{} x", trimmed(kernel / synfin, 1))));
    }
    row("synfin, resident memory at most", memory.synfin_rss_max.map(|rss| bytes(rss as f64)));
    if let Some(resident) = &report.resident {
        row("TIME-WAIT entries there before the run", Some(grouped(resident.entries as f64)));
        row("connections/s with them", Some(grouped(resident.connections_per_second)));
        row("connections/s with an empty table", Some(grouped(resident.connections_per_second_empty)));
        row("errors with them", Some(grouped(resident.errors as f64)));
        row("TIME-WAIT entries evicted with them", Some(grouped(resident.time_wait_evicted as f64)));
    }
    if table.is_empty() { String::new() } else { table.html() }
}

fn rate_search(report: &Report) -> String {
    let mut table = Table::new(&["tried/s", "completed/s", "p99", "errors", "clean"]);
    for step in &report.rate_search {
        let clean = if step.clean { "yes" } else { "no" };
        table.row(vec![
            grouped(step.rate),
            grouped(step.achieved),
            latency_us(step.p99_us),
            grouped(step.errors as f64),
            clean.into(),
        ]);
    }
    if table.is_empty() { String::new() } else { table.html() }
}

fn machine(report: &Report) -> String {
    let mut text = String::new();
    if !report.command.is_empty() {
        let _ =
            writeln!(text, "<p>To repeat it:</p>\n<pre tabindex=\"0\"><code>{}</code></pre>", html(&report.command));
    }
    let mut table = Table::pairs();
    let mode = format!("{} (asked for: {})", report.mode.as_deref().unwrap_or("none"), report.flags.mode);
    table.row(vec!["XDP mode obtained".into(), mode]);
    table.row(vec!["seed".into(), report.seed.to_string()]);
    let parts = [
        ("machine", serde_json::to_value(&report.machine)),
        ("interface", serde_json::to_value(&report.interfaces)),
        ("flag", serde_json::to_value(&report.flags)),
    ];
    for (name, value) in parts {
        leaves(name, &value.unwrap_or_default(), &mut |name, value| table.row(vec![name.to_owned(), value]));
    }
    text.push_str(&table.html());
    text
}

/// Every value below `value`, with the path to it.
fn leaves(path: &str, value: &serde_json::Value, tell: &mut impl FnMut(&str, String)) {
    use serde_json::Value;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(&format!("{path} {name}"), value, tell)),
        Value::Array(values) if values.iter().any(|value| value.is_object()) => {
            values.iter().enumerate().for_each(|(index, value)| leaves(&format!("{path} {}", index + 1), value, tell));
        }
        Value::Array(values) => tell(path, values.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => tell(path, plain(other)),
    }
}

fn counters(report: &Report) -> String {
    let mut text = String::new();
    for (name, _, stack) in stacks(report) {
        let mut table = Table::new(&["counter", "count"]);
        for (counter, count) in stack.errors_by_kind.iter().map(|(kind, count)| (format!("error: {kind}"), count)) {
            table.row(vec![counter, grouped(*count as f64)]);
        }
        for (counter, count) in &stack.counters {
            table.row(vec![counter.clone(), grouped(*count as f64)]);
        }
        if !table.is_empty() {
            let _ = writeln!(
                text,
                "<details><summary>{}, both ends, all rounds</summary>\n{}</details>",
                html(&name),
                table.html()
            );
        }
    }
    text
}

/// Nothing is fetched and nothing is run, whatever the page holds.
const CONTENT_POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
     img-src data:; base-uri 'none'; form-action 'none'\">";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn page_without_headline_has_no_tiles_and_says_why() {
        let mut report = sample::full();
        let raw = sample::FULL;
        assert!(page(&report, raw).contains("class=\"tiles\""));
        report.verdict.as_mut().expect("the sample has one").untrue.push("3 frames were <dropped>".into());
        let text = page(&report, raw);
        assert!(!text.contains("class=\"tiles\""));
        assert!(text.contains("NO HEADLINE</strong> 3 frames were &lt;dropped&gt;"));
    }

    #[test]
    fn a_headline_without_time_wait_says_so_and_is_not_compared_with_the_kernels() {
        let mut report = sample::full();
        let text = |report: &Report| page(report, "{}");
        assert!(text(&report).contains("connections per second, TIME-WAIT kept"));
        assert!(text(&report).contains("<span>the kernel"));
        for policy in ["none", "rst-close"] {
            report.flags.tw = vec![policy.into(), "strict".into()];
            let text = text(&report);
            assert!(text.contains("connections per second, WITHOUT TIME-WAIT") && !text.contains("TIME-WAIT kept"));
            assert!(text.contains("VALID</strong> WITHOUT TIME-WAIT") && !text.contains("<span>the kernel"));
        }
    }

    #[test]
    fn page_needs_nothing_from_elsewhere_and_escapes_what_is_foreign() {
        let mut report = sample::full();
        report.machine.cpu = "</script><script>alert(1)</script>".into();
        report.command = "bench/cps.sh --json '<img src=x>'".into();
        let raw = serde_json::to_string(&report).expect("serializes");
        let text = page(&report, &raw);
        assert!(!text.contains("alert(1)</script>") && !text.contains("<img"));
        assert_eq!(text.matches("<script").count(), 1, "the result only");
        for reference in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(
                !text.contains(reference) || text.matches(reference).count() == raw.matches(reference).count() + 1,
                "{reference}"
            );
        }
        let (_, inside) = text.split_once("id=\"result\">").expect("the result is in the page");
        let (inside, _) = inside.split_once("</script>").expect("it ends");
        let back: Report = serde_json::from_str(inside).expect("still the result");
        assert_eq!(back, report);
    }

    #[test]
    fn every_option_and_counter_is_on_the_page() {
        let report = sample::full();
        let text = page(&report, sample::FULL);
        for name in
            ["flag closer", "flag tuples sources", "machine mitigations", "interface 1 offloads", "XDP mode obtained"]
        {
            assert!(text.contains(name), "{name}");
        }
        let synfin = report.stacks.synfin.as_ref().expect("synfin was run");
        for counter in synfin.counters.keys() {
            assert!(text.contains(counter), "{counter}");
        }
    }
}
