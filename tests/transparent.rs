//! A stack that stands in for the addresses of others, against the kernel over a veth pair. Needs root.

mod common;

use common::{INTERFACE, VethPair, privileged_trial};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use synfin::api::{Application, CloseReason, ConnectOptions, Event, ListenError};
use synfin::shard::{Calls, LocalAddress, ShardConfig};
use synfin::stack::{Service, Stack, StackConfig};

fn main() {
    let trials = vec![privileged_trial("kernel_server_sees_the_address_that_the_stack_stands_in_for", stands_in)];
    common::run(trials).exit();
}

/// The stack is 10.77.0.9, and stands in for 192.0.2.0/24, which the other host routes there.
fn stands_in() {
    let pair = VethPair::new(1);
    pair.left.ip(&["route", "add", "192.0.2.0/24", "via", "10.77.0.9"]);
    let server = pair.left.enter(|| TcpListener::bind("10.77.0.1:9000")).expect("a listener");
    let connected = thread::spawn(move || {
        let (mut stream, peer) = server.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = String::new();
        stream.read_to_string(&mut request)?;
        stream.write_all(b"seen")?;
        std::io::Result::Ok((peer, request))
    });
    let address =
        |address: &str, prefix_len| LocalAddress { address: address.parse().expect("an address"), prefix_len };
    let (services, _) = pair.right.enter(|| {
        let shard = ShardConfig {
            addresses: vec![address("10.77.0.9", 24)],
            transparent: vec![address("192.0.2.0", 24)],
            ..ShardConfig::default()
        };
        let config = StackConfig { shard, share_cores: true, ..StackConfig::new(INTERFACE) };
        let stack = Stack::start(&config, |_shard| Client::default()).expect("a stack");
        // Meanwhile the other host connects to one of the addresses, which the listener on none takes.
        let asked = pair.left.enter(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(STOOD_IN_FOR, 80), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        assert_eq!(asked.expect("is taken"), "192.0.2.7:80");
        stack.join().expect("a report")
    });
    let (peer, request) = connected.join().expect("no panic").expect("one connection");
    assert_eq!((peer, request.as_str()), (SocketAddr::new(STOOD_IN_FOR, 4711), "from 192.0.2.7"));
    assert_eq!((services[0].answer.as_slice(), services[0].ended), (&b"seen"[..], 2));
}

/// Connects from an address that is not the stack's, and tells who connects to one whom they meant.
#[derive(Default)]
struct Client {
    answer: Vec<u8>,
    /// Connections that have ended gracefully.
    ended: usize,
}

impl Service for Client {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        calls.listen("0.0.0.0".parse().expect("an address"), 80)?;
        let from = ConnectOptions {
            local_address: Some(STOOD_IN_FOR),
            local_port: Some(4711),
            deadline: Some(PATIENCE),
            ..ConnectOptions::default()
        };
        calls.connect("10.77.0.1:9000".parse().expect("an end"), &from).expect("it stands in for that address");
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended == 2
    }
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                calls.send(handle, b"from 192.0.2.7").expect("open");
                calls.shutdown_write(handle).expect("open");
            }
            Event::Accepted { handle, .. } => {
                let tuple = calls.four_tuple(handle).expect("live");
                let text = SocketAddr::new(tuple.local(), tuple.local_port).to_string();
                calls.send(handle, text.as_bytes()).expect("open");
                calls.close(handle).expect("open");
            }
            Event::Readable { handle, bytes } => {
                self.answer.extend_from_slice(bytes);
                calls.consume(handle, bytes.len()).expect("lent");
            }
            Event::Closed { reason, .. } => {
                assert_eq!(reason, CloseReason::Graceful);
                self.ended += 1;
            }
            _ => {}
        }
    }
}

/// Whose the address really is, nobody asks.
const STOOD_IN_FOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// How long an end waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);
