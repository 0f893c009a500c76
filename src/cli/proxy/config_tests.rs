//! Configurations that are right, and all that is wrong in those that are not.

use super::backends::Balance;
use super::config::{AccessLog, Config};
use super::places::Places;
use super::proxy_protocol::ProxyProtocol;
use crate::limits::Limits;
use std::time::Duration;

const RIGHT: &str = r#"[stack]
interface = "veth0"
address = "10.0.0.2/24"

[[listeners]]
name = "web"
address = "0.0.0.0:80"
backends = [{ address = "10.0.0.3:80" }]
"#;

/// Each problem as `line: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text).map(|config| config.to_string()).expect_err("something is wrong");
    problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
}

/// The one problem of [`RIGHT`] with `from` replaced by `to`.
fn problem(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    let problems = problems(&RIGHT.replace(from, to));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

#[test]
fn sample_is_right_and_its_defaults_are_those_that_it_names() {
    let sample = include_str!("../../../contrib/proxy.toml");
    let config = Config::parse(sample).unwrap();
    // What is commented out, as `# key = value`, changes nothing.
    let with_defaults: String = sample
        .lines()
        .filter(|line| !["# gateway", "# source_addresses", "# interface"].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{}\n", if line.contains(" = ") { line.trim_start_matches("# ") } else { line }))
        .collect();
    assert!(with_defaults.lines().any(|line| line.starts_with("connections_max = 60000")));
    assert_eq!(Config::parse(&with_defaults).unwrap().to_string(), config.to_string());
    assert_eq!(config.access_log, Some(AccessLog::Stdout));
    let [web, mail] = &config.listeners[..] else { panic!("two listeners") };
    assert_eq!((web.balance, mail.balance), (Balance::RoundRobin, Balance::LeastConnections));
    assert_eq!((web.proxy_protocol, mail.proxy_protocol), (ProxyProtocol::V2, ProxyProtocol::None));
    assert_eq!((web.backends[0].name.as_str(), mail.backends[1].name.as_str()), ("one", "10.0.0.13:25"));
    assert!(web.health_check.is_some() && mail.health_check.is_none());
    assert_eq!(web.idle_timeout, Duration::from_secs(300));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let text = r#"conections_max = 5
drain_timeout = "soon"
[stack]
interface = "veth0"
address = ["10.0.0.2/24"]
mode = "fast"
[[listeners]]
name = "web"
address = "10.0.0.2:0"
retries = -1
backends = []
[[listeners]]
name = "two words"
address = "10.0.0.9:80"
balance = 3
[[listeners.backends]]
address = "10.0.0"
weight = 1
[[listeners]]
name = "again"
address = "10.0.0.2:80"
backends = [{ address = "10.0.0.3:80" }]
[[listeners]]
name = "again"
address = "0.0.0.0:80"
backends = [{ address = "10.0.0.3:80" }]
"#;
    let found = problems(text);
    let expected = [
        (1, "unknown key \"conections_max\""),
        (2, "drain_timeout: \"soon\" is no time"),
        (6, "stack.mode: invalid value 'fast'"),
        (7, "listener web has no backends"),
        (9, "listeners.address: \"10.0.0.2:0\": the port must be from 1 to 65535"),
        (10, "listeners.retries: must be a whole number from 0 to 100, not -1"),
        (13, "listeners.name: \"two words\" is no name"),
        (15, "listeners.balance: must be a string in quotes"),
        (17, "listeners.backends.address: \"10.0.0\" is no address"),
        (18, "listeners.backends: unknown key \"weight\""),
        (23, "listeners.name: again is taken"),
        (25, "listeners.address: 0.0.0.0:80 overlaps 10.0.0.2:80 of listener again in line 21"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (line, says)) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("{line}: ")) && found.contains(says), "{found}\n{says}");
        assert!(!found.contains(": :"), "{found}");
    }
}

#[test]
fn records_are_enough_for_all_clients_though_the_queues_before_them_are_full() {
    let config = Config::parse(&RIGHT.replace("[stack]", "connections_max = 100000\n[stack]")).unwrap();
    let mut limits = Limits { half_open_max: 500, ..Limits::default() };
    super::limits(&config, 2)(&mut limits);
    assert_eq!(limits.tcbs_max, Limits::default().tcbs_max);
    super::limits(&config, 1)(&mut limits);
    let check = 2;
    assert_eq!(limits.tcbs_max, 2 * 100_000 + check + limits.accept_max + limits.half_open_max);
}

