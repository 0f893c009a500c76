//! TCP segments (RFC 9293 3.1), their options (RFC 9293 3.2, RFC 2018, RFC 7323) and their bytes.

use super::checksum::Sum;
use super::{Network, PROTOCOL_TCP, Path, TcpPacket, be16, be32, emit_headers, ethernet};
use crate::counters::DropReason;
use crate::four_tuple::{Addresses, FourTuple};
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

/// Where SACK blocks lie in a frame. Few segments have any, so they are read when asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackPlace {
    /// The first block, bytes from the start of the frame.
    pub offset: u16,
    /// How many there are, at most 4.
    pub count: u8,
}

/// The options of a segment that this stack understands, but for SACK blocks; others are skipped (MUST-6).
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
}

impl Options {
    /// Whether any option is present that only a SYN may carry.
    #[inline]
    const fn has_syn_options(&self) -> bool {
        self.mss.is_some() || self.window_scale.is_some() || self.sack_permitted
    }
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
    /// Where its SACK blocks lie.
    pub sack: SackPlace,
    /// Where the payload begins, bytes from the start of the frame.
    pub payload_offset: u16,
    /// Payload, bytes.
    pub payload_len: u16,
}

impl Segment {
    /// The text, in the frame that the segment was read from; nothing of any other.
    #[inline]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let from = usize::from(self.payload_offset);
        frame.get(from..from + usize::from(self.payload_len)).unwrap_or_default()
    }

    /// The SACK blocks (RFC 2018 3), in the frame that the segment was read from; none of any other.
    pub fn sack_blocks(&self, frame: &[u8]) -> SackBlocks {
        let SackPlace { offset, count } = self.sack;
        let from = usize::from(offset);
        let list = frame.get(from..from + 8 * usize::from(count)).unwrap_or_default();
        let mut sack = SackBlocks::default();
        for (block, edges) in sack.blocks.iter_mut().zip(list.chunks_exact(8)) {
            *block = (Seq(be32(edges, 0)), Seq(be32(edges, 4)));
            sack.count += 1;
        }
        sack
    }

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

/// A segment to be sent. The checksum and the data offset are made by [`emit`].
#[derive(Clone, Copy, Debug)]
pub struct SegmentOut<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; give 0 without the ACK bit.
    pub ack: Seq,
    /// SEG.WND as the header holds it, scaled by the caller.
    pub wnd: u16,
    /// SEG.UP; give 0 without the URG bit.
    pub up: u16,
    /// The control bits.
    pub flags: Flags,
    /// The options. Those for SYNs only are left out without the SYN bit (MUST-65).
    pub options: &'a Options,
    /// SACK blocks, left and right edge; left out with the SYN bit, and those for which there is no room.
    pub sack: &'a [(Seq, Seq)],
}

/// Bytes of the header without options.
pub const HEADER_BYTES: usize = 20;

/// Bytes of the longest option list.
pub const OPTIONS_BYTES_MAX: usize = 40;

/// Reads the segment of a packet whose network header was accepted.
#[inline(always)]
pub(super) fn parse(frame: &[u8], network: Network, verify_checksum: bool) -> Result<TcpPacket, DropReason> {
    let (begin, end) = network.upper;
    let bytes = &frame[begin..end];
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
    let data_at = usize::from(header[12] >> 4) * 4;
    if data_at < HEADER_BYTES || data_at > bytes.len() {
        return Err(DropReason::TcpDataOffset);
    }
    if verify_checksum && !checksum_of(header, &bytes[HEADER_BYTES..], network.pseudo).is_valid() {
        let partial = be16(header, 16) == network.pseudo.fold();
        return Err(if partial { DropReason::TcpChecksumPartial } else { DropReason::TcpChecksum });
    }
    let (src_port, dst_port) = (be16(header, 0), be16(header, 2));
    if src_port == 0 || dst_port == 0 {
        return Err(DropReason::TcpPort);
    }
    let flags = Flags(header[13]);
    let (options, sack) = parse_options(&bytes[HEADER_BYTES..data_at], begin + HEADER_BYTES, flags.syn())?;
    let segment = Segment {
        seq: Seq(be32(header, 4)),
        ack: Seq(be32(header, 8)),
        wnd: be16(header, 14),
        up: be16(header, 18),
        flags,
        options,
        sack,
        payload_offset: (begin + data_at) as u16,
        payload_len: (bytes.len() - data_at) as u16,
    };
    let Network { addresses, dscp_ecn, .. } = network;
    let tuple = FourTuple { addresses, local_port: dst_port, remote_port: src_port };
    Ok(TcpPacket { tuple, dscp_ecn, segment })
}

