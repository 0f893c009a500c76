//! What the kernel says of a network interface.

use super::netlink::{Request, attributes, malformed, messages, read_u32};
use super::{AttachedMode, XdpError, ethtool, sys};
use crate::wire::ethernet::MacAddress;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
    /// Somebody has set it up (IFF_UP).
    pub up: bool,
    /// It is up and has a carrier (IFF_RUNNING).
    pub running: bool,
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
        interface.driver = ethtool::driver(name).unwrap_or_default();
        interface.queues = ethtool::queues(name).unwrap_or(interface.queues).max(1);
        Ok(interface)
    }

    /// Whether the calling thread's network namespace has an interface of that index, whatever its name is now.
    pub(crate) fn exists(index: u32) -> io::Result<bool> {
        let mut header = [0; LINK_BYTES];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = Request::new(libc::RTM_GETLINK, 0, &header);
        match request.with(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes()).ask(libc::NETLINK_ROUTE) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What its driver can do for XDP (Linux 6.3 and later), or why that cannot be said.
    pub fn xdp_features(&self) -> io::Result<XdpFeatures> {
        let family =
            Request::new(GENL_ID_CTRL, 0, &generic(CTRL_CMD_GETFAMILY)).with(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let family = family.ask(libc::NETLINK_GENERIC)?;
        let find = |body: &[u8], wanted: u16| {
            let mut attributes = attributes(body.get(GENERIC_BYTES..).unwrap_or_default());
            attributes.find(|(attribute, _)| *attribute == wanted).map(|(_, value)| value.to_vec())
        };
        let id = find(&family, CTRL_ATTR_FAMILY_ID).and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
        let request = Request::new(id.ok_or_else(malformed)?, 0, &generic(NETDEV_CMD_DEV_GET));
        let device = request.with(NETDEV_A_DEV_IFINDEX, &self.index.to_ne_bytes()).ask(libc::NETLINK_GENERIC)?;
        let features = find(&device, NETDEV_A_DEV_XDP_FEATURES);
        let features = u64::from_ne_bytes(features.and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?);
        let has = |flag: u64| features & flag != 0;
        Ok(XdpFeatures { native: has(NETDEV_XDP_ACT_BASIC), zero_copy: has(NETDEV_XDP_ACT_XSK_ZEROCOPY) })
    }
}

/// A socket on which the kernel tells of changes of one interface.
#[derive(Debug)]
pub struct LinkSocket {
    interface: Interface,
    socket: OwnedFd,
}

impl LinkSocket {
    /// Listens from now on, in the calling thread's network namespace.
    pub fn open(interface: &Interface) -> Result<LinkSocket, XdpError> {
        let socket = sys::subscribe(libc::RTMGRP_LINK as u32)
            .map_err(|source| XdpError::Query { interface: interface.name.clone(), source })?;
        Ok(LinkSocket { interface: interface.clone(), socket })
    }

    /// Waits for at most `timeout`; what the interface was when it changed, once per change. `driver` is empty and
    /// `queues` unknown.
    pub fn wait(&self, timeout: Duration) -> Vec<Interface> {
        let mut seen = Vec::new();
        if !sys::wait_readable(self.socket.as_fd(), None, timeout) {
            return seen;
        }
        while let Ok(packet) = sys::receive_netlink(self.socket.as_fd(), libc::MSG_DONTWAIT) {
            let links = messages(&packet).filter(|(kind, _)| *kind == libc::RTM_NEWLINK);
            let links = links.filter_map(|(_, body)| parse_link(&self.interface.name, body).ok());
            seen.extend(links.filter(|link| link.index == self.interface.index));
        }
        seen
    }
}

/// What a driver can do for XDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpFeatures {
    /// Programs run in the driver.
    pub native: bool,
    /// AF_XDP frames pass without a copy.
    pub zero_copy: bool,
}

/// Receive queues of the interface called `name`.
pub fn queues(name: &str) -> Result<u32, XdpError> {
    Interface::query(name).map(|interface| interface.queues)
}

/// One RTM_GETLINK by name (rtnetlink(7)).
fn query_netlink(name: &str) -> io::Result<Interface> {
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; LINK_BYTES]);
    let request = request.with(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes());
    parse_link(name, &request.with(libc::IFLA_IFNAME, format!("{name}\0").as_bytes()).ask(libc::NETLINK_ROUTE)?)
}

/// `ifinfomsg`, then attributes.
fn parse_link(name: &str, body: &[u8]) -> io::Result<Interface> {
    let index = read_u32(body, 4).ok_or_else(malformed)?;
    let flags = read_u32(body, 8).ok_or_else(malformed)? as i32;
    let mut interface = Interface {
        name: name.into(),
        index,
        mac: MacAddress::default(),
        mtu: 0,
        queues: 1,
        driver: String::new(),
        attached: None,
        up: flags & libc::IFF_UP != 0,
        running: flags & libc::IFF_RUNNING != 0,
    };
    for (attribute, value) in attributes(body.get(LINK_BYTES..).unwrap_or_default()) {
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

/// `genlmsghdr`: command and version 1.
fn generic(command: u8) -> [u8; GENERIC_BYTES] {
    [command, 1, 0, 0]
}

/// Nested attribute of IFLA_XDP, from <linux/if_link.h>.
const IFLA_XDP_ATTACHED: u16 = 2;

/// RTEXT_FILTER_SKIP_STATS of <linux/rtnetlink.h>: the answer stays small.
const SKIP_STATISTICS: u32 = 1 << 3;

/// Bytes of `ifinfomsg`, and of `genlmsghdr`.
const LINK_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;

/// The controller of <linux/genetlink.h>, which knows the numbers of families.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The family of <linux/netdev.h>.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_query_says_what_every_kernel_says() {
        let interface = Interface::query("lo").unwrap();
        assert_eq!((interface.index > 0, interface.mac, interface.attached), (true, MacAddress::default(), None));
        assert!(Interface::exists(interface.index).unwrap() && !Interface::exists(i32::MAX as u32).unwrap());
        assert!(interface.mtu >= 1500);
        assert_eq!(interface.queues, 1);
        assert!(interface.up >= interface.running);
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
        let mut body = vec![0; LINK_BYTES];
        body[8] = libc::IFF_UP as u8;
        body.extend([8, 0, libc::IFLA_MTU as u8, 0, 220, 5, 0, 0, 8, 0, 43, 0x80, 5, 0, 2, 0, 1]);
        for len in 0..body.len() {
            let _ = parse_link("eth0", &body[..len]);
        }
        let interface = parse_link("eth0", &body).unwrap();
        assert_eq!((interface.up, interface.running, interface.mtu), (true, false, 1500));
        assert_eq!(attached_mode(&[5, 0, 2, 0, 1]), Some(AttachedMode::Drv));
        assert_eq!(attached_mode(&[5, 0, 2, 0, 0]), None);
        assert_eq!(attached_mode(&[5, 0, 2]), None);
    }

    #[test]
    fn loopback_has_no_zero_copy() {
        // Kernels before 6.3 do not say.
        assert!(!Interface::query("lo").unwrap().xdp_features().is_ok_and(|features| features.zero_copy));
    }
}
