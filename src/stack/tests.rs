use super::*;
use crate::api::{ConnectOptions, Event};
use crate::counters::DropReason;
use crate::limits::Limits;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::link::nics::{Spreader, nics};
use crate::link::{Frame, Levels, Link, LinkCounters};
use crate::memory::HugePages;
use crate::owner::Rss;
use crate::shard::{LocalAddress, Shard};
use crate::tcp::time_wait::Policy;
use crate::wire::ethernet::MacAddress;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32};

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

fn links() -> (MemoryLink, MemoryLink) {
    pair(MemoryConfig::default(), MACS)
}

fn config(address: IpAddr) -> ShardConfig {
    let limits = Limits { tcbs_max: 256, time_wait_max: 1024, half_open_max: 64, chunks_max: 64, ..Limits::default() };
    ShardConfig { limits, addresses: vec![LocalAddress { address, prefix_len: 24 }], ..ShardConfig::default() }
}

/// The same for a shard that no stack draws secrets for.
fn seeded(address: IpAddr) -> ShardConfig {
    ShardConfig { secrets: ShardConfig::seeded(1).secrets, ..config(address) }
}

fn seat(link: MemoryLink) -> Vec<Seat<MemoryLink>> {
    vec![Seat { link, core: None }]
}

/// Echoes and closes when the peer has; panics on the connection of that number, if any.
struct Echo {
    listener: Option<crate::ids::ListenerId>,
    panic_at: Option<u32>,
    accepted: u32,
}

impl Echo {
    fn new(panic_at: Option<u32>) -> Echo {
        Echo { listener: None, panic_at, accepted: 0 }
    }
}

impl Service for Echo {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        self.listener = Some(calls.listen(SERVER, 7)?);
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        self.listener.take().map(|listener| calls.stop_listening(listener));
    }
}

impl Application for Echo {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { .. } => {
                self.accepted += 1;
                assert!(self.panic_at != Some(self.accepted), "planted panic");
            }
            Event::Readable { handle, bytes } => {
                let sent = calls.send(handle, bytes).unwrap();
                calls.consume(handle, sent).unwrap();
            }
            Event::PeerClosed { handle } => calls.close(handle).unwrap(),
            _ => {}
        }
    }
}

/// Opens `wanted` connections one after the other; on each sends a byte, waits for it, and closes.
struct Pinger {
    wanted: u32,
    live: bool,
    done: Arc<AtomicU32>,
}

impl Service for Pinger {
    fn start(&mut self, _calls: &mut Calls<'_>) -> Result<(), ListenError> {
        Ok(())
    }

    fn drain(&mut self, _calls: &mut Calls<'_>) {
        self.wanted = 0;
    }

    fn is_done(&self) -> bool {
        self.wanted == 0 && !self.live
    }
}

impl Application for Pinger {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => assert_eq!(calls.send(handle, b"?"), Ok(1)),
            Event::Readable { handle, bytes } => {
                assert_eq!(bytes, b"?");
                calls.consume(handle, 1).unwrap();
                calls.close(handle).unwrap();
            }
            Event::Closed { .. } => {
                self.live = false;
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        if self.wanted > 0 && !self.live {
            calls.connect((SERVER, 7).into(), &ConnectOptions::default()).unwrap();
            self.wanted -= 1;
            self.live = true;
        }
    }
}

fn pinger(wanted: u32) -> (impl Fn(usize) -> Pinger, Arc<AtomicU32>) {
    let done = Arc::new(AtomicU32::new(0));
    let kept = Arc::clone(&done);
    (move |_| Pinger { wanted, live: false, done: Arc::clone(&kept) }, done)
}

