//! The question at the start whether another host has one of the addresses (RFC 5227 2.1, RFC 4862 5.4).

use crate::link::Link;
use crate::shard::{Attachment, Conflict, claimed_by, emit_probe};
use crate::wire::{self, Expect};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// How it is made sure at the start that no other host has an own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConflictCheck {
    /// Nobody is asked: for addresses that just moved here, or where the 0.4 s count.
    Off,
    /// Four questions in 0.4 s: enough for a wire and hosts of today.
    #[default]
    Quick,
    /// Three questions in 4 to 7 s at random, as RFC 5227 2.1.1 asks for.
    Full,
}

impl ConflictCheck {
    /// Every way.
    pub const ALL: [ConflictCheck; 3] = [ConflictCheck::Off, ConflictCheck::Quick, ConflictCheck::Full];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            ConflictCheck::Off => "off",
            ConflictCheck::Quick => "quick",
            ConflictCheck::Full => "full",
        }
    }

    /// The way of that name.
    pub fn from_name(name: &str) -> Option<ConflictCheck> {
        ConflictCheck::ALL.into_iter().find(|check| check.name() == name)
    }

    /// How long to listen before the first question and after each. `random` draws a time between two.
    fn schedule(self, mut random: impl FnMut(Duration, Duration) -> Duration) -> (Duration, Vec<Duration>) {
        match self {
            ConflictCheck::Off => (Duration::ZERO, Vec::new()),
            ConflictCheck::Quick => (Duration::ZERO, vec![QUICK_INTERVAL; QUICK_PROBES]),
            ConflictCheck::Full => {
                let wait = random(Duration::ZERO, PROBE_WAIT);
                (wait, vec![random(PROBE_MIN, PROBE_MAX), random(PROBE_MIN, PROBE_MAX), ANNOUNCE_WAIT])
            }
        }
    }
}

/// Asks for every address of `attachment` on the first of `links`, all of its interface, and listens on all of them;
/// the first host that has one, or is about to take it. Whatever else arrives meanwhile is dropped: nobody serves yet.
pub(super) fn conflict<L: Link>(
    links: &mut [L],
    attachment: &Attachment,
    check: ConflictCheck,
    seed: u64,
) -> Option<Conflict> {
    let addresses: Vec<IpAddr> = attachment.addresses.iter().map(|own| own.address).collect();
    let mut random = SmallRng::seed_from_u64(seed);
    let (wait, intervals) = check.schedule(|from, to| random.random_range(from..=to));
    let found = listen_for(links, attachment, &addresses, &[], wait);
    found.or_else(|| intervals.iter().find_map(|wait| listen_for(links, attachment, &addresses, &addresses, *wait)))
}

/// Asks for the addresses of `ask`, and listens for hosts that have one of `addresses`, for so long.
fn listen_for<L: Link>(
    links: &mut [L],
    attachment: &Attachment,
    addresses: &[IpAddr],
    ask_for: &[IpAddr],
    wait: Duration,
) -> Option<Conflict> {
    let deadline = Instant::now() + wait;
    let mut unasked = ask_for.iter();
    let mut next = unasked.next();
    while Instant::now() < deadline {
        while let Some(address) = next {
            if !ask(links, attachment.vlan, *address) {
                break;
            }
            next = unasked.next();
        }
        for link in &mut *links {
            link.flush();
            if let Some(conflict) = listen(link, attachment.vlan, addresses) {
                return Some(conflict);
            }
        }
        thread::sleep(NAP);
    }
    None
}

/// Sends one question; false without a frame for it.
fn ask<L: Link>(links: &mut [L], vlan: Option<u16>, address: IpAddr) -> bool {
    let Some(link) = links.first_mut() else { return false };
    let Some(mut frame) = link.take() else { return false };
    let mac = link.mac();
    let len = emit_probe(link.bytes_mut(&mut frame), mac, vlan, address);
    match link.send(frame, len) {
        Ok(()) => true,
        Err(frame) => {
            link.give_back(frame);
            false
        }
    }
}

