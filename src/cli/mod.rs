//! The `synfin` command: services and connections over AF_XDP.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 the environment is not ready. An error is one line:
//! the object, the errno if there is one, and what to do.

mod arguments;
mod connect;
mod control;
mod doctor;
mod interfaces;
mod network;
mod output;
mod proxy;
mod serve;
mod services;
mod session;

#[cfg(test)]
mod tests;

use crate::link::xdp::XdpError;
use crate::observe::capture::CaptureError;
use crate::stack::StackError;
use arguments::{Arguments, Command};
use clap::Parser;
use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed standard stream is nobody's concern here.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    let colored = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colored).with_target(false).compact().init();
    let result = match arguments.command {
        Command::Serve(serve) => serve::run(&serve).map_err(|failure| failure.naming(&OPTIONS)),
        Command::Connect(connect) => connect::run(&connect).map_err(|failure| failure.naming(&OPTIONS)),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Proxy(proxy) => proxy::run(&proxy),
        Command::Control(asked) => control::ask(&asked.path, &asked.request),
    };
    let lost = output::finish();
    if lost > 0 {
        eprintln!("{lost} lines of standard output were lost: nobody read them");
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synfin: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Why the command ends with an error.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

/// Exit codes other than 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Exit {
    Failed = 1,
    Usage = 2,
    Environment = 3,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        // One line, whatever a library's message holds.
        let message = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Failure { exit, message }
    }

    /// With what sets those of the `limits` of a shard that it names: whoever reads it knows these words.
    fn naming(mut self, limits: &[(&str, &str)]) -> Failure {
        for (limit, knob) in limits {
            if self.message.contains(&format!("limits.{limit}")) {
                self.message.push_str(&format!(" (limits.{limit} is {knob})"));
            }
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StackError> for Failure {
    fn from(error: StackError) -> Failure {
        let exit = match &error {
            StackError::Config(_)
            | StackError::Listen(_)
            | StackError::SharedCoreNeverIdle { .. }
            | StackError::Xdp(XdpError::Setting { .. }) => Exit::Usage,
            StackError::Panicked { .. } => Exit::Failed,
            _ => Exit::Environment,
        };
        Failure::new(exit, error)
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Failure {
        Failure::new(Exit::Environment, error)
    }
}

/// Which option of `serve` and `connect` sets a limit of a shard.
const OPTIONS: [(&str, &str); 1] = [("time_wait_max", "--time-wait-max, divided among the shards")];
