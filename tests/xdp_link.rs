//! AF_XDP links over a veth pair, beside a kernel that keeps everything that is not claimed.
mod common;

use common::{INTERFACE, Netns, VethPair, privileged_trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use synfin::link::xdp::{AttachedMode, Claim, Interface, Mode, Steering, XdpConfig, XdpError, XdpLink, queues};
use synfin::link::{Frame, Link};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(HOLD) => return hold_program(),
        Some(BIND) => return bind_loopback(),
        _ => {}
    }
    let trials = vec![
        privileged_trial("skb_frames_cross_both_ways", || frames_cross(Mode::Skb, AttachedMode::Skb)),
        privileged_trial("drv_frames_cross_both_ways", || frames_cross(Mode::Drv, AttachedMode::Drv)),
        privileged_trial("drv_queues_are_told_apart", queues_are_told_apart),
        privileged_trial("skb_frames_are_conserved", || frames_are_conserved(Mode::Skb)),
        privileged_trial("drv_frames_are_conserved", || frames_are_conserved(Mode::Drv)),
        privileged_trial("auto_mode_is_skb_on_one_queue_and_drv_on_two", auto_mode_depends_on_queues),
        privileged_trial("transmit_full_take_and_send_refuse", transmit_full_refuses),
        privileged_trial("transmit_stalled_is_taken_up_again", transmit_stalled_is_taken_up_again),
        privileged_trial("send_of_impossible_length_comes_back", impossible_length_comes_back),
        privileged_trial("kernel_traffic_goes_on_while_attached", kernel_traffic_goes_on),
        privileged_trial("killed_process_gives_traffic_back", killed_process_gives_traffic_back),
        privileged_trial("dropped_steering_detaches", dropped_steering_detaches),
        privileged_trial("queue_taken_is_said_and_free_after_drop", queue_taken_is_said),
        privileged_trial("impossible_requests_are_refused", impossible_requests_are_refused),
        privileged_trial("second_program_is_refused", second_program_is_refused),
        privileged_trial("no_capabilities_is_said", no_capabilities_is_said),
    ];
    common::run(trials).exit_code()
}

fn frames_cross(mode: Mode, obtained: AttachedMode) {
    let (_pair, mut left, mut right) = ends(mode);
    assert_eq!((left.steering.mode(), right.steering.mode()), (obtained, obtained));
    assert!(!left.link.zero_copy());
    for number in 0..100 {
        let (from, to) = if number % 2 == 0 { (&mut left, &mut right) } else { (&mut right, &mut left) };
        from.send(number, 64 + usize::from(number));
        let frames = to.receive(1);
        assert_eq!(frames, [frame(number, 64 + usize::from(number))]);
    }
    left.send(1, 1514);
    assert_eq!(right.receive(1), [frame(1, 1514)]);
}

fn queues_are_told_apart() {
    let pair = VethPair::new(2);
    assert_eq!(pair.left.enter(|| queues(INTERFACE).unwrap()), 2);
    let mut left = pair.left.enter(|| End::on_queue(Mode::Drv, 1));
    let (mut right, mut other) = pair.right.enter(|| {
        let mut right = End::on_queue(Mode::Drv, 0);
        let other = XdpLink::bind(INTERFACE, 1, XdpConfig::default()).unwrap();
        right.steering.steer(&other).unwrap();
        (right, other)
    });
    left.send(7, 64);
    let mut burst = Vec::with_capacity(64);
    until(|| {
        other.receive(&mut burst, 64);
        burst.len() == 1
    });
    assert_eq!(other.bytes(&burst[0]), frame(7, 64));
    assert_eq!((other.queue(), right.poll()), (1, 0));
}

fn frames_are_conserved(mode: Mode) {
    const FRAMES: u64 = 100_000;
    let (_pair, mut left, mut right) = ends(mode);
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 0;
    while right.link.counters().rx_frames < FRAMES {
        assert!(Instant::now() < deadline, "{:?} {:?}", left.link.counters(), right.link.counters());
        // A burst that the veth ring holds, so that none is dropped.
        for _ in 0..64 {
            left.stage(sent as u8, 64);
            sent += 1;
        }
        left.link.flush();
        until(|| {
            right.echo();
            left.drain();
            left.link.counters().rx_frames == sent
        });
        assert!(left.link.levels().conserved() && right.link.levels().conserved());
    }
    for link in [&mut left.link, &mut right.link] {
        until(|| {
            link.flush();
            link.levels().transmit == 0
        });
        let (levels, counters) = (link.levels(), link.counters());
        assert_eq!((levels.in_hand, levels.free + levels.fill), (0, levels.total), "{levels:?}");
        assert_eq!((counters.rx_frames, counters.tx_frames), (sent, sent), "{counters:?}");
        assert_eq!(counters.rx_bad_descriptors + counters.completion_bad_descriptors, 0, "{counters:?}");
        let statistics = link.statistics().unwrap();
        assert_eq!(
            statistics.rx_dropped + statistics.rx_ring_full + statistics.tx_invalid_descriptors,
            0,
            "{statistics:?}"
        );
    }
}

