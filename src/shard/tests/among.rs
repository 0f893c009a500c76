//! Several shards at each end: connections that come back to their own, and frames that do not.

mod time_wait;

use super::*;
use crate::api::ConnectError;
use crate::link::nics::{Nics, Spreader, nics};
use crate::owner::{Owners, Rss, Spread};
use crate::shard::Place;
use alloc::sync::Arc;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, PacketBuilder};

/// As many shards at each end of two NICs, all on one thread.
struct Among {
    clients: Vec<Shard<MemoryLink, Client>>,
    servers: Vec<Shard<MemoryLink, Server>>,
    nics: Nics,
    now: Now,
}

impl Among {
    /// `connections` of `setup` are those of each client; both ends divide by `spread`, whatever their NICs do.
    fn new(setup: &Setup, shards: u16, spread: &Spread, spreaders: [Spreader; 2]) -> Among {
        let now = Now::from_ms(5_000);
        let config = MemoryConfig { frames: 1024, ..MemoryConfig::default() };
        let (nics, [left, right]) = nics(config, MACS, shards.into(), spreaders);
        let places = || {
            let owners = Arc::new(Owners::new(spread, shards, setup.ports));
            Place::all(&owners, &setup.limits)
        };
        let ends = || ends(setup, Settings::default());
        let remote = ends().0.0.remote;
        let clients = left.into_iter().zip(places()).map(|(link, place)| {
            let ((client, config), _) = ends();
            Shard::new_among(link, client, config, place, now).expect("a client shard")
        });
        let clients = clients.collect();
        let servers = right.into_iter().zip(places()).map(|(link, place)| {
            let (_, (server, config)) = ends();
            let mut server = Shard::new_among(link, server, config, place, now).expect("a server shard");
            server.calls(now).listen(remote.ip(), remote.port()).expect("a listener");
            server
        });
        let servers = servers.collect();
        Among { clients, servers, nics, now }
    }

    fn turn(&mut self) {
        self.turn_losing(|_| false);
    }

    /// A turn of all shards. What the clients have sent is lost if `is_lost` says so after it.
    fn turn_losing(&mut self, is_lost: impl Fn(&Among) -> bool) {
        for client in &mut self.clients {
            client.turn(self.now);
        }
        for server in &mut self.servers {
            server.turn(self.now);
        }
        if is_lost(self) {
            self.nics.lose(0);
        }
        self.nics.carry();
        self.now = Now::from_us(self.now.us() + 50);
    }

    fn is_done(&self) -> bool {
        let clients =
            self.clients.iter().all(|client| client.application().to_open == 0 && client.connections_live() == 0);
        clients && self.servers.iter().all(|server| server.connections_live() == 0)
    }

    /// Turns until every connection has ended at both ends, and checks that each did so gracefully and left nothing.
    #[track_caller]
    fn run(&mut self, connections: usize) {
        for _ in 0..200_000 {
            if self.is_done() {
                break;
            }
            self.turn();
        }
        assert!(
            self.is_done(),
            "not done: {:?}",
            self.clients.iter().map(|client| client.states()).collect::<Vec<_>>()
        );
        // What is still between shards comes home.
        (0..4).for_each(|_| self.turn());
        for client in &self.clients {
            assert_eq!(client.application().closed, vec![CloseReason::Graceful; connections]);
            assert_shard_clean(client);
        }
        for server in &self.servers {
            assert!(server.application().closed.iter().all(|reason| *reason == CloseReason::Graceful));
            assert_shard_clean(server);
        }
        let received = self.sum(|counters| counters.handover_received + counters.handover_full);
        assert_eq!(received, self.sum(|counters| counters.wrong_shard + counters.neighbor_answers_shared));
    }

    fn sum(&self, of: impl Fn(&crate::counters::Counters) -> u64) -> u64 {
        let clients = self.clients.iter().map(|shard| of(shard.counters()));
        clients.chain(self.servers.iter().map(|shard| of(shard.counters()))).sum()
    }
}

