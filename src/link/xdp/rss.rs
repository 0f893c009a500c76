//! How the NIC spreads what it receives over its queues: key and indirection table of receive-side scaling (ethtool).

use super::sys;
use crate::owner::{Rss, RssError};
use std::io;

/// Why the NIC's choice of queues cannot be followed. Connections are divided by a hash of the stack's own then, and
/// what arrives on another shard's queue is handed over.
#[derive(Debug, thiserror::Error)]
pub enum NoRss {
    /// The driver does not say.
    #[error("the driver does not tell {what}: {source}")]
    Unreadable {
        /// What was asked.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The hash is XOR or CRC32, or reads a transformed input.
    #[error("the NIC's hash is not plain Toeplitz; `ethtool -X` may set it with hfunc toeplitz and without xfrm")]
    NotToeplitz,
    /// Ports of TCP, or other fields, are or are not in the hash.
    #[error(
        "the NIC does not hash TCP over addresses and ports; `ethtool -N` may set it with rx-flow-hash tcp4 sdfn (and tcp6)"
    )]
    NotFourTuple,
    /// The key or the table has a size that cannot be followed.
    #[error(transparent)]
    Unfit(#[from] RssError),
    /// The answer contradicts itself.
    #[error("the driver's answer about its hash is cut short")]
    Malformed,
}

/// Key and indirection table of the interface called `name`, in the calling thread's network namespace.
pub fn rss(name: &str) -> Result<Rss, NoRss> {
    for flow in [TCP_V4_FLOW, TCP_V6_FLOW] {
        let mut asked = [ETHTOOL_GRXFH, flow, 0, 0];
        sys::ethtool(name, &mut asked)
            .map_err(|source| NoRss::Unreadable { what: "the fields that it hashes", source })?;
        let fields = u64::from(asked[2]) | u64::from(asked[3]) << 32;
        let fields = if cfg!(target_endian = "big") { fields.rotate_left(32) } else { fields };
        if fields != FOUR_TUPLE {
            return Err(NoRss::NotFourTuple);
        }
    }
    let unreadable = |source| NoRss::Unreadable { what: "its RSS settings", source };
    let mut sizes = [0; HEADER_WORDS];
    sizes[0] = ETHTOOL_GRSSH;
    sys::ethtool(name, &mut sizes).map_err(unreadable)?;
    let [_, _, entries, key_bytes, ..] = sizes;
    if entries.max(key_bytes) > SIZE_MAX {
        return Err(NoRss::Malformed);
    }
    // The kernel writes as much as the header announces.
    let mut answer = vec![0; HEADER_WORDS + entries as usize + (key_bytes as usize).div_ceil(4)];
    answer[..4].copy_from_slice(&[ETHTOOL_GRSSH, 0, entries, key_bytes]);
    sys::ethtool(name, &mut answer).map_err(unreadable)?;
    parse(&answer)
}

/// `ethtool_rxfh`: 6 words of header, the table in words, then the key in bytes.
fn parse(answer: &[u32]) -> Result<Rss, NoRss> {
    let (header, rest) = answer.split_first_chunk::<HEADER_WORDS>().ok_or(NoRss::Malformed)?;
    let [_, _, entries, key_bytes, functions, _] = *header;
    let [function, transform, ..] = functions.to_ne_bytes();
    // Drivers from before hash functions had names leave 0.
    if function & !HASH_TOEPLITZ != 0 || transform != 0 {
        return Err(NoRss::NotToeplitz);
    }
    let (table, key) = rest.split_at_checked(entries as usize).ok_or(NoRss::Malformed)?;
    let key: Vec<u8> = key.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let key = key.get(..key_bytes as usize).ok_or(NoRss::Malformed)?;
    let table = table.iter().map(|queue| u16::try_from(*queue)).collect::<Result<_, _>>();
    Ok(Rss::new(key, table.map_err(|_| NoRss::Malformed)?)?)
}

/// Commands of <linux/ethtool.h>.
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GRSSH: u32 = 0x46;

/// Flow types, and the fields RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1 and RXH_L4_B_2_3.
const TCP_V4_FLOW: u32 = 1;
const TCP_V6_FLOW: u32 = 5;
const FOUR_TUPLE: u64 = 0xf0;

/// ETH_RSS_HASH_TOP.
const HASH_TOEPLITZ: u8 = 1;

/// Words of `ethtool_rxfh` before its array.
const HEADER_WORDS: usize = 6;

/// Largest table and key that are read: a bound on what is allocated for a driver's word.
const SIZE_MAX: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(functions: [u8; 4], table: &[u32], key: &[u8]) -> Vec<u32> {
        let key_words = key.chunks(4).map(|four| {
            let mut word = [0; 4];
            word[..four.len()].copy_from_slice(four);
            u32::from_ne_bytes(word)
        });
        let header = [ETHTOOL_GRSSH, 0, table.len() as u32, key.len() as u32, u32::from_ne_bytes(functions), 0];
        header.into_iter().chain(table.iter().copied()).chain(key_words).collect()
    }

    #[test]
    fn table_and_key_are_read_from_the_answer() {
        let key: Vec<u8> = (0..52).collect();
        let table: Vec<u32> = (0..128).map(|entry| entry % 4).collect();
        for function in [0, HASH_TOEPLITZ] {
            let rss = parse(&answer([function, 0, 0, 0], &table, &key)).unwrap();
            assert_eq!(rss, Rss::new(&key, table.iter().map(|queue| *queue as u16).collect()).unwrap());
        }
    }

    #[test]
    fn other_hashes_and_odd_sizes_are_told_apart() {
        let key = [7; 40];
        assert!(matches!(parse(&answer([2, 0, 0, 0], &[0, 1], &key)), Err(NoRss::NotToeplitz)));
        assert!(matches!(parse(&answer([1, 1, 0, 0], &[0, 1], &key)), Err(NoRss::NotToeplitz)));
        assert!(matches!(parse(&answer([1, 0, 0, 0], &[0, 1, 2], &key)), Err(NoRss::Unfit(RssError::Table(3)))));
        assert!(matches!(parse(&answer([1, 0, 0, 0], &[0, 1], &[7; 16])), Err(NoRss::Unfit(RssError::Key(16)))));
        assert!(matches!(parse(&answer([1, 0, 0, 0], &[0, 70_000], &key)), Err(NoRss::Malformed)));
        let whole = answer([1, 0, 0, 0], &[0, 1], &key);
        for len in 0..whole.len() {
            assert!(matches!(parse(&whole[..len]), Err(NoRss::Malformed)), "{len} words");
        }
    }

    #[test]
    fn loopback_has_no_rss_and_says_so() {
        assert!(matches!(rss("lo"), Err(NoRss::Unreadable { .. })));
    }
}