/// [`RIGHT`] with so many clients, more about the stack and other addresses of listener and backend.
fn with_clients(clients: u32, stack: &str, ends: (&str, &str)) -> String {
    RIGHT
        .replace("[stack]", &format!("# Many.\nconnections_max = {clients}\n[stack]\n{stack}"))
        .replace("10.0.0.2/24", "10.0.0.2/24,fd00::2/64")
        .replace("0.0.0.0:80", ends.0)
        .replace("10.0.0.3:80", ends.1)
}

const V4: (&str, &str) = ("0.0.0.0:80", "10.0.0.3:80");
const MIXED: (&str, &str) = ("[::]:80", "10.0.0.3:80");

#[test]
fn b46_clients_whose_places_in_time_wait_are_not_there_are_refused_before_the_start() {
    let [problem] = &problems(&with_clients(600_000, "", V4))[..] else { panic!("one problem") };
    assert!(problem.starts_with("2: connections_max: while its part of 600000 clients is open"), "{problem}");
    // 16,384 may be half-open and 4,096 wait to be accepted.
    assert!(problem.contains("the one shard may reserve 1220480 places in TIME-WAIT of IPv4"), "{problem}");
    assert!(problem.contains("(2 for each client, 20480 for half-open connections"), "{problem}");
    assert!(problem.contains("stack.time_wait_max gives it 1048576: raise that to 1220480,"), "{problem}");
    assert!(problem.contains("or lower connections_max to 514048, with what is in TIME-WAIT on top"), "{problem}");
    for (clients, stack, ends, fits) in [
        (514_048, "", V4, true),
        (514_049, "", V4, false),
        (600_000, "time_wait_max = 1220480", V4, true),
        (600_000, "time_wait_max = 1220479", V4, false),
        (600_000, "time_wait_full = \"evict-oldest\"", V4, true),
        (600_000, "time_wait_full = \"skip\"", V4, true),
        (600_000, "time_wait = \"none\"", V4, true),
        (600_000, "", MIXED, true),
        (1_028_096, "", MIXED, true),
        (1_028_097, "", MIXED, false),
    ] {
        assert_eq!(Config::parse(&with_clients(clients, stack, ends)).is_ok(), fits, "{clients} {stack} {ends:?}");
    }
}

/// A wrong value has a default in its place, or nothing: what follows from that is no mistake in the file.
#[test]
fn places_in_time_wait_are_not_asked_about_where_what_they_are_made_of_is_wrong() {
    let text = with_clients(60_000, "time_wait_max = 50000", V4);
    let of_places = "connections_max: while its part of 60000 clients is open";
    let told = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        problems(&text.replacen(from, to, 1))
    };
    assert!(told("Many", "many")[0].contains(of_places));
    assert!(told("connections_max = 60000\n", "")[0].contains(of_places), "the default was not asked for, but holds");
    for (from, to) in [
        ("= 60000", "= \"5\""),
        ("= 60000", "= 0"),
        ("0.0.0.0:80", "0.0.0.0"),
        ("10.0.0.3:80", "10.0.0.3"),
        ("name = \"web\"", "name = \"/\""),
        ("[[listeners]]", "[listeners]"),
        ("name = \"web\"", "health_check = 5\nname = \"web\""),
    ] {
        let found = told(from, to);
        assert!(found.len() == 1 && !found[0].contains(of_places), "{to}: {found:#?}");
    }
    let found = told("# Many.", "drain_timeout = 5");
    assert!(found.len() == 2 && found[1].contains(of_places), "it has nothing to do with places: {found:#?}");
}

/// The number behind `words` in `text`.
fn number_behind(text: &str, words: &str) -> Option<u32> {
    let digits = text.split_once(words)?.1;
    digits[..digits.find(|letter: char| !letter.is_ascii_digit())?].parse().ok()
}

#[test]
fn b46_hints_about_places_can_be_followed_and_are_the_least() {
    let mut without_clients = 0;
    for shards in [1, 2, 3, 7, 64] {
        for places in [1, 5000, 20_480, 20_482, 43_000, 100_001, 1_048_576] {
            for ends in [V4, MIXED] {
                let fits = |clients: u32, places: u32| {
                    let stack = format!("queues = {shards}\ntime_wait_max = {places}");
                    match Config::parse(&with_clients(clients, &stack, ends)) {
                        Ok(_) => Ok(()),
                        Err(problems) => Err(problems[0].message.clone()),
                    }
                };
                let problem = fits(2_000_000, places).unwrap_err();
                let raised = number_behind(&problem, "raise that to ").unwrap();
                assert!(fits(2_000_000, raised).is_ok() && fits(2_000_000, raised - 1).is_err(), "{problem}");
                match number_behind(&problem, "lower connections_max to ") {
                    Some(clients) => assert!(fits(clients, places).is_ok() && fits(clients + 1, places).is_err()),
                    None => {
                        assert!(fits(1, places).is_err(), "{problem}");
                        without_clients += 1;
                    }
                }
            }
        }
    }
    assert!(without_clients > 10);
}

