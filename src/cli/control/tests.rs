//! The control socket with whoever may come: T33.

use super::serve::{CLIENT_TIME, CLIENTS_MAX, REQUEST_MAX};
use super::{Control, Request, Subject, ask};
use crate::api::{Application, Event};
use crate::cli::arguments::{Arguments, Command};
use crate::four_tuple::FourTuple;
use crate::limits::Limits;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::observe::print;
use crate::shard::{Calls, HalfOpen, LocalAddress, Policies, Shard, ShardConfig};
use crate::stack::HalfOpenReport;
use crate::tcp::cookie::SynCookies;
use crate::tcp::tcb::Opened;
use crate::tcp::time_wait::{Full, Policy};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use clap::Parser;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Notes what is asked of it.
#[derive(Default)]
struct Noted {
    policies: RefCell<Policies>,
    drained: Cell<bool>,
    large: bool,
    half_open: HalfOpenReport,
}

impl Subject for Noted {
    fn status(&self) -> Value {
        json!({"shards": if self.large { "x".repeat(4 << 20) } else { String::new() }})
    }

    fn half_open(&self) -> HalfOpenReport {
        self.half_open.clone()
    }

    fn policies(&self) -> Policies {
        *self.policies.borrow()
    }

    fn set_policies(&self, policies: &Policies) -> Result<(), String> {
        policies.check().map_err(|error| error.to_string())?;
        *self.policies.borrow_mut() = *policies;
        Ok(())
    }

    fn drain(&self) {
        self.drained.set(true);
    }
}

/// A shard, whose policies are those of the stack.
struct OfShard(RefCell<Shard<MemoryLink, Idle>>);

/// Does nothing.
struct Idle;

impl Application for Idle {
    fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
}

impl OfShard {
    fn new() -> OfShard {
        let macs = [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last]));
        let (link, _) = pair(MemoryConfig::default(), macs);
        let config = ShardConfig {
            limits: Limits { tcbs_max: 16, time_wait_max: 64, half_open_max: 8, chunks_max: 64, ..Limits::default() },
            addresses: vec![LocalAddress { address: [10, 0, 0, 1].into(), prefix_len: 24 }],
            ..ShardConfig::seeded(0)
        };
        OfShard(RefCell::new(Shard::new(link, Idle, config, Now::default()).unwrap()))
    }
}

impl Subject for OfShard {
    fn status(&self) -> Value {
        Value::Null
    }

    fn half_open(&self) -> HalfOpenReport {
        HalfOpenReport::default()
    }

    fn policies(&self) -> Policies {
        self.0.borrow().policies()
    }

    fn set_policies(&self, policies: &Policies) -> Result<(), String> {
        self.0.borrow_mut().set_policies(policies, Now::default()).map_err(|error| error.to_string())
    }

    fn drain(&self) {}
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("synfin-control-{name}-{}", std::process::id()))
}

/// Serves until what `client` does on its own thread is done.
fn served<T: Send>(control: &mut Control, subject: &impl Subject, client: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let client = scope.spawn(client);
        let began = Instant::now();
        while !client.is_finished() && began.elapsed() < Duration::from_secs(20) {
            control.serve(subject);
            std::thread::sleep(Duration::from_millis(1));
        }
        client.join().unwrap()
    })
}

fn says(path: &std::path::Path, request: &[u8]) -> Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn policies_change_by_the_names_of_the_command_line_and_the_rest_stays() {
    let (subject, path) = (Noted::default(), path("set"));
    let mut control = Control::bind(&path).unwrap();
    let before = subject.policies();
    let answer =
        served(&mut control, &subject, || says(&path, b"set --time-wait strict --msl 5 --syn-cookies always\n"));
    assert_eq!(answer["msl_ms"], 5000);
    let after = subject.policies();
    assert_eq!((after.msl_ms, after.time_wait, after.syn_cookies), (5000, Policy::Strict, SynCookies::Always));
    assert_eq!((after.time_wait_full, after.time_wait_delay_ms), (before.time_wait_full, before.time_wait_delay_ms));
    assert_eq!(served(&mut control, &subject, || says(&path, b"policies\n"))["time_wait"], "strict");
    served(&mut control, &subject, || ask(&path, &Request::Drain)).unwrap();
    assert!(subject.drained.get());
    drop(control);
    assert!(!path.exists(), "the file is removed with the socket");
}

