//! The loop of one shard's thread: clock, turn, publish, idle, end.

use super::alarm::Alarm;
use super::commands::{Command, Commands};
use super::half_open::Walk;
use super::published::{Details, Published, Tables, VALUE_MAX, histogram};
use super::questions::Questions;
use super::{Idle, SPIN_US, Seat, Service, StackError, WaitLink, cores};
use crate::api::{Application, Event};
use crate::counters::DropReason;
use crate::link::KernelCounters;
use crate::memory;
use crate::shard::{Calls, Conflict, Place, Shard, ShardConfig};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use hdrhistogram::Histogram;
use std::any::Any;
use std::io;
#[cfg(feature = "tokio")]
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// What the threads of one stack share.
#[derive(Debug)]
pub(super) struct Shared {
    origin: Instant,
    pub(super) stop: AtomicBool,
    /// When a drain ends at the latest, us; `u64::MAX` while there is none.
    pub(super) drain_until_us: AtomicU64,
    failure: Mutex<Option<StackError>>,
    /// Where questions about neighbours go in shared-address mode, by number of the interface.
    pub(super) questions: Vec<Arc<Questions>>,
    /// What wakes each shard, and whether it has nothing to do any more.
    shards: Vec<(Arc<Alarm>, AtomicBool)>,
}

impl Shared {
    /// What `shards` share; of `asking` interfaces the neighbours are asked for elsewhere.
    pub(super) fn new(origin: Instant, shards: usize, asking: usize) -> io::Result<Shared> {
        let drain_until_us = AtomicU64::new(u64::MAX);
        let shard = |_| Ok((Arc::new(Alarm::new()?), AtomicBool::new(false)));
        let shards = (0..shards).map(shard).collect::<io::Result<_>>()?;
        let questions = (0..asking).map(|_| Questions::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let (stop, failure) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Shared { origin, stop, drain_until_us, failure, questions, shards })
    }

    /// What wakes each shard.
    pub(super) fn alarms(&self) -> impl Iterator<Item = &Arc<Alarm>> {
        self.shards.iter().map(|(alarm, _)| alarm)
    }

    /// Wakes every shard that sleeps.
    pub(super) fn ring_all(&self) {
        self.alarms().for_each(|alarm| alarm.ring());
    }

    /// Notes whether `shard` has nothing to do any more; returns whether that is so for all of them. Until then each stays: what
    /// belongs to another may arrive on its queue.
    fn all_done(&self, shard: usize, done: bool) -> bool {
        let noted = &self.shards[shard].1;
        if noted.load(Ordering::Relaxed) != done {
            noted.store(done, Ordering::Relaxed);
            self.ring_all();
        }
        done && self.all_noted()
    }

    fn all_noted(&self) -> bool {
        self.shards.iter().all(|(_, done)| done.load(Ordering::Relaxed))
    }

    /// Reads the clock.
    pub(super) fn now(&self) -> Now {
        Now::from_us(self.origin.elapsed().as_micros() as u64)
    }

    /// What has ended the stack before its time, if anything.
    pub(super) fn take_failure(&self) -> Option<StackError> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn fail(&self, shard: usize, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        self.stop_with(StackError::Panicked { shard, message: message.to_owned() });
    }

    /// Ends every shard after its turn; the first `error` is what the end then returns.
    pub(super) fn stop_with(&self, error: StackError) {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        self.ring_all();
    }
}

/// What a shard's thread is given.
pub(super) struct Start<L> {
    pub(super) shard: usize,
    pub(super) seat: Seat<L>,
    pub(super) place: Place,
    pub(super) config: ShardConfig,
    pub(super) idle: Idle,
    pub(super) published: Arc<Published>,
    pub(super) commands: Arc<Commands>,
    pub(super) shared: Arc<Shared>,
}

/// A shard's thread from beginning to end; returns its application unless it failed.
pub(super) fn shard_thread<L: WaitLink + 'static, S: Service>(
    start: Start<L>,
    drive: &impl Drive<S>,
    ready: &mpsc::Sender<Result<(), StackError>>,
) -> Option<S> {
    let (shared, number) = (Arc::clone(&start.shared), start.shard);
    let body = AssertUnwindSafe(|| match ShardLoop::new(start, drive) {
        Ok(shard_loop) => {
            // A receiver that is gone has stopped the stack already.
            let _ = ready.send(Ok(()));
            Some(drive.run(shard_loop))
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            None
        }
    });
    catch_unwind(body).unwrap_or_else(|panic| {
        shared.fail(number, &*panic);
        None
    })
}

