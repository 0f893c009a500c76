//! Each drop reason, reached by the smallest change to a good frame.

use super::*;
use crate::wire::{arp, icmp, ndp};
use std::vec;

const IP: usize = 14;
const TCP_V4: usize = IP + 20;
const TCP_V6: usize = IP + 40;

/// A good IPv4 frame, changed by `change` and with its checksums right again.
fn changed_v4(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = plain(&path_v4());
    change(&mut frame);
    fix_ipv4(&mut frame);
    let address = |at: usize| IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (src, dst) = (address(IP + 12), address(IP + 16));
    fix_upper(&mut frame, src, dst, 6, TCP_V4, 16);
    frame
}

/// A good segment whose option list is `list`, which must be a multiple of 4 long.
fn with_options(flags: Flags, list: &[u8]) -> Vec<u8> {
    let mut frame = changed_v4(|frame| {
        frame.truncate(TCP_V4 + 20);
        frame.extend_from_slice(list);
        frame[TCP_V4 + 12] = ((20 + list.len()) as u8) << 2;
        frame[TCP_V4 + 13] = flags.0;
        frame[IP + 3] = (40 + list.len()) as u8;
    });
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A good IPv6 frame with `extensions` before TCP; `next` names the first of them.
fn with_extensions(next: u8, extensions: &[u8]) -> Vec<u8> {
    let mut frame = plain(&path_v6());
    frame[IP + 6] = next;
    let len = (frame.len() - TCP_V6 + extensions.len()) as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    frame.splice(TCP_V6..TCP_V6, extensions.iter().copied());
    frame
}

/// The ICMP message `message` from them to us, with its checksum made.
fn icmp_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = plain(&path_v4());
    frame.truncate(TCP_V4);
    frame[IP + 9] = 1;
    frame[IP + 2..IP + 4].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
    fix_ipv4(&mut frame);
    frame.extend_from_slice(message);
    frame[TCP_V4 + 2..TCP_V4 + 4].fill(0);
    let checksum = crate::wire::checksum::Sum::default().bytes(&frame[TCP_V4..]).finish();
    frame[TCP_V4 + 2..TCP_V4 + 4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A solicitation for us, changed and with its checksum right again.
fn changed_solicitation(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = vec![0; 90];
    let len = ndp::emit_solicitation(&mut frame, THEIRS, None, THEIRS_V6, OURS_V6);
    frame.truncate(len);
    change(&mut frame);
    let at = |begin: usize| IpAddr::V6(crate::wire::ipv6::address(&frame, begin));
    let (src, dst) = (at(IP + 8), at(IP + 24));
    fix_upper(&mut frame, src, dst, 58, TCP_V6, 2);
    frame
}

/// Shows T16, T31.
#[test]
fn shorter_than_its_headers_is_truncated() {
    for path in [path_v4(), path_v6(), Path { vlan: Some(5), ..path_v4() }] {
        let frame = plain(&path);
        let expect = Expect { vlan: path.vlan, ..expect() };
        for len in 0..frame.len() {
            assert_eq!(parse(&frame[..len], &expect), Err(DropReason::Truncated), "{len} of {}", frame.len());
        }
    }
    let short = changed_v4(|frame| frame[IP + 3] = 39);
    assert_eq!(dropped(&short), DropReason::Truncated);
}

/// Shows T31.
#[test]
fn longer_than_the_mtu_is_too_long() {
    let options = Options::default();
    let payload = [0; 1461];
    assert!(parse(&frame(&path_v4(), &segment(&options), [&payload[..1460], b""]), &expect()).is_ok());
    assert_eq!(dropped(&frame(&path_v4(), &segment(&options), [&payload, b""])), DropReason::TooLong);
    let tagged = Path { vlan: Some(7), ..path_v4() };
    let expect = Expect { vlan: Some(7), ..expect() };
    assert!(parse(&frame(&tagged, &segment(&options), [&payload[..1460], b""]), &expect).is_ok());
}

#[test]
fn frame_for_another_or_a_group_is_not_our_mac() {
    assert_eq!(dropped(&plain(&Path { dst_mac: MacAddress([2, 9, 9, 9, 9, 9]), ..path_v4() })), DropReason::NotOurMac);
    for path in [path_v4(), path_v6()] {
        for dst_mac in [MacAddress::BROADCAST, MacAddress([0x33, 0x33, 0, 0, 0, 1])] {
            assert_eq!(dropped(&plain(&Path { dst_mac, ..path })), DropReason::NotOurMac);
        }
    }
}

#[test]
fn unknown_ether_type_is_dropped() {
    for ether_type in [0x88cc_u16, 0x0026] {
        let mut frame = plain(&path_v4());
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        assert_eq!(dropped(&frame), DropReason::EtherType);
    }
}

#[test]
fn tag_of_another_vlan_or_a_second_tag_is_dropped() {
    let on_five = Expect { vlan: Some(5), ..expect() };
    let tagged = plain(&Path { vlan: Some(5), ..path_v4() });
    assert!(parse(&tagged, &on_five).is_ok());
    assert_eq!(dropped(&tagged), DropReason::Vlan);
    assert_eq!(parse(&plain(&path_v4()), &on_five), Err(DropReason::Vlan));
    assert_eq!(parse(&plain(&Path { vlan: Some(6), ..path_v4() }), &on_five), Err(DropReason::Vlan));
    for ether_type in [0x8100_u16, 0x88a8] {
        let mut stacked = tagged.clone();
        stacked[16..18].copy_from_slice(&ether_type.to_be_bytes());
        assert_eq!(parse(&stacked, &on_five), Err(DropReason::Vlan));
        stacked[12..14].copy_from_slice(&0x88a8_u16.to_be_bytes());
        assert_eq!(parse(&stacked, &expect()), Err(DropReason::Vlan));
    }
}

#[test]
fn priority_tag_counts_as_no_tag() {
    let mut tagged = plain(&Path { vlan: Some(5), ..path_v4() });
    tagged[14..16].copy_from_slice(&0xe000_u16.to_be_bytes());
    assert!(parse(&tagged, &expect()).is_ok());
    assert_eq!(parse(&tagged, &Expect { vlan: Some(5), ..expect() }), Err(DropReason::Vlan));
}

/// Shows T16.
#[test]
fn ipv4_header_that_contradicts_itself_is_dropped() {
    for (at, value) in [(0, 0x65), (0, 0x44), (3, 19)] {
        let mut frame = plain(&path_v4());
        frame[IP + at] = value;
        assert_eq!(dropped(&frame), DropReason::Ipv4Header);
    }
}

/// Shows MUST-50.
#[test]
fn ipv4_options_are_skipped() {
    let mut frame = plain(&path_v4());
    frame[IP] = 0x47;
    frame[IP + 3] += 8;
    frame.splice(TCP_V4..TCP_V4, [0x94, 4, 0, 0, 1, 1, 1, 0]);
    fix_ipv4(&mut frame);
    let (packet, payload) = tcp_of(&frame, &expect());
    assert_eq!((packet.tuple.remote_port, payload), (40000, &b"12345678"[..]));
}

#[test]
fn wrong_ipv4_checksum_is_dropped_even_when_tcp_is_not_verified() {
    let mut frame = plain(&path_v4());
    frame[IP + 8] ^= 1;
    assert_eq!(parse(&frame, &Expect { verify_checksums: false, ..expect() }), Err(DropReason::Ipv4Checksum));
}

#[test]
fn fragments_are_dropped_t13() {
    for bits in [0x2000_u16, 0x2001, 0x0001, 0x1fff] {
        let frame = changed_v4(|frame| frame[IP + 6..IP + 8].copy_from_slice(&bits.to_be_bytes()));
        assert_eq!(dropped(&frame), DropReason::Fragment);
    }
    assert_eq!(dropped(&with_extensions(44, &[6, 0, 0, 1, 0, 0, 0, 0])), DropReason::Fragment);
}

#[test]
fn ipv6_extensions_that_may_be_skipped_are() {
    let chain = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[60, 0, 4, 0, 0, 0, 0, 0], &[6, 0, 0x1e, 1, 9, 0, 0, 0]].concat();
    let (packet, payload) = tcp_of_v6(&with_extensions(0, &chain));
    assert_eq!((packet.tuple.local_port, payload), (80, b"12345678".to_vec()));
}

fn tcp_of_v6(frame: &[u8]) -> (TcpPacket, Vec<u8>) {
    let (packet, payload) = tcp_of(frame, &expect());
    (packet, payload.to_vec())
}

#[test]
fn ipv6_extensions_that_must_not_be_skipped_drop_the_packet() {
    let pad = [0, 1, 4, 0, 0, 0, 0];
    let extension = |next: u8| [&[next][..], &pad].concat();
    let ninefold = [extension(60).repeat(8), extension(6)].concat();
    let bad = [
        // Segments left.
        (43, vec![6, 0, 0, 1, 0, 0, 0, 0]),
        // An option that says "discard", and one longer than its header.
        (60, vec![6, 0, 0xc2, 4, 0, 0, 0, 0]),
        (60, vec![6, 0, 1, 9, 0, 0, 0, 0]),
        // Hop-by-hop not first.
        (60, [extension(0), extension(6)].concat()),
        (60, ninefold),
    ];
    for (next, extensions) in bad {
        assert_eq!(dropped(&with_extensions(next, &extensions)), DropReason::Ipv6Header, "{extensions:?}");
    }
    let mut version = plain(&path_v6());
    version[IP] = 0x40;
    assert_eq!(dropped(&version), DropReason::Ipv6Header);
    assert_eq!(dropped(&with_extensions(60, &[6, 200, 1, 4, 0, 0, 0, 0])), DropReason::Truncated);
}

#[test]
fn unknown_protocol_is_dropped() {
    let mut frame = plain(&path_v4());
    frame[IP + 9] = 17;
    fix_ipv4(&mut frame);
    assert_eq!(dropped(&frame), DropReason::Protocol);
    let mut frame = plain(&path_v6());
    frame[IP + 6] = 59;
    assert_eq!(dropped(&frame), DropReason::Protocol);
}

/// Shows MUST-57, MUST-63.
#[test]
fn addresses_that_no_segment_may_have_are_dropped_t17_t18() {
    let v4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"];
    let v6 = ["::", "::1", "ff02::1", "::ffff:10.0.0.9"];
    for (bad, path) in v4.iter().map(|bad| (bad, path_v4())).chain(v6.iter().map(|bad| (bad, path_v6()))) {
        let bad: IpAddr = bad.parse().unwrap();
        assert_eq!(dropped(&plain(&between(bad, path.addresses.remote(), path))), DropReason::Address, "from {bad}");
        assert_eq!(dropped(&plain(&between(path.addresses.local(), bad, path))), DropReason::Address, "to {bad}");
    }
    for path in [path_v4(), path_v6()] {
        assert_eq!(
            dropped(&plain(&between(path.addresses.remote(), path.addresses.remote(), path))),
            DropReason::Address
        );
        assert_eq!(dropped(&plain(&Path { src_mac: MacAddress::BROADCAST, ..path })), DropReason::Address);
    }
}

/// Shows B23.
#[test]
fn data_offset_below_5_or_past_the_segment_is_dropped_t16() {
    for offset in [0, 4, 8, 15] {
        let frame = changed_v4(|frame| frame[TCP_V4 + 12] = offset << 4);
        assert_eq!(dropped(&frame), DropReason::TcpDataOffset);
    }
    assert!(parse(&changed_v4(|frame| frame[TCP_V4 + 12] = 5 << 4 | 0x0f), &expect()).is_ok(), "reserved bits");
}

/// Shows MUST-7.
#[test]
fn malformed_options_are_dropped_t14() {
    let bad: [&[u8]; 9] = [
        &[8, 0, 0, 0],
        &[254, 1, 0, 0],
        &[254, 5, 0, 0],
        &[1, 1, 1, 2],
        &[2, 3, 5, 0],
        &[3, 4, 7, 0],
        &[4, 3, 0, 0],
        &[5, 6, 0, 0, 0, 0, 0, 0],
        &[8, 8, 0, 0, 0, 0, 0, 0],
    ];
    for list in bad {
        for flags in [Flags::SYN, Flags::ACK] {
            assert_eq!(dropped(&with_options(flags, list)), DropReason::TcpOptions, "{list:?}");
        }
    }
}

/// Shows MUST-4, MUST-6, MUST-64, MUST-68, B23.
#[test]
fn odd_options_are_read_or_skipped() {
    let of = |flags, list: &[u8]| tcp_of(&with_options(flags, list), &expect()).0.segment.options;
    // Unaligned (MUST-64), with an unknown one between, and nothing after the end counts.
    let odd = of(Flags::SYN, &[1, 2, 4, 5, 180, 253, 3, 9, 3, 3, 7, 4, 2, 0, 2, 0]);
    assert_eq!(odd, Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..Options::default() });
    assert_eq!(of(Flags::ACK, &[2, 4, 5, 180, 3, 3, 7, 4, 2, 0, 0, 0]), Options::default(), "without SYN");
    assert_eq!(of(Flags::SYN, &[2, 4, 5, 180, 2, 4, 2, 24]).mss, Some(536), "the last one counts");
    assert_eq!(of(Flags::ACK, &[1; 40]), Options::default());
    let sack_of = |flags, list: &[u8]| {
        let frame = with_options(flags, list);
        tcp_of(&frame, &expect()).0.segment.sack_blocks(&frame)
    };
    let blocks = [5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1];
    assert_eq!(sack_of(Flags::SYN, &blocks).as_slice(), []);
    assert_eq!(sack_of(Flags::ACK, &blocks).as_slice(), [(Seq(1), Seq(2))]);
}

