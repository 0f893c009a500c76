//! SYN cookies (B13): what they carry, how long they live, and that nothing but themselves is taken for them.

use super::*;
use crate::tcp::cookie::{Cookies, SynAck, SynCookies, Valid};
use core::net::Ipv6Addr;
use proptest::prelude::*;

const SECRET: (u64, u64) = (0x0123_4567, 0x89ab_cdef);

fn context(settings: &Settings, now: Now) -> Context<'_> {
    Context { now, settings, options: &ConnectionOptions::DEFAULT, receive_room: true }
}

/// The listener's end of the 4-tuple of the client in [`syn_sent`].
fn here() -> FourTuple {
    tuple().reversed()
}

fn here_v6() -> FourTuple {
    let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
    FourTuple::new(address(2), 80, address(1), 40_000)
}

fn answer(cookies: &mut Cookies, tuple: &FourTuple, syn: &Segment, settings: &Settings, now: Now) -> SynAck {
    cookies.syn_ack(tuple, syn, &context(settings, now))
}

/// What the client receives.
fn received(syn_ack: &SynAck) -> Segment {
    let options = Options {
        mss: syn_ack.mss,
        window_scale: syn_ack.window_scale,
        sack_permitted: syn_ack.sack_permitted,
        timestamps: syn_ack.timestamps,
    };
    Segment { seq: syn_ack.iss, ack: syn_ack.ack, wnd: syn_ack.wnd, flags: SYN_ACK, options, ..Segment::default() }
}

/// The ACK with which any client answers.
fn ack_of(syn: &Segment, syn_ack: &SynAck) -> Segment {
    let timestamps = syn_ack.timestamps.map(|theirs| Timestamps { val: theirs.ecr + 1, ecr: theirs.val });
    Segment {
        seq: syn.seq + 1,
        ack: syn_ack.iss + 1,
        wnd: 500,
        flags: ACK,
        options: Options { timestamps, ..Options::default() },
        ..Segment::default()
    }
}

fn accept(cookies: &mut Cookies, seg: &Segment, settings: &Settings, now: Now) -> Option<Valid> {
    cookies.accept(&here(), seg, &context(settings, now))
}

/// A SYN of the client, the cookie that answers it, and the client's ACK.
fn exchange(settings: &Settings) -> (Cookies, Segment, SynAck, Segment) {
    let mut cookies = Cookies::new(SECRET, start());
    let (_, syn) = syn_sent(*settings);
    let syn_ack = answer(&mut cookies, &here(), &syn, settings, start());
    let ack = ack_of(&syn, &syn_ack);
    (cookies, syn, syn_ack, ack)
}

#[test]
fn b13_connection_by_cookie_is_the_one_that_state_would_have_kept() {
    for settings in [settings(), plain()] {
        let mut cookies = Cookies::new(SECRET, start());
        let (mut client, syn) = syn_sent(settings);
        let syn_ack = answer(&mut cookies, &here(), &syn, &settings, start());
        assert!(client.arrives(received(&syn_ack)).established);
        client.queue(100);
        let third = as_received(client.expect(PSH_ACK));
        let valid = accept(&mut cookies, &third, &settings, start()).expect("our own cookie");
        let irs = valid.tcb.irs();
        let mut server = End::new(valid.tcb, settings, start());
        let out = server.arrives(third);
        assert_eq!((out.established, out.text, server.tcb.state), (true, Some((0, 100)), State::Established));

        let (kept, _) = syn_received(settings, &syn);
        assert_eq!(server.tcb.agreed.timestamps(), kept.tcb.agreed.timestamps());
        assert_eq!(server.tcb.ts_offset, kept.tcb.ts_offset);
        assert_eq!((irs, server.tcb.mss), (kept.tcb.irs(), kept.tcb.mss));
        if settings.timestamps {
            assert_eq!(server.tcb.agreed, kept.tcb.agreed);
        } else {
            assert!(!server.tcb.agreed.window_scale() && !server.tcb.agreed.sack(), "nothing could carry them");
            assert!(!client.tcb.agreed.window_scale() && !client.tcb.agreed.sack(), "and both ends know");
        }
        // Data flows both ways, with the windows that each end takes the other's to mean.
        server.queue(1000);
        let text = as_received(server.expect(PSH_ACK));
        assert_eq!(client.arrives(text).text, Some((0, 1000)));
        assert_eq!(server.tcb.rcv_nxt, client.tcb.snd_nxt);
    }
}

