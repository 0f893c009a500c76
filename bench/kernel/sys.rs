//! The system calls of the kernel baseline, and what else the C library must be asked for, each behind a safe function. The only unsafe code of the benchmark.
//!
//! Invariants that every unsafe block here rests on:
//! 1. A descriptor is passed as `BorrowedFd`, so it is open for the whole call; a new one becomes an `OwnedFd` once, when the kernel
//!    has returned it and before anything else can see it.
//! 2. A pointer given to the kernel comes from a live Rust reference, together with the size of what it points to, and the kernel
//!    keeps none of them beyond the call.
//! 3. The structures given are plain old data (`sockaddr_in`, `epoll_event`, `rlimit`, `timespec`, `linger`, `c_int`): every bit pattern that the kernel
//!    writes is valid.
//! 4. The call takes integers only, and changes nothing that Rust code relies on.

use std::io;
use std::mem::size_of;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A non-blocking IPv4 TCP socket.
pub(crate) fn tcp_socket() -> io::Result<OwnedFd> {
    // SAFETY: invariant 4.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    owned(fd)
}

/// Sets an integer socket option.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: invariants 1, 2 and 3.
    done(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) })
}

/// Binds to a local address; port 0 leaves the port to the kernel.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: SocketAddrV4) -> io::Result<()> {
    let address = to_sockaddr(address);
    // SAFETY: invariants 1, 2 and 3.
    done(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), SOCKADDR_BYTES) })
}

/// Listens with room for `backlog` connections that nobody has accepted yet.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: invariants 1 and 4.
    done(unsafe { libc::listen(fd.as_raw_fd(), backlog) })
}

/// Accepts one connection as a non-blocking socket; `None` when none waits.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let (flags, none) = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, std::ptr::null_mut());
    // SAFETY: invariant 1; accept4 takes null for an address that nobody wants.
    let accepted = unsafe { libc::accept4(fd.as_raw_fd(), none, std::ptr::null_mut(), flags) };
    or_would_block(owned(accepted))
}

/// Begins to connect; `true` when the connection is open at once.
pub(crate) fn connect(fd: BorrowedFd<'_>, remote: SocketAddrV4) -> io::Result<bool> {
    let remote = to_sockaddr(remote);
    // SAFETY: invariants 1, 2 and 3.
    match done(unsafe { libc::connect(fd.as_raw_fd(), (&raw const remote).cast(), SOCKADDR_BYTES) }) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The pending error of a socket, taken from it.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut pending: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw mut pending).cast();
    // SAFETY: invariants 1, 2 and 3.
    done(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut size) })?;
    if pending == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(pending)) }
}

/// Makes room for a message that the default send buffer may not take whole.
pub(crate) fn room_to_send(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    if bytes <= SEND_BUFFER_MIN {
        return Ok(());
    }
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 2 * bytes as i32)
}

/// Has the close of this socket send a RST (SO_LINGER 0).
pub(crate) fn reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const linger).cast();
    // SAFETY: invariants 1, 2 and 3.
    done(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size) })
}

/// Sends; returns the bytes taken, `None` when there is no room. Never raises SIGPIPE.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], more: More) -> io::Result<Option<usize>> {
    let flags = libc::MSG_NOSIGNAL | if more == More::Follows { libc::MSG_MORE } else { 0 };
    // SAFETY: invariants 1 and 2.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    or_would_block(count(sent))
}

/// Receives; 0 is the end of the stream, `None` that nothing is there.
pub(crate) fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: invariants 1 and 2.
    let received = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    or_would_block(count(received))
}

/// Whether a close follows at once, so that the kernel may put the FIN on the segment that carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum More {
    /// Send now.
    No,
    /// Hold the segment until the close.
    Follows,
}

/// One thing that epoll reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// What was given to [`Epoll::add`].
    pub token: u64,
    /// Bytes, or the end of the stream, can be read; or an error waits.
    pub readable: bool,
    /// Room to send, or the outcome of connect.
    pub writable: bool,
    /// The peer has sent FIN.
    pub peer_closed: bool,
    /// An error waits: see [`take_error`].
    pub failed: bool,
}

/// An epoll instance with room for one batch of events.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
}

impl Epoll {
    /// An instance that reports at most `batch` events per wait.
    pub(crate) fn new(batch: usize) -> io::Result<Epoll> {
        // SAFETY: invariant 4.
        let fd = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; batch], ready: 0 })
    }

    /// Watches `fd` for everything: edge-triggered for connections, level-triggered for listeners.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, trigger: Trigger) -> io::Result<()> {
        let events = match trigger {
            Trigger::Edge => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
            Trigger::EdgeIn => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET,
            Trigger::LevelIn => libc::EPOLLIN,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let epoll = self.fd.as_raw_fd();
        // SAFETY: invariants 1, 2 and 3.
        done(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
    }

    /// Waits up to `timeout`, to the resolution of the kernel's timers; the number of events is then the range for
    /// [`Epoll::ready`].
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let (buffer, room) = (self.events.as_mut_ptr(), self.events.len());
        let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
        let (timeout, no_mask) = (&raw const timeout, std::ptr::null::<libc::sigset_t>());
        // SAFETY: invariants 1, 2 and 3: the buffer has `room` elements; no signal mask is given, so its size is not looked at.
        let found = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, self.fd.as_raw_fd(), buffer, room as libc::c_int, timeout, no_mask, 0)
        };
        self.ready = match count(found as isize) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(self.ready)
    }

    /// Event `index` of the last wait; `None` past the last.
    pub(crate) fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events[..self.ready].get(index)?;
        let has = |flags: i32| event.events & flags as u32 != 0;
        Some(Ready {
            token: event.u64,
            readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR),
            writable: has(libc::EPOLLOUT),
            peer_closed: has(libc::EPOLLRDHUP),
            failed: has(libc::EPOLLERR),
        })
    }
}

/// How epoll reports a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trigger {
    /// Once per change, reading and writing.
    Edge,
    /// Once per change, reading only.
    EdgeIn,
    /// While something can be read.
    LevelIn,
}

/// Asks the kernel to kill this process when its parent ends; `false` when the parent has ended already.
pub(crate) fn die_with_parent() -> bool {
    // SAFETY: invariant 4.
    let parent_before = unsafe { libc::getppid() };
    // SAFETY: invariant 4: PR_SET_PDEATHSIG takes a signal number.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    // SAFETY: invariant 4.
    let parent_after = unsafe { libc::getppid() };
    set == 0 && parent_after == parent_before && parent_after != 1
}

/// Raises the limit on open descriptors to at least `needed`.
pub(crate) fn raise_open_files(needed: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: invariants 2 and 3.
    done(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    limit.rlim_cur = needed;
    limit.rlim_max = limit.rlim_max.max(needed);
    // SAFETY: invariants 2 and 3.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// The effective user, 0 for root.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: invariant 4.
    unsafe { libc::geteuid() }
}

fn to_sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: invariant 1: the kernel has just returned it, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn or_would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Size of an IPv4 socket address, bytes.
const SOCKADDR_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
/// What a send buffer takes at once whatever its settings (net.ipv4.tcp_wmem begins at 4,096), bytes.
const SEND_BUFFER_MIN: u32 = 2048;

/// Gives memory that was freed back to the system, as far as the C library can.
pub(crate) fn release_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: invariant 4.
    unsafe {
        libc::malloc_trim(0);
    }
}
