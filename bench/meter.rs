//! What an end counts while it runs: warm-up, measured window, drain; latencies; a sample each tenth of a second.

use crate::failure::Failure;
use crate::lines::{Final, Latency, Line, Sample, Second, tell};
use crate::role::ErrorKind;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts a run.
#[derive(Clone)]
pub(crate) struct Meter {
    started: Instant,
    opens_at: Instant,
    closes_at: Instant,
    second: Instant,
    second_total: u64,
    window: u64,
    total: u64,
    /// Handshakes that took [`STALL`] or longer, in the window.
    stalls: u64,
    errors: [u64; ErrorKind::NAMES.len()],
    latency_ns: Histogram<u64>,
    next_sample: Instant,
    sample_every: Duration,
    samples: Vec<Sample>,
    shard: usize,
}

impl Meter {
    /// A run that starts now.
    pub(crate) fn start(warmup: Duration, measured: Duration) -> Result<Meter, Failure> {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        let latency_ns = latency_ns.map_err(|error| Failure::failed(format!("no histogram: {error}")))?;
        let started = Instant::now();
        let opens_at = started + warmup;
        Ok(Meter {
            started,
            opens_at,
            closes_at: opens_at + measured,
            second: started,
            second_total: 0,
            window: 0,
            total: 0,
            stalls: 0,
            errors: [0; ErrorKind::NAMES.len()],
            latency_ns,
            next_sample: started,
            sample_every: SAMPLE_EVERY,
            samples: Vec::with_capacity(SAMPLES_MAX),
            shard: 0,
        })
    }

    /// The same for one of several shards, whose seconds are told apart.
    pub(crate) fn of_shard(self, shard: usize) -> Meter {
        Meter { shard, ..self }
    }

    /// Starts anew from now: set-up took its time.
    pub(crate) fn restart(&mut self) {
        let now = Instant::now();
        let (warmup, measured) = (self.opens_at - self.started, self.closes_at - self.opens_at);
        (self.started, self.second, self.opens_at, self.closes_at) = (now, now, now + warmup, now + warmup + measured);
        self.next_sample = now;
        self.samples.clear();
    }

    /// The window opens at `now` if it would have been open, and is as long as it was to be.
    pub(crate) fn postpone(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.opens_at);
        (self.opens_at, self.closes_at) = (self.opens_at + late, self.closes_at + late);
    }

    /// When the run began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Begin and end of the measured window.
    pub(crate) fn window(&self) -> (Instant, Instant) {
        (self.opens_at, self.closes_at)
    }

    /// Whether new connections may still be opened.
    #[inline]
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        now < self.closes_at
    }

    /// Whether the drain is over too.
    pub(crate) fn is_drained(&self, now: Instant) -> bool {
        now >= self.closes_at + DRAIN
    }

    /// A connection is complete.
    #[inline]
    pub(crate) fn completed(&mut self, now: Instant) {
        self.total += 1;
        if now >= self.opens_at && now < self.closes_at {
            self.window += 1;
        }
    }

    /// A handshake took from `since` to `now`; in an open loop `since` is when it was to begin.
    #[inline]
    pub(crate) fn connected(&mut self, since: Instant, now: Instant) {
        if now >= self.opens_at && now < self.closes_at {
            let took = now.saturating_duration_since(since);
            self.stalls += u64::from(took >= STALL);
            self.latency_ns.saturating_record(took.as_nanos() as u64);
        }
    }

    /// Something went wrong, `count` times.
    pub(crate) fn errors(&mut self, kind: ErrorKind, count: u64) {
        self.errors[kind as usize] += count;
    }

    /// A connection has failed: it is counted, and stands in the histogram as the longest latency there is.
    pub(crate) fn failed(&mut self, kind: ErrorKind, now: Instant) {
        self.errors(kind, 1);
        if now >= self.opens_at && now < self.closes_at {
            self.latency_ns.saturating_record(LATENCY_MAX_NS);
        }
    }

    /// Tells the last second when it is over.
    #[inline]
    pub(crate) fn tick(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.second);
        if elapsed >= SECOND {
            let per_second = (self.total - self.second_total) as f64 / elapsed.as_secs_f64();
            tell(&Line::Second(Second { per_second, errors: self.errors_total(), shard: self.shard }));
            (self.second, self.second_total) = (now, self.total);
        }
    }

    /// Whether a sample is to be taken.
    #[inline]
    pub(crate) fn sample_is_due(&self, now: Instant) -> bool {
        now >= self.next_sample
    }

    /// Takes a sample: TIME-WAIT entries and connections of this end, and for how long it has been busy.
    pub(crate) fn sample(&mut self, now: Instant, time_wait: u64, in_use: u64, busy: Duration) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.samples.push(Sample {
            at_ms: since_epoch.as_millis() as u64,
            completed: self.total,
            failed: self.errors_total(),
            time_wait,
            in_use,
            busy_us: busy.as_micros() as u64,
            rss: synfin::memory::resident_bytes().unwrap_or(0),
        });
        if self.samples.len() == SAMPLES_MAX {
            // Counts are totals: every second sample may go.
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.sample_every *= 2;
        }
        self.next_sample = now + self.sample_every;
    }

    /// The counts of several shards together, for the next sample: connections completed, and opens refused or failed.
    pub(crate) fn count_all(&mut self, completed: u64, failed: u64) {
        self.total = completed;
        self.errors = [0; ErrorKind::NAMES.len()];
        self.errors(ErrorKind::Other, failed);
    }

    /// Takes over the counts of another shard of the same run.
    pub(crate) fn add(&mut self, other: &Meter) -> Result<(), Failure> {
        self.window += other.window;
        self.total += other.total;
        self.stalls += other.stalls;
        self.errors.iter_mut().zip(other.errors).for_each(|(sum, count)| *sum += count);
        let added = self.latency_ns.add(&other.latency_ns);
        added.map_err(|error| Failure::failed(format!("histograms cannot be added: {error}")))
    }

    /// The samples so far.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.duration_since(self.started)
    }

    /// The result, without what only the role knows.
    pub(crate) fn result(&self) -> Final {
        let named = ErrorKind::NAMES.iter().zip(self.errors).filter(|(_, count)| *count > 0);
        let errors: BTreeMap<String, u64> = named.map(|(name, count)| ((*name).to_string(), count)).collect();
        let at = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let latency = Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) };
        let recorded = self.latency_ns.iter_recorded();
        Final {
            connections: self.window,
            seconds: self.closes_at.duration_since(self.opens_at).as_secs_f64(),
            connections_total: self.total,
            errors,
            connect_latency_us: (!self.latency_ns.is_empty()).then_some(latency),
            latency_ns: recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect(),
            stalls: self.stalls,
            window_ms: [self.opens_at, self.closes_at].map(|at| at.duration_since(self.started).as_millis() as u64),
            samples: self.samples.clone(),
            ..Final::default()
        }
    }

    fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }
}

