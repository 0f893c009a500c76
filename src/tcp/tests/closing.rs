//! Behaviours B30 to B37.

use super::held::{At, Held, Numbered};
use super::*;
use crate::tcp::state::CloseReason;
use crate::tcp::tcb::Owed;
use crate::tcp::time_wait::TimeWait;
use crate::tcp::{Answer, End as Ends};

/// Delivers everything that `from` owes; an answer goes straight back. Returns how many segments crossed and the two ends.
fn deliver(from: &mut End, to: &mut End) -> (usize, Option<Ends>, Option<Ends>) {
    let (mut segments, mut end_of_from, mut end_of_to) = (0, None, None);
    for plan in from.sends() {
        segments += 1;
        let out = to.arrives(as_received(plan));
        end_of_to = end_of_to.or(out.end);
        if let Some(answer) = out.answer {
            segments += 1;
            let options = Options { timestamps: answer.timestamps, ..Options::default() };
            let Answer { seq, ack, flags, wnd, .. } = answer;
            let back = from.arrives(Segment { seq, ack, flags, wnd, options, ..Segment::default() });
            end_of_from = end_of_from.or(back.end);
        }
        if out.peer_closed && to.tcb.state == State::CloseWait {
            to.close();
        }
    }
    (segments, end_of_from, end_of_to)
}

/// Shows RFC 2525 2.17.
#[test]
fn b30_b31_b32_b33_b34_close_takes_three_segments_when_both_are_done() {
    let (mut client, mut server) = established();
    client.close();
    assert_eq!(deliver(&mut client, &mut server), (1, None, None), "FIN");
    let closed = Some(Ends::Closed(CloseReason::Graceful));
    assert_eq!(deliver(&mut server, &mut client), (2, closed, Some(Ends::TimeWait)), "FIN with ACK, then ACK");
}

#[test]
fn b30_fin_follows_what_is_queued_and_consumes_one_number() {
    let (mut client, _) = established();
    client.queue(100);
    client.close();
    assert_eq!(client.tcb.state, State::FinWait1);
    let plan = client.expect(Flags(FIN_ACK.0 | Flags::PSH.0));
    assert_eq!((plan.text_len, client.tcb.snd_nxt), (100, plan.seq + 101));
}

#[test]
fn b31_half_close_the_other_direction_still_flows() {
    let (mut client, mut server) = established();
    client.shutdown_write();
    let fin = client.expect(FIN_ACK);
    assert!(server.arrives(as_received(fin)).peer_closed);
    assert_eq!(server.tcb.state, State::CloseWait);
    let ack = server.expect(ACK);
    client.arrives(as_received(ack));
    assert_eq!(client.tcb.state, State::FinWait2);
    server.queue(500);
    let data = server.expect(PSH_ACK);
    assert_eq!(client.arrives(as_received(data)).text, Some((0, 500)));
}

#[test]
fn b33_fin_wait_2_fin_arrives_answers_from_values_alone() {
    let (mut client, mut server) = established();
    client.shutdown_write();
    let fin = client.expect(FIN_ACK);
    server.arrives(as_received(fin));
    let ack = server.expect(ACK);
    client.arrives(as_received(ack));
    server.close();
    assert_eq!(server.tcb.state, State::LastAck);
    let fin = server.expect(FIN_ACK);
    let out = client.arrives(as_received(fin));
    assert_eq!(out.end, Some(Ends::TimeWait));
    let answer = out.answer.expect("the last ACK");
    assert_eq!((answer.seq, answer.ack), (client.tcb.snd_nxt, fin.seq + 1));
    client.expect_nothing();
    let cx = Context { now: start(), settings: &settings(), options: &ConnectionOptions::DEFAULT, receive_room: true };
    let TimeWait::V4(record) = TimeWait::of(&client.tcb, &tuple(), &cx) else { panic!("an IPv4 record") };
    assert_eq!(record.tuple(), tuple());
    assert_eq!((record.numbers.snd_nxt, record.numbers.rcv_nxt), (answer.seq, answer.ack));
}

