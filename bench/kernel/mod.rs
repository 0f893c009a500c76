//! The baseline: the Linux kernel's own TCP, used as well as it can be from one thread per end.
//!
//! epoll with edge triggers and one `epoll_ctl` per connection, `accept4`, `SO_REUSEPORT`, `IP_BIND_ADDRESS_NO_PORT`; connections
//! live in a slab indexed by descriptor, so nothing is allocated per connection. `TCP_DEFER_ACCEPT` at the server lets a
//! connection be accepted together with its request.

pub(crate) mod client;
pub(crate) mod server;
mod settings;
pub(crate) mod sys;

use std::os::fd::RawFd;
use std::time::Duration;

/// Things by descriptor. Descriptors are small and dense, so a lookup is an index.
struct Slab<T>(Vec<Option<T>>);

impl<T> Slab<T> {
    /// Room for descriptors below `capacity`; a higher one makes it grow.
    fn new(capacity: usize) -> Slab<T> {
        Slab(std::iter::repeat_with(|| None).take(capacity).collect())
    }

    fn insert(&mut self, fd: RawFd, value: T) {
        let index = fd as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(value);
    }

    fn get_mut(&mut self, token: u64) -> Option<&mut T> {
        self.0.get_mut(token as usize)?.as_mut()
    }

    fn remove(&mut self, token: u64) -> Option<T> {
        self.0.get_mut(token as usize)?.take()
    }
}

/// Events per epoll wait.
const BATCH: usize = 256;
/// How long epoll may wait before the clock is looked at.
const WAIT: Duration = Duration::from_millis(50);
/// Descriptors beside the connections.
const SPARE_FILES: u64 = 64;
