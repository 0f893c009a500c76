//! The collapse and the recovery: one run in virtual time in which the policy is switched while connections come and go.

use super::model::Supply;
use crate::policy::Phases;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use synfin::api::{Application, ConnectOptions, Event};
use synfin::limits::{Limits, PORTS};
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::shard::{Calls, LocalAddress, Policies, Shard, ShardConfig};
use synfin::tcp::Settings;
use synfin::tcp::time_wait::Policy;
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// One second of a run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Second {
    /// Counted from 1.
    pub second: u32,
    pub policy: &'static str,
    /// Active opens that completed.
    pub opened: u64,
    /// What the model says.
    pub predicted: f64,
    /// Opens refused for want of a port.
    pub refused: u64,
    /// TIME-WAIT entries at its end.
    pub time_wait: u64,
    /// Ports neither in use nor in TIME-WAIT at its end.
    pub ports_free: u64,
}

/// Plays the phases at the supply's rate, whatever becomes of it: who is refused does not try again.
pub(super) fn play(supply: &Supply, phases: &Phases) -> Result<Vec<Second>, String> {
    let predicted = supply.series(&phases.0, 1);
    let mut run = Run::new(supply)?;
    let mut seconds = Vec::with_capacity(predicted.len());
    for &(policy, length) in &phases.0 {
        run.switch(policy)?;
        for _ in 0..length {
            let (connected, refused) = run.counts();
            let number = seconds.len() as u32 + 1;
            run.until(Now::from_ms(1000 * u64::from(number)));
            let (connected_now, refused_now) = run.counts();
            let time_wait = run.client.time_wait_live() as u64;
            seconds.push(Second {
                second: number,
                policy: policy.name(),
                opened: connected_now - connected,
                predicted: predicted[seconds.len()],
                refused: refused_now - refused,
                time_wait,
                ports_free: supply.tuples.saturating_sub(time_wait + run.client.connections_live() as u64),
            });
        }
    }
    Ok(seconds)
}

struct Run {
    client: Shard<MemoryLink, Client>,
    server: Shard<MemoryLink, Server>,
    now: Now,
}

impl Run {
    fn new(supply: &Supply) -> Result<Run, String> {
        let memory = MemoryConfig { frames: FRAMES, queue_frames: FRAMES, ..MemoryConfig::default() };
        let (a, b) = pair(memory, [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
        let now = Now::from_us(0);
        let client = Client { rate: supply.rate, tried: 0, connected: 0, refused: 0 };
        let client = Shard::new(a, client, shard_config(supply, CLIENT, 1), now).map_err(|error| error.to_string())?;
        let mut server =
            Shard::new(b, Server, shard_config(supply, SERVER, 2), now).map_err(|error| error.to_string())?;
        server.calls(now).listen(SERVER.into(), 80).map_err(|error| error.to_string())?;
        Ok(Run { client, server, now })
    }

    /// The policy holds from now on, for what is in TIME-WAIT as well.
    fn switch(&mut self, policy: Policy) -> Result<(), String> {
        let policies = Policies { time_wait: policy, ..self.client.policies() };
        self.client.set_policies(&policies, self.now).map_err(|error| error.to_string())
    }

    fn until(&mut self, end: Now) {
        while self.now < end {
            self.client.turn(self.now);
            self.server.turn(self.now);
            self.now = Now::from_us(self.now.us() + STEP_US);
        }
    }

    fn counts(&self) -> (u64, u64) {
        let client = self.client.application();
        (client.connected, client.refused)
    }
}

/// Opens at a steady rate and closes what is open.
struct Client {
    rate: f64,
    tried: u64,
    connected: u64,
    refused: u64,
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if let Event::Connected { handle } = event {
            self.connected += 1;
            // It has just opened: nothing can stand against it.
            let _ = calls.close(handle);
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let due = (calls.now().us() as f64 * self.rate / 1e6) as u64;
        while self.tried < due {
            self.tried += 1;
            let opened = calls.connect(SocketAddr::new(SERVER.into(), 80), &ConnectOptions::default());
            self.refused += u64::from(opened.is_err());
        }
    }
}

/// Closes when the peer has.
struct Server;

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if let Event::PeerClosed { handle } = event {
            let _ = calls.close(handle);
        }
    }
}

fn shard_config(supply: &Supply, address: Ipv4Addr, seed: u64) -> ShardConfig {
    let tuples = supply.tuples as u32;
    let first_port = PORTS.0.min(u16::MAX - (tuples - 1) as u16);
    ShardConfig {
        // Room beside what the 4-tuples need: nothing else is to be the limit, and no SYN answered by a cookie.
        limits: Limits {
            tcbs_max: 2 * tuples + 1024,
            half_open_max: 4 * tuples + 4096,
            time_wait_max: 4 * tuples + 4096,
            chunks_max: 1024,
            ..Limits::default()
        },
        addresses: vec![LocalAddress { address: address.into(), prefix_len: 24 }],
        ports: (first_port, first_port + (tuples - 1) as u16),
        msl_ms: (supply.two_msl_s * 500.0) as u32,
        settings: Settings { time_wait_delay_ms: (supply.delay_s * 1000.0) as u32, ..Settings::default() },
        ..ShardConfig::seeded(seed)
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Virtual time between turns, us.
const STEP_US: u64 = 100;

const FRAMES: u32 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b47_ports_run_out_and_a_switch_of_the_policy_brings_them_back_as_predicted() {
        let supply = Supply { tuples: 1000, two_msl_s: 6.0, delay_s: 1.0, rate: 400.0, ..Supply::default() };
        let phases = "strict:5s,timestamp:3s".parse().expect("phases");
        let seconds = play(&supply, &phases).expect("plays");
        let opened: Vec<u64> = seconds.iter().map(|second| second.opened).collect();
        for (second, opened) in seconds.iter().zip(&opened) {
            assert!((*opened as f64 - second.predicted).abs() <= 0.02 * supply.rate, "{second:?}");
        }
        assert!(opened[4] == 0 && opened[5] > 390, "collapse and recovery: {opened:?}");
        assert_eq!((seconds[4].time_wait, seconds[4].ports_free), (1000, 0));
    }

    #[test]
    fn a_4_tuple_rests_as_long_as_was_asked_for() {
        let supply = Supply { tuples: 1000, two_msl_s: 60.0, delay_s: 5.5, rate: 400.0, ..Supply::default() };
        let seconds = play(&supply, &"strict:5s,timestamp:2s".parse().expect("phases")).expect("plays");
        let opened: Vec<u64> = seconds[5..].iter().map(|second| second.opened).collect();
        assert!((190..=210).contains(&opened[0]) && opened[1] > 390, "{opened:?}");
    }
}