fn auto_mode_depends_on_queues() {
    for (queues, mode) in [(1, AttachedMode::Skb), (2, AttachedMode::Drv)] {
        let pair = VethPair::new(queues);
        pair.left.enter(|| {
            let steering = Steering::attach(INTERFACE, Mode::Auto).unwrap();
            let interface = steering.interface();
            assert_eq!((steering.mode(), interface.attached), (mode, Some(mode)));
            assert_eq!((interface.queues, interface.mtu, interface.driver.as_str()), (queues, 1500, "veth"));
            assert!(!interface.mac.is_multicast());
        });
    }
}

fn transmit_full_refuses() {
    let config = XdpConfig { frames: 64, fill: 32, rx: 32, tx: 16, ..XdpConfig::default() };
    let (_pair, mut left, mut right) = ends_with(Mode::Skb, config);
    left.stage(0, 64);
    left.link.flush();
    let received = right.receive_frames(1);
    let mut taken: Vec<Frame> = std::iter::from_fn(|| right.link.take()).collect();
    assert_eq!(taken.len(), 16, "as many as TX has places");
    let refused: Vec<Frame> = received.into_iter().filter_map(|frame| right.link.send(frame, 64).err()).collect();
    assert_eq!((refused.len(), right.link.counters().tx_full), (1, 1));
    for mut frame in taken.drain(..) {
        right.link.bytes_mut(&mut frame)[..64].copy_from_slice(&self::frame(1, 64));
        right.link.send(frame, 64).expect("a taken frame fits");
    }
    right.link.flush();
    assert_eq!(left.receive(16).len(), 16);
    for frame in refused {
        right.link.send(frame, 64).expect("there are places again");
    }
    right.link.flush();
    assert_eq!(left.receive(1), [frame(0, 64)]);
}

/// With a queueing discipline a full veth ring stops the transmit queue instead of dropping: EAGAIN, frames stay in TX.
/// A kernel without XDP_MAX_TX_SKB_BUDGET stops after 32 frames anyhow; one that has it stops only if the receiver
/// falls behind.
fn transmit_stalled_is_taken_up_again() {
    const FRAMES: u64 = 1500;
    let (pair, mut left, mut right) = ends(Mode::Drv);
    let mut qdisc = pair.left.command("tc");
    assert!(qdisc.args(["qdisc", "add", "dev", INTERFACE, "root", "pfifo"]).status().unwrap().success());
    // The receive work leaves the sender's core, so the ring can fill.
    let mut threaded = pair.right.command("sh");
    let write = format!("echo 1 > /sys/class/net/{INTERFACE}/threaded");
    assert!(threaded.args(["-c", &write]).status().unwrap().success());
    for number in 0..FRAMES {
        left.stage(number as u8, 64);
    }
    left.link.flush();
    until(|| {
        right.drain();
        left.link.flush();
        right.link.counters().rx_frames == FRAMES
    });
    let counters = left.link.counters();
    assert_eq!((counters.tx_kick_ebusy, counters.tx_frames), (0, FRAMES), "{counters:?}");
    assert!(counters.tx_kick_eagain > 0 || kick_sends_all(), "{counters:?}");
    until(|| {
        left.link.flush();
        left.link.levels().transmit == 0
    });
}

/// Whether a kick may send all that is queued: Linux 6.17 and later.
fn kick_sends_all() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|number| number.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(17))
}

fn impossible_length_comes_back() {
    let (_pair, mut left, mut right) = ends(Mode::Skb);
    let max = left.link.frame_bytes_max();
    for len in [0, 13, max + 1, usize::MAX] {
        let frame = left.link.take().unwrap();
        let frame = left.link.send(frame, len).unwrap_err();
        left.link.give_back(frame);
    }
    assert_eq!(left.link.levels().in_hand, 0);
    // A token of another link is refused, whatever it says.
    let foreign = right.link.take().unwrap();
    assert!(left.link.bytes(&foreign).is_empty());
    let foreign = left.link.send(foreign, 64).unwrap_err();
    left.link.give_back(foreign);
    assert!(left.link.levels().conserved());
}

