//! Whole connections, from SYN to the last ACK.

use super::options::{Bench, Notes};
use super::*;
use crate::api::{ConnectionOptions, Keepalive};
use crate::limits::CHUNK_BYTES;
use crate::shard::Sim;
use crate::tcp::state::State;
use crate::tcp::time_wait::Policy;
use crate::wire::tcp::Flags;
use ::core::time::Duration;

/// TCP segments that crossed the wire, counted where they arrived.
fn segments(world: &World) -> u64 {
    world.client.counters().segments_received + world.server.counters().segments_received
}

fn graceful(setup: &Setup) -> World {
    let mut world = World::new(setup);
    world.run(200_000);
    let closed = &world.client.application().closed;
    assert_eq!(closed.len(), setup.connections);
    assert!(closed.iter().all(|reason| *reason == CloseReason::Graceful), "{closed:?}");
    assert_eq!(world.server.application().accepted, setup.connections);
    let closed = &world.server.application().closed;
    assert!(closed.len() == setup.connections && closed.iter().all(|reason| *reason == CloseReason::Graceful));
    world.assert_clean();
    world
}

#[test]
fn b30_client_closes_first_takes_seven_segments_and_time_wait_is_the_clients() {
    for v6 in [false, true] {
        let world = graceful(&Setup { v6, ..Setup::default() });
        assert_eq!(segments(&world), 7);
        assert_eq!((world.client.time_wait_live(), world.server.time_wait_live()), (1, 0));
        assert_eq!(world.client.counters().time_wait_created, 1);
    }
}

#[test]
fn b30_server_closes_first_takes_six_segments_and_time_wait_is_the_servers() {
    for v6 in [false, true] {
        let world = graceful(&Setup { closer: Closer::Server, v6, ..Setup::default() });
        assert_eq!(segments(&world), 6);
        assert_eq!((world.client.time_wait_live(), world.server.time_wait_live()), (0, 1));
    }
}

#[test]
fn a_thousand_connections_with_every_burst_size_end_alike() {
    for burst in [1, 2, 7, 64, 256] {
        for closer in [Closer::Client, Closer::Server] {
            let world = graceful(&Setup { closer, connections: 1000, burst, ..Setup::default() });
            let created = world.client.counters().time_wait_created + world.server.counters().time_wait_created;
            assert_eq!(created, 1000, "burst {burst}");
            assert_eq!(world.client.counters().retransmitted_syn, 0);
        }
    }
}

#[test]
fn b20_a_megabyte_each_way_arrives_whole() {
    let limits = Limits { chunks_max: 4096, tcbs_max: 16, ..Setup::default().limits };
    let world = graceful(&Setup { request_bytes: 1 << 20, connections: 2, limits, ..Setup::default() });
    assert_eq!(world.client.counters().closed_graceful, 2);
}

/// Shows MUST-13.
#[test]
fn b40_time_wait_lasts_two_msl_and_then_leaves_nothing() {
    let mut world = graceful(&Setup { connections: 100, ..Setup::default() });
    let created_by = world.now;
    world.now = Now::from_ms(created_by.us() / 1000 + 59_900);
    world.turn(1000);
    assert_eq!(world.client.time_wait_live(), 100);
    world.now = world.now.plus_ms(1_000);
    for _ in 0..4 {
        world.turn(1000);
    }
    assert_eq!((world.client.time_wait_live(), world.client.counters().time_wait_expired), (0, 100));
    assert!(world.client.core.index.is_empty());
}

#[test]
fn b40_ports_in_time_wait_are_not_used_again_and_running_out_is_an_error() {
    for (time_wait_policy, promised) in [(Policy::Strict, 59_000..=60_000), (Policy::TimestampOrSequence, 850..=1000)] {
        let setup = Setup { connections: 30, ports: (40_000, 40_019), ..Setup::default() };
        let mut world = World::with_settings(&setup, Settings { time_wait_policy, ..Settings::default() });
        for _ in 0..2000 {
            world.turn(50);
        }
        assert_eq!((world.client.application().closed.len(), world.client.time_wait_live()), (20, 20));
        let error =
            world.client.calls(world.now).connect("10.0.0.2:80".parse().expect("an end"), &ConnectOptions::default());
        match error {
            Err(crate::api::ConnectError::PortsExhausted {
                owned: 20,
                time_wait: 20,
                next_free_in_ms: Some(wait),
                ..
            }) => {
                assert!(promised.contains(&wait), "{}: {wait}", time_wait_policy.name());
            }
            other => panic!("{other:?}"),
        }
        world.now = world.now.plus_ms(61_000);
        world.run(2000);
        assert_eq!(world.client.application().closed.len(), 30);
    }
}