/// Who makes the applications of a stack and drives its shards, each on its own thread.
pub(crate) trait Drive<S: Service>: Send + Sync + 'static {
    /// The application of shard number `shard`.
    fn make(&self, shard: usize) -> Result<S, StackError>;

    /// Takes steps until the shard is over; returns [`ShardLoop::finish`].
    fn run<L: WaitLink + 'static>(&self, shard_loop: ShardLoop<L, S>) -> S;
}

/// Turn after turn, and sleep in between.
pub(super) struct Turns<F>(pub(super) F);

impl<S: Service, F: Fn(usize) -> S + Send + Sync + 'static> Drive<S> for Turns<F> {
    fn make(&self, shard: usize) -> Result<S, StackError> {
        Ok(self.0(shard))
    }

    fn run<L: WaitLink + 'static>(&self, mut shard_loop: ShardLoop<L, S>) -> S {
        loop {
            match shard_loop.step() {
                Step::Over => return shard_loop.finish(),
                Step::Again => {}
                Step::Idle(timeout) => shard_loop.sleep(timeout),
            }
        }
    }
}

/// What follows a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Another step at once.
    Again,
    /// Nothing to do until a frame comes, another shard rings, or this time has passed.
    Idle(Duration),
    /// The shard has ended.
    Over,
}

/// A shard, what it publishes, and whom it obeys.
pub(crate) struct ShardLoop<L, S> {
    number: usize,
    shard: Shard<L, Timed<S>>,
    idle: Idle,
    published: Arc<Published>,
    commands: Arc<Commands>,
    shared: Arc<Shared>,
    details: Details,
    /// A list of half-open connections that is asked for, and how far it has come.
    listing: Option<Walk>,
    turns_slow: u64,
    published_us: u64,
    warned_us: u64,
    /// When an address conflict was warned about last, us.
    warned_conflict_us: u64,
    /// Frames larger than the link's have been warned about.
    warned_oversized: bool,
    busy_us: u64,
    draining: bool,
    /// The drain has taken too long: by when those that it has aborted are to have heard of it, us.
    aborted_until_us: Option<u64>,
    /// Nothing is left to do but to send what the link has not taken: until when, us.
    behind_until_us: Option<u64>,
    /// The time of the next turn: the end of the one before.
    now: Now,
}

impl<L: WaitLink, S: Service> ShardLoop<L, S> {
    fn new(start: Start<L>, drive: &impl Drive<S>) -> Result<ShardLoop<L, S>, StackError> {
        if let Some(core) = start.seat.core {
            cores::pin(core)?;
        }
        let now = start.shared.now();
        let application = Timed { service: drive.make(start.shard)?, events: 0, spent_ns: histogram() };
        let bill = start.config.bill_among(start.place.owners());
        let mut shard = Shard::new_among(start.seat.link, application, start.config, start.place, now)?;
        let huge_pages = memory::advise_huge_pages(shard.regions());
        tracing::debug!(
            shard = start.shard,
            bytes = bill.total_bytes(),
            obtained = huge_pages.obtained_bytes,
            refused = huge_pages.refused_bytes,
            "tables and huge pages"
        );
        start.published.set_tables(Tables { bill, huge_pages });
        shard.with_calls(now, |timed, calls| timed.service.start(calls))?;
        let now = start.shared.now();
        Ok(ShardLoop {
            number: start.shard,
            shard,
            idle: start.idle,
            published: start.published,
            commands: start.commands,
            shared: start.shared,
            details: Details::default(),
            listing: None,
            turns_slow: 0,
            published_us: now.us(),
            warned_us: 0,
            warned_conflict_us: 0,
            warned_oversized: false,
            busy_us: now.us(),
            draining: false,
            aborted_until_us: None,
            behind_until_us: None,
            now,
        })
    }

