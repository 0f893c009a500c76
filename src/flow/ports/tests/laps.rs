//! Laps: each port once, and in which order they come up again.

use super::*;

#[test]
fn lap_takes_every_port_once_and_then_the_oldest_returned() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2099), 5);
    let first: Vec<u16> = (0..100).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 100);
    assert_eq!(
        f.open(0),
        Err(DrawError::PortsExhausted { owned: 100, in_use: 100, time_wait: 0, next_free_in_ms: None })
    );
    for &port in &first[..50] {
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus(10);
    }
    let exhausted =
        DrawError::PortsExhausted { owned: 100, in_use: 50, time_wait: 50, next_free_in_ms: Some(TWO_MSL_MS - 500) };
    assert_eq!(f.open(0), Err(exhausted));
    for &port in &first[..50] {
        f.now = f.time_wait[&(0, port)];
        assert_eq!(f.open(0), Ok(port), "oldest first, as soon as its 2MSL has ended");
        assert!(f.open(0).is_err());
    }
}

#[test]
fn few_ports_of_ours_among_many_are_drawn_at_once() {
    let mut f = Fixture::among(limits(1, 1000), Owners::new(&Spread::Symmetric, 256, (1, u16::MAX)), 5);
    let drawn: Vec<u16> = (0..256).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(
        f.open(0),
        Err(DrawError::PortsExhausted { owned: 256, in_use: 256, time_wait: 0, next_free_in_ms: None })
    );
    drawn.into_iter().for_each(|port| f.close(0, port, 0));
    assert!(f.open(0).is_ok());
}

#[test]
fn port_of_another_shard_after_a_change_is_not_queued() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    f.owners = Arc::new(Owners::new(&Spread::Symmetric, 3, (2000, 2009)));
    f.destinations.change_owners(&f.owners);
    let ours = ports.iter().filter(|port| f.owns(0, **port)).count() as u32;
    assert!((1..10).contains(&ours), "{ours}");
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(TWO_MSL_MS);
    (0..ours).for_each(|_| assert!(f.open(0).is_ok()));
    assert!(
        matches!(f.open(0), Err(DrawError::PortsExhausted { owned, in_use, .. }) if owned == ours && in_use == ours)
    );
}

/// No shard of its own finds it: the next draw asks about no more than the one before.
#[test]
fn port_of_another_shard_that_comes_back_free_costs_no_sweep() {
    let mut f = Fixture::new(limits(1, 2000), (2000, 2999), 5);
    let ports: Vec<u16> = (0..1000).map(|_| f.open(0).unwrap()).collect();
    f.owners = Arc::new(Owners::new(&Spread::Symmetric, 3, (2000, 2999)));
    f.destinations.change_owners(&f.owners);
    let (ours, others): (Vec<u16>, Vec<u16>) = ports.iter().partition(|port| f.owns(0, **port));
    ours.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    (0..3).for_each(|_| assert_eq!(next_free(&mut f), Some(TWO_MSL_MS)));
    let asked = f.asked.get();
    f.close(0, others[0], 0);
    assert_eq!((next_free(&mut f), f.asked.get()), (Some(TWO_MSL_MS), asked));
}

/// The ports in use lie next to each other in the new lap, for they were drawn in the order of the former.
#[test]
fn draws_after_a_change_of_owners_come_past_all_ports_in_use_and_queue_none() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let in_use: Vec<u16> = (0..10_000).map(|_| f.open(0).unwrap()).collect();
    f.destinations.change_owners(&f.owners);
    let mut asked = 0;
    let mut more = Vec::new();
    for _ in 0..100 {
        more.push(f.open(0).unwrap());
        asked += f.asked.get();
    }
    assert!(asked <= 10_000 + 100, "each port of the lap is asked about once, not {asked} of them");
    assert_eq!(f.destinations.ports_of(0), (10_100, 0), "none of them is in TIME-WAIT");
    in_use.iter().chain(&more).for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(f.destinations.ports_of(0), (0, 10_100));
}

/// The eight at the front are open for as long as others take to go around once, and close just before it is their turn.
#[test]
fn few_that_closed_late_do_not_hold_up_a_lap() {
    let mut f = Fixture::new(limits(1, 1000), (20_000, 29_999), 5);
    let (mut held, mut time_wait) = (Vec::new(), VecDeque::new());
    let mut failed = 0;
    for draw in 0..60_000 {
        if draw % 10 == 0 {
            f.now = f.now.plus(1);
        }
        if draw % 10_000 == 9_000 {
            time_wait.extend(held.iter().map(|&port| (0, port)));
            held.drain(..).for_each(|port| f.close(0, port, TWO_MSL_MS));
        }
        match f.open(0) {
            Ok(port) if draw % 10_000 < 10 => held.push(port),
            Ok(port) => {
                f.close(0, port, TWO_MSL_MS);
                time_wait.push_back((0, port));
            }
            Err(_) => failed += 1,
        }
        while time_wait.len() > 1000 {
            f.time_wait.remove(&time_wait.pop_front().expect("full"));
        }
    }
    assert_eq!(failed, 0, "9,000 ports are free");
}

