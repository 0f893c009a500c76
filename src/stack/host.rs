//! What the machine says of itself under /proc and /sys: kernel, privileges, locked memory, cores, NUMA nodes.

use std::fs;

/// The kernel's release, as in "6.12.9-amd64"; `None` where /proc does not say.
#[cfg(feature = "xdp")]
pub(super) fn kernel_release() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

/// Major and minor number of a release.
#[cfg(feature = "xdp")]
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The effective capabilities of this process, one bit each.
#[cfg(feature = "xdp")]
pub(super) fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    u64::from_str_radix(status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim(), 16).ok()
}

/// The limit of locked memory of this process, bytes; `u64::MAX` for none.
#[cfg(feature = "xdp")]
pub(super) fn memlock_bytes() -> Option<u64> {
    parse_memlock(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Whether the kernel leads what has no other route over `interface`, in the calling thread's network namespace: by its main table of IPv4, or
/// any table of IPv6, for `ipv6_route` lists them all and does not say which is whose.
#[cfg(feature = "xdp")]
pub(super) fn has_default_route(interface: &str) -> bool {
    let read = |table: &str| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    is_default_v4(&read("route"), interface) || is_default_v6(&read("ipv6_route"), interface)
}

/// Columns: interface, destination, gateway, flags, three counts, mask.
#[cfg(feature = "xdp")]
fn is_default_v4(table: &str, interface: &str) -> bool {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| match columns[..] {
        [name, destination, _, flags, _, _, _, mask, ..] => {
            name == interface && destination == "00000000" && mask == "00000000" && leads_on(flags)
        }
        _ => false,
    })
}

/// Columns: destination, its prefix length, source, its prefix length, next hop, three counts, flags, interface.
#[cfg(feature = "xdp")]
fn is_default_v6(table: &str, interface: &str) -> bool {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| match columns[..] {
        [_, "00", _, "00", _, _, _, _, flags, name] => name == interface && leads_on(flags),
        _ => false,
    })
}

/// Whether a route with these flags is in use and no refusal.
#[cfg(feature = "xdp")]
fn leads_on(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

/// The NUMA node of the interface's device; `None` where it has no device or the machine a single node.
#[cfg(feature = "xdp")]
pub(super) fn interface_node(interface: &str) -> Option<u32> {
    // A device that does not know its node says -1.
    fs::read_to_string(format!("/sys/class/net/{interface}/device/numa_node")).ok()?.trim().parse().ok()
}

/// The cores of a NUMA node.
#[cfg(feature = "xdp")]
pub(super) fn node_cores(node: u32) -> Option<Vec<usize>> {
    parse_cores(&fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist")).ok()?)
}

/// The cores that run.
pub(super) fn online_cores() -> Option<Vec<usize>> {
    parse_cores(&fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

#[cfg(feature = "xdp")]
fn parse_memlock(limits: &str) -> Option<u64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// A list such as "0-3,8"; an empty one has no cores.
fn parse_cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cores.extend(first..=last.min(CORES_MAX));
    }
    Some(cores)
}

/// Core numbers lie below this. Origin: the kernel's largest NR_CPUS.
const CORES_MAX: usize = 8192;

/// Flags of <linux/route.h>.
#[cfg(feature = "xdp")]
const RTF_UP: u32 = 1;
#[cfg(feature = "xdp")]
const RTF_REJECT: u32 = 0x200;

#[cfg(all(test, feature = "xdp"))]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(version("6.12.9-amd64"), Some((6, 12)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert_eq!(version("linux"), None);
        assert_eq!(parse_cores("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_cores("\n"), Some(vec![]));
        assert_eq!(parse_cores("x"), None);
        let limits = "Limit      Soft Limit  Hard Limit  Units\nMax locked memory   8388608   unlimited   bytes\n";
        assert_eq!(parse_memlock(limits), Some(8_388_608));
        assert_eq!(parse_memlock("Max locked memory  unlimited  unlimited  bytes"), Some(u64::MAX));
        assert_eq!(parse_memlock(""), None);
    }

    #[test]
    fn default_route_is_found_on_its_interface_alone() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     eth2\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(["eth0", "eth1", "eth2", "eth"].map(|name| is_default_v4(table, name)), [true, false, false, false]);
        let zero = "0".repeat(32);
        let row =
            |len, flags, name| format!("{zero} {len} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {name}\n");
        let table =
            [row("00", "00450003", "eth0"), row("08", "00000001", "eth1"), row("00", "00200200", "lo")].concat();
        assert_eq!(["eth0", "eth1", "lo"].map(|name| is_default_v6(&table, name)), [true, false, false]);
        assert!(!is_default_v4("", "eth0") && !is_default_v6("x\n", "eth0"));
    }

    #[test]
    fn this_machine_says_what_every_linux_says() {
        assert!(kernel_release().as_deref().and_then(version).is_some());
        assert!(capabilities().is_some() && memlock_bytes().is_some());
        assert!(!online_cores().unwrap().is_empty());
        assert_eq!(interface_node("lo"), None);
    }
}
