//! Streams between two stacks over the memory link.

mod edge;

use super::pump::OnTokio;
use super::{Net, Sockets, TcpStream};
use crate::limits::Limits;
use crate::link::memory::{MemoryConfig, pair};
use crate::owner::Spread;
use crate::shard::{LocalAddress, ShardConfig};
use crate::stack::{Idle, Running, Seat, StackError, run_by};
use crate::wire::ethernet::MacAddress;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinSet, spawn_local};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const AT: SocketAddr = SocketAddr::new(SERVER, 7);

/// Two stacks that run until their futures have ended.
struct Two {
    server: Running<Sockets>,
    client: Running<Sockets>,
}

impl Two {
    fn start<S, C>(
        serve: impl Fn(Net) -> S + Send + Sync + 'static,
        connect: impl Fn(Net) -> C + Send + Sync + 'static,
    ) -> Two
    where
        S: Future<Output = ()> + 'static,
        C: Future<Output = ()> + 'static,
    {
        let (a, b) = pair(MemoryConfig::default(), [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
        let seat = |link| vec![Seat { link, core: None }];
        let serve = OnTokio(move |_shard: usize, net: Net| serve(net));
        let connect = OnTokio(move |_shard: usize, net: Net| connect(net));
        let server = run_by(seat(a), &Spread::Symmetric, &config(SERVER), Idle::Sleep, serve).unwrap();
        let client = run_by(seat(b), &Spread::Symmetric, &config(CLIENT), Idle::Sleep, connect).unwrap();
        Two { server, client }
    }

    /// Waits for the client, then drains the server.
    fn end(self) {
        self.client.join().unwrap();
        self.server.drain(Duration::from_secs(5));
        self.server.join().unwrap();
    }
}

fn config(address: IpAddr) -> ShardConfig {
    let limits =
        Limits { tcbs_max: 512, time_wait_max: 2048, half_open_max: 512, chunks_max: 2048, ..Limits::default() };
    let addresses = vec![LocalAddress { address, prefix_len: 24 }];
    ShardConfig { limits, addresses, ..ShardConfig::default() }
}

/// Where a future of another thread leaves what it has seen.
fn told<T: Send + 'static>() -> (impl Fn(T) + Send + Sync + Clone + 'static, Receiver<T>) {
    let (sender, receiver) = channel();
    let sender = std::sync::Arc::new(Mutex::new(sender));
    (move |value| sender.lock().unwrap().send(value).unwrap(), receiver)
}

/// Echoes until the peer closes, then closes.
async fn echo(net: Net) {
    let listener = net.listen(AT).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        spawn_local(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
    }
}

/// Bytes that show where they belong.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + seed) as u8).collect()
}

/// Sends `text`, ends its direction, and returns all that comes.
async fn exchange(stream: TcpStream, text: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = async {
        writer.write_all(&text).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut back), sending);
    read.unwrap();
    back
}

#[test]
fn many_streams_at_once_return_byte_for_byte_with_half_close() {
    let (tell, told) = told();
    let connect = move |net: Net| {
        let tell = tell.clone();
        async move {
            let mut all = JoinSet::new();
            for number in 0..200 {
                let net = net.clone();
                all.spawn_local(async move {
                    let text = pattern(number * 97, number);
                    exchange(net.connect(AT).await.unwrap(), text.clone()).await == text
                });
            }
            tell(all.join_all().await.into_iter().filter(|same| *same).count());
        }
    };
    Two::start(echo, connect).end();
    assert_eq!(told.recv().unwrap(), 200);
}

