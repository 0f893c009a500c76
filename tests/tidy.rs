//! House rules that a compiler does not know: imports point down, files stay short.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn imports_point_down_and_siblings_never_meet() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        wrong.extend(offences(&module_of(&path), without_tests(&text)).into_iter().map(|to| format!("{path}: {to}")));
    }
    assert!(wrong.is_empty(), "imports upward or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_at_most_600_lines_without_tests() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, without_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn spine_stays_within_250_lines() {
    let (_, text) = sources().into_iter().find(|(path, _)| path == "shard/turn.rs").expect("shard/turn.rs exists");
    let lines = without_tests(&text).lines().count();
    assert!(lines <= 250, "shard/turn.rs has {lines} lines");
}

#[test]
fn planted_offences_are_found() {
    for (from, line) in [
        ("tcp", "use crate::flow::slab::Slab;"),
        ("wire", "use crate::link::Link;"),
        ("link", "use crate::wire::tcp::Header;"),
        ("seq", "use crate::wire::ethernet::MacAddress;"),
        ("shard", "use crate::stack::run;"),
        ("api", "use crate::shard::Shard;"),
        ("stack", "use crate::cli::main;"),
        ("observe", "    let x = crate::cli::arguments::parse();"),
        ("timer", "use crate::{tick::Tick, tcp::state::State};"),
    ] {
        assert_eq!(offences(from, line).len(), 1, "{from}: {line}");
    }
    for (from, line) in [
        ("tcp", "use crate::tick::Tick;"),
        ("link", "use crate::wire::ethernet::MacAddress;"),
        ("api", "use crate::shard::Calls;"),
        ("shard", "use crate::api::{Application, Event};"),
        ("cli", "use crate::stack::{Stack, StackConfig};"),
        ("tcp", "// use crate::shard::Shard;"),
    ] {
        assert!(offences(from, line).is_empty(), "{from}: {line}");
    }
}

/// The modules that `text`, code of module `from`, names and must not.
fn offences(from: &str, text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let paths: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group[..group.find(';').unwrap_or(group.len())].split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for path in paths {
            let to = path.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
            if !may_use(from, to, path) {
                found.push(format!("{from} names {to}"));
            }
        }
    }
    found
}

fn may_use(from: &str, to: &str, path: &str) -> bool {
    if from == to {
        return true;
    }
    match (floor(from), floor(to)) {
        // Macros and names within a group are no modules.
        (_, None) | (None, _) => true,
        _ if from == "link" && to == "wire" => path.starts_with("wire::ethernet"),
        _ if from == "shard" && to == "api" => true,
        _ if from == "api" && to == "shard" => path.starts_with("shard::Calls"),
        // What runs shards and what shows them are joined by the types of reports.
        _ if from == "observe" && to == "stack" => true,
        // What the machine has of memory: the rest of floor 4 stands on it.
        _ if from == "stack" && to == "memory" => true,
        (Some(0), Some(0)) => true,
        (Some(mine), Some(theirs)) => theirs < mine,
    }
}

fn floor(module: &str) -> Option<u8> {
    Some(match module {
        "limits" | "seq" | "tick" | "four_tuple" | "ids" | "counters" | "prefetch" | "bits" | "keyed_hash"
        | "toeplitz" | "owner" | "touched" => 0,
        "wire" | "link" => 1,
        "tcp" | "flow" | "timer" | "neighbor" => 2,
        "api" | "shard" => 3,
        "stack" | "observe" | "memory" => 4,
        "cli" | "tokio" => 5,
        _ => return None,
    })
}

/// The text before the file's own test module; files of tests have none left.
fn without_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..end]
}

fn module_of(path: &str) -> String {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned()
}

/// Every source file with its path below src; files that hold only tests left out.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    assert!(found.len() > 20, "the sources are not where they were expected");
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("lies below src").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("sources are readable"))
        })
        .filter(|(name, _)| !name.split('/').any(|part| part.trim_end_matches(".rs").ends_with("tests")))
        .collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines of a file without its tests.
const LINES_MAX: usize = 600;
