//! Behaviours B01 to B12.

use super::*;
use crate::tcp::state::CloseReason;
use crate::tcp::{self, Note};

/// Shows SHLD-5, MAY-3.
#[test]
fn b01_open_actively_sends_syn_and_enters_syn_sent() {
    let (client, syn) = syn_sent(settings());
    assert_eq!(client.tcb.state, State::SynSent);
    assert_eq!((syn.seq, syn.len()), (client.tcb.iss(), 1));
    assert!(syn.options.mss == Some(1460) && syn.options.timestamps.is_some() && syn.options.window_scale.is_some());
}

/// Shows MUST-14, SHLD-5, RFC 7323.
#[test]
fn b03_b04_b05_handshake_agrees_on_options_and_uses_three_segments() {
    let (client, server) = established();
    let (opening, _) = syn_sent(settings());
    for end in [&client, &server] {
        assert!(end.tcb.agreed.timestamps() && end.tcb.agreed.window_scale());
        assert_eq!(end.tcb.mss, 1460);
    }
    assert_eq!(client.tcb.snd_nxt, opening.tcb.iss() + 1, "the third segment consumes nothing");
    assert_eq!((client.tcb.rcv_nxt, server.tcb.rcv_nxt), (server.tcb.snd_nxt, client.tcb.snd_nxt));
}

/// Shows RFC 7323.
#[test]
fn b03_windows_of_the_two_syns_are_not_scaled_and_those_behind_them_are() {
    let options = Options { mss: Some(1460), window_scale: Some(7), ..Options::default() };
    let syn = Segment { seq: Seq(7000), flags: SYN, wnd: 2000, options, ..Segment::default() };
    let (mut client, _) = syn_sent(settings());
    assert!(client.arrives(Segment { ack: client.tcb.snd_nxt, flags: SYN_ACK, ..syn }).established);
    let (server, _) = syn_received(settings(), &syn);
    for mut end in [client, server] {
        assert_eq!((end.tcb.snd_wnd, end.tcb.snd_wnd_max), (2000, 2000), "{:?}", end.tcb.state);
        end.arrives(Segment { wnd: 2000, ..end.next(ACK) });
        assert_eq!((end.tcb.snd_wnd, end.tcb.snd_wnd_max), (2000 << 7, 2000 << 7));
    }
}

#[test]
fn b04_third_segment_with_data_opens_and_delivers() {
    let (mut client, syn) = syn_sent(settings());
    let (mut server, syn_ack) = syn_received(settings(), &syn);
    client.arrives(syn_ack);
    client.queue(64);
    let third = client.expect(PSH_ACK);
    let out = server.arrives(as_received(third));
    assert!(out.established);
    assert_eq!(out.text, Some((0, 64)));
}

#[test]
fn b02_data_on_a_syn_is_neither_taken_nor_acknowledged() {
    let (_, syn) = syn_sent(settings());
    let (server, syn_ack) = syn_received(settings(), &Segment { payload_len: 5, ..syn });
    assert_eq!(syn_ack.ack, syn.seq + 1);
    assert_eq!(server.tcb.unread_bytes, 0);
}

#[test]
fn b05_syn_ack_offers_only_what_the_syn_offered() {
    let (_, syn) = syn_sent(Settings { timestamps: false, window_scale: false, ..settings() });
    let (_, syn_ack) = syn_received(settings(), &syn);
    assert!(syn_ack.options.timestamps.is_none() && syn_ack.options.window_scale.is_none());
    assert!(syn_ack.options.mss.is_some());
}

/// Shows T11.
#[test]
fn must_15_without_mss_option_the_default_is_used_and_tiny_ones_are_raised() {
    let (_, syn) = syn_sent(settings());
    let mss_for = |mss| {
        let options = Options { mss, ..syn.options };
        syn_received(settings(), &Segment { options, ..syn }).0.tcb.mss
    };
    assert_eq!((mss_for(None), mss_for(Some(1)), mss_for(Some(9000))), (536, 48, 1460));
}