fn wait_until(mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !met() {
        assert!(Instant::now() < deadline, "not met within 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn two_stacks_exchange_end_and_publish() {
    let (a, b) = links();
    let server = run(seat(a), &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    let (make, done) = pinger(50);
    let client = run(seat(b), &Spread::Symmetric, &config(CLIENT), Idle::Sleep, make).unwrap();
    let (_, client) = client.join().unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 50);
    assert_eq!((client[0].counters.closed_graceful, client[0].counters.time_wait_created), (50, 50));
    assert!(client[0].states.iter().any(|state| state == ("TIME-WAIT", 50)), "{:?}", client[0].states);
    let snapshot = &server.snapshots()[0];
    assert_eq!((snapshot.states.listeners, snapshot.levels.total), (1, 4096));
    assert!(snapshot.levels.conserved() && !snapshot.turn_us.is_empty());
    assert_eq!(snapshot.tables.bill, config(SERVER).bill());
    let HugePages { obtained_bytes, refused_bytes, unaligned_bytes } = snapshot.tables.huge_pages;
    let asked_bytes = obtained_bytes + refused_bytes + unaligned_bytes;
    assert!(asked_bytes > 0 && asked_bytes <= snapshot.tables.bill.total_bytes(), "{:?}", snapshot.tables);
    server.drain(Duration::from_secs(5));
    let (services, server) = server.join().unwrap();
    assert_eq!((services[0].accepted, server[0].counters.opens_passive, server[0].connections_live), (50, 50, 0));
}

#[test]
fn b40_policies_change_on_every_running_shard_from_another_thread() {
    let (_wire, [left, right]) = Wire::new([Spreader::Same, Spreader::Same]);
    let server = run(left, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    let before = server.snapshots()[0].policies;
    assert_eq!(server.policies(), before);
    let wanted = Policies { msl_ms: 100, time_wait: Policy::None, ..before };
    server.set_policies(&wanted).unwrap();
    assert_eq!(server.policies(), wanted, "at once, however slow a shard is");
    wait_until(|| server.snapshots().iter().all(|shard| shard.policies == wanted));
    let wrong = Policies { msl_ms: 0, ..before };
    assert!(matches!(server.set_policies(&wrong), Err(StackError::Config(ConfigError::BadMsl(0)))));
    assert_eq!(server.policies(), wanted);
    let (make, _) = pinger(5);
    let client = run(right, &Spread::Symmetric, &config(CLIENT), Idle::Sleep, make).unwrap();
    wait_until(|| client.is_finished());
    client.join().unwrap();
    server.stop();
    let (_, last) = server.join().unwrap();
    assert_eq!(last.iter().map(|shard| shard.counters.policies_changed).collect::<Vec<_>>(), [1, 1]);
}

/// A client that is there no more when the answers come; and shards that sleep until they are asked.
#[test]
fn b14_half_open_connections_of_running_shards_are_listed_from_another_thread() {
    let (a, b) = links();
    let server = run(seat(a), &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    assert_eq!(server.half_open().shards, [Some(Vec::new())]);
    let mut client = Shard::new(b, pinger(0).0(0), seeded(CLIENT), Now::default()).unwrap();
    // Fewer than half of their limit: none is answered by a cookie.
    for _ in 0..30 {
        client.calls(Now::default()).connect((SERVER, 7).into(), &ConnectOptions::default()).unwrap();
    }
    // All leave in one turn, once it is known where to.
    wait_until(|| {
        client.turn(Now::default());
        client.counters().segments_sent > 0
    });
    wait_until(|| server.half_open().iter().count() == 30);
    let report = server.half_open();
    assert_eq!(report.by_source(), [(CLIENT, 30)]);
    assert!(report.iter().all(|(shard, one)| (shard, one.tuple.local_port) == (0, 7)), "{report:?}");
    // The SYN-ACK again after a second.
    let mut report = report;
    wait_until(|| {
        report = server.half_open();
        report.iter().all(|(_, one)| one.retries == 1)
    });
    assert!(report.iter().all(|(_, one)| one.next_in_ms.is_some_and(|ms| ms <= 2000)), "{report:?}");
    server.stop();
    wait_until(|| server.is_finished());
    assert_eq!(server.half_open().silent().collect::<Vec<_>>(), [0], "who has ended does not answer");
}

/// As many who ask at once as there are commands, and more.
#[test]
fn b14_everybody_who_asks_for_the_half_open_connections_is_answered() {
    let (_wire, [left, _right]) = Wire::new([Spreader::Same, Spreader::Same]);
    let server = run(left, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(server.half_open().shards, [const { Some(Vec::new()) }; 2]));
        }
    });
}

#[test]
fn commands_that_a_shard_does_not_obey_are_refused_not_piled_up() {
    let commands = commands::Commands::new(Arc::new(alarm::Alarm::new().unwrap()));
    let more = || commands.push(commands::Command::SetPolicies(Policies::default()));
    assert_eq!((0..1000).filter(|_| more()).count(), 64);
    assert_eq!(commands.take().count(), 64);
    assert!(more());
}

#[test]
fn drain_with_a_live_connection_ends_at_its_deadline() {
    let (a, b) = links();
    let server = run(seat(a), &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    let (make, done) = pinger(1);
    let mut client = Shard::new(b, make(0), seeded(CLIENT), Now::default()).unwrap();
    wait_until(|| {
        client.turn(server.now());
        server.snapshots()[0].counters.established == 1 || done.load(Ordering::Relaxed) == 1
    });
    // The client now takes no turn, so its connection cannot end.
    let live = server.snapshots()[0].connections_live;
    let began = Instant::now();
    server.drain(Duration::from_millis(200));
    let (_, last) = server.join().unwrap();
    // Who is still there at the deadline gets a RST.
    assert_eq!((last[0].connections_live, last[0].counters.rst_sent >= live), (0, true));
    assert!(live == 0 || began.elapsed() >= Duration::from_millis(150));
}

/// A wire between NICs of two queues, which a thread of its own carries frames over until this is dropped.
struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// The wire and the seats at each end.
    fn new(spreaders: [Spreader; 2]) -> (Wire, [Vec<Seat<MemoryLink>>; 2]) {
        let (mut nics, links) = nics(MemoryConfig::default(), MACS, 2, spreaders);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                nics.carry();
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        (Wire { stop, thread: Some(thread) }, links.map(|links| links.into_iter().flat_map(seat).collect()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn two_shards_at_each_end_exchange_whatever_queue_frames_come_on() {
    let (_wire, [left, right]) = Wire::new([Spreader::random(1), Spreader::random(2)]);
    let server = run(left, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    let (make, done) = pinger(50);
    let client = run(right, &Spread::Symmetric, &config(CLIENT), Idle::Sleep, make).unwrap();
    // A new division in the middle does no harm.
    wait_until(|| done.load(Ordering::Relaxed) > 20);
    let rss = Spread::Rss(Rss::new(&[0x35; 40], vec![0, 1, 1, 0]).unwrap());
    client.divide(&rss).unwrap();
    server.divide(&rss).unwrap();
    wait_until(|| client.is_finished());
    let (_, client) = client.join().unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 100);
    assert!(client.iter().all(|shard| shard.counters.closed_graceful == 50));
    assert!(client.iter().all(|shard| shard.counters.wrong_shard > 0 && shard.counters.handover_received > 0));
    server.drain(Duration::from_secs(5));
    let (services, _) = server.join().unwrap();
    assert_eq!(services.iter().map(|service| service.accepted).sum::<u32>(), 100);
}

#[test]
fn panic_in_a_shard_stops_all_and_is_an_error() {
    let (_wire, [left, right]) = Wire::new([Spreader::Same, Spreader::Same]);
    let server = run(left, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(Some(3))).unwrap();
    let (make, _) = pinger(3);
    let client = run(right, &Spread::Symmetric, &config(CLIENT), Idle::Sleep, make).unwrap();
    wait_until(|| server.is_finished());
    match server.join() {
        Err(StackError::Panicked { message, .. }) => assert_eq!(message, "planted panic"),
        other => panic!("{:?}", other.map(|(_, shards)| shards.len())),
    }
    drop(client);
}

/// Shows T09.
#[test]
fn secrets_are_the_given_ones_or_drawn_anew_at_each_start() {
    let given = ShardConfig::seeded(7);
    assert_eq!(secrets_of(&given).ok(), given.secrets);
    let drawn = [0, 1].map(|_| secrets_of(&config(SERVER)).expect("randomness"));
    assert_ne!(drawn[0], drawn[1]);
    // No other way round: a shard does without them as little as a stack.
    let (a, _b) = links();
    let error = Shard::new(a, Echo::new(None), config(SERVER), Now::default()).map(|_| ()).unwrap_err();
    assert_eq!(error, ConfigError::NoSecrets);
}

#[test]
fn wrong_configuration_and_core_are_errors_and_leave_no_thread() {
    let (a, b) = links();
    let no_address = ShardConfig { addresses: Vec::new(), ..config(SERVER) };
    let error =
        run(seat(a), &Spread::Symmetric, &no_address, Idle::Sleep, |_| Echo::new(None)).map(|_| ()).unwrap_err();
    assert!(matches!(error, StackError::Config(ConfigError::NoAddress)), "{error}");
    let seats = vec![Seat { link: b, core: Some(100_000) }];
    let error =
        run(seats, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).map(|_| ()).unwrap_err();
    assert!(matches!(error, StackError::Core(_)), "{error}");
}

#[test]
fn tables_past_what_the_system_has_fail_with_the_bill_before_any_thread_starts() {
    let (a, _b) = links();
    // 8 TB of chunks for each shard.
    let limits = Limits { chunks_max: u32::MAX, ..Limits::default() };
    let config = ShardConfig { limits, ..config(SERVER) };
    let error = run(seat(a), &Spread::Symmetric, &config, Idle::Sleep, |_| -> Echo { panic!("a thread has started") });
    let error = error.map(|_| ()).unwrap_err();
    let StackError::Config(ConfigError::NoMemory { bill, available_bytes: Some(_) }) = &error else {
        panic!("{error}")
    };
    assert_eq!(**bill, config.bill());
    let text = error.to_string();
    assert!(text.contains(&bill.to_string()) && text.contains("lower limits.chunks_max"), "{text}");
}

/// One list, whoever tells it.
#[test]
fn what_a_veth_peer_turns_off_is_the_same_in_the_readme() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let commands: Vec<&str> =
        readme.lines().filter_map(|line| line.split_once("ethtool -K ").map(|(_, rest)| rest)).collect();
    assert_eq!(commands, [super::run::PEER_OFFLOADS_OFF.replace("ethtool -K PEER", "veth1")]);
}

#[test]
fn first_drops_that_the_peer_can_mend_come_with_the_command() {
    let sender = MacAddress([2, 0, 0, 0, 0, 9]);
    let advice = |reason| super::run::advice(reason, sender);
    for reason in [DropReason::TcpChecksumPartial, DropReason::TooLong] {
        assert!(advice(reason).unwrap().contains(super::run::PEER_OFFLOADS_OFF));
    }
    assert_eq!(advice(DropReason::Truncated), None);
}

#[cfg(feature = "xdp")]
#[test]
fn shards_that_share_cores_and_never_sleep_are_refused() {
    for idle in [Idle::Spin, Idle::BusyPoll] {
        let config = StackConfig { idle, share_cores: true, ..StackConfig::new("lo") };
        let refused = Stack::start(&config, |_| Echo::new(None)).map(drop).expect_err("whatever the interface");
        assert!(matches!(refused, StackError::SharedCoreNeverIdle { .. }), "{refused}");
    }
}

/// A link that takes what is to be sent at each tenth flush only, or never: as an XSK whose wake-ups are answered EAGAIN.
struct Reluctant {
    inner: MemoryLink,
    flushes: u32,
    every: u32,
}

impl Reluctant {
    fn new(inner: MemoryLink, every: u32) -> Reluctant {
        Reluctant { inner, flushes: 0, every }
    }
}

impl WaitLink for Reluctant {
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        self.inner.wait(alarm, timeout)
    }
}

impl Link for Reluctant {
    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        self.inner.receive(burst, max);
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn take(&mut self) -> Option<Frame> {
        self.inner.take()
    }

    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        self.inner.send(frame, len)
    }

    fn give_back(&mut self, frame: Frame) {
        self.inner.give_back(frame);
    }

    fn flush(&mut self) {
        self.flushes += 1;
        if self.flushes.is_multiple_of(self.every) {
            self.inner.flush();
        }
    }

    fn is_behind(&self) -> bool {
        self.inner.levels().transmit > 0
    }

    fn mac(&self) -> MacAddress {
        self.inner.mac()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn frame_bytes_max(&self) -> usize {
        self.inner.frame_bytes_max()
    }

    fn levels(&self) -> Levels {
        self.inner.levels()
    }

    fn counters(&self) -> LinkCounters {
        self.inner.counters()
    }
}

/// Opens one connection and does nothing with it.
struct Opener {
    live: Option<bool>,
}

impl Application for Opener {
    fn on_event(&mut self, _: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { .. } => self.live = Some(true),
            Event::Closed { .. } => self.live = Some(false),
            _ => {}
        }
    }
}

#[test]
fn last_words_of_a_drain_leave_a_link_that_lags_behind() {
    let (a, b) = links();
    let seats = vec![Seat { link: Reluctant::new(a, 10), core: None }];
    let server = run(seats, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    let mut client = Shard::new(b, Opener { live: None }, seeded(CLIENT), Now::default()).unwrap();
    client.calls(server.now()).connect((SERVER, 7).into(), &ConnectOptions::default()).unwrap();
    wait_until(|| {
        client.turn(server.now());
        server.snapshots()[0].counters.established == 1
    });
    server.drain(Duration::ZERO);
    let (_, last) = server.join().unwrap();
    assert_eq!((last[0].connections_live, last[0].counters.rst_sent), (0, 1));
    client.turn(Now::from_ms(100_000));
    assert_eq!(client.application().live, Some(false), "it has heard of the end");
}

#[test]
fn a_link_that_takes_nothing_is_tried_again_soon_and_holds_up_no_end() {
    let (a, _b) = links();
    let mut shard = Shard::new(Reluctant::new(a, 10), Opener { live: None }, seeded(SERVER), Now::default()).unwrap();
    let now = Now::from_ms(1);
    assert_eq!(shard.next_deadline(now), None);
    shard.announce(now);
    shard.turn(now);
    assert_eq!(shard.next_deadline(now).map(|at| at.us() - now.us()), Some(1000));
    let (a, _b) = links();
    let seats = vec![Seat { link: Reluctant::new(a, u32::MAX), core: None }];
    let stack = run(seats, &Spread::Symmetric, &config(SERVER), Idle::Sleep, |_| Echo::new(None)).unwrap();
    stack.announce().unwrap();
    wait_until(|| stack.snapshots()[0].levels.transmit > 0);
    let began = Instant::now();
    stack.drain(Duration::from_secs(60));
    stack.join().unwrap();
    let took = began.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(20)).contains(&took), "{took:?}");
}
