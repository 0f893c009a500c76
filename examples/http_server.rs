//! hyper, as it is, over synfin: answers every request on port 80 until it is killed.
//!
//! `cargo run --release --features tokio --example http_server -- veth0 10.0.0.2`
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, error::Error, net::SocketAddr};
use synfin::shard::{LocalAddress, ShardConfig};
use synfin::stack::StackConfig;
use synfin::tokio::Net;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(format!("hello, {}\n", request.uri().path()).into()))
}

/// One shard: its listener, and a task for each of its connections.
async fn serve(net: Net, address: SocketAddr) {
    let listener = match net.listen(address) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("http_server: {address}: {error}"),
    };
    while let Ok((stream, peer)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await {
                eprintln!("http_server: {peer}: {error}");
            }
        });
    }
}

fn main() {
    if let Err(error) = start() {
        eprintln!("http_server: {error}");
        std::process::exit(1);
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, address] = &arguments[..] else { return Err("usage: http_server INTERFACE ADDRESS".into()) };
    let address = address.parse()?;
    let addresses = vec![LocalAddress { address, prefix_len: 24 }];
    let shard = ShardConfig { addresses, ..ShardConfig::default() };
    let config = StackConfig { shard, ..StackConfig::new(interface) };
    let stack = synfin::tokio::start(&config, move |_shard, net| serve(net, (address, 80).into()))?;
    Ok(stack.join().map(drop)?)
}
