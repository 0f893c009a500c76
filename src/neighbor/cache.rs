//! The neighbour cache (RFC 4861 5.1 and 7.3, used for ARP too): bounded, and hard to poison (T28).
//!
//! ```text
//!           resolve
//!              |            answer or request
//!  +----> INCOMPLETE --------------------------> REACHABLE <---------+ answer
//!  |           | 3 questions, 1 s each            |     |            |
//!  | resolve   v                        no user,  |     | 30 s, or   |
//!  +------- FAILED <---------------+    30 s      v     | doubt      |
//!                      3 questions |            STALE   |            |
//!                                  |    resolve   |     v            |
//!                                  |              +-> PROBE ---------+
//!                                  +-------------------+
//! ```
//! An entry with users is never evicted. One without is evicted when room is needed, the longest unused first; it then
//! asks nobody.

use super::index::Index;
use super::list::{Links, List};
use crate::tick::Tick;
use crate::wire::ethernet::MacAddress;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of an entry, valid while its holder counts as a user of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct NeighborId(u16);

impl NeighborId {
    /// No entry's.
    pub const NONE: NeighborId = NeighborId(u16::MAX);

    /// The entry's place, for tables of their holders' own: dense from 0.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }

    #[inline]
    pub(super) const fn of(number: u32) -> NeighborId {
        debug_assert!(number < ENTRIES_MAX);
        NeighborId(number as u16)
    }

    #[inline]
    fn number(self) -> u32 {
        self.0.into()
    }
}

/// Every entry of the cache is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("neighbour cache: all {max} entries are in use; raise neighbors_max or send through fewer next hops")]
pub struct Full {
    /// How many entries the cache has.
    pub max: u32,
}

/// How it was heard that an address is at a MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// An ARP reply or neighbour advertisement.
    Answer,
    /// The sender of an ARP request or neighbour solicitation that is addressed to this stack.
    Request,
}

/// What [`Neighbors::poll`] asks of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Ask who has `ip`, to all (ARP) or to its solicited-node group.
    Ask {
        /// The entry.
        id: NeighborId,
        /// Its address.
        ip: IpAddr,
    },
    /// Nobody answered; the entry has no MAC address until it is resolved again, and its users still count.
    Failed {
        /// The entry.
        id: NeighborId,
        /// Its address.
        ip: IpAddr,
    },
}

/// The cache. Nothing is allocated after [`Neighbors::new`].
#[derive(Debug)]
pub struct Neighbors {
    entries: Vec<Entry>,
    index: Index,
    /// Links of `ask_now`, `asked` and `confirmed`, the lists of entries with a deadline. Within each the deadlines
    /// ascend, for each has one interval.
    timed: Links,
    /// To be asked at the next poll.
    ask_now: List,
    /// Asked, to be asked again after [`ASK_INTERVAL_MS`].
    asked: List,
    /// Confirmed, to be asked again after [`REACHABLE_MS`].
    confirmed: List,
    /// Links of `idle`.
    unused: Links,
    /// Entries without users: first the free ones, then the longest unused.
    idle: List,
    /// Entries with users.
    in_use: u32,
    /// The entry that was resolved last.
    resolved_last: u32,
    /// Questions before an address counts as unreachable.
    asks_max: u8,
}

impl Neighbors {
    /// A cache of `max` entries, at most [`ENTRIES_MAX`]; about 100 B each. `key` is secret: it keeps chosen addresses from
    /// colliding.
    pub fn new(max: u32, key: (u64, u64)) -> Neighbors {
        let max = max.min(ENTRIES_MAX);
        let mut cache = Neighbors {
            entries: vec![Entry::FREE; max as usize],
            index: Index::new(max, key),
            timed: Links::new(max as usize),
            ask_now: List::EMPTY,
            asked: List::EMPTY,
            confirmed: List::EMPTY,
            unused: Links::new(max as usize),
            idle: List::EMPTY,
            in_use: 0,
            resolved_last: 0,
            asks_max: ASKS,
        };
        for number in 0..max {
            cache.idle.push_back(&mut cache.unused, number);
        }
        cache
    }

    /// The same, with `asks` questions, at least 1, a second apart, before an address counts as unreachable.
    #[must_use]
    pub fn asking(self, asks: u8) -> Neighbors {
        Neighbors { asks_max: asks.max(1), ..self }
    }

    /// Bytes that a cache of `max` entries takes.
    pub fn bill(max: u32) -> u64 {
        let max = max.min(ENTRIES_MAX);
        u64::from(max) * size_of::<Entry>() as u64 + Index::bill(max) + 2 * Links::bill(max)
    }

