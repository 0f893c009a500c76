//! What single steps of the containers cost. `cargo bench --features bench --bench containers` takes less than a minute.

use core::hint::black_box;
use core::net::Ipv4Addr;
use core::ops::{Index as At, IndexMut};
use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use synfin::flow::chunks::{Chain, Chunks};
use synfin::flow::index::{Hash, Index};
use synfin::flow::ports::{DestinationKey, DestinationLimits, Destinations, Left, PortStatus};
use synfin::flow::time_wait::{TimeWaitRecord, TimeWaitStore};
use synfin::four_tuple::FourTuple;
use synfin::ids::{Kind, Value};
use synfin::owner::Owners;
use synfin::prefetch::prefetch_record;
use synfin::tick::Tick;
use synfin::timer::wheel::{Timed, Wheel, WheelLink};
use synfin::wire::checksum::Sum;

/// A burst of 64 look-ups in stages down to the 4-tuple in the record, and 64 entries added and removed, at a load of four fifths.
fn index(c: &mut Criterion) {
    let mut index = Index::new(ENTRIES, (1, 2));
    for number in 0..ENTRIES - BURST {
        index.insert(index.hash(&tuple(number)), Value::new(Kind::Tcb, number)).expect("there is room");
    }
    let records: Vec<FourTuple> = (0..ENTRIES).map(tuple).collect();
    let mut random = 1u32;
    c.bench_function("index/hash", |b| b.iter(|| index.hash(black_box(&tuple(7)))));
    c.bench_function("index/candidate staged, burst of 64 in 1 M", |b| {
        b.iter(|| {
            let wanted = wanted(&index, &mut random);
            wanted.iter().for_each(|&(hash, _)| index.prefetch(hash));
            wanted.iter().filter_map(|&(hash, _)| index.candidate(hash)).count()
        });
    });
    c.bench_function("index/find staged, burst of 64 in 1 M", |b| {
        b.iter(|| {
            let wanted = wanted(&index, &mut random);
            wanted.iter().for_each(|&(hash, _)| index.prefetch(hash));
            let candidates = wanted.iter().filter_map(|&(hash, _)| index.candidate(hash));
            candidates.for_each(|value| prefetch_record(&records[value.number() as usize]));
            let found = wanted
                .iter()
                .filter_map(|(hash, tuple)| index.find(*hash, |value| records[value.number() as usize] == *tuple));
            found.count()
        });
    });
    c.bench_function("index/insert and remove, burst of 64 in 1 M", |b| {
        b.iter(|| {
            for number in ENTRIES - BURST..ENTRIES {
                let hash = index.hash(&tuple(number));
                index.insert(hash, Value::new(Kind::Tcb, number)).expect("there is room");
            }
            for number in ENTRIES - BURST..ENTRIES {
                index.remove(index.hash(&tuple(number)), Value::new(Kind::Tcb, number));
            }
        });
    });
}

/// The 4-tuples of a burst, and their hashes.
fn wanted(index: &Index, random: &mut u32) -> [(Hash, FourTuple); BURST as usize] {
    std::array::from_fn(|_| {
        *random = next(*random);
        let tuple = tuple(*random % (ENTRIES - BURST));
        (index.hash(&tuple), tuple)
    })
}

/// A record made and one expired, with a million resident.
fn time_wait(c: &mut Criterion) {
    let mut store = TimeWaitStore::<Entry>::new(ENTRIES + ENTRIES / 16, TWO_MSL_MS);
    let (mut out, mut made) = (Vec::with_capacity(BURST as usize * 4), 0u64);
    c.bench_function("TIME-WAIT/64 made and expired, 1 M resident", |b| {
        b.iter(|| {
            for _ in 0..BURST {
                let now = Tick((made * u64::from(TWO_MSL_MS) / u64::from(ENTRIES)) as u32);
                let entry = Entry { live: 1, deadline: now.plus(TWO_MSL_MS), ..Entry::default() };
                store.insert(entry, now).expect("there is room");
                made += 1;
                if made.is_multiple_of(u64::from(BURST)) {
                    out.clear();
                    store.expire(now, BURST as usize * 4, &mut out);
                }
            }
        });
    });
}

/// A timer armed, put off once and fired.
fn wheel(c: &mut Criterion) {
    let mut timers = Timers(vec![Timer::default(); ENTRIES as usize]);
    let mut wheel = Wheel::new(4096, 8, Tick(0));
    let (mut now, mut due) = (Tick(0), Vec::with_capacity(1024));
    c.bench_function("wheel/64 armed, put off and fired", |b| {
        b.iter(|| {
            for number in 0..BURST {
                for delay in [50, 60] {
                    timers[number].deadline = Some(now.plus(delay));
                    wheel.arm(&mut timers, number, now.plus(delay));
                }
            }
            for _ in 0..10 {
                now = now.plus(8);
                due.clear();
                wheel.expire(&mut timers, now, 1024, &mut due);
            }
        });
    });
}