/// Shows MUST-3, T31.
#[test]
fn wrong_tcp_checksum_is_dropped_unless_not_verified() {
    for path in [path_v4(), path_v6()] {
        let mut frame = plain(&path);
        *frame.last_mut().unwrap() ^= 0x40;
        assert_eq!(dropped(&frame), DropReason::TcpChecksum);
        assert!(parse(&frame, &Expect { verify_checksums: false, ..expect() }).is_ok());
    }
}

#[test]
fn checksum_left_to_hardware_is_told_apart() {
    // The field as a kernel leaves it for offload: the pseudo-header's sum, folded by hand, not complemented.
    let sum_of = |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    for (path, at, addresses) in [(path_v4(), TCP_V4, 12..20), (path_v6(), TCP_V6, 8..40)] {
        let mut frame = plain(&path);
        let sum = sum_of(&frame[IP + addresses.start..IP + addresses.end]) + 6 + (frame.len() - at) as u32;
        let folded = ((sum >> 16) + (sum & 0xffff)) as u16;
        frame[at + 16..at + 18].copy_from_slice(&folded.to_be_bytes());
        assert_eq!(dropped(&frame), DropReason::TcpChecksumPartial);
    }
}

#[test]
fn port_0_is_dropped() {
    for at in [0, 2] {
        assert_eq!(dropped(&changed_v4(|frame| frame[TCP_V4 + at..TCP_V4 + at + 2].fill(0))), DropReason::TcpPort);
    }
}

