//! The ledger: every requirement of RFC 9293 and of the RFCs beside it, every behaviour and every threat, with the place where
//! it is done and the tests that show it, or the reason why it is declined.
//!
//! `docs/rfc9293.md` and `docs/behaviours.md` are made from it: `SYNFIN_WRITE_DOCS=1 cargo test --test ledger`.
//!
//! A row that names a test that is not there, or is not compiled in, ignored, or says nothing of the row, fails; so does one
//! whose test shares its name with another, a place that is not there, a row that is missing, and a document that says something
//! else. Tests are looked up in the sources, along the `mod` lines from each crate's root. That they are compiled and run, some
//! with features or as root only, the output of `cargo test --all-features` shows, of which the file that `SYNFIN_TEST_OUTPUT`
//! names is a copy; `scripts/test.sh` makes it. Without it that one check is listed as ignored.

mod behaviours;
mod beside;
mod documents;
mod musts;
mod others;
mod runs;
mod sources;
mod threats;

use libtest_mimic::{Arguments, Failed, Trial};
use sources::Sources;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::{env, fs};

/// One requirement, behaviour or threat.
struct Row {
    /// Its id, as tests and documents name it.
    id: &'static str,
    /// What it asks, in a few words of our own.
    meaning: &'static str,
    /// What became of it.
    state: State,
}

impl Row {
    /// The tests that show it.
    fn tests(&self) -> &'static [&'static str] {
        match self.state {
            State::Done { tests, .. } | State::Part { tests, .. } => tests,
            State::Declined { .. } | State::Missing { .. } => &[],
        }
    }
}

