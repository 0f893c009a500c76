//! Options of connections: sets that they share, and what of them shows on the wire.

use super::*;
use crate::api::{CallError, ConnectError, ConnectionOptions, Keepalive, ListenError, ListenOptions, OptionsError};
use crate::four_tuple::FourTuple;
use crate::ids::ListenerId;
use crate::link::Frame;
use crate::seq::Seq;
use crate::tcp::cookie::SynCookies;
use crate::wire::tcp::{Flags, Options, SackBlocks, Segment, SegmentOut};
use crate::wire::{self, Expect, Parsed, Path};
use core::time::Duration;

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);

/// Notes what it is told, and does nothing by itself.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) handle: Option<Handle>,
    pub(super) events: Vec<&'static str>,
    pub(super) reason: Option<CloseReason>,
}

impl Application for Notes {
    fn on_event(&mut self, _: &mut Calls<'_>, event: Event<'_>) {
        let (name, handle) = match event {
            Event::Accepted { handle, .. } => ("accepted", handle),
            Event::Connected { handle } => ("connected", handle),
            Event::Readable { handle, .. } => ("readable", handle),
            Event::Writable { handle } => ("writable", handle),
            Event::PeerClosed { handle } => ("peer closed", handle),
            Event::Stalled { handle } => ("stalled", handle),
            Event::Urgent { handle } => ("urgent", handle),
            Event::SpliceEnded { .. } | Event::Timer { .. } => panic!("nothing is spliced, no timer runs"),
            Event::Closed { handle, reason } => {
                self.reason = Some(reason);
                ("closed", handle)
            }
        };
        self.events.push(name);
        self.handle = (name != "closed").then_some(handle);
    }
}

/// A segment as it came off the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub(super) seg: Segment,
    sack: SackBlocks,
    dscp: u8,
    ttl: u8,
}

/// A shard, and a peer that is played by hand: it knows where both directions are.
pub(super) struct Bench {
    link: MemoryLink,
    pub(super) shard: Shard<MemoryLink, Notes>,
    pub(super) now: Now,
    /// As the peer sees it.
    pub(super) tuple: FourTuple,
    /// What the peer sends next, and what it expects next.
    pub(super) seq: Seq,
    pub(super) ack: Seq,
}

impl Bench {
    pub(super) fn new(settings: Settings, v6: bool) -> Bench {
        Bench::with_limits(settings, v6, Setup::default().limits)
    }

    pub(super) fn with_limits(settings: Settings, v6: bool, limits: Limits) -> Bench {
        let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
        let (link, theirs) = pair(MemoryConfig::default(), macs);
        let (here, there) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
        let [here, there] = [here, there].map(|text| text.parse::<IpAddr>().expect("an address"));
        let config = ShardConfig {
            limits,
            addresses: vec![LocalAddress { address: there, prefix_len: 24 }],
            settings: Settings { timestamps: false, ..settings },
            ..ShardConfig::seeded(2)
        };
        let now = Now::from_ms(5_000);
        let shard = Shard::new(theirs, Notes::default(), config, now).expect("a shard");
        Bench { link, shard, now, tuple: FourTuple::new(here, 40_000, there, 80), seq: Seq(1000), ack: Seq(0) }
    }

    /// With a connection that a listener with these options has accepted.
    pub(super) fn accepted(connection: ConnectionOptions) -> Bench {
        let mut bench = Bench::new(Settings::default(), false);
        bench.listen(connection).expect("a listener");
        bench.open();
        bench
    }

    pub(super) fn listen(&mut self, connection: ConnectionOptions) -> Result<ListenerId, ListenError> {
        let at = self.tuple.remote();
        self.shard.calls(self.now).listen_with(at, 80, &ListenOptions { connection, ..ListenOptions::default() })
    }

