//! `--end`: one end of synfin alone, on an interface of this host; the other end is another host's.

use super::args::CpsArgs;
use super::child::Role;
use super::live::Live;
use super::plan::Plan;
use super::rounds::{Bench, CLIENT_INTERFACE, Ends, Round, SERVER_INTERFACE, Spec};
use crate::failure::Failure;
use crate::lines::Final;
use crate::role::Closer;
use std::time::Duration;

/// Runs this end: the client as long as its window, the server until it is interrupted. What the other end counts is
/// not known here.
pub(crate) fn run(bench: &Bench<'_>, args: &CpsArgs, end: Closer, live: &mut Live) -> Result<Round, Failure> {
    let (namespace, interface, role) = match end {
        Closer::Client => (&bench.wire.client, CLIENT_INTERFACE, "synfin-client"),
        Closer::Server => (&bench.wire.server, SERVER_INTERFACE, "synfin-server"),
    };
    let _up = bench.wire.up(Ends::One(end), bench.plan.tuples.count())?;
    let spec = Spec { rate: args.rate.steady(), ..Spec::new(args, bench.plan, super::first(&args.tw)) };
    let mut options = bench.options(interface, &spec, end);
    options.extend(args.faults.options());
    live.doing(end.name().to_string(), "connections/s");
    let mut role = Role::spawn(namespace, role, &options)?;
    let ready = role.wait_ready(live)?;
    let seconds = Duration::from_secs_f64(spec.warmup_s + spec.duration_s + 20.0);
    let counted = match end {
        Closer::Client => role.wait_final(seconds, live)?,
        Closer::Server => {
            eprintln!("the server is ready; run the client's end now. End with ^C");
            role.wait_until_interrupted(live)?
        }
    };
    let (client, server) = match end {
        Closer::Client => (counted, Final::default()),
        Closer::Server => (Final::default(), counted),
    };
    Ok(Round { client, server, mode: ready.mode, time_wait_bytes: ready.time_wait_bytes })
}

/// What the server's end has to say, for whom the figures are the client's.
pub(crate) fn of_server(round: &Round) -> String {
    let server = &round.server;
    format!(
        "server: {} connections served, {} errors, {} TIME-WAIT entries made, mode {}\n",
        server.connections_total,
        server.errors_total(),
        server.time_wait.created,
        round.mode.as_deref().unwrap_or("none")
    )
}

/// The command for the other host: the same options, but for the end and its interface.
pub(crate) fn command(args: &CpsArgs, plan: &Plan, end: Closer) -> String {
    let other = if end == Closer::Client { Closer::Server } else { Closer::Client };
    let mut words = vec![
        "bench/cps.sh".to_string(),
        format!("--end {}", other.name()),
        "--nic INTERFACE-OF-THAT-HOST".to_string(),
        format!("--closer {}", plan.closer.name()),
        format!("--tw {}", super::first(&args.tw).name()),
        format!("--tw-delay {}", args.tw_delay),
        format!("--payload {}", args.payload),
        format!("--conns {}", plan.conns),
        format!("--ports {}", args.ports),
        format!("--src-ips {}", plan.tuples.sources),
        format!("--dst-ports {}", args.dst_ports),
        format!("--warmup {}", plan.warmup_s),
        format!("--duration {}", plan.duration_s),
        format!("--mode {}", args.mode.name()),
    ];
    if args.queues > 1 {
        words.push(format!("--stack synfin --queues {}", args.queues));
    }
    words.extend(args.sleep.then(|| "--sleep".to_string()));
    words.extend(args.msl.map(|msl| format!("--msl {msl}")));
    let rate = args.rate.steady();
    words.extend((rate > 0.0).then(|| format!("--rate {rate}")));
    words.join(" ")
}

/// What a user of two hosts must know.
pub(crate) const UNTESTED: &str = "untested on two hosts until someone has: tried between two namespaces only. Both interfaces must be in one network \
                                   segment; 10.77.0.0/16 is used there, the server as 10.77.0.1, the client from 10.77.128.1 on";

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::*;

    #[test]
    fn the_other_host_is_told_the_same() {
        let given = [
            "--end",
            "client",
            "--nic",
            "eth1",
            "--closer",
            "server",
            "--duration",
            "7",
            "--rate",
            "500",
            "--msl",
            "2",
            "--stack",
            "synfin",
            "--queues",
            "2",
            "--sleep",
        ];
        let args = parse(&given).expect("good");
        let command = command(&args, &Plan::new(&args).expect("plan"), Closer::Client);
        let told = ["--end server", "--nic INTERFACE", "--closer server", "--duration 7", "--rate 500", "--msl 2"];
        for part in told.into_iter().chain(["--queues 2", "--sleep"]) {
            assert!(command.contains(part), "{part}: {command}");
        }
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let other = parse(&words).expect("can be given as it is");
        let (ours, theirs) = (Plan::new(&args).expect("plan"), Plan::new(&other).expect("plan"));
        assert_eq!((ours.tuples, ours.closer, ours.conns), (theirs.tuples, theirs.closer, theirs.conns));
        assert_eq!((other.queues, other.sleep), (2, true));
    }
}
