//! B20 under a hostile wire: two shards over faulty links in virtual time, one seed per run.
//!
//! Every byte comes once and in order or an error is told, every connection ends, and nothing is left over. A failing seed
//! prints itself; `SYNFIN_SEED=n` runs it alone, `SYNFIN_SEEDS=n` sets how many seeds run.

mod bulk;
pub(super) mod bursts;
pub(super) mod peer;
pub(super) mod plan;

use super::assert_shard_clean;
use crate::api::{Application, CloseReason};
use crate::counters::Counters;
use crate::limits::Limits;
use crate::link::Link;
use crate::link::faults::{FaultConfig, FaultCounters, Faults};
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::shard::{LocalAddress, Shard, ShardConfig};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::vec;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use peer::{Ending, Peer};
use plan::{Closing, Plan};
use std::hash::DefaultHasher;
use std::println;

/// A shard on a faulty wire.
pub(super) type Faulty<A> = Shard<Faults<MemoryLink>, A>;

type End = Faulty<Peer>;

/// Both ends, joined by two faulty directions.
struct Simulation {
    ends: [End; 2],
    now: Now,
    /// Frames that came with others in one burst.
    together: u64,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Report {
    /// By end, sorted by job.
    pub ends: [Vec<Ending>; 2],
    pub faults: FaultCounters,
    /// No frame was lost anywhere.
    pub whole: bool,
    pub finished: Now,
    pub segments: u64,
    pub retransmitted: u64,
    /// Segments kept out of order.
    pub kept: u64,
    /// Connections that an end has ended because its send chunks were short and theirs would have stayed for long (T03).
    pub pressed: u64,
    /// Connections that an end has given up half-open (B11): its application has heard of none.
    pub half_open_failed: u64,
    /// Frames that came with others in one burst.
    pub together: u64,
}

impl Report {
    /// What two shards that are joined by a faulty wire came to, without the endings of their connections.
    pub(super) fn of<A: Application, B: Application>(
        (a, b): (&Faulty<A>, &Faulty<B>),
        finished: Now,
        together: u64,
    ) -> Report {
        let of_both = |count: fn(&Counters) -> u64| count(a.counters()) + count(b.counters());
        let faults = sum(a.link().transmit_faults(), b.link().transmit_faults());
        let lost = faults.lost + faults.corrupted + faults.over_capacity + faults.held_full;
        let refused = of_both(|end| end.answers_dropped + end.receive_pool_exhausted + end.respond_without_frame);
        let full = Link::counters(a.link()).tx_full + Link::counters(b.link()).tx_full;
        Report {
            ends: Default::default(),
            faults,
            whole: lost + refused + full == 0,
            finished,
            segments: of_both(|end| end.segments_sent),
            retransmitted: of_both(|end| end.retransmitted_data),
            kept: of_both(|end| end.out_of_order_kept),
            pressed: of_both(|end| end.stalled_ended),
            half_open_failed: of_both(|end| end.half_open_failed),
            together,
        }
    }

    /// Bytes that both ends' applications have received.
    pub(super) fn received(&self) -> u64 {
        self.ends.iter().flatten().map(|ending| u64::from(ending.received)).sum()
    }

    /// An end has given up the connection of this job: for want of chunks (T03), on a wire that loses nothing for ever.
    fn was_pressed(&self, job: usize) -> bool {
        let mut endings = self.ends.iter().flatten();
        endings.any(|ending| ending.job == Some(job) && ending.reason == CloseReason::TimedOut)
    }

    /// The other end has given up the connection of this job while it was half-open (B11), and has told nobody.
    fn was_never_met(&self, job: usize) -> bool {
        let is_of_job = |ending: &&Ending| ending.job == Some(job);
        let mut endings = self.ends.iter().flatten().filter(is_of_job);
        endings.all(|ending| ending.opened && ending.reason == CloseReason::Reset)
    }
}

impl Simulation {
    fn new(plan: &Plan, burst: u32) -> Simulation {
        let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
        let memory = MemoryConfig { frames: 512, frame_bytes: plan.mtu + 18, mtu: plan.mtu, queue_frames: 512 };
        let (a, b) = pair(memory, macs);
        let now = Now::from_ms(5000);
        let addresses = if plan.v6 { ["fd00::1", "fd00::2"] } else { ["10.0.0.1", "10.0.0.2"] };
        let addresses = addresses.map(|text| text.parse::<IpAddr>().expect("an address"));
        let none = FaultConfig { held_max: 0, ..FaultConfig::default() };
        let end = |link: MemoryLink, end: usize| {
            let seed = plan.seed.wrapping_mul(2) + end as u64;
            let config = ShardConfig {
                limits: Limits { burst, ..plan.limits },
                addresses: vec![LocalAddress { address: addresses[end], prefix_len: 24 }],
                settings: plan.settings,
                msl_ms: if plan.fair { FAIR_MSL_MS } else { crate::limits::MSL_MS },
                ..ShardConfig::seeded(seed)
            };
            let peer = Peer::new(plan, end, SocketAddr::new(addresses[1 - end], 80));
            let link = Faults::new(link, plan.faults, none, seed);
            let link = if plan.fair { link.by_frame(identity, TRIES) } else { link };
            let mut shard = Shard::new(link, peer, config, now).expect("a shard");
            shard.calls(now).listen(addresses[end], 80).expect("a listener");
            shard
        };
        Simulation { ends: [end(a, 0), end(b, 1)], now, together: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            let busy = self.step();
            if self.is_over() {
                return;
            }
            self.now = self.next(busy);
        }
        self.stuck("still not over");
    }