#[test]
fn b36_nobody_listens_is_refused() {
    let mut world = World::new(&Setup::default());
    world.client.application_mut().remote.set_port(81);
    world.run(1000);
    assert_eq!(world.client.application().closed, [CloseReason::Refused]);
    assert_eq!(world.server.counters().rst_sent, 1);
    world.assert_clean();
}

/// Shows MUST-12.
#[test]
fn b36_abort_resets_the_peer_and_both_are_told() {
    let mut world = World::new(&Setup { request_bytes: 1 << 20, ..Setup::default() });
    while world.client.application().live.is_empty() {
        world.turn(50);
    }
    let handle = *world.client.application().live.keys().next().expect("one");
    world.client.calls(world.now).abort(handle).expect("live");
    world.run(1000);
    assert_eq!(world.client.application().closed, [CloseReason::Aborted]);
    assert_eq!(world.server.application().closed, [CloseReason::Reset]);
    assert!(world.client.calls(world.now).abort(handle).is_err(), "the handle is stale");
    world.assert_clean();
}

#[test]
fn no_neighbor_answers_ends_as_unreachable() {
    let mut world = World::new(&Setup::default());
    world.client.application_mut().remote = "10.0.0.77:80".parse().expect("an end");
    for _ in 0..100 {
        world.turn(100_000);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Unreachable]);
    world.assert_clean();
}

#[test]
fn neighbor_falls_silent_while_idle_then_abort_leaves_nothing() {
    let mut world = World::new(&Setup { request_bytes: 1 << 20, connections: 1, ..Setup::default() });
    // The client waits for its turn to say something: nothing is owed while the neighbour is asked for in vain.
    world.client.application_mut().request.truncate(4);
    for _ in 0..2000 {
        world.turn(50);
    }
    for _ in 0..1000 {
        world.client.turn(world.now);
        world.now = world.now.plus_ms(100);
    }
    let handle = *world.client.application().live.keys().next().expect("one");
    world.client.calls(world.now).abort(handle).expect("live");
    for _ in 0..100 {
        world.client.turn(world.now);
        world.now = world.now.plus_ms(100);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Aborted]);
    assert_shard_clean(&world.client);
}

#[test]
fn neighbor_lost_for_a_while_does_not_end_an_open_connection() {
    let mut world = World::new(&Setup { request_bytes: 100_000, ..Setup::default() });
    while world.client.application().live.is_empty() {
        world.turn(50);
    }
    // The server falls silent, past the life of the client's entry for it, while the client still has text to send.
    for _ in 0..4_500 {
        world.client.turn(world.now);
        world.now = world.now.plus_ms(10);
    }
    assert!(world.client.counters().neighbor_waits > 0, "the neighbour was lost");
    assert!(world.client.application().closed.is_empty());
    for _ in 0..20_000 {
        world.turn(10_000);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Graceful]);
    world.assert_clean();
}

#[test]
fn b11_peer_that_does_not_answer_ends_as_timed_out_within_the_deadline() {
    let limits = Limits { histories_max: 1, ..Setup::default().limits };
    let mut world = World::new(&Setup { connections: 0, limits, ..Setup::default() });
    let remote = "10.0.0.2:80".parse().expect("an end");
    let deadline = Some(core::time::Duration::from_millis(2500));
    // One exchange makes the neighbour known; then the server falls silent.
    let handle = world
        .client
        .calls(world.now)
        .connect(remote, &ConnectOptions { deadline, ..ConnectOptions::default() })
        .expect("a port");
    world.client.turn(world.now);
    world.server.turn(world.now);
    let mut sent_again = 0;
    for _ in 0..300 {
        world.client.turn(world.now);
        if let Ok(info) = world.client.calls(world.now).info(handle) {
            sent_again = info.history.expect("is kept").total_retrans;
        }
        world.now = world.now.plus_ms(10);
    }
    assert_eq!(sent_again, 1, "the SYN counts");
    assert_eq!(world.client.application().closed, [CloseReason::TimedOut]);
    assert_eq!(world.client.counters().retransmitted_syn, 1);
}