fn rss(seed: u16, queues: u16) -> Spread {
    let key: Vec<u8> = (0..40_u16).map(|at| (at * 151 + seed * 37 + 7) as u8).collect();
    Spread::Rss(Rss::new(&key, (0..128).map(|entry| (entry * 5 + seed) % queues).collect()).expect("a key and a table"))
}

fn each(connections: usize) -> Setup {
    Setup { connections, in_flight_max: 32, ..Setup::default() }
}

#[test]
fn with_the_nics_own_hash_no_segment_crosses_shards() {
    for shards in [1, 2, 4, 8] {
        for v6 in [false, true] {
            for closer in [Closer::Client, Closer::Server] {
                let spread = rss(1, shards);
                let setup = Setup { v6, closer, ..each(64) };
                let mut among = Among::new(&setup, shards, &spread, [0, 1].map(|_| Spreader::hash(&spread, shards)));
                among.run(64);
                assert_eq!(among.sum(|counters| counters.wrong_shard), 0);
                assert!(among.servers.iter().all(|server| server.application().accepted > 0), "every shard serves");
            }
        }
    }
}

#[test]
fn over_veth_two_ends_agree_by_the_symmetric_hash() {
    for shards in [2, 4, 8] {
        let mut among = Among::new(&each(64), shards, &Spread::Symmetric, [Spreader::Same, Spreader::Same]);
        among.run(64);
        assert_eq!(among.sum(|counters| counters.wrong_shard), 0);
        assert!(among.servers.iter().all(|server| server.application().accepted == 64));
    }
}

#[test]
fn whatever_queue_each_frame_comes_on_every_connection_succeeds() {
    for shards in [2, 4, 8] {
        for v6 in [false, true] {
            let spreaders = [Spreader::random(u64::from(shards)), Spreader::random(99)];
            let mut among = Among::new(&Setup { v6, ..each(64) }, shards, &Spread::Symmetric, spreaders);
            among.run(64);
            let (crossed, all) =
                (among.sum(|counters| counters.wrong_shard), among.sum(|counters| counters.frames_received));
            assert!(crossed > all / 4, "{crossed} of {all} crossed");
            assert_eq!(among.sum(|counters| counters.rst_sent + counters.handover_lost), 0);
        }
    }
}

#[test]
fn unread_nic_differs_from_the_function_and_large_texts_cross_whole() {
    let setup = Setup { request_bytes: 100_000, ..each(8) };
    let spreaders = [1, 2].map(|seed| Spreader::hash(&rss(seed, 4), 4));
    let mut among = Among::new(&setup, 4, &Spread::Symmetric, spreaders);
    among.run(8);
    assert!(among.sum(|counters| counters.wrong_shard) > 0);
}

/// Segments to nobody: the owner alone answers, once, wherever they arrive.
#[test]
fn only_the_owner_refuses() {
    let mut among = Among::new(&each(0), 4, &Spread::Symmetric, [Spreader::random(3), Spreader::random(4)]);
    for client in &mut among.clients {
        let now = among.now;
        client.calls(now).connect("10.0.0.2:81".parse().expect("an end"), &ConnectOptions::default()).expect("a port");
    }
    (0..40_000).for_each(|_| among.turn());
    for client in &among.clients {
        assert_eq!(client.application().closed, [CloseReason::Refused]);
    }
    let refused = among.servers.iter().map(|server| server.counters().rst_sent);
    assert_eq!(refused.collect::<Vec<_>>(), [1, 1, 1, 1]);
}

#[test]
fn given_port_of_another_shard_is_an_error_that_names_it() {
    let mut among = Among::new(&each(0), 2, &Spread::Symmetric, [Spreader::Same, Spreader::Same]);
    let now = among.now;
    let mut opened = 0;
    for port in 2000..2100 {
        let options = ConnectOptions { local_port: Some(port), ..ConnectOptions::default() };
        let results = [0, 1].map(|shard: usize| {
            among.clients[shard].calls(now).connect("10.0.0.2:80".parse().expect("an end"), &options)
        });
        match results {
            [Ok(_), Err(ConnectError::OtherShard { shard: 0, .. })] => opened += 1,
            [Err(ConnectError::OtherShard { shard: 1, .. }), Ok(_)] => {}
            others => panic!("{others:?}"),
        }
    }
    assert!((20..80).contains(&opened), "{opened}");
}