/// Shows MUST-10.
#[test]
fn b06_simultaneous_open_ends_in_established_on_both_sides() {
    let (mut one, syn_of_one) = syn_sent(settings());
    let cx = Context { now: start(), settings: &settings(), options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut other = End::new(Tcb::open_actively(&tuple().reversed(), &cx), settings(), start());
    let syn_of_other = as_received(other.expect(SYN));
    one.arrives(syn_of_other);
    other.arrives(syn_of_one);
    assert_eq!((one.tcb.state, other.tcb.state), (State::SynReceived, State::SynReceived));
    let (from_one, from_other) = (as_received(one.expect(SYN_ACK)), as_received(other.expect(SYN_ACK)));
    assert!(one.arrives(from_other).established);
    assert!(other.arrives(from_one).established);
    assert_eq!((one.tcb.state, other.tcb.state), (State::Established, State::Established));
    assert_eq!(one.tcb.snd_nxt, other.tcb.rcv_nxt);
    assert!(one.tcb.agreed.snd_shift() > 0);
    for end in [&one, &other] {
        assert_eq!((end.tcb.snd_wnd, end.tcb.snd_wnd_max), (from_one.wnd.into(), from_one.wnd.into()), "as said");
    }
    one.queue(100);
    let text = one.expect(PSH_ACK);
    assert_eq!(other.arrives(as_received(text)).text, Some((0, 100)));
    other.queue(10);
    let text = other.expect(PSH_ACK);
    assert_eq!(one.arrives(as_received(text)).text, Some((0, 10)));
    let scaled = u32::from(text.wnd) << one.tcb.agreed.snd_shift();
    assert_eq!((one.tcb.snd_wnd, one.tcb.snd_wnd_max), (scaled, scaled), "the first without SYN");
}

#[test]
fn b09_syn_sent_wrong_ack_arrives_reset_and_nothing_changes() {
    let (mut client, syn) = syn_sent(plain());
    let wrong = Segment { seq: Seq(9), ack: syn.seq + 2, flags: SYN_ACK, ..Segment::default() };
    let out = client.arrives(wrong);
    let answer = out.answer.expect("a RST");
    assert_eq!((answer.seq, answer.flags), (wrong.ack, RST));
    assert_eq!(client.tcb.state, State::SynSent);
    client.expect_nothing();
}

#[test]
fn b09_syn_received_wrong_ack_arrives_reset_and_stays() {
    let (_, syn) = syn_sent(plain());
    let (mut server, _) = syn_received(plain(), &syn);
    let wrong = Segment { ack: server.tcb.snd_nxt + 1, ..server.next(ACK) };
    let out = server.arrives(wrong);
    assert_eq!(out.answer.map(|answer| (answer.seq, answer.flags)), Some((wrong.ack, RST)));
    assert_eq!((out.note, server.tcb.state), (Some(Note::BadAck), State::SynReceived));
}

/// Shows MUST-11.
#[test]
fn b08_old_syn_then_reset_returns_to_listen() {
    let (_, syn) = syn_sent(plain());
    let (mut server, syn_ack) = syn_received(plain(), &syn);
    // The client does not know the SYN-ACK: RFC 9293 3.10.7.1 answers with a RST at its acknowledgment number.
    let reset = Segment { seq: syn_ack.ack, flags: RST, ..Segment::default() };
    assert_eq!(server.arrives(reset).end, Some(tcp::End::Listen));
}

#[test]
fn syn_sent_reset_with_the_right_ack_arrives_refused() {
    let (mut client, _) = syn_sent(plain());
    let out = client.arrives(client.next(Flags(RST.0 | ACK.0)));
    assert_eq!(out.end, Some(tcp::End::Closed(CloseReason::Refused)));
}

#[test]
fn syn_sent_reset_without_ack_arrives_is_ignored() {
    let (mut client, _) = syn_sent(plain());
    assert_eq!(client.arrives(client.next(RST)).end, None);
    assert_eq!(client.tcb.state, State::SynSent);
}

/// Shows MUST-22, MUST-23.
#[test]
fn b11_syn_is_sent_seven_times_more_with_doubled_waits_then_timed_out() {
    let (mut client, _) = syn_sent(settings());
    let mut waits = Vec::new();
    loop {
        let (waited, out) = client.time_out();
        waits.push(waited);
        if let Some(end) = out.end {
            assert_eq!(end, tcp::End::Closed(CloseReason::TimedOut));
            break;
        }
        assert!(client.expect(SYN).again);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000]);
    assert!(waits.iter().sum::<u32>() >= 180_000, "MUST-23");
}

