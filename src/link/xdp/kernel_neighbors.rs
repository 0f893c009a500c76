//! The kernel's neighbour table, by rtnetlink: asked for an address, and heard when it learns one.

use super::interface::Interface;
use super::netlink::{Request, attributes, malformed, messages, read_u16, read_u32};
use super::{XdpError, sys};
use crate::wire::ethernet::MacAddress;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The neighbours of one interface.
#[derive(Debug)]
pub struct KernelNeighbors {
    interface: Interface,
    socket: OwnedFd,
}

impl KernelNeighbors {
    /// Listens from now on, in the calling thread's network namespace.
    pub fn open(interface: &Interface) -> Result<KernelNeighbors, XdpError> {
        let socket = sys::subscribe(libc::RTMGRP_NEIGH as u32)
            .map_err(|source| XdpError::Query { interface: interface.name.clone(), source })?;
        Ok(KernelNeighbors { interface: interface.clone(), socket })
    }

    /// Where `ip` is, if the kernel knows. It is asked to make sure in any case: what it learns then,
    /// [`KernelNeighbors::wait`] tells.
    pub fn ask(&self, ip: IpAddr) -> Option<MacAddress> {
        let known = self.request(libc::RTM_GETNEIGH, 0, 0, ip).ok().and_then(|body| self.parse(&body));
        // Nobody is helped by the reason: without an answer the caller asks again, then gives up.
        let _ = self.request(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_ACK, NTF_USE, ip);
        known.map(|(_, mac)| mac)
    }

    /// Waits for at most `timeout` or until `alarm` is readable; the neighbours that the kernel has learned or confirmed since.
    pub fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> Vec<(IpAddr, MacAddress)> {
        let mut learned = Vec::new();
        if !sys::wait_readable(self.socket.as_fd(), Some(alarm), timeout) {
            return learned;
        }
        while let Ok(packet) = sys::receive_netlink(self.socket.as_fd(), libc::MSG_DONTWAIT) {
            let told = messages(&packet).filter(|(kind, _)| *kind == libc::RTM_NEWNEIGH);
            learned.extend(told.filter_map(|(_, body)| self.parse(body)));
        }
        learned
    }

    fn request(&self, kind: u16, flags: i32, neighbor_flags: u8, ip: IpAddr) -> io::Result<Vec<u8>> {
        let mut fixed = [0; NEIGHBOR_BYTES];
        fixed[0] = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        fixed[4..8].copy_from_slice(&self.interface.index.to_ne_bytes());
        fixed[10] = neighbor_flags;
        let request = Request::new(kind, flags, &fixed);
        let request = match ip {
            IpAddr::V4(ip) => request.with(libc::NDA_DST, &ip.octets()),
            IpAddr::V6(ip) => request.with(libc::NDA_DST, &ip.octets()),
        };
        request.ask(libc::NETLINK_ROUTE)
    }

    /// Address and place of a neighbour of this interface whose place is known: `ndmsg`, then attributes.
    fn parse(&self, body: &[u8]) -> Option<(IpAddr, MacAddress)> {
        parse(body).ok().filter(|(index, _)| *index == self.interface.index).and_then(|(_, known)| known)
    }
}

/// The interface of a neighbour, and where it is if that is known.
fn parse(body: &[u8]) -> io::Result<(u32, Option<(IpAddr, MacAddress)>)> {
    let index = read_u32(body, 4).ok_or_else(malformed)?;
    let state = read_u16(body, 8).ok_or_else(malformed)?;
    let (mut ip, mut mac) = (None, None);
    for (attribute, value) in attributes(body.get(NEIGHBOR_BYTES..).unwrap_or_default()) {
        match attribute {
            libc::NDA_DST => {
                let v4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
                ip = v4.or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from));
            }
            libc::NDA_LLADDR => mac = value.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    let is_known = state & PLACE_KNOWN != 0;
    Ok((index, ip.zip(mac).filter(|_| is_known)))
}

/// Bytes of `ndmsg`.
const NEIGHBOR_BYTES: usize = 12;

/// NTF_USE of <linux/neighbour.h>: the kernel resolves the neighbour, or makes sure of it, as if it had something to send.
const NTF_USE: u8 = 1;

/// States of <linux/neighbour.h> in which the place is known: REACHABLE, STALE, DELAY, PROBE, PERMANENT.
const PLACE_KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbour_is_read_and_cut_anywhere_is_no_panic() {
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0, 7, 0, 0, 0, 0x02, 0, 0, 0];
        body.extend([8, 0, 1, 0, 10, 0, 0, 9, 10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0]);
        let known = (IpAddr::from([10, 0, 0, 9]), MacAddress([2, 0, 0, 0, 0, 9]));
        assert_eq!(parse(&body).unwrap(), (7, Some(known)));
        for len in 0..body.len() {
            let _ = parse(&body[..len]);
        }
        body[8] = 0x20;
        assert_eq!(parse(&body).unwrap(), (7, None), "FAILED");
    }
}