/// When connections are to begin: at a steady rate, or as soon as there is a place for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: f64,
    begun: u64,
}

impl Pace {
    /// `rate` per second; 0 is the closed loop.
    pub(crate) fn new(rate: f64) -> Pace {
        Pace { rate, begun: 0 }
    }

    /// Whether it is an open loop: who is refused does not try again.
    #[inline]
    pub(crate) fn is_open_loop(&self) -> bool {
        self.rate > 0.0
    }

    /// When the next connection is or was to begin, if that is neither after `now` nor after the window. In the closed
    /// loop it is now.
    #[inline]
    pub(crate) fn due(&self, meter: &Meter, now: Instant) -> Option<Instant> {
        if !self.is_open_loop() {
            return Some(now);
        }
        Some(self.at(meter)).filter(|at| *at <= now && *at < meter.closes_at)
    }

    /// When the next connection is to begin in an open loop, however far ahead.
    pub(crate) fn next(&self, meter: &Meter) -> Option<Instant> {
        self.is_open_loop().then(|| self.at(meter))
    }

    /// The next one has begun, or was refused.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.begun += 1;
    }

    /// Whether connections that were to begin in the window have not: they still shall.
    pub(crate) fn is_late(&self, meter: &Meter) -> bool {
        self.is_open_loop() && self.at(meter) < meter.closes_at
    }

    /// How many these are.
    pub(crate) fn overdue(&self, meter: &Meter) -> u64 {
        if !self.is_late(meter) {
            return 0;
        }
        let due = (meter.closes_at.duration_since(meter.started).as_secs_f64() * self.rate).ceil() as u64;
        // The product may lie a hair beside the times that connections begin at.
        let end = (due.saturating_sub(1)..=due + 1)
            .find(|begun| Pace { begun: *begun, ..*self }.at(meter) >= meter.closes_at);
        end.unwrap_or(due).saturating_sub(self.begun)
    }

    fn at(&self, meter: &Meter) -> Instant {
        meter.started + Duration::from_secs_f64(self.begun as f64 / self.rate)
    }
}

