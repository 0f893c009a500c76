//! Netlink messages as bytes (netlink(7)): built field by field, read at checked offsets.

use super::sys;
use std::io;

/// A request under construction.
#[derive(Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A request of `kind` with NLM_F_REQUEST and `flags`, whose header is followed by `fixed`.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Request(bytes)
    }

    /// With one attribute more.
    #[must_use]
    pub(super) fn with(mut self, attribute: u16, value: &[u8]) -> Request {
        let len = ATTRIBUTE_BYTES + value.len();
        self.0.extend_from_slice(&(len as u16).to_ne_bytes());
        self.0.extend_from_slice(&attribute.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Its bytes, with its length.
    pub(super) fn bytes(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }

    /// Sends it and returns the body of the message that answers it.
    pub(super) fn ask(self, protocol: i32) -> io::Result<Vec<u8>> {
        body(&sys::ask_netlink(protocol, &self.bytes())?).map(<[u8]>::to_vec)
    }
}

/// What follows the header of the first message of `packet`; an error message is an error.
pub(super) fn body(packet: &[u8]) -> io::Result<&[u8]> {
    let (kind, body) = messages(packet).next().ok_or_else(malformed)?;
    if i32::from(kind) != libc::NLMSG_ERROR {
        return Ok(body);
    }
    match read_u32(body, 0).ok_or_else(malformed)? as i32 {
        0 => Ok(&[]),
        errno => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
    }
}

/// The messages (type, what follows the header) of `packet`; ends at the first that is malformed.
pub(super) fn messages(mut packet: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = read_u32(packet, 0)? as usize;
        let kind = read_u16(packet, 4)?;
        let body = packet.get(HEADER_BYTES..len)?;
        packet = packet.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes (type, value) in `bytes`; ends at the first that is malformed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(bytes, 0)?);
        let attribute = read_u16(bytes, 2)? & ATTRIBUTE_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute, value))
    })
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn malformed() -> io::Error {
    io::Error::other("the kernel's answer is cut short")
}

/// Netlink attribute types without their flag bits (NLA_TYPE_MASK).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// Bytes of `nlmsghdr`, and of an attribute's length and type.
const HEADER_BYTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_reads_back_and_cut_anywhere_is_no_panic() {
        let request = Request::new(18, 0, &[1; 16]).with(3, b"eth0\0").with(29, &[8, 0, 0, 0]).bytes();
        let (kind, body) = messages(&request).next().unwrap();
        assert_eq!((kind, &body[..16]), (18, &[1; 16][..]));
        let attributes: Vec<_> = attributes(&body[16..]).collect();
        assert_eq!(attributes, [(3, &b"eth0\0"[..]), (29, &[8, 0, 0, 0])]);
        for len in 0..request.len() {
            assert!(messages(&request[..len]).next().is_none());
        }
    }

    #[test]
    fn error_message_is_its_errno() {
        let refused = Request::new(libc::NLMSG_ERROR as u16, 0, &(-libc::EPERM).to_ne_bytes()).bytes();
        assert_eq!(body(&refused).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(body(&[]).is_err());
    }
}
