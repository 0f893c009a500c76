//! A burst is the same frames one by one: what a burst of many leaves of every connection is what the same many leave in a turn each.
//!
//! Look-ups are made for a whole burst ahead, and an earlier frame may make them stale: a connection ends, goes to TIME-WAIT, opens anew.
//! Nothing of that may be seen. What may legally differ is taken out:
//!
//! - What is not TCP is treated first in a turn, so that it comes first one by one, too.
//! - Between turns the application acts, and its text, its FIN and the room that it makes change what the next frame meets. It holds still here,
//!   and pools and queues that only its turn empties (T03, T04, the accept queue) have room for everything.
//! - Between turns the stack speaks. How many ACKs it sends, and what it sends again, follows from when it is asked; whatever decides on a
//!   frame must not, with three exceptions that the RFCs make: see [`is_left_out`].
//! - An ACK that is still owed when the ACK of our FIN turns CLOSING into TIME-WAIT leaves as a stateless answer: its TCB is gone. One by one
//!   it has left from the TCB before. See [`outliving`].
//! - The stack has one source of random numbers, and each stateless answer draws from it. Where there are more or fewer of them, a connection
//!   that opens on a TIME-WAIT record has another ISS beyond the old one (B44). See [`View::forget_new_iss`].
//! - A path MTU that becomes smaller in the burst has what it made too large sent again, and that says where the window ends now. See
//!   [`View::forget_edges`].

use super::acts::burst;
use super::balance::parsed;
use super::*;
use alloc::format;
use alloc::string::String;

/// A world where nothing is short, and windows end where they were first offered until something is read.
fn roomy(settings: Settings) -> Hostile {
    let limits = Limits {
        tcbs_max: 128,
        time_wait_max: 64,
        chunks_max: 4096,
        neighbors_max: 16,
        burst: BURST_MAX,
        ..Limits::default()
    };
    let settings = Settings { receive_buffer_bytes: WINDOW, send_buffer_bytes: 32 * 1024, ..settings };
    Hostile::with(limits, settings)
}

/// What comparing came to.
#[derive(Default, Debug)]
struct Compared {
    connections: usize,
    left_out: usize,
    /// Bursts of which nothing was left out, so that all counters were compared.
    whole: usize,
    hints_stale: u64,
    /// ACKs that were owed when their connection went to TIME-WAIT.
    outlived: u64,
    /// What connections were in when a burst met them.
    met: BTreeSet<&'static str>,
}

impl Compared {
    /// Plays `acts` to two worlds, and then `burst` to one in a turn, to the other frame by frame.
    fn play(&mut self, acts: &[Act], burst: &[Act], settings: Settings) {
        let [mut many, mut one] = [roomy(settings), roomy(settings)];
        for world in [&mut many, &mut one] {
            acts.iter().for_each(|act| world.act(act));
            world.settle();
            world.stack.application_mut().holds = true;
        }
        let mut frames = many.frames_of(burst);
        frames.sort_by_key(|frame| matches!(parsed(frame), Ok(Parsed::Tcp(_))));
        let names = names(&frames);
        let before = View::of(&mut many, &names);
        assert_eq!(before, View::of(&mut one, &names), "the same acts do not come to the same");
        assert_eq!(counted_otherwise(&many, &one), [], "the same acts are not counted alike");
        let counters_before = *many.stack.counters();
        let sent_before: Vec<_> = names.iter().map(|name| many.snd_nxt(name)).collect();
        many.deliver_together(&frames);
        frames.iter().for_each(|frame| one.deliver(frame.clone()));
        let is_left_out = |(name, sent): (&FourTuple, &Option<Seq>)| {
            is_left_out(name, &frames, before.open.get(&ends(name)), [*sent, one.snd_nxt(name)])
        };
        let left_out: Vec<bool> = names.iter().zip(&sent_before).map(is_left_out).collect();
        self.hints_stale += many.stack.counters().hints_stale - counters_before.hints_stale;
        // Before questions about neighbours are answered: they are asked when something is sent.
        let mut counted = counted_otherwise(&many, &one);
        let outlived = outliving(&counters_before, &many, &one);
        counted.retain(|(name, ..)| *name != "answers_sent" || outlived.is_none());
        many.settle();
        one.settle();
        let mut after = [View::of(&mut many, &names), View::of(&mut one, &names)];
        let whole = !left_out.contains(&true);
        for view in &mut after {
            names.iter().zip(&left_out).filter(|(_, left_out)| **left_out).for_each(|(name, _)| view.forget(name));
            view.forget_edges(&before);
            if !whole || outlived != Some(0) {
                view.forget_new_iss(&before);
            }
        }
        assert_eq!(after[0], after[1], "left in one turn, right in {}", frames.len());
        if whole {
            self.whole += 1;
            assert_eq!(counted, [], "in one turn, and in {}", frames.len());
            self.outlived += outlived.unwrap_or(0);
        }
        assert_eq!(Vec::from_iter(many.stack.drops().iter()), Vec::from_iter(one.stack.drops().iter()));
        self.connections += names.len();
        self.left_out += left_out.iter().filter(|left_out| **left_out).count();
        self.met.extend(names.iter().map(|name| before.state(name)));
        for world in [&mut many, &mut one] {
            world.assert_whole();
            world.stack.application_mut().holds = false;
            world.end();
        }
    }
}