#[test]
fn malformed_icmp_is_dropped() {
    let mut wrong_checksum = icmp_frame(&[8, 0, 0, 0, 1, 2, 3, 4]);
    wrong_checksum[TCP_V4 + 4] ^= 1;
    assert_eq!(dropped(&wrong_checksum), DropReason::Icmp);
    let mut quote = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote_v4()].concat();
    quote.pop();
    assert_eq!(dropped(&icmp_frame(&quote)), DropReason::Icmp, "less than 8 bytes of TCP quoted");
    assert_eq!(dropped(&icmp_frame(&[3, 1, 0, 0, 0, 0, 0, 0, 0x41])), DropReason::Icmp);
}

#[test]
fn icmp_that_asks_nothing_is_ignored() {
    assert_eq!(dropped(&icmp_frame(&[0, 0, 0, 0, 1, 2, 3, 4])), DropReason::IcmpIgnored);
    assert_eq!(dropped(&icmp_frame(&[13, 0, 0, 0, 1, 2, 3, 4])), DropReason::IcmpIgnored);
    let error = |change: fn(&mut [u8])| {
        let mut quote = quote_v4();
        change(&mut quote);
        dropped(&icmp_frame(&[&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote].concat()))
    };
    assert_eq!(error(|quote| quote[9] = 17), DropReason::IcmpIgnored, "not about TCP");
    assert_eq!(error(|quote| quote[7] = 1), DropReason::IcmpIgnored, "about a later fragment");
    assert_eq!(error(|quote| quote[15] = 99), DropReason::IcmpIgnored, "about a segment from elsewhere");
}

