//! Accepting.

use super::net::Net;
use super::stream::TcpStream;
use crate::ids::ListenerId;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// A listener of one shard. Dropped, it takes no more connections, and those that nobody has accepted are reset.
#[derive(Debug)]
pub struct TcpListener {
    net: Net,
    listener: ListenerId,
    address: SocketAddr,
}

impl TcpListener {
    pub(super) fn new(net: Net, listener: ListenerId, address: SocketAddr) -> TcpListener {
        TcpListener { net, listener, address }
    }

    /// The next connection and its peer. [`io::ErrorKind::ConnectionAborted`] when the stack drains or has ended: none will come.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`TcpListener::accept`], by poll. Every task that waits is woken by a connection.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        // A loop that goes on after an error would keep the thread from the shard.
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            let accepted = self.net.poll(|sockets, calls| sockets.poll_accepted(self.listener, calls, cx));
            let accepted = ready!(accepted);
            budget.made_progress();
            let stream = TcpStream::new(self.net.clone(), accepted?);
            // One that has ended while it waited is nobody's.
            if let Ok(peer) = stream.peer_addr() {
                return Poll::Ready(Ok((stream, peer)));
            }
        }
    }

    /// The address that it was told to listen on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.net.with(|sockets, calls| sockets.stop_listening(self.listener, calls));
    }
}