fn kernel_traffic_goes_on() {
    for mode in [Mode::Skb, Mode::Drv] {
        let (pair, _left, mut right) = ends(mode);
        for address in ["10.77.0.2:80", "[fd77::2]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            let listener = pair.right.enter(|| TcpListener::bind(address).unwrap());
            pair.left.enter(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap());
            listener.accept().unwrap();
        }
        // And what is ours does not reach the kernel: it asks for the owned address, and the link hears that.
        pair.left.ip(&["route", "add", "10.99.0.0/24", "dev", INTERFACE]);
        pair.left.enter(|| TcpStream::connect_timeout(&"10.99.0.2:80".parse().unwrap(), SHORT).unwrap_err());
        let heard = right.receive(1);
        assert_eq!((&heard[0][12..22], &heard[0][38..42]), (&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..], &[10, 99, 0, 2][..]));
        let verdicts = right.steering.verdicts().unwrap();
        assert!(verdicts.redirect_arp > 0 && verdicts.pass_unclaimed > 0, "{verdicts:?}");
    }
}

fn killed_process_gives_traffic_back() {
    let pair = VethPair::new(1);
    let address = SocketAddr::new(HELD_ADDRESS.parse().unwrap(), HELD_PORT);
    let listener = pair.right.enter(|| TcpListener::bind(address).unwrap());
    // `ip netns exec` becomes the program it starts, so this is the holder's own process id.
    let mut holder = pair.right.command(&executable());
    let mut holder = holder.arg(HOLD).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let connect = |patience| pair.left.enter(|| TcpStream::connect_timeout(&address, patience));
    let held = (connect(SHORT).is_err(), attached(&pair.right));
    kill(Pid::from_raw(holder.id() as i32), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    assert_eq!((ready.trim(), held), ("ready", (true, Some(AttachedMode::Skb))));
    let killed = Instant::now();
    connect(PATIENCE).unwrap();
    assert!(killed.elapsed() < Duration::from_millis(900), "before a SYN would be sent again");
    listener.accept().unwrap();
    assert_eq!(attached(&pair.right), None);
}

fn dropped_steering_detaches() {
    let pair = VethPair::new(1);
    for mode in [Mode::Skb, Mode::Drv] {
        pair.left.enter(|| drop(Steering::attach(INTERFACE, mode).unwrap()));
        assert_eq!(attached(&pair.left), None);
    }
}

fn queue_taken_is_said() {
    let pair = VethPair::new(1);
    pair.left.enter(|| {
        let first = XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap();
        let error = XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap_err();
        assert!(matches!(error, XdpError::QueueTaken { queue: 0, waited_ms: 500.., .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(INTERFACE) && text.contains("queue 0") && text.contains("os error 16"), "{text}");
        drop(first);
        XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap();
    });
}

fn impossible_requests_are_refused() {
    let pair = VethPair::new(1);
    pair.left.enter(|| {
        let bind = |interface, queue, config| XdpLink::bind(interface, queue, config).unwrap_err();
        let config = XdpConfig::default();
        let error = bind("nosuch0", 0, config);
        assert!(matches!(error, XdpError::NoInterface { .. }) && error.to_string().contains("nosuch0"), "{error}");
        let error = Steering::attach("nosuch0", Mode::Auto).unwrap_err();
        assert!(matches!(error, XdpError::NoInterface { .. }), "{error}");
        let error = bind(INTERFACE, 1, config);
        assert!(matches!(error, XdpError::NoQueue { queue: 1, queues: 1, .. }), "{error}");
        let error = bind(INTERFACE, 0, XdpConfig { zero_copy: true, ..config });
        assert!(matches!(error, XdpError::NoZeroCopy { .. }), "{error}");
        for wrong in [
            XdpConfig { fill: 3000, ..config },
            XdpConfig { rx: 0, ..config },
            XdpConfig { tx: 1 << 20, ..config },
            XdpConfig { frame_bytes: 1024, ..config },
            XdpConfig { frames: 4096, ..config },
            XdpConfig { frames: u32::MAX, ..config },
        ] {
            let error = bind(INTERFACE, 0, wrong);
            assert!(matches!(error, XdpError::Setting { .. }), "{error}");
        }
    });
}

fn second_program_is_refused() {
    let pair = VethPair::new(1);
    pair.left.enter(|| {
        let _first = Steering::attach(INTERFACE, Mode::Skb).unwrap();
        for mode in [Mode::Auto, Mode::Skb, Mode::Drv] {
            let error = Steering::attach(INTERFACE, mode).unwrap_err();
            assert!(matches!(error, XdpError::ProgramAttached { .. }), "{error}");
            assert!(error.to_string().contains("os error 16"), "{error}");
            // It is held by a link: no command of ip(8) ends that.
            assert!(error.to_string().contains("end the process that has it"), "{error}");
        }
    });
}

fn no_capabilities_is_said() {
    let netns = Netns::new();
    let mut command = netns.command("setpriv");
    let output = command.args(["--inh-caps=-all", "--bounding-set=-all", &executable(), BIND]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in
        ["interface lo: no permission to load the XDP program", "interface lo: no permission to open an AF_XDP socket"]
    {
        assert!(text.contains(line) && text.contains("os error 1)"), "{text} {output:?}");
    }
}

/// One end of a veth pair: the program and a link on one queue, owning 10.99.0.0/24.
struct End {
    link: XdpLink,
    steering: Steering,
    burst: Vec<Frame>,
}

impl End {
    fn on_queue(mode: Mode, queue: u32) -> End {
        End::new(mode, queue, XdpConfig::default())
    }

    fn new(mode: Mode, queue: u32, config: XdpConfig) -> End {
        let mut steering = Steering::attach(INTERFACE, mode).unwrap();
        let link = XdpLink::bind(INTERFACE, queue, config).unwrap();
        steering.steer(&link).unwrap();
        steering.claim("10.99.0.0/24".parse().unwrap(), Claim::Own).unwrap();
        End { link, steering, burst: Vec::with_capacity(256) }
    }

    fn stage(&mut self, number: u8, len: usize) {
        let mut frame = self.link.take().expect("a free frame");
        self.link.bytes_mut(&mut frame)[..len].copy_from_slice(&self::frame(number, len));
        self.link.send(frame, len).expect("a taken frame fits");
    }

    fn send(&mut self, number: u8, len: usize) {
        self.stage(number, len);
        self.link.flush();
    }

    fn poll(&mut self) -> usize {
        self.link.receive(&mut self.burst, 256);
        self.burst.len()
    }

    /// Waits for `count` frames and takes them.
    fn receive_frames(&mut self, count: usize) -> Vec<Frame> {
        until(|| self.poll() >= count);
        self.burst.drain(..).collect()
    }

    /// Waits for `count` frames and returns what is in them.
    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        let frames = self.receive_frames(count);
        let contents = frames.iter().map(|frame| self.link.bytes(frame).to_vec()).collect();
        frames.into_iter().for_each(|frame| self.link.give_back(frame));
        self.link.flush();
        contents
    }

    fn drain(&mut self) {
        self.poll();
        self.burst.drain(..).for_each(|frame| self.link.give_back(frame));
        self.link.flush();
    }

    fn echo(&mut self) {
        self.poll();
        for frame in self.burst.drain(..) {
            let len = frame.len();
            if let Err(frame) = self.link.send(frame, len) {
                self.link.give_back(frame);
            }
        }
        self.link.flush();
    }
}

fn ends(mode: Mode) -> (VethPair, End, End) {
    ends_with(mode, XdpConfig::default())
}

fn ends_with(mode: Mode, config: XdpConfig) -> (VethPair, End, End) {
    let pair = VethPair::new(1);
    let left = pair.left.enter(|| End::new(mode, 0, config));
    let right = pair.right.enter(|| End::new(mode, 0, config));
    (pair, left, right)
}

/// A TCP frame of `len` bytes to 10.99.0.2 that is filled with `number`.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[20..24].copy_from_slice(&[0, 0, 64, 6]);
    frame[30..34].copy_from_slice(&[10, 99, 0, 2]);
    frame
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "nothing happened for {PATIENCE:?}");
        thread::yield_now();
    }
}

