//! Draws while TIME-WAIT is full: only a port will do whose place there the connection takes over.

use super::*;

/// One destination with these places in queues, all of whose ports are in use.
fn all_open(queued_ports_max: u32, count: u16) -> (Fixture, Vec<u16>) {
    let mut f = Fixture::new(limits(1, queued_ports_max), (20_000, 20_000 + count - 1), near_the_wrap(5));
    f.reuse_after_ms = 1000;
    let ports = (0..count).map(|_| f.open(0).unwrap()).collect();
    (f, ports)
}

/// How many opens in a row are refused before one draws a port.
fn refused(f: &mut Fixture, tries: usize) -> usize {
    let refused = (0..tries).take_while(|_| f.open_again(0).is_err()).count();
    assert!(refused < tries, "{refused} opens are refused");
    refused
}

#[test]
fn free_ports_do_not_hide_those_whose_place_may_be_taken_over() {
    // In the second case the last third has no room in the queue.
    for queued_ports_max in [10_000, 6_600] {
        let (mut f, ports) = all_open(queued_ports_max, 10_000);
        for (number, &port) in ports.iter().enumerate() {
            f.close(0, port, if number < 9_400 { 2000 } else { TWO_MSL_MS });
        }
        f.now = f.now.plus(2000);
        let refused = refused(&mut f, 40);
        assert!(refused <= 20, "{refused} with {queued_ports_max}");
        let drawn = 1 + (0..700).filter(|_| f.open_again(0).is_ok()).count();
        assert_eq!(drawn, 600, "with {queued_ports_max} places in queues");
    }
}

#[test]
fn refused_opens_leave_free_ports_before_those_that_wait() {
    let (mut f, ports) = all_open(1000, 100);
    f.reuse_after_ms = u32::MAX;
    for (number, &port) in ports.iter().enumerate() {
        f.close(0, port, if number < 50 { 2000 } else { TWO_MSL_MS });
    }
    f.now = f.now.plus(2000);
    (0..6).for_each(|_| assert!(f.open_again(0).is_err()));
    let drawn: Vec<u16> = (0..50).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(drawn, ports[..50]);
    assert_eq!(next_free(&mut f), Some(TWO_MSL_MS - 2000));
}

/// Each is set aside once, and a sweep asks about each once more; without room in the queues the lap that the sweep begins does, too.
#[test]
fn refused_opens_ask_about_few_ports() {
    for (queued_ports_max, asked_max) in [(20_000, 20_000), (0, 40_000)] {
        let (mut f, ports) = all_open(queued_ports_max, 10_000);
        ports.iter().for_each(|&port| f.close(0, port, 2000));
        f.now = f.now.plus(2000);
        let mut asked = 0;
        for _ in 0..10_000 {
            assert!(f.open_again(0).is_err());
            asked += f.asked.get();
        }
        assert!(asked <= asked_max, "{asked} with {queued_ports_max} places in queues");
    }
}

#[test]
fn after_a_change_of_owners_the_new_lap_draws_whose_place_may_be_taken_over() {
    let (mut f, ports) = all_open(20_000, 10_000);
    ports[..5000].iter().for_each(|&port| f.close(0, port, 2000));
    ports[5000..].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(2000);
    f.destinations.change_owners(&f.owners);
    (0..5000).for_each(|_| assert!(f.open_again(0).is_ok()));
    assert!(f.open_again(0).is_err());
    (0..5000).for_each(|_| assert!(f.open(0).is_ok(), "what the lap has passed is not lost"));
}

#[test]
fn forgotten_ports_whose_place_may_be_taken_over_come_up() {
    let (mut f, ports) = all_open(0, 1000);
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(1000);
    (0..500).for_each(|_| assert!(f.open_again(0).is_ok()));
    // Those behind the lap are forgotten again.
    let again: Vec<u16> = f.open.keys().map(|&(_, port)| port).collect();
    again[..100].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(1000);
    (0..600).for_each(|_| assert!(f.open_again(0).is_ok()));
}

