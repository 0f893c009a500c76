//! Reading and writing.

use super::net::Net;
use super::sockets::Stream;
use crate::api::{CallError, Info};
use crate::ids::Handle;
use crate::shard::Calls;
use crate::tcp::state::CloseReason;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A connection. Dropped, it closes: what was written is still sent; unread bytes make it a reset (RFC 2525 2.17).
#[derive(Debug)]
pub struct TcpStream {
    net: Net,
    handle: Handle,
}

impl TcpStream {
    pub(super) fn new(net: Net, handle: Handle) -> TcpStream {
        TcpStream { net, handle }
    }

    /// The peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let tuple = self.net.ask(|_, calls| calls.four_tuple(self.handle))?.map_err(refused)?;
        Ok(SocketAddr::new(tuple.remote(), tuple.remote_port))
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let tuple = self.net.ask(|_, calls| calls.four_tuple(self.handle))?.map_err(refused)?;
        Ok(SocketAddr::new(tuple.local(), tuple.local_port))
    }

    /// The connection at this moment: round trip, windows, bytes.
    pub fn info(&self) -> io::Result<Info> {
        self.net.ask(|_, calls| calls.info(self.handle))?.map_err(refused)
    }

    /// Turns Nagle's algorithm off or on.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.net.ask(|_, calls| calls.set_no_delay(self.handle, nodelay))?.map_err(refused)
    }

    /// Asks the shard about this stream; what ends the stream meanwhile is told by `Stream::closed`. A task that finds everything
    /// ready again and again yields now and then: the shard runs on its thread.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&mut Calls<'_>, &Stream) -> Asked<T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let budget = ready!(coop::poll_proceed(cx));
        let answer = self.net.poll(|sockets, calls| {
            let Some(stream) = sockets.stream(self.handle) else { return Poll::Ready(Err(refused(CallError::Stale))) };
            match ask(calls, stream) {
                Asked::Done(result) => return Poll::Ready(result),
                Asked::WaitToRead => sockets.wait_to_read(self.handle, cx),
                Asked::WaitToWrite => sockets.wait_to_write(self.handle, cx),
            }
            Poll::Pending
        });
        if answer.is_ready() {
            budget.made_progress();
        }
        answer
    }

    /// Ready when the handshake has completed, or failed.
    pub(super) fn poll_opened(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let opened = |_: &mut Calls<'_>, stream: &Stream| match stream.closed {
            Some(reason) => Asked::Done(Err(ended(reason))),
            None if stream.opened => Asked::Done(Ok(())),
            None => Asked::WaitToWrite,
        };
        self.ask(opened, cx)
    }

    fn poll_send(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let asked: usize = pieces.iter().map(|piece| piece.len()).sum();
        let send = |calls: &mut Calls<'_>, stream: &Stream| {
            if let Some(reason) = stream.closed {
                return Asked::Done(Err(broken(reason)));
            }
            let mut taken = 0;
            for piece in pieces {
                match calls.send(self.handle, piece) {
                    Ok(sent) if sent == piece.len() => taken += sent,
                    Ok(sent) => {
                        taken += sent;
                        break;
                    }
                    Err(error) => return Asked::Done(Err(refused(error))),
                }
            }
            if taken > 0 || asked == 0 { Asked::Done(Ok(taken)) } else { Asked::WaitToWrite }
        };
        self.ask(send, cx)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = |calls: &mut Calls<'_>, stream: &Stream| {
            let taken = match calls.received(self.handle) {
                Ok(bytes) => {
                    let taken = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..taken]);
                    taken
                }
                // Its end was told: nothing is left to read.
                Err(_) => 0,
            };
            if taken > 0 {
                return Asked::Done(calls.consume(self.handle, taken).map_err(refused));
            }
            match stream.closed {
                Some(CloseReason::Graceful) => Asked::Done(Ok(())),
                Some(reason) => Asked::Done(Err(ended(reason))),
                None if stream.peer_closed => Asked::Done(Ok(())),
                None => Asked::WaitToRead,
            }
        };
        self.ask(read, cx)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Written bytes leave in the next turn by themselves.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends FIN behind what was written; reading goes on.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = |calls: &mut Calls<'_>, stream: &Stream| {
            Asked::Done(match stream.closed {
                Some(CloseReason::Graceful) => Ok(()),
                Some(reason) => Err(ended(reason)),
                None => match calls.shutdown_write(self.handle) {
                    // Shut down before.
                    Ok(()) | Err(CallError::Closing) => Ok(()),
                    Err(error) => Err(refused(error)),
                },
            })
        };
        self.ask(shutdown, cx)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.net.with(|sockets, calls| sockets.leave(self.handle, calls));
    }
}

/// What came of asking.
enum Asked<T> {
    Done(io::Result<T>),
    WaitToRead,
    WaitToWrite,
}

/// The error of a connection that ended for `reason`.
fn ended(reason: CloseReason) -> io::Error {
    let kind = match reason {
        CloseReason::Graceful => ErrorKind::NotConnected,
        CloseReason::Reset => ErrorKind::ConnectionReset,
        CloseReason::Refused => ErrorKind::ConnectionRefused,
        CloseReason::Aborted => ErrorKind::ConnectionAborted,
        CloseReason::TimedOut => ErrorKind::TimedOut,
        CloseReason::Unreachable => ErrorKind::HostUnreachable,
    };
    io::Error::new(kind, format!("the connection has ended: {}", reason.name()))
}

/// As [`ended`], for whoever writes: a graceful end breaks the pipe.
fn broken(reason: CloseReason) -> io::Error {
    match reason {
        CloseReason::Graceful => io::Error::new(ErrorKind::BrokenPipe, "the connection was closed"),
        reason => ended(reason),
    }
}

fn refused(error: CallError) -> io::Error {
    let kind = match error {
        CallError::Closing => ErrorKind::BrokenPipe,
        CallError::Options(_) => ErrorKind::InvalidInput,
        _ => ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}