impl Hostile {
    fn snd_nxt(&self, name: &FourTuple) -> Option<Seq> {
        self.connection(name).map(|tcb| tcb.snd_nxt)
    }
}

/// Both ends of a connection, its own first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// All that must be the same, by connection.
#[derive(Clone, PartialEq, Eq, Debug)]
struct View {
    open: BTreeMap<Ends, Open>,
    time_wait: BTreeMap<Ends, String>,
    told: BTreeMap<Ends, Vec<Told>>,
    /// Text that waits for the application, of former incarnations, too.
    unread: BTreeMap<Ends, Vec<Vec<u8>>>,
}

/// All that must be the same of a live connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Open {
    state: State,
    rcv_nxt: Seq,
    /// Nothing lies in the window behind the peer's FIN, and where it ends says only when that was acknowledged.
    rcv_edge: Option<Seq>,
    rcv_up: Seq,
    ts_recent: u32,
    snd_una: Seq,
    snd_wnd: u32,
    snd_wl1: Seq,
    snd_wnd_max: u32,
    send_end: Seq,
    mss: u16,
}

impl View {
    /// What there is now; text that waits is taken, as the application would take it.
    fn of(world: &mut Hostile, names: &[FourTuple]) -> View {
        let unread = world.take_unread();
        world.settle();
        let mut told = world.stack.application().told.clone();
        // Which of two incarnations is told of first follows from when they are told.
        told.values_mut().for_each(|told| told.sort_by_key(|told| format!("{told:?}")));
        let open = names.iter().filter_map(|name| {
            let tcb = world.connection(name)?;
            let open = Open {
                state: tcb.state,
                rcv_nxt: tcb.rcv_nxt,
                rcv_edge: tcb.state.can_receive().then_some(tcb.rcv_edge),
                rcv_up: tcb.rcv_up,
                ts_recent: tcb.ts_recent,
                snd_una: tcb.snd_una,
                snd_wnd: tcb.snd_wnd,
                snd_wl1: tcb.snd_wl1,
                snd_wnd_max: tcb.snd_wnd_max,
                send_end: tcb.send_end,
                mss: tcb.mss,
            };
            Some((ends(name), open))
        });
        let open = open.collect();
        let core = &world.stack.core;
        let record = |name: &FourTuple| -> Option<(Ends, String)> {
            let value = core.index.find(core.index.hash(name), |value| core.is_record_of(value, name))?;
            Some((ends(name), format!("{:?}", core.time_wait_numbers(value)?)))
        };
        View { open, time_wait: names.iter().filter_map(record).collect(), told, unread }
    }

    fn forget(&mut self, name: &FourTuple) {
        let name = ends(name);
        self.open.remove(&name);
        self.time_wait.remove(&name);
        self.told.remove(&name);
        self.unread.remove(&name);
    }

    /// Of connections whose path MTU has become smaller, where the window ends.
    fn forget_edges(&mut self, before: &View) {
        for (ends, open) in &mut self.open {
            if before.open.get(ends).is_some_and(|before| open.mss < before.mss) {
                open.rcv_edge = None;
            }
        }
    }

    /// Of connections that have not been open before, the ISS.
    fn forget_new_iss(&mut self, before: &View) {
        for (ends, open) in self.open.iter_mut().filter(|(_, open)| open.state == State::SynReceived) {
            if before.open.get(ends).is_none_or(|before| open.snd_una != before.snd_una) {
                let iss = core::mem::replace(&mut open.snd_una, Seq(0));
                open.send_end = Seq(open.send_end - iss);
            }
        }
    }

    fn state(&self, name: &FourTuple) -> &'static str {
        match (self.open.get(&ends(name)), self.time_wait.contains_key(&ends(name))) {
            (Some(open), _) => open.state.name(),
            (None, true) => "TIME-WAIT",
            (None, false) => State::Closed.name(),
        }
    }
}

