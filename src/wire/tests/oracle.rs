//! etherparse as the oracle: it reads what is emitted here, and what it builds is read here.

use super::*;
use crate::wire::{arp, ethernet, icmp, ndp, tcp::Timestamps};
use etherparse::{
    ArpOperation, Icmpv4Type, Icmpv6Type, IpHeaders, LinkExtHeader, NetHeaders, PacketBuilder, PacketHeaders,
    TcpOptionElement, TransportHeader,
};
use std::vec;

fn read(frame: &[u8]) -> PacketHeaders<'_> {
    PacketHeaders::from_ethernet_slice(frame).expect("etherparse reads the frame")
}

fn read_tcp<'a>(headers: &'a PacketHeaders<'_>) -> (&'a etherparse::TcpHeader, &'a [u8]) {
    match &headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp, headers.payload.slice()),
        other => panic!("not TCP: {other:?}"),
    }
}

/// Shows MUST-2.
#[test]
fn etherparse_reads_an_emitted_segment_alike() {
    let options = Options { timestamps: Some(Timestamps { val: 7, ecr: 9 }), ..Options::default() };
    for path in [path_v4(), path_v6()].map(|path| Path { vlan: Some(0x123), dscp_ecn: 0x2a, ..path }) {
        let out = SegmentOut { flags: Flags::ACK | Flags::PSH | Flags::FIN, up: 3, ..segment(&options) };
        let frame = frame(&path, &out, [b"abc", b"defgh"]);
        let headers = read(&frame);
        let link = headers.link.as_ref().unwrap().clone().ethernet2().unwrap();
        assert_eq!((link.source, link.destination), (THEIRS.0, OURS.0));
        let [LinkExtHeader::Vlan(tag)] = headers.link_exts.as_slice() else { panic!("no tag") };
        assert_eq!(tag.vlan_id.value(), 0x123);
        let (tcp, payload) = read_tcp(&headers);
        let checksum = match headers.net.as_ref().unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                assert_eq!(
                    (ip.header_checksum, ip.time_to_live, ip.dont_fragment),
                    (ip.calc_header_checksum(), 64, true)
                );
                assert_eq!((ip.dscp.value(), ip.ecn.value(), ip.identification), (0x0a, 2, 0));
                tcp.calc_checksum_ipv4(ip, payload).unwrap()
            }
            NetHeaders::Ipv6(ip, _) => {
                assert_eq!((ip.traffic_class, ip.hop_limit, ip.flow_label.value()), (0x2a, 64, 0));
                tcp.calc_checksum_ipv6(ip, payload).unwrap()
            }
            NetHeaders::Arp(_) => panic!("not IP"),
        };
        assert_eq!((tcp.checksum, payload), (checksum, &b"abcdefgh"[..]));
        assert_eq!((tcp.source_port, tcp.destination_port, tcp.window_size, tcp.urgent_pointer), (40000, 80, 1024, 3));
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (0x01020304, 0x05060708));
        assert!(tcp.ack && tcp.psh && tcp.fin && !(tcp.syn || tcp.rst || tcp.urg || tcp.ece || tcp.cwr || tcp.ns));
    }
}

