//! `synfin-bench`: measures connections per second of synfin, of the kernel and of the wire itself.
//!
//! `bench/cps.sh` builds it and calls `synfin-bench cps`, which starts the other subcommands, the roles, in network namespaces.

mod cps;
mod failure;
mod kernel;
mod lines;
mod payload;
mod proc;
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
    Cps(Box<cps::CpsArgs>),
    /// The server of the kernel baseline (a role)
    KernelServer(RoleArgs),
    /// The client of the kernel baseline (a role)
    KernelClient(RoleArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::parse().what {
        What::Cps(args) => cps::run(&args),
        What::KernelServer(args) => role(kernel::server::run(&args)),
        What::KernelClient(args) => role(kernel::client::run(&args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synfin-bench: {failure}");
            ExitCode::from(failure.exit)
        }
    }
}

fn role(result: Result<Final, Failure>) -> Result<(), Failure> {
    tell(&Line::Final(Box::new(result?)));
    Ok(())
}
