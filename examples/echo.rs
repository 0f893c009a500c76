//! Echo on port 7 over AF_XDP, until it is killed: `cargo run --release --example echo -- veth0 10.0.0.2`.
use std::{error::Error, net::Ipv4Addr};
use synfin::api::{Application, Event, ListenError};
use synfin::shard::{Calls, LocalAddress, ShardConfig};
use synfin::stack::{Service, Stack, StackConfig};

struct Echo;

impl Service for Echo {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        calls.listen(Ipv4Addr::UNSPECIFIED.into(), 7).map(drop)
    }
}

impl Application for Echo {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        // What cannot be sent yet stays unread and closes the window; a call is refused when the connection has just ended.
        let _ = match event {
            Event::Readable { handle, .. } | Event::Writable { handle } => calls.forward(handle, handle).map(drop),
            Event::PeerClosed { handle } => calls.close(handle),
            _ => Ok(()),
        };
    }
}

fn main() {
    if let Err(error) = serve() {
        eprintln!("echo: {error}");
        std::process::exit(1);
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, address] = &arguments[..] else { return Err("usage: echo INTERFACE ADDRESS".into()) };
    let addresses = vec![LocalAddress { address: address.parse()?, prefix_len: 24 }];
    let shard = ShardConfig { addresses, ..ShardConfig::default() };
    Ok(Stack::start(&StackConfig { shard, ..StackConfig::new(interface) }, |_shard| Echo)?.join().map(drop)?)
}
