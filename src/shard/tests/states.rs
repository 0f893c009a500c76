//! B38: what a shard answers by itself, the rows of `docs/states.md` with a star.

use super::options::Bench;
use super::*;
use crate::api::{CallError, ConnectionOptions, ListenError};
use crate::four_tuple::FourTuple;
use crate::shard::icmp;
use crate::tcp::state::State;
use crate::wire::icmp::{Error, ErrorKind, Quoted};
use crate::wire::tcp::Flags;

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
const FIN_ACK: Flags = Flags(Flags::FIN.0 | Flags::ACK.0);

/// A row with a star: the state in which the event happens, the next one, what is sent, and what else comes of it.
#[derive(Debug)]
struct Row {
    state: &'static str,
    event: &'static str,
    next: &'static str,
    sent: &'static str,
    otherwise: &'static str,
}

#[test]
fn b38_a_shard_answers_by_itself_as_the_states_document_says() {
    let rows = rows_with_a_star();
    assert!(rows.len() > 20, "docs/states.md has only {} rows with a star", rows.len());
    for row in rows {
        let mut held = Held::new(row.state, row.event);
        let otherwise = held.happens(row.event);
        let heard = held.bench.turn(1);
        assert!(heard.is_empty() && row.sent == "-", "{row:?}: {heard:?}");
        assert_eq!((held.next(), otherwise), (row.next, row.otherwise), "{row:?}");
    }
}

/// A shard with something in a state.
struct Held {
    bench: Bench,
    /// Of the connection, which may have ended, or be known to no application yet; a listener has none.
    handle: Option<Handle>,
}

impl Held {
    /// The state, reached by calls and segments; in TIME-WAIT there is an octet left for RECEIVE.
    fn new(state: &str, event: &str) -> Held {
        let mut bench = Bench::new(Settings::default(), false);
        if matches!(state, "SYN-SENT" | "SYN-RECEIVED (active open)") {
            let handle = connect(&mut bench);
            if state != "SYN-SENT" {
                let answers = bench.exchange(&bench.next(Flags::SYN), &[]);
                assert_eq!(answers.iter().map(|heard| heard.seg.flags).collect::<Vec<_>>(), [SYN_ACK]);
            }
            return Held { bench, handle: Some(handle) };
        }
        bench.listen(ConnectionOptions::default()).expect("a listener");
        let handle = match state {
            "LISTEN" => None,
            "SYN-RECEIVED" => {
                bench.exchange(&bench.next(Flags::SYN), &[]);
                Some(bench.shard.core.connections[0].handle(0))
            }
            "CLOSED" => {
                bench.open();
                let handle = bench.handle();
                bench.exchange(&bench.next(Flags::RST), &[]);
                bench.shard.calls(bench.now).stop_listening_all();
                Some(handle)
            }
            "TIME-WAIT" => {
                bench.open();
                let handle = bench.handle();
                let octets: &[u8] = if event.starts_with("RECEIVE") { b"x" } else { b"" };
                bench.shard.calls(bench.now).shutdown_write(handle).expect("open");
                bench.turn(1);
                bench.ack += 1;
                bench.exchange(&bench.next(FIN_ACK), octets);
                bench.shard.calls(bench.now).stop_listening_all();
                Some(handle)
            }
            _ => panic!("what a shard answers by itself in {state} is not known here"),
        };
        Held { bench, handle }
    }

