//! The smallest service of one's own: echo on port 7 over AF_XDP.
//!
//! ```text
//! cargo run --release --example echo -- veth0 10.0.0.2
//! ```
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use synfin::api::{Application, Event, ListenError};
use synfin::ids::ListenerId;
use synfin::shard::{Calls, LocalAddress, ShardConfig};
use synfin::stack::{Service, Stack, StackConfig, StackError, random_secrets};

#[derive(Default)]
struct Echo {
    listener: Option<ListenerId>,
}

impl Service for Echo {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        self.listener = Some(calls.listen(Ipv4Addr::UNSPECIFIED.into(), 7)?);
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        if let Some(listener) = self.listener.take() {
            calls.stop_listening(listener);
        }
    }
}

impl Application for Echo {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        // A call is refused only when the connection has just ended, and Closed follows then: nothing is left to do.
        let _ = match event {
            Event::Readable { handle, bytes } => calls.send(handle, bytes).and_then(|sent| calls.consume(handle, sent)),
            // After a short send: what is still unread can go on.
            Event::Writable { handle } => calls.received(handle).map(<[u8]>::to_vec).and_then(|unread| {
                let sent = calls.send(handle, &unread)?;
                calls.consume(handle, sent)
            }),
            // Told once everything has been read, hence echoed.
            Event::PeerClosed { handle } => calls.close(handle),
            Event::Accepted { .. } | Event::Connected { .. } | Event::Closed { .. } => Ok(()),
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } => Ok(()),
        };
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, address] = &arguments[..] else {
        eprintln!("usage: echo INTERFACE ADDRESS");
        return ExitCode::from(2);
    };
    let Ok(address) = address.parse() else {
        eprintln!("echo: {address:?} is no IP address");
        return ExitCode::from(2);
    };
    match serve(interface, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::from(3)
        }
    }
}

/// Serves until the process is killed; the kernel then has the interface's traffic again at once.
fn serve(interface: &str, address: IpAddr) -> Result<(), StackError> {
    let addresses = vec![LocalAddress { address, prefix_len: 24 }];
    let shard = ShardConfig { addresses, secrets: random_secrets()?, ..ShardConfig::default() };
    let config = StackConfig { shard, ..StackConfig::new(interface) };
    let stack = Stack::start(&config, |_shard| Echo::default())?;
    println!("echo on {interface} at {address}, mode {}", stack.mode());
    stack.join().map(|_| ())
}
