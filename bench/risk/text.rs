//! Text that says where it belongs: every octet is a function of connection, incarnation, direction and offset.

use super::workload::End;

/// What one end sends in one incarnation of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Text {
    key: u64,
}

/// Writes the text of one end from an offset on.
pub(super) fn fill(tuple: usize, incarnation: u32, from: End, offset: u32, out: &mut [u8]) {
    Text::of(tuple, incarnation, from).fill(offset, out);
}

impl Text {
    /// The text of `from` in this incarnation of connection number `tuple`.
    pub(super) fn of(tuple: usize, incarnation: u32, from: End) -> Text {
        Text { key: mix((tuple as u64) << 33 | u64::from(incarnation) << 1 | from as u64) }
    }

    /// Writes the octets from `offset` on.
    pub(super) fn fill(self, offset: u32, out: &mut [u8]) {
        let (mut at, mut octet) = (0, offset);
        while at < out.len() {
            let skip = (octet % 8) as usize;
            let count = (8 - skip).min(out.len() - at);
            out[at..at + count].copy_from_slice(&self.word(octet / 8)[skip..skip + count]);
            at += count;
            octet += count as u32;
        }
    }

    /// Whether `bytes` are what stands from `offset` on, and nothing lies beyond `len` octets in all.
    pub(super) fn is(self, offset: u32, bytes: &[u8], len: u32) -> bool {
        if offset as usize + bytes.len() > len as usize {
            return false;
        }
        let (mut at, mut octet) = (0, offset);
        while at < bytes.len() {
            let skip = (octet % 8) as usize;
            let count = (8 - skip).min(bytes.len() - at);
            if bytes[at..at + count] != self.word(octet / 8)[skip..skip + count] {
                return false;
            }
            at += count;
            octet += count as u32;
        }
        true
    }

    fn word(self, number: u32) -> [u8; 8] {
        mix(self.key ^ u64::from(number)).to_le_bytes()
    }
}

/// The finisher of SplitMix64: each bit of the outcome depends on every bit of `value`.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_from_every_offset_and_differs_by_incarnation() {
        let text = Text::of(3, 7, End::Client);
        let mut whole = [0; 100];
        text.fill(0, &mut whole);
        for from in 0..100 {
            let mut part = [0; 20];
            let part = &mut part[..20.min(100 - from)];
            text.fill(from as u32, part);
            assert_eq!(part, &whole[from..from + part.len()]);
            assert!(text.is(from as u32, part, 100));
        }
        assert!(!text.is(0, &whole, 99), "more than was sent");
        for other in [Text::of(3, 8, End::Client), Text::of(3, 7, End::Server), Text::of(4, 7, End::Client)] {
            assert!(!other.is(0, &whole[..8], 100));
        }
    }
}
