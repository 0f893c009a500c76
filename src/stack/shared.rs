//! Shared-address mode: the kernel keeps the addresses, the stack has single ports of them. What it has, the kernel
//! must not use: the ports to listen at are held by bound sockets, the range to open from is reserved in
//! `ip_local_reserved_ports` and given back at the end. What a killed process has left reserved is recognised by its
//! record and given back by the next.

use super::StackError;
use crate::link::xdp::hold_port;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Which TCP ports of the kernel's addresses are the stack's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedPorts {
    /// Those to listen at. Listeners at ports that are not the stack's are refused, later ones too
    /// ([`crate::api::ListenError::NotClaimed`]).
    pub listen: Vec<u16>,
    /// Whether connections are opened, from the ports of [`crate::shard::ShardConfig::ports`]: all of them are then the
    /// stack's. Connections from ports that are not are refused ([`crate::api::ConnectError::NotClaimed`]).
    pub opens: bool,
}

impl SharedPorts {
    /// The stack's ports as ranges, both ends included; connections are opened from `range`.
    pub(super) fn claimed(&self, range: (u16, u16)) -> Vec<(u16, u16)> {
        self.listen.iter().map(|port| (*port, *port)).chain(self.opens.then_some(range)).collect()
    }
}

/// What the stack has taken from the kernel; dropped, it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    _held: Vec<OwnedFd>,
    _reservation: Option<Reservation>,
}

impl Taken {
    /// Takes `ports` of `addresses`, and `range` if connections are opened.
    pub(super) fn take(ports: &SharedPorts, addresses: &[IpAddr], range: (u16, u16)) -> Result<Taken, StackError> {
        let mut held = Vec::new();
        for address in addresses {
            for port in &ports.listen.iter().collect::<BTreeSet<_>>() {
                let socket = hold_port(*address, **port);
                held.push(socket.map_err(|source| StackError::PortTaken {
                    address: *address,
                    port: **port,
                    source,
                })?);
            }
        }
        let reservation = if ports.opens { Some(Reservation::take(range.0..=range.1)?) } else { None };
        Ok(Taken { _held: held, _reservation: reservation })
    }
}

/// A range in `ip_local_reserved_ports`, with its record.
#[derive(Debug)]
struct Reservation {
    range: RangeInclusive<u16>,
    record: PathBuf,
}

impl Reservation {
    fn take(range: RangeInclusive<u16>) -> Result<Reservation, StackError> {
        let failed = |what: &str, source: io::Error| StackError::Reserve { what: what.to_owned(), source };
        let namespace =
            fs::read_link("/proc/thread-self/ns/net").map_err(|source| failed("/proc/thread-self/ns/net", source))?;
        let namespace = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>();
        fs::create_dir_all(RECORDS).map_err(|source| failed(RECORDS, source))?;
        let locked = lock().map_err(|source| failed(LOCK, source))?;
        give_back_stale(&namespace)?;
        let mut ports = Ports::read().map_err(|source| failed(RESERVED, source))?;
        if let Some(port) = range.clone().find(|port| ports.has(*port)) {
            return Err(StackError::RangeReserved { low: *range.start(), high: *range.end(), port });
        }
        let process = std::process::id();
        let record = Path::new(RECORDS).join(format!("ports-{namespace}-{process}"));
        let text = format!("{}-{} {}\n", range.start(), range.end(), started(process).unwrap_or(0));
        fs::write(&record, text).map_err(|source| failed(&record.to_string_lossy(), source))?;
        // From here on dropping it takes both away again.
        let reservation = Reservation { range, record };
        ports.set(&reservation.range, true);
        let written = ports.write();
        // Giving back locks too.
        drop(locked);
        written.map_err(|source| failed(RESERVED, source))?;
        // Only now can the kernel take no more of them for itself.
        let range = &reservation.range;
        match used_ports().into_iter().find(|port| range.contains(port)) {
            Some(port) => Err(StackError::RangeInUse { low: *range.start(), high: *range.end(), port }),
            None => Ok(reservation),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Without the lock giving back is still better than not.
        let _locked = lock();
        if let Err(error) = give_back(&self.range) {
            let (low, high) = (self.range.start(), self.range.end());
            tracing::warn!(%error, "ports {low}-{high} stay reserved: take them out of {RESERVED}");
        }
        // The next start would give back what is left.
        let _ = fs::remove_file(&self.record);
    }
}

/// Gives back what processes that live no more have left reserved in this network namespace.
fn give_back_stale(namespace: &str) -> Result<(), StackError> {
    let Ok(records) = fs::read_dir(RECORDS) else { return Ok(()) };
    for record in records.flatten() {
        let name = record.file_name().to_string_lossy().into_owned();
        let Some(process) = name.strip_prefix(&format!("ports-{namespace}-")).and_then(|process| process.parse().ok())
        else {
            continue;
        };
        let text = fs::read_to_string(record.path()).unwrap_or_default();
        let Some((range, since)) = parse_record(&text) else { continue };
        if started(process) != Some(since) {
            tracing::warn!(
                process,
                low = range.start(),
                high = range.end(),
                "gives back ports that a dead process had reserved"
            );
            give_back(&range).map_err(|source| StackError::Reserve { what: RESERVED.to_owned(), source })?;
            let _ = fs::remove_file(record.path());
        }
    }
    Ok(())
}

/// Keeps other processes from changing the list between this one's reading and writing, until dropped.
fn lock() -> io::Result<File> {
    let file = File::create(LOCK)?;
    file.lock()?;
    Ok(file)
}

fn give_back(range: &RangeInclusive<u16>) -> io::Result<()> {
    let mut ports = Ports::read()?;
    ports.set(range, false);
    ports.write()
}

/// "LOW-HIGH STARTED".
fn parse_record(text: &str) -> Option<(RangeInclusive<u16>, u64)> {
    let (range, since) = text.trim().split_once(' ')?;
    let (low, high) = range.split_once('-')?;
    Some((low.parse().ok()?..=high.parse().ok()?, since.parse().ok()?))
}

/// When a process began, in the kernel's ticks: with its number it names it for ever.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Local TCP ports that the kernel uses in this network namespace.
fn used_ports() -> Vec<u16> {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit(':').next()?, 16).ok();
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(port)).collect()
}