#[test]
fn b35_simultaneous_close_passes_through_closing_on_both_sides() {
    let (mut client, mut server) = established();
    client.close();
    server.close();
    let (from_client, from_server) = (client.expect(FIN_ACK), server.expect(FIN_ACK));
    client.arrives(as_received(from_server));
    server.arrives(as_received(from_client));
    assert_eq!((client.tcb.state, server.tcb.state), (State::Closing, State::Closing));
    let (from_client, from_server) = (client.expect(ACK), server.expect(ACK));
    assert_eq!(client.arrives(as_received(from_server)).end, Some(Ends::TimeWait));
    assert_eq!(server.arrives(as_received(from_client)).end, Some(Ends::TimeWait));
}

#[test]
fn b30_close_during_a_crossed_open_sends_its_fin_once_the_syn_is_acknowledged() {
    let (mut client, syn) = syn_sent(plain());
    client.arrives(Segment { seq: Seq(5), flags: SYN, wnd: 1000, ..Segment::default() });
    client.expect(SYN_ACK);
    assert_eq!(client.close(), calls::Closed::FinFollows);
    client.expect_nothing();
    assert_eq!(client.tcb.state, State::SynReceived);
    let out = client.arrives(client.next(ACK));
    assert!(out.established);
    assert_eq!(client.tcb.state, State::FinWait1);
    let fin = client.expect(FIN_ACK);
    assert_eq!(fin.seq, syn.seq + 1);
    client.arrives(client.next(ACK));
    assert_eq!(client.tcb.state, State::FinWait2);
}

#[test]
fn fin_is_sent_again_after_the_time_out() {
    let (mut client, _) = established();
    client.close();
    let first = client.expect(FIN_ACK);
    assert_eq!(client.time_out().0, 200);
    let again = client.expect(FIN_ACK);
    assert!(again.again && again.seq == first.seq);
    assert_eq!(client.time_out().0, 400);
}

#[test]
fn out_of_order_fin_is_not_taken() {
    let (mut client, server) = established_with(plain());
    let early = Segment { seq: client.tcb.rcv_nxt + 10, ..client.next(FIN_ACK) };
    assert!(!client.arrives(early).peer_closed);
    assert_eq!(client.tcb.state, State::Established);
    assert_eq!(client.expect(ACK).ack, server.tcb.snd_nxt);
}

#[test]
fn b37_fin_wait_2_ends_by_a_timer_once_the_application_has_gone() {
    let (mut client, mut server) = established();
    client.close();
    let fin = client.expect(FIN_ACK);
    server.arrives(as_received(fin));
    let ack = server.expect(ACK);
    client.arrives(as_received(ack));
    assert_eq!(client.tcb.state, State::FinWait2);
    let (waited, out) = client.time_out();
    assert_eq!((waited, out.end), (60_000, Some(Ends::Closed(CloseReason::TimedOut))));
}

/// Shows MAY-1, RFC 1122, RFC 2525 2.16.
#[test]
fn shld_3_text_after_close_is_answered_by_reset() {
    let (mut client, mut server) = established();
    client.close();
    client.expect(FIN_ACK);
    server.queue(10);
    let data = server.expect(PSH_ACK);
    let out = client.arrives(as_received(data));
    assert!(out.answer.is_some_and(|answer| answer.flags.rst()));
    assert_eq!(out.end, Some(Ends::Closed(CloseReason::Aborted)));
}

/// Shows SHLD-3, MAY-1, RFC 2525 2.17.
#[test]
fn rfc_2525_close_with_unread_text_aborts() {
    let (mut client, mut server) = established();
    server.queue(10);
    let data = server.expect(PSH_ACK);
    client.arrives(as_received(data));
    assert_eq!(client.close(), calls::Closed::Aborts);
    // What a shard makes of it.
    calls::abort(&mut client.tcb);
    let reset = client.expect(RST_ACK);
    assert_eq!(server.arrives(as_received(reset)).end, Some(Ends::Closed(CloseReason::Reset)));
}