/// The lap comes to the forgotten ones, although some that were set aside are free.
#[test]
fn free_ports_do_not_keep_off_the_lap_of_the_forgotten() {
    let (mut f, ports) = all_open(30, 1000);
    for (number, &port) in ports.iter().enumerate() {
        f.close(0, port, if number < 20 { 2000 } else { TWO_MSL_MS });
    }
    f.now = f.now.plus(2000);
    for _ in 0..2 {
        let drawn: Vec<u16> = (0..2000)
            .filter_map(|_| {
                f.now = f.now.plus(1);
                f.open_again(0).ok()
            })
            .collect();
        assert_eq!(drawn.len(), 980);
        drawn.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    }
}

/// Whether the queues have room or not, free ports are there at once when TIME-WAIT has.
#[test]
fn free_ports_that_refused_opens_came_past_are_drawn_as_soon_as_there_is_room() {
    for queued_ports_max in [0, 100, 700, 2000] {
        let (mut f, ports) = all_open(queued_ports_max, 1000);
        f.reuse_after_ms = u32::MAX;
        for (number, &port) in ports.iter().enumerate() {
            f.close(0, port, if number < 500 { 2000 } else { TWO_MSL_MS });
        }
        f.now = f.now.plus(2000);
        (0..50).for_each(|_| assert!(f.open_again(0).is_err()));
        let drawn = (0..502).filter(|_| f.open(0).is_ok()).count();
        assert_eq!(drawn, 500, "with {queued_ports_max} places in queues");
    }
}

/// Opens until there is nothing more, with time standing still: what is free comes up at once, or after draws that promise it for now.
fn drawn_at_once(f: &mut Fixture) -> usize {
    let (mut drawn, mut refused) = (0, 0);
    loop {
        match f.open(0) {
            Ok(_) => drawn += 1,
            Err(DrawError::PortsExhausted { next_free_in_ms: Some(0), .. }) if refused < 10 => refused += 1,
            Err(_) => return drawn,
        }
    }
}

/// A destination without places in queues, half of whose 1,000 ports are in TIME-WAIT behind a lap, the others free in front of it.
fn half_way_through_a_lap_in_order() -> Fixture {
    let (mut f, ports) = all_open(0, 1000);
    f.reuse_after_ms = u32::MAX;
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(TWO_MSL_MS);
    let again: Vec<u16> = (0..500).map(|_| f.open(0).unwrap()).collect();
    again.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f
}

/// Free ports that refused opens came past, and that no queue had room for, lie anywhere: in front of a first lap that goes on, or of
/// one that goes through the ports again, and behind those that wait.
#[test]
fn free_ports_that_were_forgotten_lie_anywhere_and_are_drawn_as_soon_as_there_is_room() {
    // The first lap is half way; one of the first half is free.
    let mut f = Fixture::new(limits(1, 30), (20_000, 20_999), 5);
    let ports: Vec<u16> = (0..500).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, if port == ports[0] { 2000 } else { TWO_MSL_MS }));
    f.now = f.now.plus(2000);
    assert!(f.open_again(0).is_err());
    assert_eq!(drawn_at_once(&mut f), 501);

    // A lap in order is half way.
    let mut f = half_way_through_a_lap_in_order();
    (0..3).for_each(|_| assert!(f.open_again(0).is_err()));
    assert_eq!(drawn_at_once(&mut f), 500);

    // The queue has drawn, and the lap begins behind those that are free.
    let (mut f, ports) = all_open(60, 90);
    f.reuse_after_ms = u32::MAX;
    ports.iter().enumerate().for_each(|(at, &port)| f.close(0, port, if at < 10 { 2000 } else { TWO_MSL_MS }));
    assert!(f.open(0).is_err());
    f.now = f.now.plus(2000);
    (0..3).for_each(|_| assert!(f.open_again(0).is_err()));
    assert_eq!(drawn_at_once(&mut f), 10);

    // A sweep lets go of those that were set aside.
    let (mut f, ports) = all_open(60, 1000);
    f.reuse_after_ms = u32::MAX;
    ports[500..560].iter().for_each(|&port| f.close(0, port, 2000));
    ports[..500].iter().chain(&ports[560..]).for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(2000);
    (0..3).for_each(|_| assert!(f.open_again(0).is_err()));
    assert_eq!(drawn_at_once(&mut f), 60);
}