    fn stuck(&self, how: &str) -> ! {
        let states = [0, 1].map(|end| self.ends[end].states());
        let counters = [0, 1].map(|end| *self.ends[end].counters());
        panic!("{how} at {:?}: {states:?} {counters:?}", self.now);
    }

    /// Both ends take what is there, however many turns their bursts need. Returns whether anything happened.
    fn step(&mut self) -> bool {
        let before = self.frames();
        for end in &mut self.ends {
            self.together += take_all(end, self.now);
        }
        self.frames() != before
    }

    /// Frames received and segments sent so far: whether a step has done anything.
    fn frames(&self) -> u64 {
        self.ends.iter().map(|end| end.counters().frames_received + end.counters().segments_sent).sum()
    }

    fn is_over(&self) -> bool {
        self.ends.iter().all(|end| {
            let quiet = end.link().held() == (0, 0) && end.link().inner().pending() == 0;
            end.application().to_open.is_empty() && end.connections_live() == 0 && end.time_wait_live() == 0 && quiet
        })
    }

    /// When something can happen next.
    fn next(&self, busy: bool) -> Now {
        let soon = Now::from_us(self.now.us() + 10);
        let pending = self.ends.iter().any(|end| end.link().inner().pending() > 0);
        if busy || pending {
            return soon;
        }
        let later = |at: Now| if at <= self.now { self.now.plus_ms(1) } else { at };
        let times = self.ends.iter().flat_map(|end| {
            let wish = end.application().wish(self.now);
            [end.link().next_due(), end.next_deadline(self.now).map(later), wish]
        });
        times.flatten().min().unwrap_or_else(|| self.stuck("nothing is left to happen")).max(soon)
    }

