//! TIME-WAIT records that changes of owners leave behind, and segments that are theirs or a newer connection's.

use super::*;
use crate::four_tuple::FourTuple;

/// How a NIC chooses queues while the shards' table is turned so far.
type Nic = fn(u16, u16) -> Spreader;

const STAYS: Nic = |shards, _| Spreader::hash(&turned(shards, 0), shards);
const FOLLOWS: Nic = |shards, by| Spreader::hash(&turned(shards, by), shards);
const ANY_QUEUE: Nic = |shards, _| Spreader::random(shards.into());

/// The table that gives what was shard 0's to shard `by`, what was shard 1's to the one after it, and so on.
fn turned(shards: u16, by: u16) -> Spread {
    let table = (0..128).map(|entry| (entry + by) % shards).collect();
    Spread::Rss(Rss::new(&[0x35; 40], table).expect("a key and a table"))
}

/// One connection of each client has ended; there are as many records at the end that closed first.
fn records_of_one_each(closer: Closer, shards: u16, nic: Nic) -> Among {
    let setup = Setup { closer, ports: (40_000, 40_063), request_bytes: 20_000, ..each(1) };
    let mut among = Among::new(&setup, shards, &turned(shards, 0), [nic(shards, 0), nic(shards, 0)]);
    among.run(1);
    among
}

/// All shards of one end divide by the turned table, and have marked what is another's now.
fn turn_table<A: Application>(shards: &mut [Shard<MemoryLink, A>], by: u16, now: Now) {
    let owners = Arc::new(shards[0].owners().0.changed(&turned(shards.len() as u16, by)));
    for shard in &mut *shards {
        shard.change_owners(&owners, now);
    }
    for shard in shards {
        shard.turn(now);
    }
}

fn only_record<A: Application>(shard: &Shard<MemoryLink, A>) -> FourTuple {
    let store = &shard.core.time_wait_v4;
    store[store.oldest().expect("a record")].tuple()
}

/// The shard after the one with the record opens it, after the first change.
#[test]
fn record_of_another_shard_keeps_no_segment_from_a_new_connection() {
    for (shards, tables, nic) in [
        (2, &[1][..], STAYS),
        (2, &[1, 0], FOLLOWS),
        (3, &[1], ANY_QUEUE),
        (3, &[1, 0], ANY_QUEUE),
        (3, &[1, 0, 2], ANY_QUEUE),
    ] {
        let mut among = records_of_one_each(Closer::Client, shards, nic);
        let ports: Vec<u16> = among.clients.iter().map(|client| only_record(client).local_port).collect();
        for (change, &by) in (0..).zip(tables) {
            turn_table(&mut among.clients, by, among.now);
            among.nics.respread(0, nic(shards, by));
            for (shard, port) in (1..).zip(&ports) {
                let client = &mut among.clients[shard % usize::from(shards)];
                if change == 0 {
                    let options = ConnectOptions { local_port: Some(*port), ..ConnectOptions::default() };
                    let remote = client.application().remote;
                    client.calls(among.now).connect(remote, &options).expect("the owner has no record");
                }
                assert_eq!((client.connections_live(), client.time_wait_live()), (1, 1), "{tables:?}");
            }
            (0..8).for_each(|_| among.turn());
        }
        among.run(2);
        assert!(among.clients.iter().all(|client| client.time_wait_live() == 2), "each has its former record still");
        assert!(among.clients.iter().all(|client| client.counters().wrong_shard > 0), "{tables:?}");
        assert_eq!(among.sum(|counters| counters.time_wait_acks + counters.rst_sent), 0, "{tables:?}");
    }
}

/// The shard after the one with the record opens it, after the first change, and loses its last ACK after the last one. The 4-tuple is marked,
/// as by another connection's mark. The four shards have forgotten the function by which the former record came to its shard: what that lets
/// pass does not come back.
#[test]
fn b41_fin_again_is_answered_by_the_newer_of_two_records() {
    for (shards, tables, nic) in
        [(2, &[1][..], STAYS), (2, &[1], FOLLOWS), (3, &[1, 2], ANY_QUEUE), (4, &[1, 0, 3, 2], FOLLOWS)]
    {
        let mut among = records_of_one_each(Closer::Client, shards, nic);
        let records: Vec<FourTuple> = among.clients.iter().map(only_record).collect();
        for (change, &by) in (0..).zip(tables) {
            turn_table(&mut among.clients, by, among.now);
            among.nics.respread(0, nic(shards, by));
            for (shard, tuple) in (1..).zip(&records).filter(|_| change == 0) {
                let client = &mut among.clients[shard % usize::from(shards)];
                let options = ConnectOptions { local_port: Some(tuple.local_port), ..ConnectOptions::default() };
                let remote = client.application().remote;
                client.calls(among.now).connect(remote, &options).expect("the owner has no record");
                client.core.strangers.mark(client.core.index.hash(tuple));
            }
        }
        let ended = |among: &Among| among.clients.iter().filter(|client| client.time_wait_live() == 2).count();
        for _ in 0..50_000 {
            let before = ended(&among);
            among.turn_losing(|among| ended(among) > before);
            if ended(&among) == among.clients.len() {
                break;
            }
        }
        let waiting = among.servers.iter().map(|server| server.connections_live()).sum::<usize>();
        assert_eq!(ended(&among), among.clients.len(), "{tables:?}");
        assert!(waiting > 0, "{tables:?}: no server waits for the ACK of its FIN");
        among.run(2);
        let [acks, restarts] =
            [among.sum(|counters| counters.time_wait_acks), among.sum(|counters| counters.time_wait_restarted)];
        assert_eq!(acks, restarts, "{tables:?}: a record answered what is not its own");
        assert!(acks >= u64::from(shards), "{tables:?}");
        assert_eq!(among.sum(|counters| counters.rst_sent), 0, "{tables:?}");
    }
}

/// Each record's 4-tuple is marked, as by another connection's mark. After four changes the function by which it came to its shard is
/// forgotten: it would not come back, and the record answers at once.
#[test]
fn b44_syn_that_a_record_lets_pass_comes_back_to_it() {
    for (shards, tables, nic, comes_back) in [
        (2, &[1][..], STAYS, true),
        (2, &[1, 0], STAYS, true),
        (3, &[1, 0, 2], STAYS, true),
        (3, &[1, 0, 1, 0], ANY_QUEUE, true),
        (3, &[1, 2, 1, 2], STAYS, false),
    ] {
        let mut among = records_of_one_each(Closer::Server, shards, nic);
        let records: Vec<FourTuple> = among.servers.iter().map(only_record).collect();
        for &by in tables {
            turn_table(&mut among.servers, by, among.now);
        }
        for tuple in &records {
            let core = &among.servers[0].core;
            core.strangers.mark(core.index.hash(tuple));
        }
        let crossed = among.sum(|counters| counters.wrong_shard);
        // The key makes both ends' hashes the same.
        for (client, tuple) in among.clients.iter_mut().zip(&records) {
            let options = ConnectOptions { local_port: Some(tuple.remote_port), ..ConnectOptions::default() };
            let remote = client.application().remote;
            client.calls(among.now).connect(remote, &options).expect("this end has no record");
        }
        among.run(2);
        assert_eq!(among.sum(|counters| counters.wrong_shard) > crossed, comes_back, "{tables:?}");
        assert_eq!(among.sum(|counters| counters.time_wait_reused), u64::from(shards), "{tables:?}");
    }
}
