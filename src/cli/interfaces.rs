//! Which interfaces a stack is on and what it has on each, from the options.

use super::network::{AddressRange, parse_addresses};
use crate::shard::{Attachment, LocalAddress, ShardConfig};
use clap::Args;
use std::net::IpAddr;

#[derive(Args, Debug)]
pub(super) struct Interfaces {
    /// The network interface; or several, each with its addresses, as in eth0=10.0.0.2/24,fd00::2/64,eth1=10.1.0.2/24.
    /// Each shard drives a queue of each, so that a proxy may take clients on one and reach backends on the other.
    #[arg(long, required = true, value_name = "IF[=IP/LEN,...]", value_delimiter = ',', value_parser = parse_interface)]
    interface: Vec<Part>,
    /// The stack's own addresses, or ranges of them, on the interface that is given none; this host's kernel must not have them.
    #[arg(long, value_name = "IP[-IP]/LEN", value_delimiter = ',', value_parser = parse_addresses)]
    address: Vec<AddressRange>,
    /// Next hops for other networks, at most one per IP version and interface, on its network unless the address has none
    /// (/32, /128) or the gateway is link-local.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// The VLAN that the stack is on, on every interface or the one named: frames are tagged with it, and others are
    /// left to the kernel.
    #[arg(long, value_name = "[IF=]ID", value_delimiter = ',', value_parser = parse_vlan)]
    vlan: Vec<Vlan>,
}

/// A word of `--interface`.
#[derive(Clone, Debug)]
enum Part {
    /// An interface, perhaps with the first of its addresses.
    Interface(String, Option<AddressRange>),
    /// More addresses of the interface before.
    Address(AddressRange),
}

/// A VLAN, and the interface that it is on, if not all.
#[derive(Clone, Debug)]
struct Vlan {
    interface: Option<String>,
    id: u16,
}

/// An interface, its addresses as they were given, and what the stack has there.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) name: String,
    ranges: Vec<AddressRange>,
    pub(super) attachment: Attachment,
}

impl Interfaces {
    /// The interfaces' names.
    pub(super) fn names(&self) -> Vec<&str> {
        let parts = self.interface.iter();
        parts.filter_map(|part| if let Part::Interface(name, _) = part { Some(name.as_str()) } else { None }).collect()
    }

    /// The addresses of all interfaces as words for people: a range is one.
    pub(super) fn address_words(&self) -> Vec<String> {
        self.ranges().map(AddressRange::to_string).collect()
    }

    /// The stack's own addresses on all interfaces, one by one.
    pub(super) fn addresses(&self) -> Vec<LocalAddress> {
        self.ranges().flat_map(|range| &range.0).copied().collect()
    }

    /// The gateways of all interfaces.
    pub(super) fn gateways(&self) -> &[IpAddr] {
        &self.gateway
    }

    /// The stack's own addresses that a connection to `remote` may come from: those of its IP version on the interface that leads
    /// there.
    pub(super) fn sources(&self, remote: IpAddr) -> Vec<IpAddr> {
        let all = self.placed().unwrap_or_default();
        let near = all.iter().find(|placed| placed.attachment.addresses.iter().any(|own| own.holds(remote)));
        let has_way = |placed: &&Placed| placed.attachment.gateways.iter().any(|hop| hop.is_ipv4() == remote.is_ipv4());
        let placed = near.or_else(|| all.iter().find(has_way)).or(all.first());
        let own = placed.into_iter().flat_map(|placed| &placed.attachment.addresses).map(|own| own.address);
        own.filter(|address| address.is_ipv4() == remote.is_ipv4()).collect()
    }

    /// Every interface with what is its own, the first first; or what is wrong.
    pub(super) fn placed(&self) -> Result<Vec<Placed>, String> {
        let mut all = self.named()?;
        self.place_addresses(&mut all)?;
        for placed in &mut all {
            placed.attachment.addresses = placed.ranges.iter().flat_map(|range| &range.0).copied().collect();
        }
        self.place_gateways(&mut all)?;
        for Vlan { interface, id } in &self.vlan {
            let meant = |placed: &&mut Placed| interface.as_ref().is_none_or(|name| *name == placed.name);
            let mut some = all.iter_mut().filter(meant).peekable();
            if some.peek().is_none() {
                return Err(format!("--vlan {}={id}: no such interface is given", interface.as_deref().unwrap_or("")));
            }
            for placed in some {
                if placed.attachment.vlan.replace(*id).is_some() {
                    return Err(format!("--vlan {id}: interface {} has a VLAN already", placed.name));
                }
            }
        }
        let attachments = all.iter().map(|placed| placed.attachment.clone()).collect::<Vec<_>>();
        ShardConfig::default().with_attachments(attachments).check_routes().map_err(|error| error.to_string())?;
        Ok(all)
    }

