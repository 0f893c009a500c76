//! The seeds of the simulation through a relay.

use super::*;

/// Every seed of the simulation again, with a relay between its ends.
#[test]
fn splice_of_every_seed_delivers_every_byte_once_or_tells_an_error_and_leaves_nothing() {
    let mut splices = 0;
    for seed in seeds(SEEDS) {
        let _tattle = Tattle(seed);
        let mut plan = Plan { v6: false, ..Plan::draw(seed) };
        for job in &mut plan.jobs {
            job.opener = 0;
        }
        // A relay of its own hears nothing of a RST that is lost.
        let keepalive = Keepalive { idle: Duration::from_secs(300), ..Keepalive::default() };
        let setup = Setup {
            connection: ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() },
            faults: plan.faults,
            limits: Limits { tcbs_max: 256, ..plan.limits },
            settings: plan.settings,
            ..Setup::default()
        };
        let remote = SocketAddr::new("10.0.0.2".parse().expect("an address"), 80);
        let peer = Peer::new(&plan, 0, remote);
        let mut world = Relayed::over(peer, &setup, seed, plan.mtu);
        world.run_through();
        let lossless = seed.is_multiple_of(4);
        let ends: Vec<Ending> = core::mem::take(&mut world.ends.application_mut().ends);
        let opened: Vec<&Ending> = ends.iter().filter(|ending| ending.opened).collect();
        assert_eq!(opened.len(), plan.jobs.len(), "seed {seed}: each connection ends once");
        for ending in opened.iter().filter(|ending| lossless && ending.job.is_some()) {
            let job = plan.jobs[ending.job.expect("it has one")];
            let expected = if job.closing == Closing::Abort { CloseReason::Aborted } else { CloseReason::Graceful };
            assert_eq!(ending.reason, expected, "seed {seed}: {job:?}");
        }
        assert_shard_clean(&world.relay);
        assert_shard_clean(&world.ends);
        assert_eq!(world.relay.application().told, 0, "seed {seed}");
        splices += world.relay.counters().splices;
    }
    assert!(splices > 10, "{splices} splices: most jobs come to that");
}

impl Relayed<Peer> {
    /// Jumps from one thing that happens to the next until all connections have ended.
    fn run_through(&mut self) {
        for _ in 0..STEPS_MAX {
            let before = self.frames();
            self.ends.turn(self.now);
            self.relay.turn(self.now);
            let ends = self.ends.application();
            if ends.to_open.is_empty() && self.ends.connections_live() + self.relay.connections_live() == 0 {
                return;
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
}

/// Seeds that run through the relay.
const SEEDS: u64 = 60;
