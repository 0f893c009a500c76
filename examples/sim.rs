//! Two stacks in one process, joined by a wire in memory: no privilege, no interface, the same run every time.
//!
//! ```text
//! cargo run --example sim
//! ```
use std::error::Error;
use std::net::SocketAddr;
use synfin::api::{Application, CloseReason, ConnectOptions, Event};
use synfin::shard::{Calls, Sim};

/// Sends back whatever comes.
struct Server;

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        let _ = match event {
            Event::Readable { handle, .. } | Event::Writable { handle } => calls.forward(handle, handle).map(drop),
            Event::PeerClosed { handle } => calls.close(handle),
            _ => Ok(()),
        };
    }
}

/// Sends its request on each connection, and closes when it has come back.
#[derive(Default)]
struct Client {
    answered: usize,
    graceful: usize,
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        let _ = match event {
            Event::Connected { handle } => calls.send(handle, REQUEST).map(drop),
            Event::Readable { handle, bytes } if bytes.len() < REQUEST.len() => calls.consume(handle, 0),
            Event::Readable { handle, bytes } => {
                self.answered += usize::from(bytes == REQUEST);
                calls.consume(handle, bytes.len()).and_then(|()| calls.close(handle))
            }
            Event::Closed { reason, .. } => {
                self.graceful += usize::from(reason == CloseReason::Graceful);
                Ok(())
            }
            _ => Ok(()),
        };
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut sim = Sim::new(Client::default(), Server)?;
    let remote = SocketAddr::new(Sim::<Client, Server>::RIGHT, 7);
    sim.right_calls().listen(remote.ip(), remote.port())?;
    for _ in 0..CONNECTIONS {
        sim.left_calls().connect(remote, &ConnectOptions::default())?;
    }
    sim.run(50);
    let Client { answered, graceful } = sim.left.application();
    println!("{answered} of {CONNECTIONS} requests answered, {graceful} connections closed by both ends");
    for (state, count) in sim.left.states().iter().filter(|(_, count)| *count > 0) {
        println!("{state} {count}");
    }
    if (*answered, *graceful) == (CONNECTIONS, CONNECTIONS) { Ok(()) } else { Err("a connection was lost".into()) }
}

const CONNECTIONS: usize = 100;
const REQUEST: &[u8] = b"what is sent comes back";