/// Shows MAY-8.
#[test]
fn b37_application_that_never_reads_keeps_memory_bounded_and_closes_the_window() {
    let limits = Limits { tcbs_max: 16, time_wait_max: 64, chunks_max: 2048, ..Limits::default() };
    let settings = Settings { receive_buffer_bytes: 100_000, send_buffer_bytes: 50_000, ..Settings::default() };
    let config = ShardConfig { limits, settings, ..ShardConfig::seeded(0) };
    let mut sim = Sim::with_config(Notes::default(), Notes::default(), &config).expect("a pair");
    let remote = SocketAddr::new(Sim::<Notes, Notes>::RIGHT, 80);
    sim.right_calls().listen(remote.ip(), 80).expect("a listener");
    let from = sim.left_calls().connect(remote, &ConnectOptions::default()).expect("room");
    sim.run(5);
    let to = sim.right.application().handle.expect("accepted");
    let whole = (sim.left.core.sending.free(), sim.right.receiving.free());
    // Chunks that so many octets take: the last one is not full, and one more may be reserved.
    let chunks = |bytes: u32| bytes.div_ceil(CHUNK_BYTES as u32) + 1;
    let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 5) as u8).collect();
    let (mut sent, mut before, mut events) = (0, (0, 0), Vec::new());
    let mut now = sim.now();
    // Until long after the window has closed, the client sends whatever it can, and its probes are due.
    for turn in 0..4000 {
        sent += sim.left.calls(now).send(from, &text[sent..]).expect("open");
        sim.left.turn(now);
        sim.right.turn(now);
        let held = (whole.0 - sim.left.core.sending.free(), whole.1 - sim.right.receiving.free());
        assert!(held.0 <= chunks(50_000) && held.1 <= chunks(100_000), "{held:?} chunks in turn {turn}");
        now = if turn < 1000 { Now::from_us(now.us() + 100) } else { now.plus_ms(1000) };
        // What is left of the window, less than a segment, is filled after a while.
        if turn < 1010 {
            before = (sim.left.counters().retransmitted_data, sim.right.counters().segments_sent);
            events.clone_from(&sim.right.application().events);
            continue;
        }
        let (client, server) = (sim.left.calls(now).info(from), sim.right.calls(now).info(to));
        let (client, server) = (client.expect("live"), server.expect("live"));
        assert_eq!((client.state, client.snd_wnd), (State::Established, 0), "the client is told of no window");
        assert_eq!((server.state, server.rcv_wnd, server.unread), (State::Established, 0, 100_000));
    }
    assert_eq!(sent, 150_000, "both buffers are full");
    let (client, server) = (sim.left.counters(), sim.right.counters());
    // 50 minutes of probes, a minute apart in the end: each is answered, none is taken.
    let probes = client.retransmitted_data - before.0;
    assert!((30..100).contains(&probes), "the client goes on trying: {probes} probes");
    assert_eq!(server.segments_sent - before.1, probes);
    assert_eq!(client.closed() + server.closed(), 0, "a closed window ends nothing");
    assert_eq!(sim.right.application().events, events, "there is nothing new to tell");
    // It reads after all, and gets everything.
    let mut read = 0;
    while read < text.len() {
        sent += sim.left.calls(now).send(from, &text[sent..]).expect("open");
        sim.left.turn(now);
        sim.right.turn(now);
        let mut calls = sim.right.calls(now);
        let bytes = calls.received(to).expect("live");
        let count = bytes.len();
        assert!(bytes == &text[read..read + count], "{read} octets are read");
        calls.consume(to, count).expect("unread");
        read += count;
        now = now.plus_ms(1);
        assert!(now.us() < 3_600_000_000, "{read} octets and no more");
    }
    for turn in 0..200 {
        sim.left.turn(now.plus_ms(turn));
        sim.right.turn(now.plus_ms(turn));
    }
    assert_eq!((sim.left.core.sending.free(), sim.right.receiving.free()), whole);
}