    /// What other threads have asked, a turn, and what follows from it.
    pub(crate) fn step(&mut self) -> Step {
        let now = self.now;
        if self.is_over(now) {
            return Step::Over;
        }
        self.obey(now);
        self.listing.take_if(|walk| walk.go_on(&self.shard, now));
        let busy = self.shard.turn(now).busy;
        for shard in self.shard.handed_to() {
            self.shared.shards[usize::from(*shard)].0.ring();
        }
        for (interface, ip) in self.shard.take_questions() {
            if let Some(questions) = self.shared.questions.get(usize::from(interface)) {
                questions.push(ip);
            }
        }
        // The next turn's time ends this one's length: one reading of the clock serves both.
        let next = self.shared.now();
        self.now = next;
        if busy {
            self.note_length(next.us().saturating_sub(now.us()), next);
            self.busy_us = next.us();
        }
        if next.us().saturating_sub(self.published_us) >= PUBLISH_US {
            self.publish(next);
        }
        if busy { Step::Again } else { self.idle_at(next) }
    }

    /// What the strategy wants after a turn without work.
    fn idle_at(&mut self, now: Now) -> Step {
        match self.idle {
            Idle::Spin => Step::Again,
            Idle::BusyPoll => {
                self.shard.link().busy_poll();
                self.now = self.shared.now();
                Step::Again
            }
            Idle::Sleep if now.us().saturating_sub(self.busy_us) < SPIN_US => Step::Again,
            Idle::Sleep => match self.may_sleep_us(now) {
                0 => Step::Again,
                timeout_us => Step::Idle(Duration::from_micros(timeout_us)),
            },
        }
    }

    fn may_sleep_us(&self, now: Now) -> u64 {
        let deadline_us = self.shard.next_deadline(now).map_or(u64::MAX, |at| at.us().saturating_sub(now.us()));
        // What was counted since is still to be published.
        let longest_us = if self.busy_us > self.published_us { PUBLISH_US } else { SLEEP_MAX_US };
        let drain_us = self.shared.drain_until_us.load(Ordering::Relaxed).saturating_sub(now.us());
        deadline_us.min(longest_us).min(drain_us)
    }

    /// Sleeps after [`Step::Idle`].
    pub(crate) fn sleep(&mut self, timeout: Duration) {
        let link = self.shard.link();
        self.shared.shards[self.number].0.sleep(
            || self.is_called(),
            |alarm| {
                // Whether a frame is there shows in the next turn.
                let _ = link.wait(alarm, timeout);
            },
        );
        self.now = self.shared.now();
    }