/// Room comes and goes, as while TIME-WAIT is full and its records end one by one.
#[test]
fn free_ports_that_were_forgotten_are_drawn_although_room_comes_and_goes() {
    let mut f = half_way_through_a_lap_in_order();
    let mut drawn = 0;
    for _ in 0..600 {
        assert!(f.open_again(0).is_err());
        match f.open(0) {
            Ok(_) => drawn += 1,
            Err(DrawError::PortsExhausted { next_free_in_ms: Some(0), .. }) if drawn < 500 => {}
            error => {
                assert!(drawn == 500 && error.is_err(), "{drawn} are drawn: {error:?}");
            }
        }
    }
    assert_eq!(drawn, 500);
}

/// The queue has drawn with TIME-WAIT full only. When the pool has no room for what comes back, the lap begins with the oldest of the queue.
#[test]
fn a_lap_behind_draws_while_time_wait_was_full_begins_with_the_oldest() {
    let mut f = Fixture::new(limits(2, 10_020), (20_000, 29_999), 5);
    f.reuse_after_ms = 1000;
    let ports: Vec<u16> = (0..10_000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(1000);
    let again: Vec<u16> = (0..5000).map(|_| f.open_again(0).unwrap()).collect();
    assert_eq!(again, ports[..5000]);
    // Another destination takes the nodes that these have left.
    let others: Vec<u16> = (0..10_000).map(|_| f.open(1).unwrap()).collect();
    others.iter().for_each(|&port| f.close(1, port, TWO_MSL_MS));
    again.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    let drawn: Vec<_> = (0..5000).map(|_| f.open(0)).collect();
    assert_eq!(drawn, Vec::from_iter(ports[5000..].iter().copied().map(Ok)));
}

#[test]
fn a_port_that_is_free_when_it_comes_back_is_drawn_at_once_although_no_queue_has_room() {
    let (mut f, ports) = all_open(0, 1000);
    f.reuse_after_ms = u32::MAX;
    ports[..999].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    for _ in 0..20 {
        f.close(0, ports[999], 0);
        assert_eq!(drawn_at_once(&mut f), 1);
    }
}

/// A first lap that is not over has passed them, and the pool had no room for them.
#[test]
fn forgotten_ports_of_a_first_lap_may_be_taken_over() {
    let mut f = Fixture::new(limits(1, 0), (20_000, 20_999), 5);
    f.reuse_after_ms = 1000;
    let ports: Vec<u16> = (0..500).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(1000);
    let drawn = (0..500).filter(|_| f.open_again(0).is_ok()).count();
    assert_eq!(drawn, 500);
}

/// What lies behind those that were drawn has come forward meanwhile.
#[test]
fn a_sweep_misses_nothing_although_the_queue_draws_meanwhile() {
    let (mut f, ports) = all_open(3000, 2000);
    f.reuse_after_ms = u32::MAX;
    for (at, &port) in ports.iter().enumerate() {
        f.close(0, port, if at == REPEATED_ASKED_MAX as usize + 2 { 2000 } else { TWO_MSL_MS });
    }
    f.now = f.now.plus(2000);
    assert_eq!(next_free(&mut f), Some(0), "the sweep goes on");
    ports[..5].iter().for_each(|&port| assert!(f.time_wait.remove(&(0, port)).is_some()));
    (0..5).for_each(|at| assert_eq!(f.open(0), Ok(ports[at])));
    assert_eq!(drawn_at_once(&mut f), 1);
}

/// Of a port that is free far behind those that wait a refused open's sweep is the first to learn.
#[test]
fn a_free_port_that_the_sweep_of_a_refused_open_came_past_is_drawn_as_soon_as_there_is_room() {
    let (mut f, ports) = all_open(3000, 2000);
    f.reuse_after_ms = u32::MAX;
    ports.iter().for_each(|&port| f.close(0, port, if port == ports[1000] { 2000 } else { TWO_MSL_MS }));
    f.now = f.now.plus(2000);
    (0..5).for_each(|_| assert!(f.open_again(0).is_err()));
    assert_eq!(drawn_at_once(&mut f), 1);
}