/// Whether its peer speaks or keepalive probes it, a connection is counted once, and a later one in the same record anew.
#[test]
fn b37_close_wait_that_lasts_is_in_the_report_once_per_connection_and_ends_by_the_applications_close() {
    let reported = |bench: &Bench| bench.shard.counters().iter().find(|(name, _)| *name == "close_wait_lasting");
    let ten_seconds = Duration::from_secs(10);
    let keepalive = Keepalive { idle: Duration::from_secs(60), interval: ten_seconds, count: 255 };
    for keepalive in [None, Some(keepalive)] {
        let mut bench = Bench::accepted(ConnectionOptions { keepalive, ..ConnectionOptions::default() });
        for connection in 1..=3 {
            let handle = bench.handle();
            let fin = Flags(Flags::FIN.0 | Flags::ACK.0);
            assert_eq!(bench.exchange(&bench.next(fin), &[]).len(), 1);
            bench.seq += 1;
            for _ in 0..59 {
                bench.turn(1000);
            }
            assert_eq!(reported(&bench), Some(("close_wait_lasting", connection - 1)), "it does not last yet");
            bench.turn(2000);
            assert_eq!(reported(&bench), Some(("close_wait_lasting", connection)));
            // What the peer says begins the wait again.
            for _ in 0..5 {
                bench.neighbor_answers();
                bench.exchange(&bench.next(Flags::ACK), &[]);
                for _ in 0..100 {
                    bench.turn(1000);
                }
            }
            assert_eq!(reported(&bench), Some(("close_wait_lasting", connection)), "once");
            assert_eq!(bench.shard.calls(bench.now).state(handle), Ok(State::CloseWait), "it is the application's");
            bench.neighbor_answers();
            bench.shard.calls(bench.now).close(handle).expect("open");
            let sent = bench.turn(1);
            assert_eq!(sent.iter().map(|heard| heard.seg.flags).collect::<Vec<_>>(), [fin]);
            bench.ack += 1;
            assert_eq!(bench.exchange(&bench.next(Flags::ACK), &[]), []);
            assert_eq!(bench.shard.application().reason, Some(CloseReason::Graceful));
            let told = core::mem::take(&mut bench.shard.application_mut().events);
            assert_eq!(told, ["accepted", "peer closed", "closed"]);
            bench.tuple.local_port += 1;
            bench.open();
            assert_eq!(bench.handle().number, handle.number, "the same record");
        }
    }
}

/// Shows SHLD-3, MAY-1, RFC 2525 2.17.
#[test]
fn rfc_2525_close_with_unread_text_sends_a_reset_and_after_reading_a_fin() {
    let fin = Flags(Flags::FIN.0 | Flags::ACK.0);
    for (state, reads) in
        [State::Established, State::FinWait2, State::CloseWait].map(|at| [(at, false), (at, true)]).concat()
    {
        let mut bench = Bench::accepted(ConnectionOptions::default());
        let handle = bench.handle();
        if state == State::FinWait2 {
            bench.shard.calls(bench.now).shutdown_write(handle).expect("open");
            assert_eq!(bench.turn(1).len(), 1);
            bench.ack += 1;
        }
        let flags = if state == State::CloseWait { fin } else { Flags::ACK };
        bench.exchange(&bench.next(flags), b"unread");
        bench.seq += 6 + u32::from(flags.fin());
        // A delayed ACK, where there was one.
        bench.turn(1000);
        assert_eq!(bench.shard.calls(bench.now).state(handle), Ok(state));
        if reads {
            bench.shard.calls(bench.now).consume(handle, 6).expect("unread");
            bench.turn(1);
        }
        bench.shard.calls(bench.now).close(handle).expect("open");
        let sent: Vec<_> = bench.turn(1).iter().map(|heard| (heard.seg.flags, heard.seg.seq, heard.seg.ack)).collect();
        match (reads, state) {
            (false, _) => {
                assert_eq!(sent, [(Flags::RST | Flags::ACK, bench.ack, bench.seq)], "{state:?}");
                assert_eq!(bench.shard.application().reason, Some(CloseReason::Aborted));
                assert_eq!((bench.shard.counters().rst_sent, bench.shard.connections_live()), (1, 0));
            }
            (true, State::FinWait2) => assert_eq!(sent, [], "the FIN has been sent"),
            (true, _) => assert_eq!(sent, [(fin, bench.ack, bench.seq)], "{state:?}"),
        }
        assert_eq!(bench.shard.counters().rst_sent, u64::from(!reads), "{state:?}");
    }
}