    /// The peer's handshake; returns the SYN-ACK.
    pub(super) fn open(&mut self) -> Heard {
        let options = Options { mss: Some(1460), ..Options::default() };
        let syn_ack = self.exchange(&Segment { flags: Flags::SYN, options, ..self.next(Flags::SYN) }, &[]);
        assert_eq!(syn_ack.iter().map(|heard| heard.seg.flags).collect::<Vec<_>>(), [SYN_ACK]);
        self.seq += 1;
        self.ack = syn_ack[0].seg.seq + 1;
        assert!(self.exchange(&self.next(Flags::ACK), &[]).is_empty());
        syn_ack[0]
    }

    /// The shard opens, to the peer's port; returns its SYN.
    pub(super) fn connect(&mut self, connection: ConnectionOptions) -> Vec<Heard> {
        let local_port = Some(self.tuple.remote_port);
        let options = ConnectOptions { connection, local_port, ..ConnectOptions::default() };
        let remote = SocketAddr::new(self.tuple.local(), self.tuple.local_port);
        self.shard.calls(self.now).connect(remote, &options).expect("a connection");
        self.neighbor_answers();
        let syn = self.turn(1);
        self.ack = syn[0].seg.end();
        syn
    }

    /// The peer's host says where it is.
    pub(super) fn neighbor_answers(&mut self) {
        self.shard.core.learn(0, self.tuple.local(), self.link.mac(), crate::neighbor::Heard::Answer, self.now);
    }

    /// What the peer says next.
    pub(super) fn next(&self, flags: Flags) -> Segment {
        Segment { seq: self.seq, ack: self.ack, wnd: 50_000, flags, ..Segment::default() }
    }

    /// The peer sends one segment and hears the answers.
    pub(super) fn exchange(&mut self, seg: &Segment, text: &[u8]) -> Vec<Heard> {
        self.exchange_changed(seg, text, |_| {})
    }