/// How often a SYN-ACK is sent again under these settings, and after how many ms the half-open connection is given up.
fn syn_acks_again(settings: Settings) -> (u8, u32) {
    let (_, syn) = syn_sent(settings);
    let (mut server, _) = syn_received(settings, &syn);
    let (mut again, mut waited) = (0, 0);
    let end = loop {
        let (wait, out) = server.time_out();
        waited += wait;
        if let Some(end) = out.end {
            break end;
        }
        server.expect(SYN_ACK);
        again += 1;
    };
    assert_eq!(end, tcp::End::Listen);
    (again, waited)
}

#[test]
fn b11_syn_ack_is_sent_five_times_more_then_the_half_open_connection_goes() {
    assert_eq!(syn_acks_again(settings()), (5, 63_000));
}

#[test]
fn b11_syn_ack_is_sent_as_often_as_is_set_and_half_open_state_lasts_accordingly() {
    for (syn_ack_retries, waits_ms) in [(0, 1000), (1, 3000), (2, 7000), (7, 191_000), (15, 703_000)] {
        let again = syn_acks_again(Settings { syn_ack_retries, ..settings() });
        assert_eq!(again, (syn_ack_retries, waits_ms));
    }
}

#[test]
fn b12_lost_third_ack_is_healed_by_the_syn_ack_again() {
    let (mut client, syn) = syn_sent(settings());
    let (mut server, syn_ack) = syn_received(settings(), &syn);
    client.arrives(syn_ack);
    client.expect(ACK);
    server.time_out();
    let again = as_received(server.expect(SYN_ACK));
    client.now = server.now;
    client.arrives(again);
    let ack = client.expect(ACK);
    assert!(server.arrives(as_received(ack)).established);
}

#[test]
fn b12_syn_again_in_syn_received_brings_the_syn_ack_again() {
    let (_, syn) = syn_sent(settings());
    let (mut server, syn_ack) = syn_received(settings(), &syn);
    assert_eq!(server.arrives(syn).note, Some(Note::OutOfWindow));
    assert_eq!(server.expect(SYN_ACK).seq, syn_ack.seq);
}

/// Text or a FIN behind the SYN lies in the window; the SYN before it does not, and is trimmed off.
#[test]
fn b12_syn_again_with_text_or_fin_brings_the_syn_ack_again_and_ends_nothing() {
    for (flags, payload_len) in [(SYN, 5), (SYN | Flags::FIN, 0), (SYN | Flags::FIN, 5)] {
        let (_, syn) = syn_sent(settings());
        let syn = Segment { flags, payload_len, ..syn };
        let (mut server, syn_ack) = syn_received(settings(), &syn);
        let out = server.arrives(syn);
        assert_eq!((out.end, out.note, server.tcb.state), (None, Some(Note::OutOfWindow), State::SynReceived));
        let again = server.expect(SYN_ACK);
        assert_eq!((again.seq, again.ack, server.tcb.unread_bytes), (syn_ack.seq, syn.seq + 1, 0));
    }
}

/// RFC 9293 3.10.7.4, fourth check: the half-open connection is gone, whoever sent the SYN.
#[test]
fn syn_received_another_syn_in_the_window_returns_to_listen_and_is_noted() {
    let (_, syn) = syn_sent(plain());
    let (mut server, _) = syn_received(plain(), &syn);
    let out = server.arrives(Segment { seq: syn.seq + 10, ..syn });
    assert_eq!((out.end, out.note), (Some(tcp::End::Listen), Some(Note::ReturnedToListen)));
}