/// The first 28 bytes of a segment from us to them.
fn quote_v4() -> Vec<u8> {
    let path = between(OURS_V4, THEIRS_V4, path_v4());
    plain(&path)[IP..IP + 28].to_vec()
}

#[test]
fn icmp_errors_are_read_with_the_segment_they_quote() {
    let of = |kind: u8, code: u8, rest: [u8; 4]| {
        let message = [&[kind, code, 0, 0][..], &rest, &quote_v4()].concat();
        match parse(&icmp_frame(&message), &expect()) {
            Ok(Parsed::IcmpError(error)) => error,
            other => panic!("not an error: {other:?}"),
        }
    };
    let hard = of(3, 3, [0; 4]);
    assert_eq!((hard.kind, hard.is_hard()), (icmp::ErrorKind::Unreachable { code: 3 }, true));
    assert_eq!((hard.from, hard.src_mac), (THEIRS_V4.into(), THEIRS));
    let quoted = icmp::Quoted {
        src: OURS_V4.into(),
        dst: THEIRS_V4.into(),
        src_port: 40000,
        dst_port: 80,
        seq: Seq(0x01020304),
    };
    assert_eq!(hard.quoted, quoted);
    assert!(!of(3, 1, [0; 4]).is_hard());
    assert_eq!(of(3, 4, [0, 0, 5, 0]).kind, icmp::ErrorKind::TooBig { mtu: 1280 });
    assert_eq!(of(4, 0, [0; 4]).kind, icmp::ErrorKind::SourceQuench);
    assert_eq!(of(11, 0, [0; 4]).kind, icmp::ErrorKind::TimeExceeded);
    assert_eq!(of(12, 0, [0; 4]).kind, icmp::ErrorKind::ParameterProblem);
}

