//! Large transfers between synfin and the kernel's TCP, each way, while frames are lost on synfin's side of the wire (B20). Needs
//! root. `SYNFIN_TRANSFER_MB` sets how much each transfer moves.

mod common;

use common::{INTERFACE, Netns, VethPair, privileged_trial};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, Event};
use synfin::ids::Handle;
use synfin::link::faults::{FaultConfig, Faults};
use synfin::link::xdp::{Claim, Mode, Prefix, Steering, XdpConfig, XdpLink};
use synfin::shard::{Calls, LocalAddress, Shard, ShardConfig};
use synfin::tick::Now;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (version, address) in [("ipv4", "10.77.0.9"), ("ipv6", "fd77::9")] {
        for loss_percent in [0, 1, 5] {
            for way in [Way::KernelSends, Way::SynfinSends] {
                let name = format!("b20_{}_over_{version}_with_{loss_percent}_percent_lost", way.name());
                let address: IpAddr = address.parse().expect("is an address");
                trials.push(privileged_trial(&name, move || transfer(way, address, loss_percent)));
            }
        }
    }
    common::run(trials).exit_code()
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    KernelSends,
    SynfinSends,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Way::KernelSends => "kernel_sends",
            Way::SynfinSends => "synfin_sends",
        }
    }

    /// The port of synfin's service for it.
    const fn port(self) -> u16 {
        match self {
            Way::KernelSends => 9,
            Way::SynfinSends => 19,
        }
    }
}

/// One transfer; what arrives must be what was sent, byte for byte.
fn transfer(way: Way, address: IpAddr, loss_percent: u32) {
    let given = std::env::var("SYNFIN_TRANSFER_MB").ok().and_then(|text| text.parse().ok());
    let megabytes: u64 = given.unwrap_or(MEGABYTES);
    let size = megabytes * 1_000_000;
    let pair = VethPair::new(1);
    let (ready, is_ready) = channel();
    let (stop, stops) = channel();
    let (ours, theirs, elapsed) = thread::scope(|scope| {
        let synfin = scope.spawn(|| pair.right.enter(|| serve(way, size, loss_percent, ready, stops)));
        let kernel = is_ready.recv_timeout(PATIENCE).map(|()| {
            let began = Instant::now();
            (use_kernel(&pair.left, way, SocketAddr::new(address, way.port()), size), began.elapsed())
        });
        // Also when the kernel's end has failed: synfin's must not run for ever.
        drop(stop);
        let ours = synfin.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (theirs, elapsed) = kernel.expect("synfin's end got ready");
        (ours, theirs, elapsed)
    });
    let rate = size as f64 * 8.0 / 1e6 / elapsed.as_secs_f64();
    eprintln!(
        "{} {megabytes} MB, {loss_percent} % lost, {address}: {:.2} s, {rate:.0} Mbit/s",
        way.name(),
        elapsed.as_secs_f64()
    );
    assert_eq!(ours.reason, Some(CloseReason::Graceful));
    assert_eq!((ours.digest.count, theirs.count), (size, size));
    assert_eq!(ours.digest.hash.finish(), theirs.hash.finish(), "other bytes arrived than were sent");
    assert!(loss_percent == 0 || ours.lost > 0, "no frame was lost");
}