    fn ranges(&self) -> impl Iterator<Item = &AddressRange> {
        let of_parts = self.interface.iter().filter_map(|part| match part {
            Part::Interface(_, range) => range.as_ref(),
            Part::Address(range) => Some(range),
        });
        of_parts.chain(&self.address)
    }

    /// The interfaces with the addresses that stand with them.
    fn named(&self) -> Result<Vec<Placed>, String> {
        let mut all: Vec<Placed> = Vec::new();
        for part in &self.interface {
            match part {
                Part::Interface(name, _) if all.iter().any(|placed| placed.name == *name) => {
                    return Err(format!(
                        "--interface {name}: it is given twice; give it once, with all of its addresses"
                    ));
                }
                Part::Interface(name, range) => {
                    let (name, ranges) = (name.clone(), range.iter().cloned().collect());
                    all.push(Placed { name, ranges, attachment: Attachment::default() });
                }
                Part::Address(range) => match all.last_mut().filter(|last| !last.ranges.is_empty()) {
                    Some(last) => last.ranges.push(range.clone()),
                    None => {
                        let form = "an address must follow its interface, as in eth0=10.0.0.2/24";
                        return Err(format!("--interface {range}: {form}"));
                    }
                },
            }
        }
        Ok(all)
    }

    /// `--address` is for the interface that has none.
    fn place_addresses(&self, all: &mut [Placed]) -> Result<(), String> {
        let mut without = all.iter_mut().filter(|placed| placed.ranges.is_empty());
        match (without.next(), without.next()) {
            (None, _) if self.address.is_empty() => Ok(()),
            (None, _) => Err("--address: every interface has addresses of its own already".to_owned()),
            (Some(one), None) if !self.address.is_empty() => {
                one.ranges.clone_from(&self.address);
                Ok(())
            }
            (Some(one), other) => {
                let name = &other.unwrap_or(one).name;
                Err(format!(
                    "--interface {name}: it has no address; give --address, or {name}=10.0.0.2/24 for each of several"
                ))
            }
        }
    }

    /// A gateway is on the interface whose network it is on; where there is one interface that may be beyond its networks, there.
    fn place_gateways(&self, all: &mut [Placed]) -> Result<(), String> {
        let several = all.len() > 1;
        for gateway in &self.gateway {
            let near = |placed: &&mut Placed| {
                let own = &placed.attachment.addresses;
                own.iter().any(|own| own.holds(*gateway)) || !several && may_be_beyond(own, *gateway)
            };
            let Some(placed) = all.iter_mut().find(near) else {
                let networks: Vec<String> = all.iter().map(Placed::in_words).collect();
                return Err(format!(
                    "--gateway {gateway}: it is on no network of an interface: {}",
                    networks.join("; ")
                ));
            };
            if placed.attachment.gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                return Err(format!("--gateway {gateway}: at most one gateway per IP version and interface"));
            }
            placed.attachment.gateways.push(*gateway);
        }
        Ok(())
    }
}

impl Placed {
    fn in_words(&self) -> String {
        let with_bits = |range: &AddressRange| range.0.first().map(|own| format!("{range}/{}", own.prefix_len));
        let ranges: Vec<String> = self.ranges.iter().filter_map(with_bits).collect();
        format!("{} has {}", self.name, ranges.join(", "))
    }
}

