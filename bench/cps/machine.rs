//! The machine that the figures belong to.

use serde::{Deserialize, Serialize};
use std::fs;

/// What is worth knowing about the machine.
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
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t: 143\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name", ':'), "Some CPU @ 2 GHz");
        assert_eq!(field("NAME=\"A\"\nPRETTY_NAME=\"Debian\"\n", "PRETTY_NAME", '='), "\"Debian\"");
        assert_eq!(field(text, "flags", ':'), "");
    }
}