/// TIME-WAIT holds a part of the ports and gives up its oldest record for each new one: the others are free, and every draw
/// finds one soon, though the queues remember no more ports than TIME-WAIT does.
#[test]
fn draws_succeed_while_far_more_ports_go_around_than_the_queues_remember() {
    let cases = [(1, 1000, 900), (4, 2000, 100), (40, 4000, 1), (3, 1999, 2000)];
    for ((destinations, time_wait_max, in_flight_max), tenths) in
        cases.into_iter().flat_map(|case| [12, 15, 22, 100].map(|tenths| (case, tenths)))
    {
        let count = tenths * (time_wait_max + in_flight_max as u32) / 10 / destinations;
        let ports = (20_000, 20_000 + count as u16 - 1);
        let mut f = Fixture::new(limits(destinations, time_wait_max), ports, 5);
        let mut random = SmallRng::seed_from_u64(1);
        let mut in_flight = VecDeque::new();
        let mut time_wait = VecDeque::new();
        let (mut asked, mut asked_most) = (0, 0);
        let draws = 30 * time_wait_max;
        for draw in 0..draws {
            let destination = random.random_range(0..destinations);
            match f.open(destination) {
                Ok(port) => in_flight.push_back((destination, port)),
                Err(error) => {
                    assert!(
                        !f.has_free(destination),
                        "draw {draw} of {destinations} destinations, {count} ports each: {error:?}"
                    );
                }
            }
            (asked, asked_most) = (asked + f.asked.get(), asked_most.max(f.asked.get()));
            if in_flight.len() > in_flight_max {
                let end = in_flight.pop_front().expect("some are open");
                f.close(end.0, end.1, TWO_MSL_MS);
                time_wait.push_back(end);
            }
            if time_wait.len() > time_wait_max as usize {
                f.time_wait.remove(&time_wait.pop_front().expect("full"));
            }
        }
        assert!(asked <= 2 * draws, "{asked} ports asked about in {draws} draws, at most {asked_most} in one");
    }
}

/// A port that comes back before the new lap has come to it: drawn in the lap, it must not be in the queue as well.
#[test]
fn port_that_comes_back_ahead_of_a_lap_is_not_queued() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    f.destinations.change_owners(&f.owners);
    ports.iter().for_each(|&port| f.close(0, port, 0));
    assert_eq!(f.destinations.ports_of(0), (0, 0));
    let again: Vec<u16> = (0..5).map(|_| f.open(0).unwrap()).collect();
    again.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(f.destinations.ports_of(0), (0, 5), "what the lap has passed waits in the queue");
    f.now = f.now.plus(TWO_MSL_MS);
    (0..10).for_each(|_| assert!(f.open(0).is_ok()));
    assert!(f.open(0).is_err());
    assert_eq!(f.destinations.ports_of(0), (10, 0));
}

#[test]
fn a_new_lap_of_ports_in_time_wait_promises_the_first_of_their_ends() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.destinations.change_owners(&f.owners);
    assert_eq!((next_free(&mut f), next_free(&mut f)), (Some(TWO_MSL_MS), Some(TWO_MSL_MS)));
}

#[test]
fn what_was_found_taken_before_a_change_of_owners_counts_no_more() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 29_999), 5);
    f.by_hand = (20_000..30_000).map(|port| (0, port)).collect();
    let promises: Vec<_> = (0..40).map(|_| next_free(&mut f)).collect();
    assert_eq!(promises.last(), Some(&None));
    f.destinations.change_owners(&f.owners);
    assert_eq!(next_free(&mut f), None, "all have been asked about");
    assert_eq!(next_free(&mut f), Some(0), "any may have been given back since");
}

/// Pools without room: what has come back behind the lap is known to none but the next lap.
#[test]
fn a_lap_that_ends_in_vain_promises_the_next_one() {
    let mut f = Fixture::new(limits(1, 0), (2000, 2099), 5);
    let ports: Vec<u16> = (0..100).map(|_| f.open(0).unwrap()).collect();
    ports[..10].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(next_free(&mut f), Some(TWO_MSL_MS));
    f.time_wait.clear();
    (0..10).for_each(|_| assert!(f.open(0).is_ok()));
    ports[..5].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!((next_free(&mut f), next_free(&mut f)), (Some(1), Some(TWO_MSL_MS)));
}

/// As long as somebody else has the only port left, who comes again at once is told of a time that is not now.
#[test]
fn forgotten_ports_of_somebody_else_are_no_promise_for_now() {
    let mut f = Fixture::new(limits(1, 0), (2000, 2099), 5);
    f.by_hand.insert((0, 2050));
    (0..99).for_each(|_| assert!(f.open(0).is_ok()));
    let promises: Vec<_> = (0..20).map(|_| next_free(&mut f)).collect();
    assert!(promises.iter().all(|promise| matches!(promise, None | Some(1))), "{promises:?}");
    assert!(promises.contains(&Some(1)), "{promises:?}");
    f.by_hand.clear();
    assert_eq!(f.open(0), Ok(2050));
}

#[test]
fn what_was_found_taken_before_a_lap_in_order_counts_no_more() {
    let mut f = Fixture::new(limits(1, 900), (20_000, 22_999), 5);
    f.by_hand = (20_000..23_000).map(|port| (0, port)).collect();
    let mut laps = 0;
    for _ in 0..100 {
        let record = f.destinations.slab.iter().next();
        let begins = record.is_some_and(|(_, record)| record.lap.is_done() && record.forgotten > 0);
        assert!(f.open(0).is_err());
        if begins {
            assert_eq!(f.destinations.slab[0].passed, 0, "the lap asks about all again");
            laps += 1;
        }
    }
    assert!(laps > 5, "{laps}");
}
