//! TCP segments (RFC 9293 3.1), their options (RFC 9293 3.2, RFC 2018, RFC 7323) and their bytes.

use crate::seq::Seq;
use core::fmt;
use core::ops::BitOr;

/// The control bits of a segment, as the header's 14th byte holds them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is significant.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// Whether every bit of `bits` is set.
    #[inline]
    pub const fn has(self, bits: Flags) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// FIN is set.
    #[inline]
    pub const fn fin(self) -> bool {
        self.has(Flags::FIN)
    }

    /// SYN is set.
    #[inline]
    pub const fn syn(self) -> bool {
        self.has(Flags::SYN)
    }

    /// RST is set.
    #[inline]
    pub const fn rst(self) -> bool {
        self.has(Flags::RST)
    }

    /// ACK is set.
    #[inline]
    pub const fn ack(self) -> bool {
        self.has(Flags::ACK)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut first = true;
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{}{name}", if first { "" } else { "," })?;
                first = false;
            }
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// The timestamps option (RFC 7323 3): TSval and TSecr.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock, in milliseconds for this stack.
    pub val: u32,
    /// TSecr: the clock value that the sender echoes; meaningful only with ACK.
    pub ecr: u32,
}

/// The blocks of a SACK option (RFC 2018 3): at most four pairs of left and right edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlocks {
    /// How many of `blocks` count.
    pub count: u8,
    /// Left edge (first octet) and right edge (one past the last).
    pub blocks: [(Seq, Seq); 4],
}

impl SackBlocks {
    /// The blocks that count.
    #[inline]
    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.count.min(4))]
    }
}

/// The options of a segment that this stack understands; others are skipped (MUST-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Maximum segment size, on SYN only, bytes.
    pub mss: Option<u16>,
    /// Window scale shift, on SYN only, as received (RFC 7323 2.3 caps its use at 14).
    pub window_scale: Option<u8>,
    /// SACK permitted, on SYN only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
}

/// A segment as RFC 9293 speaks of it: the SEG variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; meaningful only with the ACK bit.
    pub ack: Seq,
    /// SEG.WND as the header holds it, unscaled.
    pub wnd: u16,
    /// SEG.UP; meaningful only with the URG bit.
    pub up: u16,
    /// The control bits.
    pub flags: Flags,
    /// The options.
    pub options: Options,
    /// Where the payload begins, bytes from the start of the frame.
    pub payload_offset: u16,
    /// Payload, bytes.
    pub payload_len: u16,
}

impl Segment {
    /// SEG.LEN: octets of sequence space, SYN and FIN counted.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.payload_len as u32 + self.flags.syn() as u32 + self.flags.fin() as u32
    }

    /// Whether the segment occupies no sequence space.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after the segment's last octet.
    #[inline]
    pub fn end(&self) -> Seq {
        self.seq + self.len()
    }
}