/// How long connections that are open at the end of the window may take to finish. Shorter than this turns one lost SYN
/// into an error.
const DRAIN: Duration = Duration::from_millis(2500);
/// Period of the lines that say how it goes.
const SECOND: Duration = Duration::from_secs(1);
/// Largest latency that is told apart, ns. What failed counts as this.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// A handshake that takes so long has waited for a retransmission (RFC 6298: 1 s at first, less the resolution of timers).
const STALL: Duration = Duration::from_millis(900);
/// Period of samples at first.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Samples kept of a run: when there are so many, every second one goes and the period doubles.
const SAMPLES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_counts_the_window_only_and_all_errors() {
        let mut meter = Meter::start(Duration::from_secs(1), Duration::from_secs(2)).expect("histogram");
        let at = |seconds: f64| meter.started + Duration::from_secs_f64(seconds);
        let (before, inside, after) = (at(0.5), at(1.5), at(3.5));
        assert!(
            meter.is_open(inside) && !meter.is_open(after) && !meter.is_drained(after) && meter.is_drained(at(6.0))
        );
        for now in [before, inside, inside, after] {
            meter.completed(now);
            meter.connected(now - Duration::from_micros(100), now);
        }
        meter.errors(ErrorKind::Reset, 2);
        let result = meter.result();
        assert_eq!((result.connections, result.connections_total, result.seconds), (2, 4, 2.0));
        assert_eq!(result.errors, [("reset".to_string(), 2)].into());
        let p50 = result.connect_latency_us.expect("two samples").p50;
        assert!((99.0..101.0).contains(&p50), "{p50}");
    }

    #[test]
    fn a_window_that_is_postponed_keeps_its_length() {
        let mut meter = Meter::start(Duration::from_secs(1), Duration::from_secs(2)).expect("histogram");
        let (started, window) = (meter.started, meter.window());
        meter.postpone(started + Duration::from_millis(500));
        assert_eq!(meter.window(), window, "it is not open yet");
        meter.postpone(started + Duration::from_secs(4));
        assert_eq!(meter.window(), (started + Duration::from_secs(4), started + Duration::from_secs(6)));
        assert_eq!(meter.result().seconds, 2.0);
    }

    #[test]
    fn failures_and_stalls_are_in_the_histogram() {
        let mut meter = Meter::start(Duration::ZERO, Duration::from_secs(60)).expect("histogram");
        let now = meter.started + Duration::from_secs(10);
        meter.connected(now - Duration::from_millis(1), now);
        meter.connected(now - Duration::from_millis(1003), now);
        meter.failed(ErrorKind::NoPort, now);
        let result = meter.result();
        let latency = result.connect_latency_us.expect("samples");
        assert!(latency.max >= 100e6 && (1.0e6..1.1e6).contains(&latency.p50), "{latency:?}");
        assert_eq!((result.stalls, result.errors["no_port"]), (1, 1));
    }

    #[test]
    fn a_long_run_keeps_its_samples_in_bounded_memory() {
        let mut meter = Meter::start(Duration::ZERO, Duration::from_secs(60)).expect("histogram");
        let begun = meter.started;
        let mut now = begun;
        for count in 0..10_000 {
            meter.total = count;
            meter.sample(now, 0, 0, Duration::ZERO);
            now = meter.next_sample;
        }
        assert!(meter.samples.len() < SAMPLES_MAX && meter.samples.capacity() == SAMPLES_MAX);
        assert!(meter.samples.is_sorted_by_key(|sample| sample.completed));
        assert_eq!(meter.samples.last().map(|sample| sample.completed), Some(9999));
    }

    #[test]
    fn an_open_loop_keeps_to_its_schedule_however_late_it_is_asked() {
        let meter = Meter::start(Duration::ZERO, Duration::from_millis(10)).expect("histogram");
        let mut pace = Pace::new(1000.0);
        let mut begin = |after_us| {
            let mut due = Vec::new();
            while let Some(at) = pace.due(&meter, meter.started + Duration::from_micros(after_us)) {
                due.push(at.duration_since(meter.started).as_micros());
                pace.advance();
            }
            (due, pace.overdue(&meter), pace.is_late(&meter))
        };
        assert_eq!(begin(2500), (vec![0, 1000, 2000], 7, true));
        assert_eq!(begin(99_000), ((3..10).map(|ms| ms * 1000).collect(), 0, false), "those of the window, late");
        assert_eq!(Pace::new(0.0).due(&meter, meter.closes_at), Some(meter.closes_at));
    }

    #[test]
    fn nothing_is_overdue_that_was_never_due() {
        // 2.2 s x 50,000/s is a hair more than 110,000 in binary.
        for (window_ms, rate, due) in [(2200, 50_000.0, 110_000), (3000, 116_700.0, 350_100), (1000, 0.5, 1)] {
            let meter = Meter::start(Duration::from_millis(window_ms), Duration::ZERO).expect("histogram");
            let mut pace = Pace::new(rate);
            assert_eq!(pace.overdue(&meter), due);
            while pace.due(&meter, meter.closes_at).is_some() {
                pace.advance();
            }
            assert_eq!((pace.begun, pace.overdue(&meter), pace.is_late(&meter)), (due, 0, false), "{window_ms} {rate}");
        }
        let meter = Meter::start(Duration::ZERO, Duration::from_secs(1)).expect("histogram");
        assert_eq!(Pace::new(0.0).overdue(&meter), 0, "the closed loop has no schedule");
    }
}
