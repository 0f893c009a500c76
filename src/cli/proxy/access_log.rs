//! The access log: one line per client connection, fields in the order of HAProxy's `option tcplog` (8.2.2 of its
//! configuration manual), as it writes them with `format raw`:
//!
//! ```text
//! client_ip:client_port [accept_date] listener listener/backend Tw/Tc/Tt bytes_read letters
//! actconn/feconn/beconn/srv_conn/retries srv_queue/backend_queue
//! ```
//!
//! Times are ms, -1 for what never came about; the date is UTC. Tw and the queues are 0: there is no queue. `+` before the
//! retries says that one of them went to another backend.

use super::config::{AccessLog, Config, Listener};
use super::notes::{Ended, Note, Notes};
use crate::cli::{Exit, Failure};
use crate::tick::Now;
use jiff::Timestamp;
use signal_hook::consts::SIGHUP;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writes what shards note.
pub(super) struct Log {
    listeners: Vec<Listener>,
    shards: Vec<Notes>,
    to: Option<BufWriter<File>>,
    /// Of a file that can be opened again.
    path: Option<PathBuf>,
    /// Set by SIGHUP.
    reopen: Arc<AtomicBool>,
    /// The clock's time at the stack's origin, us since 1970.
    origin_us: i64,
    line: String,
    failed: bool,
}

/// The thread that writes.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    shards: Vec<Notes>,
}

impl Writer {
    /// Ends it once everything is written, or when that takes too long: whoever reads the log may have stalled. Returns
    /// how many lines were lost because it was too slow; what a pipe or a buffer has taken counts as written.
    pub(super) fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        let deadline = Instant::now() + LAST_LINES;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(POLL / 4);
        }
        self.shards.iter().map(|notes| notes.dropped() + notes.waiting()).sum()
    }
}

