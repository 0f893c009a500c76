//! The XDP program of one interface: loading, attaching, claims, counters (`bpf/steer.bpf.c` says what it does).

use super::interface::Interface;
use super::{AttachedMode, Mode, XdpError, XdpLink};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp, XdpMode};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::str::FromStr;

include!(concat!(env!("OUT_DIR"), "/verdicts.rs"));

/// The XDP program on one interface. It is detached when this is dropped or the process ends in whatever way.
pub struct Steering {
    interface: Interface,
    mode: AttachedMode,
    // Closed before the program and its maps: fields are dropped in order.
    _attachment: FdLink,
    program: Ebpf,
}

impl Steering {
    /// Loads the program and attaches it to `interface` in the calling thread's network namespace. It passes everything
    /// to the kernel until something is claimed and an XSK is in the slot.
    pub fn attach(interface: &str, mode: Mode) -> Result<Steering, XdpError> {
        let interface = Interface::query(interface)?;
        if interface.attached.is_some() {
            let source = io::Error::from_raw_os_error(libc::EBUSY);
            return Err(XdpError::ProgramAttached { interface: interface.name, source });
        }
        let mut program = load(&interface)?;
        let attachment = match mode {
            Mode::Auto if interface.driver == "veth" && interface.queues == 1 => {
                attach_as(&mut program, &interface, Mode::Skb)
            }
            Mode::Auto => match attach_as(&mut program, &interface, Mode::Drv) {
                Err(XdpError::Attach { .. }) => attach_as(&mut program, &interface, Mode::Skb),
                result => result,
            },
            Mode::Skb | Mode::Drv => attach_as(&mut program, &interface, mode),
        }?;
        let interface = Interface::query(&interface.name)?;
        let mode = interface.attached.ok_or_else(|| {
            let source = io::Error::other("it does not show the XDP program that it has just attached");
            XdpError::Query { interface: interface.name.clone(), source }
        })?;
        Ok(Steering { interface, mode, _attachment: attachment, program })
    }

    /// The interface, as it was when the program had been attached.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// How the program is attached, as the kernel says.
    pub fn mode(&self) -> AttachedMode {
        self.mode
    }

    /// From now on what is claimed is the stack's on the VLAN with ID `vlan` alone, or where there is none, untagged alone. It is
    /// untagged until this is called.
    pub fn set_vlan(&mut self, vlan: Option<u16>) -> Result<(), XdpError> {
        let map = self.program.map_mut("vlan").ok_or(MapError::ElementNotFound).and_then(Array::try_from);
        let result =
            map.and_then(|mut map: Array<&mut MapData, u32>| map.set(VLAN_KEY, u32::from(vlan.unwrap_or(0)), 0));
        result.map_err(|error| self.map_error("set the VLAN".into(), &error))
    }

    /// Claims the addresses of `prefix`. The longest prefix decides, so an owned prefix may have shared parts.
    pub fn claim(&mut self, prefix: Prefix, claim: Claim) -> Result<(), XdpError> {
        let value = claim as u32;
        let result = match prefix.address {
            IpAddr::V4(address) => {
                self.own_v4().and_then(|mut map| map.insert(&Key::new(prefix.bits.into(), address.octets()), value, 0))
            }
            IpAddr::V6(address) => {
                self.own_v6().and_then(|mut map| map.insert(&Key::new(prefix.bits.into(), address.octets()), value, 0))
            }
        };
        result.map_err(|error| self.map_error(format!("claim {prefix}"), &error))
    }

    /// Takes a claim on exactly `prefix` back; no error if there was none.
    pub fn unclaim(&mut self, prefix: Prefix) -> Result<(), XdpError> {
        let result = match prefix.address {
            IpAddr::V4(address) => {
                self.own_v4().and_then(|mut map| map.remove(&Key::new(prefix.bits.into(), address.octets())))
            }
            IpAddr::V6(address) => {
                self.own_v6().and_then(|mut map| map.remove(&Key::new(prefix.bits.into(), address.octets())))
            }
        };
        result.or_else(ignore_missing).map_err(|error| self.map_error(format!("give back {prefix}"), &error))
    }

    /// Claims TCP `port` of a shared `address`, or of every address (frames that the host forwards included) if `None`.
    pub fn claim_port(&mut self, address: Option<IpAddr>, port: u16) -> Result<(), XdpError> {
        let result = self.ports().and_then(|mut map| map.insert(port_key(address, port), 1, 0));
        result.map_err(|error| self.map_error(format!("claim TCP port {port}"), &error))
    }

    /// Takes a claim on a port back; no error if there was none.
    pub fn unclaim_port(&mut self, address: Option<IpAddr>, port: u16) -> Result<(), XdpError> {
        let result = self.ports().and_then(|mut map| map.remove(&port_key(address, port))).or_else(ignore_missing);
        result.map_err(|error| self.map_error(format!("give back TCP port {port}"), &error))
    }