    /// The same with something done to the frame.
    pub(super) fn exchange_changed(
        &mut self,
        seg: &Segment,
        text: &[u8],
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<Heard> {
        let mut frame: Frame = self.link.take().expect("a free frame");
        let (src_mac, dst_mac) = (self.link.mac(), MacAddress([2, 0, 0, 0, 0, 2]));
        let path = Path { src_mac, dst_mac, vlan: None, addresses: self.tuple.addresses, ttl: 64, dscp_ecn: 0 };
        let (src_port, dst_port) = (self.tuple.local_port, self.tuple.remote_port);
        let Segment { seq, ack, wnd, up, flags, options, .. } = seg;
        let out = SegmentOut {
            src_port,
            dst_port,
            seq: *seq,
            ack: *ack,
            wnd: *wnd,
            up: *up,
            flags: *flags,
            options,
            sack: &[],
        };
        let mut bytes = vec![0; self.link.frame_bytes_max()];
        let len = wire::tcp::emit(&mut bytes, &path, &out, &[text, &[]]);
        bytes.truncate(len);
        change(&mut bytes);
        self.link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(&bytes);
        self.link.send(frame, bytes.len()).expect("room to send");
        self.link.flush();
        self.turn(1)
    }

    /// One turn, `ms` later; what the peer hears.
    pub(super) fn turn(&mut self, ms: u64) -> Vec<Heard> {
        self.now = self.now.plus_ms(ms);
        self.shard.turn(self.now);
        let mut frames = Vec::with_capacity(256);
        self.link.receive(&mut frames, 256);
        let expect = Expect { mac: self.link.mac(), mtu: 1500, vlan: None, verify_checksums: true };
        let mut heard = Vec::new();
        for frame in frames {
            let bytes = self.link.bytes(&frame);
            if let Ok(Parsed::Tcp(packet)) = wire::parse(bytes, &expect) {
                let ttl = if packet.tuple.is_v4() { bytes[14 + 8] } else { bytes[14 + 7] };
                let sack = packet.segment.sack_blocks(bytes);
                heard.push(Heard { seg: packet.segment, sack, dscp: packet.dscp_ecn >> 2, ttl });
            }
            self.link.give_back(frame);
        }
        heard
    }

    /// The shard closes, then the peer: the shard's end is in TIME-WAIT. The peer's FIN, whose ACK it has not heard.
    pub(super) fn end_in_time_wait(&mut self) -> Segment {
        let handle = self.handle();
        self.shard.calls(self.now).close(handle).expect("open");
        let fin = self.turn(1);
        assert!(fin.len() == 1 && fin[0].seg.flags.fin(), "{fin:?}");
        self.ack = fin[0].seg.end();
        let fin = self.next(Flags(Flags::FIN.0 | Flags::ACK.0));
        assert_eq!(self.exchange(&fin, &[]).len(), 1);
        self.seq += 1;
        fin
    }

    pub(super) fn handle(&self) -> Handle {
        self.shard.application().handle.expect("a connection")
    }
}

fn marked() -> ConnectionOptions {
    ConnectionOptions { dscp: 46, ttl: 3, ..ConnectionOptions::default() }
}

#[track_caller]
fn assert_marks(heard: &[Heard], options: ConnectionOptions) {
    assert!(!heard.is_empty());
    for one in heard {
        assert_eq!((one.dscp, one.ttl), (options.dscp, options.ttl), "{one:?}");
    }
}

/// Shows SHLD-21, SHLD-22.
#[test]
fn must_48_must_49_dscp_and_ttl_are_on_all_that_an_accepted_connection_sends() {
    for (v6, syn_cookies) in [(false, SynCookies::Off), (true, SynCookies::Off), (false, SynCookies::Always)] {
        let mut bench = Bench::new(Settings { syn_cookies, ..Settings::default() }, v6);
        bench.listen(marked()).expect("a listener");
        assert_marks(&[bench.open()], marked());
        let handle = bench.handle();
        bench.shard.calls(bench.now).send(handle, b"hello").expect("open");
        assert_marks(&bench.turn(0), marked());
        bench.ack += 5;
        // SHLD-22: changed while the connection is open.
        let changed = ConnectionOptions { dscp: 10, ttl: 200, ..marked() };
        bench.shard.calls(bench.now).set_options(handle, &changed).expect("live");
        bench.exchange(&bench.next(Flags::ACK), b"text");
        bench.seq += 4;
        assert_marks(&bench.turn(100), changed);
        bench.shard.calls(bench.now).abort(handle).expect("live");
        assert_marks(&bench.turn(0), changed);
        // What belongs to no connection has the defaults.
        let stray = Segment { seq: Seq(9), ack: Seq(9), ..bench.next(Flags::ACK) };
        bench.shard.calls(bench.now).stop_listening(ListenerId(0));
        assert_marks(&bench.exchange(&stray, &[]), ConnectionOptions::default());
        bench.turn(1);
        assert_shard_clean(&bench.shard);
    }
}

#[test]
fn must_48_must_49_dscp_and_ttl_are_on_the_syn_and_the_last_ack_of_an_active_open() {
    let mut bench = Bench::new(Settings::default(), false);
    assert_marks(&bench.connect(marked()), marked());
    assert_marks(&bench.exchange(&bench.next(SYN_ACK), &[]), marked());
    bench.seq += 1;
    let handle = bench.handle();
    bench.shard.calls(bench.now).close(handle).expect("open");
    assert_marks(&bench.turn(1), marked());
    bench.ack += 1;
    // The ACK of the FIN leaves when there is no TCB any more.
    assert_marks(&bench.exchange(&bench.next(Flags(Flags::FIN.0 | Flags::ACK.0)), &[]), marked());
    assert_eq!(bench.shard.application().reason, Some(CloseReason::Graceful));
    assert_shard_clean(&bench.shard);
}

#[test]
fn mss_max_is_offered_and_sent_with_and_without_cookies() {
    for syn_cookies in [SynCookies::Off, SynCookies::Always] {
        let mut bench = Bench::new(Settings { syn_cookies, ..Settings::default() }, false);
        bench
            .listen(ConnectionOptions { mss_max: Some(1000), no_delay: true, ..ConnectionOptions::default() })
            .expect("a listener");
        assert_eq!(bench.open().seg.options.mss, Some(1000));
        let handle = bench.handle();
        bench.shard.calls(bench.now).send(handle, &[7; 4000]).expect("open");
        let lens: Vec<_> = bench.turn(0).iter().map(|heard| heard.seg.payload_len).collect();
        assert!(lens.iter().all(|len| *len <= 1000) && lens.iter().sum::<u16>() == 4000, "{lens:?}");
    }
}

#[test]
fn must_17_no_delay_set_on_a_live_connection_releases_what_nagle_held() {
    let mut bench = Bench::accepted(ConnectionOptions::default());
    let handle = bench.handle();
    for _ in 0..2 {
        bench.shard.calls(bench.now).send(handle, b"small").expect("open");
    }
    bench.shard.calls(bench.now).send(handle, b"er").expect("open");
    assert_eq!(bench.turn(0).len(), 1, "the first goes alone");
    bench.shard.calls(bench.now).send(handle, b"late").expect("open");
    assert!(bench.turn(0).is_empty(), "Nagle holds it back");
    bench.shard.calls(bench.now).set_no_delay(handle, true).expect("live");
    assert_eq!(bench.turn(0).len(), 1);
    assert_eq!(bench.shard.calls(bench.now).options(handle).map(|options| options.no_delay), Ok(true));
}

#[test]
fn a_full_table_of_options_is_a_typed_error_and_sets_are_used_again() {
    let mut bench = Bench::new(Settings::default(), false);
    let remote = SocketAddr::new(bench.tuple.local(), bench.tuple.local_port);
    let with = |ms| ConnectOptions {
        connection: ConnectionOptions { user_timeout: Some(Duration::from_millis(ms)), ..ConnectionOptions::default() },
        ..ConnectOptions::default()
    };
    let mut calls = bench.shard.calls(bench.now);
    for ms in 1..=255 {
        calls.connect(remote, &with(ms)).expect("a connection");
    }
    let full = OptionsError::TooMany(256);
    assert_eq!(calls.connect(remote, &with(256)), Err(ConnectError::Options(full)));
    let at = "10.0.0.2".parse().expect("an address");
    let listen = ListenOptions { connection: with(256).connection, ..ListenOptions::default() };
    assert_eq!(calls.listen_with(at, 81, &listen), Err(ListenError::Options(full)));
    let shared = calls.connect(remote, &with(255)).expect("an equal set needs no new one");
    assert_eq!(calls.set_options(shared, &with(256).connection), Err(CallError::Options(full)));
    assert_eq!(calls.options(shared), Ok(&with(255).connection), "refused options change nothing");
    assert_eq!(calls.set_options(shared, &with(1).connection), Ok(()));
    let wrong = ConnectionOptions { ttl: 0, ..ConnectionOptions::default() };
    assert_eq!(calls.set_options(shared, &wrong), Err(CallError::Options(OptionsError::Ttl)));
    let wrong = ConnectOptions { connection: wrong, ..ConnectOptions::default() };
    assert_eq!(calls.connect(remote, &wrong), Err(ConnectError::Options(OptionsError::Ttl)));
    bench.shard.abort_all(bench.now);
    bench.turn(1);
    bench.shard.calls(bench.now).connect(remote, &with(256)).expect("sets are free again");
    assert_eq!(bench.shard.core.options.in_use(), 2);
}

/// Shows MUST-32, MUST-33.
#[test]
fn status_says_what_is_queued_unread_and_agreed() {
    let mut bench = Bench::accepted(ConnectionOptions::default());
    let handle = bench.handle();
    bench.shard.calls(bench.now).send(handle, &[7; 100]).expect("open");
    bench.exchange(&Segment { up: 9, ..bench.next(Flags::ACK | Flags::URG) }, b"hello");
    let info = bench.shard.calls(bench.now).info(handle).expect("live");
    assert_eq!((info.queued, info.unacked, info.unread, info.urgent, info.has_unsent), (100, 100, 5, 9, false));
    assert_eq!((info.snd_mss, info.snd_wnd, info.timestamps, info.window_scale), (1460, 50_000, false, None));
    assert_eq!(bench.shard.application().events, ["accepted", "readable", "urgent"]);
}

#[test]
fn b24_silent_peer_is_probed_and_ended_with_a_reset_by_the_listeners_options() {
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 2 };
    let mut bench = Bench::accepted(ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() });
    let mut heard = Vec::new();
    for _ in 0..25 {
        heard.extend(bench.turn(1000).iter().map(|one| one.seg.flags));
    }
    assert_eq!(heard, [Flags::ACK, Flags::ACK, Flags::RST | Flags::ACK]);
    assert_eq!(bench.shard.application().reason, Some(CloseReason::TimedOut));
    let counters = bench.shard.counters();
    assert_eq!((counters.keepalive_probes, counters.keepalive_timeouts), (2, 1));
    bench.shard.calls(bench.now).stop_listening(ListenerId(0));
    assert_shard_clean(&bench.shard);
}

