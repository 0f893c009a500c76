//! `synfin doctor`.

use super::arguments::Doctor;
use super::output::say;
use super::{Exit, Failure};
use crate::stack::StackError;
use crate::stack::doctor::{Diagnosis, Severity, examine};
use serde_json::{Value, json};

pub(super) fn run(doctor: &Doctor) -> Result<(), Failure> {
    let diagnosis = examine(&doctor.interface).map_err(StackError::from)?;
    if doctor.json {
        say(&as_json(&diagnosis).to_string());
    } else {
        for finding in diagnosis.findings() {
            let mend = finding.mend.map(|mend| format!("\n      -> {mend}")).unwrap_or_default();
            say(&format!("{:5} {:12} {}{mend}", finding.severity.name(), finding.what, finding.found));
        }
    }
    let stops: Vec<&str> = diagnosis
        .findings()
        .iter()
        .filter(|finding| finding.severity == Severity::Stops)
        .map(|finding| finding.what)
        .collect();
    if stops.is_empty() {
        return Ok(());
    }
    let message =
        format!("interface {}: synfin cannot run: {}; see what mends it above", doctor.interface, stops.join(", "));
    Err(Failure::new(Exit::Environment, message))
}

/// The diagnosis with `schema_version` 1; null where nothing is known.
fn as_json(diagnosis: &Diagnosis) -> Value {
    let Diagnosis { interface, offloads, .. } = diagnosis;
    let findings: Vec<Value> = diagnosis
        .findings()
        .into_iter()
        .map(|finding| {
            let (severity, mend) = (finding.severity.name(), finding.mend);
            json!({"what": finding.what, "severity": severity, "found": finding.found, "mend": mend})
        })
        .collect();
    json!({
        "schema_version": 1,
        "interface": interface.name,
        "driver": interface.driver,
        "mac": interface.mac.to_string(),
        "mtu": interface.mtu,
        "up": interface.up,
        "running": interface.running,
        "queues": interface.queues,
        "xdp_attached": interface.attached.map(|mode| mode.to_string()),
        "rings": diagnosis.rings.map(|rings| {
            json!({"rx": rings.rx, "rx_max": rings.rx_max, "tx": rings.tx, "tx_max": rings.tx_max})
        }),
        "rss_key": diagnosis.rss.as_ref().ok().map(|rss| hex(rss.key())),
        "rss_queues": diagnosis.rss.as_ref().ok().map(|rss| rss.queues()),
        "offloads": {
            "lro": offloads.lro,
            "gro": offloads.gro,
            "rx_vlan": offloads.rx_vlan,
            "tx_checksum": offloads.tx_checksum,
            "tso": offloads.tso,
        },
        "native_xdp": diagnosis.features.map(|features| features.native),
        "zero_copy": diagnosis.features.map(|features| features.zero_copy),
        "kernel": diagnosis.kernel,
        "capabilities": diagnosis.capabilities.map(|effective| format!("{effective:016x}")),
        "default_route": diagnosis.default_route,
        "memlock_bytes": diagnosis.memlock_bytes,
        "numa_node": diagnosis.numa_node,
        "stops": diagnosis.stops(),
        "findings": findings,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
