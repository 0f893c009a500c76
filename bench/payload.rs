//! The bytes that go each way, all of them a function of connection id and incarnation, so that every byte can be checked
//! and a byte of another connection or of an earlier incarnation is noticed.
//!
//! A stream begins with a mark, the connection's id and its incarnation, 8 bytes each; whatever follows is a function
//! of these and of its place.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which connection: a slot of the client, and how often that slot has been used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Identity {
    /// The client's slot.
    pub connection: u64,
    /// Uses of the slot so far.
    pub incarnation: u64,
}

/// Whose bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The client's.
    Request,
    /// The server's.
    Response,
}

/// Length of request and response, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// Of a request.
    pub request: u32,
    /// Of a response.
    pub response: u32,
}

impl Default for Payload {
    fn default() -> Payload {
        Payload { request: 64, response: 64 }
    }
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Payload, String> {
        let length = |text: &str| text.parse().ok().filter(|length| (HEAD_BYTES as u32..=BYTES_MAX).contains(length));
        let sizes = text.split_once(':').and_then(|(request, response)| Some((length(request)?, length(response)?)));
        let (request, response) = sizes.ok_or_else(|| {
            format!("write it as REQUEST:RESPONSE, bytes from {HEAD_BYTES} to {BYTES_MAX} each, such as 64:64")
        })?;
        Ok(Payload { request, response })
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.request, self.response)
    }
}

/// Writes what stands from `offset` on.
#[inline]
pub(crate) fn fill(identity: Identity, side: Side, offset: u32, out: &mut [u8]) {
    let text = Text::new(identity, side);
    let (mut at, mut offset) = (0, offset);
    while at < out.len() {
        let (word, skip) = (text.word(offset / 8), (offset % 8) as usize);
        let count = (8 - skip).min(out.len() - at);
        out[at..at + count].copy_from_slice(&word[skip..skip + count]);
        (at, offset) = (at + count, offset + count as u32);
    }
}

/// Whether `bytes` are what stands from `offset` on.
#[inline]
pub(crate) fn is(identity: Identity, side: Side, offset: u32, bytes: &[u8]) -> bool {
    let text = Text::new(identity, side);
    let (mut at, mut offset) = (0, offset);
    while at < bytes.len() {
        let (word, skip) = (text.word(offset / 8), (offset % 8) as usize);
        let count = (8 - skip).min(bytes.len() - at);
        if bytes[at..at + count] != word[skip..skip + count] {
            return false;
        }
        (at, offset) = (at + count, offset + count as u32);
    }
    true
}

/// What bytes that came in amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// All are right so far, and more must come.
    More,
    /// The whole of it is there and right: whose it is.
    Complete(Identity),
    /// They are not what that connection sends.
    Wrong,
    /// More than there should be.
    TooMany,
}

/// A stream as it comes in, for one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Incoming {
    received: u32,
    head: [u8; HEAD_BYTES],
}

impl Incoming {
    /// Nothing has come yet.
    pub(crate) const NONE: Incoming = Incoming { received: 0, head: [0; HEAD_BYTES] };

    /// Bytes that have come.
    pub(crate) fn received(&self) -> u32 {
        self.received
    }

    /// Takes bytes of a stream of `len`, whose sender is known from the start.
    #[inline]
    pub(crate) fn take(&mut self, identity: Identity, side: Side, len: u32, bytes: &[u8]) -> Taken {
        let offset = self.received;
        self.received += bytes.len() as u32;
        if self.received > len {
            return Taken::TooMany;
        }
        if !is(identity, side, offset, bytes) {
            return Taken::Wrong;
        }
        if self.received == len { Taken::Complete(identity) } else { Taken::More }
    }

    /// Takes bytes of a stream of `len`, whose first bytes say who sends it.
    #[inline]
    pub(crate) fn take_from_anyone(&mut self, side: Side, len: u32, bytes: &[u8]) -> Taken {
        let have = self.received as usize;
        let of_head = HEAD_BYTES.saturating_sub(have).min(bytes.len());
        if of_head > 0 {
            self.head[have..have + of_head].copy_from_slice(&bytes[..of_head]);
        }
        if have + of_head < HEAD_BYTES {
            self.received += of_head as u32;
            return Taken::More;
        }
        let identity = self.identity();
        if of_head > 0 && self.head[..8] != mark(side).to_be_bytes() {
            self.received += bytes.len() as u32;
            return Taken::Wrong;
        }
        self.received += of_head as u32;
        self.take(identity, side, len, &bytes[of_head..])
    }

    /// Whose the stream says that it is; holds once its first 24 bytes have come.
    pub(crate) fn identity(&self) -> Identity {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.head[index * 8..index * 8 + 8]);
            u64::from_be_bytes(word)
        };
        Identity { connection: word(1), incarnation: word(2) }
    }
}

/// What a server remembers of each connection id, so that a request of an earlier incarnation is known as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// The newest incarnation by connection id.
    newest: Vec<u64>,
    /// Octets of earlier incarnations that were taken for the running one's.
    pub old_bytes: u64,
    /// Connections in which that happened.
    pub with_old_bytes: u64,
}

impl Ledger {
    /// A whole request has come.
    pub(crate) fn complete(&mut self, identity: Identity, len: u32) {
        let Some(newest) = self.newest(identity) else { return };
        if identity.incarnation <= *newest {
            self.old_bytes += u64::from(len);
            self.with_old_bytes += 1;
        } else {
            *newest = identity.incarnation;
        }
    }

