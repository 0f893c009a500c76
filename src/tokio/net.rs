//! The way from a task to its shard.

use super::listener::TcpListener;
use super::sockets::Sockets;
use super::stream::TcpStream;
use crate::api::{ConnectOptions, ListenOptions};
use crate::shard::Calls;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

/// The network of one shard: listens and connects. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Net(Rc<dyn Reach>);

/// A shard, whatever its link.
pub(super) trait Reach {
    /// Asks the shard, unless it has ended; `ask` returns whether a turn may follow from it.
    fn reach(&self, ask: &mut dyn FnMut(&mut Sockets, &mut Calls<'_>) -> bool);
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    pub(super) fn new(reach: Rc<dyn Reach>) -> Net {
        Net(reach)
    }

    /// Takes connections to `address`, one of the stack's or the unspecified one, that this shard is given. Each shard
    /// listens for itself. [`io::ErrorKind::ConnectionAborted`] when the stack drains.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.listen_with(address, &ListenOptions::default())
    }

    /// As [`Net::listen`], with options.
    pub fn listen_with(&self, address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
        let listened = self.ask(|sockets, calls| {
            if sockets.is_draining() {
                return Err(drains());
            }
            let listened = calls.listen_with(address.ip(), address.port(), options);
            Ok(listened.inspect(|listener| sockets.listen(*listener)))
        })??;
        let listener = listened.map_err(|error: crate::api::ListenError| {
            let kind = match error {
                crate::api::ListenError::InUse(_) => io::ErrorKind::AddrInUse,
                crate::api::ListenError::NotOurAddress(_) | crate::api::ListenError::NotClaimed(_) => {
                    io::ErrorKind::AddrNotAvailable
                }
                _ => io::ErrorKind::InvalidInput,
            };
            io::Error::new(kind, error)
        })?;
        Ok(TcpListener::new(self.clone(), listener, address))
    }

    /// Opens a connection from an address and port of the stack's choice.
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.connect_with(remote, &ConnectOptions::default()).await
    }

    /// As [`Net::connect`], with options. Dropped before its end, it gives the connection up.
    pub async fn connect_with(&self, remote: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
        let connected = self.ask(|sockets, calls| {
            let handle = calls.connect(remote, options)?;
            sockets.connect(handle);
            Ok(handle)
        })?;
        let handle = connected.map_err(|error: crate::api::ConnectError| {
            let kind = match error {
                crate::api::ConnectError::InvalidRemote(_) => io::ErrorKind::InvalidInput,
                crate::api::ConnectError::NoRoute(_) => io::ErrorKind::NetworkUnreachable,
                crate::api::ConnectError::PortInUse(_) => io::ErrorKind::AddrInUse,
                _ => io::ErrorKind::AddrNotAvailable,
            };
            io::Error::new(kind, error)
        })?;
        let stream = TcpStream::new(self.clone(), handle);
        poll_fn(|cx| stream.poll_opened(cx)).await?;
        Ok(stream)
    }

    /// Asks the shard, and a turn follows; `None` when it has ended.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Sockets, &mut Calls<'_>) -> T) -> Option<T> {
        self.reach(ask, |_| true)
    }

    /// As [`Net::with`], for whoever tells by an error that the shard has ended.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&mut Sockets, &mut Calls<'_>) -> T) -> io::Result<T> {
        self.with(ask).ok_or_else(has_ended)
    }

    /// As [`Net::ask`]; a turn follows only from an answer that is ready.
    pub(super) fn poll<T>(
        &self,
        ask: impl FnOnce(&mut Sockets, &mut Calls<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.reach(ask, Poll::is_ready).unwrap_or_else(|| Poll::Ready(Err(has_ended())))
    }

    fn reach<T>(
        &self,
        ask: impl FnOnce(&mut Sockets, &mut Calls<'_>) -> T,
        turn_follows: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let (mut ask, mut answer) = (Some(ask), None);
        self.0.reach(&mut |sockets, calls| {
            answer = ask.take().map(|ask| ask(sockets, calls));
            answer.as_ref().is_some_and(&turn_follows)
        });
        answer
    }
}

pub(super) fn drains() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "no connection will come: the stack drains")
}

fn has_ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the stack has ended")
}
