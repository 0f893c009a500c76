//! How fast the octets that wait to be acknowledged go, and the FIN behind them, while memory is short (T03).
//!
//! The measure is how long they will stay: what waited when a connection was first looked at, times the time since,
//! over what of it has gone. A window that opens for a moment, or an octet acknowledged now and then, counts for what
//! it lets go, and no more; and who holds little must let little go. What the application has queued since then is not
//! held against the peer.
//!
//! A connection that is fast enough makes room for another one to be watched. So the table is small, and nothing is kept for
//! a connection that nobody looks at. One whose time-out has doubled for long needs no watching: nothing has gone since.

use crate::ids::Handle;
use crate::limits::CHUNK_BYTES;
use crate::seq::Seq;
use crate::tcp::tcb::{Fact, Tcb};
use crate::tcp::waits;
use crate::tick::{Deadline, Tick};
use alloc::boxed::Box;
use core::mem::size_of;

/// The connections that are watched, each at its only place.
#[derive(Debug)]
pub(super) struct Paces {
    watched: Box<[Option<Watched>]>,
    /// Since when memory has been short, and when they were last: what was seen before that says nothing of now.
    short_since: Tick,
    short_at: Deadline,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    handle: Handle,
    /// SND.UNA when the watch began.
    una: Seq,
    /// One past the last octet, or the FIN, that waited then.
    end: Seq,
    since: Tick,
}

impl Default for Paces {
    fn default() -> Paces {
        Paces {
            watched: alloc::vec![None; Paces::MAX].into_boxed_slice(),
            short_since: Tick::default(),
            short_at: Deadline::NONE,
        }
    }
}

impl Paces {
    /// Connections that are watched at a time. Origin: one lap of 16,384 TCBs takes a quarter of a second, and those
    /// that are slow are soon ended; fewer take longer to find them among many, more cost memory.
    pub(super) const MAX: usize = 1024;

    /// What they take, bytes.
    pub(super) const fn bill() -> u64 {
        (Paces::MAX * size_of::<Option<Watched>>()) as u64
    }

    /// Memory is short. After a pause every watch begins anew.
    pub(super) fn short_at(&mut self, now: Tick) {
        if self.short_at.tick().is_none_or(|last| now.since(last) > WATCH_MS) {
            self.short_since = now;
        }
        self.short_at = Deadline::at(now);
    }

    /// Nothing waits to be acknowledged.
    pub(super) fn forget(&mut self, handle: Handle) {
        self.watched[place(handle)].take_if(|watched| watched.handle == handle);
    }

    /// How long what waits will stay, s; 0 for a connection that has not been watched for long enough.
    pub(super) fn stays_s(&mut self, handle: Handle, tcb: &Tcb, is_live: impl Fn(Handle) -> bool, now: Tick) -> u32 {
        let watched = &mut self.watched[place(handle)];
        let in_use =
            watched.filter(|watched| self.short_since.is_at_or_before(watched.since) && is_live(watched.handle));
        let Some(Watched { una, end, since, .. }) = in_use.filter(|watched| watched.handle == handle) else {
            if in_use.is_none() {
                let end = tcb.send_end + u32::from(tcb.facts.has(Fact::FIN_QUEUED));
                *watched = Some(Watched { handle, una: tcb.snd_una, end, since: now });
            }
            return 0;
        };
        let elapsed_ms = now.since(since);
        if elapsed_ms < WATCH_MS {
            return 0;
        }
        let stays_s = if tcb.snd_una.ge(end) { 0 } else { stays_s(end - una, tcb.snd_una - una, elapsed_ms) };
        if stays_s < PATIENCE_S {
            *watched = None;
        }
        stays_s
    }
}

/// How long what waits will stay if nothing has moved for as long as the doubled time-out says, s; 0 if that is not for long.
pub(super) fn stays_stalled_s(tcb: &Tcb) -> u32 {
    let stalled_ms = waits::stalled_ms(tcb);
    if stalled_ms < WATCH_MS { 0 } else { stays_s(tcb.send_queued_bytes(), 0, stalled_ms) }
}