/// Takes what has arrived; a host that has one of `addresses`.
fn listen<L: Link>(link: &mut L, vlan: Option<u16>, addresses: &[IpAddr]) -> Option<Conflict> {
    let expect = Expect { mac: link.mac(), mtu: link.mtu(), vlan, verify_checksums: false };
    let mut burst = Vec::with_capacity(BURST);
    link.receive(&mut burst, BURST);
    let mut found = None;
    for frame in burst {
        let claim = wire::parse(link.bytes(&frame), &expect).ok().as_ref().and_then(claimed_by);
        found = found.or(claim.filter(|claim| claim.mac != link.mac() && addresses.contains(&claim.address)));
        link.give_back(frame);
    }
    found
}

/// How often each address is asked for, and how long an answer may take, unless told otherwise. A stack that serves a
/// wire of today would lose the seconds of RFC 5227 at each start, and what is overlooked shows as `address_conflicts`
/// later.
const QUICK_PROBES: usize = 4;
const QUICK_INTERVAL: Duration = Duration::from_millis(100);

/// Times of RFC 5227 1.1, under its names; PROBE_NUM is 3.
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(2);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);

/// Between two looks at the links.
const NAP: Duration = Duration::from_millis(1);

/// Frames taken at a time.
const BURST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::memory::{MemoryConfig, pair};
    use crate::shard::{LocalAddress, Shard, ShardConfig};
    use crate::tick::Now;
    use crate::wire::ethernet::MacAddress;

    struct Nothing;

    impl crate::api::Application for Nothing {
        fn on_event(&mut self, _calls: &mut crate::shard::Calls<'_>, _event: crate::api::Event<'_>) {}
    }

    fn config(addresses: &[&str]) -> ShardConfig {
        let own = |text: &&str| LocalAddress { address: text.parse().unwrap(), prefix_len: 24 };
        let limits = crate::limits::Limits {
            tcbs_max: 8,
            time_wait_max: 8,
            half_open_max: 8,
            chunks_max: 8,
            ..Default::default()
        };
        ShardConfig { addresses: addresses.iter().map(own).collect(), limits, ..ShardConfig::seeded(0) }
    }

    /// The conflict that a stack with `wanted` finds, if it looks so, on a wire with a host that has `taken`.
    fn asked(check: ConflictCheck, wanted: &[&str], taken: &[&str]) -> Option<Conflict> {
        let (mine, theirs) = pair(MemoryConfig::default(), MACS);
        let mut host = Shard::new(theirs, Nothing, config(taken), Now::default()).unwrap();
        thread::scope(|scope| {
            let asks = scope.spawn(|| conflict(&mut [mine], &config(wanted).attachments()[0], check, 1));
            let began = Instant::now();
            while !asks.is_finished() {
                host.turn(Now::from_us(began.elapsed().as_micros() as u64));
                thread::sleep(Duration::from_micros(200));
            }
            asks.join().unwrap()
        })
    }

    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    #[test]
    fn host_with_the_address_is_found_over_both_families() {
        for (wanted, taken) in [(["10.0.0.9", "10.0.0.5"], "10.0.0.5"), (["fd00::9", "fd00::5"], "fd00::5")] {
            let found = asked(ConflictCheck::Quick, &wanted, &[taken]);
            assert_eq!(found, Some(Conflict { address: taken.parse().unwrap(), mac: MACS[1] }));
        }
    }

    #[test]
    fn hosts_with_other_addresses_are_no_conflict() {
        assert_eq!(asked(ConflictCheck::Quick, &["10.0.0.9", "fd00::9"], &["10.0.0.5", "fd00::5"]), None);
    }

    #[test]
    fn full_check_takes_the_times_of_rfc_5227_and_off_asks_nobody() {
        let shortest = ConflictCheck::Full.schedule(|from, _| from);
        let longest = ConflictCheck::Full.schedule(|_, to| to);
        let total = |(wait, intervals): (Duration, Vec<Duration>)| (wait + intervals.iter().sum(), intervals.len());
        assert_eq!(total(shortest), (Duration::from_secs(4), 3));
        assert_eq!(total(longest), (Duration::from_secs(7), 3));
        assert_eq!(asked(ConflictCheck::Off, &["10.0.0.5"], &["10.0.0.5"]), None);
        let began = Instant::now();
        let found = asked(ConflictCheck::Full, &["10.0.0.5"], &["10.0.0.5"]);
        assert_eq!(found.map(|conflict| conflict.mac), Some(MACS[1]));
        assert!(began.elapsed() < Duration::from_secs(3), "the first answer ends it: {:?}", began.elapsed());
    }
}