    /// Before the thread sleeps elsewhere than in [`ShardLoop::sleep`]: `false` where there is something to do. After either,
    /// [`ShardLoop::wake_up`].
    #[cfg(feature = "tokio")]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.shared.shards[self.number].0.begin();
        // Some drivers fill their rings only when somebody polls. What is there already has been told to who waits for edges.
        let is_there = self.shard.link().wait(self.alarm_descriptor(), Duration::ZERO);
        !is_there && !self.is_called()
    }

    /// The thread is awake again.
    #[cfg(feature = "tokio")]
    pub(crate) fn wake_up(&mut self) {
        self.shared.shards[self.number].0.end();
        self.now = self.shared.now();
    }

    /// What becomes readable when another thread wants something of this one.
    #[cfg(feature = "tokio")]
    pub(crate) fn alarm_descriptor(&self) -> BorrowedFd<'_> {
        self.shared.shards[self.number].0.descriptor()
    }

    /// What becomes readable when a frame has come, one of each interface; `None` where there is no such thing.
    #[cfg(feature = "tokio")]
    pub(crate) fn link_descriptors(&self) -> Option<Vec<BorrowedFd<'_>>> {
        let link = self.shard.link();
        (0..link.interfaces()).map(|interface| link.descriptor(interface)).collect()
    }

    /// The shard's number.
    #[cfg(feature = "tokio")]
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Calls of the application outside of a turn.
    #[cfg(feature = "tokio")]
    pub(crate) fn with_calls<T>(&mut self, ask: impl FnOnce(&mut S, &mut Calls<'_>) -> T) -> T {
        self.now = self.shared.now();
        self.shard.with_calls(self.now, |timed, calls| ask(&mut timed.service, calls))
    }

    /// Does what other threads have asked.
    fn obey(&mut self, now: Now) {
        for command in self.commands.take() {
            match command {
                Command::SetPolicies(policies) => match self.shard.set_policies(&policies, now) {
                    Ok(()) => tracing::info!(shard = self.number, %policies, "policies changed"),
                    Err(error) => tracing::warn!(shard = self.number, %error, "policies not changed"),
                },
                Command::ChangeOwners(owners) => self.shard.change_owners(&owners, now),
                #[cfg(feature = "xdp")]
                Command::Learn { interface, ip, mac } => self.shard.learn_neighbor(interface, ip, mac, now),
                // One shard does it for all.
                Command::Announce if self.number == 0 => self.shard.announce(now),
                Command::Announce => {}
                // Whoever asked for the one before has given it up.
                Command::ListHalfOpen(listing) => self.listing = Some(Walk::begin(listing)),
                #[cfg(feature = "xdp")]
                Command::ChangeLink { interface, mac, mtu } => {
                    if !self.shard.change_link(interface, mac, mtu) {
                        tracing::warn!(shard = self.number, mtu, "no MTU for TCP: the one from before stays");
                    }
                }
            }
        }
    }

    /// Publishes for the last time and hands the application back; the link ends here.
    pub(crate) fn finish(mut self) -> S {
        self.publish(self.shared.now());
        self.write_details();
        self.shard.into_application().service
    }

    fn is_over(&mut self, now: Now) -> bool {
        if self.shared.stop.load(Ordering::Relaxed) {
            return true;
        }
        let drain_until_us = self.shared.drain_until_us.load(Ordering::Relaxed);
        if drain_until_us != u64::MAX {
            if !self.draining {
                self.draining = true;
                self.shard.with_calls(now, |timed, calls| timed.service.drain(calls));
            }
            if now.us() >= drain_until_us {
                return self.all_aborted(now);
            }
            let drained = self.shard.application().service.is_drained() && self.shard.connections_live() == 0;
            let drained = drained && self.has_sent(now);
            return self.shared.all_done(self.number, drained);
        }
        let done = self.shard.application().service.is_done() && self.shard.connections_live() == 0;
        let done = done && self.has_sent(now);
        self.shared.all_done(self.number, done)
    }

    /// Whether all that was to be sent has left, the last ACKs and RSTs with it, or its time is over: a link that takes
    /// nothing holds up no end.
    fn has_sent(&mut self, now: Now) -> bool {
        if !self.shard.link().is_behind() {
            self.behind_until_us = None;
            return true;
        }
        now.us() >= *self.behind_until_us.get_or_insert(now.us() + LAST_WORDS_US)
    }

    /// Whoever is still there at the end of a drain learns that it is over. Returns whether everybody has: a turn sends
    /// as many RSTs and tells of as many ends as it may. Those that still wait for a neighbour, or for room to send,
    /// are left when their time is over, and stay in the count of live connections; those that are half open nobody has
    /// heard of.
    fn all_aborted(&mut self, now: Now) -> bool {
        let until_us = match self.aborted_until_us {
            Some(until_us) => until_us,
            None => {
                self.shard.abort_all(now);
                *self.aborted_until_us.insert(now.us() + LAST_WORDS_US)
            }
        };
        let left = self.shard.connections_live() - self.shard.half_open_live();
        if left > 0 && now.us() >= until_us {
            tracing::warn!(shard = self.number, left, "connections were left without a RST at the end of the drain");
        }
        (left == 0 && !self.shard.link().is_behind()) || now.us() >= until_us
    }

    fn note_length(&mut self, length_us: u64, now: Now) {
        self.details.turn_us.saturating_record(length_us.min(VALUE_MAX));
        if length_us > SLOW_US {
            self.turns_slow += 1;
            if now.us().saturating_sub(self.warned_us) >= 1_000_000 {
                self.warned_us = now.us();
                tracing::warn!(shard = self.number, length_us, slow_turns = self.turns_slow, "turn over 10 ms");
            }
        }
    }

    fn publish(&mut self, now: Now) {
        self.published_us = now.us();
        self.published.write(&self.shard, self.turns_slow);
        if self.published.is_asked() {
            self.write_details();
        }
        // The kernel counts what is too long for a UMEM frame together with what finds FILL empty.
        let oversized = |kernel: KernelCounters| kernel.rx_dropped > kernel.fill_ring_empty;
        if !self.warned_oversized && oversized(self.shard.link().kernel_counters()) {
            self.warned_oversized = true;
            tracing::warn!(shard = self.number, "{}", mended_by_peer(OVERSIZED));
        }
        if now.us().saturating_sub(self.warned_conflict_us) >= 1_000_000
            && let Some(Conflict { address, mac }) = self.shard.take_conflict()
        {
            self.warned_conflict_us = now.us();
            let conflicts = self.shard.counters().address_conflicts;
            tracing::warn!(shard = self.number, %address, %mac, conflicts, "another host has this address too");
        }
        for (reason, sender) in self.shard.first_drops() {
            if let Some(advice) = advice(reason, sender) {
                tracing::warn!(shard = self.number, "{advice}");
            }
        }
    }

    fn write_details(&mut self) {
        self.details.states = self.shard.states();
        self.details.policies = self.shard.policies();
        self.details.kernel = self.shard.link().kernel_counters();
        self.details.application_ns.clone_from(&self.shard.application().spent_ns);
        self.published.write_details(&self.details);
    }

    /// Whether another thread wants something of this one: what it rang for before this one was about to sleep.
    fn is_called(&self) -> bool {
        let Shared { stop, drain_until_us, .. } = &*self.shared;
        let drains = drain_until_us.load(Ordering::Relaxed) != u64::MAX && !self.draining;
        self.shard.is_handed()
            || stop.load(Ordering::Relaxed)
            || drains
            || !self.commands.is_empty()
            || self.listing.is_some()
            || self.published.is_asked()
            || self.shared.all_noted()
    }
}