/// The reserved ports, one flag each.
#[derive(PartialEq, Eq, Debug)]
struct Ports(Vec<bool>);

impl Ports {
    /// The kernel answers the first read alone, with as much as that has room for, be it half a number: one read takes all.
    fn read() -> io::Result<Ports> {
        let mut text = vec![0; LIST_BYTES];
        let len = File::open(RESERVED)?.read(&mut text)?;
        let ports = text.get(..len).filter(|text| text.len() < LIST_BYTES).and_then(Ports::parse);
        ports.ok_or_else(|| io::Error::other("the list cannot be read whole"))
    }

    /// A list such as "80,1000-1999"; `None` if it is none.
    fn parse(text: &[u8]) -> Option<Ports> {
        let mut ports = Ports(vec![false; 1 << 16]);
        for part in str::from_utf8(text).ok()?.trim().split_terminator(',') {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            ports.set(&(low.parse().ok()?..=high.parse().ok()?), true);
        }
        Some(ports)
    }

    fn has(&self, port: u16) -> bool {
        self.0[usize::from(port)]
    }

    fn set(&mut self, range: &RangeInclusive<u16>, reserved: bool) {
        for port in range.clone() {
            self.0[usize::from(port)] = reserved;
        }
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(low) = (at..self.0.len()).find(|port| self.0[*port]) {
            let end = (low..self.0.len()).find(|port| !self.0[*port]).unwrap_or(self.0.len());
            parts.push(if end - low == 1 { low.to_string() } else { format!("{low}-{}", end - 1) });
            at = end;
        }
        parts.join(",")
    }

    fn write(&self) -> io::Result<()> {
        fs::write(RESERVED, format!("{}\n", self.text()))?;
        // Whoever changes it without the lock may have done so at the same moment.
        let is_there = Ports::read()? == *self;
        is_there.then_some(()).ok_or_else(|| io::Error::other("another program changes the list at the same time"))
    }
}

/// Ports that the kernel does not choose for its own connections, in the network namespace of whoever opens it.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// More bytes than the longest list has: every second port, up to five digits and a comma each.
const LIST_BYTES: usize = 256 << 10;

/// Where processes note what they have reserved.
const RECORDS: &str = "/run/synfin";

/// The file whose lock (flock(2)) is held while the list is changed. It stays: a removed one could be locked twice.
const LOCK: &str = "/run/synfin/lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_added_and_taken_out_of_what_others_have_reserved() {
        let parse = |text: &str| Ports::parse(text.as_bytes());
        let mut ports = parse("80,1000-1999\n").expect("a list");
        ports.set(&(2000..=2999), true);
        assert_eq!(ports.text(), "80,1000-2999");
        ports.set(&(1500..=2999), false);
        assert_eq!(ports.text(), "80,1000-1499");
        ports.set(&(0..=u16::MAX), true);
        assert_eq!(ports.text(), "0-65535");
        assert_eq!(parse("\n").map(|ports| ports.text()).as_deref(), Some(""));
        assert_eq!(parse("80,1000-"), None, "a list cut in two is none");
    }

    #[test]
    fn longest_list_fits_what_is_read_at_once() {
        let every_second = Ports((0..=u16::MAX).map(|port| port % 2 == 1).collect());
        assert!(every_second.text().len() + 1 < LIST_BYTES);
    }

    #[test]
    fn record_names_a_process_that_lives_or_not() {
        let me = std::process::id();
        assert_eq!(started(me), started(me));
        assert!(started(me).is_some() && started(u32::MAX).is_none());
        assert_eq!(parse_record("20000-29999 1234\n"), Some((20_000..=29_999, 1234)));
        assert_eq!(parse_record("20000 1234"), None);
    }
}