/// From the command line that is typed to the settings of the shard: every value, one after the other, and nothing else changes.
#[test]
fn each_policy_that_is_set_is_the_shards_from_then_on() {
    let (subject, path) = (OfShard::new(), path("shard"));
    let mut control = Control::bind(&path).unwrap();
    let mut expected = subject.policies();
    let mut set = |words: String, change: &dyn Fn(&mut Policies)| {
        let line = format!("synfin control {} set {words}", path.display());
        let Command::Control(typed) = Arguments::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        let sent = format!("{}\n", typed.request.line());
        let answer = served(&mut control, &subject, || says(&path, sent.as_bytes()));
        change(&mut expected);
        assert_eq!((subject.policies(), answer), (expected, print::policies(&expected)), "{words}");
    };
    for seconds in [1, 600, 30] {
        set(format!("--msl {seconds}"), &|policies| policies.msl_ms = seconds * 1000);
    }
    for policy in Policy::ALL {
        set(format!("--time-wait {}", policy.name()), &|policies| policies.time_wait = policy);
    }
    for ms in [0, u32::MAX, 1000] {
        set(format!("--time-wait-delay {ms}"), &|policies| policies.time_wait_delay_ms = ms);
    }
    for full in Full::ALL {
        set(format!("--time-wait-full {}", full.name()), &|policies| policies.time_wait_full = full);
    }
    for (what, ends) in [("close", true), ("ignore", false), ("close", true)] {
        set(format!("--rfc1337 {what}"), &|policies| policies.rst_ends_time_wait = ends);
    }
    for cookies in SynCookies::ALL {
        set(format!("--syn-cookies {}", cookies.name()), &|policies| policies.syn_cookies = cookies);
    }
    for retries in [0, 15, 2] {
        set(format!("--syn-ack-retries {retries}"), &|policies| policies.syn_ack_retries = retries);
    }
}

#[test]
fn every_request_survives_the_way_through_its_line() {
    for line in [
        "status",
        "policies",
        "drain",
        "set --msl 7",
        "set --rfc1337 close --time-wait-full skip --time-wait-delay 0",
        "half-open",
        "half-open --by-source --limit 7 --json",
    ] {
        let request = Request::of(line).unwrap();
        assert_eq!(Request::of(&request.line()).unwrap(), request, "{line}");
    }
}

