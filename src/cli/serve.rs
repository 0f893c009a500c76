//! `synfin serve`.

use super::Failure;
use super::arguments::Serve;
use super::output::{self, say};
use super::services::Services;
use super::session::Session;
use crate::stack::SharedPorts;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    let addresses: Vec<IpAddr> = serve.common.interfaces.addresses().iter().map(|own| own.address).collect();
    let (services, all) = (serve.services.clone(), addresses.clone());
    let options = serve.common.options.get();
    let listen = serve.services.iter().map(|service| service.port).collect();
    let ports = SharedPorts { listen, opens: false };
    let mut session =
        Session::start(&serve.common, serve.syn_cookies, ports, move |_shard| Services::new(&services, &all, options))?;
    let names: Vec<String> =
        serve.services.iter().map(|service| format!("{}:{}", service.kind.name(), service.port)).collect();
    // As given: a range is one word.
    let addresses = serve.common.interfaces.address_words();
    let (interface, mode) = (serve.common.interfaces.names().join(","), session.mode());
    if serve.common.json {
        say(&json!({"serving": names, "interface": interface, "addresses": addresses, "mode": mode}).to_string());
    } else {
        say(&format!("serving {} on {interface} at {}, mode {mode}", names.join(" "), addresses.join(",")));
    }
    session.wait(None, || {});
    output::hurry();
    session.end(Duration::from_secs(serve.drain.into())).map(|_| ())
}
