//! Memory as the system sees it: what is there before tables are made, and huge pages for those that are.
//!
//! Unsafe is here for one system call. Its invariants:
//!
//! 1. Advice never changes what memory holds: `MADV_HUGEPAGE` and `MADV_COLLAPSE` move bytes between physical pages,
//!    behind the same addresses. A range that is not mapped, or no longer, is refused by the kernel with ENOMEM.
//! 2. Nothing here reads or writes through the addresses of a region; they are numbers for the kernel.

use crate::shard::{Bill, ConfigError};
use core::ffi::c_void;
use core::ops::Range;
use std::fs;

/// What became of the wish for huge pages. Being refused costs speed, never correctness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HugePages {
    /// Bytes that lie on huge pages now.
    pub obtained_bytes: u64,
    /// Bytes that could but do not: no free huge page, or a kernel before 6.1. The kernel may still move them later.
    pub refused_bytes: u64,
    /// Bytes at the ends of tables that fill no huge page.
    pub unaligned_bytes: u64,
}

/// Fails with the bill when `shards` times it is more than the system has available.
pub fn check(bill: &Bill, shards: usize) -> Result<(), ConfigError> {
    match available_bytes() {
        Some(available) => check_against(bill, shards, available),
        None => Ok(()),
    }
}

/// Puts tables on huge pages where the system has any, in place. It takes about 0.3 s per GB, so it belongs before the first
/// packet.
pub fn advise_huge_pages(regions: impl Iterator<Item = Range<*const u8>>) -> HugePages {
    let mut result = HugePages::default();
    for region in regions {
        let (start, end) = (region.start as usize, region.end as usize);
        let first = start.next_multiple_of(HUGE_PAGE_BYTES).min(end);
        let last = (end & !(HUGE_PAGE_BYTES - 1)).max(first);
        result.unaligned_bytes += (end - start - (last - first)) as u64;
        if last > first {
            advise(first, last - first, libc::MADV_HUGEPAGE);
        }
        for page in (first..last).step_by(HUGE_PAGE_BYTES) {
            match advise(page, HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) {
                true => result.obtained_bytes += HUGE_PAGE_BYTES as u64,
                false => result.refused_bytes += HUGE_PAGE_BYTES as u64,
            }
        }
    }
    result
}

/// Bytes that this process may still take: what the system has available, or its control groups allow if that is less.
/// `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field_kb(&text, "MemAvailable:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().flat_map(group_directories).filter_map(|directory| room_of_group(&directory)).chain(system).min()
}

/// Bytes of this process that are in memory now.
pub fn resident_bytes() -> Option<u64> {
    fs::read_to_string("/proc/self/status").ok().and_then(|text| field_kb(&text, "VmRSS:"))
}

/// Bytes of this process that it has touched and still has: in memory, or swapped out since.
pub fn touched_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    // A kernel without swap does not name it.
    field_kb(&status, "VmRSS:").map(|resident| resident + field_kb(&status, "VmSwap:").unwrap_or(0))
}

fn check_against(bill: &Bill, shards: usize, available_bytes: u64) -> Result<(), ConfigError> {
    if bill.total_bytes().saturating_mul(shards as u64) <= available_bytes {
        return Ok(());
    }
    let each = available_bytes / shards.max(1) as u64;
    Err(ConfigError::NoMemory { bill: Box::new(bill.clone()), available_bytes: Some(each) })
}

/// Whether the kernel took the advice for all of the range.
fn advise(start: usize, len: usize, advice: libc::c_int) -> bool {
    // SAFETY: by 1 and 2 any range and either advice leaves what the process sees as it was.
    unsafe { libc::madvise(start as *mut c_void, len, advice) == 0 }
}

/// The directories that a line of `/proc/self/cgroup` stands for, from the group itself up to the root.
fn group_directories(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        "memory" => "/sys/fs/cgroup/memory",
        _ => return Vec::new(),
    };
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| format!("{root}{}", &path[..end])).collect()
}

/// What the group of this directory may still take; `None` without a limit. Version 2 and 1 name their files differently.
fn room_of_group(directory: &str) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("{directory}/{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (limit, used, cache) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?, "inactive_file "),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?, "total_inactive_file "),
    };
    let stat = read("memory.stat").unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

/// The number after `name` in a text of lines `name  number kB`, bytes.
fn field_kb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb.saturating_mul(1024))
}

/// A huge page of x86-64 and of arm64 with 4 KB pages, bytes.
const HUGE_PAGE_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::four_tuple::Families;
    use crate::limits::Limits;

    #[test]
    fn more_than_there_is_fails_with_the_bill() {
        let limits = Limits { time_wait_max: 1 << 29, ..Limits::default() };
        let bill = limits.bill(Families::BOTH, 60_000);
        let error = check_against(&bill, 2, 1 << 30).expect_err("64 GB are no 1 GB");
        let text = error.to_string();
        assert!(text.contains("536870912 are available"), "per shard: {text}");
        assert!(text.contains("lower limits.time_wait_max"), "{text}");
        assert!(text.contains(&bill.to_string()), "{text}");
        assert_eq!(check_against(&bill, 1, bill.total_bytes()), Ok(()));
        assert!(check_against(&bill, usize::MAX, u64::MAX - 1).is_err(), "a product past 64 bits is too much");
    }

    #[test]
    fn this_system_says_what_it_has() {
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(touched_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn advice_changes_no_byte_and_counts_every_one() {
        let bytes: Vec<u32> = (0..2_000_000).collect();
        let range = bytes.as_ptr_range();
        let huge = advise_huge_pages([range.start.cast::<u8>()..range.end.cast()].into_iter());
        assert_eq!(huge.obtained_bytes + huge.refused_bytes + huge.unaligned_bytes, 8_000_000);
        assert!(huge.unaligned_bytes < 2 * HUGE_PAGE_BYTES as u64);
        assert!(bytes.iter().copied().eq(0..2_000_000));
    }

    #[test]
    fn regions_smaller_than_a_huge_page_or_empty_are_left_alone() {
        let bytes = [0u8; 100];
        let empty = std::ptr::null::<u8>()..std::ptr::null::<u8>();
        let huge = advise_huge_pages([bytes.as_ptr_range(), empty].into_iter());
        assert_eq!(huge, HugePages { unaligned_bytes: 100, ..HugePages::default() });
    }

    #[test]
    fn pages_that_the_kernel_refuses_are_counted_and_nothing_else_happens() {
        // No process has addresses there.
        let nowhere = 1 << 62;
        let address = |at| std::ptr::without_provenance(nowhere + at);
        let huge = advise_huge_pages([address(0)..address(3 * HUGE_PAGE_BYTES + 100)].into_iter());
        let refused = HugePages { obtained_bytes: 0, refused_bytes: 6 << 20, unaligned_bytes: 100 };
        assert_eq!(huge, refused);
    }

    #[test]
    fn groups_of_both_versions_are_walked_to_the_root() {
        assert_eq!(group_directories("0::/a/b"), ["/sys/fs/cgroup", "/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"]);
        assert_eq!(group_directories("4:memory:/x"), ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/x"]);
        assert!(group_directories("3:cpuset:/x").is_empty() && group_directories("nonsense").is_empty());
    }

    #[test]
    fn fields_without_a_number_are_none() {
        assert_eq!(field_kb("MemFree: 1 kB\nMemAvailable:   20 kB\n", "MemAvailable:"), Some(20 * 1024));
        assert_eq!(field_kb("MemAvailable: much\n", "MemAvailable:"), None);
        assert_eq!(field_kb("", "VmRSS:"), None);
    }
}
