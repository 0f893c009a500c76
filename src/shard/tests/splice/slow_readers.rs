//! Ends that read nothing, and what they leave to the others.

use super::*;

/// A relay that has room for four full buffers each way, and ends that stall on nothing of their own.
fn setup() -> Setup {
    let limits = Setup::default().limits;
    Setup { of_ends: Some(Limits { chunks_max: 32 * 1024, ..limits }), ..Setup::default() }
}

/// `count` pairs of which the clients read nothing of what their servers send without end, and one more pair.
fn beside(count: usize) -> (World, [Handle; 2]) {
    let (mut world, mut pairs) = World::opened(&setup(), count + 1);
    let last = pairs.pop().expect("one more");
    let ends = world.ends.application_mut();
    ends.full = true;
    ends.listens = last.to_vec();
    for [_, server] in pairs {
        world.send(server, &text(1_000_000, 3));
    }
    world.run_ms(2000);
    (world, last)
}

/// How long 1 kB there and 1 kB back take, ms.
fn exchange_ms(world: &mut World, [client, server]: [Handle; 2], seed: u32) -> u64 {
    let began = world.now;
    for (from, to) in [(client, server), (server, client)] {
        let wanted = world.ends.application().received(to).len() + 1000;
        world.send(from, &text(1000, seed));
        world.until("there", |world| world.ends.application().received(to).len() == wanted);
        assert!(world.ends.application().received(to).ends_with(&text(1000, seed)));
    }
    (world.now.us() - began.us()) / 1000
}

#[test]
fn t04_pair_that_is_read_goes_on_beside_many_that_are_not() {
    let (mut world, last) = beside(70);
    for seed in 0..20 {
        let took_ms = exchange_ms(&mut world, last, seed);
        assert!(took_ms < 100, "{took_ms} ms at exchange {seed}");
    }
    assert!(world.relay.counters().receive_pool_exhausted > 0, "there was no room for all");
}

#[test]
fn t04_slow_readers_get_every_byte_once_they_read() {
    let (mut world, _) = beside(20);
    world.ends.application_mut().full = false;
    world.until("sent", World::all_sent);
    world.until("there", |world| {
        let ends = world.ends.application();
        ends.received.values().filter(|bytes| bytes.len() == 1_000_000).count() == 20
    });
    let expected = text(1_000_000, 3);
    assert!(world.ends.application().received.values().all(|bytes| *bytes == expected));
}
