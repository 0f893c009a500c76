//! Compiles the BPF programs (`bpf/*.bpf.c`) with clang when the feature `xdp` is on, and makes the Rust list of its
//! verdicts from the one in `bpf/steer.h`.
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    if env::var_os("CARGO_FEATURE_XDP").is_none() {
        return ExitCode::SUCCESS;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let compiled = ["steer", "spread"].iter().try_for_each(|program| compile(program, &out));
    match compiled.and_then(|()| list_verdicts(&out.join("verdicts.rs"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn compile(program: &str, out: &Path) -> Result<(), String> {
    let source = format!("bpf/{program}.bpf.c");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf"])
        .args(system_headers(&clang).map(|path| format!("-I{}", path.display())))
        .args(["-c", &source, "-o"])
        .arg(out.join(format!("{program}.bpf.o")))
        .output()
        .map_err(|error| format!("cannot run {clang} for the BPF programs: {error}; {INSTALL}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{clang} cannot compile {source}; {INSTALL}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// Where `asm/types.h` is: Debian keeps it under the multiarch triplet, which the target `bpf` does not look into.
fn system_headers(clang: &str) -> Option<PathBuf> {
    let triplets = [(clang, "-print-multiarch"), ("gcc", "-print-multiarch"), (clang, "-print-target-triple")];
    let reported = triplets.iter().filter_map(|(compiler, option)| {
        let output = Command::new(compiler).arg(option).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().replace("-pc-", "-"))
    });
    let guessed = env::var("CARGO_CFG_TARGET_ARCH").map(|arch| format!("{arch}-linux-gnu"));
    let mut candidates = reported.chain(guessed).filter(|triplet| !triplet.is_empty());
    candidates.find_map(|triplet| {
        let path = Path::new("/usr/include").join(triplet);
        path.join("asm/types.h").exists().then_some(path)
    })
}

/// Reads the lines `V(name, "meaning")` and writes them as one `counters!` invocation.
fn list_verdicts(path: &Path) -> Result<(), String> {
    let header = fs::read_to_string("bpf/steer.h").map_err(|error| format!("cannot read bpf/steer.h: {error}"))?;
    let mut list = String::from("counters! {\n/// Frames by verdict of the XDP program.\nVerdicts {\n");
    let mut count = 0;
    for line in header.lines() {
        let Some(rest) = line.trim().strip_prefix("V(") else { continue };
        let (name, meaning) = rest.split_once(", \"").ok_or_else(|| format!("bpf/steer.h: not a verdict: {line}"))?;
        let (meaning, _) = meaning.rsplit_once("\")").ok_or_else(|| format!("bpf/steer.h: not a verdict: {line}"))?;
        write!(list, "/// {meaning}\n{name},\n").map_err(|error| error.to_string())?;
        count += 1;
    }
    list.push_str("}\n}\n");
    if count == 0 {
        return Err("bpf/steer.h lists no verdicts".into());
    }
    fs::write(path, list).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

const INSTALL: &str =
    "run scripts/setup.sh, or install clang (11 or newer) and the kernel headers (Debian: clang linux-libc-dev)";
