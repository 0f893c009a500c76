//! Options about the network that the stack is on.

use super::arguments::within;
use crate::shard::LocalAddress;
use crate::stack::{ConflictCheck, SharedPorts, StackConfig};
use clap::Args;
use std::fmt;
use std::net::IpAddr;

#[derive(Args, Debug)]
pub(super) struct Network {
    /// The kernel keeps the addresses; the stack has the ports that it serves, or opens from, and no other.
    #[arg(long)]
    shared: bool,
    /// Local ports to open from; with --shared they are reserved, so that the kernel does not choose them.
    #[arg(long, value_name = "LOW-HIGH", value_parser = parse_ports)]
    ports: Option<(u16, u16)>,
    /// Bytes of a UMEM frame, 2048 or 4096: IP packets of up to 1774 or 3822 bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 2048, value_parser = parse_frame_size)]
    frame_size: u32,
    /// Lay the UMEM on huge pages where there are any.
    #[arg(long)]
    huge_pages: bool,
    /// Insist on zero-copy.
    #[arg(long)]
    zero_copy: bool,
    /// How long a gateway or another neighbour may not answer before opens that need it fail as unreachable.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = within(1..=60_u8))]
    neighbor_timeout: u8,
    /// Whether other hosts are asked for the addresses before the start: off, quick (0.4 s) or full (4 to 7 s, RFC 5227).
    #[arg(long, value_name = "HOW", default_value = ConflictCheck::default().name(), value_parser = parse_conflict_check)]
    conflict_check: ConflictCheck,
    /// Answer accepted connections to the MAC address that their SYN came from, as behind a load balancer that forwards frames.
    #[arg(long)]
    reply_to_sender: bool,
}

impl Network {
    /// Puts the options into `config`; `ports` are those that the command needs of addresses that the kernel keeps.
    pub(super) fn apply(&self, config: &mut StackConfig, ports: SharedPorts) {
        if self.shared {
            config.shared = Some(ports);
            config.shard.ports = SHARED_PORTS;
        }
        if let Some(ports) = self.ports {
            config.shard.ports = ports;
        }
        config.link.frame_bytes = self.frame_size;
        config.link.huge_pages = self.huge_pages;
        config.link.zero_copy = self.zero_copy;
        config.shard.neighbor_timeout_s = self.neighbor_timeout;
        config.conflict_check = self.conflict_check;
        config.shard.reply_to_sender = self.reply_to_sender;
    }
}

/// One address, or a range of them, with the length of their network's prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AddressRange(pub(super) Vec<LocalAddress>);

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => Ok(()),
            [only] => only.address.fmt(f),
            [first, .., last] => write!(f, "{}-{}", first.address, last.address),
        }
    }
}

pub(super) fn parse_addresses(text: &str) -> Result<AddressRange, String> {
    let wrong = "must be ADDRESS/BITS or FIRST-LAST/BITS, as in 10.0.0.2/24, fd00::2/64 or 10.9.0.2-10.9.1.250/16";
    let (range, bits) = text.split_once('/').ok_or(wrong)?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (IpAddr, IpAddr) = (first.parse().map_err(|_| wrong)?, last.parse().map_err(|_| wrong)?);
    let bits_max = if first.is_ipv4() { 32 } else { 128 };
    let prefix_len = bits.parse().ok().filter(|bits| *bits <= bits_max).ok_or(wrong)?;
    let local = |address: IpAddr| LocalAddress { address, prefix_len };
    let too_many = || format!("more than {ADDRESSES_MAX} addresses: take a smaller range");
    let addresses: Vec<LocalAddress> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            let range = first.to_bits()..=last.to_bits();
            if range.end() - range.start() >= ADDRESSES_MAX {
                return Err(too_many());
            }
            range.map(|bits| local(IpAddr::V4(bits.into()))).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            let range = first.to_bits()..=last.to_bits();
            if range.end() - range.start() >= ADDRESSES_MAX.into() {
                return Err(too_many());
            }
            range.map(|bits| local(IpAddr::V6(bits.into()))).collect()
        }
        _ => return Err(format!("{first}-{last} is no range of one IP version, the smaller address first")),
    };
    Ok(AddressRange(addresses))
}

fn parse_conflict_check(text: &str) -> Result<ConflictCheck, String> {
    let names = ConflictCheck::ALL.map(ConflictCheck::name).join(", ");
    ConflictCheck::from_name(text).ok_or_else(|| format!("no way {text:?} to look for conflicts: there are {names}"))
}

fn parse_frame_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| [2048, 4096].contains(size));
    size.ok_or_else(|| "must be 2048 or 4096".to_owned())
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "must be LOW-HIGH, from 1 to 65535, as in 20000-29999".to_owned();
    let (low, high) = text.split_once('-').ok_or_else(wrong)?;
    let ports: (u16, u16) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if ports.0 == 0 || ports.0 > ports.1 { Err(wrong()) } else { Ok(ports) }
}

/// Ports to open from in shared-address mode unless told otherwise: below those that the kernel draws from by default.
const SHARED_PORTS: (u16, u16) = (20_000, 29_999);

/// Addresses in one range. Origin: what the XDP program's table of owned prefixes holds per IP version.
const ADDRESSES_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_every_address_from_first_to_last() {
        let AddressRange(range) = parse_addresses("10.9.0.254-10.9.1.1/16").unwrap();
        let texts: Vec<String> = range.iter().map(|own| format!("{}/{}", own.address, own.prefix_len)).collect();
        assert_eq!(texts, ["10.9.0.254/16", "10.9.0.255/16", "10.9.1.0/16", "10.9.1.1/16"]);
        assert_eq!(parse_addresses("fd00::1-fd00::ff/64").unwrap().0.len(), 255);
        assert_eq!(parse_addresses("10.0.0.2/24").unwrap().0.len(), 1);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in [
            "10.0.0.2",
            "10.0.0.2/33",
            "10.0.0.3-10.0.0.2/24",
            "10.0.0.2-fd00::1/24",
            "10.0.0.2-/24",
            "-10.0.0.2/24",
            "10.0.0.0-10.255.255.255/8",
            "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/0",
        ] {
            assert!(parse_addresses(wrong).is_err(), "{wrong}");
        }
    }
}