/// What to tell about the first frame dropped for `reason`, where the peer can mend it.
pub(super) fn advice(reason: DropReason, sender: MacAddress) -> Option<String> {
    match reason {
        DropReason::TcpChecksumPartial => Some(mended_by_peer(&format!(
            "{sender} sends segments whose TCP checksum holds only the pseudo-header sum: they are dropped"
        ))),
        DropReason::TooLong => {
            Some(mended_by_peer(&format!("{sender} sends frames larger than the MTU: they are dropped")))
        }
        _ => None,
    }
}

/// The sentence about what is wrong because a peer leaves work to hardware that is not there, and what mends it.
fn mended_by_peer(wrong: &str) -> String {
    format!("{wrong}; on that host run `{PEER_OFFLOADS_OFF}` (PEER: its interface)")
}

/// What is wrong when the kernel could not put a frame into the UMEM.
const OVERSIZED: &str = "a host sends frames that are larger than a UMEM frame: the kernel drops them";

/// What keeps a kernel behind a wire without hardware (veth) from leaving checksums, segments and VLAN tags to it. Without
/// checksums Linux gives up segments, too; they are named for those who read. What it joins when it receives (gro) does not matter.
pub(super) const PEER_OFFLOADS_OFF: &str = "ethtool -K PEER tx off tso off gso off txvlan off";

/// An application whose time is taken now and then.
struct Timed<S> {
    service: S,
    events: u64,
    spent_ns: Histogram<u64>,
}

impl<S: Service> Application for Timed<S> {
    #[inline]
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        self.events += 1;
        if !self.events.is_multiple_of(SAMPLE_EVENTS) {
            return self.service.on_event(calls, event);
        }
        let began = Instant::now();
        self.service.on_event(calls, event);
        self.spent_ns.saturating_record((began.elapsed().as_nanos() as u64).min(VALUE_MAX));
    }

    #[inline]
    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        self.service.on_turn(calls);
    }
}

/// A turn longer than this is counted and warned about, us. Origin: the design; an application that blocks shows here.
const SLOW_US: u64 = 10_000;

/// How long RSTs and ends may take once a drain has taken too long, us. Origin: 120,000 RSTs at 500,000 a second,
/// twice; smaller leaves peers and logs without a word, larger holds up the end for a neighbour that does not answer.
const LAST_WORDS_US: u64 = 500_000;

/// Counts are published this often at most, us. Smaller costs turns, larger makes reports old.
const PUBLISH_US: u64 = 10_000;

/// The longest sleep, us. Whoever wants something of a shard rings; this bounds what a ring missed costs.
const SLEEP_MAX_US: u64 = 100_000;

/// One event in so many is timed. Origin: two readings of the clock cost about as much as a small event.
const SAMPLE_EVENTS: u64 = 64;
