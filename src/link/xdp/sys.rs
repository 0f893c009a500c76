//! The system calls that neither xsk-rs nor aya makes: interface queries, wake-ups and socket options of an XSK.
//!
//! Invariants:
//! 1. Every pointer handed to the kernel comes from a live local value, and the length beside it is that value's size.
//! 2. File descriptors are open for the whole call: owned here, or borrowed from a caller whose XSK is alive.
//! 3. The kernel's answers are read as bytes at checked offsets, never through a cast pointer.
//! 4. A list of getifaddrs is whole: each entry and address is readable until freeifaddrs, and an address has the size of
//!    its family.

use super::{AttachedMode, XdpError};
use crate::wire::ethernet::MacAddress;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What the kernel says of one network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// The largest IP packet, bytes.
    pub mtu: usize,
    /// Receive queues in use.
    pub queues: u32,
    /// The driver's name, empty where it has none.
    pub driver: String,
    /// How an XDP program is attached, or `None` if none is.
    pub attached: Option<AttachedMode>,
}

/// The IPv4 and IPv6 addresses of every interface in the calling thread's network namespace.
pub fn kernel_addresses() -> Result<Vec<IpAddr>, XdpError> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: invariant 1; the list is freed below.
    check(unsafe { libc::getifaddrs(&raw mut first) })
        .map_err(|source| XdpError::Query { interface: "all interfaces".into(), source })?;
    let mut found = Vec::new();
    let mut at = first;
    while !at.is_null() {
        // SAFETY: invariant 4; `at` is an entry of the list, which lives until freeifaddrs.
        let entry = unsafe { &*at };
        if !entry.ifa_addr.is_null() {
            // SAFETY: invariant 4; an address begins with its family.
            let family = i32::from(unsafe { (*entry.ifa_addr).sa_family });
            if family == libc::AF_INET {
                // SAFETY: invariant 4; an address of family AF_INET is a sockaddr_in.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                found.push(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()));
            } else if family == libc::AF_INET6 {
                // SAFETY: invariant 4; an address of family AF_INET6 is a sockaddr_in6.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                found.push(IpAddr::from(address.sin6_addr.s6_addr));
            }
        }
        at = entry.ifa_next;
    }
    // SAFETY: invariant 4; nothing of the list is used from here on.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

impl Interface {
    /// Asks the kernel for the interface called `name` in the calling thread's network namespace.
    pub fn query(name: &str) -> Result<Interface, XdpError> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENODEV | libc::EINVAL | libc::ERANGE) => {
                XdpError::NoInterface { interface: name.into(), source }
            }
            _ => XdpError::Query { interface: name.into(), source },
        };
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0) {
            return Err(failed(io::Error::from_raw_os_error(libc::ENODEV)));
        }
        let mut interface = query_netlink(name).map_err(failed)?;
        // Virtual devices may answer neither question: the netlink count and no name are then all there is.
        interface.driver = ethtool_driver(name).unwrap_or_default();
        interface.queues = ethtool_queues(name).unwrap_or(interface.queues).max(1);
        Ok(interface)
    }
}

/// Receive queues of the interface called `name`.
pub fn queues(name: &str) -> Result<u32, XdpError> {
    Interface::query(name).map(|interface| interface.queues)
}

/// Sleeps until `xsk` or `alarm` has something to read or `timeout` has passed; also wakes the driver. False after the time-out
/// and after a signal.
pub(super) fn wait_readable(xsk: BorrowedFd<'_>, alarm: Option<BorrowedFd<'_>>, timeout: Duration) -> bool {
    // The kernel passes over an entry whose descriptor is negative.
    let mut asked = [xsk.as_raw_fd(), alarm.map_or(-1, |alarm| alarm.as_raw_fd())].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up: a deadline that is less than 1 ms away must not become a spin.
    let millis = timeout.as_micros().div_ceil(1000).min(60_000) as libc::c_int;
    // SAFETY: invariants 1 and 2; as many entries as the array has.
    unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, millis) > 0 }
}

/// What a wake-up of the transmit path was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kick {
    /// Everything queued was sent, or the driver was woken.
    Done,
    /// Not everything was sent; the rest stays queued.
    Again,
    /// The device dropped a frame; what was behind it stays queued.
    Busy,
    /// Another error.
    Failed,
}

