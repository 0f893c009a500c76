//! `synfin serve`.

use super::Failure;
use super::arguments::Serve;
use super::services::Services;
use super::session::{Session, say};
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    let addresses: Vec<IpAddr> = serve.common.address.iter().map(|own| own.address).collect();
    let (services, all) = (serve.services.clone(), addresses.clone());
    let session = Session::start(&serve.common, serve.syn_cookies, move |_shard| Services::new(&services, &all))?;
    let names: Vec<String> =
        serve.services.iter().map(|service| format!("{}:{}", service.kind.name(), service.port)).collect();
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    say(&format!(
        "serving {} on {} at {}, mode {}",
        names.join(" "),
        serve.common.interface,
        addresses.join(","),
        session.mode()
    ));
    session.wait(None, || {});
    session.end(Duration::from_secs(serve.drain.into())).map(|_| ())
}