/// A port drawn and given back while so many percent of the range are in TIME-WAIT: it must cost the same.
fn ports(c: &mut Criterion) {
    for percent in [1u32, 99] {
        let limits = DestinationLimits { destinations_max: 16, queued_ports_max: 70_000, two_msl_ms: TWO_MSL_MS };
        let mut destinations = Destinations::new(limits, (3, 4), Arc::new(Owners::alone((1024, u16::MAX))), 0);
        let key = DestinationKey {
            local: Ipv4Addr::new(10, 0, 0, 1).into(),
            remote: Ipv4Addr::new(10, 0, 0, 2).into(),
            remote_port: 80,
        };
        // How long each port has still to wait; draws move time, so that as many end as begin.
        let (waiting, mut turn) = (64_512 * percent / 100, 0u64);
        let mut given_back = vec![None; 65_536];
        c.bench_function(&format!("ports/draw and give back, {percent} % in TIME-WAIT"), |b| {
            b.iter(|| {
                turn += 1;
                let drawn = destinations.draw(&key, Tick(turn as u32), |port| match given_back[usize::from(port)] {
                    Some(at) if turn - at < u64::from(waiting) => {
                        PortStatus::TimeWait { free_in_ms: (at + u64::from(waiting) - turn) as u32, reusable: false }
                    }
                    _ => PortStatus::Free,
                });
                if let Ok((destination, port)) = drawn {
                    given_back[usize::from(port)] = Some(turn);
                    destinations.give_back(destination, port, Left::TimeWait, Tick(turn as u32));
                }
                drawn.is_ok()
            });
        });
    }
}

/// The longest draw: the owners have changed, the lap begins anew, and all that it comes to is in TIME-WAIT.
fn worst_draw(c: &mut Criterion) {
    let limits = DestinationLimits { destinations_max: 1, queued_ports_max: 70_000, two_msl_ms: TWO_MSL_MS };
    let owners = Arc::new(Owners::alone((1024, u16::MAX)));
    let mut destinations = Destinations::new(limits, (3, 4), Arc::clone(&owners), 0);
    let (local, remote) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
    let key = DestinationKey { local, remote, remote_port: 80 };
    let connection = |port| FourTuple::new(local, port, remote, 80);
    // Among as many others as the index has room for.
    let mut index = Index::new(ENTRIES, (1, 2));
    let ours = (1024..=u16::MAX).map(connection);
    let all: Vec<_> = ours.chain((0..).map(tuple)).take(ENTRIES as usize).collect();
    for (number, tuple) in (0..).zip(&all) {
        index.insert(index.hash(tuple), Value::new(Kind::TimeWaitV4, number)).expect("there is room");
    }
    let mut asked = 0u64;
    let mut draws = 0u64;
    c.bench_function("ports/the longest draw", |b| {
        b.iter(|| {
            destinations.change_owners(&owners);
            draws += 1;
            let drawn = destinations.draw(&key, Tick(1), |port| {
                asked += 1;
                let tuple = connection(port);
                match index.find(index.hash(&tuple), |value| all[value.number() as usize] == tuple) {
                    Some(_) => PortStatus::TimeWait { free_in_ms: 1000, reusable: false },
                    None => PortStatus::Free,
                }
            });
            assert!(drawn.is_err(), "all are in TIME-WAIT");
        });
    });
    println!("{} ports asked about per draw", asked / draws.max(1));
}

/// A request of 64 bytes put into a chain and consumed.
fn chunks(c: &mut Criterion) {
    let (mut pool, mut chain) = (Chunks::new(1024), Chain::default());
    c.bench_function("chunks/append and consume 64 B", |b| {
        b.iter(|| {
            pool.append(&mut chain, black_box(&[7; 64]));
            pool.consume(&mut chain, 64);
        });
    });
}

fn checksum(c: &mut Criterion) {
    for len in [84, 1500] {
        let bytes = vec![0x5a; len];
        c.bench_function(&format!("checksum/{len} B"), |b| {
            b.iter(|| Sum::default().bytes(black_box(&bytes)).finish());
        });
    }
}

fn tuple(number: u32) -> FourTuple {
    let remote = Ipv4Addr::from_bits(0x0a00_0000 | number >> 16);
    FourTuple::new(Ipv4Addr::new(10, 255, 0, 1).into(), 80, remote.into(), number as u16)
}

const fn next(random: u32) -> u32 {
    random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// As large as an IPv4 record.
#[derive(Clone, Copy, Default)]
struct Entry {
    content: [u32; 6],
    live: u32,
    deadline: Tick,
}

impl TimeWaitRecord for Entry {
    fn is_live(&self) -> bool {
        self.live != 0
    }
    fn mark_hole(&mut self) {
        (self.live, self.content) = (0, [0; 6]);
    }
    fn deadline(&self) -> Tick {
        self.deadline
    }
    fn set_deadline(&mut self, deadline: Tick) {
        self.deadline = deadline;
    }
}

#[derive(Clone, Default)]
struct Timer {
    link: WheelLink,
    deadline: Option<Tick>,
}

impl Timed for Timer {
    fn wheel_link(&self) -> &WheelLink {
        &self.link
    }
    fn wheel_link_mut(&mut self) -> &mut WheelLink {
        &mut self.link
    }
    fn deadline(&self) -> Option<Tick> {
        self.deadline
    }
}

struct Timers(Vec<Timer>);

impl At<u32> for Timers {
    type Output = Timer;
    fn index(&self, number: u32) -> &Timer {
        &self.0[number as usize]
    }
}

impl IndexMut<u32> for Timers {
    fn index_mut(&mut self, number: u32) -> &mut Timer {
        &mut self.0[number as usize]
    }
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

const ENTRIES: u32 = 1 << 20;
const BURST: u32 = 64;
const TWO_MSL_MS: u32 = 60_000;

criterion_group! {
    name = containers;
    config = quick();
    targets = index, time_wait, wheel, ports, worst_draw, chunks, checksum
}
criterion_main!(containers);