    fn report(self) -> Report {
        for end in &self.ends {
            assert_shard_clean(end);
            assert!(end.core.index.is_empty(), "the index holds something");
        }
        let report = Report::of((&self.ends[0], &self.ends[1]), self.now, self.together);
        let ends = self.ends.map(|end| {
            let mut ends = end.into_application().ends;
            ends.sort_by_key(|ending| (ending.job, ending.opened));
            ends
        });
        Report { ends, ..report }
    }
}

/// The shard takes what is there, however many turns its bursts need. Returns how many frames came with others.
pub(super) fn take_all<A: Application>(shard: &mut Faulty<A>, now: Now) -> u64 {
    let mut together = 0;
    for _ in 0..TURNS_MAX {
        let before = shard.counters().frames_received;
        shard.turn(now);
        let burst = shard.counters().frames_received - before;
        together += if burst > 1 { burst } else { 0 };
        if shard.link().inner().pending() == 0 {
            return together;
        }
    }
    panic!("stuck: frames are there and not taken at {now:?}: {:?} {:?}", shard.states(), shard.counters());
}

/// One seed from start to end, with the checks that concern it alone.
fn simulate(seed: u64, burst: u32) -> Report {
    simulate_plan(&Plan::draw(seed), burst)
}

fn simulate_plan(plan: &Plan, burst: u32) -> Report {
    assert!(plan.jobs.len() >= 20, "{} connections", plan.jobs.len());
    let mut simulation = Simulation::new(plan, burst);
    simulation.run();
    let report = simulation.report();
    assert!(!report.whole || report.pressed == 0, "connections of a wire that loses nothing were too slow");
    let loses_nothing_for_ever = report.whole || plan.fair;
    assert!(!loses_nothing_for_ever || report.received() >= RECEIVED_MIN, "{} bytes came", report.received());
    check_endings(plan, &report);
    report
}

/// Every connection has ended once at the end that opened it, and as planned where the wire loses nothing for ever.
pub(super) fn check_endings(plan: &Plan, report: &Report) {
    let (mut pressed, mut never_met) = (0, 0);
    for (number, job) in plan.jobs.iter().enumerate() {
        let own = &report.ends[job.opener];
        let of_job = own.iter().filter(|ending| ending.job == Some(number) && ending.opened);
        let reasons: Vec<CloseReason> = of_job.map(|ending| ending.reason).collect();
        assert_eq!(reasons.len(), 1, "job {number} {job:?} ends once: {reasons:?}");
        if report.was_pressed(number) {
            pressed += 1;
        } else if report.was_never_met(number) {
            never_met += 1;
        } else if report.whole || plan.fair {
            let expected = if job.closing == Closing::Abort { CloseReason::Aborted } else { CloseReason::Graceful };
            assert_eq!(reasons[0], expected, "job {number} {job:?} on a wire that loses nothing for ever");
        }
    }
    if report.whole || plan.fair {
        assert!(pressed <= report.pressed, "{pressed} were given up, {} for want of chunks", report.pressed);
        let half_open_failed = if report.whole { 0 } else { report.half_open_failed };
        assert!(never_met <= half_open_failed, "{never_met} were reset unmet, {half_open_failed} while half-open");
    }
}

pub(super) fn sum(a: FaultCounters, b: FaultCounters) -> FaultCounters {
    FaultCounters {
        entered: a.entered + b.entered,
        delivered: a.delivered + b.delivered,
        lost: a.lost + b.lost,
        corrupted: a.corrupted + b.corrupted,
        duplicated: a.duplicated + b.duplicated,
        late_duplicated: a.late_duplicated + b.late_duplicated,
        reordered: a.reordered + b.reordered,
        delayed: a.delayed + b.delayed,
        over_capacity: a.over_capacity + b.over_capacity,
        held_full: a.held_full + b.held_full,
    }
}

/// Prints the seed when a check fails.
struct Tattle(u64);

impl Drop for Tattle {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {} fails; again with SYNFIN_SEED={}", self.0, self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seeds of this run, so many without SYNFIN_SEEDS.
fn seeds(usually: u64) -> core::ops::Range<u64> {
    match number("SYNFIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SYNFIN_SEEDS").unwrap_or(usually),
    }
}

/// What all seeds came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub seeds: u64,
    /// Seeds on whose wire nothing was lost.
    pub whole: u64,
    pub connections: u64,
    pub graceful: u64,
    /// Bytes that applications have received.
    pub received: u64,
    pub segments: u64,
    pub retransmitted: u64,
    pub kept: u64,
    pub pressed: u64,
    pub together: u64,
    /// With burst 1, over the same wires.
    pub retransmitted_by_one: u64,
    /// Endings that were compared between bursts, and connections that were left out there.
    pub compared: u64,
    pub left_out: u64,
    pub faults: FaultCounters,
}

impl Totals {
    fn of(report: &Report) -> Totals {
        let own = || report.ends.iter().flatten().filter(|ending| ending.opened);
        Totals {
            seeds: 1,
            whole: u64::from(report.whole),
            connections: own().count() as u64,
            graceful: own().filter(|ending| ending.reason == CloseReason::Graceful).count() as u64,
            received: report.received(),
            segments: report.segments,
            retransmitted: report.retransmitted,
            kept: report.kept,
            pressed: report.pressed,
            together: report.together,
            faults: report.faults,
            ..Totals::default()
        }
    }

    fn plus(self, other: Totals) -> Totals {
        Totals {
            seeds: self.seeds + other.seeds,
            whole: self.whole + other.whole,
            connections: self.connections + other.connections,
            graceful: self.graceful + other.graceful,
            received: self.received + other.received,
            segments: self.segments + other.segments,
            retransmitted: self.retransmitted + other.retransmitted,
            kept: self.kept + other.kept,
            pressed: self.pressed + other.pressed,
            together: self.together + other.together,
            retransmitted_by_one: self.retransmitted_by_one + other.retransmitted_by_one,
            compared: self.compared + other.compared,
            left_out: self.left_out + other.left_out,
            faults: sum(self.faults, other.faults),
        }
    }
}