    /// Puts `link` into the slot of its queue: from now on it gets what was claimed.
    pub fn steer(&mut self, link: &XdpLink) -> Result<(), XdpError> {
        let (queue, fd) = (link.queue(), link.poll_fd().as_raw_fd());
        let result = self.slots().and_then(|mut slots| slots.set(queue, fd, 0));
        result.map_err(|error| self.map_error(format!("put the socket into the slot of queue {queue}"), &error))
    }

    /// Empties the slot of `queue`: the kernel gets its frames. A link that is dropped leaves its slot by itself.
    pub fn unsteer(&mut self, queue: u32) -> Result<(), XdpError> {
        let result = self.slots().and_then(|mut slots| slots.unset(queue)).or_else(ignore_missing);
        result.map_err(|error| self.map_error(format!("empty the slot of queue {queue}"), &error))
    }

    /// Frames by verdict since the program was attached, over all processors.
    pub fn verdicts(&self) -> Result<Verdicts, XdpError> {
        let mut totals = [0_u64; Verdicts::NAMES.len()];
        let map = self
            .program
            .map("verdicts")
            .ok_or(MapError::ElementNotFound)
            .and_then(PerCpuArray::<&MapData, u64>::try_from);
        let result = map.and_then(|map| {
            for (index, total) in (0..).zip(&mut totals) {
                *total = map.get(&index, 0)?.iter().sum();
            }
            Ok(Verdicts::from_values(totals))
        });
        result.map_err(|error| self.map_error("read the verdicts".into(), &error))
    }

