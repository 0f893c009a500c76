//! What ethtool(8) says of an interface: driver, queues, rings, offloads. Virtual devices may leave any of it unanswered.

use super::sys::ethtool;
use std::io;

/// Descriptors of a NIC's rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rings {
    /// Receive ring.
    pub rx: u32,
    /// The largest that it may be.
    pub rx_max: u32,
    /// Transmit ring.
    pub tx: u32,
    /// The largest that it may be.
    pub tx_max: u32,
}

/// What a driver does to frames before XDP sees them; `None` where it does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Joins segments in hardware (LRO).
    pub lro: Option<bool>,
    /// Joins segments in the kernel (GRO).
    pub gro: Option<bool>,
    /// Takes the VLAN tag out of received frames.
    pub rx_vlan: Option<bool>,
    /// Leaves the TCP checksums of what the kernel sends to hardware, which on virtual devices is not there.
    pub tx_checksum: Option<bool>,
    /// Leaves cutting large segments to hardware (TSO).
    pub tso: Option<bool>,
}

/// Ring sizes of the interface called `name`.
pub fn rings(name: &str) -> io::Result<Rings> {
    let mut answer = [0; WORDS];
    answer[0] = ETHTOOL_GRINGPARAM;
    ethtool(name, &mut answer)?;
    let [_, rx_max, _, _, tx_max, rx, _, _, tx, ..] = answer;
    Ok(Rings { rx, rx_max, tx, tx_max })
}

/// Offloads of the interface called `name`.
pub fn offloads(name: &str) -> Offloads {
    let ask = |command| {
        let mut answer = [command, 0];
        ethtool(name, &mut answer).ok().map(|()| answer[1])
    };
    let flags = ask(ETHTOOL_GFLAGS);
    let is_on = |command| ask(command).map(|on| on != 0);
    Offloads {
        lro: flags.map(|flags| flags & ETH_FLAG_LRO != 0),
        gro: is_on(ETHTOOL_GGRO),
        rx_vlan: flags.map(|flags| flags & ETH_FLAG_RXVLAN != 0),
        tx_checksum: is_on(ETHTOOL_GTXCSUM),
        tso: is_on(ETHTOOL_GTSO),
    }
}

pub(super) fn queues(name: &str) -> io::Result<u32> {
    let mut channels = [0; WORDS];
    channels[0] = ETHTOOL_GCHANNELS;
    ethtool(name, &mut channels)?;
    let [_, _, _, _, _, rx, _, _, combined, ..] = channels;
    match rx.saturating_add(combined) {
        0 => Err(io::ErrorKind::Unsupported.into()),
        count => Ok(count),
    }
}

pub(super) fn driver(name: &str) -> io::Result<String> {
    let mut info = [0; WORDS];
    info[0] = ETHTOOL_GDRVINFO;
    ethtool(name, &mut info)?;
    // The name is 32 bytes after the command word.
    let bytes = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|&byte| byte != 0);
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}

/// Commands of <linux/ethtool.h>, and room for what each writes (196 bytes at most), in words.
const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const WORDS: usize = 64;

/// Bits of ETHTOOL_GFLAGS.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_says_that_it_joins_segments_and_has_no_rings() {
        assert!(offloads("lo").gro.is_some());
        assert!(rings("lo").is_err());
        assert_eq!(offloads("nosuch0"), Offloads::default());
    }
}