/// The sum of a segment. The usual options alone are added without a loop.
#[inline(always)]
pub(super) fn checksum_of(header: &[u8; HEADER_BYTES], rest: &[u8], pseudo: Sum) -> Sum {
    let sum = pseudo.array(header);
    if let Some(options) = rest.as_array::<TIMESTAMPS_AND_NOPS>() {
        sum.array(options)
    } else if let Some(options) = rest.as_array::<USUAL_SYN_OPTIONS>() {
        sum.array(options)
    } else {
        sum.bytes(rest)
    }
}

/// Writes a whole frame: Ethernet, IP, TCP, options, then the two slices of `payload` one after the other. Returns its
/// length, padded to [`ethernet::FRAME_BYTES_MIN`].
///
/// Panics if `frame` is shorter than that length, which is [`Path::headers_len`] + [`HEADER_BYTES`] + [`options_len`] +
/// the payload before padding.
#[inline(always)]
pub fn emit(frame: &mut [u8], path: &Path, segment: &SegmentOut<'_>, payload: &[&[u8]; 2]) -> usize {
    // Nearly every frame has this shape: what is known of it is not asked again, and its headers have fixed places.
    if let (&Path { vlan: None, addresses: Addresses::V4 { local, remote }, .. }, []) = (path, segment.sack) {
        let path = Path { vlan: None, addresses: Addresses::V4 { local, remote }, ..*path };
        write(frame, &path, &SegmentOut { sack: &[], ..*segment }, payload)
    } else {
        // Copies: what has an address is kept in memory, for the others too.
        write_any(frame, &{ *path }, &{ *segment }, payload)
    }
}

#[inline(never)]
fn write_any(frame: &mut [u8], path: &Path, segment: &SegmentOut<'_>, payload: &[&[u8]; 2]) -> usize {
    write(frame, path, segment, payload)
}

