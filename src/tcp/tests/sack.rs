use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const MSS: u32 = 10;
const BASE: u32 = u32::MAX - 100;

fn at(offset: u32) -> Seq {
    Seq(BASE) + offset
}

fn board(segments: u32) -> Scoreboard {
    let mut board = Scoreboard::default();
    board.begin(at(0), at(segments * MSS), Micros(1));
    board
}

fn block(from: u32, to: u32) -> (Seq, Seq) {
    (at(from * MSS), at(to * MSS))
}

fn sack(board: &mut Scoreboard, blocks: &[(Seq, Seq)]) -> u32 {
    board.take(blocks, |_| {})
}

fn lost(board: &Scoreboard) -> Option<(u32, u32)> {
    board.next_lost().map(|(start, end)| ((start - at(0)) / MSS, (end - at(0)) / MSS))
}

/// Shows RFC 6675.
#[test]
fn three_ranges_or_more_than_two_segments_beyond_make_a_hole_lost() {
    let mut scattered = board(10);
    sack(&mut scattered, &[block(1, 2), block(3, 4)]);
    scattered.mark_lost(MSS);
    assert_eq!(lost(&scattered), None);
    sack(&mut scattered, &[block(5, 6)]);
    scattered.mark_lost(MSS);
    assert_eq!((lost(&scattered), scattered.pipe()), (Some((0, 1)), 6 * MSS));
    let mut together = board(10);
    sack(&mut together, &[block(2, 4)]);
    together.mark_lost(MSS);
    assert_eq!(lost(&together), None);
    sack(&mut together, &[block(2, 5)]);
    together.mark_lost(MSS);
    assert_eq!((lost(&together), together.pipe()), (Some((0, 2)), 5 * MSS));
}

#[test]
fn what_is_sent_again_counts_in_the_pipe_and_is_not_lost_by_what_came_before() {
    let mut board = board(10);
    sack(&mut board, &[block(2, 8)]);
    board.mark_lost(MSS);
    board.sent(at(0), at(MSS), Micros(5));
    assert_eq!((lost(&board), board.pipe()), (Some((1, 2)), 3 * MSS));
    board.sent(at(MSS), at(2 * MSS), Micros(5));
    board.mark_lost(MSS);
    assert_eq!((lost(&board), board.pipe()), (None, 4 * MSS));
}

#[test]
fn t24_sack_at_or_outside_what_is_in_flight_says_nothing() {
    let mut board = board(10);
    let before = board;
    let far = |from: i64, to: i64| (Seq(BASE.wrapping_add(from as u32)), Seq(BASE.wrapping_add(to as u32)));
    for (left, right) in [(0, 10), (-5, 20), (50, 101), (20, 20), (30, 20), (100, 110), (i64::from(i32::MAX), 5)] {
        assert_eq!(sack(&mut board, &[far(left, right)]), 0, "{left}..{right}");
    }
    assert_eq!(board, before);
}

/// Shows RFC 2018.
#[test]
fn t24_a_peer_that_throws_away_what_it_sacked_gets_it_again() {
    let mut board = board(10);
    sack(&mut board, &[block(2, 6)]);
    board.advance(at(2 * MSS), |_| {});
    assert_eq!((lost(&board), board.sacked()), (Some((2, 6)), 0));
    let mut board = self::board(4);
    sack(&mut board, &[block(1, 3)]);
    board.lose_all(false);
    assert_eq!((lost(&board), board.sacked(), board.pipe()), (Some((0, 1)), 2 * MSS, 0));
    board.lose_all(true);
    assert_eq!((lost(&board), board.sacked()), (Some((0, 4)), 0));
}

/// Shows RFC 2883.
#[test]
fn d_sack_is_told_from_news() {
    let (low, high) = (block(0, 1), block(3, 5));
    assert_eq!(duplicate(&[low, high], at(MSS)), Some(low));
    assert_eq!(duplicate(&[block(3, 4), high], at(MSS)), Some(block(3, 4)));
    assert_eq!(duplicate(&[high, block(7, 8)], at(MSS)), None);
    assert_eq!(duplicate(&[], at(0)), None);
}

#[test]
fn t11_a_thousand_one_octet_blocks_take_no_more_ranges_than_there_are() {
    let mut board = Scoreboard::default();
    board.begin(at(0), at(5000), Micros(1));
    let sacked = (0..1000).map(|n| sack(&mut board, &[(at(3 + 4 * n), at(4 + 4 * n))])).sum::<u32>();
    assert!(usize::from(board.count) <= SCOREBOARD_RANGES_MAX && sacked < 20, "{sacked}");
    assert_eq!((board.sacked(), board.pipe()), (sacked, 5000 - sacked));
    board.mark_lost(MSS);
    while let Some((start, _)) = board.next_lost() {
        let pipe = board.pipe();
        board.sent(start, start + 1, Micros(9));
        assert!(board.pipe() > pipe, "transmission goes on");
    }
}

