//! The XDP program's verdicts, by BPF_PROG_TEST_RUN with an XSK in the slot of queue 0.
mod common;
mod fixtures;

use common::{INTERFACE, VethPair, privileged_trial};
use fixtures::{Fixture, arp, ethernet, fixtures, ipv4, tcp, vlan};
use std::process::ExitCode;
use synfin::link::xdp::{Action, Claim, Mode, Steering, XdpConfig, XdpLink};

fn main() -> ExitCode {
    let trials = vec![
        privileged_trial("fixture_judged_gets_its_verdict", || {
            with_steering(true, |steering| {
                for fixture in fixtures() {
                    let expected = (action(fixture.verdict), fixture.verdict);
                    assert_eq!(judge(steering, &fixture.frame), expected, "{}", fixture.name);
                }
            })
        }),
        privileged_trial("every_prefix_of_a_fixture_passes_or_is_decided", || {
            with_steering(true, |steering| {
                fixtures().iter().for_each(|fixture| prefixes_pass_or_are_decided(steering, fixture));
            })
        }),
        privileged_trial("frame_of_the_stacks_vlan_alone_is_judged_by_what_it_is_to", || {
            with_steering(true, frames_of_every_vlan);
        }),
        privileged_trial("second_vlan_tag_passes", || {
            with_steering(true, |steering| {
                for (outer, inner) in [(0, 0), (42, 42), (0, 42)] {
                    steering.set_vlan(Some(inner)).unwrap();
                    for fixture in fixtures() {
                        let frame = vlan(&vlan(&fixture.frame, inner), outer);
                        assert_eq!(judge(steering, &frame), (Action::Pass, "pass_ether_type"), "{}", fixture.name);
                    }
                }
            })
        }),
        privileged_trial("empty_slot_passes_what_is_claimed", || {
            with_steering(false, |steering| {
                for fixture in fixtures() {
                    let verdict =
                        if fixture.verdict.starts_with("redirect_") { "pass_no_socket" } else { fixture.verdict };
                    assert_eq!(judge(steering, &fixture.frame), (Action::Pass, verdict), "{}", fixture.name);
                }
            })
        }),
        privileged_trial("nothing_claimed_passes_everything", || {
            in_namespace(true, |steering| {
                for fixture in fixtures() {
                    assert_eq!(judge(steering, &fixture.frame).0, Action::Pass, "{}", fixture.name);
                }
            });
        }),
        privileged_trial("claim_taken_back_passes_again", || with_steering(true, claims_taken_back_pass)),
        privileged_trial("random_bytes_are_judged", || with_steering(true, random_bytes_are_judged)),
    ];
    common::run(trials).exit_code()
}

/// Each fixture untagged, with a priority alone, and on two VLANs, before a stack without a VLAN and one on VLAN 42.
fn frames_of_every_vlan(steering: &mut Steering) {
    for ours in [None, Some(42), None] {
        steering.set_vlan(ours).unwrap();
        for Fixture { name, frame, verdict, .. } in &fixtures() {
            for (tagged, of) in [
                (frame.clone(), None),
                (vlan(frame, 0), None),
                (vlan(frame, 42), Some(42)),
                (vlan(frame, 43), Some(43)),
                // The priority of a frame is not its VLAN.
                (vlan(frame, 7 << 13 | 42), Some(42)),
            ] {
                let expected = if of == ours || *name == "802.1ad" { verdict } else { "pass_vlan" };
                assert_eq!(judge(steering, &tagged), (action(expected), expected), "{name}, {of:?} before {ours:?}");
            }
        }
    }
}

fn prefixes_pass_or_are_decided(steering: &mut Steering, fixture: &Fixture) {
    for len in 0..=fixture.frame.len() {
        let prefix = &fixture.frame[..len];
        if len < 14 {
            assert!(steering.judge(prefix).is_err(), "the kernel runs nothing shorter than an Ethernet header");
            continue;
        }
        let (action, verdict) = judge(steering, prefix);
        if len >= fixture.needs {
            assert_eq!(verdict, fixture.verdict, "{} cut to {len} bytes", fixture.name);
        } else {
            assert_ne!(verdict, fixture.verdict, "{} cut to {len} bytes", fixture.name);
            assert_eq!(action, Action::Pass, "{} cut to {len} bytes", fixture.name);
            assert!(
                ["pass_truncated", "pass_icmp"].contains(&verdict),
                "{} cut to {len} bytes: {verdict}",
                fixture.name
            );
        }
    }
}

