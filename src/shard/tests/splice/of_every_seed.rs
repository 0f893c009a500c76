//! The seeds of the simulation through a relay, with burst 64 and with burst 1.

use super::super::simulation::peer::Peer;
use super::super::simulation::plan::Plan;
use super::super::simulation::{RECEIVED_MIN, Report, bursts, check_endings, on_every_seed, take_all};
use super::*;
use crate::api::Keepalive;

/// Every seed of the simulation again, with a relay between its ends. What is compared between bursts, and over which wires, is what
/// is compared without a relay; that an end was pressed for chunks is not told by how its connection ends beyond the relay, so that
/// fair wires have chunks for all.
#[test]
fn splice_of_every_seed_delivers_every_byte_once_or_tells_an_error_and_leaves_nothing() {
    let totals = on_every_seed(SEEDS, |seed| bursts::alike(&through_relay(seed), relay));
    std::println!("{totals:?}");
    if totals.seeds >= SEEDS {
        assert!(totals.whole > 0 && totals.kept > 0, "no seed was whole, or none kept text out of order: {totals:?}");
        bursts::assert_compared(&totals);
    }
}

fn through_relay(seed: u64) -> Plan {
    let mut plan = Plan { v6: false, ..Plan::draw(seed) };
    plan.limits.tcbs_max = 256;
    for job in &mut plan.jobs {
        job.opener = 0;
    }
    plan
}

/// One run of the plan, with the checks that concern it alone.
fn relay(plan: &Plan, burst: u32) -> Report {
    let limits = if plan.fair { plan.clone().with_chunks_for_all().limits } else { plan.limits };
    // A relay of its own hears nothing of a RST that is lost.
    let keepalive = Keepalive { idle: Duration::from_secs(300), ..Keepalive::default() };
    let setup = Setup {
        connection: ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() },
        faults: plan.faults,
        limits: Limits { burst, ..limits },
        settings: plan.settings,
        fair: plan.fair,
        ..Setup::default()
    };
    let remote = SocketAddr::new("10.0.0.2".parse().expect("an address"), 80);
    let mut world = Relayed::over(Peer::new(plan, 0, remote), &setup, plan.seed, plan.mtu);
    let together = world.run_through();
    assert_shard_clean(&world.relay);
    assert_shard_clean(&world.ends);
    assert_eq!(world.relay.application().told, 0, "bytes and FINs of spliced connections are not told");
    assert!(world.relay.counters().splices > 0, "most jobs come to a splice");
    let report = world.report(together);
    let loses_nothing_for_ever = report.whole || plan.fair;
    assert!(!loses_nothing_for_ever || report.received() >= RECEIVED_MIN, "{} bytes came", report.received());
    check_endings(plan, &report);
    report
}

impl Relayed<Peer> {
    /// Jumps from one thing that happens to the next until all connections have ended. Returns how many frames came with others.
    fn run_through(&mut self) -> u64 {
        let mut together = 0;
        for _ in 0..STEPS_MAX {
            let before = self.frames();
            together += take_all(&mut self.ends, self.now) + take_all(&mut self.relay, self.now);
            let ends = self.ends.application();
            if ends.to_open.is_empty() && self.ends.connections_live() + self.relay.connections_live() == 0 {
                return together;
            }
            let soon = Now::from_us(self.now.us() + 10);
            let pending = self.ends.link().inner().pending() + self.relay.link().inner().pending() > 0;
            if pending || self.frames() != before {
                self.now = soon;
                continue;
            }
            let later = |at: Now| if at <= self.now { self.now.plus_ms(1) } else { at };
            let times = [
                self.ends.link().next_due(),
                self.relay.link().next_due(),
                self.ends.next_deadline(self.now).map(later),
                self.relay.next_deadline(self.now).map(later),
                self.ends.application().wish(self.now),
            ];
            self.now = times.into_iter().flatten().min().expect("something is left to happen").max(soon);
        }
        panic!("still not over: {:?} {:?}", self.ends.states(), self.relay.states());
    }

    fn frames(&self) -> u64 {
        let (ends, relay) = (self.ends.counters(), self.relay.counters());
        ends.frames_received + ends.segments_sent + relay.frames_received + relay.segments_sent
    }

    /// The clients' endings are those of one end, the servers' those of the other.
    fn report(self, together: u64) -> Report {
        let mut report = Report::of((&self.ends, &self.relay), self.now, together);
        for ending in self.ends.into_application().ends {
            report.ends[usize::from(!ending.opened)].push(ending);
        }
        report.ends.iter_mut().for_each(|ends| ends.sort_by_key(|ending| ending.job));
        report
    }
}

/// Seeds that run through the relay without SYNFIN_SEEDS: each up to six times.
const SEEDS: u64 = 20;