#[test]
fn t25_syn_received_old_ack_outside_the_window_is_not_answered() {
    let (_, syn) = syn_sent(settings());
    let (mut server, _) = syn_received(settings(), &syn);
    // What the peer's TIME-WAIT says to a SYN-ACK that an old SYN brought about.
    let old = Segment { seq: server.tcb.rcv_nxt.back(1000), ..server.next(ACK) };
    assert_eq!(server.arrives(old).note, Some(Note::OutOfWindow));
    server.expect_nothing();
}

/// The connect deadline after the SYNs have crossed.
#[test]
fn connect_deadline_outlives_a_crossed_syn() {
    let (mut client, _) = syn_sent(plain());
    client.tcb.waits_until = crate::tick::Deadline::at(client.now.tick().plus(500));
    client.arrives(Segment { seq: Seq(5), flags: SYN, wnd: 1000, ..Segment::default() });
    assert!(client.tcb.waits_until.is_set());
}

/// Shows MUST-10.
#[test]
fn b06_a_syn_and_a_syn_ack_that_come_together_are_acknowledged_at_once() {
    let (mut client, syn) = syn_sent(settings());
    let syn_of_peer = Segment { seq: Seq(7000), ..syn };
    client.arrives(syn_of_peer);
    let syn_ack = Segment { ack: client.tcb.snd_nxt, flags: SYN_ACK, ..syn_of_peer };
    assert!(client.arrives(syn_ack).established);
    assert_eq!(client.expect(ACK).ack, Seq(7001));
}

/// Shows MUST-10, RFC 7323.
#[test]
fn b06_the_window_of_a_syn_ack_that_answers_a_crossed_syn_is_not_scaled() {
    let (mut client, _) = syn_sent(settings());
    let options = Options { mss: Some(1460), window_scale: Some(7), ..Options::default() };
    let syn = Segment { seq: Seq(7000), flags: SYN, wnd: 2000, options, ..Segment::default() };
    client.arrives(syn);
    client.expect(SYN_ACK);
    assert!(client.arrives(Segment { ack: client.tcb.snd_nxt, flags: SYN_ACK, ..syn }).established);
    assert_eq!((client.tcb.snd_wnd, client.tcb.snd_wnd_max), (2000, 2000));
    client.queue(60_000);
    let sent: u32 = client.sends().iter().map(|plan| u32::from(plan.text_len)).sum();
    assert!(sent > 0 && sent <= 2000, "{sent} octets into a window of 2000");
    client.arrives(Segment { wnd: 2000, ..client.next(ACK) });
    assert_eq!((client.tcb.snd_wnd, client.tcb.snd_wnd_max), (2000 << 7, 2000 << 7));
}

#[test]
fn t19_a_reset_that_also_says_syn_and_ack_again_is_outside_the_window_and_dropped() {
    let (mut client, syn) = syn_sent(plain());
    client.arrives(Segment { seq: Seq(7000), ..syn });
    client.expect(SYN_ACK);
    let flags = Flags(SYN_ACK.0 | RST.0);
    let out = client.arrives(Segment { seq: Seq(7000), ack: client.tcb.snd_nxt, flags, ..syn });
    assert_eq!((out.end, out.note, client.tcb.state), (None, Some(Note::OutOfWindow), State::SynReceived));
    client.expect_nothing();
}

/// Shows RFC 5681 3.1.
#[test]
fn after_a_lost_syn_or_syn_ack_transmission_starts_with_one_segment() {
    for lost in [false, true] {
        let (mut client, mut syn) = syn_sent(plain());
        if lost {
            client.time_out();
            syn = as_received(client.expect(SYN));
        }
        let (mut server, mut syn_ack) = syn_received(plain(), &syn);
        if lost {
            server.time_out();
            syn_ack = as_received(server.expect(SYN_ACK));
        }
        client.arrives(syn_ack);
        server.arrives(as_received(client.expect(ACK)));
        for end in [&mut client, &mut server] {
            end.queue(50_000);
            assert_eq!(end.sends().len(), if lost { 1 } else { 10 }, "{:?}", end.tcb.opened());
        }
    }
}
