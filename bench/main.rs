//! `synfin-bench`: measures connections per second and bytes per second of synfin, of the kernel and of the wire itself.
//!
//! `bench/cps.sh` and `bench/bulk.sh` build it and call `synfin-bench cps` or `bulk`, which start the other subcommands, the
//! roles, in network namespaces.

mod bulk;
mod compare;
mod cps;
mod echo;
mod echo_role;
mod ends;
mod engine;
mod failure;
mod kernel;
mod lines;
mod meter;
mod output;
mod payload;
mod policy;
mod proc;
mod proxy;
mod report;
mod risk;
mod role;
#[cfg(test)]
mod script;
mod waited;

use clap::{Parser, Subcommand};
use failure::Failure;
use lines::{Final, Line, tell};
use role::RoleArgs;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "synfin-bench",
    version,
    about = "Connections and bytes per second: synfin, the kernel's TCP and the limit of the wire"
)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs everything and puts it side by side; see `bench/cps.sh --help`
    #[command(override_usage = "bench/cps.sh [OPTIONS]")]
    Cps(Box<cps::CpsArgs>),
    /// One stream of bytes, synfin and the kernel as either end; see `bench/bulk.sh --help`
    #[command(override_usage = "bench/bulk.sh [OPTIONS]")]
    Bulk(Box<bulk::BulkArgs>),
    /// An L4 proxy between clients and a backend, synfin's and HAProxy; see `bench/proxy.sh --help`
    #[command(override_usage = "bench/proxy.sh [OPTIONS]")]
    Proxy(Box<proxy::ProxyArgs>),
    /// The engine alone, in memory: lifecycles per second with TIME-WAIT entries resident, beside smoltcp
    Engine(engine::EngineArgs),
    /// What TIME-WAIT reuse risks: old duplicates aimed at new incarnations, by policy, in virtual time
    Risk(risk::RiskArgs),
    /// What TIME-WAIT reuse gains, predicted: tuples, ceiling, exhaustion; and a simulated collapse and recovery
    Predict(risk::predict::PredictArgs),
    /// A page, tables and conditions from a result in JSON
    Report(report::ReportArgs),
    /// Two results side by side, with what their rounds say about the difference
    Compare(compare::CompareArgs),
    /// The server of the kernel baseline (a role)
    KernelServer(RoleArgs),
    /// The client of the kernel baseline (a role)
    KernelClient(RoleArgs),
    /// The server on synfin (a role)
    SynfinServer(RoleArgs),
    /// The client on synfin (a role)
    SynfinClient(RoleArgs),
    /// The client on synfin whose wire aims old segments (a role)
    RigClient(ends::RigArgs),
    /// Sends a stream over the kernel's TCP (a role)
    KernelSender(RoleArgs),
    /// Receives a stream over the kernel's TCP (a role)
    KernelReceiver(RoleArgs),
    /// Sends a stream over synfin (a role)
    SynfinSender(RoleArgs),
    /// Receives a stream over synfin (a role)
    SynfinReceiver(RoleArgs),
    /// Clients and the backend of a proxy (a role)
    ProxyLoad(proxy::LoadArgs),
    /// Sends frames back (a role)
    EchoReflector(RoleArgs),
    /// Sends frames and counts what comes back (a role)
    EchoGenerator(RoleArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::parse().what {
        What::Cps(args) => cps::run(&args),
        What::Bulk(args) => bulk::run(&args),
        What::Proxy(args) => proxy::run(&args),
        What::Engine(args) => engine::run(&args),
        What::Risk(args) => risk::run(&args),
        What::Predict(args) => risk::predict::run(&args),
        What::Report(args) => report::run(&args),
        What::Compare(args) => compare::run(&args.before, &args.after),
        What::KernelServer(args) => role(kernel::server::run(&args)),
        What::KernelClient(args) => role(kernel::client::run(&args)),
        What::SynfinServer(args) => role(ends::run_server(&args)),
        What::SynfinClient(args) => role(ends::run_client(&args)),
        What::RigClient(args) => role(ends::run_rig(&args)),
        What::KernelSender(args) => role(bulk::kernel_sender(&args)),
        What::KernelReceiver(args) => role(bulk::kernel_receiver(&args)),
        What::SynfinSender(args) => role(bulk::synfin_sender(&args)),
        What::SynfinReceiver(args) => role(bulk::synfin_receiver(&args)),
        What::ProxyLoad(args) => role(proxy::load(&args)),
        What::EchoReflector(args) => role(echo_role::reflect(&args)),
        What::EchoGenerator(args) => role(echo_role::generate(&args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synfin-bench: {failure}");
            ExitCode::from(failure.exit)
        }
    }
}

/// Ends a role: its result, and how long it had to wait.
fn role(result: Result<Final, Failure>) -> Result<(), Failure> {
    let mut result = result?;
    result.counters.extend(waited::counters());
    tell(&Line::Final(Box::new(result)));
    Ok(())
}
