//! Any bytes, valid frames with changes, and the way there and back.

use super::*;
use crate::wire::usual;
use crate::wire::{arp, ethernet, icmp, ndp, tcp::Timestamps};
use proptest::prelude::*;
use std::vec;

fn any_options() -> impl Strategy<Value = Options> {
    let timestamps = proptest::option::of(any::<(u32, u32)>());
    (any::<Option<u16>>(), any::<Option<u8>>(), any::<bool>(), timestamps).prop_map(
        |(mss, window_scale, sack_permitted, timestamps)| Options {
            mss,
            window_scale,
            sack_permitted,
            timestamps: timestamps.map(|(val, ecr)| Timestamps { val, ecr }),
        },
    )
}

fn any_sack() -> impl Strategy<Value = Vec<(Seq, Seq)>> {
    proptest::collection::vec(any::<(u32, u32)>().prop_map(|(left, right)| (Seq(left), Seq(right))), 0..5)
}

fn any_path() -> impl Strategy<Value = Path> {
    let addresses = prop_oneof![Just((path_v4(), false)), Just((path_v6(), true))];
    (addresses, proptest::option::of(1u16..4095), any::<u8>(), any::<u8>(), any::<u32>()).prop_map(
        |((path, v6), vlan, ttl, dscp_ecn, random)| {
            let [a, b, c, _] = random.to_be_bytes();
            let src: IpAddr = if v6 {
                Ipv6Addr::new(0x2001, 1, 2, 3, a.into(), b.into(), c.into(), 9).into()
            } else {
                [11, a, b, c].into()
            };
            Path { vlan, ttl, dscp_ecn, ..between(src, path.addresses.remote(), path) }
        },
    )
}

/// The options as they arrive: what does not suit the SYN bit or has no room is left out.
fn arriving(options: Options, sack: &[(Seq, Seq)], syn: bool) -> (Options, &[(Seq, Seq)]) {
    if syn {
        return (options, &[]);
    }
    let count = sack.len().min(if options.timestamps.is_some() { 3 } else { 4 });
    (Options { timestamps: options.timestamps, ..Options::default() }, &sack[..count])
}

/// A frame of every kind that this stack emits or answers.
fn samples() -> Vec<Vec<u8>> {
    let timestamps = Some(Timestamps { val: 1, ecr: 2 });
    let options = Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps };
    let syn = |path| frame(path, &SegmentOut { flags: Flags::SYN, ..segment(&options) }, [b"", b""]);
    let plain_options = Options::default();
    let sack = SegmentOut { sack: &[(Seq(1), Seq(2)), (Seq(3), Seq(4))], ..segment(&plain_options) };
    let mut asked = vec![0; 60];
    arp::emit_request(&mut asked, THEIRS, None, THEIRS_V4, OURS_V4);
    let mut solicited = vec![0; 90];
    let len = ndp::emit_solicitation(&mut solicited, THEIRS, None, THEIRS_V6, OURS_V6);
    solicited.truncate(len);
    let mut echo = Vec::new();
    let link = etherparse::PacketBuilder::ethernet2(THEIRS.0, OURS.0);
    let request = link.ipv4(THEIRS_V4.octets(), OURS_V4.octets(), 9).icmpv4_echo_request(1, 2);
    request.write(&mut echo, &[7; 30]).unwrap();
    let mut error = Vec::new();
    let link = etherparse::PacketBuilder::ethernet2(THEIRS.0, OURS.0);
    let too_big =
        link.ipv6(THEIRS_V6.octets(), OURS_V6.octets(), 9).icmpv6(etherparse::Icmpv6Type::PacketTooBig { mtu: 1 });
    let quoted = plain(&between(OURS_V6, THEIRS_V6, path_v6()));
    too_big.write(&mut error, &quoted[14..]).unwrap();
    vec![
        syn(&path_v4()),
        syn(&path_v6()),
        frame(&path_v4(), &sack, [b"payload", b""]),
        plain(&path_v6()),
        asked,
        solicited,
        echo,
        error,
    ]
}

/// Answers `parsed` where it is a request, as a shard would; nothing may panic.
fn answer(room: &mut [u8], parsed: Parsed, expect: &Expect) -> usize {
    match parsed {
        Parsed::Tcp(packet) => {
            let (begin, len) = (packet.segment.payload_offset, packet.segment.payload_len);
            usize::from(begin) + usize::from(len)
        }
        Parsed::Arp(request) => arp::emit_reply(room, &request, expect.mac, expect.vlan),
        Parsed::Ndp(ndp::Packet::Solicitation(asked)) => ndp::emit_advertisement(room, &asked, expect.mac, expect.vlan),
        Parsed::Echo(echo) => icmp::emit_reply(room, &echo, expect, 64),
        Parsed::Ndp(ndp::Packet::Advertisement(_)) | Parsed::IcmpError(_) => 0,
    }
}

