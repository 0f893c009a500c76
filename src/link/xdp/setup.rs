//! Making the UMEM and the socket of a link, once, before the first frame.
//!
//! Invariants:
//! 1. A UMEM is bound to one (interface, queue) pair only, and the socket is asked not to load a program
//!    (INHIBIT_PROG_LOAD): what the contract of `Socket::new` warns of cannot happen.

use super::XdpError;
use super::interface::Interface;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;
use xsk_rs::config::{
    BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, SocketConfigBuilder, UmemConfig, UmemConfigBuilder,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Sizes of a link's memory and rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpConfig {
    /// Frames of the UMEM; more than `fill`, the rest is for transmission.
    pub frames: u32,
    /// Bytes per frame: 2048 or 4096. The first 256 belong to the kernel.
    pub frame_bytes: u32,
    /// Slots of the FILL ring, a power of two; below 4096 bursts are lost while the shard is busy.
    pub fill: u32,
    /// Slots of the RX ring, a power of two.
    pub rx: u32,
    /// Slots of the TX and COMPLETION rings, a power of two.
    pub tx: u32,
    /// Whether to insist on zero-copy.
    pub zero_copy: bool,
    /// Whether to lay the frames on huge pages where there are any; otherwise ordinary ones will do.
    pub huge_pages: bool,
}

impl Default for XdpConfig {
    /// 8192 frames of 2 KiB: 16 MiB.
    fn default() -> XdpConfig {
        XdpConfig {
            frames: 8192,
            frame_bytes: 2048,
            fill: 4096,
            rx: 4096,
            tx: 2048,
            zero_copy: false,
            huge_pages: false,
        }
    }
}

impl XdpConfig {
    pub(super) fn check(&self) -> Result<(), XdpError> {
        let rings = [("fill", self.fill), ("rx", self.rx), ("tx", self.tx)];
        if let Some((name, slots)) = rings.into_iter().find(|(_, slots)| !slots.is_power_of_two() || *slots > RING_MAX)
        {
            let rule = "must be a power of two, at most 32768";
            return Err(XdpError::Setting { what: format!("{name} ring of {slots} slots"), rule });
        }
        if self.frame_bytes != 2048 && self.frame_bytes != 4096 {
            let what = format!("frame size of {} bytes", self.frame_bytes);
            return Err(XdpError::Setting { what, rule: "must be 2048 or 4096" });
        }
        if self.frames <= self.fill || self.frames > FRAMES_MAX {
            let what = format!("{} frames with a fill ring of {} slots", self.frames, self.fill);
            return Err(XdpError::Setting { what, rule: "must be more frames than fill slots, at most 1048576" });
        }
        Ok(())
    }

    fn umem_config(&self) -> Result<UmemConfig, Box<dyn Error>> {
        let mut builder = UmemConfigBuilder::new();
        builder.frame_size(FrameSize::new(self.frame_bytes)?);
        builder.fill_queue_size(QueueSize::new(self.fill)?).comp_queue_size(QueueSize::new(self.tx)?);
        Ok(builder.build()?)
    }

    fn socket_config(&self) -> Result<SocketConfig, Box<dyn Error>> {
        let copy = if self.zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
        let mut builder = SocketConfigBuilder::new();
        builder.rx_queue_size(QueueSize::new(self.rx)?).tx_queue_size(QueueSize::new(self.tx)?);
        builder.libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD);
        builder.bind_flags(copy | BindFlags::XDP_USE_NEED_WAKEUP);
        Ok(builder.build())
    }
}

/// The UMEM, the descriptor of each slot, and whether it lies on huge pages.
pub(super) fn make_umem(interface: &Interface, config: &XdpConfig) -> Result<(Umem, Vec<FrameDesc>, bool), XdpError> {
    let setting =
        |error: Box<dyn Error>| XdpError::Setting { what: error.to_string(), rule: "the UMEM cannot have it" };
    let umem_config = config.umem_config().map_err(setting)?;
    let frames = NonZeroU32::new(config.frames).ok_or_else(|| setting("0 frames".into()))?;
    let bytes = u64::from(config.frames) * u64::from(config.frame_bytes);
    // What is no multiple of a huge page could not be unmapped.
    if config.huge_pages && bytes.is_multiple_of(HUGE_PAGE_BYTES) {
        match Umem::new(umem_config, frames, true) {
            Ok((umem, descs)) => return Ok((umem, descs, true)),
            Err(error) => tracing::warn!(
                interface = interface.name,
                error = %os_error(&error),
                "no huge pages for {bytes} bytes of frames: ordinary pages serve; reserve some with `sysctl vm.nr_hugepages={}` per queue",
                bytes / HUGE_PAGE_BYTES
            ),
        }
    }
    let made = Umem::new(umem_config, frames, false).map(|(umem, descs)| (umem, descs, false));
    made.map_err(|error| {
        let (name, source) = (interface.name.clone(), os_error(&error));
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                XdpError::Permission { interface: name, what: "open an AF_XDP socket", source }
            }
            _ => XdpError::Memory { interface: name, bytes, source },
        }
    })
}

/// The socket and its rings. A queue that another socket holds is tried again for up to [`BIND_WAIT_MS`].
pub(super) fn bind_socket(
    interface: &Interface,
    queue: u32,
    config: &XdpConfig,
    umem: &Umem,
) -> Result<(TxQueue, RxQueue, FillQueue, CompQueue), XdpError> {
    let name = || interface.name.clone();
    let setting =
        |error: Box<dyn Error>| XdpError::Setting { what: error.to_string(), rule: "the socket cannot have it" };
    let socket_config = config.socket_config().map_err(setting)?;
    let device = interface.name.parse().map_err(|_| setting("a name with a NUL".into()))?;
    let mut waited_ms = 0;
    let source = loop {
        // SAFETY: invariant 1.
        match unsafe { Socket::new(socket_config, umem, &device, queue) } {
            Ok((tx, rx, Some((fill, completion)))) => return Ok((tx, rx, fill, completion)),
            Ok((_, _, None)) => break io::Error::other("the socket came without FILL and COMPLETION rings"),
            Err(error) => {
                let source = os_error(&error);
                if source.raw_os_error() != Some(libc::EBUSY) || waited_ms >= BIND_WAIT_MS {
                    break source;
                }
            }
        }
        thread::sleep(Duration::from_millis(BIND_RETRY_MS));
        waited_ms += BIND_RETRY_MS;
    };
    Err(match source.raw_os_error() {
        Some(libc::EBUSY) => XdpError::QueueTaken { interface: name(), queue, waited_ms, source },
        Some(libc::EPERM | libc::EACCES) => {
            XdpError::Permission { interface: name(), what: "bind an AF_XDP socket", source }
        }
        Some(libc::EOPNOTSUPP) if config.zero_copy => XdpError::NoZeroCopy { interface: name(), queue, source },
        _ => XdpError::Socket { interface: name(), queue, source },
    })
}

fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}

/// Bytes at the start of each slot that are the kernel's (XDP_PACKET_HEADROOM of <linux/bpf.h>).
pub(super) const HEADROOM_BYTES: usize = 256;

/// A huge page of x86-64, and of 64-bit ARM with pages of 4 KiB.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// How long a taken queue is waited for, and how long between tries, ms. Origin: the kernel frees one after 30 to 50 ms.
const BIND_WAIT_MS: u64 = 500;
const BIND_RETRY_MS: u64 = 10;

/// Largest ring, slots, and most frames: bounds on the memory that one setting can ask for (4 GiB).
const RING_MAX: u32 = 32 * 1024;
const FRAMES_MAX: u32 = 1024 * 1024;
