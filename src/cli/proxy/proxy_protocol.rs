//! The header by which a proxy tells a backend who the client is (the PROXY protocol specification, versions 1 and 2).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Which header backends get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum ProxyProtocol {
    /// None.
    #[default]
    None,
    /// Version 1, one line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// A header, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl ProxyProtocol {
    const ALL: [ProxyProtocol; 3] = [ProxyProtocol::None, ProxyProtocol::V1, ProxyProtocol::V2];

    pub(super) const fn name(self) -> &'static str {
        match self {
            ProxyProtocol::None => "none",
            ProxyProtocol::V1 => "v1",
            ProxyProtocol::V2 => "v2",
        }
    }

    pub(super) fn parse(text: &str) -> Result<ProxyProtocol, String> {
        let found = ProxyProtocol::ALL.into_iter().find(|version| version.name() == text);
        found.ok_or_else(|| format!("no PROXY protocol {text:?}: there are none, v1 and v2"))
    }

    /// The header of a connection from `client` to `local`, both of one IP version; empty for none.
    pub(super) fn relayed(self, client: SocketAddr, local: SocketAddr) -> Header {
        let mut header = Header::EMPTY;
        match (self, client.ip(), local.ip()) {
            (ProxyProtocol::None, ..) => {}
            (ProxyProtocol::V1, from, to) => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                header.write(format_args!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()));
            }
            (ProxyProtocol::V2, IpAddr::V4(from), IpAddr::V4(to)) => {
                header.begin_v2(PROXY, TCP_OVER_IPV4, 12);
                header.push(&from.octets());
                header.push(&to.octets());
                header.push_ports(client, local);
            }
            (ProxyProtocol::V2, IpAddr::V6(from), IpAddr::V6(to)) => {
                header.begin_v2(PROXY, TCP_OVER_IPV6, 36);
                header.push(&from.octets());
                header.push(&to.octets());
                header.push_ports(client, local);
            }
            // Two versions of IP on one connection do not occur; the receiver then uses the connection's own addresses.
            (ProxyProtocol::V2, ..) => return self.own(),
        }
        header
    }

    /// The header of a connection that is the proxy's own, such as a health check (2.1 UNKNOWN, 2.2 LOCAL).
    pub(super) fn own(self) -> Header {
        let mut header = Header::EMPTY;
        match self {
            ProxyProtocol::None => {}
            ProxyProtocol::V1 => header.push(b"PROXY UNKNOWN\r\n"),
            ProxyProtocol::V2 => header.begin_v2(LOCAL, UNSPECIFIED, 0),
        }
        header
    }
}

impl Header {
    const EMPTY: Header = Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn begin_v2(&mut self, command: u8, family: u8, addresses_bytes: u16) {
        self.push(&SIGNATURE);
        self.push(&[VERSION_2 | command, family]);
        self.push(&addresses_bytes.to_be_bytes());
    }

    fn push_ports(&mut self, client: SocketAddr, local: SocketAddr) {
        self.push(&client.port().to_be_bytes());
        self.push(&local.port().to_be_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let mut room = &mut self.bytes[..];
        // The longest line fits (2.1).
        let _ = room.write_fmt(text);
        self.len = HEADER_BYTES_MAX - room.len();
    }
}

/// The longest header: a line of version 1 is at most 107 bytes (2.1), version 2 over IPv6 has 52.
const HEADER_BYTES_MAX: usize = 108;

/// The first bytes of version 2 (2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

const VERSION_2: u8 = 0x20;

/// The connection is the proxy's own.
const LOCAL: u8 = 0;

/// The connection is relayed.
const PROXY: u8 = 1;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The examples of section 2.1.
    #[test]
    fn v1_is_the_line_of_the_specification() {
        let header = ProxyProtocol::V1.relayed(at("255.255.255.255:65535"), at("255.255.255.255:65535"));
        assert_eq!(header.bytes(), b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
        let all = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let header = ProxyProtocol::V1.relayed(at(all), at(all));
        let expected = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!((header.bytes(), header.bytes().len()), (expected.as_bytes(), 104));
        assert_eq!(ProxyProtocol::V1.own().bytes(), b"PROXY UNKNOWN\r\n");
    }

    /// Byte for byte by the tables of section 2.2.
    #[test]
    fn v2_is_signature_command_family_length_addresses_ports() {
        let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        let header = ProxyProtocol::V2.relayed(at("192.0.2.1:56324"), at("198.51.100.2:443"));
        let rest = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(header.bytes(), [&signature[..], &rest].concat());
        let header = ProxyProtocol::V2.relayed(at("[2001:db8::1]:1"), at("[2001:db8::2]:2"));
        let mut rest = vec![0x21, 0x21, 0, 36];
        for last in [1, 2] {
            rest.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        rest.extend([0, 1, 0, 2]);
        assert_eq!(header.bytes(), [&signature[..], &rest].concat());
        assert_eq!(ProxyProtocol::V2.own().bytes(), [&signature[..], &[0x20, 0, 0, 0]].concat());
    }

    #[test]
    fn none_is_nothing_and_names_parse_back() {
        assert!(ProxyProtocol::None.relayed(at("10.0.0.1:1"), at("10.0.0.2:2")).bytes().is_empty());
        assert!(ProxyProtocol::None.own().bytes().is_empty());
        for version in ProxyProtocol::ALL {
            assert_eq!(ProxyProtocol::parse(version.name()), Ok(version));
        }
        assert!(ProxyProtocol::parse("v3").unwrap_err().contains("v3"));
    }
}