    /// A request that says it is of `identity` went on with `bytes` that are not its own: those that an earlier incarnation may
    /// have sent are old.
    pub(crate) fn wrong(&mut self, identity: Identity, len: u32, bytes: &[u8]) {
        let Some(newest) = self.newest(identity).map(|newest| (*newest).max(identity.incarnation)) else { return };
        let mut text = vec![0; len as usize];
        let earlier =
            (newest.saturating_sub(REMEMBERED)..=newest).map(|incarnation| Identity { incarnation, ..identity });
        for old in earlier {
            fill(old, Side::Request, 0, &mut text);
            if !bytes.is_empty() && text.windows(bytes.len()).any(|part| part == bytes) {
                self.old_bytes += bytes.len() as u64;
                self.with_old_bytes += 1;
                return;
            }
        }
    }

    /// The place of a connection id; ids are small numbers, others are none of a client of this program.
    fn newest(&mut self, identity: Identity) -> Option<&mut u64> {
        let at = usize::try_from(identity.connection).ok().filter(|at| *at < CONNECTIONS_MAX)?;
        if at >= self.newest.len() {
            self.newest.resize(at + 1, 0);
        }
        self.newest.get_mut(at)
    }
}

struct Text {
    identity: Identity,
    mark: u64,
    key: u64,
}

impl Text {
    fn new(identity: Identity, side: Side) -> Text {
        let mark = mark(side);
        Text { identity, mark, key: mix(mark ^ mix(identity.connection ^ mix(identity.incarnation))) }
    }

    fn word(&self, number: u32) -> [u8; 8] {
        let value = match number {
            0 => self.mark,
            1 => self.identity.connection,
            2 => self.identity.incarnation,
            _ => mix(self.key ^ u64::from(number)),
        };
        value.to_be_bytes()
    }
}

fn mark(side: Side) -> u64 {
    match side {
        Side::Request => u64::from_be_bytes(*b"SYNFINrq"),
        Side::Response => u64::from_be_bytes(*b"SYNFINrs"),
    }
}

/// Mixes by one multiplication and a shift: enough that no two words are alike by chance, and cheap beside a segment.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(MULTIPLIER);
    value ^ (value >> 29)
}

/// Odd multiplier of the words behind the head.
const MULTIPLIER: u64 = 0xd134_2543_de82_ef95;
/// Mark, connection and incarnation, bytes: no stream is shorter.
const HEAD_BYTES: usize = 24;
/// Longest request or response, bytes: it fits a send buffer whole.
const BYTES_MAX: u32 = 65_536;
/// Earlier incarnations that wrong bytes are looked for in.
const REMEMBERED: u64 = 256;
/// Connection ids that a ledger remembers.
const CONNECTIONS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Identity = Identity { connection: 7, incarnation: 123_456 };

    fn bytes(identity: Identity, side: Side) -> [u8; 64] {
        let mut bytes = [0; 64];
        fill(identity, side, 0, &mut bytes);
        bytes
    }

    #[test]
    fn request_with_any_byte_changed_is_refused() {
        let good = bytes(NOW, Side::Request);
        assert_eq!(Incoming::default().take_from_anyone(Side::Request, 64, &good), Taken::Complete(NOW));
        for index in 0..64 {
            let mut bad = good;
            bad[index] ^= 1;
            let taken = Incoming::default().take_from_anyone(Side::Request, 64, &bad);
            assert!(!matches!(taken, Taken::Complete(_)), "byte {index}: {taken:?}");
        }
    }

    #[test]
    fn response_of_an_earlier_incarnation_is_refused() {
        let before = Identity { incarnation: 123_455, ..NOW };
        let neighbour = Identity { connection: 6, ..NOW };
        let take = |bytes: [u8; 64]| Incoming::default().take(NOW, Side::Response, 64, &bytes);
        assert_eq!(take(bytes(NOW, Side::Response)), Taken::Complete(NOW));
        for wrong in [(before, Side::Response), (neighbour, Side::Response), (NOW, Side::Request)] {
            assert_eq!(take(bytes(wrong.0, wrong.1)), Taken::Wrong, "{wrong:?}");
        }
    }

    #[test]
    fn payload_in_pieces_is_put_together_and_too_much_refused() {
        let whole = bytes(NOW, Side::Request);
        for cut in 0..=64 {
            let mut incoming = Incoming::NONE;
            let first = incoming.take_from_anyone(Side::Request, 64, &whole[..cut]);
            assert_eq!(first, if cut == 64 { Taken::Complete(NOW) } else { Taken::More }, "{cut}");
            if cut < 64 {
                assert_eq!(incoming.take_from_anyone(Side::Request, 64, &whole[cut..]), Taken::Complete(NOW), "{cut}");
            }
            assert_eq!(incoming.take_from_anyone(Side::Request, 64, &[0]), Taken::TooMany);
        }
    }

    #[test]
    fn a_request_of_an_earlier_incarnation_is_counted_as_old() {
        let mut ledger = Ledger::default();
        ledger.complete(NOW, 64);
        ledger.complete(Identity { incarnation: 123_457, ..NOW }, 64);
        assert_eq!((ledger.old_bytes, ledger.with_old_bytes), (0, 0));
        ledger.complete(NOW, 64);
        assert_eq!((ledger.old_bytes, ledger.with_old_bytes), (64, 1));
        let old = bytes(NOW, Side::Request);
        ledger.wrong(Identity { incarnation: 123_458, ..NOW }, 64, &old[40..60]);
        ledger.wrong(NOW, 64, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((ledger.old_bytes, ledger.with_old_bytes), (84, 2));
    }

    #[test]
    fn sizes_are_read_and_refused_with_a_reason() {
        assert_eq!("100:2000".parse(), Ok(Payload { request: 100, response: 2000 }));
        for bad in ["64", "8:64", "64:70000", "a:b", "64:64:64"] {
            assert!(bad.parse::<Payload>().expect_err(bad).contains("REQUEST:RESPONSE"), "{bad}");
        }
    }
}