#[test]
fn times_of_one_millisecond_make_room_before_others_do() {
    let mut board = board(1);
    for n in 0..60 {
        board.sent(at((1 + n) * MSS), at((2 + n) * MSS), Micros(10 << 10 | n));
    }
    for n in 0..4 {
        board.sent(at((61 + n) * MSS), at((62 + n) * MSS), Micros((20 + n) << 10));
    }
    let times: Vec<_> = board.used().iter().map(|range| range.sent_at.0 >> 10).collect();
    assert_eq!((times[0], &times[times.len() - 4..]), (0, &[20, 21, 22, 23][..]), "{times:?}");
    assert!(times.contains(&10) && usize::from(board.count) < SCOREBOARD_RANGES_MAX);
}

/// What one octet is, said by an oracle that has room for each.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Octet {
    InFlight,
    Lost,
    Sacked,
}

fn octets(board: &Scoreboard) -> Vec<Octet> {
    let mut octets = Vec::new();
    for place in 0..usize::from(board.count) {
        let len = board.ranges[place].end - board.start_of(place);
        assert!(len > 0 && len < 1 << 20, "an empty range or one that runs backwards");
        let octet = match board.ranges[place].fate {
            Fate::InFlight => Octet::InFlight,
            Fate::Lost => Octet::Lost,
            Fate::Sacked => Octet::Sacked,
        };
        octets.extend(vec![octet; len as usize]);
    }
    octets
}

proptest! {
    /// Few blocks: nothing is forgotten, and the scoreboard agrees with an oracle octet by octet.
    /// RFC 2018.
    #[test]
    fn ranges_agree_with_an_oracle(ops in proptest::collection::vec((0..6u8, 0..120u32, 1..40u32), 1..12)) {
        let mut board = Scoreboard::default();
        board.begin(at(0), at(60), Micros(1));
        let (mut una, mut model) = (0, vec![Octet::InFlight; 60]);
        for (tick, (op, from, len)) in (2..).zip(ops) {
            let nxt = una + model.len() as u32;
            match op {
                0 | 1 => {
                    let sacked = sack(&mut board, &[(at(from), at(from + len))]);
                    let mut new = 0;
                    if from > una && from + len <= nxt {
                        for octet in &mut model[(from - una) as usize..(from + len - una) as usize] {
                            new += u32::from(*octet != Octet::Sacked);
                            *octet = Octet::Sacked;
                        }
                    }
                    prop_assert_eq!(sacked, new);
                }
                2 => {
                    let by = len.min(model.len() as u32);
                    una += by;
                    model.drain(..by as usize);
                    if model.first() == Some(&Octet::Sacked) {
                        model.iter_mut().filter(|octet| **octet == Octet::Sacked).for_each(|octet| *octet = Octet::Lost);
                    }
                    board.advance(at(una), |_| {});
                }
                3 => {
                    board.lose_all(false);
                    model.iter_mut().filter(|octet| **octet == Octet::InFlight).for_each(|octet| *octet = Octet::Lost);
                }
                4 if !model.is_empty() => {
                    model.extend(vec![Octet::InFlight; len as usize]);
                    board.sent(at(nxt), at(nxt + len), Micros(tick));
                }
                _ => {
                    if let Some((start, end)) = board.next_lost() {
                        let end = if (end - start) > len { start + len } else { end };
                        let range = (start - at(una)) as usize..(end - at(una)) as usize;
                        prop_assert!(model[..range.start].iter().all(|octet| *octet != Octet::Lost));
                        model[range].fill(Octet::InFlight);
                        board.sent(start, end, Micros(tick));
                    }
                }
            }
            prop_assert_eq!(octets(&board), model.clone());
            let count = |wanted| model.iter().filter(|octet| **octet == wanted).count() as u32;
            prop_assert_eq!((board.pipe(), board.sacked()), (count(Octet::InFlight), count(Octet::Sacked)));
            prop_assert_eq!(board.is_on(), !model.is_empty());
        }
    }

    /// Whatever comes, in whatever amount: ranges stay within bounds, in order, and cover what is in flight.
    #[test]
    fn t11_any_blocks_keep_the_scoreboard_whole(ops in proptest::collection::vec((0..5u8, any::<u32>(), 0..3000u32), 1..300)) {
        let mut board = Scoreboard::default();
        board.begin(at(0), at(3000), Micros(1));
        let (mut una, mut nxt) = (0, 3000);
        for (tick, (op, from, len)) in (2..).zip(ops) {
            match op {
                0 => { sack(&mut board, &[(Seq(from), Seq(from) + len)]); }
                1 => { sack(&mut board, &[(at(una + from % 3000), at(una + from % 3000 + len % 20))]); }
                2 => { una += (len % 50).min(nxt - una); board.advance(at(una), |_| {}); }
                3 => { board.mark_lost(MSS); }
                _ => {
                    match board.next_lost() {
                        Some((start, end)) => board.sent(start, if end - start > 3 { start + 3 } else { end }, Micros(tick)),
                        None if board.is_on() => { board.sent(at(nxt), at(nxt + 7), Micros(tick)); nxt += 7; }
                        None => {}
                    }
                }
            }
            let covered = octets(&board).len() as u32;
            prop_assert!(covered == nxt - una || una == nxt, "{} of {}", covered, nxt - una);
        }
    }
}