#[test]
fn b46_health_checks_reserve_places_of_the_version_of_their_backends() {
    let text = with_clients(1, "", MIXED).replace("backends = [", "health_check = {}\nbackends = [");
    let config = Config::parse(&text).unwrap();
    let limits = Limits { half_open_max: 5, accept_max: 7, ..Limits::default() };
    assert_eq!(Places::of(&config, &limits, true), Places { each: 1, beside: 2 });
    assert_eq!(Places::of(&config, &limits, false), Places { each: 1, beside: 12 });
}

#[test]
fn messages_name_the_key_what_is_wrong_and_what_would_be_right() {
    let stack = |line: &str| ("address", format!("{line}\naddress"));
    let before = |line: &str| ("[stack]", format!("{line}\n[stack]"));
    for ((from, to), says) in [
        (before("colour = 1"), "unknown key \"colour\": there are stack,"),
        (before("connections_max = \"5\""), "connections_max: must be a whole number from 1 to 16000000, not a string"),
        (before("connections_max = 5.5"), "1 to 16000000, not a number with a point"),
        (before("connections_max = 99999999999999999999"), "1 to 16000000, not 99999999999999999999"),
        (stack("msl = 1.5"), "stack.msl: must be a string or a whole number, not a number with a point"),
        (stack("msl = -1"), "stack.msl: invalid value '-1': must be a whole number from 1 to 600"),
        (stack("msl = 99999999999999999999"), "must be a whole number from 1 to 600"),
        (stack("msl = 0x1000"), "stack.msl: invalid value '4096'"),
        (stack("msl = []"), "stack.msl: must not be an empty list"),
        (stack("time_wait_delay = -1"), "must be a whole number from 0 to 4294967295"),
        (stack("frame_size = 1000"), "stack.frame_size: invalid value '1000': must be 2048 or 4096"),
        (stack("json = \"yes\""), "stack.json: must be true or false, not a string"),
        (stack("gateway = \"here\""), "stack.gateway: invalid value 'here': invalid IP address syntax"),
        (stack("gateway = [\"10.0.0.1\", \"10.0.0.4\"]"), "stack.gateway 10.0.0.4: at most one gateway"),
        (stack("vlan = \"eth9=5\""), "stack.vlan eth9=5: no such interface is given"),
        (("\"veth0\"", "\"\"".into()), "the name of an interface has 1 to 15 letters"),
        (("address = \"10.0.0.2/24\"", String::new()), "stack.interface veth0: it has no address; give stack.address"),
        (("[stack]", "stack = 5\n[other]".into()), "stack must be a table of interface, address,"),
        (
            ("[[listeners]]", "[listeners]".into()),
            "listeners must be a list of tables, as in [[listeners]], not a table",
        ),
        (("[{ address = \"10.0.0.3:80\" }]", "5".into()), "as in [[listeners.backends]], not a number"),
        (
            ("[{ address = \"10.0.0.3:80\" }]", "[\"10.0.0.3:80\"]".into()),
            "must be a table of name, address, not a string",
        ),
        (("10.0.0.3:80", "backend.example:80".into()), "names are not looked up"),
        (("10.0.0.3:80", "10.0.0.3:70000".into()), "a port from 1 to 65535"),
        (("name = \"web\"", "name = web".into()), "no TOML: string values must be quoted"),
        (("name =", "source_addresses = \"10.0.0.2\"\nname =".into()), "as in [\"...\"], not a string"),
    ] {
        let found = problems(&RIGHT.replacen(from, &to, 1));
        assert!(found.iter().any(|problem| problem.contains(says)), "{found:#?}\n{says}");
        // One mistake is told once, and in words of the file.
        let others = if to.contains("[other]") { 3 } else { 1 };
        assert!(found.len() <= others && !found.iter().any(|problem| problem.contains("--")), "{found:#?}");
    }
    for empty in ["", "\n# Nothing.\n"] {
        let found = problems(empty);
        assert!(found.len() == 2 && found[0].contains("no [stack] table: it must hold interface"), "{found:#?}");
    }
}