    /// Finds or makes the entry of `ip` and counts one user of it. A new, failed or stale one is asked for at the next
    /// [`Neighbors::poll`].
    #[inline(always)]
    pub fn resolve(&mut self, ip: IpAddr, now: Tick) -> Result<NeighborId, Full> {
        // The next hop of nearly all connections is the same: only another one takes a look-up.
        let last = self.entries.get(self.resolved_last as usize).filter(|entry| entry.users > 0 && entry.ip == ip);
        let found = if last.is_some() { Some(self.resolved_last) } else { self.find(ip) };
        let number = match found {
            Some(number) => number,
            None => {
                let number = self.idle.first().ok_or(Full { max: self.entries.len() as u32 })?;
                self.free(number);
                self.occupy(number, ip);
                number
            }
        };
        self.resolved_last = number;
        let entry = &mut self.entries[number as usize];
        if entry.users == 0 {
            self.idle.remove(&mut self.unused, number);
            self.in_use += 1;
        }
        entry.users = entry.users.saturating_add(1);
        match entry.state {
            State::Free | State::Failed => self.start_asking(number, State::Incomplete { asked: 0 }, now),
            State::Stale => self.start_asking(number, State::Probe { asked: 0 }, now),
            State::Incomplete { .. } | State::Probe { .. } | State::Reachable | State::Fixed => {}
        }
        Ok(NeighborId::of(number))
    }

    /// Finds or makes the entry that stands for `mac` on interface number `interface`, whatever its IP address, and
    /// counts one user of it. It is never asked for.
    pub fn resolve_mac(&mut self, interface: u8, mac: MacAddress, now: Tick) -> Result<NeighborId, Full> {
        let [a, b, c, d, e, f] = mac.0;
        // Multicast: no neighbour has that address, nor can any be heard to have it.
        let ip = Ipv6Addr::from([0xff, 0, 0, 0, 0, 0, 0, 0, 0, interface, a, b, c, d, e, f]);
        let id = self.resolve(ip.into(), now)?;
        if self.entries[id.index()].state != State::Fixed {
            self.disarm(id.number());
            let entry = &mut self.entries[id.index()];
            (entry.mac, entry.state) = (mac, State::Fixed);
        }
        Ok(id)
    }

    /// Counts one user of `id` less. An id without users is ignored.
    #[inline(always)]
    pub fn release(&mut self, id: NeighborId) {
        let Some(entry) = self.entries.get_mut(id.index()) else { return };
        match entry.users {
            0 => return,
            1 => {}
            _ => {
                entry.users -= 1;
                return;
            }
        }
        entry.users = 0;
        self.in_use -= 1;
        match entry.state {
            State::Failed => self.set_free(id.number()),
            _ => self.idle.push_back(&mut self.unused, id.number()),
        }
    }

    /// Somebody waits for `id`: one that has failed is asked for anew.
    pub fn wanted(&mut self, id: NeighborId, now: Tick) {
        if self.entries.get(id.index()).is_some_and(|entry| entry.state == State::Failed) {
            self.start_asking(id.number(), State::Incomplete { asked: 0 }, now);
        }
    }

    /// What was sent by `id` is not acknowledged (RFC 9293 3.8.3, MUST-20): one that is taken to be there is asked for.
    pub fn doubted(&mut self, id: NeighborId, now: Tick) {
        let taken_to_be_there = |entry: &Entry| matches!(entry.state, State::Reachable | State::Stale);
        if self.entries.get(id.index()).is_some_and(taken_to_be_there) {
            self.start_asking(id.number(), State::Probe { asked: 0 }, now);
        }
    }

    /// Entries that somebody uses: those that nothing evicts.
    pub const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// A connection makes progress by what comes from `mac`, which therefore is where `id` lies (RFC 4861 7.3.1). Returns
    /// whether the entry had no MAC address and has one now.
    #[inline]
    pub fn progressed(&mut self, id: NeighborId, mac: MacAddress, now: Tick) -> bool {
        let Some(entry) = self.entries.get(id.index()).filter(|_| !mac.is_multicast()) else { return false };
        match entry.state {
            State::Probe { .. } if entry.mac == mac => self.confirm(id.number(), mac, now),
            State::Incomplete { .. } | State::Failed => {
                self.confirm(id.number(), mac, now);
                return true;
            }
            State::Free | State::Stale | State::Probe { .. } | State::Reachable | State::Fixed => {}
        }
        false
    }