/// A cookie has four bits for it, of which all ones say that there is none.
#[test]
fn t24_a_window_shift_beyond_14_comes_back_from_a_cookie_as_14() {
    for shift in [13, 14].into_iter().chain(15..=u8::MAX) {
        let settings = settings();
        let mut cookies = Cookies::new(SECRET, start());
        let (_, syn) = syn_sent(settings);
        let syn = Segment { options: Options { window_scale: Some(shift), ..syn.options }, ..syn };
        let syn_ack = answer(&mut cookies, &here(), &syn, &settings, start());
        let valid = accept(&mut cookies, &ack_of(&syn, &syn_ack), &settings, start()).expect("our own cookie");
        let agreed = valid.tcb.agreed;
        assert_eq!((agreed.window_scale(), agreed.snd_shift()), (true, shift.min(14)), "{shift}");
    }
}

#[test]
fn b13_fin_or_text_instead_of_the_third_ack_is_taken() {
    let (mut cookies, _, _, ack) = exchange(&settings());
    let fin = Segment { flags: FIN_ACK, payload_len: 9, ..ack };
    let valid = accept(&mut cookies, &fin, &settings(), start()).expect("our own cookie");
    let mut server = End::new(valid.tcb, settings(), start());
    let out = server.arrives(fin);
    assert_eq!((out.established, out.text, out.peer_closed), (true, Some((0, 9)), true));
    assert_eq!(server.tcb.state, State::CloseWait);
}

#[test]
fn b13_cookie_lives_for_one_period_at_least_and_two_minutes_at_most() {
    let settings = settings();
    for begun_ms in [0, 1, 30_000, 59_999] {
        let sent = Now::from_ms(600_000 + begun_ms);
        let mut cookies = Cookies::new(SECRET, sent);
        let (_, syn) = syn_sent(settings);
        let syn_ack = answer(&mut cookies, &here(), &syn, &settings, sent);
        let ack = ack_of(&syn, &syn_ack);
        for (waited_ms, lives) in [(0, true), (60_000, true), (120_000, false), (180_000, false), (240_000, false)] {
            let later = sent.plus_ms(waited_ms);
            assert_eq!(accept(&mut cookies, &ack, &settings, later).is_some(), lives, "{begun_ms} {waited_ms}");
            assert_eq!(cookies.may_return(later), lives);
        }
    }
}

#[test]
fn b13_secrets_rotate_and_differ_per_stack() {
    let settings = settings();
    let (_, syn) = syn_sent(settings);
    let cookie = |secret, now| answer(&mut Cookies::new(secret, now), &here(), &syn, &settings, now).iss;
    let later = |periods: u64| start().plus_ms(periods * 60_000);
    assert_eq!(cookie(SECRET, start()), cookie(SECRET, start()), "shards of one stack agree");
    assert_ne!(cookie(SECRET, start()), cookie((SECRET.0, SECRET.1 + 1), start()));
    for periods in 1..10 {
        assert_ne!(cookie(SECRET, start()).0 >> 4, cookie(SECRET, later(periods)).0 >> 4);
    }
    let (mut cookies, _, _, ack) = exchange(&settings);
    assert!(accept(&mut cookies, &ack, &settings, later(1)).is_some(), "the last period's secret is kept");
}

#[test]
fn b13_nothing_is_out_before_the_first_cookie() {
    assert!(!Cookies::new(SECRET, start()).may_return(start()));
    assert!(exchange(&settings()).0.may_return(start()));
}

#[test]
fn b13_foreign_tuple_isn_or_kind_of_segment_is_no_cookie() {
    let settings = settings();
    let (mut cookies, _, _, ack) = exchange(&settings);
    for wrong in [
        Segment { seq: ack.seq + 1, ..ack },
        Segment { ack: ack.ack + 16, ..ack },
        Segment { flags: SYN_ACK, ..ack },
        Segment { flags: Flags(RST.0 | ACK.0), ..ack },
        Segment { flags: Flags::PSH, ..ack },
        Segment { options: Options::default(), ..ack },
    ] {
        assert!(accept(&mut cookies, &wrong, &settings, start()).is_none(), "{wrong:?}");
    }
    let other = FourTuple { remote_port: 40_001, ..here() };
    assert!(cookies.accept(&other, &ack, &context(&settings, start())).is_none());
}

#[test]
fn t29_cookie_offers_only_what_the_syn_offered() {
    for timestamps in [None, Some(Timestamps { val: 7, ecr: 0 })] {
        for mss in [None, Some(1460)] {
            for window_scale in [None, Some(7)] {
                let options = Options { mss, window_scale, timestamps, sack_permitted: true };
                let syn = Segment { flags: SYN, options, ..Segment::default() };
                let mut cookies = Cookies::new(SECRET, start());
                let syn_ack = answer(&mut cookies, &here(), &syn, &settings(), start());
                assert_eq!(syn_ack.mss.is_some(), mss.is_some());
                assert_eq!(syn_ack.timestamps.is_some(), timestamps.is_some());
                assert_eq!(syn_ack.window_scale.is_some(), window_scale.is_some() && timestamps.is_some());
            }
        }
    }
}

