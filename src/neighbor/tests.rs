//! The cache against a model that searches and sorts where the cache has lists and an index.

use super::{Due, Full, Heard, NeighborId, Neighbors};
use crate::tick::Tick;
use crate::wire::ethernet::MacAddress;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

const START: Tick = Tick(u32::MAX - 5000);
const KEY: (u64, u64) = (1, 2);

fn ip(number: u8) -> IpAddr {
    if number.is_multiple_of(2) {
        Ipv4Addr::new(10, 0, 0, number).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into()
    }
}

fn mac(number: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, number])
}

fn polled(cache: &mut Neighbors, now: Tick) -> Vec<Due> {
    let mut all = Vec::new();
    cache.poll(now, 1000, |due| all.push(due));
    all
}

#[test]
fn new_entry_asks_three_times_then_fails_then_starts_again() {
    let mut cache = Neighbors::new(4, KEY);
    let id = cache.resolve(ip(0), START).unwrap();
    let ask = Due::Ask { id, ip: ip(0) };
    for second in 0..3 {
        assert_eq!(cache.next_deadline(), Some(START.plus(second * 1000)));
        assert_eq!(polled(&mut cache, START.plus(second * 1000)), [ask]);
        assert_eq!(polled(&mut cache, START.plus(second * 1000 + 999)), []);
    }
    assert_eq!(polled(&mut cache, START.plus(3000)), [Due::Failed { id, ip: ip(0) }]);
    assert_eq!((cache.mac(id), cache.next_deadline()), (None, None));
    assert_eq!(cache.resolve(ip(0), START.plus(4000)), Ok(id));
    assert_eq!(polled(&mut cache, START.plus(4000)), [ask]);
}

#[test]
fn incomplete_entry_hears_an_answer_and_is_asked_again_after_30_s() {
    let mut cache = Neighbors::new(4, KEY);
    let id = cache.resolve(ip(1), START).unwrap();
    polled(&mut cache, START);
    assert_eq!((cache.mac(id), cache.lookup(ip(1))), (None, None));
    assert_eq!(cache.learn(ip(1), mac(7), Heard::Answer, START.plus(5)), Some(id));
    assert_eq!((cache.mac(id), cache.lookup(ip(1))), (Some(mac(7)), Some(mac(7))));
    assert_eq!(polled(&mut cache, START.plus(30_004)), []);
    assert_eq!(polled(&mut cache, START.plus(30_005)), [Due::Ask { id, ip: ip(1) }]);
    assert_eq!(cache.mac(id), Some(mac(7)), "still good while asked for");
    assert_eq!(cache.learn(ip(1), mac(7), Heard::Answer, START.plus(30_006)), None);
    assert_eq!(cache.next_deadline(), Some(START.plus(60_006)));
}

#[test]
fn reachable_entry_keeps_its_mac_against_forged_messages_t28() {
    let mut cache = Neighbors::new(4, KEY);
    let id = cache.resolve(ip(0), START).unwrap();
    polled(&mut cache, START);
    cache.learn(ip(0), mac(1), Heard::Answer, START);
    for how in [Heard::Answer, Heard::Request] {
        assert_eq!(cache.learn(ip(0), mac(66), how, START.plus(500)), None);
        assert_eq!(polled(&mut cache, START.plus(500)), [], "at most one question a second");
    }
    for _ in 0..3 {
        cache.learn(ip(0), mac(66), Heard::Answer, START.plus(2000));
    }
    assert_eq!(polled(&mut cache, START.plus(2000)), [Due::Ask { id, ip: ip(0) }]);
    cache.learn(ip(0), mac(66), Heard::Answer, START.plus(2001));
    assert_eq!(cache.mac(id), Some(mac(1)));
    cache.learn(ip(0), mac(1), Heard::Answer, START.plus(2002));
    assert_eq!(cache.next_deadline(), Some(START.plus(32_002)));
}

#[test]
fn reachable_entry_moves_when_its_old_mac_stays_silent_for_a_second() {
    let mut cache = Neighbors::new(4, KEY);
    let id = cache.resolve(ip(0), START).unwrap();
    cache.learn(ip(0), mac(1), Heard::Answer, START);
    cache.learn(ip(0), mac(2), Heard::Request, START.plus(2000));
    polled(&mut cache, START.plus(2000));
    polled(&mut cache, START.plus(3000));
    cache.learn(ip(0), mac(2), Heard::Answer, START.plus(3001));
    assert_eq!(cache.mac(id), Some(mac(2)));
}