#[test]
fn ports_exhausted_on_one_shard_leave_the_others_theirs() {
    let setup = Setup { ports: (40_000, 40_063), ..each(0) };
    let mut among = Among::new(&setup, 2, &Spread::Symmetric, [Spreader::Same, Spreader::Same]);
    let (now, remote) = (among.now, "10.0.0.2:80".parse().expect("an end"));
    let mut drawn = [0, 0];
    for (client, drawn) in among.clients.iter_mut().zip(&mut drawn) {
        let error = loop {
            match client.calls(now).connect(remote, &ConnectOptions::default()) {
                Ok(_) => *drawn += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, ConnectError::PortsExhausted { owned, in_use, .. } if owned == *drawn && in_use == *drawn)
        );
    }
    assert!(drawn[0] + drawn[1] == 64 && drawn[0] > 16 && drawn[1] > 16, "{drawn:?}");
}

#[test]
fn queue_of_another_shard_that_takes_no_turn_is_full_and_frames_are_counted() {
    let limits = Limits { handover_batches_max: 2, ..Setup::default().limits };
    let setup = Setup { limits, in_flight_max: 300, ..each(300) };
    let mut among = Among::new(&setup, 2, &Spread::Symmetric, [Spreader::Same, Spreader::random(5)]);
    for _ in 0..40 {
        among.clients[0].turn(among.now);
        among.clients[1].turn(among.now);
        among.servers[0].turn(among.now);
        among.nics.carry();
        among.now = Now::from_us(among.now.us() + 50);
    }
    assert!(among.servers[0].counters().handover_full > 0);
    among.run(300);
}

#[test]
fn without_batches_there_is_one_and_it_is_on_the_bill() {
    let bill = |handover_batches_max| {
        let limits = Limits { handover_batches_max, ..Setup::default().limits };
        let (_, (_, config)) = ends(&Setup { limits, ..Setup::default() }, Settings::default());
        config.bill_among(&Owners::new(&Spread::Symmetric, 2, config.ports))
    };
    assert_eq!(bill(0), bill(1));
    let limits = Limits { handover_batches_max: 0, ..Setup::default().limits };
    let setup = Setup { limits, ..each(64) };
    let mut among = Among::new(&setup, 2, &Spread::Symmetric, [Spreader::Same, Spreader::random(5)]);
    among.run(64);
    assert!(among.sum(|counters| counters.handover_received) > 0);
}

/// The table changes while connections live: their segments arrive elsewhere from now on.
#[test]
fn connections_live_through_changes_of_the_table_and_the_former_functions_are_forgotten() {
    let setup = Setup { request_bytes: 20_000, in_flight_max: 16, ..each(300) };
    let spreads = [1, 2, 3].map(|seed| rss(seed, 4));
    let nic = |seed: usize| Spreader::hash(&spreads[seed], 4);
    let mut among = Among::new(&setup, 4, &spreads[0], [nic(0), nic(0)]);
    for change in [1, 2] {
        (0..60).for_each(|_| among.turn());
        assert!(!among.is_done());
        [0, 1].into_iter().for_each(|end| among.nics.respread(end, nic(change)));
        // The shards learn of it later than the NIC, and not at the same moment.
        let owners = Arc::new(among.clients[0].owners().0.changed(&spreads[change]));
        for shard in 0..4 {
            (0..3).for_each(|_| among.turn());
            among.clients[shard].change_owners(&owners, among.now);
            among.servers[shard].change_owners(&owners, among.now);
        }
    }
    among.run(300);
    assert!(among.sum(|counters| counters.wrong_shard) > 0);
    assert!(among.clients.iter().all(|client| client.owners().1 > 0), "TIME-WAIT is asked about still");
    for _ in 0..2 {
        among.now = among.now.plus_ms(61_000);
        (0..20).for_each(|_| among.turn());
    }
    assert!(among.clients.iter().all(|client| client.owners().1 == 0), "nothing of theirs is left");
    let before = among.sum(|counters| counters.wrong_shard);
    for client in &mut among.clients {
        client.application_mut().to_open = 50;
    }
    let opened = 300 + 50;
    among
        .clients
        .iter_mut()
        .for_each(|client| client.application_mut().request[..4].copy_from_slice(&(opened as u32).to_be_bytes()));
    among.run(opened);
    assert_eq!(among.sum(|counters| counters.wrong_shard), before);
}

