//! Queues of ports that came back, and the sweep behind them.

use super::*;

#[test]
fn restarted_time_wait_does_not_hold_up_the_ports_behind_it() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(TWO_MSL_MS - 1);
    for port in &ports[..5] {
        *f.time_wait.get_mut(&(0, *port)).unwrap() = f.now.plus(TWO_MSL_MS);
    }
    f.now = f.now.plus(1);
    let drawn: Vec<u16> = (0..5).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(drawn, ports[5..]);
    assert!(matches!(f.open(0), Err(DrawError::PortsExhausted { next_free_in_ms: Some(59_999), .. })));
}

/// The connections that a change has left with another shard: their ports lie next to each other in the lap, and in the
/// queue after it.
#[test]
fn draws_come_past_many_ports_that_somebody_else_has() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let left: Vec<u16> = (0..10_000).map(|_| f.open(0).unwrap()).collect();
    left.iter().for_each(|&port| f.close(0, port, 0));
    f.destinations.change_owners(&f.owners);
    f.by_hand = left.iter().map(|&port| (0, port)).collect();
    let (mut failed, mut failed_most) = (0, 0);
    for _ in 0..100_000 {
        match f.open(0) {
            Ok(port) => {
                f.close(0, port, 0);
                failed = 0;
            }
            Err(error) => {
                assert!(matches!(error, DrawError::PortsExhausted { next_free_in_ms: Some(0), .. }), "{error:?}");
                failed += 1;
                failed_most = failed.max(failed_most);
            }
        }
    }
    assert!(failed_most <= 20, "{failed_most} draws in a row failed");
}

#[test]
fn draw_promises_nothing_when_somebody_else_has_every_port() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 29_999), 5);
    f.by_hand = (20_000..30_000).map(|port| (0, port)).collect();
    let promises = (0..100).map(|_| match f.open(0) {
        Err(DrawError::PortsExhausted { next_free_in_ms, .. }) => next_free_in_ms,
        other => panic!("{other:?}"),
    });
    let promises: Vec<_> = promises.collect();
    assert!(promises[..10].contains(&Some(0)) && promises[30..].iter().all(Option::is_none), "{promises:?}");
}

#[test]
fn draws_in_vain_stay_short_when_the_queues_are_full() {
    let mut f = Fixture::new(limits(1, 0), (20_000, 59_999), 5);
    let ports: Vec<u16> = (0..40_000).map(|_| f.open(0).unwrap()).collect();
    ports[20_000..].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    for _ in 0..50_000 {
        assert!(f.open(0).is_err());
        assert!(f.asked.get() <= 2 * REPEATED_ASKED_MAX + 2 * QUEUED_ASKED_MAX, "{}", f.asked.get());
        f.now = f.now.plus(1);
    }
    f.now = f.now.plus(TWO_MSL_MS);
    assert!((0..100).any(|_| f.open(0).is_ok()));
}

/// One destination with clients and servers that close first in turn: what has no TIME-WAIT is free, whatever waits before it.
#[test]
fn ports_that_are_free_at_once_are_drawn_before_those_that_wait() {
    let mut f = Fixture::new(limits(1, 10_000), (20_000, 21_999), 5);
    let ports: Vec<u16> = (0..2000).map(|_| f.open(0).unwrap()).collect();
    for (number, port) in ports.into_iter().enumerate() {
        f.close(0, port, if number % 4 < 3 { TWO_MSL_MS } else { 0 });
    }
    let mut asked = 0;
    for draw in 0..10_000 {
        let port = f.open(0).expect("500 are free");
        asked += f.asked.get();
        f.close(0, port, if draw % 25 == 0 { TWO_MSL_MS } else { 0 });
        f.now = f.now.plus(1);
    }
    assert!(asked <= 10_000 + 10_000 / 25 * QUEUED_ASKED_MAX, "{asked}");
}

