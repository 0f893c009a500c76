//! Urgent data: RFC 9293 3.8.5, RFC 6093, T15.

use super::*;
use crate::tcp::urgent;

const URG_ACK: Flags = Flags(Flags::URG.0 | Flags::ACK.0);

fn urg(end: &End, up: u16, text: u16) -> Segment {
    Segment { up, payload_len: text, ..end.next(URG_ACK) }
}

#[test]
fn must_32_must_33_urgent_data_is_told_once_counted_down_and_told_again() {
    let (mut client, _) = established_with(plain());
    let out = client.arrives(urg(&client, 10, 4));
    assert!(out.urgent && out.text == Some((0, 4)), "it stays in line");
    assert_eq!(urgent::bytes_left(&client.tcb), 10);
    // The same stretch, and more of it before it has been read: no second word.
    assert!(!client.arrives(urg(&client, 6, 6)).urgent);
    assert!(!client.arrives(urg(&client, 5, 0)).urgent);
    assert_eq!(urgent::bytes_left(&client.tcb), 15);
    client.consume_all();
    assert_eq!(urgent::bytes_left(&client.tcb), 5);
    client.arrives(Segment { payload_len: 7, ..client.next(ACK) });
    client.consume_all();
    assert_eq!(urgent::bytes_left(&client.tcb), 0);
    assert!(client.arrives(urg(&client, 1, 1)).urgent);
}

#[test]
fn must_33_urgent_data_that_comes_with_the_last_fin_is_counted_to_its_end() {
    let (mut client, _) = established_with(plain());
    client.close();
    client.expect(FIN_ACK);
    client.arrives(client.next(ACK));
    assert_eq!(client.tcb.state, State::FinWait2);
    client.arrives(urg(&client, 4, 4));
    client.arrives(client.next(FIN_ACK));
    assert_eq!((client.tcb.state, urgent::bytes_left(&client.tcb)), (State::Closed, 4));
}

#[test]
fn t15_pointers_past_the_data_before_it_or_without_data_do_no_harm() {
    let (mut client, _) = established_with(plain());
    assert!(!client.arrives(urg(&client, 0, 0)).urgent, "a pointer to the segment itself names nothing");
    let out = client.arrives(urg(&client, 65_535, 0));
    assert_eq!((out.urgent, out.text, urgent::bytes_left(&client.tcb)), (true, None, 65_535));
    // An old segment that is acceptable by its end: its pointer lies before what is known.
    client.arrives(Segment { payload_len: 5, ..client.next(ACK) });
    client.arrives(Segment { seq: client.tcb.rcv_nxt.back(5), up: 2, payload_len: 6, ..client.next(URG_ACK) });
    assert_eq!(urgent::bytes_left(&client.tcb), 65_535);
    // After the FIN it cannot be, and is ignored.
    client.arrives(client.next(FIN_ACK));
    assert!(!client.arrives(urg(&client, 9, 0)).urgent);
}

#[test]
fn must_66_urgent_pointer_counts_with_a_closed_window() {
    let (mut client, _) = established_with(plain());
    client.tcb.rcv_edge = client.tcb.rcv_nxt;
    assert!(client.arrives(urg(&client, 3, 0)).urgent);
}

#[test]
fn must_30_must_31_must_62_pointer_of_every_segment_is_the_first_octet_that_is_not_urgent() {
    let (mut client, mut server) = established_with(plain());
    client.queue(3000);
    urgent::sent(&mut client.tcb);
    client.queue(100);
    let end = client.tcb.snd_una + 3000;
    let plans = client.sends();
    assert!(plans.len() > 2);
    for plan in &plans {
        let urgent = plan.seq.lt(end);
        assert_eq!(plan.flags.has(Flags::URG), urgent, "{plan:?}");
        if urgent {
            assert_eq!(plan.seq + u32::from(plan.up), end);
        }
        server.arrives(as_received(*plan));
    }
    assert_eq!(urgent::bytes_left(&server.tcb), 3000);
    client.arrives(client.next(ACK));
    client.queue(10);
    assert!(!client.sends()[0].flags.has(Flags::URG), "acknowledged: no longer urgent");
}

#[test]
fn must_31_more_than_the_field_can_say_is_pointed_at_as_far_as_it_reaches() {
    let (mut client, _) = established_with(plain());
    client.queue(100_000);
    urgent::sent(&mut client.tcb);
    assert!(client.sends().iter().all(|plan| plan.up == u16::MAX && plan.flags.has(Flags::URG)));
}

#[test]
fn urgent_data_is_announced_although_the_window_is_closed() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.queue(5);
    urgent::sent(&mut client.tcb);
    let plan = client.expect(URG_ACK);
    assert_eq!((plan.text_len, plan.up), (0, 5));
}