/// The peer is this test; whatever it says arrives on the queue of the shard that has not asked.
#[test]
fn answers_of_neighbours_and_icmp_errors_reach_the_shard_they_are_for() {
    let now = Now::from_ms(5_000);
    let spreaders = [Spreader::Same, Spreader::Same];
    let (mut nics, [left, mut right]) = nics(MemoryConfig::default(), MACS, 2, spreaders);
    let setup = each(0);
    let owners = Arc::new(Owners::new(&Spread::Symmetric, 2, setup.ports));
    let shards = left.into_iter().zip(Place::all(&owners, &setup.limits)).map(|(link, place)| {
        let ((client, config), _) = ends(&setup, Settings::default());
        Shard::new_among(link, client, config, place, now).expect("a shard")
    });
    let mut shards: Vec<_> = shards.collect();
    let remote = "10.0.0.2:80".parse().expect("an end");
    shards[0].calls(now).connect(remote, &ConnectOptions::default()).expect("a port");
    // A record that changes of owners leave knows nothing of the connection.
    let tuple = shards[0].core.names[0].tuple;
    assert!(shards[1].put_time_wait(tuple, now));
    let mut exchange = |say: Option<Vec<u8>>| {
        say.iter().for_each(|frame| send(&mut right[1], frame));
        for _ in 0..3 {
            nics.carry();
            for shard in &mut shards {
                shard.turn(now);
            }
        }
        nics.carry();
        let mut burst = Vec::with_capacity(64);
        right[0].receive(&mut burst, 64);
        let said: Vec<Vec<u8>> = burst.iter().map(|frame| right[0].bytes(frame).to_vec()).collect();
        burst.drain(..).for_each(|frame| right[0].give_back(frame));
        said
    };
    let question = exchange(None).pop().expect("a question about the neighbour");
    let mut answer = [&question[6..12], &MACS[1].0, &question[12..]].concat();
    answer.splice(20..42, [&[0, 2], &MACS[1].0[..], &[10, 0, 0, 2], &question[22..32]].concat());
    // Who claims an own address tells where no neighbour is: one shard counts the conflict and defends the address.
    let mut claim = answer.clone();
    claim[28..32].copy_from_slice(&[10, 0, 0, 1]);
    exchange(Some(claim));
    let syn = exchange(Some(answer)).pop().expect("the SYN");
    assert_eq!((&syn[23..24], &syn[30..34]), (&[6][..], &[10, 0, 0, 2][..]));
    let unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let mut error = Vec::new();
    let builder = PacketBuilder::ethernet2(MACS[1].0, MACS[0].0).ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
    builder.icmpv4(unreachable).write(&mut error, &syn[14..42]).expect("a packet");
    exchange(Some(error));
    let counters = [0, 1].map(|shard: usize| *shards[shard].counters());
    assert_eq!((counters[1].neighbor_answers_shared, counters[1].wrong_shard, counters[1].icmp_unmatched), (1, 1, 0));
    assert_eq!((counters[0].handover_received, counters[0].icmp_hard), (2, 1));
    assert_eq!(counters.map(|counters| (counters.address_conflicts, counters.addresses_announced)), [(0, 0), (1, 1)]);
    assert_eq!(shards[0].application().closed.len(), 1);
}