fn claims_taken_back_pass(steering: &mut Steering) {
    let owned = ethernet(0x0800, &ipv4([10, 99, 0, 5], 6, &tcp(1000, 80)));
    let question = ethernet(0x0806, &arp(1, [10, 99, 0, 5]));
    let shared = ethernet(0x0800, &ipv4([10, 77, 0, 1], 6, &tcp(1000, 80)));
    assert_eq!(judge(steering, &question).1, "redirect_arp");
    for _ in 0..2 {
        steering.unclaim("10.99.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(judge(steering, &owned), (Action::Pass, "pass_unclaimed"));
        assert_eq!(judge(steering, &question), (Action::Pass, "pass_arp"));
        assert_eq!(judge(steering, &shared).1, "redirect_tcp_port");
        steering.unclaim_port(Some("10.77.0.1".parse().unwrap()), 80).unwrap();
        assert_eq!(judge(steering, &shared), (Action::Pass, "pass_unclaimed"));
        steering.claim("10.99.0.0/24".parse().unwrap(), Claim::Own).unwrap();
        steering.claim_port(Some("10.77.0.1".parse().unwrap()), 80).unwrap();
        assert_eq!(judge(steering, &owned), (Action::Redirect, "redirect_tcp_own"));
    }
    steering.unsteer(0).unwrap();
    assert_eq!(judge(steering, &owned), (Action::Pass, "pass_no_socket"));
    steering.unsteer(0).unwrap();
}

/// Whatever arrives gets one verdict (`judge` checks that), and no action but PASS and REDIRECT.
fn random_bytes_are_judged(steering: &mut Steering) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let fixtures = fixtures();
    for _ in 0..4000 {
        let mut frame = fixtures[random() % fixtures.len()].frame.clone();
        for _ in 0..random() % 4 {
            let at = 12 + random() % (frame.len() - 12);
            frame[at] = random() as u8;
        }
        frame.truncate(14 + random() % (frame.len() - 13));
        let (taken, verdict) = judge(steering, &frame);
        assert_eq!(taken, action(verdict), "{frame:02x?}");
    }
}

/// The action, and the one verdict that was counted.
fn judge(steering: &mut Steering, frame: &[u8]) -> (Action, &'static str) {
    let before = steering.verdicts().unwrap();
    let action = steering.judge(frame).unwrap();
    let counted = steering.verdicts().unwrap().since(&before);
    let mut counted = counted.iter().filter(|(_, count)| *count > 0);
    let (verdict, count) = counted.next().expect("a verdict is counted");
    assert_eq!((count, counted.next()), (1, None), "one frame, one verdict");
    (action, verdict)
}

fn action(verdict: &str) -> Action {
    if verdict.starts_with("redirect_") { Action::Redirect } else { Action::Pass }
}

/// Runs `body` with what the fixtures expect to be claimed.
fn with_steering(socket: bool, body: impl FnOnce(&mut Steering) + Send) {
    in_namespace(socket, |steering| {
        for (prefix, claim) in fixtures::CLAIMS {
            steering.claim(prefix.parse().unwrap(), claim).unwrap();
        }
        for (address, port) in fixtures::PORTS {
            steering.claim_port(address.map(|address| address.parse().unwrap()), port).unwrap();
        }
        body(steering);
    });
}

/// Runs `body` in a namespace whose interface hears nothing, so that only what is judged is counted.
fn in_namespace(socket: bool, body: impl FnOnce(&mut Steering) + Send) {
    let pair = VethPair::new(1);
    pair.left.ip(&["link", "set", INTERFACE, "down"]);
    pair.right.enter(|| {
        let mut steering = Steering::attach(INTERFACE, Mode::Auto).unwrap();
        let link = socket.then(|| XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap());
        link.iter().for_each(|link| steering.steer(link).unwrap());
        body(&mut steering);
    });
}
