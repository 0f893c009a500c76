//! `synfin connect`.

use super::arguments::{Connect, PassiveOpens};
use super::output::{self, say};
use super::session::{self, Session};
use super::{Exit, Failure};
use crate::api::{Application, CloseReason, ConnectError, ConnectOptions, ConnectionOptions, Event, ListenError};
use crate::ids::Handle;
use crate::shard::Calls;
use crate::stack::{Service, SharedPorts};
use crate::tick::Now;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

pub(super) fn run(connect: &Connect) -> Result<(), Failure> {
    check(connect)?;
    let shards = session::shards(&connect.common)?;
    let (ended, ends) = channel();
    let client = Client::new(connect, shards, ended);
    let ports = SharedPorts { opens: true, ..SharedPorts::default() };
    let mut session =
        Session::start(&connect.common, PassiveOpens::default(), ports, move |shard| client.of_shard(shard as u32))?;
    let mut totals = Totals::default();
    let json = connect.common.json;
    let finished = session.wait(Some(Duration::from_secs(connect.timeout.into())), || totals.print(&ends, json));
    if !finished {
        output::hurry();
    }
    session.end(if finished { Duration::ZERO } else { GRACE })?;
    totals.print_all(&ends, json);
    let Totals { graceful, others, refused } = totals;
    let missing = connect.count - graceful - others;
    if json {
        say(&json!({"graceful": graceful, "otherwise": others, "not_ended": missing}).to_string());
    } else {
        say(&format!("{graceful} graceful, {others} otherwise, {missing} not ended"));
    }
    if let Some(error) = refused {
        return Err(Failure::new(Exit::Failed, format!("connect {}: {error}", connect.remote)));
    }
    if graceful == connect.count {
        return Ok(());
    }
    let message = format!(
        "connect {}: {} of {} connections did not end gracefully; see their lines",
        connect.remote,
        others + missing,
        connect.count
    );
    Err(Failure::new(Exit::Failed, message))
}

/// A rate that cannot be kept within the time is told before anything is opened.
fn check(connect: &Connect) -> Result<(), Failure> {
    let Some(rate) = connect.rate else { return Ok(()) };
    let takes_s = f64::from(connect.count - 1) / rate;
    if takes_s < f64::from(connect.timeout) {
        return Ok(());
    }
    let (count, timeout) = (connect.count, connect.timeout);
    let message =
        format!("--rate {rate}: the last of {count} connections begins after {takes_s:.0} s, --timeout is {timeout} s");
    Err(Failure::new(Exit::Usage, format!("{message}; give a longer one, or fewer connections")))
}

/// What the shard tells the printing thread.
enum End {
    /// A connection ended.
    Connection { number: u32, reason: CloseReason, received: Vec<u8> },
    /// No more connections can be opened.
    Refused(ConnectError),
}

#[derive(Default)]
struct Totals {
    graceful: u32,
    others: u32,
    refused: Option<ConnectError>,
}

impl Totals {
    /// Prints what has ended, as far as there is room.
    fn print(&mut self, ends: &Receiver<End>, json: bool) {
        while output::has_room()
            && let Ok(end) = ends.try_recv()
        {
            self.take(end, json);
        }
    }

    /// Prints what has ended; waits for a reader that is slow, but not again for one that was given up.
    fn print_all(&mut self, ends: &Receiver<End>, json: bool) {
        let mut reads = true;
        for end in ends.try_iter() {
            if reads && !output::has_room() {
                output::finish();
                reads = output::has_room();
            }
            self.take(end, json);
        }
    }

    fn take(&mut self, end: End, json: bool) {
        match end {
            End::Connection { number, reason, received } => {
                let graceful = reason == CloseReason::Graceful;
                *(if graceful { &mut self.graceful } else { &mut self.others }) += 1;
                say(&describe(number, reason, &received, json));
            }
            End::Refused(error) => self.refused = Some(error),
        }
    }
}

fn describe(number: u32, reason: CloseReason, received: &[u8], json: bool) -> String {
    let (reason, count) = (reason.name(), received.len());
    let text = String::from_utf8_lossy(received);
    if json {
        json!({"connection": number, "ended": reason, "bytes": count, "received": text}).to_string()
    } else {
        format!("{number}: {reason}, {count} bytes {text:?}")
    }
}

