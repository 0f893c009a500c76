//! `synfin-bench`: measures connections per second of synfin, of the kernel and of the wire itself.
//!
//! `bench/cps.sh` builds it and calls `synfin-bench cps`, which starts the other subcommands, the roles, in network namespaces.

mod cps;
mod echo;
mod echo_role;
mod ends;
mod engine;
mod failure;
mod kernel;
mod lines;
mod payload;
mod proc;
mod risk;
mod role;

use clap::{Parser, Subcommand};
use failure::Failure;
use lines::{Final, Line, tell};
use role::RoleArgs;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "synfin-bench",
    version,
    about = "Connections per second: synfin, the kernel's TCP and the limit of the wire"
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
    /// The engine alone, in memory: lifecycles per second with TIME-WAIT entries resident, beside smoltcp
    Engine(engine::EngineArgs),
    /// What TIME-WAIT reuse risks: old duplicates aimed at new incarnations, by policy, in virtual time
    Risk(risk::RiskArgs),
    /// The server of the kernel baseline (a role)
    KernelServer(RoleArgs),
    /// The client of the kernel baseline (a role)
    KernelClient(RoleArgs),
    /// The server on synfin (a role)
    SynfinServer(RoleArgs),
    /// The client on synfin (a role)
    SynfinClient(RoleArgs),
    /// Sends frames back (a role)
    EchoReflector(RoleArgs),
    /// Sends frames and counts what comes back (a role)
    EchoGenerator(RoleArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::parse().what {
        What::Cps(args) => cps::run(&args),
        What::Engine(args) => engine::run(&args),
        What::Risk(args) => risk::run(&args),
        What::KernelServer(args) => role(kernel::server::run(&args)),
        What::KernelClient(args) => role(kernel::client::run(&args)),
        What::SynfinServer(args) => role(ends::run_server(&args)),
        What::SynfinClient(args) => role(ends::run_client(&args)),
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

/// Ends a role: its result, with what every role has.
fn role(result: Result<Final, Failure>) -> Result<(), Failure> {
    let mut result = result?;
    result.counters.insert(WAITED.into(), proc::waited_for_cpu_ms());
    tell(&Line::Final(Box::new(result)));
    Ok(())
}

/// The counter that says how long a role had to wait for its CPU, ms.
const WAITED: &str = "waited_for_cpu_ms";
