//! The tests of this package, found in its sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file that is compiled, and every test in them.
pub(crate) struct Sources {
    files: BTreeMap<String, String>,
    /// By name: more than one of a name is an offence where a row names it.
    tests: BTreeMap<String, Vec<Test>>,
}

/// A test that runs.
pub(crate) struct Test {
    /// Its file, from the package's root.
    pub(crate) file: String,
    name: String,
    /// The comment above it.
    comment: String,
}

impl Test {
    /// Whether the test's name or the comment above it names the row `id`.
    pub(crate) fn is_about(&self, id: &str) -> bool {
        let word: String =
            id.to_lowercase().chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect();
        holds_word(&self.name, &word) || holds_word(&self.comment, id)
    }
}

impl Sources {
    pub(crate) fn read() -> Sources {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut sources = Sources { files: BTreeMap::new(), tests: BTreeMap::new() };
        sources.follow(root, Path::new("src/lib.rs"));
        sources.follow(root, Path::new("bench/main.rs"));
        for entry in fs::read_dir(root.join("tests")).expect("tests are readable") {
            let path = entry.expect("tests are readable").path();
            let crate_root = if path.is_dir() { path.join("main.rs") } else { path };
            if crate_root.extension().is_some_and(|extension| extension == "rs") && crate_root.exists() {
                sources.follow(root, crate_root.strip_prefix(root).expect("lies below the root"));
            }
        }
        assert!(sources.files.len() > 60 && sources.tests.len() > 200, "the sources are not where they were expected");
        sources
    }

    /// Whether the file of `place`, "file::name" or "file", is compiled and defines the name.
    pub(crate) fn has_place(&self, place: &str) -> bool {
        let (file, name) = place.split_once("::").unwrap_or((place, ""));
        let Some(text) = self.files.get(file) else {
            return Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists() && name.is_empty();
        };
        let defines = |line: &str| {
            let words: Vec<&str> = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
            words.windows(2).any(|pair| ITEMS.contains(&pair[0]) && pair[1] == name)
        };
        let is_field_or_variant = |line: &str| {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', ',', ' ', '(']))
        };
        name.is_empty() || code_of(text).any(|line| defines(line) || is_field_or_variant(line))
    }

    /// The tests of that name that run, wherever they are.
    pub(crate) fn tests(&self, name: &str) -> &[Test] {
        self.tests.get(name).map_or(&[], Vec::as_slice)
    }

    /// Takes a file and the files of the modules that it declares.
    fn follow(&mut self, root: &Path, file: &Path) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.to_string_lossy().into_owned();
        if self.files.contains_key(&name) {
            return;
        }
        self.take_tests(&name, &text);
        let mut named = None;
        for line in code_of(&text).map(str::trim_start) {
            if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next()) {
                named = Some(file.parent().expect("a file has a directory").join(path));
                continue;
            }
            let declared = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let module = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            let child = module.and_then(|module| named.take().or_else(|| file_of_module(root, file, module)));
            if let Some(child) = child {
                self.follow(root, &child);
            }
        }
        self.files.insert(name, text);
    }

    /// Takes the tests of a file's text.
    pub(crate) fn take_tests(&mut self, file: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim_start();
            let is_test = line == "#[test]";
            let trial = line.strip_prefix("privileged_trial(\"").and_then(|rest| rest.split('"').next());
            let name = match trial {
                Some(name) => Some(name),
                None if is_test => lines[at + 1..].iter().take(4).find_map(|line| name_of_function(line)),
                None => None,
            };
            let ignored = is_test && lines[at + 1].contains("#[ignore");
            if let Some(name) = name.filter(|_| !ignored) {
                let comment = comment_above(&lines[..at]);
                let test = Test { file: file.into(), name: name.into(), comment };
                self.tests.entry(name.into()).or_default().push(test);
            }
        }
    }
}

fn name_of_function(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next())
}

/// The lines of a text that are no comments.
fn code_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn comment_above(lines: &[&str]) -> String {
    let comment: Vec<&str> =
        lines.iter().rev().map(|line| line.trim_start()).take_while(|line| line.starts_with("//")).collect();
    comment.join(" ")
}

/// Where the module that `file` declares lies.
fn file_of_module(root: &Path, file: &Path, module: &str) -> Option<PathBuf> {
    let parent = file.parent().expect("a file has a directory");
    let stem = file.file_stem().expect("a file has a name");
    let own = if stem == "mod" || stem == "lib" || stem == "main" || parent == Path::new("tests") {
        parent.to_owned()
    } else {
        parent.join(stem)
    };
    [own.join(format!("{module}.rs")), own.join(module).join("mod.rs")]
        .into_iter()
        .find(|path| root.join(path).exists())
}

/// Whether `text` holds `word` with no letter or digit on either side: MUST-6 is not in MUST-66.
fn holds_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + word.len()..];
        let mut letters = after.chars();
        let goes_on = match letters.next() {
            Some('.') => letters.next().is_some_and(|letter| letter.is_ascii_digit()),
            Some(letter) => letter.is_alphanumeric(),
            None => false,
        };
        !before.is_some_and(char::is_alphanumeric) && !goes_on
    })
}

/// What a place may name.
const ITEMS: [&str; 8] = ["fn", "const", "struct", "enum", "type", "trait", "static", "mod"];