impl Hostile {
    fn take_unread(&mut self) -> BTreeMap<Ends, Vec<Vec<u8>>> {
        let core = &self.stack.core;
        let all = core.connections.iter().map(|(number, known)| (core.names[number].tuple, known.handle(number)));
        let all: Vec<_> = all.collect();
        let mut unread = BTreeMap::<Ends, Vec<Vec<u8>>>::new();
        let mut calls = self.stack.calls(self.now);
        for (name, handle) in all {
            let mut text = Vec::new();
            while let Some(bytes) = calls.received(handle).ok().filter(|bytes| !bytes.is_empty()) {
                text.extend_from_slice(bytes);
                let len = bytes.len();
                calls.consume(handle, len).expect("unread bytes can be taken");
            }
            if !text.is_empty() {
                unread.entry(ends(&name)).or_default().push(text);
            }
        }
        unread.values_mut().for_each(|texts| texts.sort());
        unread
    }
}

/// The connections that the frames name, each once.
fn names(frames: &[Vec<u8>]) -> Vec<FourTuple> {
    let mut names: Vec<FourTuple> = segments(frames).map(|(name, _)| name).collect();
    names.sort_by_key(ends);
    names.dedup();
    names
}

fn segments(frames: &[Vec<u8>]) -> impl Iterator<Item = (FourTuple, Segment)> {
    frames.iter().filter_map(|frame| match parsed(frame) {
        Ok(Parsed::Tcp(packet)) => Some((packet.tuple, packet.segment)),
        _ => None,
    })
}

pub(super) fn ends(name: &FourTuple) -> Ends {
    (SocketAddr::new(name.local(), name.local_port), SocketAddr::new(name.remote(), name.remote_port))
}

/// Whether what becomes of the connection may follow from what the stack says between two frames. The connection is as `before` a burst, and
/// `sent` is its SND.NXT then and, one by one, afterwards.
fn is_left_out(name: &FourTuple, frames: &[Vec<u8>], before: Option<&Open>, sent: [Option<Seq>; 2]) -> bool {
    let own = || segments(frames).filter(|(of, _)| of == name).map(|(_, segment)| segment);
    // An ACK guesses what the stack is about to send: it is one of nothing until that is sent.
    let guesses = match sent {
        [Some(before), Some(after)] => own().any(|seg| seg.flags.ack() && seg.ack.gt(before) && seg.ack.le(after)),
        [Some(before), None] => own().any(|seg| seg.flags.ack() && seg.ack.gt(before)),
        [None, _] => false,
    };
    // TS.Recent is taken from a segment that begins before what was last acknowledged (RFC 7323 4.3), and the next is judged by it.
    let clocks: BTreeSet<u32> =
        own().filter_map(|seg| seg.options.timestamps.map(|timestamps| timestamps.val)).collect();
    // A SYN opens where nothing is open yet, or no longer. What we have closed may end by an ACK, or by text that nobody reads.
    let is_open = before.is_some_and(|open| matches!(open.state, State::Established | State::CloseWait));
    let may_open = !is_open || own().any(|seg| seg.flags.rst() || seg.flags.fin());
    guesses || clocks.len() > 1 || (may_open && is_early(&own().collect::<Vec<_>>()))
}

/// Whether something comes behind a SYN that lies in a window which only the SYN-ACK offers.
fn is_early(own: &[Segment]) -> bool {
    own.iter().enumerate().filter(|(_, syn)| syn.flags.syn()).any(|(at, syn)| {
        let first = syn.seq + 1;
        own[at + 1..].iter().any(|seg| {
            let (begins, ends) = (seg.seq.0.wrapping_sub(first.0), seg.end().0.wrapping_sub(first.0));
            (begins < WINDOW || (1..=WINDOW).contains(&ends)) && (begins > 0 || !seg.is_empty())
        })
    })
}

/// Counters of what frames came to that differ: none of turns, of what is sent and when, and of what a look-up took.
fn counted_otherwise(many: &Hostile, one: &Hostile) -> Vec<(&'static str, u64, u64)> {
    let both = many.stack.counters().iter().zip(one.stack.counters().values());
    let differ = both.filter(|((name, many), one)| many != one && !OF_TURNS.contains(name));
    differ.map(|((name, many), one)| (name, many, one)).collect()
}

/// How many more stateless answers the burst in one turn got, if that is legal: at most one for each connection that went to TIME-WAIT.
fn outliving(before: &Counters, many: &Hostile, one: &Hostile) -> Option<u64> {
    let [many, one] = [many.stack.counters(), one.stack.counters()];
    let more = many.answers_sent.checked_sub(one.answers_sent)?;
    (more <= many.time_wait_created - before.time_wait_created).then_some(more)
}