/// Shows MUST-68, MUST-69.
#[test]
fn etherparse_reads_emitted_options_in_their_order() {
    use TcpOptionElement::*;
    let full = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 1, ecr: 2 }),
    };
    let sack = &[1, 3, 5, 7].map(|edge| (Seq(edge), Seq(edge + 1)));
    let listed = |options: &Options, sack: &[(Seq, Seq)], flags| -> Vec<TcpOptionElement> {
        let frame = frame(&path_v4(), &SegmentOut { flags, sack, ..segment(options) }, [b"", b""]);
        let headers = read(&frame);
        read_tcp(&headers).0.options_iterator().map(|option| option.unwrap()).collect()
    };
    let syn = [MaximumSegmentSize(1460), SelectiveAcknowledgementPermitted, Timestamp(1, 2), Noop, WindowScale(7)];
    assert_eq!(listed(&full, sack, Flags::SYN), syn);
    let three = SelectiveAcknowledgement((1, 2), [Some((3, 4)), Some((5, 6)), None]);
    assert_eq!(listed(&full, sack, Flags::ACK), [Noop, Noop, Timestamp(1, 2), Noop, Noop, three]);
    let plain = Options { timestamps: None, ..full };
    let syn = [MaximumSegmentSize(1460), Noop, Noop, SelectiveAcknowledgementPermitted, Noop, WindowScale(7)];
    assert_eq!(listed(&plain, sack, Flags::SYN | Flags::ACK), syn);
    let four = SelectiveAcknowledgement((1, 2), [Some((3, 4)), Some((5, 6)), Some((7, 8))]);
    assert_eq!(listed(&plain, sack, Flags::ACK), [Noop, Noop, four]);
    assert_eq!(listed(&Options::default(), &[], Flags::SYN), []);
    assert_eq!(tcp::options_len(&full, &[]), 20);
    assert_eq!(tcp::options_len(&Options { timestamps: full.timestamps, ..Options::default() }, sack), 40);
}

#[test]
fn what_etherparse_builds_is_read_alike() {
    use TcpOptionElement::*;
    let options = [Timestamp(10, 20), WindowScale(9), MaximumSegmentSize(1400), SelectiveAcknowledgementPermitted];
    let v4 = PacketBuilder::ethernet2(THEIRS.0, OURS.0).ipv4(THEIRS_V4.octets(), OURS_V4.octets(), 3);
    let v6 = PacketBuilder::ethernet2(THEIRS.0, OURS.0).ipv6(THEIRS_V6.octets(), OURS_V6.octets(), 3);
    for (step, addresses) in
        [(v4, (IpAddr::from(THEIRS_V4), IpAddr::from(OURS_V4))), (v6, (IpAddr::from(THEIRS_V6), IpAddr::from(OURS_V6)))]
    {
        let builder = step.tcp(1, 65535, 77, 5000).syn().ack(88).urg(4).ece().cwr().options(&options).unwrap();
        let mut frame = Vec::new();
        builder.write(&mut frame, b"odd").unwrap();
        let (packet, payload) = tcp_of(&frame, &expect());
        let segment = packet.segment;
        assert_eq!((packet.tuple.remote(), packet.tuple.local()), addresses);
        assert_eq!(
            (packet.tuple.remote_port, packet.tuple.local_port, ethernet::source(&frame), payload),
            (1, 65535, THEIRS, &b"odd"[..])
        );
        assert_eq!((segment.seq, segment.ack, segment.wnd, segment.up), (Seq(77), Seq(88), 5000, 4));
        assert_eq!(segment.flags, Flags::SYN | Flags::ACK | Flags::URG | Flags::ECE | Flags::CWR);
        let expected = Options {
            mss: Some(1400),
            window_scale: Some(9),
            sack_permitted: true,
            timestamps: Some(Timestamps { val: 10, ecr: 20 }),
        };
        assert_eq!(segment.options, expected);
    }
}

#[test]
fn echo_requests_of_any_size_are_answered_in_place() {
    for (len, vlan) in [(0, None), (1, None), (56, Some(9)), (1472, None)] {
        let payload: Vec<u8> = (0..len).map(|byte: u32| byte as u8).collect();
        let link = PacketBuilder::ethernet2(THEIRS.0, OURS.0);
        let mut frame = Vec::new();
        let v4 = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::ICMP, THEIRS_V4.octets(), OURS_V4.octets());
        let mut v4 = v4.unwrap();
        v4.options = [1_u8; 8][..usize::from(len != 1472) * 8].try_into().unwrap();
        let ip = IpHeaders::Ipv4(v4, Default::default());
        match vlan {
            None => link.ip(ip).icmpv4_echo_request(5, 6).write(&mut frame, &payload).unwrap(),
            Some(id) => {
                let link = link.single_vlan(etherparse::VlanId::try_new(id).unwrap());
                link.ip(ip).icmpv4_echo_request(5, 6).write(&mut frame, &payload).unwrap();
            }
        }
        let reply = answered(frame, Expect { vlan, ..expect() });
        let headers = read(&reply);
        let Some(NetHeaders::Ipv4(ip, _)) = &headers.net else { panic!("not IPv4") };
        assert_eq!((ip.source, ip.destination, ip.options.len()), (OURS_V4.octets(), THEIRS_V4.octets(), 0));
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let Some(TransportHeader::Icmpv4(icmp)) = &headers.transport else { panic!("not ICMP") };
        assert!(matches!(&icmp.icmp_type, Icmpv4Type::EchoReply(echo) if (echo.id, echo.seq) == (5, 6)));
        assert_eq!((icmp.checksum, headers.payload.slice()), (icmp.icmp_type.calc_checksum(&payload), &payload[..]));
    }
}

