//! What a shard tells its tasks: the application that turns events into wake-ups.

use super::net::drains;
use crate::api::{Application, Event};
use crate::ids::{Handle, ListenerId};
use crate::shard::Calls;
use crate::stack::Service;
use crate::tcp::state::CloseReason;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Runtime;

/// The application of a shard whose connections are streams. Made and held by the stack; what it returns at the end says
/// nothing more.
#[derive(Debug, Default)]
pub struct Sockets {
    runtime: Option<Runtime>,
    streams: HashMap<Handle, Stream>,
    listeners: HashMap<ListenerId, Listening>,
    draining: bool,
    ended: bool,
}

/// How a stream stands, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) opened: bool,
    pub(super) peer_closed: bool,
    pub(super) closed: Option<CloseReason>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Connections that wait for [`TcpListener::accept`](super::TcpListener::accept), and who waits for them.
#[derive(Debug, Default)]
struct Listening {
    accepted: VecDeque<Handle>,
    acceptors: Vec<Waker>,
}

impl Sockets {
    pub(super) fn new(runtime: Runtime) -> Sockets {
        Sockets { runtime: Some(runtime), ..Sockets::default() }
    }

    pub(super) fn take_runtime(&mut self) -> Option<Runtime> {
        self.runtime.take()
    }

    /// The application's future has ended: the shard ends with its last connection.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// No listener takes connections any more.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn listen(&mut self, listener: ListenerId) {
        self.listeners.insert(listener, Listening::default());
    }

    pub(super) fn connect(&mut self, handle: Handle) {
        self.streams.insert(handle, Stream::default());
    }

    /// The stream that the handle names, until it is dropped.
    pub(super) fn stream(&self, handle: Handle) -> Option<&Stream> {
        self.streams.get(&handle)
    }

    /// Wakes the task of `cx` when bytes, the peer's end or the connection's come.
    pub(super) fn wait_to_read(&mut self, handle: Handle, cx: &Context<'_>) {
        if let Some(stream) = self.streams.get_mut(&handle) {
            stream.reader = Some(cx.waker().clone());
        }
    }

    /// Wakes the task of `cx` when the connection has opened, has room, or has ended.
    pub(super) fn wait_to_write(&mut self, handle: Handle, cx: &Context<'_>) {
        if let Some(stream) = self.streams.get_mut(&handle) {
            stream.writer = Some(cx.waker().clone());
        }
    }

    /// The next connection.
    pub(super) fn poll_accepted(
        &mut self,
        listener: ListenerId,
        calls: &mut Calls<'_>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Handle>> {
        let draining = self.draining;
        let Some(listening) = self.listeners.get_mut(&listener) else { return Poll::Ready(Err(drains())) };
        let next = listening.accepted.pop_front();
        if listening.accepted.len() == BACKLOG - 1 && next.is_some() && !draining {
            calls.resume_accepting(listener);
        }
        match next {
            Some(handle) => Poll::Ready(Ok(handle)),
            None if draining => Poll::Ready(Err(drains())),
            None => {
                if !listening.acceptors.iter().any(|waker| waker.will_wake(cx.waker())) {
                    listening.acceptors.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// The listener is gone; so are the connections that nobody has accepted.
    pub(super) fn stop_listening(&mut self, listener: ListenerId, calls: &mut Calls<'_>) {
        // In a drain none listens, and its number is nobody else's.
        calls.stop_listening(listener);
        let waiting = self.listeners.remove(&listener).unwrap_or_default();
        for handle in waiting.accepted {
            self.streams.remove(&handle);
            // Refused where it has ended already.
            let _ = calls.abort(handle);
        }
    }

    /// The stream is gone: what was written is still sent, and what comes is not wanted.
    pub(super) fn leave(&mut self, handle: Handle, calls: &mut Calls<'_>) {
        self.streams.remove(&handle);
        // Refused where it has ended already.
        let _ = calls.close(handle);
    }

    fn accepted(&mut self, handle: Handle, listener: ListenerId, calls: &mut Calls<'_>) {
        let Some(listening) = self.listeners.get_mut(&listener) else {
            let _ = calls.abort(handle);
            return;
        };
        self.streams.insert(handle, Stream { opened: true, ..Stream::default() });
        listening.accepted.push_back(handle);
        if listening.accepted.len() == BACKLOG {
            calls.pause_accepting(listener);
        }
        listening.acceptors.drain(..).for_each(Waker::wake);
    }
}

impl Stream {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Service for Sockets {
    fn start(&mut self, _calls: &mut Calls<'_>) -> Result<(), crate::api::ListenError> {
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        self.draining = true;
        calls.stop_listening_all();
        for listening in self.listeners.values_mut() {
            listening.acceptors.drain(..).for_each(Waker::wake);
        }
    }

    /// The future may have to finish what it does.
    fn is_drained(&self) -> bool {
        self.ended
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}

impl Application for Sockets {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if let Event::Accepted { handle, listener } = event {
            return self.accepted(handle, listener, calls);
        }
        let (Event::Connected { handle }
        | Event::Readable { handle, .. }
        | Event::Writable { handle }
        | Event::PeerClosed { handle }
        | Event::Closed { handle, .. }) = event
        else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&handle) else { return };
        match event {
            Event::Connected { .. } => stream.opened = true,
            Event::PeerClosed { .. } => stream.peer_closed = true,
            Event::Closed { reason, .. } => stream.closed = Some(reason),
            // Unread bytes stay where they are until the task takes them.
            Event::Readable { .. } => return stream.reader.take().into_iter().for_each(Waker::wake),
            _ => return stream.writer.take().into_iter().for_each(Waker::wake),
        }
        stream.wake();
    }
}

/// Connections that may wait to be accepted by a task; beyond that the shard keeps them. Origin: the backlog that most
/// servers ask of a kernel.
const BACKLOG: usize = 128;