#[inline(always)]
fn write(frame: &mut [u8], path: &Path, segment: &SegmentOut<'_>, payload: &[&[u8]; 2]) -> usize {
    let present = Present::of(segment.options, segment.sack, segment.flags.syn());
    let data_at = HEADER_BYTES + present.len();
    let segment_len = data_at + payload[0].len() + payload[1].len();
    // One look at the length for all that follows.
    let frame = &mut frame[..(path.headers_len() + segment_len).max(ethernet::FRAME_BYTES_MIN)];
    let (begin, pseudo) = emit_headers(frame, path, PROTOCOL_TCP, segment_len);
    let bytes = &mut frame[begin..begin + segment_len];
    let ports = u32::from(segment.src_port) << 16 | u32::from(segment.dst_port);
    let offset_flags = (data_at as u32) << 26 | u32::from(segment.flags.0) << 16;
    let words = [ports, segment.seq.0, segment.ack.0, offset_flags | u32::from(segment.wnd), segment.up.into()];
    let sum = pseudo.emit(bytes, words);
    let (options, text) = bytes[HEADER_BYTES..].split_at_mut(data_at - HEADER_BYTES);
    let mut sum = present.emit(options, sum);
    // Most segments carry nothing, and a copy of unknown length is a call.
    if !text.is_empty() {
        let (first, second) = text.split_at_mut(payload[0].len());
        first.copy_from_slice(payload[0]);
        if !second.is_empty() {
            second.copy_from_slice(payload[1]);
        }
        sum = sum.bytes(text);
    }
    bytes[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    ethernet::pad(frame, begin + segment_len)
}

/// Bytes that [`emit`] spends on `options` and SACK blocks, a multiple of 4 (MUST-69); at most [`OPTIONS_BYTES_MAX`].
///
/// Options that only a SYN may carry are taken to mean that it is one. Beside timestamps at most three SACK blocks fit
/// (RFC 2018 3); more are left out.
#[inline]
pub fn options_len(options: &Options, sack: &[(Seq, Seq)]) -> usize {
    Present::of(options, sack, options.has_syn_options()).len()
}

/// Reads the option list of a segment, which begins `at` bytes into the frame. Every step consumes a byte of at most 40, so
/// time is bounded (T14).
///
/// Unknown options are skipped by their length (MUST-6, MUST-68). Of an option that comes twice the last one counts.
/// Options that only a SYN may carry are skipped without it, SACK blocks with it.
#[inline(always)]
fn parse_options(list: &[u8], at: usize, syn: bool) -> Result<(Options, SackPlace), DropReason> {
    if let Some(timestamps) = list.as_array().and_then(timestamps_only) {
        let options = Options { timestamps: Some(timestamps), ..Options::default() };
        return Ok((options, SackPlace::default()));
    }
    if list.is_empty() { Ok(Default::default()) } else { parse_option_list(list, at, syn) }
}

/// The timestamps in an option list of the shape that nearly every segment with timestamps has (RFC 7323 A).
#[inline(always)]
pub(super) fn timestamps_only(list: &[u8; TIMESTAMPS_AND_NOPS]) -> Option<Timestamps> {
    let usual = be32(list, 0) == be([NOP, NOP, TIMESTAMPS, TIMESTAMPS_BYTES]);
    usual.then(|| Timestamps { val: be32(list, 4), ecr: be32(list, 8) })
}

/// Any other shape. Not inlined: it takes the address of what it fills, which would keep every segment in memory.
#[inline(never)]
fn parse_option_list(list: &[u8], at: usize, syn: bool) -> Result<(Options, SackPlace), DropReason> {
    if let (true, Some(options)) = (syn, list.as_array().and_then(usual_syn_options)) {
        return Ok((options, SackPlace::default()));
    }
    let (mut options, mut sack) = <(Options, SackPlace)>::default();
    let mut rest = list;
    while let [kind, after @ ..] = rest {
        rest = match *kind {
            END => break,
            NOP => after,
            kind => {
                let len = usize::from(*after.first().ok_or(DropReason::TcpOptions)?);
                // The length counts kind and length: 0 and 1 cannot be (MUST-7).
                let value = rest.get(2..len).ok_or(DropReason::TcpOptions)?;
                if !syn && matches!((kind, value.len()), (SACK, 8 | 16 | 24 | 32)) {
                    let offset = (at + list.len() - rest.len() + 2) as u16;
                    sack = SackPlace { offset, count: (value.len() / 8) as u8 };
                }
                parse_option(&mut options, kind, value, syn)?;
                &rest[len..]
            }
        };
    }
    Ok((options, sack))
}

/// The option list of a SYN in the shape that Linux and this stack give it: MSS, SACK permitted, timestamps, window scale.
#[inline]
pub(super) fn usual_syn_options(list: &[u8; USUAL_SYN_OPTIONS]) -> Option<Options> {
    let [mss, lead, val, ecr, scale] = [0, 4, 8, 12, 16].map(|at| be32(list, at));
    let usual = mss >> 16 == be([0, 0, MSS, 4])
        && lead == be([SACK_PERMITTED, 2, TIMESTAMPS, TIMESTAMPS_BYTES])
        && scale >> 8 == be([0, NOP, WINDOW_SCALE, 3]);
    usual.then_some(Options {
        mss: Some(mss as u16),
        window_scale: Some(scale as u8),
        sack_permitted: true,
        timestamps: Some(Timestamps { val, ecr }),
    })
}

/// Notes one option with the bytes after its length.
#[inline]
fn parse_option(options: &mut Options, kind: u8, value: &[u8], syn: bool) -> Result<(), DropReason> {
    match (kind, value.len()) {
        (MSS, 2) if syn => options.mss = Some(be16(value, 0)),
        (WINDOW_SCALE, 1) if syn => options.window_scale = Some(value[0]),
        (SACK_PERMITTED, 0) if syn => options.sack_permitted = true,
        (TIMESTAMPS, 8) => options.timestamps = Some(Timestamps { val: be32(value, 0), ecr: be32(value, 4) }),
        (MSS, 2) | (WINDOW_SCALE, 1) | (SACK_PERMITTED, 0) | (SACK, 8 | 16 | 24 | 32) => {}
        (MSS | WINDOW_SCALE | SACK_PERMITTED | SACK | TIMESTAMPS, _) => return Err(DropReason::TcpOptions),
        _ => {}
    }
    Ok(())
}

/// The options that a segment really carries.
struct Present<'a> {
    options: &'a Options,
    syn: bool,
    sack: &'a [(Seq, Seq)],
}

