//! Calls that are made of others.

use super::*;
use crate::api::{CallError, ConnectError, ConnectionOptions, ListenOptions};
use crate::counters::DropReason;
use crate::shard::Sim;

/// Notes what is told; consumes nothing.
#[derive(Default)]
struct Told {
    opened: Vec<Handle>,
    readable: usize,
    writable: usize,
    /// How much was urgent whenever that was told.
    urgent: Vec<u32>,
}

impl Application for Told {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } | Event::Connected { handle } => self.opened.push(handle),
            Event::Readable { .. } => self.readable += 1,
            Event::Writable { .. } => self.writable += 1,
            Event::Urgent { handle } => self.urgent.push(calls.urgent_bytes(handle).expect("live")),
            Event::Stalled { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

/// `count` connections from left to right, their handles at either end in the order of opening.
fn opened(count: usize, settings: Settings) -> (Sim<Told, Told>, Vec<Handle>, Vec<Handle>) {
    let limits = Limits { tcbs_max: 16, time_wait_max: 64, chunks_max: 1024, ..Limits::default() };
    let config = ShardConfig { limits, settings, ..ShardConfig::seeded(0) };
    let mut sim = Sim::with_config(Told::default(), Told::default(), &config).expect("a pair");
    let remote = SocketAddr::new(Sim::<Told, Told>::RIGHT, 80);
    sim.right_calls().listen(remote.ip(), 80).expect("a listener");
    for _ in 0..count {
        sim.left_calls().connect(remote, &ConnectOptions::default()).expect("room");
        sim.run(5);
    }
    let handles = (sim.left.application().opened.clone(), sim.right.application().opened.clone());
    (sim, handles.0, handles.1)
}

#[test]
fn pieces_are_sent_in_their_order_as_far_as_the_buffer_goes() {
    let settings = Settings { send_buffer_bytes: 5000, ..Settings::default() };
    let (mut sim, left, right) = opened(1, settings);
    let long = [b'l'; 3000];
    let mut calls = sim.left_calls();
    assert_eq!(calls.send_vectored(left[0], &[b"head ", b"", &long, b" tail"]), Ok(3010));
    assert_eq!(calls.send_vectored(left[0], &[b"next ", &long, b"never"]), Ok(1990), "the buffer holds no more");
    assert_eq!(calls.send_vectored(left[0], &[]), Ok(0));
    sim.run(20);
    assert_eq!(sim.left.application().writable, 1, "after a short send");
    let mut received = Vec::new();
    while received.len() < 5000 {
        let mut calls = sim.right_calls();
        let bytes = calls.received(right[0]).expect("live").to_vec();
        calls.consume(right[0], bytes.len()).expect("unread");
        received.extend(bytes);
        sim.run(1);
    }
    let expected = [&b"head "[..], &long, b" tail", b"next ", &long[..1985]].concat();
    assert!(received == expected);
    let stale = Handle::from_bits(left[0].to_bits() ^ 2 << 32);
    assert_eq!(sim.left_calls().send_vectored(stale, &[b"x"]), Err(CallError::Stale));
}

/// RFC 9293 3.9.1.2 and 3.9.1.3, from one application to the other.
#[test]
fn must_30_must_31_must_32_must_33_urgent_text_is_told_once_and_counted_down_as_it_is_read() {
    let (mut sim, left, right) = opened(1, Settings::default());
    let (from, to) = (left[0], right[0]);
    let text: Vec<u8> = (0..200_000_u32).map(|at| (at / 3) as u8).collect();
    assert_eq!(sim.right_calls().urgent_bytes(to), Ok(0));
    // More than the field can say, too.
    for (stretch, (before, urgent, behind)) in
        [(5, 7, 4), (0, 1, 0), (3000, 150_000, 10_000), (0, 3, 20_000)].into_iter().enumerate()
    {
        let (end, all) = (before + urgent, before + urgent + behind);
        let mut calls = sim.left_calls();
        assert_eq!(calls.send(from, &text[..before]), Ok(before));
        assert_eq!(calls.send_urgent(from, &text[before..end]), Ok(urgent));
        assert_eq!(calls.send(from, &text[end..all]), Ok(behind));
        sim.run(500);
        let told = &sim.right.application().urgent;
        assert_eq!(told.len(), stretch + 1, "once");
        assert!((1..=end as u32).contains(&told[stretch]), "{told:?}");
        // In line, and in its place (RFC 6093 3.1).
        let mut read = 0;
        while read < all {
            let mut calls = sim.right_calls();
            assert_eq!(calls.urgent_bytes(to), Ok(end.saturating_sub(read) as u32), "{read} of {all} are read");
            let bytes = calls.received(to).expect("live");
            let count = bytes.len().min(if read < end { end - read } else { 999 }).min(1000);
            assert!(count > 0 && bytes[..count] == text[read..read + count], "{read} of {all}");
            calls.consume(to, count).expect("unread");
            read += count;
            assert_eq!(calls.urgent_bytes(to), Ok(end.saturating_sub(read) as u32), "{read} of {all} are read");
            sim.run(1);
        }
        assert_eq!(sim.right_calls().received(to), Ok(&b""[..]));
    }
    assert!(sim.left.application().urgent.is_empty(), "nobody tells the sender");
    assert_eq!((sim.right.counters().urgent_received, sim.left.counters().urgent_received), (4, 0));
    // Nothing taken, nothing urgent; and no connection, no answer.
    assert_eq!(sim.left_calls().send_urgent(from, b""), Ok(0));
    sim.run(10);
    assert_eq!(sim.right.application().urgent.len(), 4);
    let stale = Handle::from_bits(from.to_bits() ^ 2 << 32);
    assert_eq!(sim.left_calls().send_urgent(stale, b"x"), Err(CallError::Stale));
    assert_eq!(sim.left_calls().urgent_bytes(stale), Err(CallError::Stale));
}

/// What was consumed is settled where the connection's turn to send comes, which here it does not.
#[test]
fn everything_unread_can_be_read_while_the_neighbour_is_lost() {
    let (mut sim, left, right) = opened(1, Settings::default());
    let text: Vec<u8> = (0..10_000_u32).map(|at| (at / 7) as u8).collect();
    sim.left_calls().send(left[0], &text).expect("open");
    sim.run(100);
    // From here on the left end is silent.
    let (silent_since, right, reader) = (sim.now(), right[0], &mut sim.right);
    let mut now = silent_since.plus_ms(60_000);
    reader.calls(now).send(right, b"wants the neighbour").expect("open");
    while reader.counters().neighbor_waits == 0 {
        now = now.plus_ms(100);
        assert!(now < silent_since.plus_ms(90_000), "the neighbour is still known");
        reader.turn(now);
    }
    let mut received = Vec::new();
    while received.len() < text.len() {
        let mut calls = reader.calls(now);
        let bytes = calls.received(right).expect("live").to_vec();
        assert!(!bytes.is_empty(), "stuck after {} bytes", received.len());
        calls.consume(right, bytes.len()).expect("unread");
        received.extend(bytes);
        reader.turn(now);
    }
    assert!(received == text);
}

#[test]
fn forward_moves_unread_bytes_and_leaves_what_the_other_does_not_take() {
    let settings = Settings { send_buffer_bytes: 1500, ..Settings::default() };
    let (mut sim, left, right) = opened(2, settings);
    sim.left_calls().send(left[0], &[b'a'; 1500]).expect("open");
    sim.run(100);
    sim.left_calls().send(left[0], &[b'b'; 500]).expect("open");
    sim.run(100);
    let mut calls = sim.right_calls();
    assert_eq!(calls.forward(right[0], right[1]), Ok(1500), "all that the other's buffer takes");
    assert_eq!(calls.forward(right[0], right[1]), Ok(0));
    assert_eq!(calls.received(right[0]), Ok(&[b'b'; 500][..]));
    sim.run(100);
    assert_eq!(sim.right.application().writable, 1);
    assert_eq!(sim.right_calls().forward(right[0], right[1]), Ok(500));
    sim.run(100);
    assert_eq!(sim.left_calls().received(left[1]).map(<[u8]>::len), Ok(2000));
    sim.right_calls().shutdown_write(right[1]).expect("open");
    sim.left_calls().send(left[0], b"more").expect("open");
    sim.left.application_mut().readable = 0;
    assert_eq!(sim.right_calls().forward(right[0], right[1]), Err(CallError::Closing));
}

#[test]
fn stop_listening_all_stops_every_listener_and_leaves_connections() {
    let (mut sim, left, right) = opened(1, Settings::default());
    sim.right_calls().listen(Sim::<Told, Told>::RIGHT, 81).expect("another");
    sim.right_calls().stop_listening_all();
    assert_eq!(sim.right.states().listeners, 0);
    assert_eq!(sim.left_calls().send(left[0], b"still open"), Ok(10));
    sim.run(5);
    assert_eq!(sim.right_calls().received(right[0]), Ok(&b"still open"[..]));
}

#[test]
fn buffers_are_those_of_the_connection_and_change_while_it_lives() {
    let (mut sim, left, right) = opened(1, Settings::default());
    let small = ConnectionOptions { send_buffer: Some(5000), receive_buffer: Some(3000), ..Default::default() };
    let listener = ListenOptions { connection: small, ..ListenOptions::default() };
    sim.right_calls().listen_with(Sim::<Told, Told>::RIGHT, 81, &listener).expect("free");
    let remote = SocketAddr::new(Sim::<Told, Told>::RIGHT, 81);
    let options = ConnectOptions { connection: small, ..ConnectOptions::default() };
    let to_small = sim.left_calls().connect(remote, &options).expect("room");
    sim.run(50);
    let small_right = sim.right.application().opened[1];
    let bytes = [7; 20_000];
    assert_eq!(sim.left_calls().send(to_small, &bytes), Ok(5000));
    sim.run(1000);
    assert_eq!(
        sim.right_calls().received(small_right).map(<[u8]>::len),
        Ok(2048),
        "the first chunk of what the window let in"
    );
    assert_eq!(sim.right_calls().info(small_right).expect("live").unread, 3000);
    assert_eq!(sim.left_calls().info(to_small).expect("live").queued, 2000);
    // The others have the stack's.
    assert_eq!(sim.left_calls().send(left[0], &bytes), Ok(20_000));
    sim.run(100);
    assert_eq!(sim.right_calls().info(right[0]).expect("live").unread, 20_000);
    // Larger buffers are offered, and used, at once.
    let larger = ConnectionOptions { send_buffer: Some(9000), receive_buffer: Some(9000), ..small };
    sim.left_calls().set_options(to_small, &larger).expect("in range");
    sim.right_calls().set_options(small_right, &larger).expect("in range");
    assert_eq!(sim.left_calls().send(to_small, &bytes), Ok(7000));
    sim.run(1000);
    assert_eq!(sim.right_calls().info(small_right).expect("live").unread, 9000);
    // A smaller one takes nothing back.
    sim.right_calls().set_options(small_right, &small).expect("in range");
    sim.right_calls().consume(small_right, 2048).expect("unread");
    sim.run(100);
    let info = sim.right_calls().info(small_right).expect("live");
    assert_eq!((info.unread, info.rcv_wnd), (9000 - 2048, 0), "beyond what the buffer holds nothing is offered");
}

/// A proxy that connects onwards from its client's address, and one that takes what was meant for another.
#[test]
fn addresses_that_the_stack_stands_in_for_are_local_ends_and_others_are_not() {
    let network = |text: &str| LocalAddress { address: text.parse().expect("an address"), prefix_len: 24 };
    let limits = Limits { tcbs_max: 16, time_wait_max: 64, chunks_max: 64, ..Limits::default() };
    let gateways = vec![Sim::<Told, Told>::RIGHT];
    let config = ShardConfig { limits, gateways, transparent: vec![network("192.0.2.0")], ..ShardConfig::seeded(0) };
    let mut sim = Sim::with_config(Told::default(), Told::default(), &config).expect("a pair");
    let client: IpAddr = "192.0.2.7".parse().expect("an address");
    let remote = SocketAddr::new(Sim::<Told, Told>::LEFT, 80);
    sim.left_calls().listen(remote.ip(), 80).expect("a listener");
    let from = |address, port| ConnectOptions { local_address: Some(address), local_port: port, ..Default::default() };
    let elsewhere: IpAddr = "192.0.3.7".parse().expect("an address");
    assert_eq!(sim.right_calls().connect(remote, &from(elsewhere, None)), Err(ConnectError::NotOurAddress(elsewhere)));
    let handles = [Some(4711), None].map(|port| sim.right_calls().connect(remote, &from(client, port)).expect("free"));
    sim.run(20);
    assert_eq!(sim.right.application().opened, handles, "both sides hear each other");
    let accepted = sim.left.application().opened.clone();
    let seen = sim.left_calls().four_tuple(accepted[0]).expect("live");
    assert_eq!((seen.remote(), seen.remote_port), (client, 4711), "the client's own end");
    sim.left_calls().send(accepted[0], b"for the client").expect("open");
    sim.run(5);
    assert_eq!(sim.right_calls().received(handles[0]), Ok(&b"for the client"[..]));
    // The other way: the listener is on no address, what comes is for one of those.
    sim.right_calls().listen("0.0.0.0".parse().expect("an address"), 80).expect("a listener");
    let meant = SocketAddr::new("192.0.2.80".parse().expect("an address"), 80);
    sim.left_calls().connect(meant, &ConnectOptions::default()).expect("room");
    sim.run(20);
    let taken = *sim.right.application().opened.last().expect("accepted");
    assert_eq!(sim.right_calls().four_tuple(taken).map(|tuple| tuple.local()), Ok(meant.ip()));
    // What the stack does not stand in for is dropped.
    sim.left_calls().connect(SocketAddr::new(elsewhere, 80), &ConnectOptions::default()).expect("room");
    sim.run(20);
    assert_eq!((sim.right.application().opened.len(), sim.right.drops().of(DropReason::NotOurAddress)), (3, 1));
}
