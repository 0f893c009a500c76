//! How long roles had to wait for their CPUs: figures of a crowded machine say little.
//!
//! A role counts from when its run begins, so that what set-up and entries made beforehand waited is left out: it is ready, and at a server
//! the first connection has come. For how long it counted is told with it.

use crate::lines::{Line, Ready, tell};
use crate::proc::{Threads, waits_for_cpu};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// The counter of how long the thread of a role that waited longest did so, ms.
pub(crate) const COUNTER: &str = "waited_for_cpu_ms";

/// The counter of how long that was counted, ms.
pub(crate) const WATCHED: &str = "watched_for_cpu_waits_ms";

/// The run of this process, if it is a role that knows which threads do its work.
static RUN: Mutex<Option<Run>> = Mutex::new(None);
static FIRST_CONNECTION: Once = Once::new();

/// Says that the role is ready. From now on it is counted how long `threads` wait.
pub(crate) fn ready(ready: Ready, threads: Option<Threads>) {
    *run() = threads.map(|threads| Run::begin(threads, Instant::now(), &waits_for_cpu(threads)));
    tell(&Line::Ready(ready));
}

/// A server's first connection has come: what went before was not the run. Costs nothing for others.
#[inline]
pub(crate) fn first_connection() {
    FIRST_CONNECTION.call_once(|| {
        if let Some(run) = &mut *run() {
            *run = Run::begin(run.threads, Instant::now(), &waits_for_cpu(run.threads));
        }
    });
}

/// Looks how long the threads have waited, which cannot be seen once they have ended.
pub(crate) fn look() {
    if let Some(run) = &mut *run() {
        run.look(Instant::now(), &waits_for_cpu(run.threads));
    }
}

/// What there is to tell at the end of the role, by counter; nothing where it is not known.
pub(crate) fn counters() -> impl Iterator<Item = (String, u64)> {
    look();
    let longest = run().as_ref().and_then(Run::longest);
    let counters = longest.map(|(waited, watched)| [(COUNTER, waited), (WATCHED, watched)]);
    counters.into_iter().flatten().map(|(name, time)| (name.to_string(), time.as_millis() as u64))
}

fn run() -> MutexGuard<'static, Option<Run>> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the threads of a role have waited for their CPUs since its run began.
struct Run {
    threads: Threads,
    began: Instant,
    /// By number of the thread, how long it had waited then.
    before: BTreeMap<u32, Duration>,
    /// How long it had waited when it was last seen, and when that was.
    seen: BTreeMap<u32, (Duration, Instant)>,
}

impl Run {
    fn begin(threads: Threads, now: Instant, waits: &[(u32, Duration)]) -> Run {
        Run { threads, began: now, before: waits.iter().copied().collect(), seen: BTreeMap::new() }
    }

    fn look(&mut self, now: Instant, waits: &[(u32, Duration)]) {
        self.seen.extend(waits.iter().map(|(thread, waited)| (*thread, (*waited, now))));
    }

    /// Of the thread that waited longest: how long, and for how long it was watched.
    fn longest(&self) -> Option<(Duration, Duration)> {
        let of_thread = |(thread, (waited, at)): (&u32, &(Duration, Instant))| {
            let before = self.before.get(thread).copied().unwrap_or_default();
            (waited.saturating_sub(before), at.saturating_duration_since(self.began))
        };
        self.seen.iter().map(of_thread).max()
    }
}

/// What is to be said if the role that waited for the largest part of its time did so for too much of it. The counters of several roles
/// are `role.counter`.
pub(crate) fn told(counters: &BTreeMap<String, u64>) -> Option<String> {
    let part_of = |(name, waited_ms): (&String, &u64)| {
        let watched_ms = *counters.get(&format!("{}{WATCHED}", name.strip_suffix(COUNTER)?))?;
        (watched_ms > 0).then(|| *waited_ms as f64 / watched_ms as f64)
    };
    let part = counters.iter().filter_map(part_of).fold(0.0, f64::max);
    let percent = 100.0 * part;
    (part > PART_MAX).then(|| format!("waited {percent:.0} % of the time for a CPU: something else runs there"))
}

/// The same as a line of warning about `name`.
pub(crate) fn warn(out: &mut String, name: &str, counters: &BTreeMap<String, u64>) {
    if let Some(told) = told(counters) {
        let _ = writeln!(out, "WARNING: {name}: {told}");
    }
}

/// Largest part of the time without a word: ksoftirqd and timers take about 1 %.
const PART_MAX: f64 = 0.05;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The counters of a role, `end.` before their names, that waited for so long of ten seconds.
    pub(crate) fn of_ten_seconds(end: &str, waited_ms: u64) -> [(String, u64); 2] {
        [(COUNTER, waited_ms), (WATCHED, 10_000)].map(|(name, ms)| (format!("{end}{name}"), ms))
    }

    #[test]
    fn role_that_waited_longest_is_told_of_if_it_was_long() {
        let told = |ms: [u64; 2]| {
            let counters = [("client.", ms[0]), ("server.", ms[1])].map(|(end, ms)| of_ten_seconds(end, ms));
            let mut out = String::new();
            warn(&mut out, "synfin", &counters.into_iter().flatten().collect());
            out
        };
        assert_eq!(told([400, 500]), "");
        let of =
            |percent| format!("WARNING: synfin: waited {percent} % of the time for a CPU: something else runs there\n");
        assert_eq!(told([2500, 100]), of(25));
        assert_eq!(told([100, 2500]), of(25));
    }

    #[test]
    fn each_role_is_judged_by_the_time_that_it_was_watched_for() {
        let counters = [("client.", 900, 30_000), ("server.", 900, 3000)];
        let counters = counters
            .map(|(end, waited, watched)| [(format!("{end}{COUNTER}"), waited), (format!("{end}{WATCHED}"), watched)]);
        let mut counters: BTreeMap<String, u64> = counters.into_iter().flatten().collect();
        assert!(told(&counters).expect("the server waited").starts_with("waited 30 %"));
        counters.insert(format!("server.{WATCHED}"), 30_000);
        assert_eq!(told(&counters), None);
        counters.remove(&format!("server.{WATCHED}"));
        counters.insert(format!("server.{COUNTER}"), 30_000);
        assert_eq!(told(&counters), None, "of what time is not known");
    }

    #[test]
    fn waits_of_set_up_are_left_out_and_of_several_threads_the_longest_counts() {
        let (began, ms) = (Instant::now(), Duration::from_millis);
        let mut run = Run::begin(Threads::Shards, began, &[(1, ms(60_000)), (2, ms(5))]);
        assert_eq!(run.longest(), None, "nobody has looked");
        run.look(began + ms(1000), &[(1, ms(60_010)), (2, ms(205))]);
        assert_eq!(run.longest(), Some((ms(200), ms(1000))));
        run.look(began + ms(2000), &[(1, ms(60_020))]);
        assert_eq!(run.longest(), Some((ms(200), ms(1000))), "the second thread has ended");
        run.look(began + ms(3000), &[(1, ms(60_400)), (3, ms(100))]);
        assert_eq!(run.longest(), Some((ms(400), ms(3000))));
    }
}
