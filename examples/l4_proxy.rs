//! An L4 proxy to read in one go: listen, choose a backend in turn, connect, splice. `synfin proxy` is the same with settings.
//!
//! ```text
//! cargo run --release --example l4_proxy -- veth0 10.0.0.2/24 80 10.0.0.3:8080 10.0.0.4:8080
//! ```
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use synfin::api::{Application, ConnectOptions, Event, ListenError};
use synfin::ids::{Handle, ListenerId};
use synfin::shard::{Calls, LocalAddress, ShardConfig};
use synfin::stack::{Service, Stack, StackConfig, StackError};

struct Proxy {
    port: u16,
    backends: Vec<SocketAddr>,
    next: usize,
    listener: Option<ListenerId>,
}

impl Application for Proxy {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            // Each connection keeps the other's handle as its own number.
            Event::Accepted { handle: client, .. } => {
                let backend = self.backends[self.next % self.backends.len()];
                self.next += 1;
                let options = ConnectOptions { user: client.to_bits(), ..ConnectOptions::default() };
                let backend = calls.connect(backend, &options);
                let _ = calls.set_user(client, backend.map_or(NOBODY, Handle::to_bits));
                if backend.is_err() {
                    let _ = calls.abort(client);
                }
            }
            // What the client has sent meanwhile waits unread, and goes first.
            Event::Connected { handle: backend } => {
                let client = other(calls, backend);
                if client.is_none_or(|client| calls.splice(client, backend).is_err()) {
                    let _ = calls.abort(backend);
                }
            }
            // Both have closed; each now ends for itself.
            Event::SpliceEnded { a, b, .. } => {
                let _ = calls.set_user(a, NOBODY);
                let _ = calls.set_user(b, NOBODY);
            }
            // Before the splice: neither has any use without the other.
            Event::Closed { handle, .. } => {
                let _ = other(calls, handle).map(|other| calls.abort(other));
            }
            _ => {}
        }
    }
}

fn other(calls: &Calls<'_>, handle: Handle) -> Option<Handle> {
    calls.user(handle).ok().map(Handle::from_bits)
}

impl Service for Proxy {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        self.listener = Some(calls.listen(Ipv4Addr::UNSPECIFIED.into(), self.port)?);
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        self.listener.take().map(|listener| calls.stop_listening(listener));
    }
}

/// The number of no handle.
const NOBODY: u64 = u64::MAX;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((interface, own, port, backends)) = parse(&arguments) else {
        eprintln!("usage: l4_proxy INTERFACE ADDRESS/BITS PORT BACKEND:PORT...");
        return ExitCode::from(2);
    };
    match serve(interface, own, port, backends) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("l4_proxy: {error}");
            ExitCode::from(3)
        }
    }
}

fn parse(arguments: &[String]) -> Option<(&str, LocalAddress, u16, Vec<SocketAddr>)> {
    let [interface, own, port, backends @ ..] = arguments else { return None };
    let (address, bits) = own.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let own = LocalAddress { address, prefix_len: bits.parse().ok()? };
    let backends: Vec<SocketAddr> = backends.iter().map(|text| text.parse()).collect::<Result<_, _>>().ok()?;
    (!backends.is_empty()).then_some((interface, own, port.parse().ok()?, backends))
}

/// Serves until the process is killed; the kernel then has the interface's traffic again at once.
fn serve(interface: &str, own: LocalAddress, port: u16, backends: Vec<SocketAddr>) -> Result<(), StackError> {
    let shard = ShardConfig { addresses: vec![own], ..ShardConfig::default() };
    let config = StackConfig { shard, ..StackConfig::new(interface) };
    let make = move |shard| Proxy { port, backends: backends.clone(), next: shard, listener: None };
    let stack = Stack::start(&config, make)?;
    let mode = stack.modes().map(|mode| mode.to_string()).collect::<String>();
    println!("proxying port {port} of {} on {interface}, mode {mode}", own.address);
    stack.join().map(|_| ())
}
