//! For tests: what the shell scripts hand over, and whether their help tells of it.

use clap::{Args, CommandFactory, Parser};

#[derive(Parser)]
struct Command<A: Args> {
    #[command(flatten)]
    args: A,
}

/// The options of people with those that every script adds.
pub(crate) fn parse<A: Args>(options: &[&str]) -> Result<A, clap::Error> {
    let given = ["--netns-a", "a", "--netns-b", "b", "--wire", "w"];
    parse_role(given.iter().chain(options))
}

/// The options of a role, which has no more than it is given.
pub(crate) fn parse_role<A: Args, S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> Result<A, clap::Error> {
    let options = options.into_iter().map(|option| option.as_ref().to_owned());
    Command::try_parse_from(std::iter::once("synfin-bench".to_owned()).chain(options)).map(|command| command.args)
}

/// Panics unless `text` names every option that is meant for people.
pub(crate) fn names_every_option<A: Args>(text: &str) {
    for option in Command::<A>::command().get_arguments().filter(|option| !option.is_hide_set()) {
        let name = option.get_long().expect("all options are long");
        assert!(text.contains(&format!("--{name}")), "--{name} is not named");
    }
}
