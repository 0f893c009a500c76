//! The question at the start whether another host has one of the addresses (RFC 5227 2.1, RFC 4862 5.4).

use crate::link::Link;
use crate::shard::{Attachment, Conflict, claimed_by, emit_probe};
use crate::wire::{self, Expect};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Asks for every address of `attachment` on the first of `links`, all of its interface, and listens on all of them; the first host that has
/// one, or is about to take it. Takes 0.4 s without one. Whatever else arrives meanwhile is dropped: nobody serves yet.
pub(super) fn conflict<L: Link>(links: &mut [L], attachment: &Attachment) -> Option<Conflict> {
    let addresses: Vec<IpAddr> = attachment.addresses.iter().map(|own| own.address).collect();
    for _ in 0..PROBES {
        let deadline = Instant::now() + INTERVAL;
        let mut unasked = addresses.iter();
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
                if let Some(conflict) = listen(link, attachment.vlan, &addresses) {
                    return Some(conflict);
                }
            }
            thread::sleep(NAP);
        }
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

/// How often each address is asked for, and how long an answer may take. RFC 5227 1.1 asks three times in 4 to 7 s; a stack that
/// serves a wire of today would lose that time at each start, and what is overlooked shows as `address_conflicts` later.
const PROBES: usize = 4;
const INTERVAL: Duration = Duration::from_millis(100);

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
        ShardConfig { addresses: addresses.iter().map(own).collect(), limits, ..ShardConfig::default() }
    }

    /// The conflict that a stack with `wanted` finds on a wire with a host that has `taken`.
    fn asked(wanted: &[&str], taken: &[&str]) -> Option<Conflict> {
        let (mine, theirs) = pair(MemoryConfig::default(), MACS);
        let mut host = Shard::new(theirs, Nothing, config(taken), Now::default()).unwrap();
        thread::scope(|scope| {
            let asks = scope.spawn(|| conflict(&mut [mine], &config(wanted).attachments()[0]));
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
            let found = asked(&wanted, &[taken]);
            assert_eq!(found, Some(Conflict { address: taken.parse().unwrap(), mac: MACS[1] }));
        }
    }

    #[test]
    fn hosts_with_other_addresses_are_no_conflict() {
        assert_eq!(asked(&["10.0.0.9", "fd00::9"], &["10.0.0.5", "fd00::5"]), None);
    }
}
