//! What `cargo test --all-features` said of the tests that the ledger names: compiled is not yet run.

use std::collections::BTreeSet;

/// Those of `names` that did not run by `output`, the standard output of a run that succeeded as a whole, with what is known of each.
pub(crate) fn not_run<'a>(names: impl IntoIterator<Item = &'a str>, output: &str) -> Vec<String> {
    let (mut ran, mut ignored) = (BTreeSet::new(), BTreeSet::new());
    for (name, result) in output.lines().filter_map(announced) {
        let outcome = if result.starts_with("ignored") { &mut ignored } else { &mut ran };
        outcome.insert(name);
    }
    let names: BTreeSet<&str> = names.into_iter().collect();
    let missing = names.into_iter().filter(|name| !ran.contains(name));
    missing.map(|name| format!("{name}: {}", if ignored.contains(name) { "ignored" } else { "not there" })).collect()
}

/// The name of the test that a line announces, without its modules, and what follows. That is `ok`, or what the test itself
/// printed before its `ok`: one that failed would have failed the run.
fn announced(line: &str) -> Option<(&str, &str)> {
    let (path, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let path = path.split_whitespace().next()?;
    Some((path.rsplit("::").next()?, result))
}

/// The check notices what it exists to notice.
pub(crate) fn planted_runs_are_found() {
    let output = "
running 3 tests
test tcp::tests::b01_opens ... ok
test tcp::tests::b02_panics - should panic ... ok
test tcp::tests::b03_waits ... ignored, for root

test      b04_padded           ... ok
test b05_prints ... WARNING: 3 frames
ok
test b06_prints_nothing_and_is_ignored ... ignored
test src/api.rs - api (line 7) ... ok
  test b07_is_quoted ... ok
test result: ok. 5 passed; 0 failed; 2 ignored
";
    let ran = ["b01_opens", "b02_panics", "b04_padded", "b05_prints"];
    assert_eq!(not_run(ran, output), [""; 0]);
    let missing = ["b0", "b03_waits", "b06_prints_nothing_and_is_ignored", "b07_is_quoted", "result"];
    let known = ["not there", "ignored", "ignored", "not there", "not there"];
    let expected: Vec<String> = missing.iter().zip(known).map(|(name, known)| format!("{name}: {known}")).collect();
    assert_eq!(not_run(missing.into_iter().chain(ran), output), expected);
    assert_eq!(not_run(ran, "").len(), ran.len());
}