/// Opens connections a few at a time, or at a rate, sends the text on each, and keeps what comes back.
#[derive(Clone)]
struct Client {
    remote: SocketAddr,
    text: Vec<u8>,
    /// Connections of all shards together; this one opens every so many-th, from its own number on.
    total: u32,
    shards: u32,
    shard: u32,
    /// Connections that this shard opens, and how many at a time.
    count: u32,
    parallel: u32,
    /// Of all shards together, per second; `None` opens as others end.
    rate: Option<f64>,
    /// When the first of all shards was due, with a rate.
    began: Option<Now>,
    /// A timer runs until the next is due.
    waits: bool,
    opened: u32,
    options: ConnectionOptions,
    /// Own addresses of the remote's IP version: the sources, one after the other, where there are several.
    sources: Vec<IpAddr>,
    live: u32,
    refused: bool,
    /// By number of the connection: text sent so far, text received.
    exchanges: Vec<(usize, Vec<u8>)>,
    ended: Sender<End>,
}

impl Client {
    /// What every shard's client is made from, by [`Client::of_shard`].
    fn new(connect: &Connect, shards: u32, ended: Sender<End>) -> Client {
        Client {
            remote: connect.remote,
            text: connect.send.clone().into_bytes(),
            total: connect.count,
            shards,
            shard: 0,
            count: 0,
            parallel: connect.parallel.div_ceil(shards),
            rate: connect.rate,
            began: None,
            waits: false,
            opened: 0,
            options: connect.common.options.get(),
            sources: sources(connect),
            live: 0,
            refused: false,
            exchanges: Vec::new(),
            ended,
        }
    }

    /// The same for another shard, with its part of the connections.
    fn of_shard(&self, shard: u32) -> Client {
        Client { shard, count: self.total.saturating_sub(shard).div_ceil(self.shards), ..self.clone() }
    }

    /// How long until the next connection is due; `None` if it is.
    fn due_in(&mut self, now: Now) -> Option<Duration> {
        let rate = self.rate?;
        // Those of all shards in turn.
        let number = u64::from(self.opened) * u64::from(self.shards) + u64::from(self.shard);
        let at_us = self.began.get_or_insert(now).us() + (number as f64 * 1e6 / rate) as u64;
        let left_us = at_us.saturating_sub(now.us());
        (left_us > 0).then(|| Duration::from_micros(left_us))
    }

    fn send_rest(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let Some((sent, _)) = exchange(&mut self.exchanges, calls, handle) else { return };
        let Ok(taken) = calls.send(handle, &self.text[*sent..]) else { return };
        *sent += taken;
        if *sent == self.text.len() {
            // Refused only when the connection has just ended; its Closed event follows.
            let _ = calls.shutdown_write(handle);
        }
    }
}

impl Service for Client {
    fn start(&mut self, _calls: &mut Calls<'_>) -> Result<(), ListenError> {
        Ok(())
    }

    fn drain(&mut self, _calls: &mut Calls<'_>) {
        self.count = self.opened;
    }

    fn is_done(&self) -> bool {
        self.live == 0 && (self.refused || self.opened == self.count)
    }
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } | Event::Writable { handle } => self.send_rest(calls, handle),
            Event::Readable { handle, bytes } => {
                if let Some((_, received)) = exchange(&mut self.exchanges, calls, handle) {
                    let room = RECEIVED_BYTES_MAX - received.len();
                    received.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                // Refused only when the connection has just ended.
                let _ = calls.consume(handle, bytes.len());
            }
            Event::Closed { handle, reason } => {
                self.live -= 1;
                let number = calls.user(handle).unwrap_or_default() as u32;
                let received =
                    exchange(&mut self.exchanges, calls, handle).map(|(_, received)| std::mem::take(received));
                let received = received.unwrap_or_default();
                // The printing thread lives as long as the session.
                let _ = self.ended.send(End::Connection {
                    number: number * self.shards + self.shard + 1,
                    reason,
                    received,
                });
            }
            Event::Accepted { .. }
            | Event::PeerClosed { .. }
            | Event::Stalled { .. }
            | Event::Urgent { .. }
            | Event::SpliceEnded { .. } => {}
            Event::Timer { .. } => self.waits = false,
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        for _ in 0..OPENS_PER_TURN {
            if self.refused || self.opened == self.count || self.live == self.parallel {
                return;
            }
            if let Some(left) = self.due_in(calls.now()) {
                // Without one it is looked again when a sleep ends, a tenth of a second later at most.
                self.waits = self.waits || calls.start_timer(left, 0).is_ok();
                return;
            }
            let source = (self.opened as usize).checked_rem(self.sources.len()).map(|at| self.sources[at]);
            let options = ConnectOptions {
                local_address: source,
                user: u64::from(self.opened),
                connection: self.options,
                ..ConnectOptions::default()
            };
            match calls.connect(self.remote, &options) {
                Ok(_) => {
                    self.exchanges.push((0, Vec::new()));
                    self.opened += 1;
                    self.live += 1;
                }
                // The quiet time passes by itself.
                Err(ConnectError::QuietTime(_)) => {
                    self.began = None;
                    return;
                }
                Err(error) => {
                    self.refused = true;
                    let _ = self.ended.send(End::Refused(error));
                }
            }
        }
    }
}