impl<'a> Present<'a> {
    #[inline]
    fn of(options: &'a Options, sack: &'a [(Seq, Seq)], syn: bool) -> Present<'a> {
        let blocks = if syn { &[] } else { sack };
        let blocks_max = if options.timestamps.is_some() { 3 } else { 4 };
        Present { options, syn, sack: &blocks[..blocks.len().min(blocks_max)] }
    }

    /// Bytes in the header. Every option or pair of them is filled up to 4 bytes, so nothing is left to pad.
    #[inline]
    fn len(&self) -> usize {
        let options = self.options;
        let timestamps = if options.timestamps.is_some() { 12 } else { 0 };
        if self.syn {
            let mss = if options.mss.is_some() { 4 } else { 0 };
            let window_scale = if options.window_scale.is_some() { 4 } else { 0 };
            let sack_permitted = if options.sack_permitted && options.timestamps.is_none() { 4 } else { 0 };
            mss + sack_permitted + timestamps + window_scale
        } else if self.sack.is_empty() {
            timestamps
        } else {
            timestamps + 4 + 8 * self.sack.len()
        }
    }

    /// Writes the options and adds them. SYN: MSS, SACK permitted, timestamps, NOP and window scale; else NOP, NOP and
    /// timestamps, NOP, NOP and SACK. `list` has [`Present::len`] bytes.
    #[inline(always)]
    fn emit(&self, list: &mut [u8], sum: Sum) -> Sum {
        let options = self.options;
        let mut list = List { rest: list, sum };
        if self.syn {
            if let Some(mss) = options.mss {
                list.put([be([MSS, 4, 0, 0]) | u32::from(mss)]);
            }
            if options.sack_permitted && options.timestamps.is_none() {
                list.put([be([NOP, NOP, SACK_PERMITTED, 2])]);
            }
        }
        if let Some(timestamps) = options.timestamps {
            // SACK permitted takes the place of the two NOPs.
            let lead = if self.syn && options.sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
            list.put([be([lead[0], lead[1], TIMESTAMPS, TIMESTAMPS_BYTES]), timestamps.val, timestamps.ecr]);
        }
        if self.syn
            && let Some(shift) = options.window_scale
        {
            list.put([be([NOP, WINDOW_SCALE, 3, shift])]);
        }
        if !self.sack.is_empty() {
            list.put([be([NOP, NOP, SACK, (2 + 8 * self.sack.len()) as u8])]);
            for (left, right) in self.sack {
                list.put([left.0, right.0]);
            }
        }
        debug_assert!(list.rest.is_empty(), "the option list was measured wrongly");
        list.sum
    }
}

/// An option list that is being written, word by word.
struct List<'a> {
    rest: &'a mut [u8],
    sum: Sum,
}

impl List<'_> {
    #[inline]
    fn put<const WORDS: usize>(&mut self, words: [u32; WORDS]) {
        let (place, rest) = core::mem::take(&mut self.rest).split_at_mut(4 * WORDS);
        self.sum = self.sum.emit(place, words);
        self.rest = rest;
    }
}

/// Bytes of the option list of the usual SYN.
pub(super) const USUAL_SYN_OPTIONS: usize = 20;

/// Four bytes as a word.
const fn be(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes)
}

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// Length of the timestamps option.
const TIMESTAMPS_BYTES: u8 = 10;
/// The same with the two NOPs that fill it up.
pub(super) const TIMESTAMPS_AND_NOPS: usize = 12;
