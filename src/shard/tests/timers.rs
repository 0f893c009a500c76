//! Timers of the application's own.

use super::options::Bench;
use super::*;
use crate::api::{ConnectionOptions, TimerError};
use crate::ids::TimerId;
use crate::wire::tcp::Flags;
use ::core::time::Duration;

/// Notes when each timer was told, and stops others when told to.
#[derive(Default)]
struct Clock {
    told: Vec<(u64, Now)>,
    /// By token, what is stopped and whether that should run.
    stops: BTreeMap<u64, (TimerId, bool)>,
    /// Starts one more of each token below this, at once.
    again: u64,
}

impl Application for Clock {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        let Event::Timer { token } = event else { panic!("{event:?}") };
        self.told.push((token, calls.now()));
        if let Some((timer, runs)) = self.stops.remove(&token) {
            assert_eq!(calls.stop_timer(timer), runs);
        }
        if token < self.again {
            calls.start_timer(Duration::ZERO, token).expect("room");
        }
    }
}

/// A shard of its own, 0.3 ms past a whole millisecond.
fn clock(timers_max: u32) -> (Shard<MemoryLink, Clock>, Now) {
    let now = Now::from_us(5_000_300);
    let (link, _) = pair(MemoryConfig::default(), MACS);
    let config = ShardConfig {
        limits: Limits { timers_max, ..Setup::default().limits },
        addresses: vec![LocalAddress { address: "10.0.0.1".parse().expect("an address"), prefix_len: 24 }],
        ..ShardConfig::seeded(0)
    };
    (Shard::new(link, Clock::default(), config, now).expect("a shard"), now)
}

fn tokens(shard: &Shard<MemoryLink, Clock>) -> Vec<u64> {
    shard.application().told.iter().map(|(token, _)| *token).collect()
}

#[test]
fn timers_are_told_once_never_early_and_at_most_a_granule_late() {
    let (mut shard, start) = clock(1000);
    for ms in 0..1000 {
        shard.calls(start).start_timer(Duration::from_micros(ms * 7300), ms).expect("room");
    }
    let mut now = start;
    while shard.core.timers.len() > 0 {
        let next = shard.next_deadline(now).expect("timers run");
        assert!(next.us() - now.us() < 8_000_000, "a bound on sleep");
        now = Now::from_us(now.us() + 500);
        shard.turn(now);
    }
    let told = &shard.application().told;
    assert_eq!(told.len(), 1000);
    for (token, at) in told {
        let (due, at) = (start.us() + token * 7300, at.us());
        assert!((due..=due + 1000 + 8000 + 500).contains(&at), "timer {token} of {due} us at {at} us");
    }
    assert_eq!(shard.next_deadline(now), None, "nothing runs any more");
}

#[test]
fn a_stopped_timer_is_never_told_and_its_name_is_stale() {
    let (mut shard, now) = clock(4);
    let after = Duration::from_millis(50);
    let ids = [0, 1, 2].map(|token| shard.calls(now).start_timer(after, token).expect("room"));
    assert!(shard.calls(now).stop_timer(ids[1]));
    assert!(!shard.calls(now).stop_timer(ids[1]), "it runs no longer");
    let later = shard.calls(now).start_timer(after, 3).expect("room");
    assert!(later != ids[1] && !shard.calls(now).stop_timer(ids[1]), "the slot is another's");
    // Both are due in one batch; whichever is told first stops the other.
    shard.application_mut().stops = BTreeMap::from([(0, (ids[2], true)), (2, (ids[0], true)), (3, (later, false))]);
    shard.turn(now.plus_ms(100));
    let told = tokens(&shard);
    assert!(told.len() == 2 && told.contains(&3) && !told.contains(&1), "{told:?}");
    assert_eq!(shard.core.timers.len(), 0);
}

#[test]
fn timers_that_cannot_start_are_typed_errors() {
    let (mut shard, now) = clock(2);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(shard.calls(now).start_timer(24 * day, 0), Err(TimerError::TooLong(24 * day)));
    assert_eq!(shard.calls(now).start_timer(Duration::MAX, 0), Err(TimerError::TooLong(Duration::MAX)));
    shard.calls(now).start_timer(24 * day - Duration::from_millis(1), 0).expect("the longest");
    shard.calls(now).start_timer(day, 0).expect("the last");
    assert_eq!(shard.calls(now).start_timer(day, 0), Err(TimerError::TooMany(2)));
    shard.turn(now.plus_ms(1000));
    assert!(shard.application().told.is_empty());
}