/// Wakes the transmit path.
#[inline]
pub(super) fn kick_transmit(xsk: BorrowedFd<'_>) -> Kick {
    // SAFETY: invariant 2; invariant 1 with a null pointer of length 0.
    let sent = unsafe { libc::sendto(xsk.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if sent >= 0 {
        return Kick::Done;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Kick::Again,
        Some(libc::EBUSY) => Kick::Busy,
        _ => Kick::Failed,
    }
}

/// Wakes the receive path.
#[inline]
pub(super) fn kick_receive(xsk: BorrowedFd<'_>) {
    // SAFETY: invariant 2; invariant 1 with null pointers of length 0. What it returns does not matter: FILL shows
    // whether another wake-up is needed.
    unsafe {
        libc::recvfrom(
            xsk.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
}

/// Lets one wake-up send up to `frames` frames (Linux 6.17 and later; 32 before).
pub(super) fn set_transmit_budget(xsk: BorrowedFd<'_>, frames: u32) -> io::Result<()> {
    // SAFETY: invariants 1 and 2.
    let result = unsafe {
        libc::setsockopt(
            xsk.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const frames).cast(),
            size_of_val(&frames) as libc::socklen_t,
        )
    };
    check(result).map(|_| ())
}

/// Whether the kernel bound the socket in zero-copy mode (`XDP_OPTIONS`).
pub(super) fn is_zero_copy(xsk: BorrowedFd<'_>) -> io::Result<bool> {
    let mut options = 0_u32;
    let mut len = size_of_val(&options) as libc::socklen_t;
    // SAFETY: invariants 1 and 2.
    let result = unsafe {
        libc::getsockopt(xsk.as_raw_fd(), libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut len)
    };
    check(result).map(|_| options & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// One RTM_GETLINK by name (rtnetlink(7)).
fn query_netlink(name: &str) -> io::Result<Interface> {
    let socket = open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let request = link_request(name);
    // SAFETY: invariants 1 and 2.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    check(i32::try_from(sent).unwrap_or(-1))?;
    let mut answer = vec![0_u8; ANSWER_BYTES];
    // SAFETY: invariants 1 and 2.
    let received = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let received = check(i32::try_from(received).unwrap_or(-1))?;
    answer.truncate(usize::try_from(received).unwrap_or(0));
    parse_link(name, &answer)
}

/// Header (16 bytes), `ifinfomsg` (16 bytes), then the attributes IFLA_EXT_MASK and IFLA_IFNAME.
fn link_request(name: &str) -> Vec<u8> {
    let mut request = vec![0_u8; HEADER_BYTES + LINK_BYTES];
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    for (attribute, value) in
        [(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes()[..]), (libc::IFLA_IFNAME, name.as_bytes())]
    {
        let len = ATTRIBUTE_BYTES + value.len() + usize::from(attribute == libc::IFLA_IFNAME);
        request.extend_from_slice(&(len as u16).to_ne_bytes());
        request.extend_from_slice(&attribute.to_ne_bytes());
        request.extend_from_slice(value);
        // Ends the name, and pads to the next 4 bytes.
        request.resize((request.len() + len - ATTRIBUTE_BYTES - value.len()).next_multiple_of(4), 0);
    }
    let len = request.len() as u32;
    request[..4].copy_from_slice(&len.to_ne_bytes());
    request
}

fn parse_link(name: &str, answer: &[u8]) -> io::Result<Interface> {
    let malformed = || io::Error::other("the kernel's answer about the interface is cut short");
    let kind = read_u16(answer, 4).ok_or_else(malformed)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = read_u32(answer, HEADER_BYTES).ok_or_else(malformed)? as i32;
        return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
    }
    let index = read_u32(answer, HEADER_BYTES + 4).ok_or_else(malformed)?;
    let mut interface = Interface {
        name: name.into(),
        index,
        mac: MacAddress::default(),
        mtu: 0,
        queues: 1,
        driver: String::new(),
        attached: None,
    };
    for (attribute, value) in attributes(answer.get(HEADER_BYTES + LINK_BYTES..).unwrap_or_default()) {
        match attribute {
            libc::IFLA_ADDRESS => interface.mac = value.try_into().map(MacAddress).unwrap_or_default(),
            libc::IFLA_MTU => interface.mtu = read_u32(value, 0).ok_or_else(malformed)? as usize,
            libc::IFLA_NUM_RX_QUEUES => interface.queues = read_u32(value, 0).ok_or_else(malformed)?,
            libc::IFLA_XDP => interface.attached = attached_mode(value),
            _ => {}
        }
    }
    Ok(interface)
}

/// The mode in the nested attributes of IFLA_XDP.
fn attached_mode(nested: &[u8]) -> Option<AttachedMode> {
    let (_, value) = attributes(nested).find(|&(attribute, _)| attribute == IFLA_XDP_ATTACHED)?;
    match value.first()? {
        0 => None,
        1 => Some(AttachedMode::Drv),
        2 => Some(AttachedMode::Skb),
        _ => Some(AttachedMode::Other),
    }
}

/// The attributes (type, value) in `bytes`; ends at the first that is malformed.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(bytes, 0)?);
        let attribute = read_u16(bytes, 2)? & ATTRIBUTE_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute, value))
    })
}

