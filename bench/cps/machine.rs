//! The machine that the figures belong to.

use serde::{Deserialize, Serialize};
use std::fs;

/// What is worth knowing about the machine.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// CPU model.
    pub cpu: String,
    /// CPUs online.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub os: String,
    /// Memory, MB.
    pub memory_mb: u64,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// What the kernel does against each CPU vulnerability that touches this CPU.
    pub mitigations: Vec<String>,
}

impl Machine {
    /// Reads it; what cannot be read is empty.
    pub(crate) fn read() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let memory_kb =
            field(&meminfo, "MemTotal", ':').split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok());
        Machine {
            cpu: field(&cpuinfo, "model name", ':'),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string(),
            os: field(&release, "PRETTY_NAME", '=').trim_matches('"').to_string(),
            memory_mb: memory_kb.unwrap_or(0) / 1024,
            virtual_machine: field(&cpuinfo, "flags", ':').split_whitespace().any(|flag| flag == "hypervisor"),
            mitigations: mitigations(),
        }
    }
}

/// What the kernel keeps of a connection in TIME-WAIT, bytes: its slab object. The bucket of its port comes on top where nobody
/// else uses the port.
pub(crate) fn kernel_time_wait_bytes() -> Option<f64> {
    parse_slabs(&fs::read_to_string("/proc/slabinfo").ok()?)
}

/// The object size of `tw_sock_TCP`.
fn parse_slabs(text: &str) -> Option<f64> {
    let size = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        line.split_whitespace().nth(3)?.parse::<f64>().ok()
    };
    size("tw_sock_TCP")
}

/// The value of the first line `name SEPARATOR value`.
fn field(text: &str, name: &str, separator: char) -> String {
    let values = text.lines().filter_map(|line| line.split_once(separator));
    let value = values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_string()).next();
    value.unwrap_or_default()
}

fn mitigations() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            Some(format!("{}: {}", entry.file_name().to_string_lossy(), state.trim()))
        })
        .filter(|line| !line.ends_with("Not affected"))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_the_kernels_record_is_read() {
        let slabs = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\ntw_sock_TCPv6 0 0 300 1\ntw_sock_TCP 5 32 256 16 1\n";
        assert_eq!(parse_slabs(slabs), Some(256.0));
        assert_eq!(parse_slabs(""), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t: 143\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name", ':'), "Some CPU @ 2 GHz");
        assert_eq!(field("NAME=\"A\"\nPRETTY_NAME=\"Debian\"\n", "PRETTY_NAME", '='), "\"Debian\"");
        assert_eq!(field(text, "flags", ':'), "");
    }
}