#[test]
fn malformed_arp_is_dropped() {
    let mut good = vec![0; 60];
    arp::emit_request(&mut good, THEIRS, None, THEIRS_V4, OURS_V4);
    assert!(parse(&good, &expect()).is_ok());
    for (at, value) in [(1, 6), (2, 9), (4, 8), (5, 16), (7, 3), (8, 0x01), (14, 224), (14, 127)] {
        let mut bad = good.clone();
        bad[IP + at] = value;
        assert_eq!(dropped(&bad), DropReason::Arp, "byte {at} = {value}");
    }
    let mut nobody = good.clone();
    nobody[IP + 8..IP + 14].fill(0);
    assert_eq!(dropped(&nobody), DropReason::Arp);
}

#[test]
fn malformed_neighbour_discovery_is_dropped() {
    assert!(parse(&changed_solicitation(|_| {}), &expect()).is_ok());
    // Hop limit, code, multicast target, option length 0, option past the end, group as link address, loopback source.
    for (at, value) in [(IP + 7, 254), (TCP_V6 + 1, 1), (TCP_V6 + 8, 0xff), (TCP_V6 + 25, 0), (TCP_V6 + 25, 2)] {
        assert_eq!(dropped(&changed_solicitation(|frame| frame[at] = value)), DropReason::Ndp, "byte {at} = {value}");
    }
    assert_eq!(dropped(&changed_solicitation(|frame| frame[TCP_V6 + 26] = 0x33)), DropReason::Ndp);
    let looped = changed_solicitation(|frame| frame[IP + 8..IP + 24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()));
    assert_eq!(dropped(&looped), DropReason::Ndp);
    // An unspecified source tells no link address.
    let detects = changed_solicitation(|frame| frame[IP + 8..IP + 24].fill(0));
    assert_eq!(dropped(&detects), DropReason::Ndp);
    let mut corrupt = changed_solicitation(|_| {});
    corrupt[TCP_V6 + 20] ^= 1;
    assert_eq!(dropped(&corrupt), DropReason::Ndp);
}

#[test]
fn every_reason_of_this_module_is_told_by_a_test_above() {
    let above = include_str!("drops.rs");
    for reason in DropReason::ALL {
        // Whose addresses are ours is not for this module to know.
        let told = above.contains(&std::format!("DropReason::{reason:?}"));
        assert!(told || *reason == DropReason::NotOurAddress, "{reason:?}");
    }
}
