//! What the options of `serve` and `connect` make of the stack that is started.

use super::super::arguments::{Arguments, Command, PassiveOpens};
use super::*;
use crate::limits::TIME_WAIT_DELAY_MS;
use crate::link::xdp::Mode;
use crate::shard::LocalAddress;
use crate::stack::{ConflictCheck, Idle};
use crate::tcp::congestion::CongestionControl;
use crate::tcp::cookie::SynCookies;
use crate::tcp::time_wait::Full;
use clap::{CommandFactory, Parser};
use std::collections::BTreeSet;

/// What an option makes of the stack that would be started without it.
type Change = Box<dyn Fn(&mut StackConfig)>;

/// Options as they are typed, each with what it does.
type Effects = Vec<(String, Change)>;

/// The stack that a command line would start; the interface has two queues unless it says otherwise.
fn started(line: &str) -> Result<StackConfig, Failure> {
    let queues = if line.contains("--queues") { "" } else { " --queues 2" };
    let line = format!("synfin {line} --interface lo --address 10.0.0.2/24{queues}");
    let (common, passive) = match Arguments::try_parse_from(line.split_whitespace()).expect("parses").command {
        Command::Serve(serve) => (serve.common, serve.passive),
        Command::Connect(connect) => (connect.common, PassiveOpens::default()),
        other => panic!("{other:?}"),
    };
    config(&common, passive, ports())
}

/// The ports that a command needs of addresses that the kernel keeps.
fn ports() -> SharedPorts {
    SharedPorts { listen: vec![7], opens: true }
}

/// Every value of the options about TIME-WAIT: of a number the least, the most and one between.
fn about_time_wait() -> Effects {
    let mut all = Effects::new();
    let mut does = |words: String, change: Change| all.push((words, change));
    for seconds in [1, 7, 600] {
        does(format!("--msl {seconds}"), Box::new(move |stack| stack.shard.msl_ms = seconds * 1000));
    }
    for policy in Policy::ALL {
        let change = move |stack: &mut StackConfig| stack.shard.settings.time_wait_policy = policy;
        does(format!("--time-wait {}", policy.name()), Box::new(change));
    }
    for ms in [0, TIME_WAIT_DELAY_MS + 1, u32::MAX] {
        let change = move |stack: &mut StackConfig| stack.shard.settings.time_wait_delay_ms = ms;
        does(format!("--time-wait-delay {ms}"), Box::new(change));
    }
    for full in Full::ALL {
        let change = move |stack: &mut StackConfig| stack.shard.settings.time_wait_full = full;
        does(format!("--time-wait-full {}", full.name()), Box::new(change));
    }
    for (records, of_each) in [(1, 1), (1001, 501), (1_073_676_288, 536_838_144)] {
        let change = move |stack: &mut StackConfig| stack.shard.limits.time_wait_max = of_each;
        does(format!("--time-wait-max {records}"), Box::new(change));
    }
    for (what, ends) in [("ignore", false), ("close", true)] {
        let change = move |stack: &mut StackConfig| stack.shard.settings.rst_ends_time_wait = ends;
        does(format!("--rfc1337 {what}"), Box::new(change));
    }
    all
}

/// Every value of the other options that `serve` and `connect` share and that are the stack's.
fn about_the_rest() -> Effects {
    let mut all = Effects::new();
    let mut does = |words: String, change: Change| all.push((words, change));
    for seconds in [0, 7, 3600] {
        does(format!("--quiet-time {seconds}"), Box::new(move |stack| stack.shard.quiet_time_ms = seconds * 1000));
    }
    for control in CongestionControl::ALL {
        let change = move |stack: &mut StackConfig| stack.shard.settings.congestion = control;
        does(format!("--congestion {}", control.name()), Box::new(change));
    }
    for idle in Idle::ALL {
        does(format!("--idle {}", idle.name()), Box::new(move |stack| stack.idle = idle));
    }
    for (name, mode) in [("auto", Mode::Auto), ("skb", Mode::Skb), ("drv", Mode::Drv)] {
        does(format!("--mode {name}"), Box::new(move |stack| stack.mode = mode));
    }
    for check in ConflictCheck::ALL {
        does(format!("--conflict-check {}", check.name()), Box::new(move |stack| stack.conflict_check = check));
    }
    for bytes in [2048, 4096] {
        does(format!("--frame-size {bytes}"), Box::new(move |stack| stack.link.frame_bytes = bytes));
    }
    for seconds in [1, 7, 60] {
        does(format!("--neighbor-timeout {seconds}"), Box::new(move |stack| stack.shard.neighbor_timeout_s = seconds));
    }
    does("--huge-pages".into(), Box::new(|stack| stack.link.huge_pages = true));
    does("--zero-copy".into(), Box::new(|stack| stack.link.zero_copy = true));
    does("--reply-to-sender".into(), Box::new(|stack| stack.shard.reply_to_sender = true));
    does("--share-cores".into(), Box::new(|stack| stack.share_cores = true));
    does("--cpus 1,3-4".into(), Box::new(|stack| stack.cores = vec![1, 3, 4]));
    does("--gateway 10.0.0.1".into(), Box::new(|stack| stack.shard.gateways = vec!["10.0.0.1".parse().unwrap()]));
    does("--vlan 42".into(), Box::new(|stack| stack.shard.vlan = Some(42)));
    does("--ports 1000-1999".into(), Box::new(|stack| stack.shard.ports = (1000, 1999)));
    let shared = |stack: &mut StackConfig, range| (stack.shared, stack.shard.ports) = (Some(ports()), range);
    does("--shared".into(), Box::new(move |stack| shared(stack, (20_000, 29_999))));
    does("--shared --ports 1000-1999".into(), Box::new(move |stack| shared(stack, (1000, 1999))));
    does("--capture file".into(), Box::new(|stack| stack.capture = Some(CaptureConfig::default())));
    all
}