#[test]
fn a_timer_started_by_a_timer_waits_for_the_next_turn() {
    let (mut shard, now) = clock(8);
    shard.application_mut().again = 4;
    for token in 0..4 {
        shard.calls(now).start_timer(Duration::ZERO, token).expect("room");
    }
    for turn in 1..=10 {
        // A granule each.
        shard.turn(now.plus_ms(turn * 9));
        assert!(shard.application().told.len() <= 4 * turn as usize, "a turn ends");
    }
    assert!(shard.application().told.len() > 20 && shard.core.timers.len() == 4);
}

/// Arrivals arm before anything is asked what is due, on wheels that were empty for longer than ticks tell apart.
#[test]
fn after_a_gap_longer_than_ticks_tell_apart_deadlines_come_as_ever() {
    for days in [13, 25, 40, 60, 500] {
        let mut bench = Bench::new(Settings::default(), false);
        bench.listen(ConnectionOptions::default()).expect("a listener");
        let early = bench.exchange(&bench.next(Flags::SYN), &[]);
        assert_eq!(early.len(), 1, "{days}");
        bench.now = bench.now.plus_ms(days * 24 * 3600 * 1000);
        bench.tuple.local_port += 1;
        let late = bench.exchange(&bench.next(Flags::SYN), &[]);
        assert!(late.iter().any(|heard| heard.seg.ack == bench.seq + 1), "{days}");
        let mut again = 0;
        for _ in 0..20 {
            again += bench.turn(1000).len();
        }
        assert!((1..=16).contains(&again), "{days}: SYN-ACKs of both are sent {again} times again");
        assert_eq!(bench.shard.core.turned_at, bench.now, "{days}");
        bench.turn(200_000);
        assert_eq!((bench.shard.connections_live(), bench.shard.core.wheel.len()), (0, 0), "{days}");
        assert_shard_clean(&bench.shard);
    }
}

/// Whoever sleeps for as long as the shard says misses nothing while time catches up.
#[test]
fn after_a_gap_there_is_no_sleep_before_time_has_caught_up() {
    for days in [25, 36, 49, 500] {
        let (mut shard, start) = clock(1);
        shard.calls(start).start_timer(Duration::from_secs(23 * 24 * 3600), 7).expect("room");
        shard.turn(start);
        let now = start.plus_ms(days * 24 * 3600 * 1000);
        let mut turns = 0;
        while shard.application().told.is_empty() {
            assert!(turns == 0 || shard.next_deadline(now) == Some(now), "{days} days, {turns} turns");
            shard.turn(now);
            turns += 1;
            assert!(turns <= 12, "{days} days");
        }
    }
}

/// More than a turn treats, and all due: time stands still until they have been told.
#[test]
fn after_a_gap_no_timer_is_lost_behind_others() {
    for days in [25, 500] {
        let (mut shard, now) = clock(3000);
        for token in 0..3000 {
            let after = Duration::from_secs(token / 1500 * 20 * 24 * 3600);
            shard.calls(now).start_timer(after, token).expect("room");
        }
        let mut turns = 0;
        while shard.core.timers.len() > 0 {
            turns += 1;
            assert!(turns <= 3000 / shard.core.expire_budget() + 8, "{days}: {} are left", shard.core.timers.len());
            shard.turn(now.plus_ms(days * 24 * 3600 * 1000 + turns as u64));
        }
        assert!(tokens(&shard)[..1500].iter().all(|&token| token < 1500), "{days}: the first are told first");
    }
}

#[test]
fn more_timers_than_a_turn_treats_are_told_in_the_next_turns() {
    let (mut shard, now) = clock(2000);
    for token in 0..2000 {
        shard.calls(now).start_timer(Duration::from_millis(5), token).expect("room");
    }
    for turn in 0..20 {
        let before = shard.application().told.len();
        shard.turn(now.plus_ms(100 + turn));
        let (told, most) = (shard.application().told.len() - before, shard.core.expire_budget());
        assert!(told <= most && (told == most || shard.core.timers.len() == 0), "{told} of {most}");
    }
    let mut told = tokens(&shard);
    told.sort_unstable();
    assert!(told.into_iter().eq(0..2000), "each once");
}