#[test]
fn echo_requests_over_ipv6_are_answered_in_place() {
    for len in [0, 3, 1452] {
        let payload = vec![0x5a; len];
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2(THEIRS.0, OURS.0).ipv6(THEIRS_V6.octets(), OURS_V6.octets(), 64);
        link.icmpv6_echo_request(5, 6).write(&mut frame, &payload).unwrap();
        let reply = answered(frame, expect());
        let headers = read(&reply);
        let Some(TransportHeader::Icmpv6(icmp)) = &headers.transport else { panic!("not ICMPv6") };
        assert!(matches!(&icmp.icmp_type, Icmpv6Type::EchoReply(echo) if (echo.id, echo.seq) == (5, 6)));
        let checksum = icmp.icmp_type.calc_checksum(OURS_V6.octets(), THEIRS_V6.octets(), &payload).unwrap();
        assert_eq!((icmp.checksum, headers.payload.slice()), (checksum, &payload[..]));
    }
}

/// The frame that answers the echo request `request`.
fn answered(mut request: Vec<u8>, expect: Expect) -> Vec<u8> {
    let Ok(Parsed::Echo(echo)) = parse(&request, &expect) else { panic!("not an echo request") };
    assert_eq!((echo.ident, echo.sequence, echo.src_mac), (5, 6, THEIRS));
    let request_len = request.len().max(60);
    request.resize(2048, 0xee);
    let len = icmp::emit_reply(&mut request, &echo, &expect, 64);
    assert!(len <= request_len, "a reply is not longer than its request");
    request.truncate(len);
    assert_eq!((&request[..6], &request[6..12]), (&THEIRS.0[..], &OURS.0[..]));
    request
}

#[test]
fn icmpv6_errors_are_read() {
    let quoted = plain(&between(OURS_V6, THEIRS_V6, path_v6()));
    let kinds = [
        (Icmpv6Type::Unknown { type_u8: 1, code_u8: 4, bytes5to8: [0; 4] }, icmp::ErrorKind::Unreachable { code: 4 }),
        (Icmpv6Type::PacketTooBig { mtu: 1300 }, icmp::ErrorKind::TooBig { mtu: 1300 }),
        (Icmpv6Type::Unknown { type_u8: 3, code_u8: 0, bytes5to8: [0; 4] }, icmp::ErrorKind::TimeExceeded),
        (Icmpv6Type::Unknown { type_u8: 4, code_u8: 1, bytes5to8: [0; 4] }, icmp::ErrorKind::ParameterProblem),
    ];
    for (sent, kind) in kinds {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2(THEIRS.0, OURS.0).ipv6(THEIRS_V6.octets(), OURS_V6.octets(), 64);
        link.icmpv6(sent).write(&mut frame, &quoted[14..]).unwrap();
        let Ok(Parsed::IcmpError(error)) = parse(&frame, &expect()) else { panic!("not an error") };
        assert_eq!((error.kind, error.quoted.src, error.quoted.dst), (kind, OURS_V6.into(), THEIRS_V6.into()));
        assert_eq!((error.quoted.src_port, error.quoted.dst_port, error.quoted.seq), (40000, 80, Seq(0x01020304)));
    }
}