#[test]
fn must_20_r1_is_told_to_the_application_and_the_next_hop_is_asked_for() {
    let mut bench = Bench::accepted(ConnectionOptions { retries1: 1, ..ConnectionOptions::default() });
    let handle = bench.handle();
    bench.shard.calls(bench.now).send(handle, b"hello").expect("open");
    let before = bench.shard.counters().neighbor_questions;
    for _ in 0..32 {
        bench.turn(100);
    }
    assert_eq!(bench.shard.application().events, ["accepted", "stalled"]);
    assert!(bench.shard.counters().stalled == 1 && bench.shard.counters().neighbor_questions > before);
}

#[test]
fn must_22_r1_of_a_syn_is_told_to_the_application_and_the_next_hop_is_asked_for() {
    let connection = ConnectionOptions { retries1: 2, ..ConnectionOptions::default() };
    let mut opening = Bench::new(Settings::default(), false);
    opening.connect(connection);
    // Half open there is no application yet: the next hop is asked for all the same.
    let mut half_open = Bench::new(Settings::default(), false);
    half_open.listen(connection).expect("a listener");
    assert_eq!(half_open.exchange(&half_open.next(Flags::SYN), &[]).len(), 1);
    for (mut bench, again, told) in [(opening, Flags::SYN, vec!["stalled"]), (half_open, SYN_ACK, vec![])] {
        let before = bench.shard.counters().neighbor_questions;
        let mut seconds = |count: u64| -> Vec<Flags> {
            (0..count * 10).flat_map(|_| bench.turn(100)).map(|heard| heard.seg.flags).collect()
        };
        // Sent again after 1 s, then after 2 s, which is R1.
        assert_eq!(seconds(2), [again]);
        let counters = bench.shard.counters();
        assert_eq!((counters.stalled, counters.neighbor_questions), (0, before));
        assert_eq!(bench.shard.application().events, [""; 0]);
        assert_eq!((0..15).flat_map(|_| bench.turn(100)).count(), 1);
        let counters = bench.shard.counters();
        assert_eq!((counters.stalled, bench.shard.application().events.clone()), (1, told.clone()));
        assert!(counters.neighbor_questions > before, "{again:?}: the next hop is asked for");
        bench.neighbor_answers();
        for _ in 0..200 {
            bench.turn(100);
        }
        assert_eq!((bench.shard.counters().stalled, &bench.shard.application().events), (1, &told), "once");
    }
}