/// How long `waiting` octets will stay of which `gone` have gone in that time, s. Where none has, they take a chunk at least, and
/// the next may go at once.
fn stays_s(waiting: u32, gone: u32, elapsed_ms: u32) -> u32 {
    let waiting = if gone == 0 { waiting.max(CHUNK_BYTES as u32) } else { waiting };
    let stays_ms = u64::from(waiting) * u64::from(elapsed_ms) / u64::from(gone.max(1));
    u32::try_from(stays_ms / 1000).unwrap_or(u32::MAX)
}

fn place(handle: Handle) -> usize {
    handle.number as usize % Paces::MAX
}

/// How long a connection is watched before it is judged, ms. Origin: what a failed link stops for a moment is not
/// ended, and a peer that lets something go every ten seconds is seen to do so twice.
const WATCH_MS: u32 = 20_000;

/// How long octets may stay, s. Origin: 256 kB at 17 kbit/s, the slowest link that people use; smaller ends honest
/// readers when memory is short, larger lets others hold it with less.
pub(super) const PATIENCE_S: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::state::State;

    #[test]
    fn t03_octets_stay_for_as_long_as_their_pace_says() {
        assert_eq!(stays_s(256_000, 25_600, 20_000), 200);
        assert_eq!(stays_s(100, 2, 20_000), 1000, "an octet now and then");
        assert_eq!(stays_s(1, 0, 20_000), 20 * CHUNK_BYTES as u32, "one octet that does not move holds a chunk");
        assert_eq!(stays_s(u32::MAX, 0, u32::MAX), u32::MAX);
        assert!(stays_s(100_000, 0, 30_000) > stays_s(100_000, 0, 20_000));
    }

    #[test]
    fn t03_every_connection_has_its_turn_to_be_watched() {
        let mut paces = Paces::default();
        let (mut tcb, mut now) = (Tcb { send_end: Seq(10_000), ..Tcb::default() }, Tick(7));
        let handle = |lap: u32| Handle { number: 3 + lap * Paces::MAX as u32, generation: 1 };
        paces.short_at(now);
        for lap in 0..3 {
            assert_eq!(paces.stays_s(handle(lap), &tcb, |_| true, now), 0);
            assert_eq!(paces.stays_s(handle(9), &tcb, |_| true, now), 0, "its place is taken");
            now = now.plus(WATCH_MS);
            tcb.snd_una += 9000;
            paces.short_at(now);
            assert!((1..PATIENCE_S).contains(&paces.stays_s(handle(lap), &tcb, |_| true, now)), "and is given back");
            tcb.send_end += 9000;
        }
        // One that has gone keeps nobody out.
        paces.stays_s(handle(0), &tcb, |_| true, now);
        paces.stays_s(handle(1), &tcb, |other| other != handle(0), now);
        now = now.plus(WATCH_MS);
        assert!(paces.stays_s(handle(1), &tcb, |_| true, now) > PATIENCE_S);
    }

    #[test]
    fn t03_a_fin_alone_that_the_peer_does_not_acknowledge_stays_too() {
        let (mut paces, handle) = (Paces::default(), Handle { number: 3, generation: 1 });
        let mut tcb = Tcb { state: State::FinWait1, facts: Fact::FIN_QUEUED, snd_nxt: Seq(1), ..Tcb::default() };
        paces.short_at(Tick(0));
        assert_eq!(paces.stays_s(handle, &tcb, |_| true, Tick(0)), 0);
        assert!(paces.stays_s(handle, &tcb, |_| true, Tick(WATCH_MS)) > PATIENCE_S);
        tcb.snd_una = Seq(1);
        assert_eq!(paces.stays_s(handle, &tcb, |_| true, Tick(WATCH_MS)), 0);
    }

    #[test]
    fn t03_what_was_seen_before_a_pause_says_nothing() {
        let mut paces = Paces::default();
        let (tcb, handle) = (Tcb { send_end: Seq(10_000), ..Tcb::default() }, Handle { number: 3, generation: 1 });
        paces.short_at(Tick(0));
        paces.stays_s(handle, &tcb, |_| true, Tick(0));
        paces.short_at(Tick(2 * WATCH_MS));
        assert_eq!(paces.stays_s(handle, &tcb, |_| true, Tick(2 * WATCH_MS)), 0);
        paces.short_at(Tick(3 * WATCH_MS));
        assert!(paces.stays_s(handle, &tcb, |_| true, Tick(3 * WATCH_MS)) > PATIENCE_S);
    }
}