#[test]
fn arp_is_asked_and_answered() {
    let mut frame = vec![0xee; 60];
    let len = arp::emit_request(&mut frame, THEIRS, None, THEIRS_V4, OURS_V4);
    let headers = read(&frame[..len]);
    let Some(NetHeaders::Arp(packet)) = &headers.net else { panic!("not ARP") };
    assert_eq!(packet.operation, ArpOperation::REQUEST);
    assert_eq!((packet.sender_hw_addr(), packet.sender_protocol_addr()), (&THEIRS.0[..], &THEIRS_V4.octets()[..]));
    assert_eq!(packet.target_protocol_addr(), OURS_V4.octets());
    let Ok(Parsed::Arp(request)) = parse(&frame[..len], &expect()) else { panic!("not ARP") };
    assert_eq!((request.operation, request.target_ip), (arp::Operation::Request, OURS_V4));
    let len = arp::emit_reply(&mut frame, &request, OURS, None);
    let Ok(Parsed::Arp(reply)) = parse(&frame[..len], &Expect { mac: THEIRS, ..expect() }) else { panic!("not ARP") };
    let expected = arp::Packet {
        operation: arp::Operation::Reply,
        sender_mac: OURS,
        sender_ip: OURS_V4,
        target_mac: THEIRS,
        target_ip: THEIRS_V4,
    };
    assert_eq!((reply, len), (expected, 60));
}

#[test]
fn neighbour_is_solicited_and_advertised() {
    let mut frame = vec![0xee; 90];
    let len = ndp::emit_solicitation(&mut frame, THEIRS, None, THEIRS_V6, OURS_V6);
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    let headers = read(&frame[..len]);
    let Some(NetHeaders::Ipv6(ip, _)) = &headers.net else { panic!("not IPv6") };
    assert_eq!(Ipv6Addr::from(ip.destination), "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap());
    let Some(TransportHeader::Icmpv6(icmp)) = &headers.transport else { panic!("not ICMPv6") };
    let checksum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, headers.payload.slice()).unwrap();
    assert_eq!((icmp.checksum, icmp.icmp_type.type_u8(), ip.hop_limit), (checksum, 135, 255));
    let Ok(Parsed::Ndp(ndp::Packet::Solicitation(asked))) = parse(&frame[..len], &expect()) else { panic!("not NDP") };
    let expected = ndp::Solicitation { src_mac: THEIRS, src: THEIRS_V6, target: OURS_V6, source_link: Some(THEIRS) };
    assert_eq!(asked, expected);
    let len = ndp::emit_advertisement(&mut frame, &asked, OURS, None);
    let theirs = Expect { mac: THEIRS, ..expect() };
    let Ok(Parsed::Ndp(ndp::Packet::Advertisement(told))) = parse(&frame[..len], &theirs) else { panic!("not NDP") };
    let expected = ndp::Advertisement {
        src_mac: OURS,
        src: OURS_V6,
        target: OURS_V6,
        target_link: Some(OURS),
        solicited: true,
        override_known: true,
    };
    assert_eq!(told, expected);
}

#[test]
fn duplicate_address_detection_is_read_and_answered_to_all() {
    let dst = ndp::solicited_node(OURS_V6);
    let mut frame = Vec::new();
    let link = PacketBuilder::ethernet2(THEIRS.0, ndp::group_mac(dst).0).ipv6([0; 16], dst.octets(), 255);
    let solicitation = Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
    link.icmpv6(solicitation).write(&mut frame, &OURS_V6.octets()).unwrap();
    let Ok(Parsed::Ndp(ndp::Packet::Solicitation(asked))) = parse(&frame, &expect()) else { panic!("not NDP") };
    assert_eq!((asked.src, asked.target, asked.source_link), (Ipv6Addr::UNSPECIFIED, OURS_V6, None));
    frame.resize(90, 0);
    let len = ndp::emit_advertisement(&mut frame, &asked, OURS, None);
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let Ok(Parsed::Ndp(ndp::Packet::Advertisement(told))) = parse(&frame[..len], &expect()) else { panic!("not NDP") };
    assert!(!told.solicited && told.override_known);
}
