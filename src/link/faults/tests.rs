//! Tests of `faults`.

use super::*;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use proptest::prelude::*;

const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

fn wrapped(transmit: FaultConfig, receive: FaultConfig, seed: u64) -> (Faults<MemoryLink>, MemoryLink) {
    let (a, b) = pair(MemoryConfig::default(), MACS);
    (Faults::new(a, transmit, receive, seed), b)
}

fn send(link: &mut impl Link, bytes: &[u8]) {
    let mut frame = link.take().unwrap();
    link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
    link.send(frame, bytes.len()).unwrap();
}

fn receive(link: &mut impl Link) -> Vec<Vec<u8>> {
    let mut burst = Vec::with_capacity(256);
    link.receive(&mut burst, 256);
    let take = |frame: Frame| {
        let bytes = link.bytes(&frame).to_vec();
        link.give_back(frame);
        bytes
    };
    burst.drain(..).map(take).collect()
}

#[test]
fn without_faults_frames_pass_unchanged_and_in_order() {
    let (mut a, mut b) = wrapped(FaultConfig::default(), FaultConfig::default(), 1);
    for number in 0..100u8 {
        send(&mut a, &[number; 60]);
        send(&mut b, &[number; 60]);
    }
    a.flush();
    b.flush();
    let expected: Vec<Vec<u8>> = (0..100u8).map(|number| vec![number; 60]).collect();
    assert_eq!(receive(&mut b), expected);
    assert_eq!(receive(&mut a), expected);
    assert_eq!((a.held(), a.transmit_faults().delivered, a.receive_faults().delivered), ((0, 0), 100, 100));
}

#[test]
fn delayed_frame_comes_when_its_time_has() {
    let (mut a, mut b) = wrapped(FaultConfig { delay_us: (500, 500), ..Default::default() }, FaultConfig::default(), 1);
    send(&mut a, b"late");
    a.flush();
    assert!(receive(&mut b).is_empty());
    assert_eq!((a.next_due(), a.levels().in_hand), (Some(Now::from_us(500)), 0));
    a.advance(Now::from_us(499));
    a.flush();
    assert!(receive(&mut b).is_empty());
    a.advance(Now::from_us(500));
    a.flush();
    assert_eq!(receive(&mut b), [b"late"]);
}

#[test]
fn fates_by_frame_do_not_depend_on_the_order_and_spare_what_is_sent_often() {
    let config = FaultConfig { loss: 0.5, corruption: 0.5, ..Default::default() };
    let come = |order: &mut dyn Iterator<Item = u8>| {
        let (a, mut b) = wrapped(config, FaultConfig::default(), 1);
        let mut a = a.by_frame(|bytes| u64::from(bytes[0]), 3);
        order.for_each(|number| send(&mut a, &[number; 60]));
        a.flush();
        let mut got = receive(&mut b);
        got.sort();
        got
    };
    let forwards = come(&mut (0..40).chain(0..40));
    let backwards = come(&mut (0..40).rev().chain((0..40).rev()));
    assert!(forwards == backwards, "{} and {} frames", forwards.len(), backwards.len());
    assert!(forwards.len() < 60 && forwards != come(&mut (80..120).chain(80..120)));
    let third = |number: u8| come(&mut [number; 3].into_iter()).contains(&vec![number; 60]);
    assert!((0..40).all(third), "the third of each passes unharmed");
}

#[test]
fn capacity_spaces_frames_and_drops_what_the_queue_cannot_hold() {
    let config = FaultConfig { frames_per_second: 1000, queue_frames: 3, ..Default::default() };
    let (mut a, mut b) = wrapped(config, FaultConfig::default(), 1);
    for number in 0..5u8 {
        send(&mut a, &[number]);
    }
    a.flush();
    assert_eq!(receive(&mut b), [[0]]);
    assert_eq!(a.transmit_faults().over_capacity, 2);
    for number in 1..3u8 {
        a.advance(Now::from_ms(u64::from(number)));
        a.flush();
        assert_eq!(receive(&mut b), [[number]]);
    }
}

#[test]
fn corruption_flips_one_bit_and_duplicates_stay_whole() {
    let config = FaultConfig { corruption: 1.0, duplication: 1.0, ..Default::default() };
    let (mut a, mut b) = wrapped(FaultConfig::default(), config, 1);
    send(&mut b, &[0; 60]);
    b.flush();
    let ones: Vec<u32> = receive(&mut a).iter().map(|bytes| bytes.iter().map(|byte| byte.count_ones()).sum()).collect();
    assert_eq!(ones, [1, 0]);
}

#[test]
fn held_pool_full_drops_and_counts() {
    let config = FaultConfig { delay_us: (5, 5), held_max: 2, ..Default::default() };
    let (mut a, _b) = wrapped(config, FaultConfig::default(), 1);
    for _ in 0..3 {
        send(&mut a, b"x");
    }
    assert_eq!((a.held().0, a.transmit_faults().held_full), (2, 1));
}

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..0.6f64]
}

prop_compose! {
    fn config()(
        loss in share(), corruption in share(), duplication in share(), reordering in share(), late in share(),
        low in 0u64..50, span in 0u64..200, rate in prop_oneof![Just(0u64), 10_000u64..1_000_000],
        queue_frames in 1u32..20, held_max in 0u32..40,
    ) -> FaultConfig {
        FaultConfig {
            loss, corruption, duplication, reordering, reordering_us: 300, delay_us: (low, low + span),
            late_duplication: late, late_us: 5000, frames_per_second: rate, queue_frames, held_max,
        }
    }
}

fn conserved(counters: FaultCounters, held: usize) -> bool {
    counters.entered + counters.duplicated + counters.late_duplicated
        == counters.delivered + counters.lost + counters.over_capacity + counters.held_full + held as u64
}

/// Frames both ways under faults: everything that came out, and the counters.
fn run(
    transmit: FaultConfig,
    incoming: FaultConfig,
    seed: u64,
    steps: &[(u8, u16)],
) -> (Vec<Vec<u8>>, [FaultCounters; 2]) {
    let (mut a, mut b) = wrapped(transmit, incoming, seed);
    let (mut came, mut now) = (Vec::new(), Now::default());
    for (number, &(count, wait_us)) in steps.iter().enumerate() {
        for part in 0..count {
            send(&mut a, &[number as u8, part, 1, 2]);
            send(&mut b, &[number as u8, part, 3, 4]);
        }
        a.flush();
        b.flush();
        now = Now::from_us(now.us() + u64::from(wait_us));
        a.advance(now);
        came.extend(receive(&mut a));
        came.extend(receive(&mut b));
        assert!(a.levels().conserved() && a.levels().free == a.levels().total);
        assert!(conserved(a.transmit_faults(), a.held().0) && conserved(a.receive_faults(), a.held().1));
    }
    (came, [a.transmit_faults(), a.receive_faults()])
}

proptest! {
    #[test]
    fn totals_add_up_and_every_seed_replays(
        transmit in config(), incoming in config(), seed: u64,
        steps in proptest::collection::vec((0u8..20, 0u16..400), 1..40),
    ) {
        let first = run(transmit, incoming, seed, &steps);
        let sent: u64 = steps.iter().map(|(count, _)| u64::from(*count)).sum();
        prop_assert_eq!(first.1[0].entered, sent);
        prop_assert_eq!(run(transmit, incoming, seed, &steps), first);
    }
}
