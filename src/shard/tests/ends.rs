//! Which addresses and ports a connection has (RFC 9293 3.9.1.1): MUST-41 to MUST-45.

use super::*;

/// Takes what comes, and remembers to which listener.
#[derive(Default)]
struct Door {
    accepted: Vec<(crate::ids::ListenerId, IpAddr, u16)>,
}

impl Application for Door {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if let Event::Accepted { handle, listener } = event {
            let tuple = calls.four_tuple(handle).expect("just accepted");
            self.accepted.push((listener, tuple.local(), tuple.local_port));
        }
    }
}

/// Two shards with two addresses each, on two networks.
fn doors() -> [Shard<MemoryLink, Door>; 2] {
    let (a, b) = pair(MemoryConfig::default(), MACS);
    let shard = |link, addresses: [&str; 2]| {
        let addresses = addresses.map(|text| LocalAddress { address: ip(text), prefix_len: 24 }).to_vec();
        let limits = Limits { tcbs_max: 64, time_wait_max: 64, chunks_max: 64, neighbors_max: 8, ..Limits::default() };
        let config = ShardConfig { limits, addresses, ..ShardConfig::seeded(0) };
        Shard::new(link, Door::default(), config, Now::from_ms(5000)).expect("a shard")
    };
    [shard(a, ["10.0.0.1", "10.1.0.1"]), shard(b, ["10.0.0.2", "10.1.0.2"])]
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn run(doors: &mut [Shard<MemoryLink, Door>; 2]) {
    for turn in 0..200 {
        for door in doors.iter_mut() {
            door.turn(Now::from_ms(5000 + turn));
        }
    }
}

#[test]
fn must_41_must_42_listeners_of_one_port_at_two_addresses_take_each_their_own() {
    let mut doors = doors();
    let now = Now::from_ms(5000);
    let mut calls = doors[1].calls(now);
    let first = calls.listen(ip("10.0.0.2"), 80).expect("free");
    // A connection of the first listener, before the others exist.
    doors[0].calls(now).connect(SocketAddr::new(ip("10.0.0.2"), 80), &ConnectOptions::default()).expect("a port");
    run(&mut doors);
    let second = doors[1].calls(now).listen(ip("10.1.0.2"), 80).expect("free");
    let other_port = doors[1].calls(now).listen(ip("10.0.0.2"), 81).expect("free");
    assert_eq!(doors[1].connections_live(), 1, "passive OPENs disturb nothing");
    for end in ["10.1.0.2:80", "10.0.0.2:81", "10.0.0.2:80"] {
        doors[0].calls(now).connect(end.parse().expect("an end"), &ConnectOptions::default()).expect("a port");
    }
    run(&mut doors);
    let mut accepted = doors[1].application().accepted.clone();
    accepted.sort_by_key(|(_, address, port)| (*address, *port));
    let expected = [
        (first, ip("10.0.0.2"), 80),
        (first, ip("10.0.0.2"), 80),
        (other_port, ip("10.0.0.2"), 81),
        (second, ip("10.1.0.2"), 80),
    ];
    assert_eq!(accepted, expected);
}

#[test]
fn must_43_must_44_must_45_the_local_address_is_the_one_asked_for_or_the_one_on_the_way() {
    let mut doors = doors();
    let now = Now::from_ms(5000);
    doors[1].calls(now).listen(ip("0.0.0.0"), 80).expect("free");
    let local_of = |doors: &mut [Shard<MemoryLink, Door>; 2], remote: &str, local_address| {
        let mut calls = doors[0].calls(now);
        let options = ConnectOptions { local_address, ..ConnectOptions::default() };
        let handle = calls.connect(SocketAddr::new(ip(remote), 80), &options).expect("a port");
        calls.four_tuple(handle).expect("open").local()
    };
    assert_eq!(local_of(&mut doors, "10.0.0.2", None), ip("10.0.0.1"));
    assert_eq!(local_of(&mut doors, "10.1.0.2", None), ip("10.1.0.1"));
    assert_eq!(local_of(&mut doors, "10.1.0.2", Some(ip("10.1.0.1"))), ip("10.1.0.1"));
    run(&mut doors);
    let states = doors[0].states();
    assert_eq!(states.tcbs[crate::tcp::state::State::Established as usize], 3, "each goes on from where it began");
}