    /// The MAC address of `id`, or `None` while it is not known. One whose 30 s are over is still good while it is
    /// asked for.
    #[inline]
    pub fn mac(&self, id: NeighborId) -> Option<MacAddress> {
        self.entries.get(id.index()).and_then(Entry::mac)
    }

    /// The MAC address of `ip`, if it is known, without becoming a user.
    pub fn lookup(&self, ip: IpAddr) -> Option<MacAddress> {
        self.find(ip).and_then(|number| self.entries[number as usize].mac())
    }

    /// Notes that `ip` was heard to be at `mac`. Returns the id of an entry that had no MAC address and has one now.
    ///
    /// An answer counts only while it is asked for. A request makes an entry where one is free, but evicts none. A live
    /// entry keeps its MAC address: another one only makes it be asked again, at most once a second, and then the known
    /// one has the first second to itself (T28). A group's MAC address is ignored.
    pub fn learn(&mut self, ip: IpAddr, mac: MacAddress, how: Heard, now: Tick) -> Option<NeighborId> {
        if mac.is_multicast() {
            return None;
        }
        let Some(number) = self.find(ip) else {
            return if how == Heard::Request { self.learn_new(ip, mac, now) } else { None };
        };
        let entry = &self.entries[number as usize];
        let known = entry.mac == mac;
        match (entry.state, how) {
            (State::Incomplete { .. } | State::Failed, _) => {
                self.confirm(number, mac, now);
                return Some(NeighborId::of(number));
            }
            (State::Stale, Heard::Request) => self.confirm(number, mac, now),
            (State::Probe { asked }, _) if known || asked > 1 => self.confirm(number, mac, now),
            (State::Reachable, _) if !known && now.until(entry.deadline) <= REACHABLE_MS - ASK_INTERVAL_MS => {
                self.start_asking(number, State::Probe { asked: 0 }, now);
            }
            (State::Stale | State::Probe { .. } | State::Reachable | State::Fixed | State::Free, _) => {}
        }
        None
    }

    /// Tells what is due at `now`, from at most `budget` entries.
    pub fn poll(&mut self, now: Tick, budget: usize, mut due: impl FnMut(Due)) {
        for _ in 0..budget {
            let Some(number) = self.first_due(now) else { return };
            let id = NeighborId::of(number);
            let Entry { ip, state, users, .. } = self.entries[number as usize];
            match state {
                // Nobody waits: ask nobody, keep what is known until the room is needed.
                State::Reachable | State::Probe { .. } if users == 0 => self.retire(number, State::Stale),
                State::Incomplete { .. } if users == 0 => {
                    self.idle.remove(&mut self.unused, number);
                    self.set_free(number);
                }
                State::Incomplete { asked } | State::Probe { asked } if asked >= self.asks_max => {
                    self.retire(number, State::Failed);
                    due(Due::Failed { id, ip });
                }
                State::Incomplete { asked } => {
                    self.ask_again(number, State::Incomplete { asked: asked + 1 }, now);
                    due(Due::Ask { id, ip });
                }
                State::Probe { asked } => {
                    self.ask_again(number, State::Probe { asked: asked + 1 }, now);
                    due(Due::Ask { id, ip });
                }
                State::Reachable => {
                    self.ask_again(number, State::Probe { asked: 1 }, now);
                    due(Due::Ask { id, ip });
                }
                State::Free | State::Stale | State::Failed | State::Fixed => {
                    debug_assert!(false, "{state:?} has no deadline")
                }
            }
        }
    }

    /// Whether an answer is waited for.
    pub fn is_asking(&self) -> bool {
        self.ask_now.first().is_some() || self.asked.first().is_some()
    }

    /// When [`Neighbors::poll`] has something to do next.
    pub fn next_deadline(&self) -> Option<Tick> {
        let firsts = [&self.ask_now, &self.asked, &self.confirmed].map(List::first).into_iter().flatten();
        firsts.map(|number| self.entries[number as usize].deadline).reduce(Tick::min)
    }

    #[inline]
    fn find(&self, ip: IpAddr) -> Option<u32> {
        self.index.find(ip, |number| self.entries[number as usize].ip == ip)
    }

    /// An entry that is due at `now`.
    fn first_due(&self, now: Tick) -> Option<u32> {
        let due = |number: &u32| self.entries[*number as usize].deadline.is_at_or_before(now);
        [&self.ask_now, &self.asked, &self.confirmed].into_iter().find_map(|list| list.first().filter(due))
    }

    /// An entry for the sender of a request, if one is free.
    fn learn_new(&mut self, ip: IpAddr, mac: MacAddress, now: Tick) -> Option<NeighborId> {
        let number = self.idle.first().filter(|number| self.entries[*number as usize].state == State::Free)?;
        self.occupy(number, ip);
        self.idle.remove(&mut self.unused, number);
        self.idle.push_back(&mut self.unused, number);
        self.confirm(number, mac, now);
        Some(NeighborId::of(number))
    }

