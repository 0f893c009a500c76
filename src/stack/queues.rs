//! Whether every interface has a receive queue for each shard, and what to do where one has not.

use super::StackError;

/// That each of `interfaces`, by name and receive queues, has as many as there are shards. Whatever an error advises is all that has to be done.
pub(super) fn check(interfaces: &[(String, usize)], shards: usize) -> Result<(), StackError> {
    let Some((interface, queues)) = interfaces.first().cloned() else { return Ok(()) };
    if interfaces.iter().any(|(_, other)| *other != queues) {
        // No number of shards would fit.
        let least = interfaces.iter().map(|(_, queues)| *queues).min().unwrap_or(1);
        let counts = interfaces.iter().map(|(name, queues)| format!("{name} has {queues}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        return Err(StackError::QueuesDiffer { counts, least, commands: commands(interfaces, least) });
    }
    let commands = commands(interfaces, shards);
    if queues > shards {
        Err(StackError::QueuesLeftOver { interface, queues, shards, commands })
    } else if queues < shards {
        Err(StackError::TooFewQueues { interface, queues, shards, commands })
    } else {
        Ok(())
    }
}

/// What gives every interface so many queues.
fn commands(interfaces: &[(String, usize)], queues: usize) -> String {
    let others = interfaces.iter().filter(|(_, has)| *has != queues);
    let commands: Vec<String> = others.map(|(name, _)| format!("`ethtool -L {name} combined {queues}`")).collect();
    commands.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(counts: &[usize]) -> Vec<(String, usize)> {
        (0..).zip(counts).map(|(number, queues)| (format!("eth{number}"), *queues)).collect()
    }

    /// Does what the commands of `advice` say.
    fn obey(advice: &str, interfaces: &mut [(String, usize)]) {
        for command in advice.split('`').filter_map(|part| part.strip_prefix("ethtool -L ")) {
            let (name, queues) = command.split_once(" combined ").expect("a name and a count");
            let interface = interfaces.iter_mut().find(|(other, _)| other == name).expect("one of them");
            interface.1 = queues.parse().expect("a count");
        }
    }

    #[test]
    fn advice_that_is_followed_is_enough() {
        for counts in [&[4, 2][..], &[2, 4], &[2], &[1], &[2, 2], &[4, 2, 8, 2], &[1, 1, 1]] {
            let interfaces = named(counts);
            for given in [None, Some(1), Some(2), Some(4), Some(6)] {
                let Err(error) = check(&interfaces, given.unwrap_or(counts[0])) else {
                    let equal = counts.iter().all(|queues| *queues == given.unwrap_or(counts[0]));
                    assert!(equal, "{counts:?} {given:?}");
                    continue;
                };
                let text = error.to_string();
                let (_, advice) = text.split_once("; give --queues ").expect(&text);
                let digits = advice.find(|letter: char| !letter.is_ascii_digit()).expect(&text);
                let (queues, rest) = advice.split_at(digits);
                let queues: usize = queues.parse().expect("a count");
                let mut mended = interfaces.clone();
                obey(rest, &mut mended);
                match error {
                    StackError::QueuesDiffer { .. } => assert!(check(&mended, queues).is_ok(), "{text}"),
                    // Either will do.
                    _ => {
                        let shards = given.expect("not the number that the first has");
                        assert!(check(&interfaces, queues).is_ok() && check(&mended, shards).is_ok(), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn interfaces_that_differ_are_named_with_those_that_have_too_many() {
        let error = check(&named(&[4, 2]), 4).expect_err("they differ").to_string();
        let expected = "receive queues: eth0 has 4, eth1 has 2, and every interface needs one for each shard; give --queues 2 and \
                        `ethtool -L eth0 combined 2`";
        assert_eq!(error, expected);
    }
}