#[test]
fn options_of_a_connection_that_has_ended_are_an_error_and_start_no_timer() {
    let keepalive = Some(Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 2 });
    let options = ConnectionOptions { keepalive, ..ConnectionOptions::default() };
    let mut bench = Bench::accepted(options);
    let handle = bench.handle();
    // Bytes that nobody takes keep the record of the connection that a RST ends.
    bench.exchange(&bench.next(Flags::ACK), b"unread");
    bench.seq += 6;
    bench.exchange(&bench.next(Flags::RST), &[]);
    assert!(bench.shard.calls(bench.now).set_no_delay(handle, true).is_err());
    assert!(bench.shard.core.wheel.is_empty(), "no timer of a connection that has ended");
}

#[test]
fn b25_a_user_timeout_runs_for_what_no_tx_frame_has_taken_yet() {
    let mut bench = Bench::accepted(ConnectionOptions {
        user_timeout: Some(Duration::from_secs(3)),
        ..ConnectionOptions::default()
    });
    // Nothing of the handshake is left on the wheel.
    (0..50).for_each(|_| assert!(bench.turn(100).is_empty()));
    let link = bench.shard.link_mut();
    let taken: Vec<Frame> = core::iter::from_fn(|| link.take()).collect();
    let handle = bench.handle();
    bench.shard.calls(bench.now).send(handle, b"stays here").expect("open");
    for _ in 0..32 {
        bench.turn(100);
    }
    assert_eq!(bench.shard.application().reason, Some(CloseReason::TimedOut));
    let link = bench.shard.link_mut();
    taken.into_iter().for_each(|frame| link.give_back(frame));
    let heard = bench.turn(1);
    assert!(heard.len() == 1 && heard[0].seg.flags.has(Flags::RST), "{heard:?}");
}

