//! AF_XDP: frames of one (interface, queue) pair, and the XDP program that steers what is ours to it.
//!
//! [`Steering`] is made once per interface: it loads and attaches the program and holds the claims. An [`XdpLink`] is
//! made per queue; [`Steering::steer`] then puts it into the queue's slot. When either is dropped, or the process
//! dies, the kernel has the traffic again at once.

mod ethtool;
mod interface;
mod kernel_neighbors;
mod netlink;
mod program;
mod rss;
mod setup;
mod slots;
mod socket;
mod spread;
mod sys;

pub use ethtool::{Offloads, Rings, offloads, rings};
pub use interface::{Interface, LinkSocket, XdpFeatures, queues};
pub use kernel_neighbors::KernelNeighbors;
pub use program::{Action, Claim, Prefix, Steering, Verdicts};
pub use rss::{NoRss, rss};
pub use setup::XdpConfig;
pub use socket::XdpLink;
pub use spread::EgressSpread;
pub use sys::{hold_port, kernel_addresses};

use std::fmt;
use std::io;
use std::str::FromStr;

/// How the XDP program shall be attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// SKB on a veth with a single queue (faster there), otherwise native, falling back to SKB.
    #[default]
    Auto,
    /// Generic XDP, after the kernel has made an skb: works on every device.
    Skb,
    /// Native XDP, in the driver.
    Drv,
}

impl FromStr for Mode {
    type Err = XdpError;

    fn from_str(text: &str) -> Result<Mode, XdpError> {
        match text {
            "auto" => Ok(Mode::Auto),
            "skb" => Ok(Mode::Skb),
            "drv" | "native" => Ok(Mode::Drv),
            _ => Err(XdpError::Setting { what: format!("XDP mode {text:?}"), rule: "must be auto, skb or drv" }),
        }
    }
}

/// How the kernel says that an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AttachedMode {
    /// Generic XDP.
    Skb,
    /// Native XDP.
    Drv,
    /// In hardware, or several programs at once.
    Other,
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachedMode::Skb => "skb",
            AttachedMode::Drv => "drv",
            AttachedMode::Other => "other",
        })
    }
}

/// How an interface is rid of the program of somebody else.
pub(crate) fn free(interface: &str) -> String {
    format!(
        "end the process that has it (another synfin?); if it was attached without a link, which no process holds: \
         `ip link set {interface} xdp off` or `xdpgeneric off`"
    )
}

/// Why AF_XDP could not be set up. Each says what it concerns, the errno, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// No interface of that name in this network namespace.
    #[error("interface {interface}: {source}; list the interfaces of this network namespace with `ip link`")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel did not answer a question about an interface.
    #[error(
        "interface {interface}: cannot ask the kernel about it: {source}; check that netlink sockets are allowed here"
    )]
    Query {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Not privileged.
    #[error(
        "interface {interface}: no permission to {what}: {source}; run as root, or with the capabilities \
         CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON and CAP_IPC_LOCK"
    )]
    Permission {
        /// The interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Another XDP program is attached.
    #[error(
        "interface {interface}: another XDP program is attached: {source}; see `ip link show {interface}`, and {}",
        free(interface)
    )]
    ProgramAttached {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The interface does not take the program in the mode asked for.
    #[error(
        "interface {interface} (driver {driver:?}): cannot attach the XDP program in mode {mode:?}: {source}; try mode auto or skb"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// The mode tried.
        mode: Mode,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel has no bpf_link for XDP, so a killed process would leave the program behind.
    #[error("interface {interface}: this kernel cannot attach XDP by bpf_link; Linux 5.9 or newer is needed")]
    NoBpfLink {
        /// The interface.
        interface: String,
    },
    /// The kernel refused the XDP program or one of its maps.
    #[error(
        "interface {interface}: the kernel refused the XDP program: {reason}; Linux 5.9 or newer with BPF and AF_XDP is needed"
    )]
    Load {
        /// The interface.
        interface: String,
        /// The loader's reason, with errno and verifier log.
        reason: String,
    },
    /// The interface has no such queue.
    #[error(
        "interface {interface}: no receive queue {queue}, it has {queues} (EINVAL, os error 22); use 0 to {}, or \
         `ethtool -L {interface}` to have more",
        queues.saturating_sub(1)
    )]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// Queues that there are.
        queues: u32,
    },
    /// Another socket is bound to the queue.
    #[error(
        "interface {interface}: queue {queue} is still taken by another AF_XDP socket after {waited_ms} ms: {source}; \
         end the program that holds it (see `ss --xdp`) or take another queue"
    )]
    QueueTaken {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long it was tried, milliseconds.
        waited_ms: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The driver has no zero-copy.
    #[error(
        "interface {interface}: no zero-copy on queue {queue}: {source}; do without zero-copy, or use mode drv and a driver that has it"
    )]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel has no preferred busy polling.
    #[error(
        "interface {interface}: cannot prefer busy polling on queue {queue}: {source}; Linux 5.11 or newer and CAP_NET_ADMIN are needed, \
         or take idle strategy spin or sleep"
    )]
    BusyPoll {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The UMEM could not be made.
    #[error(
        "interface {interface}: cannot lock {bytes} bytes for frames: {source}; take fewer frames, or raise the limit \
         of locked memory (`ulimit -l`)"
    )]
    Memory {
        /// The interface.
        interface: String,
        /// Size of the UMEM, bytes.
        bytes: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The socket could not be made for another reason.
    #[error(
        "interface {interface}: cannot bind an AF_XDP socket to queue {queue}: {source}; check that the interface is up and its driver known to take AF_XDP"
    )]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A map of the program could not be changed or read.
    #[error(
        "interface {interface}: cannot {what}: {reason}; the maps hold 256 queues, 4096 prefixes per IP version and 131072 ports"
    )]
    Map {
        /// The interface.
        interface: String,
        /// What was tried.
        what: String,
        /// The loader's reason, with errno.
        reason: String,
    },
    /// A setting that cannot be.
    #[error("{what}: {rule}")]
    Setting {
        /// The setting and its value.
        what: String,
        /// What it must be.
        rule: &'static str,
    },
}