/// The own addresses from which the remote is reached; none where there is a single one, which the stack chooses by itself.
fn sources(connect: &Connect) -> Vec<IpAddr> {
    let sources = connect.common.interfaces.sources(connect.remote.ip());
    if sources.len() > 1 { sources } else { Vec::new() }
}

/// The record of the connection that `handle` names.
fn exchange<'a>(
    exchanges: &'a mut [(usize, Vec<u8>)],
    calls: &Calls<'_>,
    handle: Handle,
) -> Option<&'a mut (usize, Vec<u8>)> {
    calls.user(handle).ok().and_then(|number| exchanges.get_mut(number as usize))
}

/// Bytes kept of what came back on one connection; more is read and dropped.
const RECEIVED_BYTES_MAX: usize = 64 * 1024;

/// Connections opened per turn: more would make a turn long and a burst larger than the rings.
const OPENS_PER_TURN: u32 = 32;

/// How long connections that have not ended may take after the time-out.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::arguments::{Arguments, Command};
    use super::*;
    use crate::link::memory::{MemoryConfig, MemoryLink, pair};
    use crate::shard::{LocalAddress, Shard, ShardConfig};
    use crate::wire::ethernet::MacAddress;
    use clap::Parser;

    fn connect(more: &str) -> Connect {
        let line = format!("synfin connect 10.0.0.1:7 --interface v --address 10.0.0.2/24 {more}");
        match Arguments::try_parse_from(line.split_whitespace()).expect("parses").command {
            Command::Connect(connect) => connect,
            other => panic!("{other:?}"),
        }
    }

    /// A shard of the client, whose opens nobody answers, and the other end of its wire.
    fn shard(connect: &Connect, shards: u32, number: u32) -> (Shard<MemoryLink, Client>, MemoryLink) {
        let (link, peer) = pair(MemoryConfig::default(), [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last])));
        let config = ShardConfig {
            addresses: vec![LocalAddress { address: "10.0.0.2".parse().expect("an address"), prefix_len: 24 }],
            neighbor_timeout_s: 60,
            ..ShardConfig::seeded(0)
        };
        let client = Client::new(connect, shards, channel().0).of_shard(number);
        (Shard::new(link, client, config, Now::default()).expect("a shard"), peer)
    }

    /// What is open after so many ms, where a shard that may sleep does.
    fn opened(connect: &Connect, shards: u32, number: u32, after_ms: &[u64]) -> Vec<u32> {
        let (mut shard, _peer) = shard(connect, shards, number);
        let mut now = Now::default();
        let mut counts = Vec::new();
        for until_ms in after_ms {
            while now.us() < until_ms * 1000 {
                shard.turn(now);
                let next = shard.next_deadline(now).map_or(100, |at| ((at.us() - now.us()) / 1000).clamp(1, 100));
                now = now.plus_ms(next.min(until_ms - now.us() / 1000));
            }
            counts.push(shard.application().opened);
        }
        counts
    }

    #[test]
    fn open_loop_opens_at_its_rate_whatever_becomes_of_earlier_ones() {
        let (open, closed) = (connect("--rate 1000 --count 1500"), connect("--count 1500"));
        let counts = opened(&open, 1, 0, &[500, 1000, 2000]);
        // A timer is at most a granule late (8 ms) and a turn.
        assert!(
            (485..=501).contains(&counts[0]) && (985..=1001).contains(&counts[1]) && counts[2] == 1500,
            "{counts:?}"
        );
        assert_eq!(opened(&closed, 1, 0, &[1000]), [100], "the closed loop waits");
    }

    #[test]
    fn shards_take_turns_at_the_rate_of_all() {
        let connect = connect("--rate 10 --count 20");
        assert_eq!(opened(&connect, 2, 0, &[50, 150, 250, 1050]), [1, 1, 2, 6]);
        assert_eq!(opened(&connect, 2, 1, &[50, 150, 250, 1050]), [0, 1, 1, 5]);
    }

    #[test]
    fn rate_that_takes_longer_than_the_time_is_refused() {
        let refused = check(&connect("--rate 10 --count 602")).expect_err("60.1 s");
        assert!(refused.exit == Exit::Usage && refused.message.contains("after 60 s"), "{refused}");
        assert!(check(&connect("--rate 10 --count 600")).is_ok());
        assert!(check(&connect("--count 1000000")).is_ok());
    }
}