/// Shows RFC 2883.
#[test]
fn b20_octets_that_come_twice_are_told_by_the_first_sack_block_of_one_ack() {
    let mut bench = Bench::new(Settings::default(), false);
    bench.listen(ConnectionOptions::default()).expect("a listener");
    let options = Options { mss: Some(1460), sack_permitted: true, ..Options::default() };
    bench.ack = bench.exchange(&Segment { options, ..bench.next(Flags::SYN) }, &[])[0].seg.seq + 1;
    bench.seq += 1;
    assert!(bench.exchange(&bench.next(Flags::ACK), &[]).is_empty());
    let start = bench.seq;
    let at = |bench: &Bench, from: u32| Segment { seq: start + from, ..bench.next(Flags::ACK) };
    let blocks = |heard: &[Heard]| -> Vec<(u32, Vec<(u32, u32)>)> {
        let told =
            |one: &Heard| one.sack.as_slice().iter().map(|(left, right)| (*left - start, *right - start)).collect();
        heard.iter().map(|one| (one.seg.ack - start, told(one))).collect()
    };
    let mut come = |from, text: &[u8]| {
        let at_once = bench.exchange(&at(&bench, from), text);
        blocks(&if at_once.is_empty() { bench.turn(100) } else { at_once })
    };
    assert_eq!(come(0, b"abc"), [(3, vec![])]);
    assert_eq!(come(0, b"abc"), [(3, vec![(0, 3)])], "all of it below the acknowledgment");
    assert_eq!(come(1, b"bcdef"), [(6, vec![(1, 3)])], "as much as came twice");
    assert_eq!(come(6, b"ghi"), [(9, vec![])], "once");
    assert_eq!(come(20, b"xyz"), [(9, vec![(20, 23)])]);
    assert_eq!(come(20, b"xyz"), [(9, vec![(20, 23), (20, 23)])], "beyond it, with the block around it");
    assert_eq!(come(30, b"u"), [(9, vec![(30, 31), (20, 23)])]);
    assert_eq!(come(2, b"c"), [(9, vec![(2, 3), (30, 31), (20, 23)])], "below it, before what is news");
}
