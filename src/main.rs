//! The `synfin` command.

fn main() -> std::process::ExitCode {
    synfin::cli::main()
}