#[test]
fn addresses_must_be_where_the_stack_can_use_them() {
    assert!(Config::parse(RIGHT).is_ok());
    assert!(Config::parse(&RIGHT.replacen("10.0.0.3:80", "10.0.0.0:80", 1)).is_ok(), "a host may have it");
    for (from, to, says) in [
        ("0.0.0.0:80", "10.0.0.9:80", "10.0.0.9 is not among stack.address"),
        ("0.0.0.0:80", "[::]:80", ":: is not among stack.address"),
        ("10.0.0.3:80", "192.0.2.1:80", "no way to 192.0.2.1"),
        ("10.0.0.3:80", "10.0.0.2:80", "the stack's own address"),
        ("10.0.0.3:80", "10.0.0.255:80", "no address of one host"),
        ("10.0.0.3:80", "127.0.0.1:80", "no address of a host on the network"),
        ("10.0.0.3:80", "[::ffff:10.0.0.9]:80", "no address of a host on the network"),
        ("10.0.0.3:80", "240.0.0.1:80", "no address of a host on the network"),
        ("10.0.0.3:80", "255.255.255.255:80", "no address of a host on the network"),
        ("10.0.0.3:80", "0.1.2.3:80", "no address of a host on the network"),
        ("10.0.0.2/24", "10.0.0.255/24", "stack.address: 10.0.0.255/24 is no address of a host"),
        ("10.0.0.2/24", "10.0.0.2", "stack.address: invalid value"),
        ("name = \"web\"", "name = \"web\"\nsource_addresses = [\"10.0.0.7\"]", "10.0.0.7 is not among"),
        ("interface = \"veth0\"\n", "", "stack.interface is missing"),
        ("name = \"web\"\n", "", "listeners.name is missing"),
        ("address = \"0.0.0.0:80\"\n", "", "listeners.address is missing"),
        ("backends = [{", "idle_timeout = \"25d\"\nbackends = [{", "listeners.idle_timeout: \"25d\" is no time"),
        ("veth0\"\n", "veth0\"\nshare_cores = 1\n", "stack.share_cores: must be true or false"),
        (
            "veth0\"\n",
            "veth0\"\nshare_cores = true\nidle = \"spin\"\n",
            "idle strategy spin: shards that share cores must sleep; take sleep, or leave stack.share_cores out",
        ),
        ("veth0\"\n", "veth0\"\nqueues = 1\nqueues = 2\n", "duplicate key \"queues\""),
        ("veth0\"\n", "veth0\"\nmsl = 0\n", "stack.msl: invalid value '0': must be a whole number from 1 to 600"),
        ("}]", "}, { name = \"b\", address = \"10.0.0.3:80\" }]", "already that of backend 10.0.0.3:80"),
    ] {
        let problem = problem(from, to);
        assert!(problem.contains(says), "{problem}\n{says}");
    }
    assert!(
        Config::parse(
            &RIGHT.replace("10.0.0.3:80", "192.0.2.1:80").replace("veth0\"", "veth0\"\ngateway = \"10.0.0.1\"")
        )
        .is_ok()
    );
}

proptest::proptest! {
    /// T34: whatever the file holds, there is a configuration or at least one problem with a line of the file; never a panic.
    #[test]
    fn t34_any_text_is_a_configuration_or_problems_with_their_lines(
        pieces in proptest::collection::vec(piece(), 0..40),
    ) {
        let text = pieces.concat();
        if let Err(problems) = Config::parse(&text) {
            let lines = text.lines().count().max(1) + 1;
            proptest::prop_assert!(!problems.is_empty() && problems.iter().all(|problem| (1..=lines).contains(&problem.line)), "{text:?}: {problems:?}");
        }
    }
}

/// A piece of a file: one that belongs there, or anything.
fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let lines: Vec<String> = include_str!("../../../contrib/proxy.toml")
        .lines()
        .chain(RIGHT.lines())
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "[a-z_]{1,8} = [0-9\"\\[{a-z]{0,6}\n",
        1 => "\\PC{0,12}",
    ]
}

#[test]
fn memory_grows_with_the_clients_that_are_promised_room_and_is_shown() {
    let with = |connections_max: u32| {
        let text = RIGHT.replacen("[stack]", &format!("connections_max = {connections_max}\n[stack]"), 1);
        Config::parse(&text).unwrap()
    };
    let chunks_of_a_shard = |connections_max, shards: u32| {
        let mut limits = Limits::default();
        limits.chunks_max = (limits.chunks_max / shards).max(1024);
        super::limits(&with(connections_max), shards)(&mut limits);
        limits.chunks_max
    };
    assert_eq!(chunks_of_a_shard(100, 1), Limits::default().chunks_max);
    assert_eq!(chunks_of_a_shard(60_000, 1), 120_000);
    assert_eq!(chunks_of_a_shard(60_000, 8), 15_000);
    let shown = with(60_000).to_string();
    assert!(shown.contains("245 MB for bytes on their way") && shown.contains("256 kB each way"), "{shown}");
    assert!(shown.contains("fewer than 234,"), "{shown}");
}