/// Whether the gateway of hosts with these addresses may be on none of their networks: one that has an address alone, as clouds give
/// them, has no network, and routers of IPv6 announce their link-local addresses.
fn may_be_beyond(own: &[LocalAddress], gateway: IpAddr) -> bool {
    let alone = own.iter().any(|own| match (own.address, gateway) {
        (IpAddr::V4(_), IpAddr::V4(_)) => own.prefix_len == 32,
        (IpAddr::V6(_), IpAddr::V6(_)) => own.prefix_len == 128,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    });
    alone || matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn parse_interface(text: &str) -> Result<Part, String> {
    let (name, range) = text.split_once('=').map_or((text, None), |(name, range)| (name, Some(range)));
    // No interface's name has a slash in it.
    if range.is_none() && text.contains('/') {
        return parse_addresses(text).map(Part::Address);
    }
    let name = parse_name(name).map_err(|wrong| format!("must be IF or IF=IP/LEN, as in eth0=10.0.0.2/24; {wrong}"))?;
    Ok(Part::Interface(name, range.map(parse_addresses).transpose()?))
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if (1..=NAME_MAX).contains(&text.len()) && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err(format!("the name of an interface has 1 to {NAME_MAX} letters, no blanks"))
}

fn parse_vlan(text: &str) -> Result<Vlan, String> {
    let (interface, id) = text.split_once('=').map_or((None, text), |(name, id)| (Some(name.to_owned()), id));
    let id = id.parse().ok().filter(|id| (1..=VLAN_ID_MAX).contains(id));
    Ok(Vlan { interface, id: id.ok_or("must be ID or IF=ID, with an ID from 1 to 4094")? })
}

/// Bytes of an interface's name. Origin: the kernel's IFNAMSIZ without the end of the string.
const NAME_MAX: usize = 15;

/// The largest VLAN ID (IEEE 802.1Q 9.6).
const VLAN_ID_MAX: u16 = 4094;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        interfaces: Interfaces,
    }

    /// Each interface with its addresses, gateways and VLAN.
    fn placed(line: &str) -> Result<Vec<String>, String> {
        let words = std::iter::once("stack").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let text = |placed: &Placed| {
            let Attachment { addresses, gateways, vlan } = &placed.attachment;
            let addresses: Vec<String> = addresses.iter().map(|own| own.address.to_string()).collect();
            format!("{} {addresses:?} {gateways:?} {vlan:?}", placed.name)
        };
        Ok(line.interfaces.placed()?.iter().map(text).collect())
    }

    #[test]
    fn each_interface_has_its_addresses_its_gateway_and_its_vlan() {
        let one = [r#"a ["10.0.0.2", "fd00::2"] [10.0.0.1] Some(7)"#];
        assert_eq!(placed("--interface a --address 10.0.0.2/24,fd00::2/64 --gateway 10.0.0.1 --vlan 7").unwrap(), one);
        let two = [r#"a ["10.0.0.2", "fd00::2"] [10.0.0.254] None"#, r#"b ["10.1.0.2"] [10.1.0.254] Some(7)"#];
        for line in [
            "--interface a=10.0.0.2/24,fd00::2/64 --interface b=10.1.0.2/24",
            "--interface a=10.0.0.2/24,fd00::2/64,b=10.1.0.2/24",
            "--interface a=10.0.0.2/24,fd00::2/64,b --address 10.1.0.2/24",
        ] {
            assert_eq!(placed(&format!("{line} --gateway 10.1.0.254,10.0.0.254 --vlan b=7")).unwrap(), two, "{line}");
        }
    }

    #[test]
    fn gateway_beyond_the_networks_is_for_hosts_without_one_and_for_link_local_routers() {
        for line in
            ["10.0.0.2/32 --gateway 169.254.1.1", "fd00::2/128 --gateway fd01::1", "fd00::2/64 --gateway fe80::1"]
        {
            assert!(placed(&format!("--interface a --address {line}")).is_ok(), "{line}");
        }
        for (line, says) in [
            (
                "10.9.0.2/24 --gateway 10.8.0.1",
                "--gateway 10.8.0.1: it is on no network of an interface: a has 10.9.0.2/24",
            ),
            ("10.9.0.2-10.9.0.9/24,fd00::2/128 --gateway 10.8.0.1", "a has 10.9.0.2-10.9.0.9/24, fd00::2/128"),
            ("10.9.0.2/32,fd00::2/64 --gateway fd01::1", "--gateway fd01::1"),
        ] {
            let error = placed(&format!("--interface a --address {line}")).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn what_belongs_to_no_interface_or_to_two_is_refused() {
        for (line, says) in [
            ("--interface a", "it has no address"),
            ("--interface a --interface b --address 10.0.0.2/24", "--interface b: it has no address"),
            ("--interface a=10.0.0.2/24 --address 10.0.0.3/24", "every interface has addresses"),
            ("--interface a=10.0.0.2/24,a=10.1.0.2/24", "it is given twice"),
            ("--interface 10.0.0.2/24", "must follow its interface"),
            ("--interface a=10.0.0.2/24,b=10.0.0.3/24", "overlap"),
            ("--interface a=10.0.0.2/8,b=10.1.0.3/24", "overlap"),
            ("--interface a=10.0.0.2/24,b=10.1.0.2/24 --gateway 192.0.2.1", "on no network"),
            ("--interface a=10.0.0.2/24 --gateway 10.0.0.1,10.0.0.3", "at most one gateway"),
            ("--interface a=10.0.0.2/24 --vlan b=7", "no such interface"),
            ("--interface a=10.0.0.2/24 --vlan 7,a=8", "has a VLAN already"),
            ("--interface a=10.0.0.2/24 --vlan 4095", "from 1 to 4094"),
            ("--interface =10.0.0.2/24", "must be IF or"),
            ("--interface= --address 10.0.0.2/24", "1 to 15 letters"),
            ("--interface a234567890123456 --address 10.0.0.2/24", "1 to 15 letters"),
        ] {
            let error = placed(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