#[test]
fn b14_half_open_connections_are_asked_for_one_by_one_or_by_source_up_to_a_limit() {
    let one = |port| HalfOpen {
        tuple: FourTuple::new([10, 0, 0, 2].into(), 80, [10, 0, 0, (port % 3) as u8 + 10].into(), port),
        opened: Opened::Passively,
        retries: 0,
        next_in_ms: Some(port.into()),
    };
    let half_open = HalfOpenReport { shards: vec![Some((1..=5).map(one).collect()), Some(vec![one(6)])] };
    let (subject, path) = (Noted { half_open, ..Noted::default() }, path("half-open"));
    let mut control = Control::bind(&path).unwrap();
    let mut ask = |line: &str| served(&mut control, &subject, || says(&path, format!("{line}\n").as_bytes()));
    let all = ask("half-open --json");
    let peers = |answer: &Value| -> Vec<String> {
        answer["half_open"].as_array().unwrap().iter().map(|one| one["peer"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((&all["total"], peers(&all).len(), &all["half_open"][5]["shard"]), (&json!(6), 6, &json!(1)));
    let two = ask("half-open --limit 2");
    assert_eq!((&two["total"], peers(&two)), (&json!(6), vec!["10.0.0.11:1".to_owned(), "10.0.0.12:2".to_owned()]));
    let sources = ask("half-open --by-source --limit 1");
    assert_eq!((&sources["total"], &sources["sources"]), (&json!(6), &json!(3)));
    assert_eq!(sources["by_source"], json!([{"source": "10.0.0.10", "count": 2}]));
}

#[test]
fn t33_garbage_is_answered_with_one_line_that_says_what_is_wrong() {
    let (subject, path) = (Noted::default(), path("garbage"));
    let mut control = Control::bind(&path).unwrap();
    for (request, wanted) in [
        (&b"dance\n"[..], "dance"),
        (b"\n", "subcommand"),
        (b"set\n", "required"),
        (b"set --msl 0\n", "--msl"),
        (b"set --msl 99999999999\n", "--msl"),
        (b"set --syn-ack-retries 16\n", "15"),
        (b"set --time-wait sometimes\n", "strict"),
        (b"\xff\xfe\n", "UTF-8"),
        (b"--help\n", "--help"),
        (b"half-open --limit 0\n", "--limit"),
        (b"half-open --limit 16385\n", "--limit"),
        (b"half-open --by-peer\n", "--by-peer"),
    ] {
        let answer = served(&mut control, &subject, || says(&path, request));
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(wanted) && !error.contains('\n'), "{request:?}: {error}");
    }
    assert_eq!(subject.policies(), Policies::default());
}

#[test]
fn t33_line_that_is_cut_off_is_refused_however_right_it_looks() {
    let (subject, path) = (Noted::default(), path("cut"));
    let mut control = Control::bind(&path).unwrap();
    for request in [&b"set --time-wait-delay 10"[..], b"drain"] {
        let answer = served(&mut control, &subject, || {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(request).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        assert!(answer.contains("error") && answer.contains("end of line"), "{answer}");
    }
    assert_eq!((subject.policies(), subject.drained.get()), (Policies::default(), false));
}

#[test]
fn t33_long_slow_and_silent_clients_are_bounded_and_others_are_served() {
    let (subject, path) = (Noted::default(), path("slow"));
    let mut control = Control::bind(&path).unwrap();
    let long = vec![b'x'; 100 * REQUEST_MAX];
    let answer = served(&mut control, &subject, || says(&path, &long));
    assert!(answer["error"].as_str().unwrap().contains("bytes"), "{answer}");

    // One place is left beside those who say nothing, or half a line.
    let mut slow: Vec<UnixStream> = (1..CLIENTS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
    slow[0].write_all(b"stat").unwrap();
    control.serve(&subject);
    assert!(served(&mut control, &subject, || says(&path, b"status\n")).get("shards").is_some());
    slow.push(UnixStream::connect(&path).unwrap());
    control.serve(&subject);
    let began = Instant::now();
    assert!(served(&mut control, &subject, || says(&path, b"status\n")).get("shards").is_some());
    assert!(began.elapsed() < 2 * CLIENT_TIME, "a place is free when the slow have had their time");
    let mut answer = String::new();
    slow[0].read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no whole line"), "{answer}");
}

#[test]
fn t33_an_answer_that_nobody_reads_is_given_up_and_a_large_one_arrives_whole() {
    let (subject, path) = (Noted { large: true, ..Noted::default() }, path("large"));
    let mut control = Control::bind(&path).unwrap();
    let mut deaf = UnixStream::connect(&path).unwrap();
    deaf.write_all(b"status\n").unwrap();
    control.serve(&subject);
    std::thread::sleep(CLIENT_TIME);
    control.serve(&subject);
    let mut part = Vec::new();
    deaf.read_to_end(&mut part).unwrap();
    assert!(part.len() < 4 << 20, "given up after its time, {} bytes", part.len());
    let answer = served(&mut control, &subject, || says(&path, b"status\n"));
    assert_eq!(answer["shards"].as_str().unwrap().len(), 4 << 20);
}

#[test]
fn a_file_of_a_dead_process_is_replaced_and_a_living_one_or_a_plain_file_is_not() {
    let path = path("old");
    let control = Control::bind(&path).unwrap();
    let refused = Control::bind(&path).unwrap_err().to_string();
    assert!(refused.contains("another process"), "{refused}");
    drop(control);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Control::bind(&path).unwrap());
    std::fs::write(&path, "mine").unwrap();
    let refused = Control::bind(&path).unwrap_err().to_string();
    assert!(refused.contains("no socket"), "{refused}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_directory_is_refused_without_the_advice_to_remove_it() {
    let path = path("directory");
    std::fs::create_dir(&path).unwrap();
    let refused = Control::bind(&path).unwrap_err().to_string();
    std::fs::remove_dir(&path).unwrap();
    assert!(refused.contains("it is a directory") && !refused.contains("remove"), "{refused}");
}