/// Their 2MSL was longer, or was restarted: neither may keep those behind them.
#[test]
fn ports_behind_many_that_wait_for_longer_come_before_long() {
    for queued_ports_max in [10_000, 0] {
        let mut f = Fixture::new(limits(1, queued_ports_max), (20_000, 20_999), 5);
        let ports: Vec<u16> = (0..1000).map(|_| f.open(0).unwrap()).collect();
        for (number, &port) in ports.iter().enumerate() {
            f.close(0, port, if number < 100 { TWO_MSL_MS } else { 2000 });
        }
        f.now = f.now.plus(3000);
        let drawn = (0..2000).filter(|_| f.open(0).is_ok()).count();
        assert_eq!(drawn, 900, "with {queued_ports_max} places in queues");
    }
}

/// Ports that come back while a sweep goes on stay behind those that were there before.
#[test]
fn the_order_outlasts_a_sweep() {
    let mut f = Fixture::new(limits(1, 100_000), (10_000, 50_448), 5);
    let mut ports: VecDeque<u16> = (0..40_449).map(|_| f.open(0).unwrap()).collect();
    let late = ports.split_off(40_000);
    for (number, &port) in ports.iter().enumerate() {
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus((number % 2) as u32);
    }
    for &port in &late {
        assert!(f.open(0).is_err());
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus(1);
    }
    for port in ports.into_iter().chain(late) {
        f.now = f.now.plus(f.now.until(f.time_wait[&(0, port)]));
        assert_eq!(f.open(0), Ok(port));
    }
}

#[test]
fn ports_opened_by_hand_do_not_hide_the_free_ones_behind_them() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2099), 5);
    let ports: Vec<u16> = (0..100).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, 0));
    f.by_hand = ports[..20].iter().map(|&port| (0, port)).collect();
    assert_eq!((next_free(&mut f), next_free(&mut f)), (Some(0), Some(0)));
    ports[20..].iter().for_each(|&port| assert_eq!(f.open(0), Ok(port)));
}

/// What a draw costs where all ports wait, most of the time.
#[test]
fn draws_in_vain_ask_about_few_ports() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let ports: Vec<u16> = (0..40_000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    let mut asked = 0;
    for _ in 0..10_000 {
        assert!(f.open(0).is_err());
        asked += f.asked.get();
        f.now = f.now.plus(1);
    }
    assert!(asked <= 10_000 * QUEUED_ASKED_MAX + 40_000 + 10_000, "{asked}");
    f.now = f.now.plus(TWO_MSL_MS);
    ports.iter().for_each(|&port| assert_eq!(f.open(0), Ok(port), "the order is what it was"));
}

#[test]
fn queued_ports_that_leave_the_queue_are_no_turn_around_it() {
    let mut f = Fixture::new(limits(1, 10_000), (2000, 2999), 5);
    let ports: Vec<u16> = (0..1000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.time_wait.clear();
    f.open = ports[..600].iter().map(|&port| ((0, port), 0)).collect();
    f.by_hand = ports[600..990].iter().map(|&port| (0, port)).collect();
    assert!((0..3).any(|_| f.open(0).is_ok()), "the last ten are free");
}

/// A port of the queue whose 2MSL ends between the two times that a sweep asks about it, and another that is forgotten.
#[test]
fn queued_port_that_a_sweep_finds_behind_the_lap_stands_for_no_forgotten_one() {
    let mut f = Fixture::new(limits(1, 900), (20_000, 22_999), 5);
    let ports: Vec<u16> = (0..3000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.time_wait.clear();
    let drawn: Vec<u16> = (0..1500).map(|_| f.open(0).unwrap()).collect();
    let ahead = ports.iter().filter(|port| !f.open.contains_key(&(0, **port))).copied();
    f.time_wait = ahead.map(|port| ((0, port), f.now.plus(TWO_MSL_MS))).collect();
    drawn[..931].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(f.destinations.slab[0].forgotten, 1);
    (0..4).for_each(|_| assert!(f.open(0).is_err()));
    f.time_wait.remove(&(0, drawn[100]));
    assert_eq!(f.open(0), Ok(drawn[100]));
    f.time_wait.clear();
    let more = (0..5000).filter(|_| f.open(0).is_ok()).count();
    assert_eq!(more, 1500 + 930, "none is lost");
}