/// Counters that follow from how many turns there are, and from what is sent in each.
const OF_TURNS: [&str; 13] = [
    "turns",
    "turns_idle",
    "frames_sent",
    "segments_sent",
    "retransmitted_syn",
    "retransmitted_data",
    "retransmitted_fin",
    "tail_probes",
    // One ACK may challenge many segments of a turn, and takes of its budget once.
    "challenge_acks",
    "challenge_acks_suppressed",
    "neighbor_questions",
    "neighbor_waits",
    "hints_stale",
];

fn settings(of: u8) -> Settings {
    let syn_cookies = [SynCookies::Always, SynCookies::Off, SynCookies::Auto][usize::from(of % 3)];
    Settings { syn_cookies, timestamps: of < 3, ..Settings::default() }
}

/// Acts of which some end where few come by chance: in CLOSING, for both ends have closed and the peer has acknowledged nothing, or in
/// FIN-WAIT-2, for it has only acknowledged.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    let closing = proptest::option::weighted(0.4, (0..PORTS, any::<bool>(), any::<bool>()));
    (proptest::collection::vec(act(), 0..50), closing).prop_map(|(mut acts, closing)| {
        if let Some((port, v6, both)) = closing {
            let flags = if both { Flags::FIN.0 | Flags::ACK.0 } else { Flags::ACK.0 };
            let last = Sent { port, v6, flags, as_agreed: true, withholds: both, wnd: 60_000, ..Sent::default() };
            let shut = Act::Call { port, v6, call: Call::ShutDown };
            acts.extend([Act::Open { port, v6, options: 0 }, shut, Act::Segment(last)]);
        }
        acts
    })
}

/// B20, B35: in CLOSING a SYN is challenged, and behind it in the burst our FIN is acknowledged. The ACK is owed still, and leaves though its
/// TCB is gone; in a turn each it leaves before. With nothing owed there is none.
#[test]
fn ack_owed_in_closing_outlives_its_tcb_in_a_burst() {
    let agreed = |flags: Flags| Sent { flags: flags.0, as_agreed: true, wnd: 60_000, ..Sent::default() };
    let acts = [
        Act::Open { port: 0, v6: false, options: 0 },
        Act::Call { port: 0, v6: false, call: Call::ShutDown },
        Act::Segment(Sent { withholds: true, ..agreed(Flags::FIN | Flags::ACK) }),
    ];
    let last = Act::Segment(agreed(Flags::ACK));
    for (burst, outlived) in [(vec![Act::Segment(agreed(Flags::SYN)), last.clone()], 1), (vec![last], 0)] {
        let mut compared = Compared::default();
        compared.play(&acts, &burst, settings(1));
        assert_eq!((compared.whole, compared.outlived), (1, outlived), "{compared:?}");
        assert_eq!(compared.met, BTreeSet::from([State::Closing.name()]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// B20, T31.
    #[test]
    fn burst_of_whatever_a_peer_sends_comes_to_what_the_same_frames_come_to_in_a_turn_each(
        acts in acts(),
        burst in burst(),
        of in 0..6u8,
    ) {
        Compared::default().play(&acts, &burst, settings(of));
    }
}

/// The same acts and bursts, drawn the same way, meet every state, make hints stale, and little is left out.
#[test]
fn bursts_of_whatever_a_peer_sends_meet_every_state_and_make_hints_stale() {
    let mut runner = TestRunner::deterministic();
    let (acts, bursts) = (acts(), burst());
    let mut compared = Compared::default();
    for at in 0..PLAYS {
        let acts = acts.new_tree(&mut runner).expect("acts can be drawn").current();
        let burst = bursts.new_tree(&mut runner).expect("bursts can be drawn").current();
        compared.play(&acts, &burst, settings((at % 6) as u8));
    }
    let missed: Vec<_> = State::ALL.iter().map(|state| state.name()).chain(["TIME-WAIT"]).collect();
    let missed: Vec<_> = missed.into_iter().filter(|name| !compared.met.contains(name)).collect();
    assert!(missed.is_empty(), "never met: {missed:?}: {compared:?}");
    assert!(compared.hints_stale > 0 && compared.whole * 3 > PLAYS, "{compared:?}");
    assert!(compared.left_out * 3 < compared.connections, "too many were left out: {compared:?}");
}

/// Plays of one test.
const PLAYS: usize = 100;

/// Bytes that a connection offers to receive.
const WINDOW: u32 = 32 * 1024;
