//! The documents that are made from the ledger.

use crate::sources::Sources;
use crate::{Row, State, behaviours, beside, musts, others, threats};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Compares both documents with the ledger, or writes them where SYNFIN_WRITE_DOCS says so.
pub(crate) fn compare(sources: &Sources) {
    for (file, written) in [("docs/rfc9293.md", rfc(sources)), ("docs/behaviours.md", behaviours_and_threats(sources))]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("SYNFIN_WRITE_DOCS").is_some() {
            fs::write(&path, &written).expect("docs can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        let differs = written.lines().zip(committed.lines()).find(|(ledger, document)| ledger != document);
        assert!(
            written == committed,
            "{file} is not what tests/ledger says; first difference (ledger, document): {differs:?}. Change the rows of \
             tests/ledger, never the document, then: SYNFIN_WRITE_DOCS=1 cargo test --test ledger",
        );
    }
}

fn rfc(sources: &Sources) -> String {
    let mut text = RFC_HEAD.to_owned();
    let of_rfc: Vec<&Row> = musts::ROWS.iter().chain(others::ROWS).collect();
    let count = |kind: &str, wanted: fn(&State) -> bool| {
        of_rfc.iter().filter(|row| row.id.starts_with(kind) && wanted(&row.state)).count()
    };
    text += "| | done | in part | declined | missing |\n| --- | --- | --- | --- | --- |\n";
    for kind in ["MUST", "SHLD", "MAY", "REC"] {
        let done = count(kind, |state| matches!(state, State::Done { .. }));
        let part = count(kind, |state| matches!(state, State::Part { .. }));
        let declined = count(kind, |state| matches!(state, State::Declined { .. }));
        let missing = count(kind, |state| matches!(state, State::Missing { .. }));
        writeln!(text, "| {kind} | {done} | {part} | {declined} | {missing} |").expect("a string");
    }
    table(&mut text, sources, "What MUST hold", "requirement", musts::ROWS);
    table(&mut text, sources, "What SHOULD hold, what MAY, and what is recommended", "requirement", others::ROWS);
    table(&mut text, sources, "RFCs beside it", "what", beside::RFCS);
    table(&mut text, sources, "RFC 2525: problems that must not come back", "problem", beside::PROBLEMS);
    text
}

fn behaviours_and_threats(sources: &Sources) -> String {
    let mut text = BEHAVIOURS_HEAD.to_owned();
    table(&mut text, sources, "What a connection does", "behaviour", behaviours::ROWS);
    table(&mut text, sources, "What hostile input does not achieve", "input", threats::ROWS);
    text
}

fn table(text: &mut String, sources: &Sources, title: &str, of_what: &str, rows: &[Row]) {
    write!(text, "\n## {title}\n\n| id | {of_what} | where | shown by |\n| --- | --- | --- | --- |\n")
        .expect("a string");
    for Row { id, meaning, state } in rows {
        let (place, shown) = match state {
            State::Done { place, tests } => (format!("`{place}`"), shown(sources, tests)),
            State::Part { place, tests, lacks } => {
                (format!("`{place}`"), format!("{}; **in part**: {lacks}", shown(sources, tests)))
            }
            State::Declined { reason } => ("-".into(), format!("**declined**: {reason}")),
            State::Missing { why } => ("-".into(), format!("**missing**: {why}")),
        };
        writeln!(text, "| {id} | {meaning} | {place} | {shown} |").expect("a string");
    }
}

/// Tests by file.
fn shown(sources: &Sources, tests: &[&str]) -> String {
    let mut files: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in tests {
        let file = sources.tests(name).first().map_or("?", |test| test.file.as_str());
        match files.iter_mut().find(|(known, _)| *known == file) {
            Some((_, names)) => names.push(name),
            None => files.push((file, vec![name])),
        }
    }
    let files: Vec<String> = files.iter().map(|(file, names)| format!("{file}: `{}`", names.join("`, `"))).collect();
    files.join("; ")
}

const RFC_HEAD: &str = "# RFC 9293 and the RFCs beside it, row by row

Made from `tests/ledger/` by `SYNFIN_WRITE_DOCS=1 cargo test --test ledger`; the same test fails when this file, a place or a test
is not what the ledger says. The ids are those of RFC 9293 Appendix B; what is declined has its reason.

";

const BEHAVIOURS_HEAD: &str = "# Behaviours and threats, and where each is shown

Made from `tests/ledger/` by `SYNFIN_WRITE_DOCS=1 cargo test --test ledger`. `src/...` holds tests in memory, `tests/...` tests over
AF_XDP in network namespaces, which need root. What each state does at each event stands in `docs/states.md`, the requirements of RFC 9293 in
`docs/rfc9293.md`.
";