#[test]
fn policy_names_are_read_back_and_auto_begins_at_half_of_the_limit() {
    for policy in SynCookies::ALL {
        assert_eq!(SynCookies::from_name(policy.name()), Some(policy));
    }
    assert_eq!(SynCookies::from_name("sometimes"), None);
    assert!(!SynCookies::Auto.answers(4, 10) && SynCookies::Auto.answers(5, 10) && SynCookies::Auto.answers(0, 0));
    assert!(SynCookies::Always.answers(0, 10) && !SynCookies::Off.answers(10, 10));
}

proptest! {
    #[test]
    fn b13_options_come_back_as_they_were_offered(
        mss in prop::option::of(any::<u16>()),
        shift in prop::option::of(any::<u8>()),
        sack in any::<bool>(),
        val in prop::option::of(any::<u32>()),
        isn in any::<u32>(),
        at_ms in 0u64..1 << 33,
        v6 in any::<bool>(),
    ) {
        let (settings, tuple) = (settings(), if v6 { here_v6() } else { here() });
        let timestamps = val.map(|val| Timestamps { val, ecr: 0 });
        let options = Options { mss, window_scale: shift, sack_permitted: sack, timestamps };
        let syn = Segment { seq: Seq(isn), flags: SYN, options, ..Segment::default() };
        let now = Now::from_ms(at_ms);
        let mut cookies = Cookies::new(SECRET, now);
        let kept = Tcb::open_passively(&tuple, &syn, &context(&settings, now));
        let syn_ack = answer(&mut cookies, &tuple, &syn, &settings, now);
        prop_assert_eq!(syn_ack.ack, syn.seq + 1);
        if let Some(ours) = syn_ack.timestamps {
            let behind = kept.ts_now(&context(&settings, now)).wrapping_sub(ours.val);
            prop_assert!(behind < 64, "TSval is {} ms behind the clock", behind as i32);
        }
        let mut ack = ack_of(&syn, &syn_ack);
        if let Some(timestamps) = &mut ack.options.timestamps {
            timestamps.val = val.unwrap_or(0).wrapping_add(3);
        }
        let valid = cookies.accept(&tuple, &ack, &context(&settings, now.plus_ms(40)));
        let tcb = valid.expect("our own cookie").tcb;
        if val.is_some() {
            // Whether the SYN had an MSS is forgotten: no SYN-ACK follows.
            let mut agreed = kept.agreed;
            agreed.set_mss(tcb.agreed.mss());
            prop_assert_eq!(tcb.agreed, agreed);
            prop_assert_eq!(tcb.ts_recent, val.unwrap_or(0).wrapping_add(3));
        } else {
            prop_assert!(!tcb.agreed.timestamps() && !tcb.agreed.window_scale() && !tcb.agreed.sack());
        }
        prop_assert!(tcb.mss <= kept.mss && u32::from(tcb.mss) * 2 >= u32::from(kept.mss).min(1072).min(96));
        prop_assert_eq!((tcb.irs(), tcb.iss(), tcb.snd_nxt), (syn.seq, syn_ack.iss, syn_ack.iss + 1));
    }

    #[test]
    fn b13_any_flipped_bit_makes_it_invalid(
        in_seq in any::<u32>(), in_ack in any::<u32>(), in_carried in 0u32..64, ports in any::<(u16, u16)>(),
    ) {
        prop_assume!(in_seq != 0 || in_ack != 0 || in_carried != 0 || ports != (0, 0));
        let settings = settings();
        let (mut cookies, _, _, mut ack) = exchange(&settings);
        let echo = ack.options.timestamps.as_mut().expect("agreed");
        echo.ecr ^= in_carried;
        ack.ack = Seq((ack.ack.0 - 1) ^ in_ack) + 1;
        ack.seq = Seq(ack.seq.0 ^ in_seq);
        let tuple = here();
        let (local_port, remote_port) = (tuple.local_port ^ ports.0, tuple.remote_port ^ ports.1);
        let tuple = FourTuple { local_port, remote_port, ..tuple };
        prop_assert!(cookies.accept(&tuple, &ack, &context(&settings, start())).is_none());
    }

    #[test]
    fn b13_single_flipped_bits_make_it_invalid(bit in 0u32..70) {
        let settings = settings();
        let (mut cookies, _, _, mut ack) = exchange(&settings);
        let echo = ack.options.timestamps.as_mut().expect("agreed");
        match bit {
            0..32 => ack.ack = Seq((ack.ack.0.wrapping_sub(1)) ^ 1 << bit) + 1,
            32..64 => ack.seq = Seq(ack.seq.0 ^ 1 << (bit - 32)),
            _ => echo.ecr ^= 1 << (bit - 64),
        }
        prop_assert!(accept(&mut cookies, &ack, &settings, start()).is_none());
    }
}
