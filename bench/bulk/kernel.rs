//! The ends on the kernel's TCP: one thread, one blocking socket, large reads and writes.

use super::meter::Meter;
use super::stream::PIECE_BYTES;
use crate::failure::Failure;
use crate::lines::{Final, Ready};
use crate::proc::{NetCounters, Threads, interface_frames};
use crate::role::{RoleArgs, Stop};
use crate::waited;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Receives one stream until its end, or until the orchestrator closes standard input.
pub(crate) fn receive(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let before = Before::read(args)?;
    let listener = TcpListener::bind(args.server).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener =
        listener.map_err(|error| Failure::environment(format!("cannot listen on {}: {error}", args.server)))?;
    waited::ready(Ready::default(), Some(Threads::Main));
    let mut meter = Meter::new(args);
    let Some(mut stream) = accept(&listener, &stop).map_err(|error| failed("accept", &error))? else {
        return Err(Failure::interrupted());
    };
    let mut buffer = vec![0; PIECE_BYTES];
    while !stop.asked() {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => meter.add(count),
            Err(error) if is_a_pause(&error) => {}
            Err(error) => return Err(failed("recv", &error)),
        }
        meter.sample(Instant::now());
    }
    before.finish(args, meter.result())
}

/// Sends for as long as warm-up and window take, and a little more, then closes and waits until all of it is taken.
pub(crate) fn send(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let before = Before::read(args)?;
    waited::ready(Ready::default(), Some(Threads::Main));
    let mut stream = TcpStream::connect(args.server).map_err(|error| failed("connect", &error))?;
    pace(&stream).map_err(|error| failed("setsockopt", &error))?;
    let piece = vec![PATTERN; PIECE_BYTES];
    let until = Instant::now() + super::stream::sending_time(args);
    let mut sent = 0;
    while Instant::now() < until {
        match stream.write(&piece) {
            Ok(count) => sent += count as u64,
            Err(error) if is_a_pause(&error) => {}
            Err(error) => return Err(failed("send", &error)),
        }
        if stop.asked() {
            return Err(Failure::interrupted());
        }
    }
    stream.shutdown(Shutdown::Write).map_err(|error| failed("shutdown", &error))?;
    let limit = Instant::now() + DRAIN;
    let mut one = [0];
    while Instant::now() < limit {
        match stream.read(&mut one) {
            Ok(_) => break,
            Err(error) if is_a_pause(&error) => {}
            Err(error) => return Err(failed("recv", &error)),
        }
    }
    before.finish(args, Final { bytes_total: sent, ..Final::default() })
}

fn accept(listener: &TcpListener, stop: &Stop) -> io::Result<Option<TcpStream>> {
    while !stop.asked() {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                pace(&stream)?;
                return Ok(Some(stream));
            }
            Err(error) if is_a_pause(&error) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Blocking calls return now and then, so that the clock and the orchestrator are looked at.
fn pace(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PAUSE)).and_then(|()| stream.set_write_timeout(Some(PAUSE)))
}

fn is_a_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn failed(call: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("{call}: {error}"))
}

/// What the namespace had counted before the run.
struct Before {
    counters: NetCounters,
    frames: u64,
}

impl Before {
    fn read(args: &RoleArgs) -> Result<Before, Failure> {
        Ok(Before { counters: NetCounters::read()?, frames: interface_frames(&args.interface)? })
    }

    fn finish(&self, args: &RoleArgs, result: Final) -> Result<Final, Failure> {
        let counters = NetCounters::read()?.grown_since(&self.counters);
        Ok(Final { frames_total: interface_frames(&args.interface)? - self.frames, counters, ..result })
    }
}

/// Longest wait in a call.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last bytes may take.
const DRAIN: Duration = Duration::from_secs(5);
/// What is sent.
const PATTERN: u8 = 0x5a;