#[test]
fn full_cache_evicts_the_longest_unused_and_never_a_used_entry() {
    let mut cache = Neighbors::new(2, KEY);
    let first = cache.resolve(ip(0), START).unwrap();
    let second = cache.resolve(ip(1), START).unwrap();
    assert_eq!(cache.resolve(ip(2), START), Err(Full { max: 2 }));
    cache.learn(ip(0), mac(0), Heard::Answer, START);
    cache.learn(ip(1), mac(1), Heard::Answer, START);
    cache.release(second);
    cache.release(first);
    assert_eq!(cache.learn(ip(3), mac(3), Heard::Request, START), None, "a request evicts nothing");
    assert_eq!(cache.resolve(ip(2), START), Ok(second));
    assert_eq!((cache.lookup(ip(0)), cache.lookup(ip(1))), (Some(mac(0)), None));
}

#[test]
fn request_makes_an_entry_where_one_is_free_an_answer_does_not() {
    let mut cache = Neighbors::new(2, KEY);
    assert_eq!(cache.learn(ip(0), mac(0), Heard::Answer, START), None);
    assert!(cache.learn(ip(0), mac(0), Heard::Request, START).is_some());
    assert_eq!(cache.lookup(ip(0)), Some(mac(0)));
    assert_eq!(cache.learn(ip(1), MacAddress::BROADCAST, Heard::Request, START), None);
    assert_eq!(cache.lookup(ip(1)), None);
}

#[test]
fn poll_stops_at_its_budget() {
    let mut cache = Neighbors::new(8, KEY);
    for number in 0..8 {
        cache.resolve(ip(number), START).unwrap();
    }
    let mut asked = 0;
    cache.poll(START, 5, |_| asked += 1);
    assert_eq!(asked, 5);
    cache.poll(START, 5, |_| asked += 1);
    assert_eq!(asked, 8);
}

#[test]
fn invented_ids_and_empty_caches_do_no_harm() {
    let mut cache = Neighbors::new(0, KEY);
    assert_eq!(cache.resolve(ip(0), START), Err(Full { max: 0 }));
    cache.release(NeighborId::of(0));
    assert_eq!(cache.mac(NeighborId::NONE), None);
    let mut cache = Neighbors::new(1, KEY);
    cache.release(NeighborId::of(0));
    let id = cache.resolve(ip(0), START).unwrap();
    cache.release(id);
    cache.release(id);
    assert!(cache.resolve(ip(1), START).is_ok());
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Incomplete(u8),
    Reachable,
    Stale,
    Probe(u8),
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: MacAddress,
    state: State,
    users: u32,
    deadline: Option<Tick>,
    idle_since: u64,
}

struct Model {
    max: usize,
    entries: HashMap<IpAddr, Entry>,
    /// Counts operations: orders entries by when they became idle.
    clock: u64,
}

impl Model {
    fn resolve(&mut self, ip: IpAddr, now: Tick) -> bool {
        if !self.entries.contains_key(&ip) {
            if self.entries.len() == self.max {
                let idle = self.entries.iter().filter(|(_, entry)| entry.users == 0);
                let Some(oldest) = idle.min_by_key(|(_, entry)| entry.idle_since).map(|(ip, _)| *ip) else {
                    return false;
                };
                self.entries.remove(&oldest);
            }
            let fresh = Entry { mac: mac(0), state: State::Failed, users: 0, deadline: None, idle_since: 0 };
            self.entries.insert(ip, fresh);
        }
        let entry = self.entries.get_mut(&ip).unwrap();
        entry.users += 1;
        match entry.state {
            State::Failed => (entry.state, entry.deadline) = (State::Incomplete(0), Some(now)),
            State::Stale => (entry.state, entry.deadline) = (State::Probe(0), Some(now)),
            _ => {}
        }
        true
    }

    fn release(&mut self, ip: IpAddr) {
        let entry = self.entries.get_mut(&ip).unwrap();
        entry.users -= 1;
        entry.idle_since = self.clock;
        if entry.users == 0 && entry.state == State::Failed {
            self.entries.remove(&ip);
        }
    }

