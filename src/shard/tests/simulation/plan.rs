//! What one seed stands for: the wire's faults, the ends' settings, and the jobs that connections do.

use crate::limits::Limits;
use crate::link::faults::FaultConfig;
use crate::tcp::Settings;
use alloc::vec::Vec;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Everything that a run is made from; the same seed gives the same plan.
#[derive(Clone, Debug)]
pub(in crate::shard::tests) struct Plan {
    pub seed: u64,
    pub jobs: Vec<Job>,
    pub faults: FaultConfig,
    pub settings: Settings,
    pub limits: Limits,
    pub mtu: u16,
    pub v6: bool,
    /// The fate of frames follows from the frames, and none is lost for ever.
    pub fair: bool,
    /// Connections that one end has open at a time of those that it opens.
    pub in_flight_max: usize,
}

/// What one connection does. "Up" is from the end that opens it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard::tests) struct Job {
    /// Which end opens.
    pub opener: usize,
    /// Bytes up: 0, or at least 4, for the first four say which job this is.
    pub up: u32,
    /// Bytes down; 0 when `up` is.
    pub down: u32,
    /// Parts in which `up` and `down` alternate as requests and responses; 0: both flow freely.
    pub rounds: u32,
    /// Who closes and how.
    pub closing: Closing,
    /// Most bytes that an end takes out of one event; the rest is taken turn by turn.
    pub bite: usize,
}

/// Who closes and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard::tests) enum Closing {
    /// The opener, when everything has come and gone; the acceptor follows.
    Opener,
    /// The acceptor, likewise.
    Acceptor,
    /// Each direction as soon as everything is queued.
    Halves,
    /// The opener aborts after half of `down`.
    Abort,
}

impl Plan {
    /// The plan of `seed`. Every fourth seed loses and corrupts nothing.
    pub(in crate::shard::tests) fn draw(seed: u64) -> Plan {
        let mut random = SmallRng::seed_from_u64(seed);
        let lossless = seed.is_multiple_of(4);
        let v6 = random.random_bool(0.3);
        let low = if v6 { 1280 } else { 576 };
        let faults = faults(&mut random, lossless);
        let settings = Settings {
            timestamps: random.random_bool(0.7),
            window_scale: random.random_bool(0.7),
            sack: !seed.is_multiple_of(3),
            receive_buffer_bytes: 1 << random.random_range(11..=16),
            send_buffer_bytes: 1 << random.random_range(11..=16),
            ..Settings::default()
        };
        let limits = Limits {
            tcbs_max: 96,
            time_wait_max: 512,
            chunks_max: if lossless { 1024 } else { 1 << random.random_range(6..=10) },
            reassemblies_max: if random.random_bool(0.8) { 8 } else { random.random_range(0..2) },
            destinations_max: 16,
            neighbors_max: 4,
            listeners_max: 4,
            ..Limits::default()
        };
        Plan {
            seed,
            jobs: jobs(&mut random),
            faults,
            settings,
            limits,
            mtu: random.random_range(low..=1500),
            v6,
            fair: false,
            in_flight_max: random.random_range(1..=16),
        }
    }

    /// The same over a wire that loses nothing for ever: luck decides when a connection ends, and not how.
    pub(super) fn fairly(self) -> Plan {
        let faults = FaultConfig { frames_per_second: 0, held_max: 2048, ..self.faults };
        Plan { fair: true, faults, ..self }
    }

    /// The same with so many chunks that nobody is ended for want of them.
    pub(in crate::shard::tests) fn with_chunks_for_all(self) -> Plan {
        Plan { limits: Limits { chunks_max: 4096, ..self.limits }, ..self }
    }
}

fn faults(random: &mut SmallRng, lossless: bool) -> FaultConfig {
    let mut share =
        |often: f64, most: f64| if random.random_bool(often) { random.random_range(0.0..most) } else { 0.0 };
    let (loss, corruption) = (share(0.8, 0.3), share(0.4, 0.1));
    let (duplication, reordering, late_duplication) = (share(0.5, 0.3), share(0.5, 0.3), share(0.4, 0.1));
    let delay = if random.random_bool(0.7) { random.random_range(1..20_000) } else { 0 };
    let span = if random.random_bool(0.5) { random.random_range(0..5000) } else { 0 };
    let capacity = !lossless && random.random_bool(0.2);
    FaultConfig {
        loss: if lossless { 0.0 } else { loss },
        corruption: if lossless { 0.0 } else { corruption },
        duplication,
        reordering,
        reordering_us: random.random_range(1..50_000),
        delay_us: (delay, delay + span),
        late_duplication,
        late_us: random.random_range(1..20_000_000),
        frames_per_second: if capacity { random.random_range(500..20_000) } else { 0 },
        queue_frames: random.random_range(4..64),
        held_max: 512,
    }
}

fn jobs(random: &mut SmallRng) -> Vec<Job> {
    let count = random.random_range(20..=28);
    let mut jobs: Vec<Job> = (0..count).map(|_| job(random)).collect();
    // Bulk: whatever else was drawn, at least 64 kB flow.
    jobs[0] = Job { up: random.random_range(24_000..40_000), down: 40_000, rounds: 0, ..jobs[0] };
    if jobs[0].closing == Closing::Abort {
        jobs[0].closing = Closing::Halves;
    }
    jobs
}

fn job(random: &mut SmallRng) -> Job {
    let opener = random.random_range(0..2);
    let closing = match random.random_range(0..10) {
        0..4 => Closing::Opener,
        4..7 => Closing::Acceptor,
        7..9 => Closing::Halves,
        _ => Closing::Abort,
    };
    let bite = if random.random_bool(0.2) { random.random_range(100..2000) } else { usize::MAX };
    let (up, down, rounds) = match random.random_range(0..10) {
        // Open and close.
        0..2 if closing != Closing::Acceptor && closing != Closing::Abort => (0, 0, 0),
        // One way.
        2 => (4, random.random_range(2..9000), 0),
        3 => (random.random_range(4..9000), 2, 0),
        // Both at once.
        4 => (random.random_range(4..6000), random.random_range(2..6000), 0),
        // Request and response.
        _ => (random.random_range(16..2000), random.random_range(16..4000), random.random_range(1..6)),
    };
    Job { opener, up, down, rounds, closing, bite }
}