/// Runs `check` on every seed, so many without SYNFIN_SEEDS, on as many threads as there are cores.
pub(super) fn on_every_seed(usually: u64, check: impl Fn(u64) -> Totals + Sync) -> Totals {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()) as u64;
    let of_thread = |thread: u64| {
        let own = seeds(usually).filter(move |seed| seed % threads == thread);
        own.fold(Totals::default(), |total: Totals, seed| {
            let _tattle = Tattle(seed);
            total.plus(check(seed))
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        let totals = threads.into_iter().map(|thread| thread.join().expect("every seed holds"));
        totals.fold(Totals::default(), Totals::plus)
    })
}

/// All frames of one end are in somebody's hands.
#[test]
#[should_panic(expected = "stuck: frames are there and not taken")]
fn end_that_takes_no_frames_is_told_of() {
    let faults = FaultConfig { held_max: 0, ..FaultConfig::default() };
    let mut simulation = Simulation::new(&Plan { faults, ..Plan::draw(1) }, 64);
    let now = simulation.now;
    let [one, other] = &mut simulation.ends;
    while other.link.take().is_some() {}
    (0..10).for_each(|turn| _ = take_all(one, now.plus_ms(turn)));
    assert!(other.link().inner().pending() > 0, "the first end asks for its neighbour");
    take_all(other, now.plus_ms(10));
}

/// Shows RFC 2525 2.4.
#[test]
fn b20_every_seed_delivers_every_byte_once_or_tells_an_error_and_leaves_nothing() {
    let totals = on_every_seed(SEEDS, |seed| {
        if seed % REPLAYED_EVERY == 1 {
            assert_eq!(simulate(seed, 64), simulate(seed, 64), "the seed does not replay");
        }
        bursts::alike(&Plan::draw(seed), simulate_plan)
    });
    println!("{totals:?}");
    if totals.seeds < 100 {
        return;
    }
    assert!(totals.whole > 0 && totals.kept > 0, "no seed was whole, or none kept text out of order: {totals:?}");
    assert!(totals.received >= totals.seeds * RECEIVED_MIN, "fewer bytes came than each seed's bulk: {totals:?}");
    assert!(totals.graceful * 10 >= totals.connections * 8, "too many ended in an error: {totals:?}");
    assert!(totals.pressed * 100 <= totals.connections, "too many were ended for want of chunks: {totals:?}");
    bursts::assert_compared(&totals);
    let FaultCounters { lost, corrupted, duplicated, late_duplicated, reordered, delayed, over_capacity, .. } =
        totals.faults;
    for total in [lost, corrupted, duplicated, late_duplicated, reordered, delayed, over_capacity] {
        assert!(total > 0, "a class of fault never happened: {totals:?}");
    }
}

/// What makes a frame the same when it is sent again: everything but timestamps, SACK blocks, window and checksums.
pub(super) fn identity(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let header = match (bytes.get(12..14), bytes.get(23), bytes.get(20)) {
        (Some([0x08, 0x00]), Some(6), _) => 34,
        (Some([0x86, 0xdd]), _, Some(6)) => 54,
        _ => bytes.len(),
    };
    let (network, tcp) = bytes.split_at(header);
    hasher.write(if tcp.is_empty() { network } else { &network[26..] });
    // Ports, numbers, data offset and flags; the length is that of the text but for options, which SACK blocks change.
    let text = usize::from(tcp.get(12).copied().unwrap_or(0) >> 4) * 4;
    hasher.write(tcp.get(..12).unwrap_or_default());
    hasher.write_u8(tcp.get(13).copied().unwrap_or(0));
    hasher.write_usize(tcp.len().saturating_sub(text));
    hasher.finish()
}

/// MSL on a fair wire, ms: TIME-WAIT outlasts all time-outs, or a FIN whose ACKs were lost would be answered by RST at last.
/// For the same reason who closes first does so by halves there: three tries of a FIN may take longer than FIN_WAIT_2_MS.
pub(super) const FAIR_MSL_MS: u32 = 600_000;

/// Bytes that come over a wire that loses nothing for ever at least, both ways together. Every seed has such a run: its own wire, or a fair
/// one. The mean over all wires is above it, too.
pub(super) const RECEIVED_MIN: u64 = 64_000;

/// A frame that is sent so often has passed once, on a fair wire.
pub(super) const TRIES: u8 = 3;

/// One seed in so many is run twice, and must come to exactly the same.
const REPLAYED_EVERY: u64 = 50;

/// Seeds without SYNFIN_SEEDS. Origin: about 12 s of an unoptimised build on two cores.
const SEEDS: u64 = 200;

/// Turns at one moment at most: far more than there are frames on a wire.
const TURNS_MAX: usize = 10_000;

/// Steps of one run at most: far beyond what any seed takes.
const STEPS_MAX: usize = 2_000_000;