    /// Gives the free entry `number`, which stays idle, the address `ip`.
    fn occupy(&mut self, number: u32, ip: IpAddr) {
        self.entries[number as usize].ip = ip;
        self.index.insert(ip, number);
    }

    /// Empties the entry `number`, which is idle and stays so.
    fn free(&mut self, number: u32) {
        self.disarm(number);
        let entry = &mut self.entries[number as usize];
        if entry.state != State::Free {
            self.index.remove(entry.ip, number);
            *entry = Entry::FREE;
        }
    }

    /// Empties the entry `number`, which is in no idle list and has no users.
    fn set_free(&mut self, number: u32) {
        self.free(number);
        self.idle.push_front(&mut self.unused, number);
    }

    /// The entry is at `mac` for sure.
    fn confirm(&mut self, number: u32, mac: MacAddress, now: Tick) {
        self.disarm(number);
        let entry = &mut self.entries[number as usize];
        entry.mac = mac;
        entry.state = State::Reachable;
        entry.deadline = now.plus(REACHABLE_MS);
        entry.armed = Armed::Confirmed;
        self.confirmed.push_back(&mut self.timed, number);
    }

    fn start_asking(&mut self, number: u32, state: State, now: Tick) {
        self.disarm(number);
        let entry = &mut self.entries[number as usize];
        entry.state = state;
        entry.deadline = now;
        entry.armed = Armed::AskNow;
        self.ask_now.push_back(&mut self.timed, number);
    }

    fn ask_again(&mut self, number: u32, state: State, now: Tick) {
        self.disarm(number);
        let entry = &mut self.entries[number as usize];
        entry.state = state;
        entry.deadline = now.plus(ASK_INTERVAL_MS);
        entry.armed = Armed::Asked;
        self.asked.push_back(&mut self.timed, number);
    }

    /// The entry waits for nothing any more.
    fn retire(&mut self, number: u32, state: State) {
        self.disarm(number);
        self.entries[number as usize].state = state;
    }

    /// Takes the entry out of its list of deadlines.
    fn disarm(&mut self, number: u32) {
        let armed = core::mem::replace(&mut self.entries[number as usize].armed, Armed::Not);
        match armed {
            Armed::Not => {}
            Armed::AskNow => self.ask_now.remove(&mut self.timed, number),
            Armed::Asked => self.asked.remove(&mut self.timed, number),
            Armed::Confirmed => self.confirmed.remove(&mut self.timed, number),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ip: IpAddr,
    mac: MacAddress,
    state: State,
    /// Which list of deadlines the entry is in.
    armed: Armed,
    users: u32,
    deadline: Tick,
}

impl Entry {
    const FREE: Entry = Entry {
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        mac: MacAddress([0; 6]),
        state: State::Free,
        armed: Armed::Not,
        users: 0,
        deadline: Tick(0),
    };

    fn mac(&self) -> Option<MacAddress> {
        match self.state {
            State::Free | State::Incomplete { .. } | State::Failed => None,
            State::Reachable | State::Stale | State::Probe { .. } | State::Fixed => Some(self.mac),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In no use, without an address.
    Free,
    /// No MAC address yet; asked for so many times.
    Incomplete { asked: u8 },
    /// The MAC address was confirmed less than [`REACHABLE_MS`] ago.
    Reachable,
    /// It was confirmed before that, and nobody uses it.
    Stale,
    /// It was confirmed before that or is in doubt; asked for so many times.
    Probe { asked: u8 },
    /// Nobody answered.
    Failed,
    /// It stands for a MAC address, which is all that is known.
    Fixed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Armed {
    Not,
    AskNow,
    Asked,
    Confirmed,
}

/// Ticks between two questions for one address. Origin: RetransTimer of RFC 4861 10, RFC 1122 2.3.2.1.
const ASK_INTERVAL_MS: u32 = 1000;

/// Questions before an address counts as unreachable, unless said otherwise. Origin: MAX_MULTICAST_SOLICIT of RFC 4861 10.
pub const ASKS: u8 = 3;

/// Ticks for which a confirmation holds. Origin: REACHABLE_TIME of RFC 4861 10.
const REACHABLE_MS: u32 = 30_000;

/// Largest cache, entries: what two bytes of each connection can name. As many hosts as a network of prefix length 16 has.
pub const ENTRIES_MAX: u32 = u16::MAX as u32;