/// What became of a row.
enum State {
    /// Done, at `place` ("file::name" or "file"), shown by `tests`.
    Done { place: &'static str, tests: &'static [&'static str] },
    /// As `Done`, but for what `lacks` says.
    Part { place: &'static str, tests: &'static [&'static str], lacks: &'static str },
    /// Not done, and not meant to be, for this reason.
    Declined { reason: &'static str },
    /// Not done, and not declined either.
    Missing { why: &'static str },
}

const fn done(id: &'static str, meaning: &'static str, place: &'static str, tests: &'static [&'static str]) -> Row {
    Row { id, meaning, state: State::Done { place, tests } }
}

const fn part(
    id: &'static str,
    meaning: &'static str,
    place: &'static str,
    tests: &'static [&'static str],
    lacks: &'static str,
) -> Row {
    Row { id, meaning, state: State::Part { place, tests, lacks } }
}

const fn declined(id: &'static str, meaning: &'static str, reason: &'static str) -> Row {
    Row { id, meaning, state: State::Declined { reason } }
}

const fn missing(id: &'static str, meaning: &'static str, why: &'static str) -> Row {
    Row { id, meaning, state: State::Missing { why } }
}

fn main() {
    let output = env::var_os("SYNFIN_TEST_OUTPUT");
    let given = output.is_some();
    let trials = vec![
        trial(
            "every_row_has_a_place_and_a_test_that_names_it_or_a_reason",
            every_row_has_a_place_and_a_test_or_a_reason,
        ),
        trial("every_id_has_exactly_one_row", every_id_has_exactly_one_row),
        trial("documents_say_what_the_ledger_says", || documents::compare(&Sources::read())),
        trial("planted_offences_are_found", planted_offences_are_found),
        trial("planted_runs_are_found", runs::planted_runs_are_found),
        trial("every_named_test_has_run", || every_named_test_has_run(output)).with_ignored_flag(!given),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let body = move || -> Result<(), Failed> {
        body();
        Ok(())
    };
    Trial::test(name, body)
}

fn all_rows() -> impl Iterator<Item = &'static Row> {
    [musts::ROWS, others::ROWS, beside::RFCS, beside::PROBLEMS, behaviours::ROWS, threats::ROWS].into_iter().flatten()
}

fn every_row_has_a_place_and_a_test_or_a_reason() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for row in all_rows() {
        wrong.extend(offences(&sources, row).into_iter().map(|offence| format!("{}: {offence}", row.id)));
    }
    assert!(wrong.is_empty(), "{} of the ledger's rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The ids of RFC 9293 Appendix B, of the behaviours and of the threats: each has one row, and no row has another.
fn every_id_has_exactly_one_row() {
    let numbered = |kind: &str, last: u32| (1..=last).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
    let rfc = [numbered("MUST", 69), numbered("SHLD", 31), numbered("MAY", 18), numbered("REC", 1)].concat();
    let of_rfc: Vec<&str> = musts::ROWS.iter().chain(others::ROWS).map(|row| row.id).collect();
    assert_eq!(of_rfc, rfc);
    let spans = [1..=14, 20..=25, 30..=38, 40..=48];
    let behaviours: Vec<String> = spans.into_iter().flatten().map(|number| format!("B{number:02}")).collect();
    assert_eq!(behaviours::ROWS.iter().map(|row| row.id).collect::<Vec<_>>(), behaviours);
    let threats: Vec<String> = (1..=34).map(|number| format!("T{number:02}")).collect();
    assert_eq!(threats::ROWS.iter().map(|row| row.id).collect::<Vec<_>>(), threats);
    let problems: Vec<String> = (1..=18).map(|number| format!("RFC 2525 2.{number}")).collect();
    assert_eq!(beside::PROBLEMS.iter().map(|row| row.id).collect::<Vec<_>>(), problems);
    let ids: BTreeSet<&str> = all_rows().map(|row| row.id).collect();
    assert_eq!(ids.len(), all_rows().count(), "an id has two rows");
}

fn every_named_test_has_run(output: Option<OsString>) {
    let output = output.expect("SYNFIN_TEST_OUTPUT names a file with what cargo test --all-features printed");
    let said = fs::read_to_string(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    let not_run = runs::not_run(all_rows().flat_map(Row::tests).copied(), &said);
    assert!(
        not_run.is_empty(),
        "{} tests that the ledger names did not run (those ignored want root):\n{}",
        not_run.len(),
        not_run.join("\n"),
    );
}

/// The ledger notices what it exists to notice.
fn planted_offences_are_found() {
    let mut sources = Sources::read();
    let place = "src/tcp/synchronized.rs::arrives";
    const TESTS: &[&str] = &["must_66_closed_window_still_takes_ack_and_reset"];
    let offends = |row: Row| !offences(&sources, &row).is_empty();
    assert!(!offends(done("MUST-66", "as it stands", place, TESTS)));
    assert!(offends(done("MUST-66", "no tests", place, &[])));
    assert!(offends(done("MUST-66", "no such test", place, &["must_66_of_nobody"])));
    assert!(offends(done("MUST-66", "a function that is no test", place, &["in_state"])));
    assert!(offends(done("MUST-6", "a test of another row", place, TESTS)));
    assert!(offends(done("MUST-66", "no such function", "src/tcp/synchronized.rs::departs", TESTS)));
    assert!(offends(done("MUST-66", "no such file", "src/tcp/departures.rs", TESTS)));
    assert!(offends(part("MUST-66", "nothing said to lack", place, TESTS, "")));
    assert!(offends(declined("MUST-66", "no reason", "")));
    assert!(offends(missing("MUST-66", "no reason", "")));
    sources.take_tests("src/elsewhere.rs", &format!("#[test]\nfn {}() {{}}", TESTS[0]));
    let twice = offences(&sources, &done("MUST-66", "two tests of one name", place, TESTS));
    assert!(matches!(&twice[..], [one] if one.contains("src/elsewhere.rs")), "{twice:?}");
}

/// What is wrong with a row.
fn offences(sources: &Sources, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    match row.state {
        State::Done { place, tests } => check_done(sources, row.id, place, tests, &mut wrong),
        State::Part { place, tests, lacks } => {
            check_done(sources, row.id, place, tests, &mut wrong);
            if lacks.is_empty() {
                wrong.push("does not say what is lacking".into());
            }
        }
        State::Declined { reason: "" } | State::Missing { why: "" } => wrong.push("has no reason".into()),
        State::Declined { .. } | State::Missing { .. } => {}
    }
    wrong
}

fn check_done(sources: &Sources, id: &str, place: &str, tests: &[&str], wrong: &mut Vec<String>) {
    if !sources.has_place(place) {
        wrong.push(format!("{place} is not there"));
    }
    if tests.is_empty() {
        wrong.push("names no test".into());
    }
    for name in tests {
        match sources.tests(name) {
            [] => wrong.push(format!("{name} is no test that runs")),
            [test] if !test.is_about(id) => {
                wrong.push(format!("{name} ({}) names {id} neither in its name nor above it", test.file));
            }
            [_] => {}
            // One could be taken for another, here and in what a run has printed.
            several => {
                let files: Vec<&str> = several.iter().map(|test| test.file.as_str()).collect();
                wrong.push(format!("{name} is the name of {} tests, in {}", files.len(), files.join(" and ")));
            }
        }
    }
}