    /// What the program would do with `frame` (at least 14 bytes), run in the kernel as if it had arrived on queue 0.
    /// It is counted, but goes nowhere.
    pub fn judge(&self, frame: &[u8]) -> Result<Action, XdpError> {
        let program = self.program.program(PROGRAM).ok_or(ProgramError::NotLoaded);
        let program: Result<&Xdp, _> = program.and_then(TryInto::try_into);
        let run = program
            .and_then(|program| program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() }));
        match run {
            Ok(run) if run.return_value == XDP_PASS => Ok(Action::Pass),
            Ok(run) if run.return_value == XDP_REDIRECT => Ok(Action::Redirect),
            Ok(run) => Ok(Action::Other(run.return_value)),
            Err(error) => Err(self.map_error(format!("run the program on {} bytes", frame.len()), &error)),
        }
    }

    fn own_v4(&mut self) -> Result<LpmTrie<&mut MapData, [u8; 4], u32>, MapError> {
        self.program.map_mut("own_v4").ok_or(MapError::ElementNotFound)?.try_into()
    }

    fn own_v6(&mut self) -> Result<LpmTrie<&mut MapData, [u8; 16], u32>, MapError> {
        self.program.map_mut("own_v6").ok_or(MapError::ElementNotFound)?.try_into()
    }

    fn ports(&mut self) -> Result<HashMap<&mut MapData, PortKey, u8>, MapError> {
        self.program.map_mut("ports").ok_or(MapError::ElementNotFound)?.try_into()
    }

    fn slots(&mut self) -> Result<XskMap<&mut MapData>, MapError> {
        self.program.map_mut("xsks").ok_or(MapError::ElementNotFound)?.try_into()
    }

    fn map_error(&self, what: String, error: &(dyn Error + 'static)) -> XdpError {
        XdpError::Map { interface: self.interface.name.clone(), what, reason: chain(error) }
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steering = f.debug_struct("Steering");
        steering.field("interface", &self.interface).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What is claimed of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Claim {
    /// The stack owns it, the kernel does not have it: all TCP, ARP, NDP and echo for it.
    Own = 1,
    /// The kernel has it: the stack gets claimed ports only. The default for every address.
    Shared = 2,
}

/// What the program does with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The kernel keeps it.
    Pass,
    /// It goes to the XSK of its queue.
    Redirect,
    /// Another XDP action, by number.
    Other(u32),
}

/// A range of addresses: `bits` leading bits of `address`, the rest is zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The addresses that share their first `bits` bits with `address`.
    pub fn new(address: IpAddr, bits: u8) -> Result<Prefix, XdpError> {
        let (bits_max, masked) = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
                (32, IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask)))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                (128, IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask)))
            }
        };
        if bits > bits_max || masked != address {
            let rule = "must be an address and at most 32 (IPv4) or 128 (IPv6) bits, with no address bits beyond them";
            return Err(XdpError::Setting { what: format!("prefix {address}/{bits}"), rule });
        }
        Ok(Prefix { address, bits })
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Leading bits that count.
    pub fn bits(self) -> u8 {
        self.bits
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Prefix {
        Prefix { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Prefix {
    type Err = XdpError;

    /// `10.1.0.0/16`, or one address without a length.
    fn from_str(text: &str) -> Result<Prefix, XdpError> {
        let wrong = || XdpError::Setting { what: format!("prefix {text:?}"), rule: "must be ADDRESS or ADDRESS/BITS" };
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse().map(IpAddr::into).map_err(|_| wrong());
        };
        Prefix::new(address.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn load(interface: &Interface) -> Result<Ebpf, XdpError> {
    let failed = |error: &(dyn Error + 'static)| match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => permission(interface, "load the XDP program", error),
        _ => XdpError::Load { interface: interface.name.clone(), reason: chain(error) },
    };
    let mut program = Ebpf::load(OBJECT).map_err(|error| failed(&error))?;
    let loaded = xdp(&mut program).and_then(Xdp::load);
    loaded.map_err(|error| failed(&error))?;
    Ok(program)
}

fn attach_as(program: &mut Ebpf, interface: &Interface, mode: Mode) -> Result<FdLink, XdpError> {
    let flag = if mode == Mode::Drv { XdpMode::Driver } else { XdpMode::Skb };
    let attached = xdp(program).and_then(|xdp| {
        let id = xdp.attach_to_if_index(interface.index, flag)?;
        xdp.take_link(id)
    });
    let name = interface.name.clone();
    match attached {
        // Without bpf_link aya attaches by netlink, which would outlive a killed process; dropping it detaches.
        Ok(link) => FdLink::try_from(link).map_err(|_| XdpError::NoBpfLink { interface: name }),
        Err(error) => {
            let source = io::Error::from_raw_os_error(os_error(&error).unwrap_or(libc::EINVAL));
            Err(match source.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => XdpError::ProgramAttached { interface: name, source },
                Some(libc::EPERM | libc::EACCES) => permission(interface, "attach the XDP program", &error),
                _ => XdpError::Attach { interface: name, driver: interface.driver.clone(), mode, source },
            })
        }
    }
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    program.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn permission(interface: &Interface, what: &'static str, error: &(dyn Error + 'static)) -> XdpError {
    let source = io::Error::from_raw_os_error(os_error(error).unwrap_or(libc::EPERM));
    XdpError::Permission { interface: interface.name.clone(), what, source }
}

/// The errno at the bottom of `error`.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// `error` and what caused it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn ignore_missing(error: MapError) -> Result<(), MapError> {
    match &error {
        MapError::KeyNotFound | MapError::ElementNotFound => Ok(()),
        _ if os_error(&error) == Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

/// `struct port_key` of `bpf/steer.h`: 16 bytes of address, 2 of port.
type PortKey = [u8; 18];

fn port_key(address: Option<IpAddr>, port: u16) -> PortKey {
    let address = match address {
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
        Some(IpAddr::V6(address)) => address,
        None => Ipv6Addr::UNSPECIFIED,
    };
    let mut key = [0; 18];
    key[..16].copy_from_slice(&address.octets());
    key[16..].copy_from_slice(&port.to_be_bytes());
    key
}

/// The only entry of the map of the VLAN, as in `bpf/steer.h`.
const VLAN_KEY: u32 = 0;

/// The compiled `bpf/steer.bpf.c`, and its program's name.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));
const PROGRAM: &str = "steer";

/// Actions of <linux/bpf.h>.
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_parse_and_refuse() {
        assert_eq!("10.1.0.0/16".parse::<Prefix>().unwrap().to_string(), "10.1.0.0/16");
        assert_eq!("10.1.2.3".parse::<Prefix>().unwrap().bits(), 32);
        assert_eq!("fd00::/8".parse::<Prefix>().unwrap().to_string(), "fd00::/8");
        assert_eq!("0.0.0.0/0".parse::<Prefix>().unwrap().bits(), 0);
        for wrong in ["", "10.0.0.1/24", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "host", "fd00::1/64"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_keys_are_as_the_program_makes_them() {
        let v4 = port_key(Some(Ipv4Addr::new(10, 0, 0, 1).into()), 0x1234);
        assert_eq!(v4, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1, 0x12, 0x34]);
        assert_eq!(port_key(None, 80)[..17], [0; 17]);
    }

    #[test]
    fn verdicts_begin_with_the_redirects() {
        let first_pass = Verdicts::NAMES.iter().position(|name| name.starts_with("pass_")).unwrap();
        assert_eq!(Verdicts::NAMES[first_pass], "pass_no_socket");
        assert!(Verdicts::NAMES[..first_pass].iter().all(|name| name.starts_with("redirect_")));
        assert!(Verdicts::NAMES[first_pass..].iter().all(|name| name.starts_with("pass_")));
    }
}