fn attached(netns: &Netns) -> Option<AttachedMode> {
    netns.enter(|| Interface::query(INTERFACE).unwrap().attached)
}

fn executable() -> String {
    std::env::current_exe().unwrap().into_os_string().into_string().unwrap()
}

/// The child of `killed_process_gives_traffic_back`: claims a port of the kernel's address and waits to be killed.
fn hold_program() -> ExitCode {
    let mut steering = Steering::attach(INTERFACE, Mode::Skb).unwrap();
    let link = XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap();
    steering.steer(&link).unwrap();
    steering.claim_port(Some(HELD_ADDRESS.parse().unwrap()), HELD_PORT).unwrap();
    println!("ready");
    thread::sleep(PATIENCE);
    ExitCode::FAILURE
}

/// The child of `no_capabilities_is_said`: prints why neither works.
fn bind_loopback() -> ExitCode {
    println!("{}", Steering::attach("lo", Mode::Skb).unwrap_err());
    println!("{}", XdpLink::bind("lo", 0, XdpConfig::default()).unwrap_err());
    ExitCode::SUCCESS
}

const HOLD: &str = "--hold-program";
const BIND: &str = "--bind-loopback";
const HELD_ADDRESS: &str = "10.77.0.2";
const HELD_PORT: u16 = 8080;

/// How long anything may take on a busy machine, and how long nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