    fn learn(&mut self, ip: IpAddr, mac: MacAddress, how: Heard, now: Tick) -> bool {
        let confirmed =
            Entry { mac, state: State::Reachable, users: 0, deadline: Some(now.plus(30_000)), idle_since: self.clock };
        let Some(entry) = self.entries.get_mut(&ip) else {
            let room = how == Heard::Request && self.entries.len() < self.max;
            if room {
                self.entries.insert(ip, confirmed);
            }
            return room;
        };
        let known = entry.mac == mac;
        let confirm = match entry.state {
            State::Incomplete(_) | State::Failed => true,
            State::Stale => how == Heard::Request,
            State::Probe(asked) => known || asked >= 2,
            State::Reachable => {
                if !known && now.until(entry.deadline.unwrap()) <= 29_000 {
                    (entry.state, entry.deadline) = (State::Probe(0), Some(now));
                }
                false
            }
        };
        let had_none = matches!(entry.state, State::Incomplete(_) | State::Failed);
        if confirm {
            *entry = Entry { users: entry.users, idle_since: entry.idle_since, ..confirmed };
        }
        confirm && had_none
    }

    fn poll(&mut self, now: Tick) -> Vec<(IpAddr, bool)> {
        let mut dues = Vec::new();
        self.entries.retain(|ip, entry| {
            if !entry.deadline.is_some_and(|deadline| deadline.is_at_or_before(now)) {
                return true;
            }
            let asked = match entry.state {
                State::Incomplete(_) if entry.users == 0 => return false,
                State::Incomplete(asked) => asked,
                _ if entry.users == 0 => {
                    (entry.state, entry.deadline) = (State::Stale, None);
                    return true;
                }
                State::Probe(asked) => asked,
                _ => 0,
            };
            dues.push((*ip, asked < 3));
            (entry.state, entry.deadline) = match entry.state {
                _ if asked == 3 => (State::Failed, None),
                State::Incomplete(_) => (State::Incomplete(asked + 1), Some(now.plus(1000))),
                _ => (State::Probe(asked + 1), Some(now.plus(1000))),
            };
            true
        });
        dues.sort();
        dues
    }

    fn mac(&self, ip: IpAddr) -> Option<MacAddress> {
        let entry = self.entries.get(&ip)?;
        matches!(entry.state, State::Reachable | State::Stale | State::Probe(_)).then_some(entry.mac)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Resolve(u8),
    Release(usize),
    Learn(u8, u8, bool),
    Advance(u32),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..7).prop_map(Step::Resolve),
        3 => any::<usize>().prop_map(Step::Release),
        4 => (0u8..7, 1u8..4, any::<bool>()).prop_map(|(ip, mac, request)| Step::Learn(ip, mac, request)),
        2 => prop_oneof![0u32..1200, Just(1000), Just(30_000)].prop_map(Step::Advance),
        3 => Just(Step::Poll),
    ]
}

proptest! {
    #[test]
    fn cache_does_what_the_model_does(max in 1u32..6, steps in proptest::collection::vec(step(), 1..120)) {
        let mut cache = Neighbors::new(max, KEY);
        let mut model = Model { max: max as usize, entries: HashMap::new(), clock: 0 };
        let mut held: Vec<(NeighborId, IpAddr)> = Vec::new();
        let mut now = START;
        for step in steps {
            model.clock += 1;
            match step {
                Step::Resolve(number) => {
                    let found = cache.resolve(ip(number), now);
                    prop_assert_eq!(found.is_ok(), model.resolve(ip(number), now));
                    held.extend(found.ok().map(|id| (id, ip(number))));
                }
                Step::Release(nth) if !held.is_empty() => {
                    let (id, ip) = held.swap_remove(nth % held.len());
                    cache.release(id);
                    model.release(ip);
                }
                Step::Release(_) => {}
                Step::Learn(number, at, request) => {
                    let how = if request { Heard::Request } else { Heard::Answer };
                    let resolved = cache.learn(ip(number), mac(at), how, now).is_some();
                    prop_assert_eq!(resolved, model.learn(ip(number), mac(at), how, now));
                }
                Step::Advance(ms) => now = now.plus(ms),
                Step::Poll => {
                    let dues = polled(&mut cache, now).into_iter().map(|due| match due {
                        Due::Ask { ip, .. } => (ip, true),
                        Due::Failed { ip, .. } => (ip, false),
                    });
                    let mut dues: Vec<_> = dues.collect();
                    dues.sort();
                    prop_assert_eq!(dues, model.poll(now));
                }
            }
            for number in 0..7 {
                prop_assert_eq!(cache.lookup(ip(number)), model.mac(ip(number)));
            }
            for (id, ip) in &held {
                prop_assert_eq!(cache.mac(*id), model.mac(*ip));
            }
            let deadlines = model.entries.values().filter_map(|entry| entry.deadline);
            prop_assert_eq!(cache.next_deadline(), deadlines.reduce(Tick::min));
        }
    }
}