fn ethtool_queues(name: &str) -> io::Result<u32> {
    let mut channels = [0_u32; ETHTOOL_WORDS];
    channels[0] = ETHTOOL_GCHANNELS;
    ethtool(name, &mut channels)?;
    let [_, _, _, _, _, rx, _, _, combined, ..] = channels;
    match rx.saturating_add(combined) {
        0 => Err(io::ErrorKind::Unsupported.into()),
        count => Ok(count),
    }
}

fn ethtool_driver(name: &str) -> io::Result<String> {
    let mut info = [0_u32; ETHTOOL_WORDS];
    info[0] = ETHTOOL_GDRVINFO;
    ethtool(name, &mut info)?;
    // The name is 32 bytes after the command word.
    let bytes = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|&byte| byte != 0);
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}

/// SIOCETHTOOL with `data`, whose first word is the command. It is as large as what the command writes, which is at most
/// 196 bytes for those of this file.
pub(super) fn ethtool(name: &str, data: &mut [u32]) -> io::Result<()> {
    let socket = open_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: data.as_mut_ptr().cast() };
    let mut request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: invariants 1 and 2: the request points to `data`, which is as large as what the command writes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) }).map(|_| ())
}

fn open_socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: invariant 2: just opened, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Socket option of SOL_XDP, in <linux/if_xdp.h> since Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// Nested attribute of IFLA_XDP, from <linux/if_link.h>.
const IFLA_XDP_ATTACHED: u16 = 2;

/// RTEXT_FILTER_SKIP_STATS of <linux/rtnetlink.h>: the answer stays small.
const SKIP_STATISTICS: u32 = 1 << 3;

/// Netlink attribute types without their flag bits (NLA_TYPE_MASK).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// Bytes of `nlmsghdr`, `ifinfomsg` and of an attribute's length and type.
const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4;

/// Room for one RTM_NEWLINK, bytes. Origin: the kernel's NLMSG_GOODSIZE is at most 8 KiB; a longer answer is cut short.
const ANSWER_BYTES: usize = 32 * 1024;

/// Commands of <linux/ethtool.h>, and room for what either writes (196 bytes at most), in words.
const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_WORDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_query_says_what_every_kernel_says() {
        let interface = Interface::query("lo").unwrap();
        assert_eq!((interface.index > 0, interface.mac, interface.attached), (true, MacAddress::default(), None));
        assert!(interface.mtu >= 1500);
        assert_eq!(interface.queues, 1);
    }

    #[test]
    fn unknown_and_impossible_names_are_no_interface() {
        for name in ["", "nosuch0", "a-name-that-is-too-long", "lo\0"] {
            let error = Interface::query(name).unwrap_err();
            assert!(matches!(error, XdpError::NoInterface { .. }), "{name:?}: {error}");
        }
    }

    #[test]
    fn answer_cut_anywhere_is_no_panic() {
        let mut answer = link_request("eth0");
        answer.extend([8, 0, 43, 0x80, 5, 0, 2, 0, 1]);
        for len in 0..answer.len() {
            let _ = parse_link("eth0", &answer[..len]);
        }
        assert_eq!(attached_mode(&[5, 0, 2, 0, 1]), Some(AttachedMode::Drv));
        assert_eq!(attached_mode(&[5, 0, 2, 0, 0]), None);
        assert_eq!(attached_mode(&[5, 0, 2]), None);
    }
}
