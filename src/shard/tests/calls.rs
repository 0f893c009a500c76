//! Calls that are made of others.

use super::*;
use crate::api::CallError;
use crate::shard::Sim;

/// Notes what is told; consumes nothing.
#[derive(Default)]
struct Told {
    opened: Vec<Handle>,
    readable: usize,
    writable: usize,
}

impl Application for Told {
    fn on_event(&mut self, _: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } | Event::Connected { handle } => self.opened.push(handle),
            Event::Readable { .. } => self.readable += 1,
            Event::Writable { .. } => self.writable += 1,
            event => panic!("{event:?}"),
        }
    }
}

/// `count` connections from left to right, their handles at either end in the order of opening.
fn opened(count: usize, settings: Settings) -> (Sim<Told, Told>, Vec<Handle>, Vec<Handle>) {
    let limits = Limits { tcbs_max: 16, time_wait_max: 64, chunks_max: 1024, ..Limits::default() };
    let config = ShardConfig { limits, settings, ..ShardConfig::default() };
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
