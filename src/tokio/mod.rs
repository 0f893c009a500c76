//! Listeners and streams for tokio: existing async code over synfin, one current-thread runtime per core.
//!
//! [`start`] gives each shard's thread a runtime of its own. On it run the shard, a turn at a time, and whatever the application
//! spawns with `tokio::task::spawn_local`. Nothing crosses threads: streams are not `Send`. Reading and writing are calls on the
//! shard's own buffers, without a queue in between; when nothing is to be done the thread sleeps in the runtime until a frame, a
//! deadline or another of its tasks wakes it.
//!
//! ```no_run
//! use synfin::shard::{LocalAddress, ShardConfig};
//! use synfin::stack::StackConfig;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # fn main() -> Result<(), synfin::stack::StackError> {
//! let addresses = vec![LocalAddress { address: [10, 0, 0, 2].into(), prefix_len: 24 }];
//! let shard = ShardConfig { addresses, ..ShardConfig::default() };
//! let config = StackConfig { shard, ..StackConfig::new("veth0") };
//! let stack = synfin::tokio::start(&config, |_shard, net| async move {
//!     let listener = net.listen(([10, 0, 0, 2], 7).into()).expect("port 7 is free");
//!     while let Ok((mut stream, _peer)) = listener.accept().await {
//!         tokio::task::spawn_local(async move {
//!             let mut buffer = [0; 4096];
//!             while let Ok(read @ 1..) = stream.read(&mut buffer).await {
//!                 if stream.write_all(&buffer[..read]).await.is_err() {
//!                     break;
//!                 }
//!             }
//!         });
//!     }
//! })?;
//! stack.join()?;
//! # Ok(())
//! # }
//! ```

mod listener;
mod net;
mod pump;
mod sockets;
mod stream;

#[cfg(test)]
mod tests;

pub use listener::TcpListener;
pub use net::Net;
pub use sockets::Sockets;
pub use stream::TcpStream;

use crate::stack::{Stack, StackConfig, StackError};

/// Starts a stack as [`Stack::start`] does, with a tokio runtime on each shard's thread that runs `main(shard, net)`. A
/// shard ends when its future has ended and no connection lives, or when the stack is told to.
pub fn start<F, M>(config: &StackConfig, main: F) -> Result<Stack<Sockets>, StackError>
where
    F: Fn(usize, Net) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    Stack::start_by(config, pump::OnTokio(main))
}
