//! Standard output, behind a thread of its own: a reader that stalls holds up neither signals nor, for ever, the end.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Writes a line to standard output, and never waits for its reader. A closed output ends nothing; what finds no room
/// is lost and told of at the end.
pub(super) fn say(line: &str) {
    match output() {
        Some(lines) => lines.say(line),
        // Without a thread, as any program does.
        None => drop(writeln!(io::stdout().lock(), "{line}")),
    }
}

/// Whether another line surely has room: for whoever has many and can wait.
pub(super) fn has_room() -> bool {
    output().is_none_or(Lines::has_room)
}

/// From now on [`finish`] gives a reader up that takes nothing for two seconds: the end must not wait for it.
pub(super) fn hurry() {
    HURRY.store(true, Ordering::Relaxed);
}

/// Waits until everything is written; returns how many lines were lost because nobody read them. However often it is
/// called, all the waiting in a hurry counts from the first call on.
pub(super) fn finish() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    output().map_or(0, |lines| lines.finish(began, || HURRY.load(Ordering::Relaxed).then_some(PATIENCE)))
}

fn output() -> Option<&'static Lines> {
    static OUTPUT: OnceLock<Option<Lines>> = OnceLock::new();
    let start = || {
        // Not by the lock of standard output, which the end of the process would wait for.
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        Lines::start(File::from(out))
    };
    OUTPUT.get_or_init(|| start().ok()).as_ref()
}

static HURRY: AtomicBool = AtomicBool::new(false);

/// Lines on their way to a thread that writes them.
#[derive(Debug)]
struct Lines {
    to: Sender<String>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Bytes that were written.
    written: AtomicU64,
    /// Lines that wait.
    lines: AtomicU64,
    /// Lines that found no room.
    lost: AtomicU64,
}

impl Lines {
    fn start(out: impl Write + Send + 'static) -> io::Result<Lines> {
        let (to, lines) = channel();
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        let write = move || write_all(out, &lines, &of_thread);
        std::thread::Builder::new().name("synfin-out".into()).spawn(write)?;
        Ok(Lines { to, counts })
    }

    fn say(&self, line: &str) {
        if self.counts.waiting.load(Ordering::Relaxed) >= ROOM_BYTES {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = format!("{line}\n");
        self.counts.waiting.fetch_add(line.len(), Ordering::Relaxed);
        self.counts.lines.fetch_add(1, Ordering::Relaxed);
        // The thread reads for as long as there is a sender.
        let _ = self.to.send(line);
    }

    fn has_room(&self) -> bool {
        self.counts.waiting.load(Ordering::Relaxed) < ROOM_BYTES / 2
    }

    /// Waits until everything is written; where there is a patience, no longer than that without a byte, or ten times
    /// that since it `began`. Returns how many lines were lost.
    fn finish(&self, began: Instant, patience: impl Fn() -> Option<Duration>) -> u64 {
        let mut progress = (self.counts.written.load(Ordering::Relaxed), Instant::now());
        while self.counts.waiting.load(Ordering::Acquire) > 0 {
            let written = self.counts.written.load(Ordering::Relaxed);
            if written != progress.0 {
                progress = (written, Instant::now());
            }
            let is_over = |patience| progress.1.elapsed() >= patience || began.elapsed() >= 10 * patience;
            if patience().is_some_and(is_over) {
                break;
            }
            std::thread::sleep(POLL);
        }
        self.counts.lost.load(Ordering::Relaxed) + self.counts.lines.load(Ordering::Relaxed)
    }
}

/// Writes line after line. After an error there is nobody to write for: the rest counts as written.
fn write_all(mut out: impl Write, lines: &Receiver<String>, counts: &Counts) {
    let mut closed = false;
    for line in lines {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let written = match if closed { Ok(rest.len()) } else { out.write(rest) } {
                Ok(0) => Err(ErrorKind::WriteZero),
                Ok(count) => Ok(count),
                Err(error) => Err(error.kind()),
            };
            match written {
                Ok(count) => {
                    rest = &rest[count..];
                    counts.written.fetch_add(count as u64, Ordering::Relaxed);
                    if rest.is_empty() {
                        counts.lines.fetch_sub(1, Ordering::Relaxed);
                    }
                    counts.waiting.fetch_sub(count, Ordering::Release);
                }
                Err(ErrorKind::Interrupted) => {}
                // Somebody else who has this output has made it so.
                Err(ErrorKind::WouldBlock) => std::thread::sleep(POLL),
                Err(_) => closed = true,
            }
        }
    }
}

/// Bytes that may wait. Origin: the states of some hundred shards; smaller loses lines to a short stall, larger is
/// memory for nobody.
const ROOM_BYTES: usize = 4 << 20;

/// How long the end waits for a reader that takes nothing. Origin: a terminal that is stopped for a moment; larger
/// holds up a restart.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether everything is written.
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn piped() -> (io::PipeReader, Lines) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader, Lines::start(File::from(OwnedFd::from(writer))).expect("a thread"))
    }

    #[test]
    fn lines_come_in_order_and_whole_to_a_slow_reader() {
        let (mut reader, lines) = piped();
        (0..20_000).for_each(|number| lines.say(&format!("line {number}")));
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("text");
            text
        });
        assert_eq!(lines.finish(Instant::now(), || None), 0);
        drop(lines);
        let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        assert_eq!(read.join().expect("it reads"), expected);
    }

    #[test]
    fn reader_that_has_stalled_holds_up_nobody_and_its_lines_are_counted() {
        let (reader, lines) = piped();
        let line = "x".repeat(1023);
        let began = Instant::now();
        let count = 2 * ROOM_BYTES / 1024;
        (0..count).for_each(|_| lines.say(&line));
        assert!(!lines.has_room());
        let read = count as u64 - lines.finish(began, || Some(Duration::from_millis(200)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!((1..=64).contains(&read), "{read} lines of 1 kB were written to a pipe");
        let (long_ago, again) = (began - 11 * PATIENCE, Instant::now());
        lines.finish(long_ago, || Some(PATIENCE));
        assert!(again.elapsed() < PATIENCE, "all the waiting is no longer than ten times one");
        drop(reader);
    }

    #[test]
    fn closed_output_ends_nothing() {
        let (reader, lines) = piped();
        drop(reader);
        lines.say("to nobody");
        assert_eq!(lines.finish(Instant::now(), || Some(Duration::from_secs(60))), 0);
    }
}