#[test]
fn every_option_of_a_stack_takes_effect_and_changes_nothing_else() {
    for command in ["serve echo:7", "connect 10.0.0.1:7"] {
        let without = started(command).expect("starts");
        for (words, change) in about_time_wait().into_iter().chain(about_the_rest()) {
            let mut expected = without.clone();
            change(&mut expected);
            let obtained = started(&format!("{command} {words}")).expect("starts");
            assert_eq!(format!("{obtained:#?}"), format!("{expected:#?}"), "{command} {words}");
        }
    }
}

/// The values that stand for the defaults above would hide that an option does nothing.
#[test]
fn some_value_of_every_option_differs_from_the_default() {
    let without = started("serve echo:7").expect("starts");
    let option_of = |words: &str| words.split(' ').next().unwrap_or_default().trim_start_matches("--").to_owned();
    let (mut known, mut differ) = (BTreeSet::new(), BTreeSet::new());
    for (words, change) in about_time_wait().into_iter().chain(about_the_rest()) {
        let mut changed = without.clone();
        change(&mut changed);
        if format!("{changed:?}") != format!("{without:?}") {
            differ.insert(option_of(&words));
        }
        known.insert(option_of(&words));
    }
    assert_eq!(differ, known);
    let command = Arguments::command();
    let connect = command.find_subcommand("connect").expect("there is one");
    let of_connect: BTreeSet<&str> = connect.get_arguments().filter_map(clap::Arg::get_long).collect();
    let serve = command.find_subcommand("serve").expect("there is one");
    let shared = serve.get_arguments().filter_map(clap::Arg::get_long).filter(|option| of_connect.contains(option));
    let elsewhere: Vec<&str> = shared.filter(|option| !known.contains(*option)).collect();
    // Where the stack is and how many shards it has; what is of each connection; what the command itself does.
    let told = ["interface", "address", "queues", "keepalive", "user-timeout", "dscp", "ttl", "control", "json"];
    assert_eq!(elsewhere.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(told));
}

#[test]
fn b11_b13_how_serve_answers_syns_takes_effect() {
    for cookies in SynCookies::ALL {
        let obtained = started(&format!("serve echo:7 --syn-cookies {}", cookies.name())).expect("starts");
        assert_eq!(obtained.shard.settings.syn_cookies, cookies);
    }
    for retries in [0, 2, 15] {
        let obtained = started(&format!("serve echo:7 --syn-ack-retries {retries}")).expect("starts");
        assert_eq!(obtained.shard.settings, Settings { syn_ack_retries: retries, ..Settings::default() });
    }
}

#[test]
fn interfaces_addresses_and_queues_are_those_that_were_given() {
    let stack = started("serve echo:7 --queues 3 --interface other=10.1.0.2/24").expect("starts");
    let local = |text: &str| vec![LocalAddress { address: text.parse().unwrap(), prefix_len: 24 }];
    assert_eq!((stack.queues, &*stack.interface, &stack.shard.addresses), (Some(3), "other", &local("10.1.0.2")));
    let beside: Vec<_> = stack.beside.iter().map(|(name, there)| (&**name, &there.addresses)).collect();
    assert_eq!(beside, [("lo", &local("10.0.0.2"))]);
    let whole = Limits::default();
    let limits = Limits {
        tcbs_max: whole.tcbs_max / 3,
        time_wait_max: whole.time_wait_max.div_ceil(3),
        half_open_max: whole.half_open_max / 3,
        cookies_remembered_max: whole.cookies_remembered_max / 3,
        chunks_max: whole.chunks_max / 3,
        ..whole
    };
    assert_eq!(stack.shard.limits, limits);
}

#[test]
fn shards_that_share_cores_and_never_sleep_are_wrong_usage() {
    for idle in ["spin", "busy-poll"] {
        let refused = started(&format!("serve echo:7 --share-cores --idle {idle}")).expect_err("refused");
        assert!(refused.exit == Exit::Usage && refused.message.contains(idle), "{refused}");
    }
}