fn survives(frame: &[u8], expect: &Expect) -> Result<(), TestCaseError> {
    if let Some(packet) = usual::parse(frame, expect) {
        prop_assert_eq!(parse(frame, expect), Ok(Parsed::Tcp(packet)), "the usual shape is read otherwise");
    }
    if let Ok(parsed) = parse(frame, expect) {
        let mut room = frame.to_vec();
        room.resize(4096, 0);
        let len = answer(&mut room, parsed, expect);
        let solicited = matches!(parsed, Parsed::Ndp(_));
        prop_assert!(len <= frame.len().max(if solicited { 90 } else { 60 }), "{} bytes: {:?}", frame.len(), parsed);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Shows MUST-2, MUST-5.
    #[test]
    fn parse_of_emit_is_what_was_emitted(
        path in any_path(), options in any_options(), sack in any_sack(), numbers: (u32, u32, u16, u16, u8),
        ports in (1u16.., 1u16..), payload in proptest::collection::vec(any::<u8>(), 0..1400), split in 0usize..1400,
    ) {
        let (seq, ack, wnd, up, flags) = numbers;
        let flags = Flags(flags);
        let out = SegmentOut {
            src_port: ports.0, dst_port: ports.1, seq: Seq(seq), ack: Seq(ack), wnd, up, flags, options: &options,
            sack: &sack,
        };
        let (first, second) = payload.split_at(split.min(payload.len()));
        let frame = frame(&path, &out, [first, second]);
        let expect = Expect { vlan: path.vlan, ..expect() };
        let (packet, arrived) = tcp_of(&frame, &expect);
        let (sent, sent_sack) = arriving(options, &sack, flags.syn());
        let only_timestamps = Options { timestamps: sent.timestamps, ..Options::default() };
        let of_syn = sent.mss.is_some() && sent.window_scale.is_some() && sent.sack_permitted && sent.timestamps.is_some();
        let usual_options = sent_sack.is_empty() && (of_syn || sent == only_timestamps);
        let is_usual = path.vlan.is_none() && path.addresses.is_v4() && usual_options;
        prop_assert_eq!(usual::parse(&frame, &expect), is_usual.then_some(packet));
        prop_assert_eq!(parse(&frame, &expect), Ok(Parsed::Tcp(packet)));
        let unpadded = path.headers_len() + 20 + tcp::options_len(&sent, sent_sack) + payload.len();
        prop_assert_eq!(frame.len(), unpadded.max(60));
        prop_assert!(frame[unpadded..].iter().all(|byte| *byte == 0));
        prop_assert_eq!(arrived, &payload[..]);
        let segment = packet.segment;
        prop_assert_eq!((segment.seq, segment.ack, segment.wnd, segment.up), (Seq(seq), Seq(ack), wnd, up));
        prop_assert_eq!((segment.flags, segment.options), (flags, sent));
        let arrived_sack = segment.sack_blocks(&frame);
        prop_assert_eq!(arrived_sack.as_slice(), sent_sack);
        prop_assert_eq!((packet.tuple.remote_port, packet.tuple.local_port), ports);
        prop_assert_eq!((packet.tuple.addresses, ethernet::source(&frame)), (path.addresses.reversed(), path.src_mac));
        prop_assert_eq!(packet.dscp_ecn, path.dscp_ecn);
    }

    /// Shows MUST-7, T14.
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..4) {
        survives(&bytes, &expect())?;
        let mut frame = bytes;
        if frame.len() >= 24 {
            frame[..6].copy_from_slice(&OURS.0);
            frame[12..14].copy_from_slice(&[0x0800_u16, 0x86dd, 0x0806, 0x8100][kind].to_be_bytes());
            frame[14] = if kind == 0 { 0x45 } else { 0x60 };
        }
        survives(&frame, &expect())?;
    }

    #[test]
    fn changed_frames_never_panic(
        nth in 0usize..8, changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cut in proptest::option::of(0usize..100), fix: bool, verify_checksums: bool,
    ) {
        let mut frame = samples().swap_remove(nth);
        let len = frame.len();
        for (at, value) in changes {
            frame[at % len] = value;
        }
        if fix && frame[12..15] == [8, 0, 0x45] {
            fix_ipv4(&mut frame);
        }
        frame.truncate(cut.unwrap_or(len));
        survives(&frame, &Expect { verify_checksums, ..expect() })?;
    }
}

#[test]
fn every_sample_parses() {
    for frame in samples() {
        parse(&frame, &expect()).expect("a sample is a good frame");
    }
}
