//! The keys of `[stack]`: options of the command line, and what is said of these in the words of the file.

use super::document::{Problems, Section, kind_of};
use crate::cli::arguments::Common;
use crate::stack::check_idle;
use clap::error::ErrorKind;
use clap::{Arg, CommandFactory, Parser};
use toml::de::{DeInteger, DeValue};

/// The options of the stack alone, by the names that they have on the command line.
#[derive(Parser)]
struct StackOptions {
    #[command(flatten)]
    common: Common,
}

/// `text` with the keys of the file for the options of the command line that it names.
pub(super) fn in_keys(text: &str) -> String {
    let command = StackOptions::command();
    let options: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    let mut parts = text.split("--");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        // Names of files may hold anything.
        let begins_a_word = !told.ends_with(|letter: char| letter.is_alphanumeric() || "_-./".contains(letter));
        match begins_a_word && options.contains(&name) {
            true => told.push_str(&key_of(name)),
            false => told.extend(["--", name]),
        }
        told.push_str(rest);
    }
    told
}

/// Every key of `[stack]` is an option of `synfin serve`, which reads its value.
pub(super) fn read_stack(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Common> {
    let command = StackOptions::command();
    let is_key = |option: &&Arg| option.get_long().is_some_and(|name| name != "help" && name != "version");
    let options: Vec<(String, &Arg)> = command
        .get_arguments()
        .filter(is_key)
        .filter_map(|option| Some((option.get_long()?.replace('-', "_"), option)))
        .collect();
    let keys: Vec<&str> = options.iter().map(|(name, _)| name.as_str()).collect();
    if !root.has("stack") {
        problems.add(root.at, "no [stack] table: it must hold interface and address");
    }
    let section = root.section("stack", &keys, problems)?;
    let mut line = vec!["stack".to_owned()];
    let mut right = true;
    for (key, value, at) in section.entries() {
        let Some((_, option)) = options.iter().find(|(name, _)| name == key) else { continue };
        let read = option_text(option, value).and_then(|text| {
            text.as_deref().map_or(Ok(()), try_option)?;
            Ok(text)
        });
        match read {
            Ok(text) => line.extend(text),
            Err(error) => {
                problems.add(at, format_args!("stack.{key}: {error}"));
                right = false;
            }
        }
    }
    if !right {
        return None;
    }
    let parsed = StackOptions::try_parse_from(line);
    let common =
        parsed.map(|options| options.common).map_err(|error| problems.add(section.at, what_is_wrong(&error))).ok()?;
    if let Err(problem) = check_idle(common.idle, common.share_cores) {
        problems.add(section.at, in_keys(&problem.to_string()));
    }
    let unusable: Vec<_> = common.interfaces.addresses().into_iter().filter(|own| !own.is_usable()).collect();
    for own in &unusable {
        problems
            .add(section.at, format_args!("stack.address: {}/{} is no address of a host", own.address, own.prefix_len));
    }
    if unusable.is_empty()
        && let Err(problem) = common.interfaces.placed()
    {
        problems.add(section.at, in_keys(&problem));
    }
    Some(common)
}

/// The option as on a command line; `None` where it is switched off.
fn option_text(option: &Arg, value: &DeValue<'_>) -> Result<Option<String>, String> {
    let plain = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(decimal(number)),
        other => Err(format!("must be a string or a whole number, not {}", kind_of(other))),
    };
    let name = option.get_long().unwrap_or_default();
    match (value, option.get_action().takes_values()) {
        (DeValue::Boolean(on), false) => Ok(on.then(|| format!("--{name}"))),
        (other, false) => Err(format!("must be true or false, not {}", kind_of(other))),
        (DeValue::Array(values), true) => {
            let parts: Vec<String> = values.iter().map(|value| plain(value.get_ref())).collect::<Result<_, _>>()?;
            match option.get_value_delimiter() {
                None if parts.is_empty() => Err("must not be an empty list: leave it out for the default".into()),
                _ => Ok((!parts.is_empty()).then(|| format!("--{name}={}", parts.join(",")))),
            }
        }
        (value, true) => plain(value).map(|text| Some(format!("--{name}={text}"))),
    }
}

/// A number of the file in the only base that options know.
fn decimal(number: &DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix()).map_or(number.to_string(), |number| number.to_string())
}

/// Whether the option alone is right, beside those that must be there.
fn try_option(option: &str) -> Result<(), String> {
    let needed = ["--interface=any", "--address=192.0.2.1/24"];
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let others = needed.iter().filter(|needed| name(needed) != name(option)).copied();
    let line = std::iter::once("stack").chain(others).chain([option]);
    StackOptions::try_parse_from(line).map(|_| ()).map_err(|error| what_is_wrong(&error))
}

/// The first paragraph of what the command line would say, without the option: its key is told already, or is missing.
fn what_is_wrong(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let names = text.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        return format!("{} is missing", names.map(key_of).collect::<Vec<_>>().join(", "));
    }
    match text.split_once(" for '--") {
        Some((value, rest)) => format!("{value}{}", rest.split_once('\'').map_or("", |(_, reason)| reason)),
        None => in_keys(&text),
    }
}

fn key_of(option: &str) -> String {
    format!("stack.{}", option.replace('-', "_"))
}
