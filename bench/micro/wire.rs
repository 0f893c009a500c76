//! What one frame costs to read and to write. `cargo bench --bench wire` takes less than a minute.

use core::hint::black_box;
use core::net::{Ipv4Addr, Ipv6Addr};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;
use synfin::four_tuple::Addresses;
use synfin::seq::Seq;
use synfin::wire::ethernet::MacAddress;
use synfin::wire::tcp::{Flags, Options, SegmentOut, Timestamps, emit};
use synfin::wire::{Expect, Parsed, Path, parse};

/// The segments of a short connection, and one that fills a packet.
fn segments(c: &mut Criterion) {
    let syn = Options { mss: Some(1460), window_scale: Some(3), sack_permitted: true, timestamps: TIMESTAMPS };
    let other = Options { timestamps: TIMESTAMPS, ..Options::default() };
    for (family, addresses) in [("IPv4", V4), ("IPv6", V6)] {
        let path = Path { src_mac: THEIRS, dst_mac: OURS, vlan: None, addresses, ttl: 64, dscp_ecn: 0 };
        for (what, flags, options, len) in [
            ("SYN", Flags::SYN, &syn, 0),
            ("ACK", Flags::ACK, &other, 0),
            ("64 B", Flags::ACK | Flags::PSH, &other, 64),
            ("1,428 B", Flags::ACK, &other, 1428),
        ] {
            let (segment, text) = (segment(flags, options), vec![0x5a; len]);
            let mut frame = [0; 2048];
            c.bench_function(&format!("emit/{what}, {family}"), |b| {
                b.iter(|| emit(&mut frame, black_box(&path), black_box(&segment), &[&text, &[]]));
            });
            let len = emit(&mut frame, &path, &segment, &[&text, &[]]);
            let expect = Expect { mac: OURS, mtu: 1500, vlan: None, verify_checksums: true };
            assert!(matches!(parse(&frame[..len], &expect), Ok(Parsed::Tcp(_))), "the frame is good");
            c.bench_function(&format!("parse/{what}, {family}"), |b| {
                b.iter(|| parse(black_box(&frame[..len]), &expect));
            });
        }
    }
}

/// What a flood of bad frames costs until they are dropped.
fn drops(c: &mut Criterion) {
    let path = Path { src_mac: THEIRS, dst_mac: OURS, vlan: None, addresses: V4, ttl: 64, dscp_ecn: 0 };
    let mut frame = [0; 2048];
    let len = emit(&mut frame, &path, &segment(Flags::ACK, &Options::default()), &[&[7; 64], &[]]);
    let expect = Expect { mac: OURS, mtu: 1500, vlan: None, verify_checksums: true };
    for (what, at) in [("not our MAC", 5), ("bad IPv4 checksum", 24), ("bad TCP checksum", 60)] {
        let mut bad = frame;
        bad[at] ^= 1;
        assert!(parse(&bad[..len], &expect).is_err(), "{what}");
        c.bench_function(&format!("drop/{what}"), |b| b.iter(|| parse(black_box(&bad[..len]), &expect)));
    }
}

fn segment(flags: Flags, options: &Options) -> SegmentOut<'_> {
    let (seq, ack) = (Seq(1), Seq(2));
    SegmentOut { src_port: 40_000, dst_port: 80, seq, ack, wnd: 1024, up: 0, flags, options, sack: &[] }
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const V4: Addresses = Addresses::V4 { local: Ipv4Addr::new(10, 0, 0, 2), remote: Ipv4Addr::new(10, 0, 0, 1) };
const V6: Addresses = Addresses::V6 {
    local: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    remote: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
};
const TIMESTAMPS: Option<Timestamps> = Some(Timestamps { val: 1, ecr: 2 });

criterion_group! {
    name = wire;
    config = quick();
    targets = segments, drops
}
criterion_main!(wire);
