//! `synfin serve`.

use super::arguments::{Serve, ServiceAt};
use super::output::{self, say};
use super::services::Services;
use super::session::Session;
use super::{Exit, Failure};
use crate::stack::SharedPorts;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    check_ports(&serve.services).map_err(|problem| Failure::new(Exit::Usage, problem))?;
    let addresses: Vec<IpAddr> = serve.common.interfaces.addresses().iter().map(|own| own.address).collect();
    let (services, all) = (serve.services.clone(), addresses.clone());
    let options = serve.common.options.get();
    let listen = serve.services.iter().map(|service| service.port).collect();
    let ports = SharedPorts { listen, opens: false };
    let mut session =
        Session::start(&serve.common, serve.passive, ports, move |_shard| Services::new(&services, &all, options))?;
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

/// A port has one service.
fn check_ports(services: &[ServiceAt]) -> Result<(), String> {
    for (number, service) in services.iter().enumerate() {
        let (kind, port) = (service.kind.name(), service.port);
        match services[..number].iter().find(|other| other.port == port) {
            Some(other) if other.kind == service.kind => return Err(format!("{kind}:{port} is given twice")),
            Some(other) => {
                let first = other.kind.name();
                return Err(format!("port {port} is given twice, to {first} and to {kind}: it can have one service"));
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Arguments, Command, ServiceKind};
    use super::*;
    use clap::Parser;

    #[test]
    fn a_port_that_is_given_twice_is_wrong_usage() {
        for (services, says) in [
            ("http:80 http:80", "http:80 is given twice"),
            ("echo:7 discard:9 http:7", "port 7 is given twice, to echo and to http"),
        ] {
            let line = format!("synfin serve {services} --interface nosuch0 --address 10.0.0.2/24");
            let Command::Serve(serve) = Arguments::try_parse_from(line.split_whitespace()).expect("parses").command
            else {
                panic!("{line}");
            };
            let refused = run(&serve).expect_err("refused");
            assert!(refused.exit == Exit::Usage && refused.message.contains(says), "{refused}");
        }
        let different = [7, 8].map(|port| ServiceAt { kind: ServiceKind::Echo, port });
        assert_eq!(check_ports(&different), Ok(()));
    }
}
