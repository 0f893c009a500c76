//! The system calls that neither xsk-rs nor aya makes: interface queries, wake-ups and socket options of an XSK.
//!
//! Invariants:
//! 1. Every pointer handed to the kernel comes from a live local value, and the length beside it is that value's size.
//! 2. File descriptors are open for the whole call: owned here, or borrowed from a caller whose XSK is alive.
//! 3. The kernel's answers are read as bytes at checked offsets, never through a cast pointer.
//! 4. A list of getifaddrs is whole: each entry and address is readable until freeifaddrs, and an address has the size of
//!    its family.

use super::XdpError;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

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

/// Binds a TCP socket of the kernel's to `port` of `address`, so that nobody else can; it does not listen. What the
/// kernel has in TIME-WAIT there is no hindrance.
pub fn hold_port(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = open_socket(family, libc::SOCK_STREAM, 0)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let bound = match address {
        IpAddr::V4(address) => {
            let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
            let sin_family = libc::AF_INET as u16;
            let name = libc::sockaddr_in { sin_family, sin_port: port.to_be(), sin_addr, sin_zero: [0; 8] };
            // SAFETY: invariants 1 and 2.
            unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
        IpAddr::V6(address) => {
            let sin6_addr = libc::in6_addr { s6_addr: address.octets() };
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr,
                sin6_scope_id: 0,
            };
            // SAFETY: invariants 1 and 2.
            unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
    };
    check(bound)?;
    // From now on nobody binds beside it.
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 0)?;
    Ok(socket)
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
        // Without memory for an skb what is in TX stays there, too, until there is some.
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Kick::Again,
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
    set_option(xsk, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames)
}

/// Prefers system calls of this socket to interrupts, each with up to `budget` frames.
pub(super) fn prefer_busy_poll(xsk: BorrowedFd<'_>, budget: u32) -> io::Result<()> {
    set_option(xsk, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set_option(xsk, libc::SOL_SOCKET, libc::SO_BUSY_POLL, BUSY_POLL_US)?;
    set_option(xsk, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, budget)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: u32) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: invariants 1 and 2.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
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

/// SIOCETHTOOL with `data`, whose first word is the command. It must be as large as what the command writes.
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

/// Sends `request` to the kernel over a netlink socket of `protocol` and returns the first packet of the answer.
pub(super) fn ask_netlink(protocol: i32, request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = open_socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    // SAFETY: invariants 1 and 2.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    check(i32::try_from(sent).unwrap_or(-1))?;
    receive_netlink(socket.as_fd(), 0)
}

/// A socket that hears what rtnetlink tells `groups` (RTMGRP_*).
pub(super) fn subscribe(groups: u32) -> io::Result<OwnedFd> {
    let socket = open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    // SAFETY: all zeros is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: invariants 1 and 2.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// The next packet of a netlink socket.
pub(super) fn receive_netlink(socket: BorrowedFd<'_>, flags: i32) -> io::Result<Vec<u8>> {
    let mut answer = vec![0_u8; ANSWER_BYTES];
    // SAFETY: invariants 1 and 2.
    let received = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), flags) };
    let received = check(i32::try_from(received).unwrap_or(-1))?;
    answer.truncate(usize::try_from(received).unwrap_or(0));
    Ok(answer)
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

/// Socket option of SOL_XDP, in <linux/if_xdp.h> since Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// Socket options of <asm-generic/socket.h> since Linux 5.11, and how long a call may poll, us: one that does not block
/// polls once whatever it is.
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
const BUSY_POLL_US: u32 = 20;

/// Room for one packet of netlink, bytes. Origin: the kernel's NLMSG_GOODSIZE is at most 8 KiB, a dump's packets 32 KiB; a longer
/// answer is cut short.
const ANSWER_BYTES: usize = 32 * 1024;