/// The kernel's end, to its end.
fn use_kernel(netns: &Netns, way: Way, remote: SocketAddr, size: u64) -> Digest {
    netns.enter(|| {
        let mut stream = TcpStream::connect_timeout(&remote, PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        let mut digest = Digest::default();
        match way {
            Way::KernelSends => {
                let mut source = Source::new(size);
                while let Some(piece) = source.piece() {
                    stream.write_all(piece).expect("sends");
                    digest.add(piece);
                    let sent = piece.len();
                    source.sent(sent);
                }
                stream.shutdown(Shutdown::Write).expect("shuts down");
                assert_eq!(stream.read(&mut [0]).expect("reads the end"), 0);
            }
            Way::SynfinSends => {
                let mut buffer = vec![0; PIECE_BYTES];
                loop {
                    match stream.read(&mut buffer).expect("reads") {
                        0 => break,
                        count => digest.add(&buffer[..count]),
                    }
                }
            }
        }
        digest
    })
}

/// What synfin's end came to.
struct Served {
    digest: Digest,
    reason: Option<CloseReason>,
    /// Frames that the faults lost.
    lost: u64,
}

/// synfin's end: a shard over AF_XDP that loses frames both ways, until its connection has ended or the test has.
fn serve(way: Way, size: u64, loss_percent: u32, ready: Sender<()>, stops: Receiver<()>) -> Served {
    let addresses: [IpAddr; 2] = ["10.77.0.9", "fd77::9"].map(|text| text.parse().expect("is an address"));
    let mut steering = Steering::attach(INTERFACE, Mode::Auto).expect("attaches");
    let link = XdpLink::bind(INTERFACE, 0, XdpConfig::default()).expect("binds");
    steering.steer(&link).expect("steers");
    for address in addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        steering.claim(Prefix::new(address, bits).expect("is a prefix"), Claim::Own).expect("claims");
    }
    let faults = FaultConfig { loss: f64::from(loss_percent) / 100.0, ..FaultConfig::default() };
    let link = Faults::new(link, faults, faults, u64::from(loss_percent));
    let config = ShardConfig {
        addresses: addresses
            .map(|address| LocalAddress { address, prefix_len: if address.is_ipv4() { 24 } else { 64 } })
            .to_vec(),
        ..ShardConfig::seeded(0)
    };
    let (started, limit) = (Instant::now(), 2 * PATIENCE + Duration::from_micros(size / 2));
    let service = Service { way, source: Source::new(size), digest: Digest::default(), reason: None };
    let mut shard = Shard::new(link, service, config, Now::from_us(0)).expect("there is memory for a shard");
    let now = || Now::from_us(started.elapsed().as_micros() as u64);
    for address in addresses {
        shard.calls(now()).listen(address, way.port()).expect("listens");
    }
    ready.send(()).expect("the test waits");
    // The last ACK of ours may be lost too: the peer repeats its FIN after the connection has gone.
    while stops.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) || shard.application().reason.is_none() {
        assert!(started.elapsed() < limit, "the transfer takes longer than {limit:?}");
        if !shard.turn(now()).busy {
            thread::sleep(IDLE);
        }
    }
    let lost = shard.link().transmit_faults().lost + shard.link().receive_faults().lost;
    let counters = shard.counters();
    let counted: Vec<String> = COUNTED
        .iter()
        .filter_map(|wanted| counters.iter().find(|(name, _)| name == wanted))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    eprintln!("  {lost} frames lost, {}", counted.join(", "));
    let service = shard.application_mut();
    Served { digest: std::mem::take(&mut service.digest), reason: service.reason, lost }
}

/// Takes or gives one stream.
struct Service {
    way: Way,
    source: Source,
    digest: Digest,
    reason: Option<CloseReason>,
}

impl Service {
    fn send(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        while let Some(piece) = self.source.piece() {
            let taken = calls.send(handle, piece).expect("is open");
            self.digest.add(&piece[..taken]);
            if taken == 0 {
                return;
            }
            self.source.sent(taken);
        }
        calls.close(handle).expect("is open");
    }
}

impl Application for Service {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } if self.way == Way::SynfinSends => self.send(calls, handle),
            Event::Writable { handle } => self.send(calls, handle),
            Event::Readable { handle, bytes } => {
                self.digest.add(bytes);
                calls.consume(handle, bytes.len()).expect("lent as much");
            }
            Event::PeerClosed { handle } if self.way == Way::KernelSends => calls.close(handle).expect("is open"),
            Event::Closed { reason, .. } => self.reason = Some(reason),
            Event::Accepted { .. } | Event::PeerClosed { .. } | Event::Connected { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, _: &mut Calls<'_>) {}
}

/// Bytes that nobody can guess, in pieces.
struct Source {
    random: SmallRng,
    left: u64,
    piece: Vec<u8>,
    /// Bytes of the piece that are sent.
    done: usize,
}

impl Source {
    fn new(size: u64) -> Source {
        Source { random: SmallRng::seed_from_u64(size), left: size, piece: Vec::new(), done: 0 }
    }

    /// What is to be sent next; `None` at the end.
    fn piece(&mut self) -> Option<&[u8]> {
        if self.done == self.piece.len() {
            self.piece.resize(self.left.min(PIECE_BYTES as u64) as usize, 0);
            self.random.fill_bytes(&mut self.piece);
            self.left -= self.piece.len() as u64;
            self.done = 0;
        }
        let piece = &self.piece[self.done..];
        (!piece.is_empty()).then_some(piece)
    }

    fn sent(&mut self, count: usize) {
        self.done += count;
    }
}

/// What a stream was.
#[derive(Clone, Debug, Default)]
struct Digest {
    count: u64,
    hash: SipHasher13,
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        self.hash.write(bytes);
    }
}

/// Counters that say how a transfer went.
const COUNTED: [&str; 5] = ["segments_sent", "retransmitted_data", "fast_recoveries", "time_outs", "tail_probes"];
/// What one transfer moves, 10^6 bytes.
const MEGABYTES: u64 = 50;
/// Bytes that a sender makes at a time.
const PIECE_BYTES: usize = 128 * 1024;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long synfin's end rests when there was nothing to do.
const IDLE: Duration = Duration::from_micros(20);