    /// The event, but for what is sent; returns what the application learns of it.
    fn happens(&mut self, event: &str) -> &'static str {
        let bench = &mut self.bench;
        match event {
            "OPEN, passive" => match bench.listen(ConnectionOptions::default()) {
                Ok(_) => return "",
                Err(ListenError::InUse(_)) => return "error: in use",
                Err(error) => panic!("{error}"),
            },
            "ICMP hard error about nothing in flight" => return self.icmp_error(),
            "2MSL time-out" => {
                bench.turn(u64::from(2 * crate::limits::MSL_MS) + 1000);
                return "";
            }
            _ => {}
        }
        let mut calls = bench.shard.calls(bench.now);
        let Some(handle) = self.handle else {
            assert!(event == "CLOSE" && calls.stop_listening(crate::ids::ListenerId(0)), "{event} of a listener");
            return "";
        };
        let called = match event {
            "SEND of 10 octets" => calls.send(handle, b"0123456789").map(drop),
            "RECEIVE of 1 octet" => calls.consume(handle, 1),
            "CLOSE" => calls.close(handle),
            "shut-down of our direction" => calls.shutdown_write(handle),
            "ABORT" => calls.abort(handle),
            "STATUS" => calls.info(handle).map(drop),
            _ => panic!("{event} is not known here"),
        };
        match called {
            Ok(()) => "",
            Err(CallError::Stale) => "error: no such connection",
            Err(CallError::TooMuchConsumed { unread: 0, .. }) => "error: nothing to receive",
            Err(error) => panic!("{event}: {error}"),
        }
    }

    /// "Port unreachable", about a segment that the shard may have sent.
    fn icmp_error(&mut self) -> &'static str {
        let Bench { shard, tuple, now, ack, .. } = &mut self.bench;
        let quoted = Quoted {
            src: tuple.remote(),
            dst: tuple.local(),
            src_port: tuple.remote_port,
            dst_port: tuple.local_port,
            seq: *ack,
        };
        let kind = ErrorKind::Unreachable { code: 3 };
        let before = shard.counters().icmp_unmatched;
        icmp::arrives(&mut shard.core, &Error { kind, src_mac: MACS[0], from: tuple.local(), quoted }, *now);
        if shard.counters().icmp_unmatched == before + 1 { "ignored" } else { "" }
    }

    /// The state, as it shows: of a record, or by the answer to a SYN from another port.
    fn next(&mut self) -> &'static str {
        let Bench { shard, tuple, .. } = &mut self.bench;
        if shard.time_wait_live() > 0 {
            return "TIME-WAIT";
        }
        let states = shard.core.connections.iter().map(|(_, connection)| connection.tcb.state);
        if let Some(state) = { states }.find(|state| *state != State::Closed) {
            return state.name();
        }
        tuple.local_port += 1;
        let answers = self.bench.exchange(&self.bench.next(Flags::SYN), &[]);
        match answers.iter().map(|heard| heard.seg.flags).collect::<Vec<_>>()[..] {
            [SYN_ACK] => "LISTEN",
            [flags] if flags.rst() => "CLOSED",
            _ => panic!("{answers:?}"),
        }
    }
}

/// The shard opens a connection to the peer: SYN-SENT.
fn connect(bench: &mut Bench) -> Handle {
    let (peer, own) = (bench.tuple.local(), bench.tuple.remote());
    let remote = SocketAddr::new(peer, 80);
    let handle = bench.shard.calls(bench.now).connect(remote, &ConnectOptions::default()).expect("a port");
    let port = bench.shard.calls(bench.now).four_tuple(handle).expect("open").local_port;
    bench.tuple = FourTuple::new(peer, 80, own, port);
    // It has to ask for the MAC.
    assert!(bench.turn(1).is_empty());
    bench.shard.learn_neighbor(0, peer, MACS[0], bench.now);
    let heard = bench.turn(1);
    assert_eq!(heard.iter().map(|heard| heard.seg.flags).collect::<Vec<_>>(), [Flags::SYN]);
    handle
}

fn rows_with_a_star() -> Vec<Row> {
    let mut state = "";
    let mut rows = Vec::new();
    for line in include_str!("../../../docs/states.md").lines() {
        state = line.strip_prefix("## ").unwrap_or(state);
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, event, next, sent, otherwise, _] = cells[..]
            && let Some(event) = event.strip_suffix(" *")
        {
            rows.push(Row { state, event, next, sent, otherwise });
        }
    }
    rows
}