#[test]
fn reader_that_waits_holds_the_writer_back_and_nothing_is_lost() {
    const LENGTH: usize = 3_000_000;
    let (tell, told) = told();
    let (tell_stuck, told_stuck) = self::told();
    let serve = move |net: Net| {
        let tell = tell.clone();
        async move {
            let listener = net.listen(AT).unwrap();
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!((peer.ip(), stream.local_addr().unwrap()), (CLIENT, AT));
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            tell(all == pattern(LENGTH, 1));
        }
    };
    let connect = move |net: Net| {
        let tell_stuck = tell_stuck.clone();
        async move {
            let mut stream = net.connect(AT).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (text, mut written) = (pattern(LENGTH, 1), 0);
            let patience = Duration::from_millis(100);
            while let Ok(taken) = tokio::time::timeout(patience, stream.write(&text[written..])).await {
                written += taken.unwrap();
            }
            tell_stuck(written);
            stream.write_all(&text[written..]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    };
    Two::start(serve, connect).end();
    let written = told_stuck.recv().unwrap();
    assert!((1..LENGTH).contains(&written), "{written} bytes fitted into the buffers of a peer that reads nothing");
    assert!(told.recv().unwrap());
}

/// Shows SHLD-3, MAY-1, RFC 2525 2.17.
#[test]
fn refused_timed_out_and_reset_connections_are_their_own_errors() {
    let (tell, told) = told();
    let serve = |net: Net| async move {
        let listener = net.listen(AT).unwrap();
        // Unread bytes make the drop a reset.
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    };
    let connect = move |net: Net| {
        let tell = tell.clone();
        async move {
            tell(net.connect(SocketAddr::new(SERVER, 8)).await.unwrap_err().kind());
            tell(net.connect(SocketAddr::new(SERVER, 0)).await.unwrap_err().kind());
            tell(net.listen(SocketAddr::new(SERVER, 9)).unwrap_err().kind());
            let mut stream = net.connect(AT).await.unwrap();
            stream.write_all(b"never read").await.unwrap();
            tell(stream.read(&mut [0; 8]).await.unwrap_err().kind());
            tell(stream.write(b"more").await.unwrap_err().kind());
        }
    };
    Two::start(serve, connect).end();
    let expected = [
        ErrorKind::ConnectionRefused,
        ErrorKind::InvalidInput,
        ErrorKind::AddrNotAvailable,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionReset,
    ];
    assert_eq!(told.iter().take(5).collect::<Vec<_>>(), expected);
}

#[test]
fn drain_ends_accepting_and_the_stack_ends_with_its_last_connection() {
    let (tell, told) = told();
    let serve = move |net: Net| {
        let tell = tell.clone();
        async move {
            let listener = net.listen(AT).unwrap();
            tell(listener.accept().await.unwrap_err().kind());
        }
    };
    let two = Two::start(serve, |_| async {});
    two.server.drain(Duration::from_secs(20));
    two.server.join().unwrap();
    assert_eq!(told.recv().unwrap(), ErrorKind::ConnectionAborted);
    two.client.join().unwrap();
}

#[test]
fn loops_that_never_wait_leave_the_shard_its_turns() {
    let (tell, told) = told();
    let serve = move |net: Net| {
        let tell = tell.clone();
        async move {
            let listener = net.listen(AT).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            spawn_local(async move { while stream.read(&mut [0; 8]).await.is_ok() {} });
            tell(());
            loop {
                // The error of a drain, without end.
                let _ = listener.accept().await;
            }
        }
    };
    let two = Two::start(serve, |net| async move { net.connect(AT).await.unwrap().shutdown().await.unwrap() });
    told.recv().unwrap();
    two.server.drain(Duration::from_millis(300));
    let ends = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        two.server.is_finished()
    });
    assert!(ends, "the shard hears nothing of its drain");
    two.server.join().unwrap();
    two.client.join().unwrap();
}

#[test]
fn listener_that_nobody_serves_keeps_connections_and_its_drop_resets_them() {
    let (tell, told) = told();
    let serve = |net: Net| async move {
        let listener = net.listen(AT).unwrap();
        let mut served = 0;
        tokio::time::sleep(Duration::from_millis(100)).await;
        while served < 300 {
            drop(listener.accept().await.unwrap());
            served += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let connect = move |net: Net| {
        let tell = tell.clone();
        async move {
            let mut all = JoinSet::new();
            for _ in 0..310 {
                let net = net.clone();
                all.spawn_local(async move {
                    let mut stream = net.connect(AT).await.unwrap();
                    stream.read(&mut [0]).await.map_err(|error| error.kind())
                });
            }
            let all = all.join_all().await;
            tell((all.iter().filter(|end| **end == Ok(0)).count(), all.iter().filter(|end| end.is_err()).count()));
        }
    };
    Two::start(serve, connect).end();
    assert_eq!(told.recv().unwrap(), (300, 10));
}

#[test]
fn panic_of_the_future_stops_the_stack_with_its_message() {
    let two = Two::start(|_| async { panic!("planted panic") }, |_| async {});
    let Err(StackError::Panicked { message, .. }) = two.server.join() else { panic!("it went on") };
    assert_eq!(message, "planted panic");
    two.client.join().unwrap();
}

/// A supervisor that listens again after the error of a drain.
#[test]
fn listening_during_a_drain_is_refused_and_what_nobody_accepted_is_reset() {
    let (tell, told) = told();
    let (tell_queued, told_queued) = self::told();
    let serve = move |net: Net| {
        let tell = tell.clone();
        async move {
            let listener = net.listen(AT).unwrap();
            // Another port shows when the drain has begun.
            let refused = loop {
                match net.listen(SocketAddr::new(SERVER, 9)) {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => break error.kind(),
                }
            };
            tell(refused);
            tell(net.listen(AT).unwrap_err().kind());
            drop(listener);
        }
    };
    let connect = move |net: Net| {
        let tell_queued = tell_queued.clone();
        async move {
            let mut stream = net.connect(AT).await.unwrap();
            tell_queued(None);
            tell_queued(stream.read(&mut [0]).await.err().map(|error| error.kind()));
        }
    };
    let two = Two::start(serve, connect);
    assert_eq!(told_queued.recv().unwrap(), None);
    two.server.drain(Duration::from_secs(20));
    assert_eq!(told.iter().take(2).collect::<Vec<_>>(), [ErrorKind::ConnectionAborted; 2]);
    assert_eq!(told_queued.recv().unwrap(), Some(ErrorKind::ConnectionReset));
    two.client.join().unwrap();
    two.server.join().unwrap();
}
