//! What drives a shard on a runtime: a step, then whoever else is ready, then sleep where there is nothing to do.

use super::net::{Net, Reach};
use super::sockets::Sockets;
use crate::shard::Calls;
use crate::stack::{Drive, ShardLoop, StackError, Step, WaitLink};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};

/// Drives each shard on a runtime, beside the future that the function makes.
pub(super) struct OnTokio<F>(pub(super) F);

impl<F, M> Drive<Sockets> for OnTokio<F>
where
    F: Fn(usize, Net) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    fn make(&self, shard: usize) -> Result<Sockets, StackError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(Sockets::new).map_err(|source| StackError::Runtime { shard, source })
    }

    fn run<L: WaitLink + 'static>(&self, mut shard_loop: ShardLoop<L, Sockets>) -> Sockets {
        let number = shard_loop.number();
        let Some(runtime) = shard_loop.with_calls(|sockets, _| sockets.take_runtime()) else {
            return shard_loop.finish();
        };
        let driven = Rc::new(Driven { shard: RefCell::new(Some(shard_loop)), kicked: Notify::new() });
        let net = Net::new(Rc::<Driven<L>>::clone(&driven));
        let main = (self.0)(number, net.clone());
        let tasks = LocalSet::new();
        let main = tasks.spawn_local(async move {
            main.await;
            net.with(|sockets, _| sockets.end());
        });
        tasks.block_on(&runtime, async {
            let failed = async {
                match main.await {
                    Err(error) if error.is_panic() => error.into_panic(),
                    _ => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = driven.pump() => {}
                // The stack ends as it does when a shard panics.
                panic = failed => resume_unwind(panic),
            }
        });
        // Tasks go while the shard still stands: what they hold is closed.
        drop(tasks);
        let shard_loop = driven.shard.borrow_mut().take();
        shard_loop.map_or_else(Sockets::default, ShardLoop::finish)
    }
}

/// A shard that tasks of its thread reach.
struct Driven<L> {
    /// `None` when the shard has ended.
    shard: RefCell<Option<ShardLoop<L, Sockets>>>,
    /// A task has made a call: what it owes leaves in a turn.
    kicked: Notify,
}

impl<L: WaitLink> Reach for Driven<L> {
    fn reach(&self, ask: &mut dyn FnMut(&mut Sockets, &mut Calls<'_>) -> bool) {
        // Busy only where a task's value is dropped inside a call, which no runtime of tokio does.
        if let Ok(mut shard) = self.shard.try_borrow_mut()
            && let Some(shard) = shard.as_mut()
            && shard.with_calls(|sockets, calls| ask(sockets, calls))
        {
            self.kicked.notify_one();
        }
    }
}

impl<L: WaitLink> Driven<L> {
    /// Steps until the shard is over.
    async fn pump(&self) {
        let woken_by = self.on_shard(|shard| Sources::of(shard)).flatten();
        while let Some(step) = self.on_shard(ShardLoop::step) {
            match step {
                Step::Over => return,
                Step::Again => yield_now().await,
                Step::Idle(timeout) => {
                    // A task that is ready may have something to send.
                    yield_now().await;
                    match &woken_by {
                        Some(sources) => self.sleep(sources, timeout).await,
                        None => drop(self.on_shard(|shard| shard.sleep(timeout.min(NAP)))),
                    }
                }
            }
        }
    }

    async fn sleep(&self, sources: &Sources, timeout: Duration) {
        if self.on_shard(|shard| shard.fall_asleep()) == Some(true) {
            tokio::select! {
                () = self.kicked.notified() => {}
                () = any_ready(&sources.links) => {}
                () = ready(&sources.alarm) => {}
                () = tokio::time::sleep(timeout) => {}
            }
        }
        self.on_shard(ShardLoop::wake_up);
    }

    fn on_shard<T>(&self, with: impl FnOnce(&mut ShardLoop<L, Sockets>) -> T) -> Option<T> {
        self.shard.borrow_mut().as_mut().map(with)
    }
}

/// What wakes a shard that sleeps: frames, and other shards.
struct Sources {
    /// One of each interface.
    links: Vec<AsyncFd<OwnedFd>>,
    alarm: AsyncFd<OwnedFd>,
}

impl Sources {
    /// `None` where the link has nothing to sleep on, or the runtime cannot watch it.
    fn of<L: WaitLink>(shard: &ShardLoop<L, Sockets>) -> Option<Sources> {
        let links = shard.link_descriptors()?;
        match (links.into_iter().map(watch).collect(), watch(shard.alarm_descriptor())) {
            (Ok(links), Ok(alarm)) => Some(Sources { links, alarm }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the runtime cannot watch the link: it is looked at every millisecond instead; raise ulimit -n");
                None
            }
        }
    }
}

fn watch(descriptor: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = descriptor.try_clone_to_owned()?;
    // SAFETY: an OwnedFd names the same open descriptor until it is dropped, which the AsyncFd does last.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Waits until `source` is readable, for the next time from anew.
async fn ready(source: &AsyncFd<OwnedFd>) {
    match source.readable().await {
        Ok(mut guard) => guard.clear_ready(),
        // The runtime shuts down: whoever waits is dropped with it.
        Err(_) => pending().await,
    }
}

/// Waits until one of `sources` is readable, for the next time from anew.
async fn any_ready(sources: &[AsyncFd<OwnedFd>]) {
    poll_fn(|cx| {
        let mut readable = Poll::Pending;
        for source in sources {
            if let Poll::Ready(Ok(mut guard)) = source.poll_read_ready(cx) {
                guard.clear_ready();
                readable = Poll::Ready(());
            }
        }
        readable
    })
    .await;
}

/// How long the thread sleeps at a time where nothing could wake it. Smaller costs turns, larger keeps tasks waiting.
const NAP: Duration = Duration::from_millis(1);