fn send(link: &mut MemoryLink, bytes: &[u8]) {
    let mut frame = link.take().expect("a frame");
    link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
    link.send(frame, bytes.len()).expect("room");
    link.flush();
}

/// Every connection of both shards has a name of its own, although the shards have just swapped their ports.
#[test]
fn draw_after_a_change_never_meets_a_connection_left_elsewhere() {
    let mut among = two_that_swap_ports();
    assert_eq!(open(&mut among, 0..2, 10), 20);
    let owners = swapped(&among, 1);
    let now = among.now;
    among.clients.iter_mut().for_each(|client| client.change_owners(&owners, now));
    assert_eq!(open(&mut among, 0..2, 100), 0, "until all have looked what they have, every port may be taken");
    for client in &mut among.clients {
        client.turn(now);
    }
    assert_eq!(open(&mut among, 0..2, 100), 44, "every other port is free");
    let ports = ports_in_use(&among);
    assert_eq!(ports.len(), 64, "no port twice");
    let given = ConnectOptions { local_port: Some(ports[0]), ..ConnectOptions::default() };
    let remote = "10.0.0.2:80".parse().expect("an end");
    let refused = among.clients.iter_mut().map(|client| client.calls(now).connect(remote, &given));
    let refused: Vec<_> = refused.collect();
    assert!(
        refused.iter().all(|error| matches!(error, Err(ConnectError::PortInUse(_) | ConnectError::OtherShard { .. }))),
        "{refused:?}"
    );
}

/// One shard hears of a change twice, as when the other's queue was full the first time.
#[test]
fn change_that_is_told_twice_counts_once() {
    let mut among = two_that_swap_ports();
    let now = among.now;
    let owners = swapped(&among, 1);
    for shard in [0, 0, 1] {
        among.clients[shard].change_owners(&owners, now);
    }
    assert!(among.clients.iter().all(|client| client.owners().1 == 1), "one function went before");
    for client in &mut among.clients {
        client.turn(now);
    }
    assert_eq!(open(&mut among, 0..2, 10), 20, "both know that both have looked");
    let owners = swapped(&among, 0);
    among.clients[1].change_owners(&owners, now);
    among.clients[1].turn(now);
    assert_eq!(open(&mut among, 1..2, 100), 0, "shard 0 has not looked yet");
    among.clients[0].change_owners(&owners, now);
    among.clients[0].turn(now);
    assert_eq!(open(&mut among, 0..2, 100), 44);
    assert_eq!(ports_in_use(&among).len(), 64, "no port twice");
}

/// Shard 1 has ports from before both changes, the first of which gave them to shard 0, and has not looked what it has.
#[test]
fn draw_after_two_changes_at_once_meets_no_connection_left_elsewhere() {
    let mut among = two_that_swap_ports();
    assert_eq!(open(&mut among, 0..2, 10), 20);
    let first = swapped(&among, 1);
    let second = Arc::new(first.changed(&Spread::Rss(Rss::new(&[0x35; 40], vec![0, 0]).expect("a key and a table"))));
    let now = among.now;
    for owners in [first, second] {
        among.clients.iter_mut().for_each(|client| client.change_owners(&owners, now));
    }
    among.clients[0].turn(now);
    assert_eq!(open(&mut among, 0..1, 100), 0, "each port was given to shard 1 by one or the other");
    among.clients[1].turn(now);
    assert_eq!(open(&mut among, 0..1, 100), 44, "every other port is free");
    assert_eq!(ports_in_use(&among).len(), 64, "no port twice");
}

/// A shard that sleeps marks a little at a time, and no other can draw until it has marked all.
#[test]
fn shard_that_marks_what_a_change_left_is_busy_until_it_has_done_so() {
    let mut among = Among::new(&each(0), 2, &table_of_two(0), [Spreader::Same, Spreader::Same]);
    open(&mut among, 0..1, 500);
    let busy = |among: &mut Among| {
        let now = among.now;
        (0..100).take_while(|_| among.clients[0].turn(now).busy).count()
    };
    assert!(busy(&mut among) < 100);
    let (owners, now) = (swapped(&among, 1), among.now);
    among.clients.iter_mut().for_each(|client| client.change_owners(&owners, now));
    let turns = busy(&mut among);
    assert!((5..50).contains(&turns), "{turns} turns");
    among.clients[1].turn(now);
    assert!(open(&mut among, 1..2, 10) > 0, "all have marked theirs");
}

