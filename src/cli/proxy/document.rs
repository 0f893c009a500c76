//! A TOML document read key by key: every problem is kept with its line, and reading goes on.

use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong in a document, in the order of its lines.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Problem {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong and what to do.
    pub(super) message: String,
}

impl<'t> Problems<'t> {
    /// Parses the text. What cannot be parsed is a problem; the rest is there.
    pub(super) fn parse(text: &'t str) -> (Spanned<DeTable<'t>>, Problems<'t>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut problems = Problems { text, found: Vec::new() };
        for error in errors {
            let span = error.span().unwrap_or_default();
            let message = match error.message() {
                // Of this one the parser leaves out which.
                "duplicate key" => {
                    format!("duplicate key {:?}: it may be there once", text.get(span.clone()).unwrap_or_default())
                }
                message => format!("no TOML: {}", message.replace('\n', ", ")),
            };
            problems.add(span.start, message);
        }
        (root, problems)
    }

    /// Notes a problem at the byte `at` of the text.
    pub(super) fn add(&mut self, at: usize, message: impl fmt::Display) {
        self.found.push(Problem { line: self.line(at), message: message.to_string() });
    }

    /// How many have been noted.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// The line of the byte `at`, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// All of them, by line.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}

/// One table of the document.
pub(super) struct Section<'d, 't> {
    /// What the table is called in messages.
    name: String,
    table: &'d DeTable<'t>,
    /// Where it begins, in bytes.
    pub(super) at: usize,
}

impl<'d, 't> Section<'d, 't> {
    /// The table, whose keys must be among `keys`.
    pub(super) fn new(
        name: &str,
        table: &'d DeTable<'t>,
        span: &Range<usize>,
        keys: &[&str],
        problems: &mut Problems<'_>,
    ) -> Section<'d, 't> {
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let (wrong, colon) = (key.get_ref(), if name.is_empty() { "" } else { ": " });
            let message = format!("{name}{colon}unknown key {wrong:?}: there are {}", keys.join(", "));
            problems.add(key.span().start, message);
        }
        Section { name: name.to_owned(), table, at: span.start }
    }

    /// Whether there is anything at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The table at `key`, if there is one.
    pub(super) fn section(&self, key: &str, keys: &[&str], problems: &mut Problems<'_>) -> Option<Section<'d, 't>> {
        let value = self.table.get(key)?;
        self.open(key, value, keys, problems)
    }

    /// The tables at `key`; `None` if there is something else alone, which is then told.
    pub(super) fn sections(
        &self,
        key: &str,
        keys: &[&str],
        problems: &mut Problems<'_>,
    ) -> Option<Vec<Section<'d, 't>>> {
        let Some(value) = self.table.get(key) else { return Some(Vec::new()) };
        let DeValue::Array(values) = value.get_ref() else {
            let (name, kind) = (format!("{}{key}", self.prefix()), kind_of(value.get_ref()));
            problems
                .add(value.span().start, format_args!("{name} must be a list of tables, as in [[{name}]], not {kind}"));
            return None;
        };
        let open: Vec<_> = values.iter().filter_map(|value| self.open(key, value, keys, problems)).collect();
        (values.is_empty() || !open.is_empty()).then_some(open)
    }

    fn open(
        &self,
        key: &str,
        value: &'d Spanned<DeValue<'t>>,
        keys: &[&str],
        problems: &mut Problems<'_>,
    ) -> Option<Section<'d, 't>> {
        let name = format!("{}{key}", self.prefix());
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(&name, table, &value.span(), keys, problems)),
            other => {
                let (keys, kind) = (keys.join(", "), kind_of(other));
                problems.add(value.span().start, format_args!("{name} must be a table of {keys}, not {kind}"));
                None
            }
        }
    }

    /// The setting at `key` and where it is; `None` if it is not there or wrong.
    pub(super) fn get<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<(T, usize)> {
        let value = self.table.get(key)?;
        self.read(key, value, problems, read)
    }

    /// As [`Section::get`], for a setting that must be there.
    pub(super) fn require<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<(T, usize)> {
        if !self.has(key) {
            problems.add(self.at, format_args!("{}{key} is missing", self.prefix()));
        }
        self.get(key, problems, read)
    }

    /// As [`Section::get`], for a setting that has a default.
    pub(super) fn get_or<T>(
        &self,
        key: &str,
        default: T,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        self.get(key, problems, read).map_or(default, |(value, _)| value)
    }

    /// The elements of the list at `key` and where each is; those that are wrong are left out.
    pub(super) fn list<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Vec<(T, usize)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let DeValue::Array(values) = value.get_ref() else {
            let kind = kind_of(value.get_ref());
            let message = format!("{}{key} must be a list, as in [\"...\"], not {kind}", self.prefix());
            problems.add(value.span().start, message);
            return Vec::new();
        };
        values.iter().filter_map(|value| self.read(key, value, problems, &read)).collect()
    }

    /// Each key with its value and where that is.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &DeValue<'t>, usize)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref(), value.span().start))
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<(T, usize)> {
        let at = value.span().start;
        match read(value.get_ref()) {
            Ok(read) => Some((read, at)),
            Err(message) => {
                problems.add(at, format_args!("{}{key}: {message}", self.prefix()));
                None
            }
        }
    }

    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}.", self.name) }
    }
}

/// A string that `parse` takes.
pub(super) fn text<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| match value {
        DeValue::String(text) => parse(text),
        other => Err(format!("must be a string in quotes, not {}", kind_of(other))),
    }
}

/// A whole number within bounds.
pub(super) fn number(range: std::ops::RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Result<u32, String> {
    move |value| {
        let wrong =
            |what: &str| format!("must be a whole number from {} to {}, not {what}", range.start(), range.end());
        let DeValue::Integer(number) = value else { return Err(wrong(kind_of(value))) };
        let read = u32::from_str_radix(number.as_str(), number.radix());
        read.ok().filter(|number| range.contains(number)).ok_or_else(|| wrong(number.as_str()))
    }
}

/// What a value is, for messages.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
