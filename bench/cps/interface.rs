//! The interfaces of a run: driver, rings, offloads, as ethtool tells them in their namespace.

use super::result::Interface;
use super::rounds::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire};
use std::process::Command;

/// Both interfaces of a wire that is up. What cannot be read is empty.
pub(crate) fn read(wire: &Wire, queues: u32) -> Vec<Interface> {
    let ends = [("client", &wire.client, CLIENT_INTERFACE), ("server", &wire.server, SERVER_INTERFACE)];
    let named = |place: usize, name: &str| wire.nics.get(place).cloned().unwrap_or_else(|| name.to_string());
    let of = |(place, (end, namespace, name)): (usize, (&str, &String, &str))| {
        let ethtool = |flag: &[&str]| in_namespace(namespace, &[&["ethtool"], flag, &[name]].concat());
        let mtu = in_namespace(namespace, &["cat", &format!("/sys/class/net/{name}/mtu")]);
        Interface {
            end: end.to_string(),
            name: named(place, name),
            driver: value(&ethtool(&["-i"]), "driver"),
            mtu: mtu.trim().parse().unwrap_or(0),
            queues,
            rings: rings(&ethtool(&["-g"])),
            offloads: offloads(&ethtool(&["-k"])),
        }
    };
    ends.into_iter().enumerate().map(of).collect()
}

fn in_namespace(namespace: &str, command: &[&str]) -> String {
    let output = Command::new("ip").args(["netns", "exec", namespace]).args(command).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn value(text: &str, name: &str) -> String {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_string()).next().unwrap_or_default()
}

/// RX and TX descriptors in force.
fn rings(text: &str) -> Option<(u32, u32)> {
    let (_, current) = text.split_once("Current hardware settings")?;
    Some((value(current, "RX").parse().ok()?, value(current, "TX").parse().ok()?))
}

/// Names of the features that are on.
fn offloads(text: &str) -> Vec<String> {
    let pairs = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let on = pairs.filter(|(_, state)| state.split_whitespace().next() == Some("on"));
    on.map(|(name, _)| name.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ethtool_says_is_understood() {
        assert_eq!(value("driver: veth\nversion: 1.0\n", "driver"), "veth");
        let shown = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t4096\nTX:\t4096\nCurrent hardware settings:\nRX:\t512\nTX:\t256\n";
        assert_eq!(rings(shown), Some((512, 256)));
        assert_eq!(rings("netlink error: Operation not supported\n"), None);
        let features = "Features for eth0:\nrx-checksumming: on\ntx-checksumming: off\n\tscatter-gather: on [fixed]\n";
        assert_eq!(offloads(features), ["rx-checksumming", "scatter-gather"]);
    }
}