#[test]
fn b36_abort_sends_a_reset_unless_both_fins_have_been_sent() {
    let (mut client, _) = established_with(plain());
    assert!(calls::abort_owes_reset(&client.tcb));
    client.arrives(client.next(FIN_ACK));
    client.queue(100);
    client.close();
    assert!(calls::abort_owes_reset(&client.tcb), "text and FIN still wait");
    client.sends();
    assert_eq!(client.tcb.state, State::LastAck);
    assert!(!calls::abort_owes_reset(&client.tcb));
}

/// Octets or a FIN beyond a closed window, of which nobody knows whether they were taken.
#[test]
fn b36_must_66_reset_behind_a_closed_window_is_believed_whatever_the_peer_has_taken() {
    for (text, takes_it, answered) in
        [(1, false, false), (1, true, false), (0, false, false), (0, true, false), (0, true, true)]
    {
        let (mut client, mut server) = established_with(plain());
        server.settings.receive_buffer_bytes = 100;
        server.tcb.rcv_edge = server.tcb.rcv_nxt + 100;
        client.queue(100);
        server.arrives(as_received(client.expect(PSH_ACK)));
        server.tcb.owed.add(Owed::ACK_NOW);
        client.arrives(as_received(server.expect(ACK)));
        assert_eq!((client.tcb.snd_wnd, server.tcb.rcv_wnd()), (0, 0));
        match text {
            0 => drop(client.close()),
            _ => {
                client.queue(100);
                client.expect_nothing();
                client.time_out();
            }
        }
        let sent = client.sends()[0];
        assert_eq!(u32::from(sent.text_len), text);
        if takes_it {
            server.tcb.rcv_edge += text;
            server.arrives(as_received(sent));
            assert_eq!((server.tcb.rcv_nxt, server.tcb.rcv_wnd()), (client.tcb.snd_nxt, 0));
        }
        if answered {
            client.arrives(as_received(server.expect(ACK)));
        }
        client.tcb.end(CloseReason::Aborted);
        client.tcb.owed.add(Owed::RESET);
        let resets = client.sends();
        assert_eq!(resets.len(), if answered { 1 } else { 2 }, "one where there is no doubt");
        let ended: Vec<_> = resets.iter().map(|reset| server.arrives(as_received(*reset)).end).collect();
        assert!(ended.contains(&Some(Ends::Closed(CloseReason::Reset))), "{text} {takes_it}: {ended:?}");
    }
}

#[test]
fn b36_valid_reset_ends_every_synchronized_state() {
    let numbers = Numbered { iss: Seq(7), irs: Seq(u32::MAX) };
    for at in [At::Established, At::FinWait1, At::FinWait2, At::CloseWait, At::Closing, At::LastAck] {
        for flags in [RST, RST_ACK] {
            let Held::Tcb(mut end) = Held::new(at, numbers) else { panic!("{at:?} has a TCB") };
            let out = end.arrives(end.next(flags));
            assert_eq!(out.end, Some(Ends::Closed(CloseReason::Reset)), "{at:?}");
            assert_eq!(out.answer, None, "{at:?}: a RST is never answered by a RST");
            assert_eq!((end.tcb.state, end.tcb.deadline()), (State::Closed, None), "{at:?}");
            end.expect_nothing();
        }
    }
}

/// Peer's FIN and then its ACK of ours in one burst: is the FIN acknowledged?
#[test]
fn b35_closing_fin_and_ack_of_ours_in_one_burst_both_count() {
    let (mut client, _) = established_with(plain());
    client.close();
    client.expect(FIN_ACK);
    client.arrives(Segment { ack: client.tcb.snd_una, ..client.next(FIN_ACK) });
    let out = client.arrives(client.next(ACK));
    assert!(out.answer.is_some() || !client.sends().is_empty(), "{out:?}");
}
