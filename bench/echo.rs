//! The raw AF_XDP echo: the most frames per second that the wire and the link allow, without any protocol. It is the
//! limit that connections per second are compared with.
//!
//! The generator keeps a window of frames in flight; the reflector swaps the Ethernet addresses and sends each back.
//! Frames carry a sequence number, so that a lost frame does not shrink the window for good.

use std::time::{Duration, Instant};
use synfin::link::xdp::{AttachedMode, Claim, Mode, Prefix, Steering, XdpConfig, XdpError, XdpLink};
use synfin::link::{Frame, Link};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct EchoConfig {
    /// Interface of this end, in the calling thread's network namespace.
    pub(crate) interface: String,
    /// Queue of this end.
    pub(crate) queue: u32,
    /// How to attach the XDP program.
    pub(crate) mode: Mode,
    /// Zero-copy or not at all.
    pub(crate) zero_copy: bool,
    /// Frames per ring operation, at least 1.
    pub(crate) batch: usize,
    /// Frames that the generator keeps in flight, at least 1.
    pub(crate) window: u64,
    /// How long this end runs.
    pub(crate) duration: Duration,
}

/// What one end saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EchoResult {
    /// Frames per second, both directions added.
    pub(crate) frames_per_second: f64,
    /// Frames received.
    pub(crate) received: u64,
    /// Frames sent.
    pub(crate) sent: u64,
    /// Frames that never came back (generator), or that could not be sent back (reflector).
    pub(crate) lost: u64,
    /// How the kernel says that the program is attached.
    pub(crate) mode_obtained: AttachedMode,
    /// Whether frames passed without a copy.
    pub(crate) zero_copy: bool,
}

/// Who an echo answers to.
pub(crate) trait Control {
    /// The program is attached and the socket is bound.
    fn ready(&self);

    /// Whether to end early. Asked once per burst.
    fn stops(&self) -> bool;
}

/// Sends back what arrives, for `config.duration` or until `control` asks to stop; `config.window` is not used.
pub(crate) fn run_reflector(config: &EchoConfig, control: &dyn Control) -> Result<EchoResult, XdpError> {
    let mut end = End::new(config)?;
    control.ready();
    let started = Instant::now();
    while started.elapsed() < config.duration && !control.stops() {
        end.link.receive(&mut end.burst, config.batch);
        for mut frame in end.burst.drain(..) {
            end.received += 1;
            let len = frame.len();
            if let Some((addresses, _)) = end.link.bytes_mut(&mut frame).split_first_chunk_mut::<12>() {
                addresses.rotate_left(6);
            }
            match end.link.send(frame, len) {
                Ok(()) => end.sent += 1,
                Err(frame) => {
                    end.lost += 1;
                    end.link.give_back(frame);
                }
            }
        }
        end.link.flush();
    }
    Ok(end.result(started.elapsed()))
}

/// Sends, and sends again what comes back, for `config.duration` or until `control` asks to stop.
pub(crate) fn run_generator(config: &EchoConfig, control: &dyn Control) -> Result<EchoResult, XdpError> {
    let mut end = End::new(config)?;
    control.ready();
    let started = Instant::now();
    // Sequence numbers: the next to send, and the next that should come back. The wire keeps the order.
    let (mut next, mut expected) = (0_u64, 0_u64);
    let mut heard = started;
    loop {
        let now = Instant::now();
        if now.duration_since(started) >= config.duration || control.stops() {
            break;
        }
        end.link.receive(&mut end.burst, config.batch);
        if !end.burst.is_empty() {
            heard = now;
        } else if now.duration_since(heard) > SILENCE {
            end.lost += next - expected;
            (expected, heard) = (next, now);
        }
        for mut frame in end.burst.drain(..) {
            end.received += 1;
            let sequence = end.link.bytes(&frame).get(SEQUENCE).and_then(|bytes| bytes.try_into().ok());
            let sequence = sequence.map_or(expected, u64::from_be_bytes);
            if (expected..next).contains(&sequence) {
                end.lost += sequence - expected;
                expected = sequence + 1;
            }
            if next - expected >= config.window {
                end.link.give_back(frame);
                continue;
            }
            end.link.bytes_mut(&mut frame)[SEQUENCE].copy_from_slice(&next.to_be_bytes());
            send(&mut end.link, frame, &mut next);
        }
        // Starts the window, and opens it again after a loss.
        let missing = config.window.saturating_sub(next - expected).min(config.batch as u64);
        for _ in 0..missing {
            let Some(mut frame) = end.link.take() else { break };
            end.link.bytes_mut(&mut frame)[..FRAME_BYTES].copy_from_slice(&template(next));
            send(&mut end.link, frame, &mut next);
        }
        end.link.flush();
    }
    end.sent = next;
    Ok(end.result(started.elapsed()))
}

struct End {
    // The link leaves its slot before the program goes.
    link: XdpLink,
    steering: Steering,
    burst: Vec<Frame>,
    received: u64,
    sent: u64,
    lost: u64,
}

impl End {
    fn new(config: &EchoConfig) -> Result<End, XdpError> {
        let mut steering = Steering::attach(&config.interface, config.mode)?;
        let link = XdpLink::bind(
            &config.interface,
            config.queue,
            XdpConfig { zero_copy: config.zero_copy, ..XdpConfig::default() },
        )?;
        steering.steer(&link)?;
        steering.claim(Prefix::new(NETWORK, NETWORK_BITS)?, Claim::Own)?;
        Ok(End { link, steering, burst: Vec::with_capacity(config.batch), received: 0, sent: 0, lost: 0 })
    }

    fn result(&self, elapsed: Duration) -> EchoResult {
        EchoResult {
            frames_per_second: (self.received + self.sent) as f64 / elapsed.as_secs_f64(),
            received: self.received,
            sent: self.sent,
            lost: self.lost,
            mode_obtained: self.steering.mode(),
            zero_copy: self.link.zero_copy(),
        }
    }
}

fn send(link: &mut XdpLink, frame: Frame, next: &mut u64) {
    match link.send(frame, FRAME_BYTES) {
        Ok(()) => *next += 1,
        Err(frame) => link.give_back(frame),
    }
}

/// Ethernet, IPv4 and TCP headers, then the sequence number. Checksums are 0: nothing on the way looks at them.
fn template(sequence: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
    frame[46] = 5 << 4;
    frame[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    frame
}

/// Addresses of the frames, claimed at both ends: the range for benchmarks (RFC 2544, RFC 6890).
const NETWORK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 0));
const NETWORK_BITS: u8 = 15;

/// Length of a frame, bytes, and where its sequence number is.
const FRAME_BYTES: usize = 64;
const SEQUENCE: std::ops::Range<usize> = 54..62;

/// Everything in flight is taken for lost when nothing has come back for this long.
const SILENCE: Duration = Duration::from_millis(200);