impl Log {
    /// Opens the log; SIGHUP opens its file again, and does nothing where there is none.
    pub(super) fn open(config: &Config, shards: Vec<Notes>) -> Result<Log, Failure> {
        let reopen = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&reopen)).map_err(|error| {
            let message = format!("signal {SIGHUP}: cannot be handled: {error}; check the sandbox's seccomp rules");
            Failure::new(Exit::Environment, message)
        })?;
        let (to, path) = match &config.access_log {
            None => (None, None),
            Some(AccessLog::Stdout) => {
                // Not by the lock of standard output: a reader that stalls would hold up whoever prints.
                let out = io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
                    let message = format!("access log on standard output: {error}; name a file, or raise ulimit -n");
                    Failure::new(Exit::Environment, message)
                })?;
                (Some(File::from(out)), None)
            }
            Some(AccessLog::File(path)) => {
                let file = append_to(path).map_err(|error| {
                    let message = format!("access log {}: {error}; name a file that can be written", path.display());
                    Failure::new(Exit::Environment, message)
                })?;
                (Some(file), Some(path.clone()))
            }
        };
        let listeners = config.listeners.clone();
        let to = to.map(BufWriter::new);
        Ok(Log { listeners, shards, to, path, reopen, origin_us: 0, line: String::new(), failed: false })
    }

    /// Writes on a thread of its own from now on; `now` is the stack's time.
    pub(super) fn write_from(mut self, now: Now) -> Result<Writer, Failure> {
        self.origin_us = Timestamp::now().as_microsecond() - now.us() as i64;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shards) = (Arc::clone(&stop), self.shards.clone());
        let write = move || {
            while !stopped.load(Ordering::Acquire) {
                self.write();
                std::thread::sleep(POLL);
            }
            self.write();
        };
        let thread = std::thread::Builder::new().name("synfin-log".into()).spawn(write).map_err(|error| {
            let message =
                format!("cannot make a thread for the log: {error}; check the limit on processes (ulimit -u)");
            Failure::new(Exit::Environment, message)
        })?;
        Ok(Writer { stop, thread, shards })
    }

    /// Writes what waits.
    fn write(&mut self) {
        if self.reopen.swap(false, Ordering::Relaxed) {
            self.open_again();
        }
        for shard in 0..self.shards.len() {
            let notes = self.shards[shard].clone();
            notes.take().for_each(|note| self.write_note(&note));
        }
        let flushed = self.to.as_mut().map_or(Ok(()), Write::flush);
        self.check(flushed);
    }

    /// Everything noted from now on goes to a file of the same name, for whoever has moved the former one away.
    fn open_again(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            // Nothing waits in the former: every write ends with a flush.
            Ok(file) => (self.to, self.failed) = (Some(BufWriter::new(file)), false),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the access log cannot be opened again: the former file is written on");
            }
        }
    }

    fn write_note(&mut self, note: &Note) {
        match note {
            Note::Ended(ended) => {
                let Some(to) = &mut self.to else { return };
                self.line.clear();
                line(&mut self.line, ended, &self.listeners[usize::from(ended.listener)], self.origin_us);
                let written = to.write_all(self.line.as_bytes());
                self.check(written);
            }
            Note::Health { listener, backend, up, because } => {
                let listener = &self.listeners[usize::from(*listener)];
                let backend = &listener.backends[usize::from(*backend)];
                let (listener, name, address) = (&listener.name, &backend.name, backend.address);
                if *up {
                    tracing::info!(listener, backend = name, %address, "backend is up");
                } else {
                    tracing::warn!(listener, backend = name, %address, because, "backend is down");
                }
            }
        }
    }

    /// A log that cannot be written ends nothing, and is told once.
    fn check(&mut self, written: io::Result<()>) {
        if let (Err(error), false) = (written, self.failed) {
            self.failed = true;
            tracing::error!(%error, "the access log cannot be written; lines are missing");
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Appends the line of one connection.
fn line(out: &mut String, ended: &Ended, listener: &Listener, origin_us: i64) {
    let accepted = Timestamp::from_microsecond(origin_us + ended.accepted_us as i64).unwrap_or_default();
    let backend = ended.backend.map_or("<NOSRV>", |backend| &listener.backends[usize::from(backend)].name);
    let since_ms = |then_us: u64| (then_us.saturating_sub(ended.accepted_us) / 1000) as i64;
    let waited = if ended.backend.is_some() { 0 } else { -1 };
    let connected = ended.connected_us.map_or(-1, since_ms);
    let redispatched = if ended.redispatched { "+" } else { "" };
    let [first, second] = ended.termination.letters();
    // Nothing fails in writing to a string.
    let _ = writeln!(
        out,
        "{}:{} [{}] {} {}/{backend} {waited}/{connected}/{} {} {first}{second} {}/{}/{}/{}/{redispatched}{} 0/0",
        ended.client.ip(),
        ended.client.port(),
        accepted.strftime("%d/%b/%Y:%H:%M:%S%.3f"),
        listener.name,
        listener.name,
        since_ms(ended.ended_us),
        ended.bytes_read,
        ended.counts.process,
        ended.counts.listener,
        ended.counts.backends,
        ended.counts.backend,
        ended.retries,
    );
}

/// How often notes are looked for. Smaller wakes an idle machine; larger needs longer queues.
const POLL: Duration = Duration::from_millis(20);

/// How long the last lines may take. Origin: all that wait are written in a tenth of a second; smaller loses lines on a
/// slow disk, larger holds up the end where nobody reads.
const LAST_LINES: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::backends::Counts;
    use super::super::termination::{Cause, Stage, Termination};
    use super::*;

    const CONFIG: &str = r#"
        [stack]
        interface = "veth0"
        address = ["10.0.0.2/24"]
        [[listeners]]
        name = "web"
        address = "10.0.0.2:80"
        backends = [{ name = "srv1", address = "10.0.0.3:80" }]
    "#;

    /// The connection of the manual's example in 8.2.2, as far as it is the same here.
    const ENDED: Ended = Ended {
        client: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), 33313),
        listener: 0,
        backend: Some(0),
        accepted_us: 1_000_000,
        connected_us: Some(1_000_900),
        ended_us: 6_007_000,
        bytes_read: 212,
        termination: Termination::Normal,
        counts: Counts { process: 4, listener: 3, backends: 2, backend: 1 },
        retries: 3,
        redispatched: false,
    };

    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    fn written(ended: &Ended) -> String {
        let config = Config::parse(CONFIG).unwrap();
        let mut out = String::new();
        // 6 February 2009, 12:12:51.443 UTC, less one second.
        line(&mut out, ended, &config.listeners[0], 1_233_922_370_443_000);
        out
    }

    #[test]
    fn line_has_the_fields_of_tcplog_in_their_order() {
        let expected = "10.0.1.2:33313 [06/Feb/2009:12:12:51.443] web web/srv1 0/0/5007 212 -- 4/3/2/1/3 0/0\n";
        assert_eq!(written(&ENDED), expected);
    }

    #[test]
    fn what_never_came_about_is_minus_1() {
        let termination = Termination::By(Cause::Backend, Stage::Connecting);
        let ended = Ended { backend: None, connected_us: None, bytes_read: 0, termination, ..ENDED };
        assert!(written(&ended).contains(" web/<NOSRV> -1/-1/5007 0 SC 4/"), "{}", written(&ended));
        let ended = Ended { connected_us: None, retries: 1, redispatched: true, termination, ..ENDED };
        assert!(written(&ended).ends_with(" web/srv1 0/-1/5007 212 SC 4/3/2/1/+1 0/0\n"), "{}", written(&ended));
    }

    #[test]
    fn file_that_was_moved_away_is_opened_again_at_sighup() {
        let path = std::env::temp_dir().join(format!("synfin-access-log-{}", std::process::id()));
        let moved = path.with_extension("1");
        let config = Config::parse(&format!("access_log = \"{}\"\n{CONFIG}", path.display())).unwrap();
        let notes = Notes::new(64);
        let mut log = Log::open(&config, vec![notes.clone()]).unwrap();
        let mut note = |bytes_read| {
            notes.push(Note::Ended(Ended { bytes_read, ..ENDED }));
            log.write();
        };
        note(1001);
        std::fs::rename(&path, &moved).unwrap();
        note(1002);
        signal_hook::low_level::raise(SIGHUP).unwrap();
        note(1003);
        let (before, after) = (std::fs::read_to_string(&moved), std::fs::read_to_string(&path));
        let _ = (std::fs::remove_file(&moved), std::fs::remove_file(&path));
        let (before, after) = (before.unwrap(), after.unwrap());
        assert!(before.contains(" 1001 ") && before.contains(" 1002 ") && !before.contains(" 1003 "), "{before}");
        assert!(after.contains(" 1003 ") && after.lines().count() == 1, "{after}");
    }

    #[test]
    fn reader_that_has_stalled_does_not_hold_up_the_end_and_its_lines_count_as_lost() {
        let (reader, writer) = io::pipe().unwrap();
        let notes = Notes::new(64);
        let listeners = Config::parse(CONFIG).unwrap().listeners;
        let to = Some(BufWriter::new(File::from(std::os::fd::OwnedFd::from(writer))));
        let (reopen, line) = (Arc::default(), String::new());
        let log =
            Log { listeners, shards: vec![notes.clone()], to, path: None, reopen, origin_us: 0, line, failed: false };
        (0..10_000).for_each(|_| notes.push(Note::Ended(ENDED)));
        let writer = log.write_from(Now::default()).unwrap();
        let (told, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(writer.finish()));
        let lost = hear.recv_timeout(Duration::from_secs(10)).expect("it ends");
        assert!((5_000..10_000).contains(&lost), "a pipe holds 64 kB of them: {lost}");
        drop(reader);
    }
}