/// Two shards of 64 ports to one destination, between which a table of two entries divides them.
fn two_that_swap_ports() -> Among {
    let setup = Setup { ports: (40_000, 40_063), ..each(0) };
    Among::new(&setup, 2, &table_of_two(0), [Spreader::Same, Spreader::Same])
}

fn table_of_two(first: u16) -> Spread {
    Spread::Rss(Rss::new(&[0x35; 40], vec![first, 1 - first]).expect("a key and a table"))
}

/// The next division of the clients, by the table that begins with `first`.
fn swapped(among: &Among, first: u16) -> Arc<Owners> {
    let latest = among.clients.iter().map(|client| client.owners().0).max_by_key(|owners| owners.changes());
    Arc::new(latest.expect("shards").changed(&table_of_two(first)))
}

/// How many of `tries` opens on each of these clients succeed.
fn open(among: &mut Among, clients: std::ops::Range<usize>, tries: usize) -> usize {
    let (now, remote) = (among.now, "10.0.0.2:80".parse().expect("an end"));
    let opened = |client: &mut Shard<MemoryLink, Client>| {
        (0..tries).filter(|_| client.calls(now).connect(remote, &ConnectOptions::default()).is_ok()).count()
    };
    among.clients[clients].iter_mut().map(opened).sum()
}

/// The local ports of all clients' connections, each once.
fn ports_in_use(among: &Among) -> Vec<u16> {
    let of = |client: &Shard<MemoryLink, Client>| {
        client.core.connections.iter().map(|(number, _)| client.core.names[number].tuple.local_port).collect::<Vec<_>>()
    };
    let ports: std::collections::BTreeSet<u16> = among.clients.iter().flat_map(of).collect();
    ports.into_iter().collect()
}

#[test]
fn shard_that_the_table_leaves_out_has_no_port_and_says_so() {
    let spread = Spread::Rss(Rss::new(&[0x35; 40], vec![0; 128]).expect("a key and a table"));
    let mut among = Among::new(&each(0), 2, &spread, [Spreader::Same, Spreader::Same]);
    let (now, remote) = (among.now, "10.0.0.2:80".parse().expect("an end"));
    let connects = among.clients.iter_mut().map(|client| client.calls(now).connect(remote, &ConnectOptions::default()));
    match &connects.collect::<Vec<_>>()[..] {
        [Ok(_), Err(error @ ConnectError::NoPortOfThisShard(1))] => {
            assert!(error.to_string().contains("ethtool -X"), "{error}");
        }
        others => panic!("{others:?}"),
    }
}

/// The only batch is full and leaves in the middle of the turn.
#[test]
fn shard_that_was_sent_a_full_batch_in_mid_turn_is_to_be_woken() {
    let limits = Limits { handover_batches_max: 1, ..Setup::default().limits };
    let setup = Setup { limits, request_bytes: 40_000, in_flight_max: 32, ..each(32) };
    let mut among = Among::new(&setup, 2, &Spread::Symmetric, [Spreader::Same, Spreader::random(5)]);
    let mut full = 0;
    for _ in 0..2_000 {
        for client in &mut among.clients {
            client.turn(among.now);
        }
        for server in &mut among.servers {
            let before = *server.counters();
            server.turn(among.now);
            let counted = server.counters().since(&before);
            let sent = counted.wrong_shard + counted.neighbor_answers_shared - counted.handover_full;
            assert_eq!(sent > 0, !server.handed_to().is_empty(), "{sent} frames");
            full += counted.handover_full;
        }
        among.nics.carry();
        among.now = Now::from_us(among.now.us() + 50);
    }
    assert!(full > 0, "the batch was never full");
    among.run(32);
}
